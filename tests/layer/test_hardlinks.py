"""Hard links: their stand-ins, the copies that take their place, and that they change nothing but names.

What a link means is settled in `tests.layer.test_settle`.
"""

from __future__ import annotations

import errno
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
from tests.tree.support import descriptors
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


# -- where no link can be made -------------------------------------------------------------------------------------------


@pytest.fixture
def few_names(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a file have no more names than a few, as if the filesystem counted to that (ext4: 65,000)."""
    most, link = 4, os.link

    def limited(source: bytes, new: bytes, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool = True) -> None:
        if os.stat(source, dir_fd=src_dir_fd, follow_symlinks=follow_symlinks).st_nlink >= most:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), source)
        link(source, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", limited)
    return most


@pytest.mark.usefixtures("few_names")
def test_names_beyond_the_most_share_a_copy(bench: Bench) -> None:
    """A bomb else: for each of them, a few bytes in the archive, the whole file would be written."""
    bench.stage(file("a", b"1"), *[hardlink(f"b{number}", "a") for number in range(10)], known=True)
    groups = {"a": ["a", "b0", "b1", "b2"], "b3": ["b3", "b4", "b5"], "b6": ["b6", "b7", "b8"], "b9": ["b9"]}
    expected = {
        name: f"file 1 = {first}" if len(names) > 1 else "file 1" for first, names in groups.items() for name in names
    }
    assert bench.staged() == expected
    assert [kind for kind, _, _ in bench.losses] == [LossKind.LINK] * 7


@pytest.mark.usefixtures("few_names")
def test_a_copy_is_of_the_file_and_not_of_another_with_its_inode(tmp_path: Path) -> None:
    """ext4 gives the inode of what is gone to what comes next, which may come to as many names."""
    with Bench(tmp_path) as bench:
        bench.stage(
            file("a", b"old"),
            *[hardlink(f"a{number}", "a") for number in range(4)],
            *[file("y"), hardlink("a", "y"), hardlink("a0", "y"), file("z"), hardlink("a1", "z"), hardlink("a2", "z")],
            *[entry for turn in range(8) for entry in (file(f"{turn}", b"new"), hardlink(f"{turn}.0", f"{turn}"))],
            *[hardlink(f"{turn}.{number}", f"{turn}") for turn in range(8) for number in range(1, 6)],
            known=True,
        )
        found = read(bench.path / "staged")
    assert {node.content for name, node in found.items() if name[:1].isdigit()} == {b"new"}
    assert found[b"a3"].content == b"old"


@pytest.mark.usefixtures("few_names")
def test_names_of_a_file_below_beyond_the_most(bench: Bench) -> None:
    bench.add(file("a", b"1", mode=0o4711, mtime=5), *[hardlink(f"b{number}", "a") for number in range(3)])
    bench.add(hardlink("c0", "b1"), hardlink("c1", "a"), hardlink("c2", "c0"))
    assert {name: text for name, text in bench.sketch().items() if name[0] == "c"} == {
        "c0": "file 1 = c0",
        "c1": "file 1 = c0",
        "c2": "file 1 = c0",
    }
    found = read(bench.path / "merged")
    assert (found[b"c0"].mode, found[b"c0"].mtime_ns) == (0o4711, 5)
    assert bench.changes.losses.counts == {LossKind.LINK: 2}


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOTSUP], ids=["EPERM", "ENOTSUP"])
def test_a_filesystem_without_links(refusal: int, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that wait need none either (vfat, exFAT, some network filesystems have none at all)."""

    def refused(*_arguments: object, **_options: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", refused)
    bench.stage(hardlink("c", "b"), hardlink("b", "a"), file("a", b"1"), hardlink("d", "a"), known=True)
    assert bench.staged() == dict.fromkeys("abcd", "file 1")
    assert sorted(path for _, path, _ in bench.losses) == [b"b", b"c", b"d"]


def test_a_stand_in_that_fails_leaves_no_descriptor(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", broken)
        with pytest.raises(OSError, match="Input/output error"):
            bench.stage(hardlink("b", "a"), file("a"), known=True)
    assert descriptors() == before


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
    assert losses == [(LossKind.LINK, b"a", "copied (7 B), not linked: Invalid cross-device link")]
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
