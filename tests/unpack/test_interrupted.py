"""Runs that are told to stop, killed, or joined by another run for the same DEST.

The moments are spread over the whole run; ``UNPACK_MOMENTS=200 pytest tests/unpack/test_interrupted.py`` tries more.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from benchmarks.place import remove
from tests.support.layoutbuild import LayoutBuilder, write_layout
from tests.support.tarbuild import directory, file, layer, opaque
from tests.support.tree import diff, read
from tests.unpack.command import ended, errors, listing, refused, started, succeeded, unpack

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.tree import Tree

MOMENTS = int(os.environ.get("UNPACK_MOMENTS", "4"))
FILES = 600


def many(prefix: str) -> bytes:
    """Give a layer of many files in directories that an unprivileged user could not empty as they are."""
    places = [directory(f"{prefix}{number % 30}", mode=0o500) for number in range(30)]
    files = [file(f"{prefix}{number % 30}/f{number}", b"%d" % number * 50, mode=0o400) for number in range(FILES)]
    return layer(*places, *files, directory("/".join("d" * 90), mode=0o500))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> LayoutBuilder:
    return write_layout(tmp_path_factory.mktemp("image") / "layout", [many("a"), many("b"), layer(opaque("a1"))])


@pytest.fixture(scope="module")
def good(built: LayoutBuilder) -> Tree:
    succeeded(unpack(built.path, built.path.parent / "good"))
    return read(built.path.parent / "good")


@pytest.fixture(scope="module")
def duration(built: LayoutBuilder, good: Tree) -> float:
    """Seconds that a run takes, from the moment when its workspace is there."""
    dest = built.path.parent / "timed"
    with started("-q", built.path, dest) as run:
        wait_for_workspace(dest, run)
        begin = time.monotonic()
        run.communicate()
        return time.monotonic() - begin


def wait_for_workspace(dest: Path, run: subprocess.Popen[str]) -> None:
    """Wait until the work has begun."""
    while not workspaces(dest) and run.poll() is None:
        time.sleep(0.001)


def workspaces(dest: Path) -> list[str]:
    """Name the workspaces of the runs for a DEST."""
    names = listing(dest.parent) if dest.parent.exists() else []
    return [name for name in names if name.startswith(f".{dest.name}.unpack-")]


def moments(duration: float) -> Iterator[float]:
    """Give moments from the beginning of a run to its end."""
    return (duration * number / MOMENTS for number in range(MOMENTS))


def old_tree(dest: Path) -> Tree:
    """Make a DEST that is not empty."""
    (dest / "old/mine").mkdir(parents=True)
    (dest / "old/file").write_text("mine")
    return read(dest)


# -- told to stop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_run_that_is_told_to_stop_leaves_nothing(
    built: LayoutBuilder, good: Tree, duration: float, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """At whatever moment; if it was too late, all is there."""
    stopped = 0
    for moment in moments(duration):
        dest = tmp_path / "a/dest"
        with started("-q", built.path, dest) as run:
            wait_for_workspace(dest, run)
            time.sleep(moment)
            run.send_signal(number)
            outcome = ended(run)

        if dest.exists():
            assert diff(good, read(dest)) == []
            assert listing(dest.parent) == ["dest"]
            remove(tmp_path / "a")
        else:
            assert (outcome.status, outcome.lines) == (status, [f"unpack: error: stopped by {number.name}"])
            assert listing(tmp_path) == []
            stopped += 1
    assert stopped, "at least one of the signals was in time"


def test_force_leaves_dest_as_it_was_if_it_is_told_to_stop(
    built: LayoutBuilder, good: Tree, duration: float, tmp_path: Path
) -> None:
    """Or it has replaced it; between the two there is nothing."""
    dest = tmp_path / "dest"
    for moment in moments(duration):
        before = old_tree(dest)
        with started("-q", "--force", built.path, dest) as run:
            wait_for_workspace(dest, run)
            time.sleep(moment)
            run.send_signal(signal.SIGTERM)
            outcome = ended(run)

        found = read(dest)
        # By the default handler only when all is done, on the way to the process's end.
        assert outcome.status in (0, 143, -signal.SIGTERM)
        assert diff(good, found) == [] or (found == before and outcome.status == 143)
        assert listing(tmp_path) == ["dest"]
        remove(dest)


def test_who_asks_again_and_again_does_not_break_the_clean_up(built: LayoutBuilder, tmp_path: Path) -> None:
    """A second Ctrl-C comes while thousands of files are being removed; it waits until they are."""
    dest = tmp_path / "dest"
    with started("-q", built.path, dest) as run:
        while not list(tmp_path.glob(".dest.unpack-*/*/*")):
            time.sleep(0.001)
        while run.poll() is None:
            run.send_signal(signal.SIGINT)
            time.sleep(0.002)
        outcome = ended(run)

    assert outcome.status in (130, -signal.SIGINT)
    assert errors(outcome) in (["stopped by SIGINT"], [])
    assert listing(tmp_path) == []


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [None, signal.SIGTERM], ids=["at-work", "while-it-cleans-up"])
def test_the_next_run_sweeps_what_a_killed_one_has_left(
    built: LayoutBuilder, good: Tree, duration: float, first: signal.Signals | None, tmp_path: Path
) -> None:
    """At whatever moment it was killed; and nothing else is left by it, in the end."""
    dest = tmp_path / "dest"
    left = 0
    for moment in moments(duration):
        with started("-q", built.path, dest) as run:
            wait_for_workspace(dest, run)
            time.sleep(moment)
            if first is not None:
                run.send_signal(first)
                time.sleep(moment / 10)
            run.kill()
            run.communicate()
        if dest.exists():
            assert diff(good, read(dest)) == [], "it was done, and DEST is whole"
        left += bool(workspaces(dest))

        succeeded(unpack("--force", built.path, dest))

        assert diff(good, read(dest)) == []
        assert listing(tmp_path) == ["dest"]
        remove(dest)
    assert left or first, "at least one of them had to leave something"


def test_a_killed_force_leaves_the_old_tree_or_the_new_one(
    built: LayoutBuilder, good: Tree, duration: float, tmp_path: Path
) -> None:
    """Whole, either of them; and the next run sweeps the other."""
    dest = tmp_path / "dest"
    for moment in moments(duration * 1.2):
        before = old_tree(dest)
        with started("-q", "--force", built.path, dest) as run:
            wait_for_workspace(dest, run)
            time.sleep(moment)
            run.kill()
            run.communicate()

        found = read(dest)
        assert found == before or diff(good, found) == []
        succeeded(unpack("--force", built.path, dest))
        assert listing(tmp_path) == ["dest"]
        remove(dest)


def test_a_killed_run_in_the_current_directory_does_not_stop_the_next(
    built: LayoutBuilder, good: Tree, tmp_path: Path
) -> None:
    """Its workspace is in there, and is no reason to call the directory not empty."""
    here = tmp_path / "here"
    here.mkdir()
    with started("-q", built.path, ".", cwd=here) as run:
        while not listing(here):
            time.sleep(0.001)
        run.kill()
        run.communicate()
    assert listing(here) != []

    with started("-q", built.path, ".", cwd=here) as run:
        succeeded(ended(run))

    assert diff(good, read(here)) == []


def test_what_looks_like_a_workspace_and_is_none_is_nobodys_business(built: LayoutBuilder, tmp_path: Path) -> None:
    """Not the user's own directory, not that for another DEST, not a file, not a link."""
    mine = [".dest.unpack-backup", ".dest.unpack-0123456", ".dest.unpack-012345678", ".dest2.unpack-01234567"]
    for name in mine:
        (tmp_path / name / "in").mkdir(parents=True)
    (tmp_path / ".dest.unpack-aaaaaaaa").write_text("a file")
    (tmp_path / ".dest.unpack-bbbbbbbb").symlink_to(mine[0])
    before = read(tmp_path)

    succeeded(unpack(built.path, tmp_path / "dest"))

    remove(tmp_path / "dest")
    assert diff(before, read(tmp_path), ignore=["mtime_ns"]) == []


# -- two at once -------------------------------------------------------------------------------------------------------


def test_one_of_two_runs_wins_and_the_other_says_so(built: LayoutBuilder, good: Tree, tmp_path: Path) -> None:
    """The first is stopped half-way; the second neither waits for it nor sweeps what it is working on."""
    dest = tmp_path / "dest"
    with started("-q", built.path, dest) as first:
        while not (its_own := list(tmp_path.glob(".dest.unpack-*/*"))):
            time.sleep(0.001)
        first.send_signal(signal.SIGSTOP)

        succeeded(unpack(built.path, dest))

        assert workspaces(dest) == [its_own[0].parent.name]
        first.send_signal(signal.SIGCONT)
        line = refused(ended(first), 6)
    assert line == f"{dest}: has been filled by somebody else in the meantime"
    assert diff(good, read(dest)) == []
    assert listing(tmp_path) == ["dest"]


@pytest.mark.parametrize("words", [[], ["--force"]], ids=["plain", "force"])
def test_runs_at_once_leave_one_whole_tree(built: LayoutBuilder, good: Tree, words: list[str], tmp_path: Path) -> None:
    """Below parents that are not there, which each of them would make; by force the last one wins, else the first."""
    dest = tmp_path / "a/b/dest"
    with ExitStack() as stack:
        runs = [stack.enter_context(started("-q", *words, built.path, dest)) for _ in range(3)]
        outcomes = [ended(run) for run in runs]

    statuses = sorted(outcome.status for outcome in outcomes)
    assert statuses == ([0, 0, 0] if words else [0, 6, 6])
    for outcome in outcomes:
        if outcome.status:
            assert refused(outcome, 6).removeprefix(f"{dest}: ") in (
                "has been filled by somebody else in the meantime",
                "exists and is not empty",
            )
    assert diff(good, read(dest)) == []
    assert listing(tmp_path / "a/b") == ["dest"]


def test_runs_below_one_missing_parent_do_not_take_it_from_each_other(built: LayoutBuilder, tmp_path: Path) -> None:
    """One fails and takes away what it has made, while the others count on it."""
    broken = write_layout(tmp_path / "broken", [layer(file("a"))])
    broken.flip(broken.images[0].layers[0].digest)
    layouts = [broken.path, built.path] * 3
    with ExitStack() as stack:
        dests = [tmp_path / f"a/b/{number}" for number in range(len(layouts))]
        runs = [stack.enter_context(started("-q", *each)) for each in zip(layouts, dests, strict=True)]
        statuses = [ended(run).status for run in runs]

    assert statuses == [4, 0] * 3
    assert listing(tmp_path / "a/b") == ["1", "3", "5"]
