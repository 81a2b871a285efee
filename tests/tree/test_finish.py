"""The last pass: every directory gets its own attributes, whatever its depth and its modes."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.support.probes import needs_chown, needs_nobody, nobodys_directory, nobodys_python, run_as_nobody
from tests.support.tree import read
from tests.tree.support import Lost, Watch, descriptors, new_tree, opened
from unpacker.events import LossKind
from unpacker.tree.attributes import Applier, Attributes
from unpacker.tree.finish import finish_directories, finish_root
from unpacker.tree.owners import Owners
from unpacker.tree.remove import remove_at

if TYPE_CHECKING:
    from pathlib import Path

DEEP = 5_000
MINE = (os.geteuid(), os.getegid())


def applier(lost: Lost, *, apply: bool = True) -> Applier:
    return Applier(Owners(apply=apply), lost, 0o022)


def wanted(mode: int, mtime: int) -> Attributes:
    return Attributes(mode, *MINE, mtime)


def test_children_come_before_their_parents(tmp_path: Path) -> None:
    """A child's attributes leave its parent's time alone, and a parent may lose its permissions."""
    with new_tree(tmp_path / "t") as tree:
        a = tree.make(tree.root, b"a")
        b = tree.make(a, b"b")
        c = tree.make(b, b"c")
        a.attributes, b.attributes, c.attributes = wanted(0o500, 1), wanted(0o000, 2), wanted(0o111, 3)
        finish_directories(tree, applier(lost := Lost()))
        finish_root(tree.descriptor(tree.root), wanted(0o555, 4), applier(lost))
    assert lost == []
    found = read(tmp_path / "t")
    assert {path: (node.mode, node.mtime_ns) for path, node in found.items()} == {
        b".": (0o555, 4),
        b"a": (0o500, 1),
        b"a/b": (0o000, 2),
        b"a/b/c": (0o111, 3),
    }


@needs_chown
def test_what_nobody_spoke_of_is_implied(tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        inner = tree.make(tree.make(tree.root, b"implied"), b"spoken")
        inner.attributes = Attributes(0o2750, 5, 6, 7)
        finish_directories(tree, applier(lost := Lost()))
    found = read(tmp_path / "t")
    assert lost == []
    assert (found[b"implied"].mode, found[b"implied"].uid, found[b"implied"].mtime_ns) == (0o755, 0, 0)
    assert (found[b"implied/spoken"].mode, found[b"implied/spoken"].uid, found[b"implied/spoken"].gid) == (0o2750, 5, 6)


def test_the_root_is_left_alone_until_it_is_published(tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        tree.root.attributes = wanted(0o123, 5)
        before = (tmp_path / "t").stat()
        finish_directories(tree, applier(Lost()))
        assert (tmp_path / "t").stat() == before


def test_losses_name_the_directory(tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        node = tree.make(tree.make(tree.root, b"a"), b"\xe9")
        node.parent.attributes = wanted(0o755, 0)  # type: ignore[union-attr]
        node.attributes = Attributes(0o755, MINE[0] + 1, MINE[1], 0, {b"nonsense.x": b"1"})
        finish_directories(tree, applier(lost := Lost(), apply=False))
    assert [(kind, path) for kind, path, _ in lost] == [(LossKind.OWNER, b"a/\xe9"), (LossKind.XATTR, b"a/\xe9")]


def test_links_and_files_are_none_of_its_business(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir(0o750)
    before = (tmp_path / "outside").stat()
    with new_tree(tmp_path / "t") as tree:
        (tmp_path / "t" / "link").symlink_to("../outside")
        (tmp_path / "t" / "file").touch(0o600)
        finish_directories(tree, applier(Lost()))
    assert (tmp_path / "outside").stat() == before
    assert (tmp_path / "t" / "file").stat().st_mode & 0o777 == 0o600


def test_five_thousand_directories_in_each_other(quick_path: Path) -> None:
    """Made, finished and removed: no recursion, and descriptors by the hundred at most."""
    before = descriptors()
    with Watch() as watch:
        with new_tree(quick_path / "t") as tree:
            node = tree.root
            for number in range(DEEP):
                node = tree.make(node, b"d")
                node.attributes = wanted(0o000 if number % 2 else 0o700, number)
            finish_directories(tree, applier(lost := Lost()))
        depth = 0
        here = os.open(quick_path / "t", os.O_RDONLY)
        while os.geteuid() == 0 and (names := os.listdir(here)):
            deeper = os.open(names[0], os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
            assert os.fstat(here).st_mtime_ns == depth
            depth += 1
        os.close(here)
        with opened(quick_path) as place:
            remove_at(place, "t")
    assert lost == []
    assert depth in (0, DEEP)
    assert watch.most < before + 250
    assert descriptors() == before
    assert os.listdir(quick_path) == []


AS_NOBODY = textwrap.dedent("""
    import os
    from unpacker.tree.attributes import Applier, Attributes
    from unpacker.tree.directory import Tree
    from unpacker.tree.finish import finish_directories
    from unpacker.tree.owners import Owners

    me = os.geteuid(), os.getegid()
    os.mkdir("t")
    with Tree(os.open("t", os.O_RDONLY), most_open=2) as tree:
        node = tree.root
        for number, mode in enumerate((0o500, 0o000, 0o111, 0o222, 0o000)):
            node = tree.make(node, b"d")
            node.attributes = Attributes(mode, *me, number)
        finish_directories(tree, Applier(Owners(apply=False), print, 0o022))
    path = b"t"
    for number in range(5):
        path += b"/d"
        status = os.stat(path)
        print(oct(status.st_mode & 0o7777), status.st_mtime_ns)
        os.chmod(path, 0o700)
""")


@needs_nobody
def test_nobody_finishes_directories_that_it_may_not_enter_any_more() -> None:
    with nobodys_directory() as place:
        done = run_as_nobody([nobodys_python() or "", "-c", AS_NOBODY], cwd=place)
    assert done.stdout.splitlines() == ["0o500 0", "0o0 1", "0o111 2", "0o222 3", "0o0 4"]


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_wide_tree(count: int, tmp_path: Path) -> None:
    with new_tree(tmp_path / "t") as tree:
        for number in range(count):
            tree.make(tree.root, b"%d" % number).attributes = wanted(0o700 + number % 8, number)
        finish_directories(tree, applier(lost := Lost()))
    assert lost == []
    for number in range(count):
        status = (tmp_path / "t" / str(number)).stat()
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o700 + number % 8, number)
