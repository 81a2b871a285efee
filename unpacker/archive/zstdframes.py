"""Walks over the structure of a zstd stream (RFC 8878, section 3.1) without decompressing it.

It is cheap, since a block of up to 128 KiB is one step, and it says what the decoders do not, or only in their own
words: that the stream ends within a frame (zstandard's reader takes that for a normal end), that a frame wants a larger
window than allowed, or a dictionary.  What lies inside the blocks is left to the decoder.
"""

from __future__ import annotations

from unpacker.errors import CorruptLayerError, LimitError
from unpacker.limits import DEFAULT, Limits

MAGIC = b"\x28\xb5\x2f\xfd"
SKIPPABLE = (0x184D2A50, 0x184D2A5F)

_MAGIC = int.from_bytes(MAGIC, "little")
_SKIPPABLE_TAIL = b"\x2a\x4d\x18"
_SKIPPABLE_HEADER = 8
_SHORTEST_HEADER = 6
_BLOCK_HEADER = 3
_RLE, _RESERVED = 1, 3
_CHECKSUM = 4


def is_skippable(head: bytes) -> bool:
    """Say whether a skippable frame begins so."""
    return SKIPPABLE[0] <= int.from_bytes(head[:4], "little") <= SKIPPABLE[1]


def _begins_frame(head: bytes) -> bool:
    """Say whether so few bytes (1 to 4) may be the beginning of a frame."""
    return MAGIC.startswith(head) or is_skippable(head + _SKIPPABLE_TAIL[len(head) - 1 :])


class FrameWalk:
    """Follows a stream piece by piece, from frame to frame and from block to block."""

    __slots__ = ("_ahead", "_checksum", "_in_frame", "_limits", "_rest")

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self._limits = limits
        self._rest = b""  # the beginning of a header whose end is in the next piece
        self._ahead = 0  # bytes of the next pieces that are no header
        self._in_frame = False
        self._checksum = 0  # size of the one at the end of the frame

    def feed(self, piece: bytes) -> None:
        """Go on over the next piece.

        Raises:
            CorruptLayerError: Something that is neither a frame nor a block, or a frame that needs a dictionary.
            LimitError: A frame whose window is larger than ``limits.zstd_window_log`` allows.
        """
        if self._rest:
            piece = self._rest + piece
            self._rest = b""
        at, size = self._ahead, len(piece)
        while at < size:
            step = self._block(piece, at) if self._in_frame else self._frame(piece, at)
            if not step:
                self._rest = piece[at:]
                break
            at += step
        self._ahead = max(at - size, 0)

    def finish(self) -> None:
        """Say that there are no more pieces.

        Raises:
            CorruptLayerError: The stream ended within a frame.
        """
        if self._in_frame or self._ahead or self._rest:
            raise CorruptLayerError("the zstd stream is cut off")

    def _block(self, piece: bytes, at: int) -> int:
        """Give the size of a block with its header; 0 if the header is not all there."""
        if at + _BLOCK_HEADER > len(piece):
            return 0
        header = piece[at] | piece[at + 1] << 8 | piece[at + 2] << 16
        kind = header >> 1 & 3
        if kind == _RESERVED:
            raise CorruptLayerError("damaged zstd stream: a block of a reserved type")
        size = _BLOCK_HEADER + (1 if kind == _RLE else header >> 3)
        if header & 1:
            self._in_frame = False
            size += self._checksum
        return size

    def _frame(self, piece: bytes, at: int) -> int:
        """Give the size of a frame's header, or of a whole skippable frame; 0 if the header is not all there."""
        magic = int.from_bytes(piece[at : at + 4], "little")
        here = len(piece) - at
        if magic != _MAGIC:
            if not _begins_frame(piece[at : at + 4]):
                raise CorruptLayerError("bytes behind the end of the zstd stream that are no zstd frame")
            if here < _SKIPPABLE_HEADER:
                return 0
            return _SKIPPABLE_HEADER + int.from_bytes(piece[at + 4 : at + 8], "little")
        if here < _SHORTEST_HEADER:
            return 0
        flags = piece[at + 4]
        fields = _FIELDS[flags]
        if here < fields.end:
            return 0
        self._check(piece, at, fields)
        self._in_frame = True
        self._checksum = _CHECKSUM if flags & 4 else 0
        return fields.end

    def _check(self, piece: bytes, at: int, fields: _Fields) -> None:
        dictionary = int.from_bytes(piece[at + fields.dictionary : at + fields.content], "little")
        if dictionary:
            raise CorruptLayerError(f"a zstd frame that needs dictionary {dictionary}, which no layer can bring along")
        if fields.single:
            window = int.from_bytes(piece[at + fields.content : at + fields.end], "little")
        else:
            exponent, mantissa = divmod(piece[at + 5], 8)
            window = (8 + mantissa) << (7 + exponent)
        if window > 1 << self._limits.zstd_window_log:
            raise LimitError(
                "zstd_window_log",
                self._limits.zstd_window_log,
                (window - 1).bit_length(),
                "base-2 logarithm of a zstd frame's window",
            )


class _Fields:
    """Where the fields of a frame header lie, which its fifth byte says."""

    __slots__ = ("content", "dictionary", "end", "single")

    def __init__(self, flags: int) -> None:
        self.single = bool(flags & 0x20)  # the content is the window
        self.dictionary = 5 if self.single else 6
        self.content = self.dictionary + (0, 1, 2, 4)[flags & 3]
        self.end = self.content + (1 if self.single else 0, 2, 4, 8)[flags >> 6]


_FIELDS = tuple(_Fields(flags) for flags in range(256))
