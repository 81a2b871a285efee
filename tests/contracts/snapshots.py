"""What every snapshotter does: containerd's suite (core/snapshots/testsuite), what it lists as unwritten, and ours.

An implementation runs it by a class with a fixture ``snapshots``, and ``again``, which opens the same store as another
process would::

    class TestMine(SnapshotterContract):
        @pytest.fixture
        def snapshots(self, tmp_path: Path) -> Iterator[StoreSnapshotter]: ...

Where a case writes, it writes through real mounts; what it saw there must be what the committed snapshot shows, and what
a copy out of the store is.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.namespaces import in_own_mounts
from tests.support.probes import can_set_user_xattr, needs_chown, needs_mknod, needs_overlay
from tests.support.tree import Tree, diff, read, sketch
from unpacker.errors import (
    AlreadyExistsError,
    FilesystemError,
    SnapshotNotFoundError,
    SnapshotStateError,
    UsageError,
)
from unpacker.layer.clone import clone
from unpacker.snapshots.mounting import temporary
from unpacker.snapshots.snapshotter import Info, Kind
from unpacker.tree import directory
from unpacker.tree.attributes import Applier, implied
from unpacker.tree.copy import Copier
from unpacker.tree.finish import finish_directories, finish_root
from unpacker.tree.owners import Owners

if TYPE_CHECKING:
    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.mounts import Mount

Again = Callable[[], "StoreSnapshotter"]
Change = Callable[[Path], object]

COARSE = 20_000_000
"""Nanoseconds by which the clock of a filesystem may be behind that of the program."""


@contextmanager
def mounted(mounts: list[Mount]) -> Iterator[Path]:
    with temporary(mounts) as place:
        yield Path(place)


def make(snapshots: StoreSnapshotter, name: str, parent: str | None = None, *changes: Change) -> str:
    """Write a snapshot through its mount and commit it: what was seen is what is there."""
    with mounted(snapshots.prepare(f"making {name}", parent)) as root:
        for change in changes:
            change(root)
        before = read(root)
    snapshots.commit(name, f"making {name}")
    assert diff(before, seen(snapshots, name)) == []
    assert diff(before, copied(snapshots, name)) == []
    return name


def seen(snapshots: StoreSnapshotter, name: str) -> Tree:
    """Read a committed snapshot through a view, of which nothing stays."""
    with mounted(snapshots.view(f"looking at {name}", name)) as root:
        tree = read(root)
    snapshots.remove(f"looking at {name}")
    return tree


def copied(snapshots: StoreSnapshotter, name: str) -> Tree:
    """Copy a committed snapshot out of the store, and read the copy."""
    losses: list[str] = []
    applier = Applier(Owners(apply=True).on_host(), lambda _kind, _path, reason: losses.append(reason), 0o777)
    with tempfile.TemporaryDirectory() as place:
        with directory.Tree(os.open(place, directory.OPEN_DIRECTORY)) as tree:
            with snapshots.opened(name) as stack:
                clone(stack, tree, Copier(applier))
            finish_directories(tree, applier)
            finish_root(tree.descriptor(tree.root), tree.root.attributes or implied(), applier)
        assert losses == []
        return read(place)


def names(snapshots: StoreSnapshotter, *filters: str) -> list[str]:
    return sorted(info.name for info in snapshots.walk(*filters))


# -- changes -----------------------------------------------------------------------------------------------------------


def write(path: str, content: str, mode: int = 0o644) -> Change:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
        (root / path).chmod(mode)

    return change


def make_directory(path: str, mode: int = 0o755) -> Change:
    def change(root: Path) -> None:
        (root / path).mkdir(parents=True)
        (root / path).chmod(mode)

    return change


def remove(path: str) -> Change:
    return lambda root: (root / path).unlink()


def remove_all(path: str) -> Change:
    import shutil  # noqa: PLC0415 -- one case

    return lambda root: shutil.rmtree(root / path)


def chown(path: str, uid: int, gid: int) -> Change:
    return lambda root: os.lchown(root / path, uid, gid)


def chmod(path: str, mode: int) -> Change:
    return lambda root: (root / path).chmod(mode)


def rename(old: str, new: str) -> Change:
    return lambda root: (root / old).rename(root / new)


def link(old: str, new: str) -> Change:
    return lambda root: os.link(root / old, root / new)


def symlink(path: str, target: str) -> Change:
    return lambda root: (root / path).symlink_to(target)


def bind_socket(path: str) -> Change:
    def change(root: Path) -> None:
        place = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(f"/proc/self/fd/{place}/{path}")  # the name of a socket is 107 bytes at most
        finally:
            os.close(place)

    return change


class SnapshotterContract:
    """The cases."""

    @pytest.fixture
    def snapshots(self) -> Iterator[StoreSnapshotter]:
        """Give a snapshotter over an empty store."""
        raise NotImplementedError

    @pytest.fixture
    def again(self) -> Again:
        """Open the same store once more."""
        raise NotImplementedError

    # -- the life of a snapshot ----------------------------------------------------------------------------------------

    @needs_overlay
    @in_own_mounts
    def test_basic(self, snapshots: StoreSnapshotter, again: Again) -> None:
        """Prepared, written, committed, built upon, viewed, and removed from the top down."""
        with mounted(snapshots.prepare("first")) as root:
            write("foo", "foo")(root)
            make_directory("a/b/c")(root)
        snapshots.commit("base", "first", {"layer": "1"})
        with pytest.raises(SnapshotNotFoundError):
            snapshots.stat("first")
        info = again().stat("base")
        assert (info.name, info.kind, info.parent, info.labels) == ("base", Kind.COMMITTED, None, {"layer": "1"})

        with mounted(snapshots.prepare("second", "base")) as root:
            write("bar", "bar")(root)
            write("foo", "foo, changed")(root)
            assert sketch(read(root)) == {
                "a": "directory",
                "a/b": "directory",
                "a/b/c": "directory",
                "bar": "file bar",
                "foo": "file foo, changed",
            }
        assert again().stat("second").parent == "base"
        snapshots.commit("top", "second")
        assert snapshots.stat("top").parent == "base"
        assert sketch(seen(again(), "base")) == {
            "a": "directory",
            "a/b": "directory",
            "a/b/c": "directory",
            "foo": "file foo",
        }
        snapshots.view("view", "top")
        assert names(snapshots) == ["base", "top", "view"]

        for name in ("base", "top"):
            with pytest.raises(SnapshotStateError, match="has a child"):
                snapshots.remove(name)
        for name in ("view", "top", "base"):
            snapshots.remove(name)
        assert names(again()) == []
        assert snapshots.cleanup() == 0

    @pytest.mark.parametrize("kind", [Kind.ACTIVE, Kind.VIEW])
    def test_stat_of_an_active_snapshot(self, snapshots: StoreSnapshotter, again: Again, kind: Kind) -> None:
        snapshots.prepare("a")
        snapshots.commit("base", "a")
        began = time.time_ns() - COARSE
        (snapshots.prepare if kind is Kind.ACTIVE else snapshots.view)("key", "base", {"k": "v"})
        info = again().stat("key")
        assert (info.name, info.kind, info.parent, info.labels) == ("key", kind, "base", {"k": "v"})
        assert began <= info.created == info.updated <= time.time_ns()

    def test_stat_of_a_committed_snapshot(self, snapshots: StoreSnapshotter, again: Again) -> None:
        """Its labels are those of the commit, and none of what it was prepared with."""
        snapshots.prepare("key", labels={"prepared": "1"})
        began = time.time_ns() - COARSE
        snapshots.commit("name", "key", {"committed": "1"})
        info = again().stat("name")
        assert (info.name, info.kind, info.parent, info.labels) == ("name", Kind.COMMITTED, None, {"committed": "1"})
        assert began <= info.created == info.updated <= time.time_ns()

    def test_parents_go_all_the_way_down(self, snapshots: StoreSnapshotter) -> None:
        """containerd's Transitivity."""
        parent = None
        for name in ("one", "two", "three"):
            snapshots.prepare("key", parent)
            snapshots.commit(name, "key")
            assert snapshots.stat(name).parent == parent
            parent = name
        snapshots.view("view", "three")
        assert [record.name for record in snapshots.chain("three")] == ["three", "two", "one"]
        assert snapshots.stat("view").parent == "three"

    @pytest.mark.parametrize("first", ["prepare", "view"])
    @pytest.mark.parametrize("second", ["prepare", "view"])
    def test_a_key_is_taken_once(self, snapshots: StoreSnapshotter, first: str, second: str) -> None:
        """containerd's PrepareViewFailing."""
        snapshots.prepare("a")
        snapshots.commit("base", "a")
        getattr(snapshots, first)("key", "base")
        with pytest.raises(AlreadyExistsError, match="snapshot 'key' exists already"):
            getattr(snapshots, second)("key", "base")
        with pytest.raises(AlreadyExistsError, match="snapshot 'base' exists already"):
            getattr(snapshots, second)("base")
        assert names(snapshots) == ["base", "key"]
        assert snapshots.cleanup() == 0

    def test_what_a_parent_must_be(self, snapshots: StoreSnapshotter) -> None:
        snapshots.prepare("active")
        for call in (snapshots.prepare, snapshots.view):
            with pytest.raises(SnapshotNotFoundError):
                call("key", "nothing")
            with pytest.raises(SnapshotStateError, match="snapshot 'active': is not committed"):
                call("key", "active")
        assert names(snapshots) == ["active"]

    def test_what_cannot_be_committed(self, snapshots: StoreSnapshotter) -> None:
        """Nothing, a view, and what would take a name that is taken, be it a key's: nothing changes then."""
        for name in ("first", "second", "third"):
            snapshots.prepare(name)
        snapshots.commit("base", "first")
        snapshots.view("view", "base")
        with pytest.raises(SnapshotNotFoundError):
            snapshots.commit("name", "nothing")
        with pytest.raises(SnapshotNotFoundError):
            snapshots.commit("name", "base")
        with pytest.raises(SnapshotStateError, match="snapshot 'view': is a view"):
            snapshots.commit("name", "view")
        for taken in ("base", "second", "third"):
            with pytest.raises(AlreadyExistsError):
                snapshots.commit(taken, "second")
        assert names(snapshots) == ["base", "second", "third", "view"]
        snapshots.commit("free", "second")

    @pytest.mark.parametrize("call", ["stat", "usage", "mounts", "remove"])
    def test_what_is_not_there(self, snapshots: StoreSnapshotter, call: str) -> None:
        with pytest.raises(SnapshotNotFoundError, match="'nothing'"):
            getattr(snapshots, call)("nothing")
        with pytest.raises(SnapshotNotFoundError, match="'nothing'"):
            snapshots.update(snapshots_info("nothing"))

    def test_close_twice(self, snapshots: StoreSnapshotter) -> None:
        snapshots.close()
        snapshots.close()

    # -- names ---------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "name",
        ["../../x", "/etc/passwd", "a/b", ".", "..", "a\0b", "\n", "\N{SNOWMAN}", "n" * 4096, "sha256:" + "0" * 64],
        ids=lambda name: ascii(name[:12]),
    )
    def test_any_name_will_do(self, snapshots: StoreSnapshotter, again: Again, name: str) -> None:
        """None of them is a path."""
        outside = sorted(os.listdir(os.path.dirname(snapshots.catalog.root)))
        snapshots.prepare(name, labels={"k": "v"})
        assert again().stat(name).labels == {"k": "v"}
        snapshots.commit("committed", name)
        snapshots.prepare("key", "committed")
        snapshots.commit(name, "key")
        assert again().stat(name).parent == "committed"
        assert snapshots.mounts(name)
        snapshots.remove(name)
        snapshots.remove("committed")
        assert names(again()) == []
        assert sorted(os.listdir(os.path.dirname(snapshots.catalog.root))) == outside

    @pytest.mark.parametrize(
        ("name", "why"),
        [("", "is empty"), ("n" * 4097, "longer than 4096 bytes"), ("\udc80", "not Unicode text")],
        ids=["empty", "long", "surrogate"],
    )
    def test_what_is_no_name(self, snapshots: StoreSnapshotter, name: str, why: str) -> None:
        """It would not be found again, or make a record that nobody can read."""
        snapshots.prepare("key")
        for call in (snapshots.prepare, snapshots.view, lambda name: snapshots.commit(name, "key")):
            with pytest.raises(UsageError, match=why):
                call(name)
        for read_one in (snapshots.stat, snapshots.usage, snapshots.mounts, snapshots.remove):
            with pytest.raises(SnapshotNotFoundError):
                read_one(name)
        assert names(snapshots) == ["key"]

    # -- labels --------------------------------------------------------------------------------------------------------

    def test_update(self, snapshots: StoreSnapshotter, again: Again) -> None:
        """Labels change, all of them or some; nothing else does, but the time of the update."""
        snapshots.prepare("key")
        snapshots.commit("name", "key", {"a": "1", "b": "2"})
        before = snapshots.stat("name")

        info = snapshots.update(before.changed(labels={"a": "9", "c": "3"}), "labels.a", "labels.b")
        assert info == again().stat("name")
        assert info.labels == {"a": "9"}
        assert info.changed(labels=before.labels, updated=before.updated) == before
        assert info.updated > before.updated

        info = snapshots.update(info.changed(labels={"x": "y"}, parent="other", kind=Kind.VIEW, created=0))
        assert (info.labels, info.parent, info.kind, info.created) == (
            {"x": "y"},
            None,
            Kind.COMMITTED,
            before.created,
        )
        for path in ("parent", "name", "kind", "created", "labels."):
            with pytest.raises(UsageError, match="cannot be updated"):
                snapshots.update(info, path)
        assert again().stat("name") == info

    def test_update_of_an_active_snapshot(self, snapshots: StoreSnapshotter, again: Again) -> None:
        snapshots.prepare("key", labels={"a": "1"})
        snapshots.update(snapshots_info("key", {"b": "2"}), "labels.b")
        assert again().stat("key").labels == {"a": "1", "b": "2"}
        snapshots.commit("name", "key")
        assert again().stat("name").labels == {}

    @pytest.mark.parametrize(
        "labels",
        [{"k": "v" * 4096}, {"": "v"}, {"k": "\ud800"}],
        ids=["long", "no key", "surrogate"],
    )
    def test_labels_that_cannot_be_kept(self, snapshots: StoreSnapshotter, labels: dict[str, str]) -> None:
        snapshots.prepare("key")
        with pytest.raises(UsageError, match="label"):
            snapshots.prepare("other", labels=labels)
        with pytest.raises(UsageError, match="label"):
            snapshots.commit("name", "key", labels)
        with pytest.raises(UsageError, match="label"):
            snapshots.update(snapshots_info("key", labels))
        assert names(snapshots) == ["key"]

    # -- walk ----------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ([], ["base", "key", "top", "view"]),
            (["name==base"], ["base"]),
            (["name!=base"], ["key", "top", "view"]),
            (["name~=^[bk]"], ["base", "key"]),
            (["kind==committed"], ["base", "top"]),
            (["kind==active"], ["key"]),
            (["kind==view"], ["view"]),
            (["parent==base"], ["top"]),
            (["parent==top"], ["key", "view"]),
            (["parent"], ["key", "top", "view"]),
            (["labels.k==v"], ["key", "top"]),
            (["labels.k"], ["base", "key", "top"]),
            (['labels."with.dots/and slash"==yes'], ["view"]),
            (["kind==committed,labels.k==v"], ["top"]),
            (["name==base", "name==view"], ["base", "view"]),
            (["name==nothing"], []),
            (["size==3"], []),
        ],
        ids=str,
    )
    def test_walk_with_filters(self, snapshots: StoreSnapshotter, filters: list[str], expected: list[str]) -> None:
        snapshots.prepare("a")
        snapshots.commit("base", "a", {"k": "w"})
        snapshots.prepare("b", "base")
        snapshots.commit("top", "b", {"k": "v"})
        snapshots.prepare("key", "top", {"k": "v"})
        snapshots.view("view", "top", {"with.dots/and slash": "yes"})

        if filters == ["size==3"]:
            with pytest.raises(UsageError):
                names(snapshots, *filters)
        else:
            assert names(snapshots, *filters) == expected

    def test_calls_within_a_walk(self, snapshots: StoreSnapshotter) -> None:
        """containerd's StatInWalk, and remove-in-walk, which it has not written: neither waits for ever."""
        for number in range(3):
            snapshots.prepare(f"key {number}")
        met = []
        for info in snapshots.walk():
            assert snapshots.stat(info.name) == info
            snapshots.remove(info.name)
            met.append(info.name)
        assert sorted(met) == ["key 0", "key 1", "key 2"]
        assert names(snapshots) == []

    # -- remove --------------------------------------------------------------------------------------------------------

    def test_remove(self, snapshots: StoreSnapshotter, again: Again) -> None:
        """Keys and names can be used again, by other parents."""
        snapshots.prepare("key")
        snapshots.commit("one", "key")
        snapshots.prepare("key", "one")
        snapshots.remove("key")
        snapshots.prepare("key")
        assert again().stat("key").parent is None
        snapshots.commit("two", "key")
        snapshots.remove("one")
        snapshots.prepare("key", "two")
        snapshots.commit("one", "key")
        assert again().stat("one").parent == "two"

    @needs_overlay
    @in_own_mounts
    def test_remove_after_commit(self, snapshots: StoreSnapshotter) -> None:
        """Unwritten in containerd: what is removed is gone from the disk, and its key is free again."""
        make(snapshots, "name", None, write("big", "x" * 100_000))
        snapshots.remove("name")
        with pytest.raises(SnapshotNotFoundError):
            snapshots.remove("name")
        left = [path for path in Path(snapshots.catalog.root).rglob("*") if path.name == "big"]
        assert left == []
        make(snapshots, "name", None, write("other", "y"))
        assert sketch(seen(snapshots, "name")) == {"other": "file y"}

    @needs_overlay
    @in_own_mounts
    def test_remove_an_intermediate_snapshot(self, snapshots: StoreSnapshotter) -> None:
        """Not while something stands on it; afterwards the one below can be built upon as before."""
        make(snapshots, "base", None, write("a", "1"))
        make(snapshots, "middle", "base", write("b", "2"))
        make(snapshots, "top", "middle", write("c", "3"))
        with pytest.raises(SnapshotStateError, match="snapshot 'middle': has a child, 'top'"):
            snapshots.remove("middle")
        snapshots.remove("top")
        snapshots.remove("middle")
        make(snapshots, "other", "base", write("d", "4"))
        assert sketch(seen(snapshots, "other")) == {"a": "file 1", "d": "file 4"}

    def test_what_a_process_needs_is_not_removed(self, snapshots: StoreSnapshotter, again: Again) -> None:
        """An unpack holds a lease: it would fail in the middle, or leave a snapshot without its parent."""
        snapshots.prepare("key")
        snapshots.commit("name", "key")
        with again().catalog.lease(["name"]):
            with pytest.raises(SnapshotStateError, match="snapshot 'name': is in use by a running process"):
                snapshots.remove("name")
            assert names(snapshots) == ["name"]
        snapshots.remove("name")

    # -- what is written -----------------------------------------------------------------------------------------------

    @needs_overlay
    @in_own_mounts
    def test_a_file_changes_though_size_and_time_stay(self, snapshots: StoreSnapshotter) -> None:
        """containerd's LayerFileUpdate."""

        def backdate(root: Path) -> None:
            os.utime(root / "etc/file", ns=(10**9, 10**9))

        make(snapshots, "one", None, write("etc/file", "hello"), backdate)
        make(snapshots, "two", "one", write("etc/file", "world"), backdate)
        make(snapshots, "three", "two", write("etc/other", "x"))
        assert sketch(seen(snapshots, "three")) == {
            "etc": "directory",
            "etc/file": "file world",
            "etc/other": "file x",
        }
        assert sketch(seen(snapshots, "one"))["etc/file"] == "file hello"

    @needs_overlay
    @in_own_mounts
    def test_remove_a_directory_of_a_lower_layer(self, snapshots: StoreSnapshotter) -> None:
        """And make it again: what was in it stays away, for the layers above as well."""
        make(snapshots, "one", None, write("dir/a", "1"), write("dir/sub/b", "2"))
        make(snapshots, "two", "one", remove_all("dir"), write("dir/c", "3"))
        make(snapshots, "three", "two", write("dir/d", "4"), make_directory("dir/sub"))
        assert sketch(seen(snapshots, "three")) == {
            "dir": "directory",
            "dir/c": "file 3",
            "dir/d": "file 4",
            "dir/sub": "directory",
        }

    @needs_overlay
    @needs_chown
    @in_own_mounts
    def test_chown(self, snapshots: StoreSnapshotter) -> None:
        """Of files, links and directories, and without anything else about them."""
        make(snapshots, "one", None, write("opt/a", "1"), symlink("opt/l", "a"), chown("opt", 1, 2))
        make(snapshots, "two", "one", chown("opt/a", 3, 4), chown("opt/l", 5, 6), chown("opt", 7, 8))
        tree = seen(snapshots, "two")
        owners = {path: (node.uid, node.gid) for path, node in tree.items() if path != b"."}
        assert owners == {b"opt": (7, 8), b"opt/a": (3, 4), b"opt/l": (5, 6)}
        assert tree[b"opt/a"].content == b"1"

    @needs_overlay
    @in_own_mounts
    def test_chmod(self, snapshots: StoreSnapshotter) -> None:
        """Unwritten in containerd: setuid and unreadable directories among the modes."""
        make(snapshots, "one", None, write("dir/a", "1"), make_directory("private", 0o700), write("tool", "x"))
        make(snapshots, "two", "one", chmod("dir/a", 0o000), chmod("private", 0o1777), chmod("tool", 0o6755))
        make(snapshots, "three", "two", chmod("dir", 0o000), chmod("tool", 0o755))
        modes = {path: oct(node.mode) for path, node in seen(snapshots, "three").items() if path != b"."}
        assert modes == {b"dir": "0o0", b"dir/a": "0o0", b"private": "0o1777", b"tool": "0o755"}

    @needs_overlay
    @in_own_mounts
    def test_modes_of_directories_survive_the_commit(self, snapshots: StoreSnapshotter) -> None:
        """containerd's DirectoryPermissionOnCommit: also of those that a layer only passes through."""
        changes = [make_directory(f"dir{mode:o}", mode) for mode in (0o700, 0o755, 0o555, 0o1777, 0o2775)]
        make(snapshots, "one", None, *changes)
        make(snapshots, "two", "one", *(write(f"dir{mode:o}/file", "x") for mode in (0o700, 0o555, 0o1777)))
        make(snapshots, "three", "two", write("dir2775/file", "x"))
        tree = seen(snapshots, "three")
        modes = {path: f"{node.mode:o}" for path, node in tree.items() if node.kind == "directory" and path != b"."}
        assert modes == {path: path.removeprefix(b"dir").decode() for path in modes}
        assert len(modes) == 5

    @needs_overlay
    @in_own_mounts
    def test_files_deleted_in_a_child(self, snapshots: StoreSnapshotter) -> None:
        """They stay away in grandchildren, and may come back as something else."""
        make(snapshots, "one", None, write("foo", "1"), write("bar", "2"), write("d/x", "3"))
        make(snapshots, "two", "one", remove("foo"), remove("d/x"))
        make(snapshots, "three", "two", make_directory("foo"), symlink("d/x", "nowhere"))
        assert sketch(seen(snapshots, "two")) == {"bar": "file 2", "d": "directory"}
        assert sketch(seen(snapshots, "three")) == {
            "bar": "file 2",
            "d": "directory",
            "d/x": "symlink nowhere",
            "foo": "directory",
        }

    @needs_overlay
    @in_own_mounts
    def test_a_file_of_a_lower_layer_moves(self, snapshots: StoreSnapshotter) -> None:
        """containerd's MoveFileFromLowerLayer: linked elsewhere, then deleted where it was."""
        make(snapshots, "one", None, write("dir1/f1", "hello"), write("dir1/f2", "stays"), make_directory("dir2"))
        make(snapshots, "two", "one", link("dir1/f1", "dir2/f1"), remove("dir1/f1"), link("dir1/f2", "dir2/f2"))
        make(snapshots, "three", "two", rename("dir2/f1", "f1"))
        assert sketch(seen(snapshots, "three")) == {
            "dir1": "directory",
            "dir1/f2": "file stays = dir1/f2",
            "dir2": "directory",
            "dir2/f2": "file stays = dir1/f2",
            "f1": "file hello",
        }

    @needs_overlay
    @in_own_mounts
    def test_rename(self, snapshots: StoreSnapshotter) -> None:
        """Files and directories of this layer and of one below; the kernel refuses what a layer could not say (EXDEV)."""
        make(snapshots, "one", None, write("dir1/a", "1"), write("b", "2"), write("gone", "3"))
        make(
            snapshots,
            "two",
            "one",
            write("new/c", "4"),
            rename("new", "renamed"),
            rename("b", "dir1/b"),
            remove("gone"),
        )
        assert sketch(seen(snapshots, "two")) == {
            "dir1": "directory",
            "dir1/a": "file 1",
            "dir1/b": "file 2",
            "renamed": "directory",
            "renamed/c": "file 4",
        }

    @needs_overlay
    @in_own_mounts
    def test_a_view_is_read_only(self, snapshots: StoreSnapshotter) -> None:
        """Also one of nothing; and so is what is mounted of a committed snapshot."""
        make(snapshots, "one", None, write("a", "1"))
        make(snapshots, "two", "one", write("b", "2"))
        for mounts in (
            snapshots.view("0"),
            snapshots.view("1", "one"),
            snapshots.view("2", "two"),
            snapshots.mounts("one"),
            snapshots.mounts("two"),
        ):
            with mounted(mounts) as root:
                with pytest.raises(OSError, match="Read-only file system"):
                    write("c", "3")(root)
                with pytest.raises(OSError, match="Read-only file system"):
                    os.mknod(root / "fifo", stat.S_IFIFO)

    @needs_overlay
    @in_own_mounts
    def test_the_root_is_0755_whatever_the_umask(self, snapshots: StoreSnapshotter) -> None:
        """containerd's RootPermission, with both ends of masks; the store itself is for its owner alone."""
        for number, mask in enumerate((0o000, 0o077)):
            os.umask(mask)  # of this thread, which has a filesystem context of its own
            with mounted(snapshots.prepare(f"key {number}")) as root:
                assert stat.S_IMODE(root.stat().st_mode) == 0o755
            snapshots.commit(f"name {number}", f"key {number}")
            with mounted(snapshots.view(f"view {number}", f"name {number}")) as root:
                assert stat.S_IMODE(root.stat().st_mode) == 0o755
        for path, directories, _ in os.walk(snapshots.catalog.root):
            if path.endswith("/fs"):
                directories.clear()
            else:
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o700, path

    @needs_overlay
    @needs_chown
    @in_own_mounts
    def test_the_root_has_attributes_as_well(self, snapshots: StoreSnapshotter) -> None:
        """containerd makes every root 0755 again; here a child's root is its parent's until it is changed."""

        def mark(root: Path) -> None:
            root.chmod(0o1711)
            os.chown(root, 3, 4)
            if can_set_user_xattr():
                os.setxattr(root, "user.note", b"root")

        make(snapshots, "one", None, mark)
        make(snapshots, "two", "one", write("a", "1"))
        make(snapshots, "three", "two", chmod(".", 0o700))
        two, three = (seen(snapshots, name)[b"."] for name in ("two", "three"))
        assert (two.mode, two.uid, two.gid) == (0o1711, 3, 4)
        assert (three.mode, three.uid, three.gid) == (0o700, 3, 4)
        assert two.xattrs == three.xattrs == ({b"user.note": b"root"} if can_set_user_xattr() else {})

    @needs_overlay
    @in_own_mounts
    def test_sockets(self, snapshots: StoreSnapshotter) -> None:
        """Unwritten in containerd: what a daemon left in its layer is a node like others, though no tar can hold it."""
        make(snapshots, "one", None, make_directory("run"), bind_socket("run/socket"))
        make(snapshots, "two", "one", chmod("run/socket", 0o600), bind_socket("other"))
        make(snapshots, "three", "two", remove("run/socket"))
        assert sketch(seen(snapshots, "two")) == {"run": "directory", "run/socket": "socket", "other": "socket"}
        assert sketch(seen(snapshots, "three")) == {"run": "directory", "other": "socket"}

    @needs_overlay
    @needs_mknod
    @in_own_mounts
    def test_nodes(self, snapshots: StoreSnapshotter) -> None:
        make(
            snapshots,
            "one",
            None,
            lambda root: os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
            lambda root: os.mknod(root / "loop", stat.S_IFBLK | 0o600, os.makedev(7, 0)),
            lambda root: os.mkfifo(root / "fifo"),
        )
        make(snapshots, "two", "one", chmod("null", 0o600), remove("loop"))
        assert sketch(seen(snapshots, "two")) == {"fifo": "fifo", "null": "char 1:3"}

    @needs_overlay
    @in_own_mounts
    def test_inodes_are_stable(self, snapshots: StoreSnapshotter) -> None:
        """Unwritten in containerd: a file that is not written to keeps its inode, in each mount of one snapshot."""
        make(snapshots, "one", None, write("d/a", "1"), write("d/b", "2"))
        make(snapshots, "two", "one", write("d/c", "3"))
        with mounted(snapshots.prepare("key", "two")) as root:
            before = {name: (root / "d" / name).stat().st_ino for name in "abc"}
            write("d/new", "4")(root)
            (root / "d/b").chmod(0o600)
            assert {name: (root / "d" / name).stat().st_ino for name in "abc"} == before
        snapshots.view("view", "two")
        found = []
        for _ in range(2):
            with mounted(snapshots.mounts("view")) as root:
                found.append({name: (root / "d" / name).stat().st_ino for name in "abc"})
        assert found[0] == found[1]

    @needs_overlay
    @in_own_mounts
    def test_128_layers(self, snapshots: StoreSnapshotter) -> None:
        """containerd's 128LayersMount: one file of each, and one that all of them write."""
        parent = None
        for number in range(128):
            with (
                mounted(snapshots.prepare("key", parent))
                if number in (0, 1, 127)
                else placed(snapshots, parent) as root
            ):
                write(f"file{number}", str(number))(root)
                write("all", str(number))(root)
            parent = f"layer {number}"
            snapshots.commit(parent, "key")
        assert parent is not None
        expected = {"all": "file 127", **{f"file{number}": f"file {number}" for number in range(128)}}
        assert sketch(seen(snapshots, parent)) == dict(sorted(expected.items()))
        assert sketch(copied(snapshots, parent)) == dict(sorted(expected.items()))

    # -- usage ---------------------------------------------------------------------------------------------------------

    @needs_overlay
    @in_own_mounts
    def test_usage(self, snapshots: StoreSnapshotter) -> None:
        """Of an active snapshot as it grows, of a committed one as it was; hard links are one inode."""
        mounts = snapshots.prepare("key")
        empty = snapshots.usage("key")
        assert empty.inodes == 1
        with mounted(mounts) as root:
            write("a", "x" * 100_000)(root)
            link("a", "b")(root)
            make_directory("d")(root)
        grown = snapshots.usage("key")
        assert grown.inodes == 3
        assert grown.size >= empty.size + 100_000
        snapshots.commit("name", "key")
        assert snapshots.usage("name") == grown

    # -- at the same time ----------------------------------------------------------------------------------------------

    def test_one_of_many_gets_a_key_and_a_name(self, snapshots: StoreSnapshotter, again: Again) -> None:
        """Threads that prepare one key, commit to one name, and remove it: one each, the others are told."""

        def race(call: Callable[[StoreSnapshotter, int], object]) -> list[type[BaseException] | None]:
            results: list[type[BaseException] | None] = []
            start = threading.Barrier(4)

            def run(number: int) -> None:
                mine = again()
                start.wait()
                try:
                    call(mine, number)
                except (FilesystemError, SnapshotNotFoundError) as error:
                    results.append(type(error))
                else:
                    results.append(None)
                mine.close()

            threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return sorted(results, key=str)

        lost: list[type[BaseException] | None] = [AlreadyExistsError] * 3
        gone: list[type[BaseException] | None] = [SnapshotNotFoundError] * 3
        for turn in range(3):
            assert race(lambda mine, _: mine.prepare("key")) == sorted([None, *lost], key=str)
            snapshots.remove("key")
            for number in range(4):
                snapshots.prepare(f"key {number}")
            name = f"name {turn}"
            assert race(lambda mine, number, name=name: mine.commit(name, f"key {number}")) == sorted(  # type: ignore[misc]
                [None, *lost], key=str
            )
            for info in list(snapshots.walk("kind==active")):
                snapshots.remove(info.name)
            snapshots.prepare("once")
            assert race(lambda mine, number, name=name: mine.commit(f"{name} {number}", "once")) == sorted(  # type: ignore[misc]
                [None, *gone], key=str
            )
            assert race(lambda mine, _, name=name: mine.remove(name)) == sorted([None, *gone], key=str)  # type: ignore[misc]
        assert snapshots.cleanup() == 0
        assert len(names(snapshots)) == 3

    def test_labels_of_many_writers(self, snapshots: StoreSnapshotter, again: Again) -> None:
        """None is lost."""
        snapshots.prepare("key")

        def run(number: int) -> None:
            mine = again()
            for turn in range(10):
                label = f"{number}.{turn}"
                mine.update(snapshots_info("key", {label: "x"}), f"labels.{label}")
            mine.close()

        threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(snapshots.stat("key").labels) == 40

    def test_a_child_never_loses_its_parent(self, snapshots: StoreSnapshotter, again: Again) -> None:
        """However prepare and remove meet: either the parent stays, or there is no child."""
        for _ in range(10):
            snapshots.prepare("a")
            snapshots.commit("base", "a")
            start = threading.Barrier(2)

            def remover() -> None:
                mine = again()
                start.wait()  # noqa: B023 -- the thread ends within the turn
                try:
                    mine.remove("base")
                except SnapshotStateError:
                    pass
                finally:
                    mine.close()

            thread = threading.Thread(target=remover)
            thread.start()
            start.wait()
            try:
                snapshots.prepare("key", "base")
            except SnapshotNotFoundError:
                assert names(snapshots) == []
            thread.join()
            for info in list(snapshots.walk("kind==active")):
                assert snapshots.chain("base")
                snapshots.remove(info.name)
            if names(snapshots):
                snapshots.remove("base")


def snapshots_info(name: str, labels: dict[str, str] | None = None) -> Info:
    return Info(name=name, kind=Kind.ACTIVE, parent=None, created=0, updated=0, labels=labels or {})


@contextmanager
def placed(snapshots: StoreSnapshotter, parent: str | None) -> Iterator[Path]:
    """Write to where a mount would lead, which takes less time than mounting it: only for new names."""
    snapshots.prepare("key", parent)
    yield Path(snapshots.catalog.active_path("key"), "fs")
