"""Private directories: one owner each, swept when it is dead, and nobody's rubbish before that is sure."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.tree.support import descriptors, opened
from unpacker.tree.private import Private, make_private, sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_one_is_made_locked_and_goes_with_its_owner(tmp_path: Path) -> None:
    before = descriptors()
    with opened(tmp_path) as holder:
        with Private(holder) as private:
            with private.tree(b"tree"):
                pass
            (path,) = tmp_path.iterdir()
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert sweep(holder) == 0
            assert os.listdir(path) == ["tree"]
        assert list(tmp_path.iterdir()) == []
    assert descriptors() == before


def test_what_is_left_by_the_dead_is_swept(tmp_path: Path) -> None:
    (tmp_path / "dead/closed").mkdir(parents=True)
    (tmp_path / "dead/closed").chmod(0)
    with opened(tmp_path) as holder, Private(holder):
        assert sweep(holder) == 1
        assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF, errno.ENOSYS], ids=["ENOLCK", "EBADF", "ENOSYS"])
def test_where_there_are_no_locks_nothing_is_taken_for_rubbish(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS no directory can be locked, and another process may be at work in it."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with opened(tmp_path) as holder:
        with Private(holder) as private, private.tree(b"tree"):
            assert sweep(holder) == 0
            assert len(list(tmp_path.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []


def swept_first(path: Path, calls: int) -> None:
    """Remove the first one that is made, as another process does that has met it before it was locked."""
    if calls == 1:
        (found,) = path.iterdir()
        found.rmdir()


def in_its_place(path: Path, calls: int) -> None:
    """Put another one in its place as well."""
    if calls == 1:
        (found,) = path.iterdir()
        found.rename(path.parent / "swept")
        found.mkdir(0o700)


@pytest.mark.parametrize("race", [swept_first, in_its_place])
def test_one_that_is_swept_before_it_is_locked_is_made_again(
    race: Callable[[Path, int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "holder").mkdir()
    flock, calls = fcntl.flock, 0

    def late(descriptor: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        race(tmp_path / "holder", calls)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    before = descriptors()
    with opened(tmp_path / "holder") as holder:
        name, descriptor = make_private(holder, b".prefix-", 4)
        try:
            assert calls == 2
            assert name.startswith(b".prefix-")
            assert os.path.samestat(os.stat(tmp_path / "holder" / os.fsdecode(name)), os.fstat(descriptor))
        finally:
            os.close(descriptor)
    assert descriptors() == before


def test_one_that_cannot_be_locked_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    before = descriptors()
    with opened(tmp_path) as holder, pytest.raises(OSError, match="Input/output error"), Private(holder):
        pass
    assert list(tmp_path.iterdir()) == []
    assert descriptors() == before
