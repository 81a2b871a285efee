"""Whole images of any bytes: archives as no tool writes them are unpacked the same way with a store as without.

Where they can be read at all, the reference model says what must come out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuzz.arena import Result, place, unpacked
from fuzz.mutators import tar_archive
from fuzz.target import Target
from fuzz.targets.tar import WORDS, archives
from tests.model import reference
from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import Entry, directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff
from unpacker.archive.reader import TarReader
from unpacker.errors import LimitError, UnpackError
from unpacker.limits import Limits
from unpacker.spec.entry import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from unpacker.spec.entry import Entry as Read

LIMITS = Limits(entries=300, path_bytes=600, header_bytes=8192)
_BETWEEN = b"-- the next layer --"
_MOST = 1 << 20
"""Bytes of a file that is looked at: a hole may be of exabytes."""
_KINDS = {
    Kind.FILE: "file",
    Kind.DIRECTORY: "directory",
    Kind.SYMLINK: "symlink",
    Kind.HARDLINK: "hardlink",
    Kind.CHARACTER: "char",
    Kind.BLOCK: "block",
    Kind.FIFO: "fifo",
}
_REWRITTEN = (b"system.", b"security.", b"trusted.")
"""Attributes that a filesystem understands: what it makes of them is its affair."""


def check(data: bytes) -> None:
    """Unpack layers with and without a store, and apply them in the model."""
    keep_dirlinks = bool(data[:1] == b"k")
    tars = data[1:].split(_BETWEEN)
    stack = [_entries(tar) for tar in tars]
    look = all(entries is None or all(len(entry.data) < _MOST for entry in entries) for entries in stack)
    with place() as path:
        write_layout(path / "layout", tars, compression="none")
        options: dict[str, Any] = {"look": look, "keep_dirlinks": keep_dirlinks, "limits": LIMITS}
        plain = unpacked(path, "plain", labels=False, **options)
        stored = unpacked(path, "stored", store=path / "store", **options)
    _compare(plain, stored)
    if look and plain.tree is not None:
        assert None not in stack, "unpacked, and cannot be read"
    read = [entries for entries in stack if entries is not None]
    if look and None not in stack:
        _check_model(read, plain, keep_dirlinks=keep_dirlinks)


def _compare(plain: Result, stored: Result) -> None:
    if plain.error is not None or stored.error is not None:
        assert type(plain.error) is type(stored.error), f"{plain.error!r}, and with a store {stored.error!r}"
        return
    assert plain.report is not None
    assert stored.report is not None
    if plain.tree is not None and stored.tree is not None:
        lost = plain.lost | stored.lost
        differences = diff(plain.tree, stored.tree, ignore=lost)
        assert not differences or "kind" in lost, "\n".join(["with a store:", *differences])


def _check_model(stack: list[list[Entry]], got: Result, *, keep_dirlinks: bool) -> None:
    try:
        expected: Tree | str = reference.apply(stack, keep_dirlinks=keep_dirlinks)
    except reference.Refused as refused:
        expected = str(refused)
    if isinstance(got.error, LimitError | OSError):
        return  # limits, and what a filesystem has no room for, are none of the model's business
    if isinstance(expected, str) or got.tree is None:
        assert isinstance(expected, str), f"{got.error!r}; the model makes a tree of {stack}"
        assert isinstance(got.error, UnpackError), f"the model refuses: {expected}"
        return
    special = any(key.startswith(_REWRITTEN) for one in stack for entry in one for key in entry.xattrs)
    ignored = got.lost | ({"xattrs", "mode"} if special else frozenset())
    differences = diff(expected, got.tree, ignore=ignored)
    assert not differences or "kind" in ignored, "\n".join([*differences, str(stack)])


def _entries(tar: bytes) -> list[Entry] | None:
    """Read an archive into values for the model; None if it cannot be read."""
    reader = TarReader(iter([tar] if tar else []), LIMITS)
    try:
        return [_value(entry, b"".join(map(bytes, reader.data()))) for entry in reader]
    except UnpackError:
        return None


def _value(entry: Read, stored: bytes) -> Entry:
    data = bytearray(min(entry.size, _MOST))
    at = 0
    for offset, length in entry.segments or [(0, entry.stored)]:
        if offset + length <= len(data):
            data[offset : offset + length] = stored[at : at + length]
        at += length
    return Entry(
        kind=_KINDS[entry.kind],  # type: ignore[arg-type]
        name=entry.name,
        data=bytes(data),
        link=entry.link,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        xattrs=entry.xattrs or {},
        device=entry.device,
    )


def seeds() -> Iterator[bytes]:
    """Give each kind of archive, and some that have something to do with each other."""
    for archive in archives():
        yield b"-" + archive
    stacks = (
        [[directory("usr/lib"), symlink("lib", "usr/lib")], [file("lib/x"), hardlink("y", "lib/x")]],
        [[file("d/old"), file("d/e/f")], [whiteout("d"), file("d/new")], [opaque("d"), symlink("d/l", "../../..")]],
        [[file("a"), hardlink("b", "a")], [hardlink("c", "b"), file("a", b"new")], [file("c/x")]],
    )
    for stack in stacks:
        for how in (b"-", b"k"):
            yield how + _BETWEEN.join(layer(*entries, end=False) for entries in stack)


def mutate(data: bytes, chance: Random) -> bytes:
    """Change one of the layers, or swap two."""
    tars = data[1:].split(_BETWEEN)
    at = chance.randrange(len(tars))
    tars[at] = tar_archive(tars[at], chance)
    if chance.random() < 0.1:
        tars.insert(chance.randrange(len(tars) + 1), tars.pop())
    return data[:1] + _BETWEEN.join(tars)


TARGET = Target(check=check, seeds=seeds, mutate=mutate, longest=8 << 10, words=(*WORDS, _BETWEEN))
