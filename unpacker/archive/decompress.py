"""Decompresses a layer's blob, as its first bytes say (layer.md: plain tar, gzip or zstd), within limits.

The media type is not asked: docker's ``tar.gzip`` around a plain tar is common, and the diff_id decides in the end.
The caller can compare it with `Decompressed.compression`, and say so where they differ.

Memory stays flat: no piece of output is larger than `CHUNK`, and input is read as it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unpacker.archive import gzipstream, zstdframes
from unpacker.archive.pieces import CHUNK, Pieces
from unpacker.errors import LimitError, UnsupportedError
from unpacker.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Compression = Literal["none", "gzip", "zstd"]

_FOREIGN = (
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"LZIP\x01", "lzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x9d", "compress"),
    # Files may be called BZh1, and a tar archive begins with a name: so the magic of the first block as well.
    *((b"BZh%d1AY&SY" % level, "bzip2") for level in range(1, 10)),
)
_HEAD = 10  # the longest of these

# Whoever takes the chunks pays for each of them, but joining costs a copy: from this size on, one is passed as it is.
_READY = CHUNK // 2


def sniff(head: bytes) -> Compression:
    """Say how a blob is compressed that begins with ``head`` (10 bytes suffice).

    Raises:
        UnsupportedError: In a way that no layer is.
    """
    if head.startswith(gzipstream.MAGIC):
        return "gzip"
    if head.startswith(zstdframes.MAGIC) or zstdframes.is_skippable(head):
        return "zstd"
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise UnsupportedError(subject="layer", kind="compression", found=name, supported=("gzip", "zstd", "none"))
    return "none"


def decompress(read: Callable[[], bytes], limits: Limits = DEFAULT) -> Decompressed:
    """Decompress a blob; its first piece is read at once, the others while the result is iterated over.

    Args:
        read: Gives the next piece of the blob, of any size, and ``b""`` at its end.  Its errors pass through.
        limits: How much may come out.

    Raises (while iterating, too):
        UnsupportedError: It is compressed in another way than layers are.
        CorruptLayerError: It is damaged, cut off, or followed by something else.
        LimitError: It expands to more than ``limits`` allows.
    """
    return Decompressed(read, limits)


class Decompressed:
    """The decompressed bytes of a blob, in chunks of at most `CHUNK`, none of them empty and few of them small.

    When it ends without an error, ``read`` has given its last: whatever it verifies is verified.

    Args:
        read, limits: See `decompress`.
        total: See `unpacker.layer.rules.Rules`.
    """

    def __init__(self, read: Callable[[], bytes], limits: Limits = DEFAULT, total: Callable[[int], int] = int) -> None:
        self._pieces = Pieces(read)
        self._pieces.look(_HEAD)
        self.compression: Compression = sniff(self._pieces.data[:_HEAD])
        self.size = 0
        """Bytes given so far."""
        self._limits = limits
        self._total = total
        self._chunks = coalesced(self._open())

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.size += len(chunk)
        if self.size > self._limits.layer_bytes:
            raise LimitError("layer_bytes", self._limits.layer_bytes, self.size, "decompressed bytes of a layer")
        total = self._total(self.size)
        if total > self._limits.image_bytes:
            raise LimitError("image_bytes", self._limits.image_bytes, total, "decompressed bytes of all layers")
        if self.size > self._limits.ratio_floor and self.size > self._limits.ratio * self._pieces.read:
            ratio = -(-self.size // self._pieces.read)
            raise LimitError("ratio", self._limits.ratio, ratio, "decompressed bytes for each compressed byte")
        return chunk

    def _open(self) -> Iterator[bytes]:
        if self.compression == "gzip":
            return gzipstream.gunzip(self._pieces)
        if self.compression == "zstd":
            from unpacker.archive import zstdstream  # noqa: PLC0415 -- nothing that only some layers need

            return zstdstream.unzstd(self._pieces, self._limits)
        return _plain(self._pieces)


def _plain(pieces: Pieces) -> Iterator[bytes]:
    while piece := pieces.take(CHUNK):
        yield bytes(piece)


def coalesced(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Join small chunks in a row, as they come from many small members, and leave large ones alone."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        if parts and size + len(chunk) > CHUNK:
            yield b"".join(parts)
            parts.clear()
            size = 0
        if not parts and len(chunk) >= _READY:
            yield chunk
            continue
        parts.append(chunk)
        size += len(chunk)
    if parts:
        yield b"".join(parts)
