"""Links that lead out of DEST, used in every way that an entry can use a path, within one layer and across two.

A symbolic link itself is stored as it is, wherever it points to; what goes through it stays inside, as in a chroot
(CVE-2014-6407, CVE-2018-15664, CVE-2025-4517 and their like went through).  What comes of it inside is what the reference
model says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.tarbuild import (
    Entry,
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

    from tests.attacks.arena import Arena

WAYS = {
    "absolute": "{outside}",
    "absolute with dots": "/../..{outside}/deep/..",
    "beside DEST": "../outside",
    "above the workspace": "../../outside",
    "far above": "../" * 40 + "{outside}",
    "through /proc/self/cwd": "/proc/self/cwd/{outside}",
    "through itself": "./way/../../outside",
    "in two steps": "step/outside",
}
USES: dict[str, Sequence[Entry]] = {
    "write through it": [file("way/secret", b"overwritten", mode=0o4777)],
    "write beside what is there": [file("way/new", b"new")],
    "make a directory behind it": [directory("way/new", mode=0o777), file("way/new/x", b"x")],
    "give its target attributes": [directory("way", mode=0o777, uid=12345, xattrs={"user.x": b"x"})],
    "give what is behind it attributes": [directory("way/deep", mode=0o777, uid=12345)],
    "make a link behind it": [symlink("way/link", "/etc/passwd")],
    "make a fifo behind it": [fifo("way/secret", mode=0o666)],
    "make a device behind it": [char("way/secret", 1, 3, mode=0o666)],
    "hard link the link itself": [hardlink("mine", "way", mode=0o777, uid=12345), file("mine", b"overwritten")],
    "hard link what is behind it": [hardlink("mine", "way/secret", mode=0o4777)],
    "hard link into it": [file("own", b"own"), hardlink("way/secret", "own")],
    "hide what is behind it": [whiteout("way/secret"), whiteout("way/deep")],
    "hide all that is behind it": [opaque("way")],
    "hide all that is deep behind it": [opaque("way/deep/er")],
    "hide the link": [whiteout("way")],
    "replace it by a file": [file("way", b"a file", mode=0o4755)],
    "replace it by a directory, and write": [directory("way"), file("way/secret", b"mine"), file("way/deep/x")],
    "write, then replace it": [file("way/secret", b"mine"), file("way"), directory("way"), file("way/secret")],
    "replace it again and again": [*[file("way"), symlink("way", "../outside")] * 3, file("way/secret", b"mine")],
}


def way_out(target: str, arena: Arena) -> list[Entry]:
    filled = target.format(outside=arena.outside)
    steps = [symlink("step", "..")] if "step" in target else []
    return [*steps, symlink("way", filled)]


@pytest.mark.parametrize(
    ("apart", "keep_dirlinks"),
    [(False, False), (True, False), (True, True)],
    ids=["one-layer", "two-layers", "keep-dirlinks"],
)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_goes_through_a_link(way: str, use: str, apart: bool, keep_dirlinks: bool, arena: Arena) -> None:
    made, used = way_out(WAYS[way], arena), list(USES[use])
    arena.agrees([made, used] if apart else [[*made, *used]], keep_dirlinks=keep_dirlinks)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("way", ["absolute", "above the workspace"])
def test_nothing_goes_through_a_link_in_a_store(way: str, use: str, arena: Arena) -> None:
    """Where the layers stay apart, the link is in another directory than what goes through it."""
    arena.agrees([way_out(WAYS[way], arena), list(USES[use])], by_store=True)


@pytest.mark.parametrize("use", USES)
def test_nothing_goes_through_a_link_to_a_directory_of_the_image(use: str, arena: Arena) -> None:
    """The same uses where the way leads somewhere: behind it is the image's own directory, and only that is changed."""
    below = [directory("in/deep/er"), file("in/secret", b"the image's"), symlink("way", "/in")]
    arena.agrees([below, list(USES[use])])


@pytest.mark.parametrize("by_store", [False, True], ids=["", "store"])
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq", ".wh..wh.plnk", "a/.wh.", "a" * 256, "a" * 4000])
@pytest.mark.parametrize("use", ["file", "hardlink to it", "hardlink behind it", "directory", "whiteout"])
def test_a_link_to_a_name_that_none_may_have(use: str, name: str, apart: bool, by_store: bool, arena: Arena) -> None:
    """A directory of such a name would be a deletion for the next program that makes a layer of the tree."""
    uses = {
        "file": file("l/x"),
        "hardlink to it": hardlink("h", name),
        "hardlink behind it": hardlink("h", "l/x"),
        "directory": directory("l/d"),
        "whiteout": whiteout("l/x"),
    }
    made = [directory("a"), symlink("l", name)]
    arena.agrees([made, [uses[use]]] if apart else [[*made, uses[use]]], by_store=by_store)


@pytest.mark.parametrize("entry", [directory("l", mode=0o700), file("l/x")], ids=["itself", "behind"])
@pytest.mark.parametrize("target", ["d", "/d", "missing", "k", "k/e"])
def test_a_link_of_the_layer_itself_to_what_is_below(target: str, entry: Entry, arena: Arena) -> None:
    """Only the layers below can say whether it leads to a directory, and so is kept."""
    below = [directory("d/e"), symlink("k", "d")]
    arena.agrees([below, [symlink("l", target), entry, directory("l")]], keep_dirlinks=True)
