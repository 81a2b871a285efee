"""Sparse files: maps of all four formats, right ones and wrong ones, through the tar reader.

Whether a map is right is decided here a second time; right ones must be read as they were meant, wrong ones refused.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.choices import Choices
from fuzz.target import Target
from tests.support.tarbuild import encode, file, header, octal, padded, pax_header
from unpacker.archive.reader import TarReader
from unpacker.errors import UnpackError
from unpacker.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = Limits(sparse_segments=40)
_NUMBERS = (0, 0, 1, 2, 511, 512, 513, 1024, 4096, 8**11 - 1)
_FAR = 2**63
_FORMS = ("old", "0.0", "0.1", "1.0")

Map = list[tuple[int, int]]


def check(data: bytes) -> None:
    """Make one sparse file, with another file behind it, and read both."""
    choices = Choices(data)
    form = choices.pick(_FORMS)
    segments, size, stored = _map(choices)
    counted = max(len(segments) + choices.pick((0, 0, 0, 0, 0, 1, -1)), 0)
    if form == "1.0":
        counted = max(counted, len(segments))  # lines that are not counted look like padding
    archive = _ARCHIVES[form](segments, size, stored, counted) + encode(file("next", b"2"))
    right = (
        all(one[0] + one[1] <= two[0] for one, two in pairwise(segments))
        and all(offset + length <= size for offset, length in segments)
        and sum(length for _, length in segments) == len(stored)
        and len(segments) <= LIMITS.sparse_segments
        and (counted == len(segments) or form == "old")
        and size < _FAR
    )
    try:
        found = [(entry, b"".join(map(bytes, reader.data()))) for reader in [_reader(archive)] for entry in reader]
    except UnpackError as error:
        check_refusal(error)
        assert not right, f"a right map of {segments} in a file of {size} is refused: {error}"
        return
    assert right, f"a wrong map of {segments} in a file of {size}, {len(stored)} bytes stored"
    (entry, read), (last, two) = found
    assert (entry.name, entry.size, read) == (b"file", size, stored)
    assert entry.segments == [one for one in segments if one[1]]
    assert (last.name, two) == (b"next", b"2")


def _reader(archive: bytes) -> TarReader:
    return TarReader(iter([archive[:700], archive[700:]]), LIMITS)


def _map(choices: Choices) -> tuple[Map, int, bytes]:
    """Give a map, the size of the whole file, and its data: mostly of one piece, sometimes not."""
    segments: Map = []
    end = 0
    for _ in range(choices.below(50)):
        begin = end + choices.pick(_NUMBERS) if not choices.once_in(16) else choices.pick(_NUMBERS)
        length = choices.below(700)
        segments.append((begin, length))
        end = begin + length
    size = end + choices.pick(_NUMBERS)
    if choices.once_in(16):
        size = choices.pick((0, 1, end - 1, end - 700, _FAR - 1, _FAR))
    stored = sum(length for _, length in segments) + choices.pick((0, 0, 0, 0, 0, 0, 1, 512))
    return segments, max(size, 0), bytes(at % 251 for at in range(stored))


def _old(segments: Map, size: int, stored: bytes, _counted: int) -> bytes:
    # A number that octal digits cannot hold is base-256, in the map as in the header.
    slots = [_field(offset) + _field(length) for offset, length in segments]
    here, rest = slots[:4], slots[4:]
    extensions = b""
    for start in range(0, len(rest), 21):
        more = start + 21 < len(rest)
        extensions += b"".join(rest[start : start + 21]).ljust(504, b"\0") + bytes([more]).ljust(8, b"\0")
    made = header(
        name=b"file",
        mode=0o644,
        size=len(stored),
        typeflag=b"S",
        magic=b"ustar ",
        version=b" \0",
        sparse=b"".join(here),
        isextended=bytes([bool(rest)]),
        realsize=_field(size),
    )
    return made + extensions + padded(stored)


def _field(number: int) -> bytes:
    return octal(number, 12) if number < 8**11 else b"\x80" + number.to_bytes(11, "big")


def _pax(records: list[tuple[bytes, bytes]], name: bytes, data: bytes) -> bytes:
    return pax_header(records) + encode(file(name, data), "ustar")


def _pax_00(segments: Map, size: int, stored: bytes, counted: int) -> bytes:
    records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % counted)]
    for offset, length in segments:
        records += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length)]
    return _pax(records, b"file", stored)


def _pax_01(segments: Map, size: int, stored: bytes, counted: int) -> bytes:
    joined = b",".join(b"%d,%d" % one for one in segments)
    records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % counted)]
    records += [(b"GNU.sparse.name", b"file"), (b"GNU.sparse.map", joined)]
    return _pax(records, b"GNUSparseFile.0/file", stored)


def _pax_10(segments: Map, size: int, stored: bytes, counted: int) -> bytes:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"file")]
    records.append((b"GNU.sparse.realsize", b"%d" % size))
    lines = b"%d\n" % counted + b"".join(b"%d\n%d\n" % one for one in segments)
    return _pax(records, b"GNUSparseFile.0/file", padded(lines) + stored)


_ARCHIVES = {"old": _old, "0.0": _pax_00, "0.1": _pax_01, "1.0": _pax_10}


def seeds() -> Iterator[bytes]:
    """Give decisions at random, the same ones each time."""
    chance = Random(1)
    for form in range(len(_FORMS)):
        for length in (4, 12, 40, 200):
            yield bytes([form, chance.randrange(length)]) + chance.randbytes(length)


TARGET = Target(check=check, seeds=seeds, longest=300)
