"""Reads gzip (RFC 1952): members in a row, each with a checksum, perhaps zeros behind the last.

Through isal where it is installed (twice as fast), else zlib; both give the same bytes and refuse the same.  Headers
are read here and never reach either of them: ISA-L takes some valid headers for damage when they come in two pieces
(intel/isa-l#224), and does not refuse reserved flags, as RFC 1952 demands.

Many members are the normal case for eStargz, one a file; what is not normal is a million empty ones in a row.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple, cast

from unpacker.archive.pieces import Pieces, member
from unpacker.errors import CorruptLayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.archive.pieces import Decompressor

MAGIC = b"\x1f\x8b\x08"  # with the only method there is, deflate

_FIXED_HEADER = 10
_PLAIN = MAGIC + b"\0"
# 64 KiB of extra field are legal; the name and the comment have no length of their own.
_HEADER_MOST = 128 << 10

_FHCRC, _FEXTRA, _FNAME, _FCOMMENT, _RESERVED = 2, 4, 8, 16, 0xE0


class Backend(NamedTuple):
    """A library for what lies behind a header."""

    start: Callable[[], Decompressor]
    """Make what reads one member from behind its header, its checksum and length included."""
    error: type[Exception]
    """What it raises; isal's is no subclass of zlib's."""


def isal_backend() -> Backend:
    """Give ISA-L.

    Raises:
        ImportError: It is not installed.
    """
    from isal.igzip_lib import DECOMP_GZIP_NO_HDR_VER, IgzipDecompressor, IsalError  # noqa: PLC0415

    return Backend(lambda: IgzipDecompressor(DECOMP_GZIP_NO_HDR_VER), cast("type[Exception]", IsalError))


def zlib_backend() -> Backend:
    """Give zlib, which is always there."""
    return Backend(_ZlibMember, zlib.error)


def _backend() -> Backend:
    try:
        return isal_backend()
    except ImportError:
        return zlib_backend()


class _ZlibMember:
    """Reads one member with zlib, which wants a header: it gets the plainest one."""

    __slots__ = ("_inflate", "_left")

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._inflate.decompress(_PLAIN.ljust(_FIXED_HEADER, b"\0"))
        self._left = b""

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._left

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Go on with what was left, or else with ``data``."""
        out = self._inflate.decompress(self._left or data, max_length)
        self._left = self._inflate.unconsumed_tail
        return out


def gunzip(pieces: Pieces, backend: Backend | None = None) -> Iterator[bytes]:
    """Yield what the members hold, to the end of the blob.

    Raises:
        CorruptLayerError: Damage, a cut-off end, or anything but zeros behind the last member.
    """
    start, damage = backend or _backend()
    try:
        while _skip_header(pieces):
            data, begin = pieces.data, pieces.at
            empty = True
            for out in member(pieces, start(), "gzip"):
                empty = False
                yield out
            if empty and pieces.data is data:
                _skip_repeated(pieces, data[begin : pieces.at])
    except damage as error:
        raise CorruptLayerError(f"damaged gzip stream: {error}") from error


def _skip_repeated(pieces: Pieces, body: bytes) -> None:
    """Skip empty members that are byte for byte like the last one, a hundred times as fast as reading them."""
    twin = _PLAIN + pieces.data[pieces.at + len(_PLAIN) : pieces.at + _FIXED_HEADER] + body
    data, at, size = pieces.data, pieces.at, len(twin)
    while data.startswith(twin, at):
        at += size
    pieces.at = at


def _skip_header(pieces: Pieces) -> bool:
    """Skip the next member's header; False at the end of the stream."""
    here = pieces.look(_FIXED_HEADER)
    if here == 0 or pieces.data[pieces.at] == 0:
        _expect_zeros(pieces)
        return False
    if not MAGIC.startswith(pieces.data[pieces.at : pieces.at + len(MAGIC)]):
        raise CorruptLayerError("bytes behind the end of the gzip stream that are no gzip member")
    while (size := header_size(pieces.data, pieces.at)) is None:
        here = len(pieces.data) - pieces.at
        if here > _HEADER_MOST or pieces.look(here + 1) == here:
            break
    if size is None and here <= _HEADER_MOST:
        raise CorruptLayerError("the gzip stream is cut off")
    if size is None or size > _HEADER_MOST:
        raise CorruptLayerError(f"a gzip header of more than {_HEADER_MOST} bytes")
    pieces.at += size
    return True


def _expect_zeros(pieces: Pieces) -> None:
    while rest := pieces.next():
        if rest.count(0) != len(rest):
            raise CorruptLayerError("bytes behind the end of the gzip stream that are not zero")


def header_size(data: bytes, at: int = 0) -> int | None:
    """Give the size of the member header at ``at``; None if ``data`` does not hold all of it.

    Raises:
        CorruptLayerError: Reserved flags are set, or the header's own checksum is wrong.
    """
    position = at + _FIXED_HEADER
    if position > len(data):
        return None
    flags = data[at + 3]
    if not flags:
        return _FIXED_HEADER
    if flags & _RESERVED:
        raise CorruptLayerError(f"gzip header with reserved flags (0x{flags:02x})")
    if flags & _FEXTRA:
        position += 2 + int.from_bytes(data[position : position + 2], "little")
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            end = data.find(0, position)
            if end < 0:
                return None
            position = end + 1
    if flags & _FHCRC:
        stored = data[position : position + 2]
        position += 2
        if position <= len(data) and int.from_bytes(stored, "little") != zlib.crc32(data[at : position - 2]) & 0xFFFF:
            raise CorruptLayerError("gzip header with a wrong checksum")
    return position - at if position <= len(data) else None
