"""The tar reader: any bytes as an archive.

However the archive is cut into pieces, and whether data is read or skipped, the same entries come out of it, and the
same error.  What comes out is within its limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.mutators import tar_archive
from fuzz.target import Target
from tests.support.tarbuild import (
    SECOND,
    char,
    directory,
    fifo,
    file,
    global_header,
    gnu_long,
    hardlink,
    layer,
    sparse_old,
    sparse_pax,
    symlink,
    whiteout,
)
from unpacker.archive.reader import TarReader
from unpacker.errors import CorruptLayerError, InLayerError, LimitError, UnpackError, UnsafeEntryError
from unpacker.limits import Limits
from unpacker.spec.entry import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpacker.spec.entry import Entry

LIMITS = Limits(entries=12, header_bytes=4096, xattr_bytes=256, sparse_segments=60)
_SIZES = (1 << 20, 512, 700, 13)
_ALLOWED = (CorruptLayerError, UnsafeEntryError, LimitError)


def check(data: bytes) -> None:
    """Read an archive in several ways."""
    first = _read(data, _SIZES[0], whole=True)
    for size in _SIZES[1:] if len(data) < 4096 else _SIZES[1:3]:
        assert _read(data, size) == first, f"other entries from pieces of {size} bytes"
    skimmed = _read(data, _SIZES[1], skip=True)
    # Where the data of the last one is cut off, that is told in other words, and at another place.
    assert skimmed[:-1] == [one for one in first[:-1] if one[0] != "data"], "other ones without data"
    assert skimmed[-1][0] == first[-1][0]


def _read(data: bytes, size: int, *, whole: bool = False, skip: bool = False) -> list[tuple[object, ...]]:
    """Give all entries as values, with their data behind each, and in the end how it ended."""
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    reader = TarReader(pieces, LIMITS)
    found: list[tuple[object, ...]] = []
    before = -1
    try:
        for entry in reader:
            _check_entry(entry, before)
            before = entry.offset
            found.append(tuple(getattr(entry, name) for name in type(entry).__slots__))
            if not skip:
                found.append(("data", _data(reader, entry, whole=whole)))
    except UnpackError as error:
        assert isinstance(error, _ALLOWED), error
        assert isinstance(error, InLayerError)
        assert error.offset is not None, "an error without its place"
        assert 0 <= error.offset <= len(data), "an error behind the end"
        check_refusal(error)
        return [*found, ("refused", str(error))]
    assert reader.count <= LIMITS.entries
    assert reader.offset <= len(data)
    return [*found, ("end", reader.marked_end)]


def _data(reader: TarReader, entry: Entry, *, whole: bool) -> bytes:
    together = reader.whole() if whole else None
    stored = bytes(together) if together is not None else b"".join(map(bytes, reader.data()))
    assert len(stored) == entry.stored, f"{len(stored)} bytes of {entry.stored}"
    return stored


def _check_entry(entry: Entry, before: int) -> None:
    assert entry.offset > before, "an entry before the one before"
    assert entry.offset % 512 == 0
    assert entry.name
    assert b"\0" not in entry.name + entry.link
    assert 0 <= entry.mode <= 0o7777
    assert 0 <= entry.uid < 2**32 - 1
    assert 0 <= entry.gid < 2**32 - 1
    assert 0 <= entry.stored < 2**63
    assert 0 <= entry.size < 2**63
    assert entry.kind is Kind.FILE or entry.size == entry.stored == 0, "data that is no file's"
    assert all(len(value) <= LIMITS.xattr_bytes for value in (entry.xattrs or {}).values())
    if entry.segments is None:
        assert entry.size == entry.stored
        return
    end = 0
    for offset, length in entry.segments:
        assert offset >= end
        assert length > 0
        end = offset + length
    assert end <= entry.size
    assert sum(length for _, length in entry.segments) == entry.stored


def archives() -> Iterator[bytes]:
    """Give small archives of every kind."""
    yield layer()
    yield layer(file("a", b"hi"), directory("d/"), symlink("d/l", "../a"), hardlink("h", "a"))
    yield layer(char("null", 1, 3), fifo("f"), whiteout("a"), file("d/.wh..wh..opq"), end=False)
    yield layer(file("a", b"x" * 600, mtime=3 * SECOND // 2, uid=2**31, xattrs={"user.a": b"\0"}), last_padding=False)
    for form in ("v7", "ustar", "gnu", "star"):
        yield layer(file("p" * 90 + "/" + "n" * (9 if form == "v7" else 60), b"1"), directory("d/"), format=form)
    yield layer(gnu_long(b"n" * 120), symlink("s", "t" * 150), global_header({"comment": "x"}), file("b"))
    yield layer(sparse_old("s", [(0, b"1" * 512), (4096, b"2" * 512)], 9000), file("b"))
    yield layer(sparse_old("s", [(1024 * at, b"1" * 512) for at in range(6)], 9000))
    for version in ("0.0", "0.1", "1.0"):
        yield layer(sparse_pax("s", [(512, b"1" * 512), (2048, b"22")], 4096, version), file("b", b"3"))


WORDS = (
    *(
        b"ustar\x0000",
        b"ustar  \0",
        b"tar\0",
        b"\x80",
        b"\xff" * 12,
        b"GNU.sparse.",
        b"SCHILY.xattr.",
        b"LIBARCHIVE.xattr.",
    ),
    *(b"path=", b"linkpath=", b"size=", b"mtime=", b"uid=", b".wh.", b".wh..wh..opq", b"../", b"././@LongLink"),
)

TARGET = Target(check=check, seeds=archives, mutate=tar_archive, longest=12 << 10, words=WORDS)
