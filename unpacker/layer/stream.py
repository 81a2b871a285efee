"""The bytes of one layer: read once, verified, decompressed, and hashed again, in a thread beside the caller's.

::

    reader thread   blob (`VerifiedBlob`) ─▶ decompress ─▶ the caller (tar entries, files)
    either of both        └──▶ digest            └──▶ diff_id

Decompression and hashing leave Python's interpreter lock, so they cost the caller hardly any time.  Both digests are
computed by whichever of the two threads has to wait for the other one: with a thread of their own for them, two cores
were idle a tenth of the time.  Queues are short and chunks small: memory stays flat whatever the layer's size.
"""

from __future__ import annotations

import errno
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from unpacker.archive.decompress import Decompressed
from unpacker.content.hashing import Hashing
from unpacker.errors import DiffIdMismatchError, UnpackError, name_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from unpacker.content.blob import VerifiedBlob
    from unpacker.limits import Limits
    from unpacker.resolve import Layer

_AHEAD = 32
"""Chunks that the reader may be ahead of the caller, and of the hashing."""


class LayerStream:
    """Iterates over the decompressed chunks of a layer; a context manager that ends its threads.

    Nothing of it may be believed until `finish` has returned: only then are the digest and the size of the blob, and
    the diff_id, known to be right, all three to the very end of the stream.

    Args:
        blob: The layer's blob, just opened; whoever opened it closes it, after this.
        layer: What it must be.
        limits: How much may come out.
        on_progress: Told of the bytes of the blob read so far, in the caller's thread.
        total: See `unpacker.layer.rules.Rules`.
    """

    def __init__(
        self,
        blob: VerifiedBlob,
        layer: Layer,
        limits: Limits,
        on_progress: Callable[[int], None] = lambda _: None,
        total: Callable[[int], int] = int,
    ) -> None:
        self._blob = blob
        self._layer = layer
        self._limits = limits
        self._on_progress = on_progress
        self._total = total
        blob.lazy = True
        self._hashing = Hashing(layer.diff_id)
        self._chunks: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self._stopped = False
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._is_blob = False  # whether the layer is the blob as it stands, whose digest is its diff_id
        self.compression: str = "none"
        self.size = 0
        """Decompressed bytes given so far."""

    def __enter__(self) -> Self:
        try:
            self._reader.start()
        except RuntimeError as error:  # Python's word for EAGAIN: too many processes or threads, or no memory for one
            self._stopped = True
            raise OSError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)}: {error}") from error
        except BaseException:  # a signal, when the thread has begun; nobody else would end it
            self._stopped = True
            self._room.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped = True
        self._room.release()
        if self._reader.ident is not None:
            self._reader.join()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        while self._chunks.empty() and (self._hashing.go_on() or self._blob.hashing.go_on()):
            pass
        chunk = self._chunks.get()
        if isinstance(chunk, bytes):
            self._room.release()
            self.size += len(chunk)
            self._on_progress(self._blob.done)
            return chunk
        self._ended = True
        if chunk is None:
            self._on_progress(self._blob.done)
            raise StopIteration
        raise chunk

    def finish(self) -> None:
        """Read what is left, and compare all that was read with what it should be.

        Bytes behind the archive's end marker count in both digests.

        Raises:
            SizeMismatchError, DigestMismatchError, DiffIdMismatchError: It is something else.
            CorruptLayerError, LimitError: It does not decompress.
        """
        for _ in self:
            pass
        self._reader.join()
        if self._is_blob:
            return
        actual = self._hashing.hexdigest()
        expected = self._layer.diff_id
        if actual != expected.encoded:
            raise DiffIdMismatchError(
                layer=str(self._layer.descriptor.digest),
                index=self._layer.index,
                expected=str(expected),
                actual=f"{expected.algorithm}:{actual}",
            )

    def blame(self, error: UnpackError) -> UnpackError:
        """Give the error that says most: that the blob has been damaged, if it has been, else ``error`` with its place.

        What a decompressor or a tar reader makes of damaged bytes leads nobody to the cause, so the rest of the blob is
        read to see whether its digest is right.
        """
        self.__exit__()
        self._blob.lazy = False
        try:
            self._blob.drain()
        except UnpackError as damage:
            damage.__cause__ = error
            return damage
        except OSError:
            pass  # what was wrong already is still the first thing to say
        name_layer(error, str(self._layer.descriptor.digest))
        return error

    # -- the thread --------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            chunks = Decompressed(self._piece, self._limits, self._total)
            self.compression = chunks.compression
            self._is_blob = chunks.compression == "none" and self._layer.diff_id == self._blob.digest
            for chunk in chunks:
                self._room.acquire()
                if self._stopped:
                    break
                if not self._is_blob:
                    self._hashing.add(chunk)
                self._chunks.put(chunk)
                self._hash(self._hashing)
            else:
                # Trailing bytes that a decompressor did not want are part of the blob all the same.
                while self._piece():
                    pass
                self._chunks.put(None)
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            self._chunks.put(error)

    def _piece(self) -> bytes:
        """Give the next piece of the blob, unless nobody waits for it any more.

        A blob that decompresses to nothing, of gigabytes of empty gzip members, gives no other occasion to stop.

        Raises:
            InterruptedError: The stream has been closed.
        """
        if self._stopped:
            raise InterruptedError
        self._hash(self._blob.hashing)
        return self._blob.read()

    @staticmethod
    def _hash(hashing: Hashing) -> None:
        """Hash what the caller has no time for."""
        while (waiting := len(hashing)) > _AHEAD // 2 and hashing.go_on(wait=waiting > _AHEAD):
            pass
