"""Memory stays flat, whatever a layer's size and however many entries it has.

``UNPACK_SCALE=8 pytest tests/unpack/test_memory.py`` unpacks layers that are eight times as large.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.support.layoutbuild import OCI, BuiltLayer, Compression, LayoutBuilder, write_layout
from tests.support.tarbuild import SECOND, directory, file, header, layer
from tests.unpack.command import command, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCALE = int(os.environ.get("UNPACK_SCALE", "1"))
SIZE = SCALE * 256 << 20
ENTRIES = SCALE * 12_000
MORE = 20 << 20
"""Bytes of memory that a run may have at its peak beyond those of the smallest one: for chunks that wait in queues."""

MEASURE = """
import sys
from unpacker.cli import unpack_main
status = unpack_main()
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak) << 10)
sys.exit(status)
"""


def peak(layout: Path, dest: Path) -> int:
    """Unpack in a process of its own; give the bytes of memory that it had at most."""
    words = command("-q", "--limit=ratio=1000000", layout, dest)
    outcome = run([words[0], "-c", MEASURE, *words[3:]])
    assert (outcome.status, outcome.lines) == (0, [])
    return int(outcome.out)


@pytest.fixture(scope="module")
def most(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Give the bytes that a run may have at its peak."""
    place = tmp_path_factory.mktemp("small")
    return peak(write_layout(place / "layout", [layer(file("a", b"1"))]).path, place / "dest") + MORE


def one_large_file(data: bytes) -> Iterator[bytes]:
    """Yield a layer of one file, the same mebibyte over and over."""
    yield header(name=b"large", mode=0o644, size=SIZE, mtime=SECOND, typeflag=b"0", magic=b"ustar\0", version=b"00")
    for _ in range(SIZE >> 20):
        yield data
    yield bytes(1024)


def pack(pieces: Iterator[bytes], compression: Compression) -> tuple[bytes, str]:
    """Give a blob and its diff_id; the layer is never whole in memory."""
    digest = hashlib.sha256()
    packer = zlib.compressobj(1, wbits=31) if compression == "gzip" else zstandard.ZstdCompressor(level=3).compressobj()
    blob = b""
    for piece in pieces:
        digest.update(piece)
        blob += packer.compress(piece)
    return blob + packer.flush(), f"sha256:{digest.hexdigest()}"


@pytest.mark.parametrize("content", ["zeros", "text"])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_large_layer_takes_no_more_memory_than_a_small_one(
    tmp_path: Path, compression: Compression, content: str, most: int
) -> None:
    """A bomb that is within the limits, say; its zeros take no room on the disk either."""
    mebibyte = bytes(1 << 20) if content == "zeros" else b"0123456789abcde\n" * (1 << 16)
    blob, diff_id = pack(one_large_file(mebibyte), compression)
    assert len(blob) < SIZE / 100
    built = LayoutBuilder(tmp_path / "layout")
    descriptor = built.blob(OCI[compression], blob)
    built.name(built.image([BuiltLayer(tar=b"", blob=blob, diff_id=diff_id, descriptor=descriptor)]))

    used = peak(built.path, tmp_path / "dest")

    status = (tmp_path / "dest/large").stat()
    assert used < most
    assert status.st_size == SIZE
    assert status.st_blocks * 512 < SIZE / 100 or content == "text"
    (tmp_path / "dest/large").unlink()


@pytest.mark.parametrize("shape", ["one directory", "many directories", "two layers"])
def test_many_entries_take_no_more_memory_than_a_few(tmp_path: Path, shape: str, most: int) -> None:
    """Only directories are remembered."""
    wide = 1 if shape == "one directory" else ENTRIES // 20
    built = write_layout(tmp_path / "layout", [_many(wide)] * (2 if shape == "two layers" else 1))

    assert peak(built.path, tmp_path / "dest") < most


def _many(wide: int) -> bytes:
    places = [directory(f"d{number}") for number in range(wide)]
    return layer(*places, *(file(f"d{number % wide}/f{number}", b"x") for number in range(ENTRIES)))
