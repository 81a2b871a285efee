"""Hypothesis strategies for stacks of layers that collide: few names, all types, everything more than once.

`stacks` gives mostly stacks that a root filesystem can hold, so that a test compares trees and not refusals: what the
reference model refuses is taken out again, entry by entry, but for one stack in ten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

from tests.model import reference
from tests.support.tarbuild import (
    SECOND,
    Entry,
    Said,
    block,
    char,
    directory,
    fifo,
    file,
    hardlink,
    opaque,
    symlink,
    whiteout,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Stack = list[list[Entry]]

USUAL_NAMES = [b"a", b"b", b"c"]
ODD_NAMES = [b"\xe9", b"x\ny", b"-r", b"..a", b".w"]
MODES = [0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o500, 0o000]
OWNERS = [0, 0, 0, 1, 1000, 65534, 2**31]
TIMES = [
    0,
    1_000_000_000 * SECOND,
    1_700_000_000 * SECOND + 123_456_789,
    -SECOND,
    -(3 * SECOND) // 2,
    2**33 * SECOND,
]
"""What ext4, xfs, btrfs and tmpfs hold alike."""
XATTRS: list[dict[bytes, bytes]] = [{}, {}, {}, {b"user.a": b"1"}, {b"user.a": b"\0=\n", b"user.b": b""}]

SPELLINGS = [b"%s"] * 8 + [b"./%s", b"/%s", b"../%s", b"c/../%s"]
BEFORE_TARGETS = [b""] * 4 + [b"/", b"../", b"./", b"../../../", b"/../"]
KINDS = (
    ["file"] * 6
    + ["directory"] * 5
    + ["symlink"] * 4
    + ["hardlink"] * 5
    + ["whiteout"] * 3
    + ["opaque"] * 2
    + ["fifo", "device", "root", "aufs"]
)
CONTENTS = [b"", b"1", b"two", b"3" * 600]

T = TypeVar("T")


class Picks:
    """Choices by the bytes of one draw: a draw takes far longer than all else here, and an entry has many choices.

    A byte of 0 is the first choice, so that what is shrunk is plain.
    """

    def __init__(self, seed: bytes) -> None:
        self._left = iter(seed)

    def one(self, options: Sequence[T]) -> T:
        """Choose."""
        return options[next(self._left) % len(options)]

    def path(self, most: int = 4) -> bytes:
        """Give a path in its plain spelling, of one to ``most`` components."""
        return b"/".join(self.one(USUAL_NAMES * 5 + ODD_NAMES) for _ in range(self.one(range(1, most + 1))))

    def known(self, paths: Sequence[bytes], others: int = 0) -> bytes:
        """Give one of some paths, if there are any, or, in one of so many cases, any path."""
        if not paths or (others and not self.one(range(others))):
            return self.path()
        return self.one(paths)

    def spelling(self, path: bytes) -> bytes:
        """Give one of the ways in which archives spell a path."""
        first, slash, rest = path.partition(b"/")
        doubled = [first + b"//" + rest, first + b"/./" + rest] if slash else [b".//" + path, path]
        spelling = self.one([*SPELLINGS, *doubled])
        return spelling % path if spelling not in doubled else spelling

    def link_target(self) -> bytes:
        """Give the target of a symbolic link: near, far, upwards, out of the root, to nothing."""
        path, before = self.path(2), self.one(BEFORE_TARGETS)
        return self.one([before + path] * 6 + [b".", b"..", b"/", b"nothing", path + b"/.", path + b"/.."])

    def said(self, *, xattrs: bool) -> Said:
        """Give attributes."""
        made = Said(mode=self.one(MODES), uid=self.one(OWNERS), gid=self.one(OWNERS), mtime=self.one(TIMES))
        if xattrs:
            made["xattrs"] = self.one(XATTRS)
        return made


SEEDS = st.binary(min_size=32, max_size=32)
"""More bytes than any entry needs."""


def odd_whiteouts(path: bytes) -> list[Entry]:
    """Give names that begin like whiteouts: AUFS's own, which are dropped, and those that are refused."""
    return [
        file(b".wh..wh.plnk/1", b"linked"),
        hardlink(path, b".wh..wh.plnk/1"),
        hardlink(path + b"2", b"/.wh..wh.plnk/1"),
        file(path + b"/.wh..wh.aufs"),
        file(path + b"/.wh..wh..opq/x"),
        directory(b".wh." + path.partition(b"/")[0] + b"/"),
        file(b".wh.a/x"),
        file(path + b"/.wh.."),
    ]


def entry_of(picks: Picks, known: list[bytes], files: list[bytes]) -> Entry:
    """Give one entry; ``known`` are paths that came before, ``files`` those of them that hard links may mean."""
    kind = picks.one(KINDS)
    if kind == "whiteout":
        return whiteout(picks.spelling(picks.known(known, others=2)))
    if kind == "opaque":
        return opaque(picks.one([b"", picks.path(3), picks.known(known)]))
    path = picks.path() if picks.one(range(4)) else picks.known(known)
    if kind == "aufs":
        return picks.one(odd_whiteouts(path))
    # Only files and directories hold user xattrs on Linux.
    attributes = picks.said(xattrs=kind in ("file", "directory", "root"))
    if kind == "root":
        return directory(picks.one([b"./", b"/", b".", b"a/.."]), **attributes)
    name = picks.spelling(path)
    if kind == "directory":
        return directory(name + picks.one([b"/", b""]), **attributes)
    if kind == "symlink":
        return symlink(name, picks.link_target(), **attributes)
    if kind == "hardlink":
        # Half of them under names of their own, or later entries would leave few pairs whole.
        name = picks.one([name, name, b"h", b"b/h", b"a/h"])
        return hardlink(name, picks.spelling(picks.known(files, others=4)), **attributes)
    if kind == "fifo":
        return fifo(name, **attributes)
    if kind == "device":
        return picks.one([char(name, 1, 3, **attributes), block(name, 7, 300, **attributes)])
    return file(name, picks.one(CONTENTS), **attributes)


def without_refusals(stack: Stack, *, keep_dirlinks: bool = False) -> Stack:
    """Take out the entries that the model refuses, one after the other."""
    stack = [list(layer) for layer in stack]
    while True:
        try:
            reference.apply(stack, keep_dirlinks=keep_dirlinks)
        except reference.Refused as refused:
            stack = [[entry for entry in layer if entry is not refused.entry] for layer in stack]
        else:
            return stack


@st.composite
def stacks(draw: st.DrawFn, *, most_layers: int = 5, most_entries: int = 8, keep_dirlinks: bool = False) -> Stack:
    """Give one to ``most_layers`` layers of up to ``most_entries`` entries each."""
    known: list[bytes] = []
    files: list[bytes] = []
    stack: Stack = []
    for _ in range(draw(st.integers(1, most_layers))):
        layer: list[Entry] = []
        for _ in range(draw(st.integers(1, most_entries))):
            entry = entry_of(Picks(draw(SEEDS)), known, files)
            layer.append(entry)
            plain = b"/".join(reference.normalised(entry.name))
            if plain and b".wh." not in plain:
                known.append(plain)
                if entry.kind != "directory":
                    files.append(plain)
        stack.append(layer)
    if draw(st.integers(0, 9)):
        stack = without_refusals(stack, keep_dirlinks=keep_dirlinks)
    return stack


def fit_for(stack: Stack, *, owners: bool, devices: bool, xattrs: bool) -> Stack:
    """Take from a stack what a caller or a filesystem without these abilities could not even compare afterwards.

    Without owners, modes are such that the caller can read what it made; without devices, fifos take their place.
    """

    def fitted(entry: Entry) -> Entry:
        if not owners:
            entry = replace(entry, mode=entry.mode | 0o700, uid=0, gid=0)
        if not devices and entry.kind in ("char", "block"):
            entry = replace(entry, kind="fifo", device=(0, 0))
        return entry if xattrs else replace(entry, xattrs={})

    return [[fitted(entry) for entry in layer] for layer in stack]
