"""Hard links: their stand-ins, the copies that take their place, and that they change nothing but names.

What a link means is settled in `tests.layer.test_settle`.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.layer.bench import Bench
from tests.support.probes import needs_chown, needs_user_xattr
from tests.support.tarbuild import SECOND, Entry, directory, fifo, file, hardlink, layer, symlink
from tests.support.tree import read, sketch
from unpacker.archive.reader import TarReader
from unpacker.errors import UnsafeEntryError
from unpacker.events import LossKind
from unpacker.layer.stage import Stager
from unpacker.tree.directory import OPEN_DIRECTORY, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bench(quick_path: Path) -> Iterator[Bench]:
    with Bench(quick_path) as made:
        yield made


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param(
            [hardlink("b", "a"), hardlink("c", "b"), file("a", b"1")],
            {"a": "file 1 = a", "b": "file 1 = a", "c": "file 1 = a"},
            id="a link to a stand-in",
        ),
        pytest.param(
            [hardlink("b", "a"), hardlink("c", "b"), file("b", b"2"), file("a", b"1")],
            {"a": "file 1 = a", "b": "file 2", "c": "file 1 = a"},
            id="a stand-in that is replaced lives on in its other names",
        ),
        pytest.param(
            [hardlink("b", "a"), file("b", b"2"), file("a", b"1")],
            {"a": "file 1", "b": "file 2"},
            id="replaced by a file",
        ),
        pytest.param(
            [hardlink("b", "a"), directory("b"), file("b/x"), file("a", b"1")],
            {"a": "file 1", "b": "directory", "b/x": "file"},
            id="replaced by a directory",
        ),
        pytest.param(
            [hardlink("b", "a"), file("b/x"), file("a", b"1")],
            {"a": "file 1", "b": "directory", "b/x": "file"},
            id="replaced by an implied directory",
        ),
        pytest.param(
            [hardlink("d/b", "a"), file("d", b"2"), file("a", b"1")],
            {"a": "file 1", "d": "file 2"},
            id="gone with its directory",
        ),
        pytest.param(
            [hardlink("b", "a"), file("b", b"2"), *[file(f"n{number}") for number in range(5)], file("a", b"1")],
            {"a": "file 1", "b": "file 2", **{f"n{number}": "file" for number in range(5)}},
            id="no other file gets its inode",
        ),
        pytest.param(
            [hardlink("b", "l/a"), symlink("l", "d"), file("d/a", b"1")],
            {"b": "file 1 = b", "d": "directory", "d/a": "file 1 = b", "l": "symlink d"},
            id="through a link that comes later",
        ),
        pytest.param(
            [hardlink("c", "b"), hardlink("b", "a"), hardlink("d", "c"), file("a", b"1")],
            dict.fromkeys("abcd", "file 1 = a"),
            id="a chain in any order",
        ),
        pytest.param(
            [directory("d"), file("d/a", b"1"), hardlink("d", "d/a"), file("d/a", b"2")],
            {"d": "directory", "d/a": "file 2"},
            id="in place of the directory with its target, and that again",
        ),
        pytest.param([fifo("p"), hardlink("q", "p")], {"p": "fifo = p", "q": "fifo = p"}, id="of a fifo"),
        pytest.param(
            [symlink("l", "nowhere"), hardlink("m", "l")],
            {"l": "symlink nowhere = l", "m": "symlink nowhere = l"},
            id="of a link to nothing",
        ),
    ],
)
def test_links_of_the_base(entries: list[Entry], expected: dict[str, str], bench: Bench) -> None:
    bench.stage(*entries, known=True)
    assert bench.staged() == expected
    assert bench.losses == []


def test_stand_ins_of_a_hundred_links(bench: Bench) -> None:
    entries = [hardlink(f"d{number % 7}/b{number}", f"a{number % 3}") for number in range(100)]
    bench.stage(*entries, *[file(f"a{number}", b"%d" % number) for number in range(3)], known=True)
    found = read(bench.path / "staged")
    for number in range(100):
        node = found[b"d%d/b%d" % (number % 7, number)]
        assert (node.content, node.link) == (b"%d" % (number % 3), b"a%d" % (number % 3))


@needs_chown
@needs_user_xattr
def test_the_attributes_of_a_links_entry_say_nothing(bench: Bench) -> None:
    """The file is one, and its own entry has said what it is (CVE-2026-4360 was an owner set through a link)."""
    said = {"mode": 0o4777, "uid": 5, "gid": 6, "mtime": 7 * SECOND, "xattrs": {"user.evil": b"1"}}
    later = hardlink("later", "c", **said)  # type: ignore[arg-type]
    bench.stage(
        file("a", b"1", mode=0o600, mtime=SECOND),
        hardlink("b", "a", **said),  # type: ignore[arg-type]
        later,
        file("c", b"2", mode=0o600, mtime=SECOND),
        known=True,
    )
    for node in (found := read(bench.path / "staged"))[b"a"], found[b"b"], found[b"c"], found[b"later"]:
        assert (node.mode, node.uid, node.mtime_ns, node.xattrs) == (0o600, 0, SECOND, {})


@contextmanager
def tree_on(directory_path: Path) -> Iterator[Tree]:
    with Tree(os.open(directory_path, OPEN_DIRECTORY)) as tree:
        yield tree


def test_where_no_link_can_be_made_a_copy_stands_in(bench: Bench, tmp_path: Path, quick_path: Path) -> None:
    """It holds the same, and the loss is counted; here the two names are on two filesystems."""
    if os.stat(tmp_path).st_dev == os.stat(quick_path).st_dev:
        pytest.skip("missing: two filesystems")
    (quick_path / "own").mkdir()
    with (
        tree_on(quick_path / "own") as own,
        tempfile.TemporaryDirectory(dir=tmp_path) as far,
        tree_on(Path(far)) as store,
    ):
        losses = []
        stager = Stager(own, store, bench.rules, known=True, on_loss=lambda *loss: losses.append(loss))
        archive = layer(
            file(".wh..wh.plnk/1", b"content", mode=0o4711, mtime=5),
            hardlink("a", ".wh..wh.plnk/1"),
            hardlink("b", "a"),
        )
        stager.run(TarReader(iter([archive])))
    found = read(quick_path / "own")
    assert sketch(found) == {"a": "file content = a", "b": "file content = a"}
    assert (found[b"a"].mode, found[b"a"].mtime_ns) == (0o4711, 5)
    assert losses == [(LossKind.LINK, b"a", "copied, not linked: Invalid cross-device link")]
    assert stager.changes.losses.counts == {LossKind.LINK: 1}


@pytest.mark.parametrize(
    "entries",
    [
        [hardlink("b", "a"), hardlink("a", "b")],
        [hardlink("a", "b"), hardlink("b", "c"), hardlink("c", "a")],
        [hardlink("a", "a/b")],
        [hardlink("b", "a"), directory("a")],
    ],
    ids=["two", "three", "below itself", "a directory comes"],
)
def test_links_that_mean_nothing_end(entries: list[Entry], bench: Bench) -> None:
    with pytest.raises(UnsafeEntryError) as caught:
        bench.stage(*entries, known=True)
    assert caught.value.entry in {entry.name for entry in entries}
    assert caught.value.offset is not None
