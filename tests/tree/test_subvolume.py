"""Subvolumes of btrfs: made, copied whole, told apart from changed ones, removed; and none of it elsewhere."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.namespaces import in_own_mounts
from tests.support.mounted import mounted_btrfs
from tests.support.probes import needs_btrfs, needs_tmpfs
from tests.tree.support import opened
from unpacker.tree import subvolume
from unpacker.tree.sync import sync_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def made(place: Path, name: str) -> Path:
    """Make a subvolume with a file and a directory in it."""
    with opened(place) as directory:
        assert subvolume.create(directory, name.encode())
    (place / name / "file").write_bytes(b"x" * 100_000)
    (place / name / "d").mkdir()
    return place / name


def copied(source: Path, target: Path, *, read_only: bool = False) -> Path:
    with opened(source) as tree, opened(target.parent) as directory:
        assert subvolume.snapshot(tree, directory, target.name.encode())
    if read_only:
        with opened(target) as tree:
            assert subvolume.set_writable(tree, writable=False)
    return target


def state(path: Path) -> str | None:
    with opened(path) as tree:
        return subvolume.state(tree)


@needs_btrfs
@in_own_mounts
def test_a_copy_is_whole_and_a_tree_of_its_own(tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    copy = copied(made(place, "a"), place / "b")

    (copy / "file").write_bytes(b"other")
    (copy / "d").rmdir()

    assert (place / "a/file").read_bytes() == b"x" * 100_000
    assert (place / "a/d").is_dir()
    assert (place / "a").stat().st_dev != copy.stat().st_dev


@needs_btrfs
@in_own_mounts
def test_a_directory_in_a_subvolume_is_no_tree_to_copy(tmp_path: Path) -> None:
    """Kernels before 6.14 took it for all that it lies in, and the copy had what nobody asked for."""
    place = mounted_btrfs(tmp_path)
    made(place, "a")

    with opened(place / "a/d") as inner, opened(place) as directory:
        assert not subvolume.snapshot(inner, directory, b"b")
        assert subvolume.state(inner) is None
        assert not subvolume.set_writable(inner, writable=False)
    assert sorted(os.listdir(place)) == ["a"]


def synced(path: Path) -> None:
    with opened(path) as directory:
        sync_filesystem(directory)


def write(path: Path) -> None:
    (path / "file").write_bytes(b"y" * 100_000)


def overwrite(path: Path) -> None:
    with open(path / "file", "r+b") as file:
        file.write(b"y")


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": write,
    "one byte": overwrite,
    "mode": lambda path: (path / "file").chmod(0o600),
    "owner": lambda path: os.chown(path / "file", 1, 1),
    "time": lambda path: os.utime(path / "file", ns=(0, 0)),
    "new": lambda path: (path / "new").touch(),
    "gone": lambda path: (path / "d").rmdir(),
    "the root": lambda path: path.chmod(0o755),
    "xattr": lambda path: os.setxattr(path / "file", "user.a", b"1"),
    "link": lambda path: os.link(path / "file", path / "d/link"),
}


@needs_btrfs
@in_own_mounts
def test_a_change_changes_the_state(tmp_path: Path) -> None:
    """By whoever made it writable for a moment; to read, copy or rename it is no change."""
    place = mounted_btrfs(tmp_path)
    first = made(place, "a")
    for what, change in CHANGES.items():
        kept = copied(first, place / what, read_only=True)
        before = state(kept)
        with pytest.raises(OSError, match="Read-only file system"):
            change(kept)
        assert (kept / "file").read_bytes()
        copy = copied(kept, place / f"copy {what}")
        kept = kept.rename(place / f"moved {what}")
        synced(place)
        assert before is not None
        assert state(kept) == before, what
        assert state(copy) != before, what

        with opened(kept) as tree:
            assert subvolume.set_writable(tree, writable=True)
            change(kept)
            assert subvolume.set_writable(tree, writable=False)
            synced(kept)

        assert state(kept) != before, what


@needs_btrfs
@in_own_mounts
def test_one_filesystem_is_told_from_another(tmp_path: Path) -> None:
    """By what all its subvolumes have in common, unlike their devices."""
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one, two = mounted_btrfs(tmp_path / "1"), mounted_btrfs(tmp_path / "2")
    found = []
    for path in (one, made(one, "a"), two):
        with opened(path) as directory:
            found.append(subvolume.filesystem(directory))

    assert found[0] == found[1] != found[2]
    with opened(one / "a") as tree, opened(two) as directory:
        assert not subvolume.snapshot(tree, directory, b"a")
    assert os.listdir(two) == []


@needs_btrfs
@in_own_mounts
def test_a_subvolume_is_destroyed_with_all_that_is_in_it(tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    made(place, "a")
    (place / "plain").mkdir()
    (place / "file").touch()

    with opened(place) as directory:
        assert subvolume.destroy(directory, b"a")
        for name in (b"plain", b"file", b"none"):
            assert not subvolume.destroy(directory, name)

    assert sorted(os.listdir(place)) == ["file", "plain"]


@needs_tmpfs
@in_own_mounts
def test_elsewhere_there_are_none(tmp_path: Path) -> None:
    """That is an answer, and no error."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    (tmp_path / "d").mkdir()
    with opened(tmp_path) as directory, opened(tmp_path / "d") as inner:
        assert subvolume.filesystem(directory) is None
        assert not subvolume.create(directory, b"new")
        assert not subvolume.snapshot(inner, directory, b"new")
        assert not subvolume.destroy(directory, b"d")
        assert not subvolume.set_writable(inner, writable=True)
        assert subvolume.state(inner) is None
    assert os.listdir(tmp_path) == ["d"]
