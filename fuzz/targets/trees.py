"""Whole images: bytes become layers of entries that collide, and what comes out is what the reference model says."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from fuzz.arena import Before, place, unpacked
from fuzz.choices import Choices
from fuzz.target import Target
from tests.model import reference
from tests.model.strategies import (
    MODES,
    ODD_NAMES,
    OWNERS,
    TIMES,
    USUAL_NAMES,
    XATTRS,
    Stack,
    fit_for,
    without_refusals,
)
from tests.support.layoutbuild import write_layout
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr
from tests.support.tarbuild import (
    Entry,
    block,
    char,
    directory,
    fifo,
    file,
    hardlink,
    layer,
    opaque,
    symlink,
    whiteout,
)
from tests.support.tree import Tree, diff
from unpacker.errors import DigestMismatchError, SizeMismatchError, UnpackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NAMES = [*USUAL_NAMES * 5, *ODD_NAMES, b"..", b".", b"", b"n" * 255, b"n" * 256, b".wh.x", b".wh..wh.aufs"]
_BEFORE = (b"", b"", b"", b"", b"/", b"../", b"./", b"../../../", b"c/../")
_BEFORE_DEST: tuple[Before, ...] = ("nothing", "nothing", "nothing", "nothing", "empty", "empty", "full", "full")
_DATA = (b"", b"1", b"two", b"3" * 600, bytes(5000) + b"end")


def check(data: bytes) -> None:
    """Make layers of some bytes, and unpack them in the way that the first byte says."""
    choices = Choices(data)
    how, more = choices.byte(), choices.byte()
    keep_dirlinks, by_store, damaged = bool(how & 1), bool(how & 2), how & 0x1C == 0x1C
    stack = _stack(choices)
    if how & 0xE0:  # mostly what can be unpacked, so that trees are compared and not refusals
        stack = without_refusals(stack, keep_dirlinks=keep_dirlinks)
    stack = fit_for(stack, owners=can_chown(), devices=can_mknod(), xattrs=can_set_user_xattr())
    try:
        expected: Tree | str = reference.apply(stack, keep_dirlinks=keep_dirlinks)
    except reference.Refused as refused:
        expected = str(refused)
    with place() as path:
        tars = [layer(*entries, end=bool(how & 4)) for entries in stack]
        built = write_layout(path / "layout", tars, compression="gzip" if how & 8 else "none")
        store = path / "store" if by_store else None
        if damaged and stack and (len(stack) == 1 or not isinstance(expected, str)):  # one below may be refused first
            digest = built.images[0].layers[-1].digest
            built.flip(digest, choices.below(built.blob_path(digest).stat().st_size))
            _check_damage(path, keep_dirlinks=keep_dirlinks, store=store)
            return
        options: dict[str, Any] = {
            "before": _BEFORE_DEST[more & 7],
            "keep_dirlinks": keep_dirlinks,
            "labels": bool(how & 16),
            "owner": "self" if more & 0x38 == 0x38 else "auto",
            "link": by_store and bool(more & 0x40),
            "side_by_side": not by_store and bool(more & 0x80),
        }
        ignored = ("uid", "gid") if options["owner"] == "self" or not can_chown() else ()
        for dest in ("dest", "again") if by_store else ("dest",):
            got = unpacked(path, dest, store=store, **options)
            _compare(expected, got.error or got.tree or {}, stack, ignored)


def _check_damage(path: Path, *, keep_dirlinks: bool, store: Path | None) -> None:
    got = unpacked(path, keep_dirlinks=keep_dirlinks, store=store)
    assert isinstance(got.error, DigestMismatchError | SizeMismatchError), f"a damaged blob: {got}"


def _compare(expected: Tree | str, got: Tree | Exception, stack: Stack, ignored: tuple[str, ...] = ()) -> None:
    shown = "\n".join(f"layer {number}: {entries}" for number, entries in enumerate(stack))
    if isinstance(expected, str) or isinstance(got, Exception):
        assert isinstance(expected, str), f"refused: {got!r}; the model makes a tree\n{shown}"
        assert isinstance(got, UnpackError), f"the model refuses: {expected}; here {got!r}\n{shown}"
        return
    differences = diff(expected, got, ignore=ignored)
    assert not differences, "\n".join([*differences, shown])


# -- bytes to layers ---------------------------------------------------------------------------------------------------


def _stack(choices: Choices) -> Stack:
    stack: Stack = []
    for _ in range(1 + choices.below(4)):
        stack.append([])
        for _ in range(choices.below(9)):
            if choices.left:
                stack[-1].append(_entry(choices))
    return stack


def _path(choices: Choices, most: int = 4) -> bytes:
    return b"/".join(choices.pick(_NAMES) for _ in range(1 + choices.below(most)))


def _name(choices: Choices) -> bytes:
    return choices.pick(_BEFORE) + _path(choices)


def _entry(choices: Choices) -> Entry:
    make = choices.pick(_MAKERS)
    made = make(choices)
    if choices.once_in(2):  # half of them with attributes of their own, the others cost no bytes
        return made
    attributes = replace(
        made,
        mode=choices.pick(MODES),
        uid=choices.pick(OWNERS),
        gid=choices.pick(OWNERS),
        mtime=choices.pick(TIMES),
    )
    # Only files and directories hold user xattrs on Linux.
    return replace(attributes, xattrs=choices.pick(XATTRS)) if made.kind in ("file", "directory") else attributes


def _directory(choices: Choices) -> Entry:
    return directory(_name(choices) + choices.pick((b"/", b"")))


_MAKERS: tuple[Callable[[Choices], Entry], ...] = (
    *[lambda choices: file(_name(choices), choices.pick(_DATA))] * 6,
    *[_directory] * 5,
    *[lambda choices: symlink(_name(choices), choices.pick(_BEFORE) + _path(choices, 3))] * 4,
    *[lambda choices: hardlink(_name(choices), _name(choices))] * 5,
    *[lambda choices: whiteout(_name(choices))] * 3,
    *[lambda choices: opaque(_name(choices) if choices.byte() & 3 else b"")] * 2,
    lambda choices: fifo(_name(choices)),
    lambda choices: char(_name(choices), 1, 3),
    lambda choices: block(_name(choices), 7, 300),
    lambda choices: directory(choices.pick((b"./", b"/", b".", b"a/.."))),
    lambda choices: file(b".wh..wh.plnk/" + choices.pick((b"1", b"2")), choices.pick((b"linked", b"again"))),
    lambda choices: hardlink(_name(choices), b".wh..wh.plnk/" + choices.pick((b"1", b"2"))),
)


def seeds() -> Iterator[bytes]:
    """Give decisions at random, the same ones each time, for each way to unpack."""
    chance = Random(5)
    for how in range(32):
        yield bytes([how | 0x20, chance.randrange(256)]) + chance.randbytes(chance.choice((10, 30, 60, 120, 200)))


TARGET = Target(check=check, seeds=seeds, longest=300)
