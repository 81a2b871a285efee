"""The workspace: private, locked, gone in the end; and the one step by which DEST appears."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.probes import needs_tool
from unpacker.errors import DestinationError
from unpacker.tree import destination
from unpacker.tree.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    """Whatever happens in a test."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def listing(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def finish(root: int) -> None:
    os.fchmod(root, 0o750)


def make(dest: Path, *, force: bool = False, content: str = "new") -> None:
    """Publish a tree of one file."""
    with Workspace(os.fspath(dest), force=force) as workspace, workspace.tree(b"made") as tree:
        (dest.parent / f"{name_of(workspace)}/made/file").write_text(content)
        workspace.publish(b"made", tree.root.descriptor, finish)


def name_of(workspace: Workspace) -> str:
    return Path(os.readlink(f"/proc/self/fd/{workspace.descriptor}")).name


def test_a_tree_appears_with_its_attributes_and_the_workspace_goes(tmp_path: Path) -> None:
    """Nothing else is made."""
    make(tmp_path / "dest")

    assert listing(tmp_path) == ["dest"]
    assert (tmp_path / "dest/file").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "dest").stat().st_mode) == 0o750


def test_what_is_not_published_goes(tmp_path: Path) -> None:
    """With the parents that were made for it, but no others."""
    (tmp_path / "there").mkdir()

    with Workspace(f"{tmp_path}/there/a/b/dest", force=False) as workspace, workspace.tree(b"made"):
        assert listing(tmp_path / "there/a/b") == [name_of(workspace)]

    assert listing(tmp_path / "there") == []


def test_parents_that_somebody_else_uses_by_now_stay(tmp_path: Path) -> None:
    """They are not empty."""
    with Workspace(f"{tmp_path}/a/b/dest", force=False):
        (tmp_path / "a/theirs").touch()

    assert listing(tmp_path / "a") == ["theirs"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_another_run_may_make_and_take_away_the_same_parents(
    moment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It makes one a moment before us; or it fails, and removes what it has made, when we count on it."""
    real, calls = os.mkdir, []

    def race(path: str, *mode: int, **where: int) -> None:
        calls.append(path)
        if len(calls) == 2:
            if moment == "before":
                real(path)
            else:
                os.rmdir(os.path.dirname(path))
        real(path, *mode, **where)

    monkeypatch.setattr(os, "mkdir", race)

    with Workspace(f"{tmp_path}/a/b/c/dest", force=False) as workspace:
        assert listing(tmp_path / "a/b/c") == [name_of(workspace)]

    assert listing(tmp_path) == (["a"] if moment == "before" else [])


def test_a_workspace_is_private_and_locked(tmp_path: Path) -> None:
    """Who may lock it may sweep it."""
    with Workspace(f"{tmp_path}/dest", force=False) as workspace:
        path = tmp_path / name_of(workspace)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        other = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other)


def test_a_workspace_at_work_is_not_swept_and_a_dead_one_is(tmp_path: Path) -> None:
    """By whoever comes next for the same DEST."""
    dead = tmp_path / ".dest.unpack-0123abcd"
    (dead / "merged/closed").mkdir(parents=True)
    (dead / "merged/closed").chmod(0)
    dead.chmod(0o700)

    with Workspace(f"{tmp_path}/dest", force=False) as first:
        assert listing(tmp_path) == [name_of(first)]
        with Workspace(f"{tmp_path}/dest", force=False) as second:
            assert listing(tmp_path) == sorted([name_of(first), name_of(second)])


def test_where_there_are_no_locks_the_work_is_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some network filesystems; only the lock is done without."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)

    make(tmp_path / "dest")

    assert listing(tmp_path) == ["dest"]


def test_a_long_name_still_gets_a_workspace(tmp_path: Path) -> None:
    """Whose own name is cut."""
    dest = tmp_path / ("ü" * 127)

    make(dest)

    assert listing(tmp_path) == [dest.name]


# -- one tree in the place of another ----------------------------------------------------------------------------------


@pytest.fixture(params=["exchange", "no-exchange"])
def old(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A DEST that is not empty, where two names can trade places, and where they cannot."""
    if request.param == "no-exchange":
        monkeypatch.setattr(destination, "exchange", lambda *_names: False)
    (tmp_path / "dest/old").mkdir(parents=True)
    (tmp_path / "dest").chmod(0o500)
    return tmp_path / "dest"


def test_force_replaces_a_tree_by_another(old: Path, tmp_path: Path) -> None:
    """In one step where the kernel has it, else in two."""
    make(old, force=True)

    assert listing(tmp_path) == ["dest"]
    assert listing(old) == ["file"]


def test_the_old_tree_comes_back_if_the_new_one_cannot_take_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where it takes two steps, and the second fails."""
    (tmp_path / "dest/old").mkdir(parents=True)
    real, calls = os.rename, []

    def fail_once(src: str, dst: str, **where: int) -> None:
        calls.append(dst)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(src, dst, **where)

    monkeypatch.setattr(destination, "exchange", lambda *_names: False)
    monkeypatch.setattr(os, "rename", fail_once)

    with pytest.raises(OSError, match="Input/output error"):
        make(tmp_path / "dest", force=True)

    assert listing(tmp_path) == ["dest"]
    assert listing(tmp_path / "dest") == ["old"]


@needs_tool("chattr")
def test_an_old_tree_that_cannot_be_removed_is_an_error_that_says_where_it_is(tmp_path: Path) -> None:
    """DEST is the new one by then; a later run tries to remove the rest again."""
    dest = tmp_path / "dest"
    (dest / "d").mkdir(parents=True)
    (dest / "d/fixed").touch()
    if subprocess.run(["chattr", "+i", dest / "d/fixed"], capture_output=True, check=False).returncode:
        pytest.skip(f"missing: immutable files on {tmp_path}")
    try:
        with pytest.raises(PermissionError) as caught:
            make(dest, force=True)

        (left,) = tmp_path.glob(".dest.unpack-*")
        assert caught.value.__notes__ == [
            f"DEST is complete, but what it replaced cannot be removed from {tmp_path}/{left.name}"
        ]
        assert listing(dest) == ["file"]
    finally:
        for fixed in tmp_path.rglob("fixed"):
            subprocess.run(["chattr", "-i", fixed], check=True)

    make(dest, force=True)
    assert listing(tmp_path) == ["dest"]


# -- signals -----------------------------------------------------------------------------------------------------------


def test_a_signal_while_dest_appears_is_heard_when_it_has_appeared(tmp_path: Path) -> None:
    """Between the last attributes and the rename, and in the removal of the old tree."""
    dest = tmp_path / "dest"
    (dest / "old").mkdir(parents=True)

    def interrupt(root: int) -> None:
        signal.raise_signal(signal.SIGINT)
        finish(root)

    with (
        pytest.raises(KeyboardInterrupt),
        Workspace(os.fspath(dest), force=True) as workspace,
        workspace.tree(b"made") as tree,
    ):
        workspace.publish(b"made", tree.root.descriptor, interrupt)

    assert listing(tmp_path) == ["dest"]
    assert listing(dest) == []
    assert stat.S_IMODE(dest.stat().st_mode) == 0o750


def test_an_error_at_the_last_moment_leaves_dest_as_it_was(tmp_path: Path) -> None:
    """A listener that raises, a loss that was refused."""
    dest = tmp_path / "dest"
    (dest / "old").mkdir(parents=True)

    def fail(_root: int) -> None:
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        Workspace(os.fspath(dest), force=True) as workspace,
        workspace.tree(b"made") as tree,
    ):
        workspace.publish(b"made", tree.root.descriptor, fail)

    assert listing(tmp_path) == ["dest"]
    assert listing(dest) == ["old"]


# -- inside ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current directory, which is filled and not replaced."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(
    here: Path,
    *names: str,
    finish: Callable[[int], None] = finish,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    with Workspace(".", force=False) as workspace, workspace.tree(b"made") as tree:
        for name in names:
            (here / name_of(workspace) / "made" / name).mkdir()
            (here / name_of(workspace) / "made" / name).chmod(0o500)
        meanwhile()
        workspace.publish(b"made", tree.root.descriptor, finish)


def test_a_directory_that_stays_is_filled(here: Path) -> None:
    """Modes of what comes into it are kept."""
    inode = here.stat().st_ino

    fill(here, "a", "b")

    assert listing(here) == ["a", "b"]
    assert (here.stat().st_ino, stat.S_IMODE(here.stat().st_mode)) == (inode, 0o750)
    assert stat.S_IMODE((here / "a").stat().st_mode) == 0o500


def test_a_directory_that_stays_is_emptied_again_if_it_cannot_be_finished(here: Path) -> None:
    """And has its mode, time and ACLs as before."""
    here.chmod(0o711)
    os.utime(here, ns=(1, 1))

    def fail(root: int) -> None:
        os.fchmod(root, 0o000)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill(here, "a", "b", finish=fail)

    assert listing(here) == []
    assert (stat.S_IMODE(here.stat().st_mode), here.stat().st_mtime_ns) == (0o711, 1)


def test_what_comes_into_a_directory_that_stays_is_kept(here: Path) -> None:
    """Nothing of it is overwritten."""

    def come() -> None:
        (here / "theirs").write_text("theirs")

    with pytest.raises(DestinationError, match="has been filled by somebody else"):
        fill(here, "a", meanwhile=come)

    assert listing(here) == ["theirs"]


def test_only_one_run_at_a_time_fills_a_directory(here: Path) -> None:
    """The second does not wait."""
    with (
        Workspace(".", force=False),
        pytest.raises(DestinationError, match="is being filled by another run"),
        Workspace(".", force=False),
    ):
        pytest.fail("it was let in")

    assert listing(here) == []
