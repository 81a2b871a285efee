"""Names that lead out of DEST, or mean DEST itself: of entries, of hard links' targets, of whiteouts.

Names that climb are clamped to the root, as in a chroot; what they are there is what the reference model says
(CVE-2007-4559, moby's BreakoutError, node-tar's CVE-2021-32804).  Whiteouts of ``.`` and ``..`` are refused: umoci 0.4.7
removes the directory that the root filesystem is in, for one entry ``.wh...``.
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
    pax_header,
    symlink,
)
from unpacker.errors import UnsafeEntryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.arena import Arena

MAKERS: dict[str, Callable[[str], Entry]] = {
    "file": lambda name: file(name, b"overwritten", mode=0o4777),
    "directory": lambda name: directory(name, mode=0o777),
    "symlink": lambda name: symlink(name, "/etc/passwd"),
    "hardlink": lambda name: hardlink(name, "own"),
    "fifo": lambda name: fifo(name, mode=0o666),
    "device": lambda name: char(name, 1, 3, mode=0o666),
}
NAMES = (
    "../outside/secret",
    "/../outside/secret",
    "../../outside/secret",
    "a/../../outside/secret",
    "./../a/../../../../outside/secret",
    "//{outside}//secret",
    "{outside}/secret",
    "../" * 100 + "{outside}/secret",
    "a/b/c/../../../../outside",
    "..\\outside\\secret",
    "C:\\outside\\secret",
    "..outside/...secret",
    "../../proc/self/cwd/../outside/secret",
)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_inside(name: str, kind: str, arena: Arena) -> None:
    arena.agrees([[file("own", b"own")], [MAKERS[kind](name.format(outside=arena.outside))]])


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_inside_a_store(name: str, arena: Arena) -> None:
    filled = name.format(outside=arena.outside)
    arena.agrees([[file("own", b"own"), make(filled)] for make in MAKERS.values()], by_store=True)


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "directory"])
@pytest.mark.parametrize("name", ["/", ".", "./", ".//.", "a/..", "..", "../..", "/.."])
def test_the_root_stays_a_directory(name: str, kind: str, arena: Arena) -> None:
    """umoci made it a symbolic link, and let the next layer through it (CVE-2021-29136)."""
    entry = MAKERS[kind](name)
    if entry.kind == "symlink":
        entry = symlink(name, str(arena.outside))
    if name.endswith("/") and kind == "file":
        entry = file(name, b"")
    found = arena.unpack([[file("own", b"own")], [entry], [file("secret", b"overwritten")]])
    assert isinstance(found, UnsafeEntryError)
    assert "root" in str(found)


@pytest.mark.parametrize("name", ["/", ".", "..", "a/..", "../../outside"])
def test_the_attributes_of_a_climbing_directory_are_the_images_own(name: str, arena: Arena) -> None:
    """Python's tarfile gave them to a directory outside (CVE-2024-12718)."""
    arena.agrees([[directory(name, mode=0o711, mtime=10**18)]])


# -- hard links --------------------------------------------------------------------------------------------------------

TARGETS = (
    "../outside/secret",
    "{outside}/secret",
    "/../..{outside}/secret",
    "way/secret",
    "way/deep/er/file",
    "self/../outside/secret",
    ".",
    "/",
    "..",
    "in",
    "in/..",
    "self",
    "mine",
    "mine/x",
    "/proc/self/fd/3",
    ".wh..wh.plnk/../outside/secret",
    ".wh..wh.plnk/x/../../../outside/secret",
    ".wh.own",
    "loop/x",
    "own/x",
)


@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_hard_link_takes_nothing_from_outside(target: str, apart: bool, arena: Arena) -> None:
    """What is there under the name in the image, it may link; else it is refused."""
    made = [file("own", b"own"), directory("in"), symlink("way", str(arena.outside)), symlink("loop", "loop")]
    made += [symlink("self", ".")]
    used = [hardlink("mine", target.format(outside=arena.outside), mode=0o4777), file("mine2", b"x")]
    arena.agrees([made, used] if apart else [[*made, *used]])


def test_a_hard_link_to_a_link_out_changes_nothing_behind_it(arena: Arena) -> None:
    """containerd and moby set the mode of the second name, and so of the file outside (CVE-2021-32760, CVE-2021-41089)."""
    way = symlink("way", str(arena.outside / "secret"))
    arena.agrees([[way, hardlink("mine", "way", mode=0o6777, uid=12345, xattrs={"user.x": b"x"}), directory("mine2")]])


def test_an_empty_target_is_no_file(arena: Arena) -> None:
    found = arena.unpack([[file("own"), hardlink("mine", "")]])
    assert isinstance(found, UnsafeEntryError)


# -- whiteouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [False, True], ids=["base", "upper"])
@pytest.mark.parametrize("make", [file, directory, fifo], ids=["file", "directory", "fifo"])
@pytest.mark.parametrize("before", ["", "in/", "in/deep/", "way/", "../", "missing/", "in/../"])
@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", ".wh../x", ".wh.../x", ".wh./x", ".wh.in/x"])
def test_a_whiteout_of_a_directory_itself_or_its_parent_is_refused(
    name: str, before: str, make: Callable[[str], Entry], apart: bool, arena: Arena
) -> None:
    below = [directory("in/deep"), file("in/file"), symlink("way", "../outside")]
    found = arena.unpack([[*below], [make(before + name)]] if apart else [[*below, make(before + name)]])
    assert isinstance(found, UnsafeEntryError)
    assert ".wh." in str(found)


@pytest.mark.parametrize(
    "name",
    [
        "../.wh.outside",
        "../outside/.wh.secret",
        "../../.wh.dest",
        "{outside}/.wh.secret",
        "../outside/.wh..wh..opq",
        "../.wh..wh..opq",
        "..//..//.wh..wh..opq",
        ".wh.outside",
        ".wh..wh..opq/x",
        "in/.wh..wh..opq/x",
        ".wh..wh.plnk",
        ".wh..wh.plnk/../.wh.in",
        ".wh..wh.aufs",
        ".wh..wh.orph/x",
        ".wh..wh...",
        ".wh..wh.",
        "in/.wh..wh...",
    ],
)
def test_a_whiteout_stays_inside(name: str, arena: Arena) -> None:
    below = [directory("in/deep"), file("in/file", b"x"), file("outside/secret", b"the image's"), file("dest/x")]
    arena.agrees([below, [file(name.format(outside=arena.outside))]])


def test_an_opaque_marker_above_the_root_hides_the_root_only(arena: Arena) -> None:
    arena.agrees([[file("old"), directory("d")], [opaque("../.."), file("new")]])


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "directory"])
def test_a_file_of_aufs_is_a_file(kind: str, arena: Arena) -> None:
    """What else has such a name is dropped, and links to it lead nowhere."""
    stored = {
        "symlink": symlink(".wh..wh.plnk/1.2", str(arena.outside / "secret")),
        "hardlink": hardlink(".wh..wh.plnk/1.2", "way"),
        "directory": directory(".wh..wh.plnk/1.2"),
    }
    found = arena.unpack(
        [[symlink("way", str(arena.outside / "secret")), stored[kind], hardlink("mine", ".wh..wh.plnk/1.2")]]
    )
    assert isinstance(found, UnsafeEntryError)


def test_a_name_with_a_nul_is_refused(arena: Arena) -> None:
    """Some readers cut the name there, and see another file."""
    record = pax_header([(b"path", b"own\0/../../outside/secret")])
    found = arena.unpack([[record, file("x", b"x")]])
    assert "NUL" in str(found)
