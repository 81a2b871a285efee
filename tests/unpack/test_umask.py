"""The library under any file mode creation mask: it is the whole process's, so the library may not set it.

The command line sets its own; a caller of the library may have one that takes even the owner's rights.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.namespaces import in_own_mounts
from tests.support.layoutbuild import write_layout
from tests.support.mounted import mounted_btrfs
from tests.support.probes import NOBODY, needs_btrfs, needs_nobody, nobodys_directory, nobodys_python, run_as_nobody
from tests.support.tarbuild import directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff, files_below, read
from tests.unpack.command import environment

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

MASKS = [pytest.param(mask, id=f"{mask:04o}") for mask in (0o000, 0o022, 0o077, 0o277, 0o377, 0o777)]
TARS = (
    layer(
        directory("usr/lib/deep", mode=0o555),
        file("usr/lib/deep/file", b"file", mode=0o640),
        file("usr/lib/set", b"set", mode=0o4755),
        hardlink("usr/lib/link", "usr/lib/later"),
        file("usr/lib/later", b"later", mode=0o400),
        symlink("lib", "usr/lib"),
        directory("gone/deep"),
        file("gone/deep/file", b"gone"),
    ),
    layer(file("lib/new", b"new", mode=0o600), whiteout("usr/lib/set"), opaque("gone"), file("gone/kept", b"kept")),
)
PROGRAM = """
import os, sys, unpacker, unpacker.layer.ahead
from unpacker import ContentStore, Image, NativeSnapshotter, OverlaySnapshotter
unpacker.layer.ahead.WORTH = 0  # each layer a process, where there may be several
os.umask(int(sys.argv[1]))
unpacker.unpack("layout", "new/parents/dest")
unpacker.unpack("layout", "side", jobs=2)
unpacker.unpack("layout", "side", force=True)
unpacker.unpack("layout", "first", store="store")
unpacker.unpack("layout", "second", store="store")
image = Image.open("layout")
for kind in NativeSnapshotter, OverlaySnapshotter:
    for _ in range(2):  # what one has made, the next one must be able to read
        with kind(f"store {kind.kind}") as snapshots:
            image.unpack(snapshots)
            snapshots.prepare("key", str(image.chain_ids()[-1]))
            snapshots.commit("committed", "key")
            snapshots.remove("committed")
unpacker.copy_image(ContentStore("layout"), ContentStore("copy", create=True))
unpacker.copy_image(ContentStore("layout"), ContentStore("copy", create=True), name="again")
unpacker.unpack("copy:again", "copied")
"""
SUBVOLUME = 256
"""Inode number of the root of each."""
DESTS = ("new/parents/dest", "side", "first", "second", "copied")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """What comes out under the usual mask."""
    place = tmp_path_factory.mktemp("expected")
    write_layout(place / "layout", TARS)
    run([sys.executable, "-c", PROGRAM, str(0o022)], place)
    return read(place / "side")


def run(command: Sequence[str], place: Path) -> None:
    done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def check(place: Path, expected: Tree, ignore: Collection[str] = ()) -> None:
    """See that all ways lead to the same tree, and that whoever owns what was made can work with it."""
    for name in DESTS:
        assert diff(expected, read(place / name), ignore=ignore) == []
    for top in ("store", "store overlay", "store native", "copy"):
        for path in files_below(place / top):
            if "/fs/" not in str(path):
                wanted = stat.S_IRWXU if path.is_dir() else stat.S_IRUSR  # blobs have no more than this
                assert path.lstat().st_mode & wanted == wanted, path


@pytest.mark.parametrize("mask", MASKS)
def test_a_library_call_makes_the_same_of_an_image(mask: int, expected: Tree, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", TARS)
    run([sys.executable, "-c", PROGRAM, str(mask)], tmp_path)
    check(tmp_path, expected)


@needs_nobody
@pytest.mark.parametrize("mask", MASKS)
def test_without_privilege(mask: int, expected: Tree) -> None:
    """Root could work in a directory without any rights; nobody else can."""
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as place:
        write_layout(place / "layout", TARS)
        for path in (place / "layout", *files_below(place / "layout")):
            os.chown(path, NOBODY, NOBODY)
        run_as_nobody([python, "-c", PROGRAM, str(mask)], cwd=place)
        check(place, expected, ignore=["uid", "gid"])


@needs_btrfs
@needs_nobody
@in_own_mounts
def test_a_tree_that_is_copied_by_one_call(expected: Tree) -> None:
    """A subvolume is made by the kernel, with the mask taken off."""
    python = nobodys_python()
    assert python is not None
    program = "import os, unpacker; os.umask(0o777); [unpacker.unpack('layout', name, store='store') for name in 'ab']"
    with nobodys_directory() as around:
        place = mounted_btrfs(around)
        try:
            write_layout(place / "layout", TARS)
            for path in (place, place / "layout", *files_below(place / "layout")):
                os.chown(path, NOBODY, NOBODY)
            run_as_nobody([python, "-c", program], cwd=place)

            assert (place / "b").stat().st_ino == SUBVOLUME
            for name in "ab":
                assert diff(expected, read(place / name), ignore=["uid", "gid"]) == []
        finally:
            subprocess.run(["umount", place], check=True)
