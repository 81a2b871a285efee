"""One stage of an unpack alone, in a process of its own: ``python benchmarks/alone.py STAGE TARGET BLOB TAR ...``.

It does to all layers of an image what `unpack` does in that stage, with `unpack`'s own code, and nothing of the others;
then it prints the seconds, those of the clock and those of the processor, as JSON.  What it needs to be able to do that
(reading what was decompressed beforehand, parsing before writing) is not in them.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # as a program: the project's directory comes last, so that what is installed is measured
    sys.path[0:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from unpacker.archive.decompress import decompress
from unpacker.archive.reader import TarReader
from unpacker.layer.rules import Rules
from unpacker.layer.stage import Stager
from unpacker.tree.attributes import Applier
from unpacker.tree.directory import Tree
from unpacker.tree.finish import finish_directories
from unpacker.tree.owners import Owners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.spec.entry import Entry

BLOB_PIECE, TAR_PIECE = 256 << 10, 1 << 20


class Watch:
    """Adds up the seconds while it runs."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        self._add(-1)
        try:
            yield
        finally:
            self._add(1)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def _add(self, sign: int) -> None:
        self.wall += sign * time.perf_counter()
        self.cpu += sign * time.process_time()


def pieces(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(size):
            yield piece


def decompressed(blob: Path, _tar: Path, _target: Path, watch: Watch) -> None:
    source = pieces(blob, BLOB_PIECE)
    with watch.running():
        for _ in decompress(lambda: next(source, b"")):
            pass


def hashed_in(blob: Path, _tar: Path, _target: Path, watch: Watch) -> None:
    _hash(pieces(blob, BLOB_PIECE), watch)


def hashed_out(_blob: Path, tar: Path, _target: Path, watch: Watch) -> None:
    _hash(pieces(tar, TAR_PIECE), watch)


def _hash(chunks: Iterator[bytes], watch: Watch) -> None:
    hasher = hashlib.sha256()
    for chunk in chunks:
        with watch.running():
            hasher.update(chunk)


def parsed(_blob: Path, tar: Path, _target: Path, watch: Watch) -> None:
    def chunks() -> Iterator[bytes]:
        source = pieces(tar, TAR_PIECE)
        while True:
            with watch.paused():
                chunk = next(source, b"")
            if not chunk:
                return
            yield chunk

    with watch.running():
        for _ in TarReader(chunks()):
            pass


def written(_blob: Path, tar: Path, target: Path, watch: Watch) -> None:
    """Stage the entries, all of them parsed before, and give the directories their attributes."""
    reader = Parsed(tar)
    own, store = target / tar.name, target / f"{tar.name}.links"
    own.mkdir()
    store.mkdir()
    rules = Rules(owners=Owners(apply=os.geteuid() == 0, required=False, counted=True), umask=0o022)
    with watch.running(), _tree(own) as tree, _tree(store) as links:
        Stager(tree, links, rules, known=True).run(reader)  # type: ignore[arg-type]
        finish_directories(tree, Applier(rules.owners, lambda *_: None, rules.umask))


def _tree(path: Path) -> Tree:
    return Tree(os.open(path, os.O_RDONLY | os.O_DIRECTORY))


class Parsed:
    """Stands in for a reader: entries that were parsed before, and their data out of a mapping of the archive."""

    def __init__(self, tar: Path) -> None:
        reader = TarReader(pieces(tar, TAR_PIECE))
        self._entries = [(entry, reader.offset) for entry in reader]
        self.count = reader.count
        with tar.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
        self._data = memoryview(mapping)
        self._current = self._data[:0]

    def __iter__(self) -> Iterator[Entry]:
        for entry, offset in self._entries:
            self._current = self._data[offset : offset + entry.stored]
            yield entry

    def whole(self) -> memoryview | None:
        return self._current if len(self._current) <= TAR_PIECE else None

    def data(self) -> Iterator[memoryview]:
        for start in range(0, len(self._current), TAR_PIECE):
            yield self._current[start : start + TAR_PIECE]


STAGES: dict[str, Callable[[Path, Path, Path, Watch], None]] = {
    "decompress": decompressed,
    "sha256 in": hashed_in,
    "sha256 out": hashed_out,
    "parse": parsed,
    "write": written,
}


def main() -> None:
    stage, target, *layers = sys.argv[1:]
    watch = Watch()
    for blob, tar in zip(layers[::2], layers[1::2], strict=True):
        STAGES[stage](Path(blob), Path(tar), Path(target), watch)
    print(json.dumps({"wall": watch.wall, "cpu": watch.cpu}))


if __name__ == "__main__":
    main()
