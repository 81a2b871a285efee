"""Trees under construction: nodes and descriptors stay right together, few descriptors are open, no link is followed."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.probes import needs_mknod
from tests.tree.support import Watch, descriptors, new_tree, opened, umask
from unpacker.errors import LimitError
from unpacker.tree.attributes import Attributes
from unpacker.tree.directory import MOST_OPEN, OTHER, Directory, Memory, Tree

if TYPE_CHECKING:
    from collections.abc import Callable

PROPERTY = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def inode(descriptor_or_path: int | Path) -> int:
    return os.stat(descriptor_or_path, follow_symlinks=isinstance(descriptor_or_path, int)).st_ino


# -- nodes -------------------------------------------------------------------------------------------------------------


def test_directories_end_where_memory_does(tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        tree.share(Memory(most=20_000))
        with pytest.raises(LimitError) as caught:
            deque(tree.make(tree.root, b"%d" % number) for number in range(100))
        assert (caught.value.limit, caught.value.allowed) == ("memory_bytes", 20_000)
        assert 50 < len(tree.root.children) < 90


def test_memory_is_given_back_when_a_tree_is_closed(tmp_path: Path) -> None:
    """So that a layer which is staged again, or the next one, has as much."""
    memory = Memory(most=20_000)
    for number in range(10):
        with new_tree(tmp_path / str(number)) as tree:
            tree.share(memory)
            for name in range(30):
                tree.make(tree.root, b"%d" % name)
            tree.remember(1_000)
            assert memory.taken > 7_000
        assert memory.taken == 0


@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_a_node_takes_no_more_than_is_counted(shape: str, tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        memory = Memory()
        tree.share(memory)
        tracemalloc.start()
        node = tree.root
        for number in range(3_000):
            node = tree.make(tree.root if shape == "wide" or number % 100 == 0 else node, b"%d" % number)
            tree.describe(node, Attributes(0o40755 + number, 10_000 + number, 20_000 + number, 10**9 * number))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert memory.taken / 2 < taken < memory.taken


def test_nodes_know_their_paths(tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        a = tree.make(tree.root, b"a")
        b = tree.make(a, b"\xe9")
        assert (tree.root.path(), tree.root.path(b"x"), tree.root.length) == (b"", b"x", 0)
        assert (a.path(), a.path(b"x")) == (b"a", b"a/x")
        assert (b.path(), b.path(b"x")) == (b"a/\xe9", b"a/\xe9/x")
        # What a name in it would make of the path's length: all components, a slash behind each.
        assert [node.length + len(b"x") for node in (a, b)] == [len(node.path(b"x")) for node in (a, b)]
        assert (tmp_path / "t" / "a" / os.fsdecode(b"\xe9")).is_dir()


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_directories_are_private_while_work_goes_on(mask: int, tmp_path: Path) -> None:
    """What is made in them may be setuid, and is not verified yet."""
    with umask(mask), new_tree(tmp_path / "t") as tree:
        tree.make(tree.make(tree.root, b"a"), b"b")
    assert {(tmp_path / "t" / name).stat().st_mode & 0o7777 for name in ("a", "a/b")} == {0o700}


@pytest.mark.parametrize(
    "occupy",
    [Path.mkdir, Path.touch, lambda path: path.symlink_to("/"), lambda path: path.symlink_to("nowhere"), os.mkfifo],
    ids=["directory", "file", "link", "dangling link", "fifo"],
)
def test_make_replaces_nothing(occupy: Callable[[Path], object], tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        occupy(tmp_path / "t" / "a")
        before = (tmp_path / "t" / "a").lstat()
        with pytest.raises(FileExistsError):
            tree.make(tree.root, b"a")
        assert (tmp_path / "t" / "a").lstat() == before
        assert tree.root.children == {}


def test_look_tells_the_kinds_apart(tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        made = tree.make(tree.root, b"directory")
        (tmp_path / "t" / "file").touch()
        (tmp_path / "t" / "link").symlink_to("../outside")
        (tmp_path / "t" / "to-directory").symlink_to("directory")
        os.mkfifo(tmp_path / "t" / "fifo")
        assert tree.look(tree.root, b"directory") is made
        assert tree.look(tree.root, b"file") is OTHER
        assert tree.look(tree.root, b"fifo") is OTHER
        assert tree.look(tree.root, b"link") == b"../outside"
        assert tree.look(tree.root, b"to-directory") == b"directory", "a link to a directory is a link"
        assert tree.look(tree.root, b"nothing") is None
        assert tree.look(made, b"file") is None


@needs_mknod
def test_look_opens_no_device(tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        os.mknod(tmp_path / "t" / "node", 0o020666, os.makedev(4000, 77))
        assert tree.look(tree.root, b"node") is OTHER


@pytest.mark.parametrize("length", [1, 255, 4095])
def test_look_gives_long_targets_whole(length: int, tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        os.symlink(b"x" * length, tmp_path / "t" / "link")
        assert tree.look(tree.root, b"link") == b"x" * length


def test_a_directory_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    """Another process of the caller may do that; no call leaves the tree over it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    with new_tree(tmp_path / "t", most_open=1) as tree:
        a = tree.make(tree.root, b"a")
        tree.make(a, b"inner")
        tree.make(tree.root, b"other")
        tree.descriptor(tree.root.children[b"other"])  # so that a's own is closed
        os.rename(tmp_path / "t" / "a", tmp_path / "t" / "away")
        (tmp_path / "t" / "a").symlink_to(outside)
        for use in (
            lambda: tree.descriptor(a),
            lambda: tree.make(a, b"new"),
            lambda: tree.look(a, b"x"),
            lambda: tree.remove(a, b"inner"),
            lambda: tree.move(a, b"inner", tree, tree.root),
        ):
            with pytest.raises(NotADirectoryError):
                use()
    assert os.listdir(outside) == []


# -- removing and moving -----------------------------------------------------------------------------------------------


def test_remove_takes_files_and_whole_trees(tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        a = tree.make(tree.root, b"a")
        tree.descriptor(tree.make(tree.make(a, b"b"), b"c"))
        (tmp_path / "t" / "a" / "b" / "c" / "f").touch()
        (tmp_path / "t" / "f").touch()
        before = descriptors()
        tree.remove(tree.root, b"a")
        tree.remove(tree.root, b"f")
        tree.remove(tree.root, b"nothing")
        assert tree.root.children == {}
        assert os.listdir(tmp_path / "t") == []
        assert descriptors() == before - 3, "those of a, b and c"
        again = tree.make(tree.root, b"a")
        assert inode(tree.descriptor(again)) == inode(tmp_path / "t" / "a")


def test_move_takes_a_subtree_with_its_nodes(tmp_path: Path) -> None:
    with new_tree(tmp_path / "one") as one, new_tree(tmp_path / "two") as two:
        a = one.make(one.root, b"a")
        b = one.make(a, b"b")
        one.descriptor(b)
        target = two.make(two.root, b"x")
        one.move(one.root, b"a", two, target)
        assert (one.root.children, target.children) == ({}, {b"a": a})
        assert (b.path(), a.parent) == (b"x/a/b", target)
        assert inode(two.descriptor(b)) == inode(tmp_path / "two" / "x" / "a" / "b")
        one.close()
        two.make(b, b"c")
        assert (tmp_path / "two" / "x" / "a" / "b" / "c").is_dir()


def test_move_replaces_what_is_no_directory(tmp_path: Path) -> None:
    with new_tree(tmp_path / "one") as one, new_tree(tmp_path / "two") as two:
        (tmp_path / "one" / "f").write_bytes(b"new")
        (tmp_path / "outside").write_bytes(b"untouched")
        (tmp_path / "two" / "f").symlink_to("../outside")
        one.move(one.root, b"f", two, two.root)
        assert (tmp_path / "two" / "f").read_bytes() == b"new"
        assert not (tmp_path / "two" / "f").is_symlink()
        assert (tmp_path / "outside").read_bytes() == b"untouched"


@pytest.mark.parametrize(
    ("new", "old"), [("directory", "file"), ("file", "directory"), ("directory", "full directory")]
)
def test_move_does_not_replace_a_directory(new: str, old: str, tmp_path: Path) -> None:
    """The caller removes it first; until then both trees are as they were."""
    with new_tree(tmp_path / "one") as one, new_tree(tmp_path / "two") as two:
        for tree, what in ((one, new), (two, old)):
            if what == "file":
                os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=tree.descriptor(tree.root)))
            else:
                node = tree.make(tree.root, b"x")
                if what.startswith("full"):
                    tree.make(node, b"inner")
        nodes = dict(one.root.children), dict(two.root.children)
        with pytest.raises((NotADirectoryError, IsADirectoryError, FileExistsError, OSError)) as caught:
            one.move(one.root, b"x", two, two.root)
        assert isinstance(caught.value, NotADirectoryError | IsADirectoryError | FileExistsError) or old.startswith(
            "full"
        )
        assert (one.root.children, two.root.children) == nodes


# -- descriptors -------------------------------------------------------------------------------------------------------


def test_a_tree_closes_all_it_opened(tmp_path: Path) -> None:
    before = descriptors()
    with new_tree(tmp_path / "t") as tree:
        node = tree.root
        for _ in range(10):
            node = tree.make(node, b"d")
            tree.descriptor(node)
        assert descriptors() == before + 11
    assert descriptors() == before
    tree.close()
    with pytest.raises(ValueError, match="the tree is closed"):
        tree.descriptor(node)


def test_a_deep_tree_has_few_descriptors(tmp_path: Path) -> None:
    before = descriptors()
    with new_tree(tmp_path / "t") as tree:
        node = tree.root
        for _ in range(3 * MOST_OPEN):
            node = tree.make(node, b"d")
            tree.descriptor(node)
            assert descriptors() <= before + MOST_OPEN + 1
        assert node.path() == b"/".join([b"d"] * (3 * MOST_OPEN))
        assert inode(tree.descriptor(tree.root.children[b"d"])) == inode(tmp_path / "t" / "d")
        assert descriptors() <= before + MOST_OPEN + 1


def test_deep_directories_by_turns_are_not_opened_from_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry in each of some chains of a thousand, and again: fifty bytes of an image would else cost milliseconds."""
    before = descriptors()
    with new_tree(tmp_path / "t") as tree:
        chains: list[tuple[Directory, int]] = []
        for number in range(8):
            node = tree.make(tree.root, b"%d" % number)
            for _ in range(1000):
                node = tree.make(node, b"d")
            chains.append((node, os.fstat(tree.descriptor(node)).st_ino))
        opened, real = [], os.open

        def counted(*words: Any, **options: Any) -> int:
            opened.append(words)
            return real(*words, **options)

        monkeypatch.setattr(os, "open", counted)
        for _ in range(10):
            for node, number in chains:
                assert os.fstat(tree.descriptor(node)).st_ino == number
                assert descriptors() <= before + MOST_OPEN + 1
        assert len(opened) < 2 * len(chains) * 1000
    assert descriptors() == before


def test_a_wide_tree_has_few_descriptors(tmp_path: Path) -> None:
    before = descriptors()
    with new_tree(tmp_path / "t") as tree:
        nodes = [tree.make(tree.root, b"%d" % number) for number in range(3 * MOST_OPEN)]
        for node in [*nodes, *nodes[::7], *reversed(nodes)]:
            assert inode(tree.descriptor(node)) == inode(tmp_path / "t" / node.name.decode())
            assert descriptors() <= before + MOST_OPEN + 1


@pytest.mark.parametrize("most_open", [1, 2, 3])
def test_a_descriptor_is_right_with_the_smallest_cache(most_open: int, tmp_path: Path) -> None:
    with new_tree(tmp_path / "t", most_open) as tree:
        node, chain = tree.root, []
        for number in range(6):
            node = tree.make(node, b"%d" % number)
            chain.append(node)
        for node in [*chain, *reversed(chain), *chain[::2], chain[5], chain[0]]:
            assert inode(tree.descriptor(node)) == inode(tmp_path / "t" / os.fsdecode(node.path()))


def test_a_held_descriptor_stays_while_others_are_asked_for(tmp_path: Path) -> None:
    before = descriptors()
    with new_tree(tmp_path / "t", most_open=1) as tree:
        a, b = tree.make(tree.root, b"a"), tree.make(tree.root, b"b")
        with tree.held(a) as held:
            tree.descriptor(b)
            tree.remove(tree.root, b"a")
            tree.make(tree.root, b"a")
            assert inode(held) not in (inode(tmp_path / "t" / "a"), inode(tmp_path / "t" / "b"))
            assert os.listdir(held) == []
        with tree.held(tree.root) as held, pytest.raises(ZeroDivisionError):
            _ = 1 // 0
    assert descriptors() == before


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["make", "make", "make", "use", "use", "describe", "remove", "move"]),
        st.integers(0, 30),
        st.integers(0, 30),
        st.sampled_from([b"a", b"b", b"c"]),
    ),
    max_size=60,
)


def nodes_of(tree: Tree) -> list[Directory]:
    found, waiting = [], [tree.root]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += node.children.values()
    return found


@PROPERTY
@given(steps=STEPS, most_open=st.sampled_from([1, 2, 3, MOST_OPEN]))
def test_any_steps_leave_every_node_with_the_right_directory(
    steps: list[tuple[str, int, int, bytes]], most_open: int, quick_path: Path
) -> None:
    """Two trees, between which subtrees move, as merging does; caches as small as can be, so that all is reopened.

    The memory that they share counts what they have.
    """
    before = descriptors()
    memory = Memory()
    with tempfile.TemporaryDirectory(dir=quick_path) as place:
        roots = Path(place, "one"), Path(place, "two")
        with new_tree(roots[0], most_open) as one, new_tree(roots[1], most_open) as two:
            one.share(memory)
            two.share(memory)
            for step, which, where, name in steps:
                tree, other = (one, two) if which % 2 else (two, one)
                nodes = nodes_of(tree)
                node = nodes[where % len(nodes)]
                if step == "make" and name not in node.children:
                    tree.make(node, name)
                elif step == "use":
                    tree.descriptor(node)
                elif step == "describe":
                    tree.describe(node, Attributes(0o755, 0, 0, 0, {name: bytes(which)} if which % 3 else None))
                elif step == "remove":
                    tree.remove(node, name)
                elif step == "move" and name in node.children and name not in other.root.children:
                    tree.move(node, name, other, other.root)
            for tree, root in zip((one, two), roots, strict=True):
                for node in nodes_of(tree):
                    path = root / os.fsdecode(node.path())
                    assert inode(tree.descriptor(node)) == inode(path)
                    assert sorted(os.listdir(os.fsencode(path))) == sorted(node.children)
            sizes = [node.size for tree in (one, two) for node in nodes_of(tree)]
            assert memory.taken == sum(sizes) - 2 * Directory(None, b"").size
            assert descriptors() <= before + 2 * most_open + 2
        assert memory.taken == 0
    assert descriptors() == before


def test_descriptors_are_not_for_children(tmp_path: Path) -> None:
    """A program that is started meanwhile must not inherit them."""
    with new_tree(tmp_path / "t") as tree, tree.held(tree.make(tree.root, b"a")) as held:
        assert not os.get_inheritable(tree.descriptor(tree.root.children[b"a"]))
        assert not os.get_inheritable(held)


def test_depth_beyond_every_path(tmp_path: Path) -> None:
    """Deeper than the kernel could be told in one name (`tests.tree.test_finish` goes on from here)."""
    with Watch() as watch, new_tree(tmp_path / "t") as tree:
        node = tree.root
        for _ in range(40):
            node = tree.make(node, b"n" * 255)
        assert len(node.path()) > 10_000
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=tree.descriptor(node)))
        assert tree.look(node, b"f") is OTHER
        tree.remove(tree.root, b"n" * 255)
    with opened(tmp_path / "t") as root:
        assert os.listdir(root) == []
    assert watch.most < 200
