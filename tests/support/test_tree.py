"""Trees as values: what is read from disk, and how two of them are compared."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.support.probes import needs_mknod, needs_user_xattr
from tests.support.tree import Node, diff, read, sketch, unprivileged

if TYPE_CHECKING:
    from pathlib import Path


def test_reads_every_kind(tmp_path: Path) -> None:
    """Files, directories, links of both kinds, fifos; without following or opening anything."""
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d/f").write_bytes(b"hi")
    os.link(tmp_path / "d/f", tmp_path / "again")
    (tmp_path / "s").symlink_to("/etc")
    os.mkfifo(tmp_path / "p")
    os.chmod(tmp_path / "d/f", 0o4711)
    os.utime(tmp_path / "d/f", ns=(1, 2))
    tree = read(tmp_path)
    assert next(iter(tree)) == b"."
    assert sketch(tree) == {
        "again": "file hi = again",
        "d": "directory",
        "d/f": "file hi = again",
        "p": "fifo",
        "s": "symlink /etc",
    }
    assert (tree[b"d/f"].mode, tree[b"d/f"].mtime_ns, tree[b"d/f"].size) == (0o4711, 2, 2)


@needs_mknod
def test_reads_devices(tmp_path: Path) -> None:
    """Major and minor number."""
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    assert sketch(read(tmp_path)) == {"null": "char 1:3"}
    assert sketch(unprivileged(read(tmp_path))) == {}


@needs_user_xattr
def test_reads_xattrs(tmp_path: Path) -> None:
    """Of files and directories, the root among them."""
    (tmp_path / "f").touch()
    os.setxattr(tmp_path / "f", "user.a", b"\0")
    os.setxattr(tmp_path, "user.b", b"")
    tree = read(tmp_path)
    assert tree[b"f"].xattrs == {b"user.a": b"\0"}
    assert tree[b"."].xattrs == {b"user.b": b""}


def test_names_are_bytes(tmp_path: Path) -> None:
    """Of any kind, and shown so that they can be read."""
    os.close(os.open(os.fsencode(tmp_path) + b"/\xe9\n", os.O_CREAT | os.O_WRONLY))
    assert list(read(tmp_path)) == [b".", b"\xe9\n"]
    assert list(sketch(read(tmp_path))) == ["\\\\xe9\\n"]


def test_deep_trees(tmp_path: Path) -> None:
    """Deeper than recursion goes, longer than a path may be, and without a descriptor for each level."""
    depth = 1500
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(b"dddd", dir_fd=descriptor)
        deeper = os.open(b"dddd", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    try:
        assert len(read(tmp_path)) == depth + 1
    finally:
        for _ in range(depth):  # rmtree cannot: what is left must be shallow
            shutil.move(tmp_path / "dddd", tmp_path / "gone")
            for child in (tmp_path / "gone").iterdir():
                child.rename(tmp_path / "dddd")
            (tmp_path / "gone").rmdir()


def test_reads_what_its_owner_may_not_read(tmp_path: Path) -> None:
    """As any caller, under every name, and leaves the modes as they are."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"hidden")
    os.link(tmp_path / "d/f", tmp_path / "again")
    (tmp_path / "d/f").chmod(0)
    (tmp_path / "d").chmod(0)
    try:
        for _ in range(2):
            tree = read(tmp_path)
            assert sketch(tree) == {"again": "file hidden = again", "d": "directory", "d/f": "file hidden = again"}
            assert [tree[path].mode for path in (b"again", b"d", b"d/f")] == [0, 0, 0]
    finally:
        (tmp_path / "d").chmod(0o700)


def test_diff_says_where() -> None:
    """A line for each path and field; some fields can be left out."""
    expected = {b".": Node(kind="directory"), b"a": Node(kind="file", mode=0o644), b"b": Node(kind="fifo")}
    actual = {b".": Node(kind="directory"), b"a": Node(kind="file", mode=0o600, uid=5), b"c": Node(kind="fifo")}
    assert diff(expected, expected) == []
    assert diff(expected, actual, ignore=["uid"]) == [
        "a: mode: expected 0644, got 0600",
        "b: missing (fifo)",
        "c: too much (fifo)",
    ]


def test_unprivileged_has_no_owners() -> None:
    """What is compared where nobody may chown."""
    assert unprivileged({b"a": Node(kind="file", uid=1, gid=2)}) == {b"a": Node(kind="file")}
