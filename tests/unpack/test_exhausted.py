"""A host that runs out of something: blocks, inodes, descriptors, threads, the size that a file may have.

Each of them is an error of the filesystem, with one line that says at what it happened, and nothing is left behind.
"""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import LayoutBuilder, write_layout
from tests.support.probes import needs_nobody, needs_tool, nobodys_directory, nobodys_python, run_as_nobody
from tests.support.tarbuild import directory, fifo, file, hardlink, layer, symlink
from tests.support.tree import diff, read
from tests.unpack.command import Outcome, command, hints, listing, refused, succeeded, unpack
from tests.unpack.namespace import Namespace, needs_mount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = "the filesystem is full, or your share of it: make room and try again"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that gets a small filesystem."""
    (tmp_path / "small").mkdir()
    return tmp_path / "small"


# -- space -------------------------------------------------------------------------------------------------------------


@needs_mount
@pytest.mark.parametrize("words", [[], ["--force"]], ids=["new", "force"])
def test_a_full_disk_is_said_with_the_entry_and_leaves_nothing(place: Path, words: list[str], tmp_path: Path) -> None:
    """Also the tree stays that was to be replaced; there must be room for both."""
    files = [file(f"d/{number}", os.urandom(200_000)) for number in range(20)]
    built = write_layout(tmp_path / "layout", [layer(*files)], compression="none")
    digest = built.images[0].layers[0].digest
    with Namespace() as namespace:
        namespace.mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", place)
        if words:
            (namespace.path(place) / "dest").mkdir()
            (namespace.path(place) / "dest/mine").write_text("mine")
        before = read(namespace.path(place))

        outcome = namespace.run(command("-q", *words, built.path, place / "dest"))

        line = refused(outcome, 6)
        assert line.startswith("entry 'd/")
        assert line.endswith(f": layer {digest}: No space left on device")
        assert hints(outcome) == [FULL]
        assert diff(before, read(namespace.path(place)), ignore=["mtime_ns"]) == []


@needs_mount
def test_a_disk_without_room_for_one_more_inode_is_as_full(place: Path, tmp_path: Path) -> None:
    """From the workspace's own directory to the last entry, whatever kind of thing it is that has no place."""
    tars = [
        layer(
            directory("a/b"), file("a/b/c", b"1"), symlink("l", "a"), fifo("p"), hardlink("h", "later"), file("later")
        ),
        layer(file("a/b/d", b"2"), hardlink("a/e", "l/b/c"), file("l/b/f"), directory("x/y/z")),
    ]
    built = write_layout(tmp_path / "layout", tars)
    statuses = []
    with Namespace() as namespace:
        for inodes in range(2, 40):
            namespace.mount("-t", "tmpfs", "-o", f"nr_inodes={inodes}", "tmpfs", place)

            outcome = namespace.run(command("-q", built.path, place / "made/dest"))

            statuses.append(outcome.status)
            if outcome.status == 0:
                break
            assert refused(outcome, 6).endswith(": No space left on device")
            assert hints(outcome) == [FULL]
            assert listing(namespace.path(place)) == []
            assert namespace.run(["umount", str(place)]).status == 0

    assert statuses[-1] == 0
    assert len(statuses) > 15


@needs_mount
def test_a_layout_on_a_full_disk_is_unpacked_to_another(place: Path, tmp_path: Path) -> None:
    """Labels need room as well, and are not worth an error."""
    built = write_layout(tmp_path / "layout", [layer(file("a", b"1"))])
    with Namespace() as namespace:
        namespace.mount("-t", "tmpfs", "-o", "nr_inodes=100,size=1m", "tmpfs", place)
        assert namespace.run(["cp", "-a", str(built.path), f"{place}/layout"]).status == 0
        namespace.run(
            ["sh", "-c", f"cat /dev/zero >{place}/filler; i=0; while touch {place}/f$i; do i=$((i + 1)); done"]
        )

        succeeded(namespace.run(command("-q", place / "layout", tmp_path / "dest")))

        assert not list(namespace.path(place / "layout").glob("labels/*/*.json"))
    assert (tmp_path / "dest/a").read_bytes() == b"1"


@contextmanager
def limited(kind: int, most: int) -> Iterator[None]:
    """Let this process have no more of something."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def test_a_file_that_is_larger_than_a_file_may_be_is_said_with_its_entry(tmp_path: Path) -> None:
    """``ulimit -f``, or a filesystem like FAT; a hole counts, too."""
    for name, data in (("data", os.urandom(2 << 20)), ("hole", bytes(2 << 20))):
        built = write_layout(tmp_path / name, [layer(file("small", b"1"), file("d/large", data))])
        with limited(resource.RLIMIT_FSIZE, 1 << 20):
            outcome = unpack(built.path, tmp_path / "dest")

        digest = built.images[0].layers[0].digest
        assert refused(outcome, 6) == f"entry 'd/large': layer {digest}: File too large"
    assert listing(tmp_path) == ["data", "hole"]


# -- descriptors and threads -------------------------------------------------------------------------------------------


@pytest.fixture
def deep(tmp_path: Path) -> LayoutBuilder:
    """An image of many directories, and a deep one."""
    wide = [file(f"w{number}/x/f", b"1") for number in range(40)]
    tars = [layer(*wide, file("/".join("d" * 100) + "/f", b"1")), layer(file("/".join("d" * 99) + "/g", b"2"), *wide)]
    return write_layout(tmp_path / "layout", tars)


def test_too_few_descriptors_are_an_error_or_enough(deep: LayoutBuilder, tmp_path: Path) -> None:
    """``ulimit -n``, step by step: from none to those that it takes; the removal has to do with them, too."""
    dest = tmp_path / "dest"
    succeeded(unpack(deep.path, dest))
    refused(unpack(deep.path, dest), 6)  # all modules are there, and the labels
    good = read(dest)
    os.rename(dest, tmp_path / "before")
    used = len(os.listdir("/proc/self/fd"))
    failed = 0
    for more in range(-2, 200):  # two before: others than ours may have been closed since
        with limited(resource.RLIMIT_NOFILE, used + more):
            outcome = unpack(deep.path, dest)
        if outcome.status == 0:
            break
        assert refused(outcome, 6).endswith(": Too many open files")
        assert listing(tmp_path) == ["before", "layout"]
        failed += 1

    assert diff(good, read(dest)) == []
    assert 3 < failed < 30, "some twenty descriptors are enough, however deep and wide an image is"


def test_too_few_descriptors_for_layers_side_by_side(tmp_path: Path) -> None:
    """What a process could not begin for want of them is not in the way of whoever does its work."""
    tars = [layer(file(name, os.urandom(1 << 20))) for name in ("a", "b", "c")]
    built = write_layout(tmp_path / "layout", tars, compression="none")
    dest = tmp_path / "dest"
    succeeded(unpack("--jobs", "3", built.path, dest))
    refused(unpack(built.path, dest), 6)  # all modules are there, those for errors too
    os.rename(dest, tmp_path / "before")
    used = len(os.listdir("/proc/self/fd"))
    failed = 0
    for more in range(200):
        with limited(resource.RLIMIT_NOFILE, used + more):
            outcome = unpack("--jobs", "3", built.path, dest)
        if outcome.status == 0:
            break
        assert refused(outcome, 6).endswith(": Too many open files")
        assert listing(tmp_path) == ["before", "layout"]
        failed += 1

    assert diff(read(tmp_path / "before"), read(dest)) == []
    assert failed > 3


@needs_nobody
@needs_tool("prlimit")
def test_no_more_threads_are_an_error_of_the_host(tmp_path: Path) -> None:
    """A container may limit its processes, and threads are such; no fault of the program's."""
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as path:
        built = write_layout(path / "layout", [layer(file("a", b"1"))])
        words = ["prlimit", "--nproc=1:1", *command("-q", built.path, path / "dest", python=python)]
        done = run_as_nobody(words, check=False)

        line = refused(Outcome(done.returncode, done.stdout, done.stderr.splitlines()), 6)

        assert "Resource temporarily unavailable" in line
        assert listing(path) == ["layout"]
