"""Locks: one holder, told to those who wait, and free when it ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tree.support import needs_hidden_proc, opened, run_without_proc
from unpacker.errors import LockedError
from unpacker.tree.lock import FOREVER, Holder, Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = """
import sys
from unpacker.tree.lock import Lock
with Lock(sys.argv[1], where="store", what="thing").acquire():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


def lock(path: str) -> Lock:
    return Lock(path, where="store", what="thing")


@contextmanager
def another_process(path: str) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the lock until its standard input ends, or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_there_is_one_holder_at_a_time(path: str) -> None:
    with lock(path).acquire() as first:
        with pytest.raises(LockedError) as raised:
            lock(path).acquire()
        assert (raised.value.where, raised.value.what, raised.value.pid) == ("store", "thing", os.getpid())
        assert raised.value.since is not None
        assert str(raised.value) == f"store: thing is held by process {os.getpid()} since {raised.value.since}"
        assert first.holder().pid == os.getpid()
    assert lock(path).holder() == Holder()
    with lock(path):
        pass


def test_another_process_is_named(path: str) -> None:
    with another_process(path) as process, pytest.raises(LockedError) as raised:
        lock(path).acquire(wait=0.05)
    assert raised.value.pid == process.pid


def test_a_waiter_is_told_for_whom_it_waits_and_gets_the_lock(path: str) -> None:
    told = []
    with another_process(path) as process:

        def let_go(holder: Holder) -> None:
            told.append(holder.pid)
            process.communicate()

        with lock(path).acquire(FOREVER, let_go) as held:
            assert held.holder().pid == os.getpid()
    assert told == [process.pid]


def test_a_killed_holder_holds_nothing(path: str) -> None:
    """The kernel lets go for it; what it wrote stays, and is overwritten by the next."""
    with another_process(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock(path).holder().pid == process.pid
        with lock(path).acquire() as held:
            assert held.holder().pid == os.getpid()


def test_one_thread_may_let_go_of_what_another_took(path: str) -> None:
    held = lock(path).acquire()
    thread = threading.Thread(target=held.release)
    thread.start()
    thread.join()
    with lock(path):
        pass


def test_who_waits_for_ever_for_itself_is_told(path: str) -> None:
    with lock(path).acquire(), pytest.raises(LockedError):
        lock(path).acquire(FOREVER)


def test_a_lock_in_an_open_directory_is_where_it_was_opened(tmp_path: Path) -> None:
    """Not behind a link that has taken its place since; errors call it by the path that it had."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "here").mkdir()
    path = str(tmp_path / "here/lock")
    with opened(tmp_path / "here") as directory:
        (tmp_path / "here").rename(tmp_path / "moved")
        (tmp_path / "here").symlink_to("outside")
        with Lock(path, where="store", what="thing", directory=directory).acquire() as held:
            assert held.holder().pid == os.getpid()
            with pytest.raises(LockedError):
                lock(str(tmp_path / "moved/lock")).acquire()
        (tmp_path / "moved/lock").unlink()
        (tmp_path / "moved").rmdir()
        with pytest.raises(FileNotFoundError) as raised:
            Lock(path, where="store", what="thing", directory=directory).acquire()
    assert raised.value.filename == path
    assert list((tmp_path / "outside").iterdir()) == []


@needs_hidden_proc
def test_without_proc_a_lock_is_where_its_path_leads(tmp_path: Path) -> None:
    program = """
        import os
        from unpacker.tree.lock import Lock
        directory = os.open(".", os.O_RDONLY)
        with Lock("lock", where="store", what="thing", directory=directory) as held:
            print(held.holder().pid == os.getpid(), os.listdir())
    """
    assert run_without_proc(textwrap.dedent(program), tmp_path).stdout == "True ['lock']\n"


def test_letting_go_twice_does_no_harm(path: str) -> None:
    held = lock(path).acquire()
    held.release()
    with lock(path):
        held.release()
        with pytest.raises(LockedError):
            lock(path).acquire()


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff\xfe", b"12 " + b"x" * 1000, b"-"])
def test_what_somebody_else_wrote_into_the_file_is_no_holder_and_no_matter(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    assert lock(path).holder().pid in {None, 12}
    with lock(path).acquire() as held:
        assert held.holder().pid == os.getpid()


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_link_planted_in_its_place_is_not_written_through(path: str, tmp_path: Path, link: str) -> None:
    canary = tmp_path / "canary"
    canary.write_text("canary")
    if link == "symbolic":
        os.symlink(canary, path)
        with pytest.raises(OSError, match=r"symbolic links|ELOOP"):
            lock(path).acquire()
    else:
        os.link(canary, path)
        with lock(path).acquire() as held:
            assert held.holder() == Holder()
    assert canary.read_text() == "canary"


def test_a_lock_that_went_away_with_its_directory_is_not_taken(tmp_path: Path) -> None:
    """Who waits for a directory that its holder removes must not believe to hold anything."""
    directory = tmp_path / "directory"
    directory.mkdir()
    path = str(directory / "lock")
    held = lock(path).acquire()
    failures: list[OSError] = []

    def wait() -> None:
        try:
            lock(path).acquire(10)
        except OSError as error:
            failures.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.1)
    os.unlink(path)
    directory.rmdir()
    held.release()
    waiter.join(10)
    assert [type(error) for error in failures] == [FileNotFoundError]
