"""Writes one ingest on disk, and makes it a blob."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.content.files import directory, read_text, replace
from unpacker.content.store import CHUNK, Status
from unpacker.errors import AlreadyExistsError, DigestMismatchError, SizeMismatchError, UsageError, quoted
from unpacker.spec.digest import Digest, InvalidDigestError
from unpacker.spec.labels import check
from unpacker.tree.clone import copy_range, reflink
from unpacker.tree.rights import regain_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from unpacker.content.store import Info, OnProgress, Reader
    from unpacker.tree.lock import Lock

    Finish = Callable[[int, str, Digest, Mapping[str, str]], Info]

_STEP = 8 << 20
"""Bytes that the kernel copies before they are hashed, while they are still in its cache."""
_DATA = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIGITS = 19


class IngestWriter:
    """One ingest, see `unpacker.content.store.Writer`.

    Args:
        root: The layout.
        ref: The reference.
        here: The ingest's directory, which is closed with the writer.
        lock: Its lock, which is held until then.
        finish: Called when the blob is in its place, with the directory, the reference, the digest and the labels:
            removes what is left of the ingest, sets the labels, and gives what is known of the blob.
        size, digest: What the ingest is to become, if that is known.
    """

    def __init__(
        self,
        root: str,
        ref: str,
        here: int,
        lock: Lock,
        finish: Finish,
        *,
        size: int | None,
        digest: Digest | None,
    ) -> None:
        self._root = root
        self._ref = ref
        self._here = here
        self._lock = lock
        self._finish = finish
        fresh = self._announce(None if size is None else str(size), None if digest is None else str(digest))
        self._total = read_number(here)
        self._expected = read_digest(here)
        self._algorithm = "sha256" if self._expected is None else self._expected.algorithm
        self._hasher = Digest(self._algorithm, "").hasher()
        self._offset = 0
        self._fd = self._open_data()
        self._open = True
        try:
            there = os.fstat(self._fd).st_size
            if fresh or (self._total is not None and there > self._total):
                os.ftruncate(self._fd, 0)
            else:
                self._take_in(there, None)
        except BaseException:
            os.close(self._fd)
            raise

    def _announce(self, total: str | None, expected: str | None) -> bool:
        """Write down what this ingest is to become; whether it has to start over, or starts.

        None of it needs to outlive a power cut: what cannot be read was not announced, or begins anew.
        """
        known = read_text(self._here, "ref") == self._ref
        fresh = not known
        for name, new in (("total", total), ("expected", expected)):
            old = read_text(self._here, name) if known else None
            fresh = fresh or (old is not None and new is not None and old != new)
            if new is not None and new != old:
                replace(self._here, name, new.encode(), sync=False)
            elif new is None and not known:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._here)
        if not known:
            replace(self._here, "ref", self._ref.encode(), sync=False)
        return fresh

    def _open_data(self) -> int:
        """Open the data; what is no file of its own is removed, since writing to it would change something else."""
        with suppress(FileNotFoundError):
            found = os.stat("data", dir_fd=self._here, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                os.unlink("data", dir_fd=self._here)
        descriptor = os.open("data", _DATA, 0o644, dir_fd=self._here)
        regain_file(descriptor)
        return descriptor

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append bytes, see `unpacker.content.store.Writer.write`."""
        self._require_open()
        with memoryview(data).cast("B") as view:
            done = 0
            try:
                while done < len(view):
                    with view[done:] as rest:
                        written = os.pwrite(self._fd, rest, self._offset)
                    with view[done : done + written] as part:
                        self._hasher.update(part)
                    self._offset += written
                    done += written
            except OSError as error:
                error.add_note(f"writing ingest {quoted(self._ref)}")
                raise
            return done

    def write_from(self, reader: Reader, on_progress: OnProgress | None = None) -> None:
        """Append the rest of a reader: by reflink, else copied by the kernel, else read; and hash what is here then."""
        self._require_open()
        source = _descriptor_of(reader)
        if source is None:
            reader.seek(self._offset)
            while chunk := reader.read(CHUNK):
                self.write(chunk)
                _tell(on_progress, self._offset)
            return
        try:
            if self._offset == 0 and reader.size and reflink(source, self._fd):
                self._take_in(os.fstat(self._fd).st_size, on_progress)
            else:
                self._copy(source, reader.size, on_progress)
        except OSError as error:
            error.add_note(f"writing ingest {quoted(self._ref)}")
            raise

    def _copy(self, source: int, size: int, on_progress: OnProgress | None) -> None:
        while self._offset < size:
            end = min(self._offset + _STEP, size)
            self._take_in(copy_range(source, self._fd, self._offset, end), on_progress)
            if self._offset < end:
                return  # The source has become shorter, which the size will tell.

    def _take_in(self, end: int, on_progress: OnProgress | None) -> None:
        """Hash what is in the file already, up to here: what was verified is what is stored."""
        while self._offset < end and (chunk := os.pread(self._fd, min(CHUNK, end - self._offset), self._offset)):
            self._hasher.update(chunk)
            self._offset += len(chunk)
            _tell(on_progress, self._offset)

    def truncate(self, size: int = 0, /) -> None:
        """Start over."""
        self._require_open()
        if size:
            raise UsageError(f"an ingest is truncated to 0, not to {size}")
        os.ftruncate(self._fd, 0)
        self._offset = 0
        self._hasher = Digest(self._algorithm, "").hasher()

    # -- what is known -------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Give how far it is."""
        self._require_open()
        return Status(
            ref=self._ref,
            offset=self._offset,
            total=self._total,
            expected=self._expected,
            started=os.stat("ref", dir_fd=self._here).st_mtime_ns,
            updated=os.fstat(self._fd).st_mtime_ns,
        )

    def digest(self) -> Digest:
        """Give the digest of what was written; after `commit`, of the blob."""
        return Digest(self._algorithm, self._hasher.hexdigest())

    # -- the end -------------------------------------------------------------------------------------------------------

    def commit(
        self, size: int | None = None, digest: Digest | None = None, labels: Mapping[str, str] | None = None
    ) -> Info:
        """Verify what was written, and make it a blob; see `unpacker.content.store.Writer.commit`."""
        self._require_open()
        labels = labels or {}
        check(labels)
        if digest is not None:
            digest.require_supported()
        try:
            actual = self._verify(size, digest or self._expected)
            exists = self._publish(actual)
            info = self._finish(self._here, self._ref, actual, {} if exists else labels)
        except OSError as error:
            error.add_note(f"committing ingest {quoted(self._ref)}")
            raise
        finally:
            self.close()
        if exists:
            raise AlreadyExistsError(where=self._root, what=f"blob {actual}")
        return info

    def _verify(self, size: int | None, expected: Digest | None) -> Digest:
        size = self._total if size is None else size
        if size is not None and size != self._offset:
            digest = str(expected or self.digest())
            raise SizeMismatchError(digest=digest, expected=size, actual=self._offset)
        if expected is not None and expected.algorithm != self._algorithm:
            self._algorithm, self._hasher = expected.algorithm, expected.hasher()
            end, self._offset = self._offset, 0
            self._take_in(end, None)
        actual = self.digest()
        if expected is not None and expected != actual:
            raise DigestMismatchError(expected=str(expected), actual=str(actual))
        return actual

    def _publish(self, digest: Digest) -> bool:
        """Bring the data to the disk, and give it its place; whether it was there already."""
        algorithm, encoded = digest.path_parts
        with (
            directory(self._root) as root,
            directory("blobs", root, make=True) as blobs,
            directory(algorithm, blobs, make=True) as place,
        ):
            if _is_blob(place, encoded, self._offset):
                return True
            if os.fstat(self._fd).st_size != self._offset:
                os.ftruncate(self._fd, self._offset)  # A copy that failed has left more than was hashed.
            os.utime(self._fd)
            os.fsync(self._fd)
            os.rename("data", encoded, src_dir_fd=self._here, dst_dir_fd=place)
            os.fsync(place)
        # Only now: while it was an ingest, somebody might have had to go on writing to it.
        os.fchmod(self._fd, 0o444)
        return False

    def close(self) -> None:
        """Let go of the ingest."""
        if self._open:
            self._open = False
            os.close(self._fd)
            self._lock.release()
            os.close(self._here)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError(f"the writer of ingest {quoted(self._ref)} is closed")


def read_number(here: int) -> int | None:
    """Read how many bytes an ingest was announced to have."""
    text = read_text(here, "total")
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def read_digest(here: int) -> Digest | None:
    """Read the digest that an ingest was announced to have."""
    text = read_text(here, "expected")
    try:
        found = None if text is None else Digest.parse(text)
    except InvalidDigestError:
        return None
    return found if found is not None and found.supported else None


def _is_blob(place: int, name: str, size: int) -> bool:
    """Whether there is a blob that can be what its name says: whatever else is there is replaced."""
    try:
        found = os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def _descriptor_of(reader: Reader) -> int | None:
    """Give the file behind a reader, if there is one."""
    try:
        fd = reader.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None
    return fd if isinstance(fd, int) else None


def _tell(on_progress: OnProgress | None, done: int) -> None:
    if on_progress is not None:
        on_progress(done)
