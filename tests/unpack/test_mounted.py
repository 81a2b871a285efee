"""DEST as a mount point, mounts in DEST, a layout that is mounted read-only."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import LayoutBuilder, write_layout
from tests.support.tarbuild import SECOND, directory, file, layer, symlink
from tests.support.tree import diff, read
from tests.unpack.command import command, hints, listing, refused, succeeded, unpack
from tests.unpack.namespace import Namespace, needs_mount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.tree import Tree

pytestmark = needs_mount

TAR = layer(
    directory("./", mode=0o751, mtime=7 * SECOND),
    directory("lost+found", mode=0o700, mtime=5 * SECOND),
    directory("etc", mode=0o555),
    file("etc/motd", b"welcome\n"),
    symlink("motd", "etc/motd"),
)


@pytest.fixture
def built(tmp_path: Path) -> LayoutBuilder:
    return write_layout(tmp_path / "layout", [TAR, layer(file("etc/issue", b"1"))])


@pytest.fixture
def good(built: LayoutBuilder, tmp_path: Path) -> Tree:
    succeeded(unpack("--no-labels", built.path, tmp_path / "good"))
    return read(tmp_path / "good")


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as made:
        yield made


def make(path: Path) -> Path:
    path.mkdir()
    return path


TMPFS = ("-t", "tmpfs", "-o", "mode=1777,nr_inodes=1000", "tmpfs")


@pytest.mark.parametrize("name", ["dest", "with blank", "back\\slash", "new\nline"], ids=ascii)
@pytest.mark.parametrize("how", ["tmpfs", "bind"])
def test_an_empty_mount_point_is_filled(
    namespace: Namespace, built: LayoutBuilder, good: Tree, tmp_path: Path, name: str, how: str
) -> None:
    """It cannot be renamed over; it stays, with the attributes of the image's root."""
    dest = make(tmp_path / name)
    source = make(tmp_path / "source")
    namespace.mount(*(TMPFS if how == "tmpfs" else ("--bind", source)), dest)
    before = namespace.path(dest).stat()

    succeeded(namespace.run(command("-q", built.path, dest)))

    after = namespace.path(dest).stat()
    assert diff(good, read(namespace.path(dest))) == []
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
    assert listing(dest) == [], "nothing has gone to what lies beneath the mount"


def test_a_mount_point_may_have_what_every_new_filesystem_has(
    namespace: Namespace, built: LayoutBuilder, good: Tree, tmp_path: Path
) -> None:
    """``mkfs.ext4`` makes ``lost+found``; a directory that an image has of the same name is put in its place."""
    dest = make(tmp_path / "dest")
    namespace.mount(*TMPFS, dest)
    namespace.path(dest / "lost+found").mkdir()

    succeeded(namespace.run(command("-q", built.path, dest)))

    assert diff(good, read(namespace.path(dest))) == []


def test_a_mount_point_is_as_it_was_if_the_image_is_damaged(
    namespace: Namespace, built: LayoutBuilder, tmp_path: Path
) -> None:
    """Empty, with its mode and time."""
    dest = make(tmp_path / "dest")
    namespace.mount(*TMPFS, dest)
    before = read(namespace.path(dest))
    built.flip(built.images[0].layers[1].digest)

    refused(namespace.run(command("-q", built.path, dest)), 4)

    assert read(namespace.path(dest)) == before


@pytest.mark.parametrize(
    ("words", "why"),
    [([], "exists and is not empty"), (["--force"], "is not empty, and cannot be replaced: it is a mount point")],
    ids=["plain", "force"],
)
def test_a_mount_point_that_is_not_empty_is_refused(
    namespace: Namespace, built: LayoutBuilder, tmp_path: Path, words: list[str], why: str
) -> None:
    """It could only be emptied, and that is not undone if something fails."""
    dest = make(tmp_path / "dest")
    namespace.mount(*TMPFS, dest)
    namespace.path(dest / "mine").touch()

    outcome = namespace.run(command("-q", *words, built.path, dest))

    assert refused(outcome, 6) == f"{dest}: {why}"
    assert hints(outcome) == []
    assert listing(namespace.path(dest)) == ["mine"]


@pytest.mark.parametrize("how", ["tmpfs", "bind"])
def test_force_never_reaches_into_what_is_mounted_in_dest(
    namespace: Namespace, built: LayoutBuilder, tmp_path: Path, how: str
) -> None:
    """``rootfs/home`` bound to somebody's files: they would be removed together with the old tree."""
    dest = tmp_path / "dest"
    (dest / "home/me").mkdir(parents=True)
    source = make(tmp_path / "files")
    (source / "precious").touch()
    namespace.mount(*(TMPFS if how == "tmpfs" else ("--bind", source)), dest / "home/me")
    namespace.path(dest / "home/me/precious").touch()

    line = refused(namespace.run(command("-q", "--force", built.path, dest)), 6)

    assert line == f"{dest}: cannot be replaced: '{dest}/home/me' in it is a mount point"
    assert listing(namespace.path(dest / "home/me")) == ["precious"]
    assert listing(tmp_path) == ["dest", "files", "layout"]


def test_a_mount_beside_dest_is_nothing_to_dest(
    namespace: Namespace, built: LayoutBuilder, good: Tree, tmp_path: Path
) -> None:
    """``dest2`` is not in ``dest``."""
    (tmp_path / "dest/old").mkdir(parents=True)
    namespace.mount(*TMPFS, make(tmp_path / "dest2"))

    succeeded(namespace.run(command("-q", "--force", built.path, tmp_path / "dest")))

    assert diff(good, read(tmp_path / "dest")) == []


def test_dest_below_a_mount_point_is_made_on_that_filesystem(
    namespace: Namespace, built: LayoutBuilder, good: Tree, tmp_path: Path
) -> None:
    """And the layout may be on another."""
    namespace.mount(*TMPFS, make(tmp_path / "mnt"))

    succeeded(namespace.run(command("-q", built.path, tmp_path / "mnt/a/dest")))

    assert diff(good, read(namespace.path(tmp_path / "mnt/a/dest"))) == []
    assert listing(namespace.path(tmp_path / "mnt/a")) == ["dest"]


def test_a_second_run_into_the_same_mount_point_is_refused_while_the_first_is_at_work(
    namespace: Namespace, tmp_path: Path
) -> None:
    """Both fill one directory, and their files would be mixed."""
    built = write_layout(tmp_path / "layout", [TAR])
    dest = make(tmp_path / "dest")
    namespace.mount("--bind", make(tmp_path / "source"), dest)
    held = os.open(tmp_path / "source", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        outcome = namespace.run(command("-q", built.path, dest))
    finally:
        os.close(held)

    assert refused(outcome, 6) == f"{dest}: is being filled by another run"
    assert listing(namespace.path(dest)) == []


# -- the layout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [False, True], ids=["no-labels", "labels"])
def test_a_layout_on_a_read_only_filesystem_is_unpacked(
    namespace: Namespace, built: LayoutBuilder, good: Tree, tmp_path: Path, labelled: bool
) -> None:
    """Without a word: labels are for those who can keep them."""
    assert not (built.path / "labels").exists()
    if labelled:
        (built.path / "labels/sha256").mkdir(parents=True)
    before = read(built.path)
    namespace.mount("--bind", built.path, built.path)
    namespace.mount("-o", "remount,bind,ro", built.path)

    succeeded(namespace.run(command("-q", built.path, tmp_path / "dest")))

    assert diff(good, read(tmp_path / "dest")) == []
    assert read(built.path) == before


def test_dest_on_a_read_only_filesystem_is_refused(namespace: Namespace, built: LayoutBuilder, tmp_path: Path) -> None:
    """Before the first layer is read."""
    namespace.mount(*TMPFS, make(tmp_path / "mnt"))
    namespace.path(tmp_path / "mnt/empty").mkdir()
    namespace.mount("-o", "remount,ro", tmp_path / "mnt")

    for name in ("new", "a/new", "empty"):
        line = refused(namespace.run(command("-q", built.path, tmp_path / "mnt" / name)), 6)
        assert line.endswith(": Read-only file system")
    assert listing(namespace.path(tmp_path / "mnt")) == ["empty"]
