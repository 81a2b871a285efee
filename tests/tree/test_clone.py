"""A file's data, copied by the kernel or shared, on whatever the filesystem offers."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.mounted import run_on_btrfs, run_on_tmpfs
from tests.support.probes import needs_btrfs, needs_tmpfs
from unpacker.tree.clone import copy_range

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = bytes(range(256)) * 400


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Open a file with data, and an empty one."""
    (tmp_path / "source").write_bytes(DATA)
    reading = os.open(tmp_path / "source", os.O_RDONLY)
    writing = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def written(writing: int) -> bytes:
    return os.pread(writing, len(DATA) + 1, 0)


def test_a_range_goes_to_the_same_place(files: tuple[int, int]) -> None:
    assert copy_range(*files, 0, 1000) == 1000
    assert copy_range(*files, 1000, len(DATA)) == len(DATA)
    assert written(files[1]) == DATA


def test_the_end_of_the_file_is_the_end(files: tuple[int, int]) -> None:
    assert copy_range(*files, 1000, len(DATA) + 5000) == len(DATA)
    assert copy_range(*files, len(DATA), len(DATA) + 1) == len(DATA)
    assert written(files[1]) == bytes(1000) + DATA[1000:]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM, None])
def test_without_the_kernels_help_it_is_sent(
    files: tuple[int, int], monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    """In a sandbox it may be forbidden, and some filesystems say that they copied nothing."""

    def refuse(*_args: int) -> int:
        if number is None:
            return 0
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.copy_file_range", refuse)
    assert copy_range(*files, 0, len(DATA)) == len(DATA)
    assert written(files[1]) == DATA


def test_a_failing_disk_is_told(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.copy_file_range", fail)
    with pytest.raises(OSError, match="Input/output error"):
        copy_range(*files, 0, len(DATA))


@needs_tmpfs
def test_a_filesystem_that_cannot_share_says_so_and_another_one_as_well(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(DATA)
    out = run_on_tmpfs(
        tmp_path,
        "1m",
        """
        import os
        from unpacker.tree.clone import copy_range, reflink
        reading = os.open(HERE.parent / "outside", os.O_RDONLY)
        writing = os.open(HERE / "target", os.O_RDWR | os.O_CREAT)
        again = os.open(HERE / "again", os.O_RDWR | os.O_CREAT)
        print(reflink(reading, writing), reflink(writing, again), os.fstat(writing).st_size)
        print(copy_range(reading, writing, 0, 200_000))
        """,
    )
    assert out.split() == ["False", "False", "0", str(len(DATA))]


@needs_btrfs
def test_a_filesystem_that_can_share_does(tmp_path: Path) -> None:
    out = run_on_btrfs(
        tmp_path,
        "128M",
        """
        import os
        from unpacker.tree.clone import reflink
        (HERE / "source").write_bytes(b"x" * (60 << 20))
        reading = os.open(HERE / "source", os.O_RDONLY)
        for name in "abc":
            writing = os.open(HERE / name, os.O_RDWR | os.O_CREAT)
            print(reflink(reading, writing), os.fstat(writing).st_size == 60 << 20)
        """,
    )
    assert out.split() == ["True"] * 6
