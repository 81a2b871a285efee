"""Sparse files in tar: the map of where a file's stored data belongs, in the four ways that GNU tar has written it.

Old GNU (typeflag ``S``, map in the header and blocks behind it), and pax 0.0 (repeated records), 0.1 (one record) and
1.0 (the map stands before the data).  Reading only the data would give a shorter, wrong file without any error, so a
map that is not understood is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from unpacker.archive.header import BLOCK, number
from unpacker.archive.pax import Records, decimal
from unpacker.errors import CorruptLayerError, LimitError

if TYPE_CHECKING:
    from unpacker.limits import Limits

Segments = list[tuple[int, int]]
Take = Callable[[int], bytes]
"""Takes exactly so many bytes from the archive."""

_OLD_HEADER_SLOTS, _OLD_BLOCK_SLOTS, _SLOT = 4, 21, 24
_DIGITS = 20


def old_gnu(block: bytes, take: Take, limits: Limits) -> tuple[Segments, int]:
    """Give the map of a typeflag ``S`` header, whose extension blocks it takes, and the file's real size.

    Raises:
        CorruptLayerError: Something in it is no number, or half of a pair.
        LimitError: More segments than allowed.
    """
    segments = _slots(block[386:482], _OLD_HEADER_SLOTS)
    extended = block[482]
    _bound(len(segments), limits)
    while extended:
        block_more = take(BLOCK)
        segments += _slots(block_more, _OLD_BLOCK_SLOTS)
        extended = block_more[504]
        _bound(len(segments), limits)
    return segments, number(block[483:495], "sparse size")


def _slots(table: bytes, count: int) -> Segments:
    found: Segments = []
    for start in range(0, count * _SLOT, _SLOT):
        if not table[start] and not table[start + 12]:
            break  # an empty slot ends the table
        if not (table[start] and table[start + 12]):
            raise CorruptLayerError("sparse map: an offset without its size")  # some readers end the table here
        found.append(
            (
                number(table[start : start + 12], "sparse offset"),
                number(table[start + 12 : start + _SLOT], "sparse size"),
            )
        )
    return found


def pax_0(records: Records, limits: Limits) -> Segments:
    """Give the map of pax format 0.0 (``GNU.sparse.offset``/``numbytes`` pairs) or 0.1 (``GNU.sparse.map``).

    Raises:
        CorruptLayerError: Something in it is no number, or half of a pair; or the number of pairs is another one.
        LimitError: More segments than allowed.
    """
    numbers: list[int] = []
    joined: list[int] | None = None
    count: int | None = None
    expect = b"GNU.sparse.offset"
    for key, value in records:
        if key == b"GNU.sparse.map":
            parts = value.split(b",") if value else []
            _bound(len(parts) // 2, limits)
            joined = [decimal(part, "GNU.sparse.map") for part in parts]
        elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if key != expect:
                raise CorruptLayerError("sparse map: an offset without its size")
            expect = b"GNU.sparse.numbytes" if expect == b"GNU.sparse.offset" else b"GNU.sparse.offset"
            numbers.append(decimal(value, key.decode()))
        elif key == b"GNU.sparse.numblocks":
            count = decimal(value, "GNU.sparse.numblocks")
    if joined is not None and numbers:
        raise CorruptLayerError("sparse map: in two formats at once")
    segments = _pairs(joined or numbers)
    _bound(len(segments), limits)
    if count not in (None, len(segments)):
        raise CorruptLayerError(f"sparse map: {len(segments)} segments, and GNU.sparse.numblocks says {count}")
    return segments


def pax_1(take: Take, stored: int, limits: Limits) -> tuple[Segments, int]:
    """Give the map of pax format 1.0, decimal lines that stand before the data in whole blocks, and their bytes.

    ``stored`` is how much the entry has in all; the map may not take more.

    Raises:
        CorruptLayerError: Something in it is no number, or it has no end.
        LimitError: More segments than allowed.
    """
    taken = 0
    rest = b""
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        line, newline, after = rest.partition(b"\n")
        if newline:
            rest = after
            numbers.append(decimal(line, "sparse map"))
            if len(numbers) == 1:
                _bound(numbers[0], limits)
                wanted = 1 + 2 * numbers[0]
            continue
        if len(rest) > _DIGITS or taken + BLOCK > stored:
            raise CorruptLayerError("sparse map without an end")
        rest += take(BLOCK)
        taken += BLOCK
    return _pairs(numbers[1:]), taken


def _pairs(numbers: list[int]) -> Segments:
    if len(numbers) % 2:
        raise CorruptLayerError("sparse map: an offset without its size")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _bound(count: int, limits: Limits) -> None:
    if count > limits.sparse_segments:
        raise LimitError("sparse_segments", limits.sparse_segments, count, "segments of a sparse file")


def checked(segments: Segments, size: int, stored: int) -> Segments:
    """Give the segments that hold data, when the map is sound.

    Raises:
        CorruptLayerError: Segments that overlap, run backwards or past the end, or more or less data than is stored.
    """
    end = 0
    for offset, length in segments:
        if offset < end or length < 0 or offset + length > size:
            raise CorruptLayerError(f"sparse map: segment at {offset} of {length} bytes in a file of {size}")
        end = offset + length
    if sum(length for _, length in segments) != stored:
        raise CorruptLayerError(f"sparse map: describes other than the {stored} bytes that are stored")
    return [segment for segment in segments if segment[1]]
