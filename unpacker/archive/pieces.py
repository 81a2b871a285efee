"""The blob as it comes in: raw pieces of any size, looked at, taken in slices, and given back.

What the decompressors of this package share.  A gzip stream is a row of members and a zstd stream a row of frames, and
where one ends only its decompressor finds out, after it has been given more than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from unpacker.errors import CorruptLayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 512 << 10
"""Bytes of output at most in one piece: decompressors are asked for no more, so a bomb cannot fill the memory.

With pieces twice as large, which no processor's own cache holds, an unpack took 4 % longer.
"""

# A decompressor copies what it is given beyond the end of its member.  Members of eStargz and zstd:chunked are a few
# kilobytes, so each of them starts with a small slice; one that goes on soon gets whole pieces, which cost no copy.
_FIRST_SLICE = 16 << 10
_GROWTH = 4


class Decompressor(Protocol):
    """What reads one gzip member or zstd frame; the standard library's interface since bz2 (`bz2.BZ2Decompressor`)."""

    @property
    def eof(self) -> bool:
        """Whether the end of the member was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether it can go on only with more input."""

    @property
    def unused_data(self) -> bytes:
        """What it was given beyond the end."""

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Take all of ``data`` and give at most ``max_length`` bytes."""


class Pieces:
    """The unread rest of a blob.

    Attributes:
        data: The piece at hand; ``data[at:]`` is what is still to be taken of it.
        at: Where in ``data``.
        read: Bytes of the blob read so far.
    """

    __slots__ = ("_ended", "_read", "at", "data", "read")

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._ended = False
        self.data = b""
        self.at = 0
        self.read = 0

    def next(self) -> bytes:
        """Give what is at hand, or else the next piece, whole; empty at the end of the blob."""
        data = self.data[self.at :] if self.at < len(self.data) else self._more()
        self.data, self.at = b"", 0
        return data

    def take(self, most: int) -> bytes | memoryview:
        """Give at most so many bytes, without a copy; empty at the end of the blob."""
        start = self.at
        if start == len(self.data):
            self.data, start = self._more(), 0
        self.at = min(start + most, len(self.data))
        if start == 0 and self.at == len(self.data):
            return self.data
        return memoryview(self.data)[start : self.at]

    def give_back(self, unused: bytes) -> None:
        """Put bytes that were just taken in front again."""
        if len(unused) <= self.at:
            self.at -= len(unused)
        else:  # they began in a piece that is gone
            self.data = unused + self.data[self.at :]
            self.at = 0

    def look(self, size: int) -> int:
        """Have at least ``size`` bytes at hand if the blob has them, and say how many there are."""
        while (here := len(self.data) - self.at) < size:
            more = self._more()
            if not more:
                break
            self.data = self.data[self.at :] + more
            self.at = 0
        return here

    def _more(self) -> bytes:
        if self._ended:
            return b""
        piece = self._read()
        self._ended = not piece
        self.read += len(piece)
        return piece


def member(pieces: Pieces, decompressor: Decompressor, name: str) -> Iterator[bytes]:
    """Yield what one member or frame holds, and leave ``pieces`` right behind it.

    Raises:
        CorruptLayerError: The blob ends before the member does.
    """
    most = _FIRST_SLICE
    while not decompressor.eof:
        hungry = decompressor.needs_input
        data: bytes | memoryview = b""
        if hungry:
            data = pieces.take(most)
            most *= _GROWTH
        out = decompressor.decompress(data, CHUNK)
        if out:
            yield out
        elif hungry and not data and not decompressor.eof:
            # Only now: it may have had output left when its input had come to an end.
            raise CorruptLayerError(f"the {name} stream is cut off")
    pieces.give_back(decompressor.unused_data)
