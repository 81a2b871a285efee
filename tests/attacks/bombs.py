"""Bombs at full size: what each of them takes, and the table of that in docs/security.md.

``python -m tests.attacks.bombs`` makes them one after the other, unpacks each in a process of its own, and prints the
table; ``--write`` puts it into the page.  Words choose bombs by a part of their names, and leave the rows of others;
``--on`` says where all of it happens, which takes 4 GiB and millions of files: if root runs it, a filesystem in memory
of its own.  The whole takes a quarter of an hour.  It fails if a bomb ends otherwise than it should, or takes too much.

`tests/attacks/test_bombs.py` has the same ones smaller, for every day.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from tests.support.compressed import gzip_member, raw_block, rle_block, skippable, zstd_frame
from tests.support.layoutbuild import OCI, BuiltLayer, LayoutBuilder
from tests.support.tarbuild import BLOCK, base256, encode, file, gnu_long, header, layer, pax_header
from tests.tree.support import opened
from tests.unpack.command import environment
from unpacker.tree.remove import remove_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MIB = 1 << 20
MOST = 150 * MIB
"""Memory that a run may take, whatever it is given."""
PATIENCE = 600
"""Seconds after which a run hangs, on a machine that is busy."""
LOOK = 0.02
"""Seconds between two looks at the memory of all processes of a run."""
MILLION = 1_000_000
ZEROS = 10 << 30
PAGE = Path(__file__).parents[2] / "docs" / "security.md"
TABLE = re.compile(r"(?<=<!-- bombs -->\n\n).*?(?=\n\n<!-- /bombs -->)", re.DOTALL)
MOUNT = 'mount -t tmpfs -o size=75%,nr_inodes=0 tmpfs "$0" && exec "$@"'
HEAD = ("| image | stored | seconds | MiB | outcome |", "|---|---|---|---|---|")
RUN = """
import resource, sys
from unpacker.cli import unpack_main
status = unpack_main(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(status, int(peak) * 1024, sum(one.ru_utime + one.ru_stime for one in used))
"""


class Blob(NamedTuple):
    """A layer as it is stored."""

    data: bytes
    diff_id: str
    kind: str = "gzip"


class Bomb(NamedTuple):
    """An image, and how its unpacking ends: ``unpacked``, or a word of the error that refuses it."""

    name: str
    end: str
    layers: Callable[[], list[Blob]]
    words: tuple[str, ...] = ()
    config: object = None
    """What the config has besides."""
    most: int = MOST


class Taken(NamedTuple):
    """What a bomb has taken; ``end`` is ``unpacked``, or what it said."""

    stored: int
    seconds: float
    memory: int
    end: str


# -- archives ----------------------------------------------------------------------------------------------------------

END = bytes(2 * BLOCK)
TINY = layer(file("a", b"a"))


def zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield bytes(MIB)


def large(size: int, typeflag: bytes = b"0") -> bytes:
    return header(name=b"z", size=base256(size, 12), typeflag=typeflag, magic=b"ustar ", version=b" \0", mode=0o644)


def many(typeflag: bytes, name: bytes, *, link: bytes = b"", count: int = MILLION) -> Iterator[bytes]:
    """Yield headers that have a number in their names, or in their links as well: faster than made one by one."""
    block = header(typeflag=typeflag, mode=0o755, mtime=1, magic=b"ustar\0", version=b"00")
    middle, behind = block[100:148], block[257:]
    constant = sum(middle) + sum(behind) + sum(typeflag) + 8 * ord(" ")
    for number in range(count):
        own = name % number
        target = link % number if b"%" in link else link
        checksum = b"%06o\0 " % (constant + sum(own) + sum(target))
        yield own.ljust(100, b"\0") + middle + checksum + typeflag + target.ljust(100, b"\0") + behind


def described(records: list[tuple[bytes, bytes]], entries: Iterable[bytes]) -> Iterator[bytes]:
    """Yield entries, the same pax records before each."""
    before = pax_header(records)
    return (before + entry for entry in entries)


def deep(names: int, depth: int = 1_000, step: bytes = b"d/") -> Iterator[bytes]:
    for number in range(names):
        yield gnu_long(b"%d/" % number + step * depth + b"f") + encode(file("x"), "gnu")


def hidden(count: int) -> tuple[Iterator[bytes], Iterator[bytes]]:
    """Give many files, and the whiteouts of all of them."""
    return many(b"0", b"%07d", count=count), many(b"0", b".wh.%07d", count=count)


def long_whiteouts(count: int) -> Iterator[bytes]:
    """Yield whiteouts whose names have 3,800 bytes."""
    for number in range(count):
        yield gnu_long(b"n" * 250 + (b"/" + b"n" * 250) * 14 + b"/.wh.%d" % number) + encode(file("x"), "gnu")


def sparse(count: int) -> Iterator[bytes]:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"%d" % 2**62)]
    body = (b"%d\n" % count).ljust(BLOCK, b"\0")
    yield pax_header(records) + header(name=b"s", size=len(body), magic=b"ustar\0", version=b"00") + body


# -- layers ------------------------------------------------------------------------------------------------------------


def diff_id(*tar: Iterable[bytes]) -> str:
    hasher = hashlib.sha256()
    for pieces in tar:
        for piece in pieces:
            hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


def packed(tar: Iterable[bytes]) -> Blob:
    """Compress an archive, which is never whole in memory."""
    compressor, hasher, data = zlib.compressobj(1, zlib.DEFLATED, 31), hashlib.sha256(), []
    for piece in tar:
        hasher.update(piece)
        data.append(compressor.compress(piece))
    hasher.update(END)
    data += compressor.compress(END), compressor.flush()
    return Blob(b"".join(data), f"sha256:{hasher.hexdigest()}")


def of_zeros(head: bytes, tail: bytes = b"") -> list[Blob]:
    """Give 10 GiB of zeros at the highest ratio that gzip has: one member, many times."""
    size = 64 * MIB
    data = gzip_member(head) + gzip_member(bytes(size), level=9) * (ZEROS // size) + gzip_member(tail)
    return [Blob(data, diff_id([head], zeros(ZEROS), [tail]))]


def of_run_lengths() -> list[Blob]:
    size = 128 << 10
    return [Blob(zstd_frame(*[rle_block(b"\0", size)] * (ZEROS // size)), diff_id([TINY]), "zstd")]


def windowed(log: int) -> list[Blob]:
    """Give a file that fills a window of zstd three times."""
    size = 3 << log
    tar = [large(size), *[b"0123456789abcde\n" * (1 << 16)] * (size // MIB), END]
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return [Blob(b"".join([*map(packer.compress, tar), packer.flush()]), diff_id(tar), "zstd")]


def tiny(data: bytes, kind: str = "gzip") -> list[Blob]:
    return [Blob(data, diff_id([TINY]), kind)]


def layers(*tars: Iterable[bytes]) -> list[Blob]:
    return [packed(tar) for tar in tars]


def small() -> Iterator[bytes]:
    yield encode(file("b"), "ustar")


EMPTY, OTHER_EMPTY = gzip_member(b""), gzip_member(b"", extra=b"x")
XATTR = [(b"SCHILY.xattr.user.x", b"v" * 60)]
XATTRS = [(b"SCHILY.xattr.user.%d" % number, b"v" * 60_000) for number in range(16)]
STORE = ("--store",)


def nested(values: int, *, depth: int = 60) -> object:
    """Give as many objects in one another, as deep as is allowed, and with names of nothing."""
    found = []
    for _ in range(values // depth):
        one: object = 0
        for _ in range(depth):
            one = {"": one}
        found.append(one)
    return found


BOMBS = [
    Bomb("10 GiB of zeros in a file", "unpacked", lambda: of_zeros(large(ZEROS), END)),
    Bomb("10 GiB of zeros behind the end marker", "unpacked", lambda: of_zeros(TINY)),
    Bomb("10 GiB of zeros as padding, in a volume label", "unpacked", lambda: of_zeros(large(ZEROS, b"V"), TINY)),
    Bomb("10 GiB of zeros in a pax header", "header_bytes", lambda: of_zeros(large(ZEROS, b"x"))),
    Bomb("10 GiB of zeros in a long name", "header_bytes", lambda: of_zeros(large(ZEROS, b"L"))),
    Bomb("10 GiB of zeros in run-length blocks of zstd", "ratio", of_run_lengths),
    Bomb("a million empty gzip members", "unpacked", lambda: tiny(EMPTY * MILLION + gzip_member(TINY))),
    Bomb(
        "a million empty gzip members, of two kinds in turn",
        "unpacked",
        lambda: tiny((EMPTY + OTHER_EMPTY) * (MILLION // 2) + gzip_member(TINY)),
    ),
    Bomb(
        "a million skippable zstd frames",
        "unpacked",
        lambda: tiny(skippable(b"") * MILLION + zstd_frame(raw_block(TINY)), "zstd"),
    ),
    Bomb(
        "a million empty zstd frames",
        "unpacked",
        lambda: tiny(zstd_frame() * MILLION + zstd_frame(raw_block(TINY)), "zstd"),
    ),
    Bomb("a zstd window of 2³¹", "zstd_window_log", lambda: tiny(zstd_frame(raw_block(TINY), window_log=31), "zstd")),
    Bomb("a zstd window of 2²⁷, filled", "unpacked", lambda: windowed(27), most=MOST + (1 << 27) // 2),
    Bomb("a sparse map of 10⁹ segments", "sparse_segments", lambda: layers(sparse(10**9))),
    Bomb("a million files", "unpacked", lambda: layers(many(b"0", b"%07d"))),
    Bomb("a million files over another layer", "unpacked", lambda: layers(small(), many(b"0", b"%07d"))),
    Bomb(
        "a million files over another layer, in a store",
        "unpacked",
        lambda: layers(small(), many(b"0", b"%07d")),
        STORE,
    ),
    Bomb("a million directories", "memory_bytes", lambda: layers(many(b"5", b"%07d/"))),
    Bomb("a million directories over another layer", "memory_bytes", lambda: layers(small(), many(b"5", b"%07d/"))),
    Bomb("a million directories, in a store", "memory_bytes", lambda: layers(small(), many(b"5", b"%07d/")), STORE),
    Bomb(
        "a million directories, in ten layers",
        "memory_bytes",
        lambda: layers(*(many(b"5", b"%d-%%07d/" % number, count=MILLION // 10) for number in range(10))),
    ),
    Bomb(
        "two layers of 200,000 directories each",
        "memory_bytes",
        lambda: layers(*(many(b"5", b"%d-%%07d/" % number, count=200_000) for number in range(2))),
    ),
    Bomb("a million files, in a directory each", "memory_bytes", lambda: layers(many(b"0", b"%07d/f"))),
    Bomb("a million symbolic links", "unpacked", lambda: layers(many(b"2", b"%07d", link=b"x"))),
    Bomb(
        "half a million files with two names each, in a store",
        "memory_bytes",
        lambda: layers(
            chain(many(b"0", b"%07d", count=MILLION // 2), many(b"1", b"b%07d", link=b"%07d", count=MILLION // 2))
        ),
        STORE,
    ),
    Bomb("a million fifos", "unpacked", lambda: layers(many(b"6", b"%07d"))),
    Bomb("a million names of one file", "unpacked", lambda: layers([*small(), *many(b"1", b"%07d", link=b"b")])),
    Bomb(
        "a million hard links to what comes later",
        "memory_bytes",
        lambda: layers(many(b"1", b"%07d", link=b"b"), small()),
    ),
    Bomb("a million files with an xattr each", "unpacked", lambda: layers(described(XATTR, many(b"0", b"%07d")))),
    Bomb(
        "2,000 directories with a MiB of xattrs each",
        "memory_bytes",
        lambda: layers(described(XATTRS, many(b"5", b"%07d/", count=2_000))),
    ),
    Bomb("a million whiteouts", "memory_bytes", lambda: layers(small(), many(b"0", b".wh.%07d"))),
    Bomb("200,000 whiteouts of what is there", "unpacked", lambda: layers(*hidden(200_000))),
    Bomb("30,000 whiteouts with names of 3,800 bytes", "memory_bytes", lambda: layers(small(), long_whiteouts(30_000))),
    Bomb("a name of 100,000 directories", "path_bytes", lambda: layers(deep(1, 100_000))),
    Bomb("500 names of 1,000 directories", "memory_bytes", lambda: layers(deep(500))),
    Bomb(
        "100 names of 1,000 directories, over 100 others",
        "memory_bytes",
        lambda: layers(deep(100), deep(100, step=b"e/")),
    ),
    Bomb("a million values of JSON", "document_values", lambda: layers(small()), config=[0] * MILLION),
    Bomb("240,000 objects of JSON in one another", "unpacked", lambda: layers(small()), config=nested(240_000)),
]


# -- unpacking them ----------------------------------------------------------------------------------------------------


def written(bomb: Bomb, place: Path) -> int:
    """Write a bomb's layout; give how many bytes it takes."""
    built = LayoutBuilder(place, mutate={"config": lambda content: content.update(extra=bomb.config)})
    stored = [
        BuiltLayer(tar=b"", blob=b"", diff_id=one.diff_id, descriptor=built.blob(OCI[one.kind], one.data))
        for one in bomb.layers()
    ]
    built.name(built.image(stored))
    return sum(path.stat().st_size for path in (place / "blobs/sha256").iterdir())


def family(process: int) -> list[int]:
    """List a process and all below it."""
    found = [process]
    for one in found:
        try:
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except FileNotFoundError:
            continue
    return found


def memory_of(process: int) -> int:
    """Give the bytes of memory of a process, its part of what it shares with others."""
    try:
        found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def unpacked(bomb: Bomb, place: Path) -> Taken:
    """Unpack a bomb in a process of its own."""
    stored = written(bomb, place / "layout")
    words = [word for name in bomb.words for word in (name, str(place / "store"))]
    command = [sys.executable, "-c", RUN, "--quiet", "--no-labels", *words, str(place / "layout"), str(place / "dest")]
    most, end = 0, time.monotonic() + PATIENCE
    with (place / "out").open("w+") as out, (place / "err").open("w+") as err:
        with subprocess.Popen(command, env=environment(), stdout=out, stderr=err) as run:
            while run.poll() is None:
                processes = family(run.pid)
                if len(processes) > 1:  # of one alone the kernel keeps the peak
                    most = max(most, sum(map(memory_of, processes)))
                time.sleep(LOOK)
                if time.monotonic() > end:
                    run.kill()
        out.seek(0)
        err.seek(0)
        status, peak, seconds = out.read().split() or (-1, 0, PATIENCE)
        return Taken(stored, float(seconds), max(int(peak), most), "unpacked" if status == "0" else err.read())


def faults(bomb: Bomb, taken: Taken) -> list[str]:
    """Say what is wrong with the end of a bomb."""
    found = []
    if bomb.end != "unpacked" and f"--limit {bomb.end}=" not in taken.end:
        found.append(f"not refused by {bomb.end}: {taken.end}")
    if bomb.end == "unpacked" != taken.end:
        found.append(f"not unpacked: {taken.end}")
    if taken.memory > bomb.most:
        found.append(f"{taken.memory} bytes of memory, and {bomb.most} at most")
    return found


def row(bomb: Bomb, taken: Taken) -> str:
    size = f"{taken.stored / MIB:.1f} MiB" if taken.stored > MIB // 10 else f"{-(-taken.stored // 1024)} KiB"
    end = "unpacked" if bomb.end == "unpacked" else f"refused: `{bomb.end}`"
    return f"| {bomb.name} | {size} | {taken.seconds:.1f} | {taken.memory // MIB} | {end} |"


def tabled(page: str, rows: dict[str, str]) -> str:
    """Give the page with these rows in its table, by the names of bombs; others stay as they are."""
    there = TABLE.search(page)
    known = {} if there is None else {line.split("|")[1].strip(): line for line in there[0].splitlines()}
    known.update(rows)
    table = [*HEAD, *(known[bomb.name] for bomb in BOMBS if bomb.name in known)]
    return TABLE.sub("\n".join(table), page)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Unpack bombs, and say what each of them takes.")
    parser.add_argument("words", nargs="*", help="only bombs with one of these words in their names")
    parser.add_argument("--on", default="/dev/shm", type=Path, help="where (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/security.md")
    options = parser.parse_args(words)
    rows: dict[str, str] = {}
    wrong = 0
    for bomb in BOMBS:
        if options.words and not any(word in bomb.name for word in options.words):
            continue
        place = Path(tempfile.mkdtemp(prefix="bombs-", dir=options.on))
        try:
            taken = unpacked(bomb, place)
        finally:
            with opened(options.on) as directory:
                remove_at(directory, place.name)
        line = row(bomb, taken)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        for fault in faults(bomb, taken):
            sys.stderr.write(f"{bomb.name}: {fault}\n")
            wrong += 1
            break
        else:
            rows[bomb.name] = line
    if options.write:
        PAGE.write_text(tabled(PAGE.read_text(), rows))
    return 1 if wrong else 0


if __name__ == "__main__":
    if os.geteuid() == 0 and "--on" not in sys.argv:
        with tempfile.TemporaryDirectory() as own:  # gone with the mount namespace, whatever happens
            again = ["unshare", "--mount", "sh", "-c", MOUNT, own, sys.executable, "-m", "tests.attacks.bombs"]
            sys.exit(subprocess.run([*again, *sys.argv[1:], "--on", own], check=False).returncode)
    sys.exit(main())
