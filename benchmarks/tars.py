"""Writes tar archives with made-up contents: the same bytes on each machine, which compress as those of programs do."""

from __future__ import annotations

import tarfile
from itertools import accumulate
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import random
    from pathlib import Path

WORDS = 4096
LONGEST = 14
MTIME = 1_700_000_000
BLOCK = 512


class Contents:
    """Bytes of words, the frequent ones short on the list, so that gzip makes about two fifths of them.

    Args:
        rng: Whose numbers make them.
        size: How many there are before they repeat: more than a compressor looks back.
    """

    def __init__(self, rng: random.Random, size: int) -> None:
        self._rng = rng
        words = [rng.randbytes(rng.randint(2, LONGEST)) for _ in range(WORDS)]
        weights = list(accumulate(1 / (rank + 20) for rank in range(WORDS)))
        self._bytes = b"".join(rng.choices(words, cum_weights=weights, k=size // 4))[:size]

    def take(self, size: int) -> bytes:
        """Give some of them, from anywhere; fewer than asked for if there are not as many."""
        start = self._rng.randint(0, max(0, len(self._bytes) - size))
        return self._bytes[start : start + size]

    def size(self, median: int, spread: float, most: int) -> int:
        """Give a size of a file: many are small and few large, as in any file system."""
        return min(most, int(median * self._rng.lognormvariate(0, spread)))


class Tar:
    """One archive in writing; a context manager.  `tarfile` makes the headers, and would keep all of them in memory."""

    def __init__(self, path: Path) -> None:
        self._out = path.open("wb", buffering=1 << 20)
        self.entries = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.write(bytes(2 * BLOCK))
        self._out.close()

    def directory(self, name: str, mode: int = 0o755) -> None:
        self._header(name + "/", tarfile.DIRTYPE, mode)

    def file(self, name: str, data: bytes = b"", mode: int = 0o644) -> None:
        self._header(name, tarfile.REGTYPE, mode, size=len(data))
        self._out.write(data)
        self._out.write(bytes(-len(data) % BLOCK))

    def large_file(self, name: str, contents: Contents, pieces: int, piece: int) -> None:
        """Write a file of as many pieces of so many bytes, which need not be in memory."""
        self._header(name, tarfile.REGTYPE, 0o644, size=pieces * piece)
        for _ in range(pieces):
            self._out.write(contents.take(piece))
        self._out.write(bytes(-(pieces * piece) % BLOCK))

    def symlink(self, name: str, target: str) -> None:
        self._header(name, tarfile.SYMTYPE, 0o777, link=target)

    def hardlink(self, name: str, target: str) -> None:
        self._header(name, tarfile.LNKTYPE, 0o644, link=target)

    def whiteout(self, name: str) -> None:
        directory, _, last = name.rpartition("/")
        self.file(f"{directory}/.wh.{last}")

    def opaque(self, directory: str) -> None:
        self.file(f"{directory}/.wh..wh..opq")

    def _header(self, name: str, kind: bytes, mode: int, *, size: int = 0, link: str = "") -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size, info.linkname, info.mtime = kind, mode, size, link, MTIME
        self._out.write(info.tobuf(tarfile.GNU_FORMAT))
        self.entries += 1
