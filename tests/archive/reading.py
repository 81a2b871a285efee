"""Reads archives with `TarReader` and gives what comes out as values; how the bytes arrive must never matter.

`read` and `refusal` do it several times, with the archive in one piece and in small ones, and insist on one answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from unpacker.archive.reader import TarReader
from unpacker.errors import CorruptLayerError, InLayerError, LimitError, UnsafeEntryError
from unpacker.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from unpacker.spec.entry import Kind

PIECES = (1 << 20, 512, 100)
"""The usual case, pieces that end where blocks do, and pieces that never do."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """One entry with all its data."""

    kind: Kind
    name: bytes
    link: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    data: bytes = b""
    """Whole, with its holes."""
    offset: int = 0


def cut(archive: bytes, size: int) -> Iterator[bytes]:
    """Give an archive in pieces of one size."""
    return (archive[start : start + size] for start in range(0, len(archive), size))


def read_pieces(pieces: Iterable[bytes], limits: Limits = DEFAULT) -> list[Read]:
    """Read an archive that comes in these pieces; every piece of data is taken as soon as it is there."""
    reader = TarReader(iter(pieces), limits)
    found = []
    for entry in reader:
        stored = b"".join(reader.data())
        assert len(stored) == entry.stored
        data = stored
        if entry.segments is not None:
            whole = bytearray(entry.size)
            for offset, length in entry.segments:
                whole[offset : offset + length], stored = stored[:length], stored[length:]
            data = bytes(whole)
        assert len(data) == entry.size
        found.append(
            Read(
                kind=entry.kind,
                name=entry.name,
                link=entry.link,
                mode=entry.mode,
                uid=entry.uid,
                gid=entry.gid,
                mtime=entry.mtime,
                device=entry.device,
                xattrs=entry.xattrs or {},
                data=data,
                offset=entry.offset,
            )
        )
    assert reader.count == len(found)
    return found


def read(archive: bytes, limits: Limits = DEFAULT) -> list[Read]:
    """Read all entries of an archive."""
    first, *others = (read_pieces(cut(archive, size), limits) for size in PIECES)
    assert all(other == first for other in others)
    return first


def names(archive: bytes) -> list[bytes]:
    """Give the names of all entries."""
    return [each.name for each in read(archive)]


def one(archive: bytes) -> Read:
    """Read an archive of one entry."""
    (only,) = read(archive)
    return only


def refusal(archive: bytes, limits: Limits = DEFAULT) -> CorruptLayerError | UnsafeEntryError | LimitError:
    """Give the error that an archive ends in; whatever it is, it says where."""
    errors = []
    for size in PIECES:
        with pytest.raises(InLayerError) as caught:
            read_pieces(cut(archive, size), limits)
        assert isinstance(caught.value, CorruptLayerError | UnsafeEntryError | LimitError)
        errors.append(caught.value)
    assert len({(type(error), str(error)) for error in errors}) == 1
    offset = errors[0].offset
    assert offset is not None
    assert 0 <= offset <= len(archive)
    return errors[0]
