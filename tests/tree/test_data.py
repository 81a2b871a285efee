"""Files are written whole, and their zeros become holes: the bytes are those of a plain writer, whatever the pieces."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unpacker.tree.data import PAGE, HoleWriter, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROPERTY = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@contextmanager
def new_file(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def written(path: Path, *pieces: bytes, size: int | None = None) -> os.stat_result:
    """Write these pieces, and give what the file then is."""
    with new_file(path) as descriptor:
        writer = HoleWriter(descriptor)
        for piece in pieces:
            writer.write(memoryview(piece))
        writer.finish(sum(map(len, pieces)) if size is None else size)
        return os.fstat(descriptor)


def can_have_holes(path: Path) -> bool:
    with new_file(path) as descriptor:
        os.ftruncate(descriptor, 1 << 20)
        return os.fstat(descriptor).st_blocks == 0


# -- bytes -------------------------------------------------------------------------------------------------------------

# Runs of zeros and of data around the size of a page, so that they begin and end at every distance from its edges.
RUNS = st.lists(
    st.tuples(
        st.sampled_from([b"\0", b"x"]),
        st.sampled_from([1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 7]) | st.integers(1, 3 * PAGE),
    ),
    max_size=12,
)


@PROPERTY
@given(runs=RUNS, cuts=st.lists(st.integers(0, 40 * PAGE), max_size=8))
def test_any_runs_of_zeros_in_any_pieces(runs: list[tuple[bytes, int]], cuts: list[int], tmp_path: Path) -> None:
    data = b"".join(byte * size for byte, size in runs)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    status = written(tmp_path / "f", *pieces)
    assert (tmp_path / "f").read_bytes() == data
    assert status.st_size == len(data)
    # Never more than a plain file, but for the block at each end of a run.
    assert status.st_blocks * 512 <= len(data) + PAGE


@pytest.mark.parametrize("offset", [0, 1, 511, 512, PAGE - 1, PAGE, PAGE + 1])
@pytest.mark.parametrize("size", [PAGE - 1, PAGE, 2 * PAGE - 1, 2 * PAGE, 10 * PAGE])
@pytest.mark.parametrize("behind", [b"", b"end"], ids=["at the end", "in the middle"])
def test_a_run_of_zeros_at_every_place(offset: int, size: int, behind: bytes, tmp_path: Path) -> None:
    data = b"x" * offset + bytes(size) + behind
    status = written(tmp_path / "f", data)
    assert (tmp_path / "f").read_bytes() == data
    if can_have_holes(tmp_path / "g"):
        # Whole pages of zeros, at multiples of a page, take no space.
        holes = max(0, (offset + size) // PAGE - -(-offset // PAGE))
        assert status.st_blocks * 512 <= (-(-len(data) // PAGE) - holes) * PAGE


def test_a_file_of_zeros_takes_no_space(tmp_path: Path) -> None:
    """``lastlog``, one of 300 GB, filled many a disk (moby#5419)."""
    if not can_have_holes(tmp_path / "g"):
        pytest.skip("missing: a filesystem with holes")
    status = written(tmp_path / "f", *[bytes(1 << 20)] * 64)
    assert (status.st_size, status.st_blocks) == (64 << 20, 0)


def test_zeros_in_pieces_smaller_than_a_page_are_written(tmp_path: Path) -> None:
    """To see whether more of them follow would mean to keep them."""
    status = written(tmp_path / "f", *[bytes(100)] * 100)
    assert (tmp_path / "f").read_bytes() == bytes(10_000)
    assert status.st_size == 10_000


def test_nothing_is_an_empty_file(tmp_path: Path) -> None:
    assert written(tmp_path / "f").st_size == 0
    assert written(tmp_path / "f", b"", b"").st_size == 0


# -- sparse maps -------------------------------------------------------------------------------------------------------


@PROPERTY
@given(
    parts=st.lists(
        st.tuples(st.integers(0, 3 * PAGE), st.binary(min_size=1, max_size=50), st.integers(1, 200)), max_size=6
    ),
    rest=st.integers(0, 3 * PAGE),
)
def test_skips_leave_zeros(parts: list[tuple[int, bytes, int]], rest: int, tmp_path: Path) -> None:
    """As the map of a sparse file asks for them."""
    expected = b""
    with new_file(tmp_path / "f") as descriptor:
        writer = HoleWriter(descriptor)
        for hole, piece, times in parts:
            expected += bytes(hole)
            writer.skip_to(len(expected))
            writer.write(memoryview(piece * times))
            expected += piece * times
        expected += bytes(rest)
        writer.finish(len(expected))
    assert (tmp_path / "f").read_bytes() == expected


def test_a_sparse_file_far_beyond_the_disk(tmp_path: Path) -> None:
    """Two bytes, a terabyte between them."""
    far = 1 << 40
    if not can_have_holes(tmp_path / "g"):
        pytest.skip("missing: a filesystem with holes")
    with new_file(tmp_path / "f") as descriptor:
        writer = HoleWriter(descriptor)
        writer.write(memoryview(b"a"))
        writer.skip_to(far)
        writer.write(memoryview(b"z"))
        writer.finish(far + 100)
        status = os.fstat(descriptor)
        assert (status.st_size, status.st_blocks <= 32) == (far + 100, True)
    with open(tmp_path / "f", "rb") as made:
        made.seek(far - 1)
        assert made.read(3) == b"\0z\0"


# -- the host's side ---------------------------------------------------------------------------------------------------


def test_a_short_write_is_continued() -> None:
    """A full pipe takes part of what it is given."""
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    data = bytes(range(256)) * 4096
    got = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 1000):
            got.extend(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        write_all(writing, memoryview(data))
        write_all(writing, b"")
        write_all(writing, b"end")
    finally:
        os.close(writing)
        thread.join()
        os.close(reading)
    assert bytes(got) == data + b"end"


LIMITED = """
import os, resource, signal, sys
from unpacker.tree.data import HoleWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
writer = HoleWriter(descriptor)
try:
    {what}
except OSError as error:
    print(error.errno, os.fstat(descriptor).st_size)
"""


@pytest.mark.parametrize(
    ("what", "size"),
    [
        pytest.param("writer.write(memoryview(b'x' * 50_000))", 10_000, id="data"),
        pytest.param("writer.write(memoryview(bytes(50_000))); writer.finish(50_000)", 0, id="zeros"),
        pytest.param("writer.skip_to(20_000); writer.write(memoryview(b'x'))", 0, id="behind a hole"),
    ],
)
def test_a_full_disk_is_an_error_and_no_short_file(what: str, size: int, tmp_path: Path) -> None:
    """The kernel takes what fits and says so; only the next call fails."""
    program = LIMITED.format(what=what)
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "f"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG} {size}\n"
