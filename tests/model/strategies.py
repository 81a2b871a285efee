"""Hypothesis strategies for stacks of layers that collide: few names, all types, everything more than once.

`stacks` gives mostly stacks that a root filesystem can hold, so that a test compares trees and not refusals: what the
reference model refuses is taken out again, entry by entry, but for one stack in ten.
"""

from __future__ import annotations

from dataclasses import replace

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

components = st.sampled_from(USUAL_NAMES * 5 + ODD_NAMES)


def paths(most: int = 4) -> st.SearchStrategy[bytes]:
    """Give paths in their plain spelling, of one to ``most`` components."""
    return st.lists(components, min_size=1, max_size=most).map(b"/".join)


@st.composite
def spellings(draw: st.DrawFn, path: bytes) -> bytes:
    """Give one of the ways in which archives spell a path."""
    first, slash, rest = path.partition(b"/")
    return draw(
        st.sampled_from(
            [path] * 8
            + [
                b"./" + path,
                b"/" + path,
                b"../" + path,
                b"c/../" + path,
                first + b"//" + rest if slash else b".//" + path,
                first + b"/./" + rest if slash else path,
            ]
        )
    )


@st.composite
def link_targets(draw: st.DrawFn) -> bytes:
    """Give targets of symbolic links: near, far, upwards, out of the root, to nothing."""
    path = draw(paths(2))
    before = draw(st.sampled_from([b""] * 4 + [b"/", b"../", b"./", b"../../../", b"/../"]))
    return draw(st.sampled_from([before + path] * 6 + [b".", b"..", b"/", b"nothing", path + b"/.", path + b"/.."]))


@st.composite
def said(draw: st.DrawFn, *, xattrs: bool) -> Said:
    """Give attributes."""
    made = Said(
        mode=draw(st.sampled_from(MODES)),
        uid=draw(st.sampled_from(OWNERS)),
        gid=draw(st.sampled_from(OWNERS)),
        mtime=draw(st.sampled_from(TIMES)),
    )
    if xattrs:
        made["xattrs"] = draw(st.sampled_from(XATTRS))
    return made


def odd_whiteouts(path: bytes) -> st.SearchStrategy[Entry]:
    """Give names that begin like whiteouts: AUFS's own, which are dropped, and those that are refused."""
    return st.sampled_from(
        [
            file(b".wh..wh.plnk/1", b"linked"),
            hardlink(path, b".wh..wh.plnk/1"),
            hardlink(path + b"2", b"/.wh..wh.plnk/1"),
            file(path + b"/.wh..wh.aufs"),
            file(path + b"/.wh..wh..opq/x"),
            directory(b".wh." + path.partition(b"/")[0] + b"/"),
            file(b".wh.a/x"),
            file(path + b"/.wh.."),
        ]
    )


@st.composite
def entries(draw: st.DrawFn, known: list[bytes], files: list[bytes]) -> Entry:
    """Give one entry; ``known`` are paths that came before, ``files`` those of them that hard links may mean."""
    kind = draw(
        st.sampled_from(
            ["file"] * 6
            + ["directory"] * 5
            + ["symlink"] * 4
            + ["hardlink"] * 5
            + ["whiteout"] * 3
            + ["opaque"] * 2
            + ["fifo", "device", "root", "aufs"]
        )
    )
    again = st.sampled_from(known) if known else paths()
    linkable = st.sampled_from(files) if files else paths()
    path = draw(st.one_of(paths(), paths(), paths(), again))
    # Only files and directories hold user xattrs on Linux.
    attributes = draw(said(xattrs=kind in ("file", "directory", "root")))
    if kind == "whiteout":
        return whiteout(draw(spellings(draw(st.one_of(again, paths())))))
    if kind == "opaque":
        return opaque(draw(st.one_of(st.just(b""), paths(3), again)))
    if kind == "root":
        return directory(draw(st.sampled_from([b"./", b"/", b".", b"a/.."])), **attributes)
    if kind == "aufs":
        return draw(odd_whiteouts(path))
    name = draw(spellings(path))
    if kind == "directory":
        return directory(name + draw(st.sampled_from([b"/", b""])), **attributes)
    if kind == "symlink":
        return symlink(name, draw(link_targets()), **attributes)
    if kind == "hardlink":
        # Half of them under names of their own, or later entries would leave few pairs whole.
        name = draw(st.sampled_from([name, name, b"h", b"b/h", b"a/h"]))
        return hardlink(name, draw(spellings(draw(st.one_of(linkable, linkable, linkable, paths())))), **attributes)
    if kind == "fifo":
        return fifo(name, **attributes)
    if kind == "device":
        return draw(st.sampled_from([char(name, 1, 3, **attributes), block(name, 7, 300, **attributes)]))
    return file(name, draw(st.sampled_from([b"", b"1", b"two", b"3" * 600])), **attributes)


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
            entry = draw(entries(known, files))
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
