"""Bombs: little to store, much to unpack.  Each ends soon, in one line or in a tree, and in little memory.

Every image runs in a process of its own, whose memory is measured by the kernel: decompressors keep theirs where Python
does not see it.  Sizes here are small, and limits as well where they are what ends it; docs/security.md has a table of
the same bombs at full size.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.compressed import gzip_member, raw_block, rle_block, skippable, zstd_frame
from tests.support.layoutbuild import OCI, BuiltLayer, LayoutBuilder
from tests.support.tarbuild import (
    BLOCK,
    Entry,
    base256,
    directory,
    encode,
    file,
    gnu_long,
    hardlink,
    header,
    layer,
    pax_header,
    symlink,
    whiteout,
)
from tests.unpack.command import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MIB = 1 << 20
MEMORY = 150 * MIB
"""What a run may take at most; one of an image of three files takes 20 MiB."""
SECONDS = 30
RUN = """
import sys
from unpacker.cli import unpack_main
status = unpack_main(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(status, int(peak) * 1024)
"""


class Outcome(NamedTuple):
    status: int
    memory: int
    error: str


def run(built: LayoutBuilder, *words: str) -> Outcome:
    dest = built.path.parent / "dest"
    command = [sys.executable, "-c", RUN, "--quiet", "--no-labels", *words, str(built.path), str(dest)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=SECONDS)
    status, memory = map(int, done.stdout.split())
    assert memory < MEMORY
    assert (status == 0) == dest.exists()
    return Outcome(status, memory, done.stderr)


def blob(path: Path, data: bytes, tar: Iterable[bytes], kind: str) -> LayoutBuilder:
    """Store an image of one layer, whose bytes are written by hand; the tar is hashed and never held."""
    built = LayoutBuilder(path / "layout")
    hasher = hashlib.sha256()
    for piece in tar:
        hasher.update(piece)
    stored = BuiltLayer(
        tar=b"", blob=data, diff_id=f"sha256:{hasher.hexdigest()}", descriptor=built.blob(OCI[kind], data)
    )
    built.name(built.image([stored]))
    return built


def tar_of(path: Path, *pieces: bytes | Iterable[bytes]) -> LayoutBuilder:
    """Store an image of one layer, compressed with gzip piece by piece."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    flat = [one for piece in pieces for one in ([piece] if isinstance(piece, bytes) else piece)]
    data = b"".join([*map(compressor.compress, flat), compressor.flush()])
    return blob(path, data, flat, "gzip")


def zeros(size: int) -> list[bytes]:
    return [bytes(MIB)] * (size // MIB)


END = bytes(2 * BLOCK)
TINY = layer(file("a", b"a"))


def large(size: int, name: bytes = b"z", typeflag: bytes = b"0") -> bytes:
    return header(name=name, size=base256(size, 12), typeflag=typeflag, magic=b"ustar ", version=b" \0", mode=0o644)


# -- more bytes than allowed -------------------------------------------------------------------------------------------

SIZE = 32 * MIB
EXPANDING: dict[str, Callable[[], list[bytes | list[bytes]]]] = {
    "in a file": lambda: [large(SIZE), zeros(SIZE), END],
    "behind the end": lambda: [TINY, zeros(SIZE)],
    "in a volume label": lambda: [large(SIZE, typeflag=b"V"), zeros(SIZE), TINY],
    "in many small files": lambda: [encode(file(str(number), bytes(MIB)), "pax") for number in range(32)],
}


@pytest.mark.parametrize("where", EXPANDING)
@pytest.mark.parametrize("limit", [["layer_bytes=16M"], ["ratio=50", "ratio_floor=1M"]], ids=["bytes", "ratio"])
def test_zeros_without_end_are_too_many(where: str, limit: list[str], tmp_path: Path) -> None:
    words = [word for one in limit for word in ("--limit", one)]
    outcome = run(tar_of(tmp_path, *EXPANDING[where]()), *words)
    assert outcome.status == 5
    assert "more than the limit of" in outcome.error


@pytest.mark.parametrize("where", EXPANDING)
def test_zeros_within_limits_take_no_memory_and_no_disk(where: str, tmp_path: Path) -> None:
    assert run(tar_of(tmp_path, *EXPANDING[where]())).status == 0
    written = sum(path.stat().st_blocks * 512 for path in (tmp_path / "dest").iterdir())
    assert written < 2 * MIB


@pytest.mark.parametrize("typeflag", [b"x", b"g", b"L", b"K", b"X"])
def test_a_header_without_end_is_not_read(typeflag: bytes, tmp_path: Path) -> None:
    """Go read all of it (CVE-2022-2879)."""
    outcome = run(tar_of(tmp_path, large(10 << 30, typeflag=typeflag), zeros(SIZE)))
    assert outcome.status == 5
    assert "bytes of an extension header" in outcome.error


# -- compressed streams that are all overhead --------------------------------------------------------------------------

EMPTY, OTHER_EMPTY = gzip_member(b""), gzip_member(b"", extra=b"x")
STREAMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty members": ("gzip", lambda: EMPTY * 1_000_000 + gzip.compress(TINY)),
    "two kinds of empty members": ("gzip", lambda: (EMPTY + OTHER_EMPTY) * 50_000 + gzip.compress(TINY)),
    "members of one byte": ("gzip", lambda: b"".join(gzip_member(TINY[i : i + 1]) for i in range(len(TINY)))),
    "long headers": ("gzip", lambda: gzip_member(b"", extra=bytes(60_000)) * 300 + gzip.compress(TINY)),
    "zeros behind it": ("gzip", lambda: gzip.compress(TINY) + bytes(32 * MIB)),
    "skippable frames": ("zstd", lambda: skippable(b"") * 200_000 + zstd_frame(raw_block(TINY))),
    "empty frames": ("zstd", lambda: zstd_frame() * 200_000 + zstd_frame(raw_block(TINY))),
    "empty blocks": ("zstd", lambda: zstd_frame(*[raw_block(b"")] * 500_000, raw_block(TINY))),
    "one large skippable frame": ("zstd", lambda: skippable(bytes(32 * MIB)) + zstd_frame(raw_block(TINY))),
    "a window of 128 MiB": ("zstd", lambda: zstd_frame(raw_block(TINY), window_log=27)),
}


@pytest.mark.parametrize("which", STREAMS)
def test_a_stream_of_nothing_is_read_to_its_end(which: str, tmp_path: Path) -> None:
    """umoci 0.4.7 does not come to the end of a million empty members."""
    kind, make = STREAMS[which]
    assert run(blob(tmp_path, make(), [TINY], kind)).status == 0


@pytest.mark.parametrize(
    ("data", "kind", "status", "words"),
    [
        (zstd_frame(rle_block(b"\0", 1024), window_log=31), "zstd", 5, "window"),
        (zstd_frame(*[rle_block(b"\0", 128 << 10)] * 16_000), "zstd", 5, "decompressed bytes for each compressed byte"),
        (skippable(b"x" * 100)[:-1], "zstd", 4, "cut off"),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"A" * 500_000, "gzip", 4, "header of more than"),
        (gzip.compress(TINY)[:-1], "gzip", 4, "cut off"),
    ],
    ids=["window", "run-length", "skippable-cut", "name-without-end", "gzip-cut"],
)
def test_a_stream_that_asks_too_much_is_refused(
    data: bytes, kind: str, status: int, words: str, tmp_path: Path
) -> None:
    outcome = run(blob(tmp_path, data, [TINY], kind))
    assert outcome.status == status
    assert words in outcome.error


# -- archives that are all overhead ------------------------------------------------------------------------------------


def many(count: int, make: Callable[[int], Entry]) -> bytes:
    return b"".join(encode(make(number), "ustar") for number in range(count))


def old_sparse(blocks: int) -> bytes:
    """Give a sparse file whose map goes on and on, with nothing in it."""
    start = header(name=b"s", typeflag=b"S", magic=b"ustar ", version=b" \0", isextended=b"\1")
    return start + (bytes(504) + b"\1" + bytes(7)) * blocks + bytes(504) + bytes(8)


def segments(count: int) -> bytes:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"%d" % 2**62)]
    body = (b"%d\n" % count).ljust(BLOCK, b"\0")
    return pax_header(records) + header(name=b"s", size=len(body), magic=b"ustar\0", version=b"00") + body


REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "segments": (lambda: segments(10**9), 5, "segments of a sparse file"),
    "entries": (lambda: many(1_100, lambda number: file(f"{number}")), 5, "tar entries in a layer"),
    "directories": (
        lambda: b"".join(gnu_long(b"%d/" % i + b"d/" * 400 + b"f") + encode(file("x"), "gnu") for i in range(3)),
        5,
        "directories in a layer",
    ),
    "a deep path": (lambda: gnu_long(b"d/" * 100_000 + b"f") + encode(file("x"), "gnu"), 5, "bytes of a path"),
    "a name of many directories": (
        lambda: gnu_long(b"d/" * 1_500 + b"f") + encode(file("x"), "gnu"),
        5,
        "directories in a path",
    ),
    "many xattrs": (
        lambda: encode(file("f", xattrs={f"user.{number}": b"" for number in range(10_001)}), "pax"),
        5,
        "extended attributes of a file",
    ),
    "a deep path by a link": (
        lambda: (
            gnu_long("/".join(["a" * 250] * 15).encode(), typeflag=b"K")
            + encode(symlink("l", "x"), "gnu")
            + gnu_long("/".join(["l", "b" * 250, "c" * 250, "f"]).encode())
            + encode(file("x"), "gnu")
        ),
        5,
        "bytes of a path",
    ),
    "a long way by a link": (
        lambda: (
            gnu_long(b"d/" * 2_000 + b"d", typeflag=b"K")
            + encode(symlink("l", "x"), "gnu")
            + encode(file("l/f"), "ustar")
        ),
        5,
        "symbolic links",
    ),
    "a loop": (lambda: many(1, lambda _: symlink("l", "l")) + encode(file("l/x"), "ustar"), 5, "symbolic links"),
    "an attribute": (lambda: encode(file("f", xattrs={"user.x": bytes(70_000)}), "pax"), 5, "extended attribute"),
    "links to nothing": (lambda: many(2_000, lambda number: hardlink(f"{number}", "x")), 5, "which is nothing"),
    "a sparse file of exabytes": (lambda: segments(0), 0, ""),
}


@pytest.mark.parametrize("which", REFUSED)
def test_an_archive_that_asks_too_much_is_refused(which: str, tmp_path: Path) -> None:
    make, status, words = REFUSED[which]
    outcome = run(
        tar_of(tmp_path, make(), END),
        "--limit",
        "entries=1000" if which in ("entries", "directories") else "entries=100000",
    )
    # How large a file may be is up to the filesystem.
    assert outcome.status in ((0, 6) if which == "a sparse file of exabytes" else (status,))
    assert words in outcome.error


UNPACKED: dict[str, Callable[[], bytes]] = {
    "labels": lambda: header(name=b"v", typeflag=b"V", magic=b"ustar ", version=b" \0") * 20_000,
    "global headers": lambda: pax_header([(b"comment", b"x")], typeflag=b"g") * 5_000,
    "a map of nothing": lambda: old_sparse(4_000),
    "xattrs": lambda: encode(file("f", xattrs={f"user.{number}": b"" for number in range(10_000)}), "pax"),
    "one name": lambda: many(3_000, lambda number: file("f") if number % 2 else symlink("f", "x")),
    "whiteouts": lambda: many(5_000, lambda number: whiteout(f"d/{number}")),
    "names of one file": lambda: many(1, lambda _: file("f")) + many(4_000, lambda number: hardlink(f"{number}", "f")),
    "links that wait": lambda: (
        many(1_000, lambda number: hardlink(f"{number}", f"f{number}")) + many(1_000, lambda number: file(f"f{number}"))
    ),
    "links through each other": lambda: (
        many(20, lambda number: symlink(f"{number}", "d/../" * 15 + f"{number + 1}"))
        + many(500, lambda number: file("0/x") if number % 2 else symlink("0/x", "y"))
    ),
    "deep directories": lambda: b"".join(
        gnu_long(b"%d/" % number + b"d/" * 400 + b"f") + encode(file("x"), "gnu") for number in range(20)
    ),
}


@pytest.mark.parametrize("which", UNPACKED)
def test_an_archive_of_much_that_is_little_is_unpacked(which: str, tmp_path: Path) -> None:
    assert run(tar_of(tmp_path, UNPACKED[which](), encode(directory("end"), "ustar"), END)).status == 0
    assert (tmp_path / "dest/end").is_dir()
