"""An image of many layers, as a long Dockerfile leaves it: packages, sources, changed modes, removals, in turns.

It is made up, from a fixed seed, but has what such images have: most layers are small, many change what is below, and
files that were removed are still in it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from benchmarks.tars import Contents, Tar

if TYPE_CHECKING:
    from pathlib import Path

STEPS = ("packages", "sources", "sources", "modes", "removal", "update", "empty", "sources")
BASE_FILES = 3_000


def forty_layers(directory: Path, number: int = 40, base_files: int = BASE_FILES) -> list[Path]:
    """Write a base and the steps after it, each as one layer."""
    history = _History(random.Random(40), base_files)
    tars = []
    for index in range(number):
        with Tar(tar := directory / f"{index}.tar") as out:
            history.step("base" if index == 0 else STEPS[index % len(STEPS)], out, index)
        tars.append(tar)
    return tars


class _History:
    """What is in the image so far."""

    def __init__(self, rng: random.Random, base_files: int) -> None:
        self._rng = rng
        self._contents = Contents(rng, base_files * 5_000)
        self._base_files = base_files
        self._directories = [f"usr/{top}" for top in ("bin", "lib", "share", "include")]
        self._files: dict[str, None] = {}
        self._made = 0
        self._written: set[str] = set()
        """The directories that have had an entry in the layer that is being written."""

    def step(self, kind: str, out: Tar, index: int) -> None:
        """Write one layer."""
        self._written.clear()
        if kind in ("base", "packages"):
            number = self._base_files if kind == "base" else self._rng.randrange(self._base_files // 2) + 1
            self._packages(out, number)
        elif kind == "sources":
            self._sources(out, f"app/part{index}")
        elif kind == "modes":
            for name in self._some(50):
                self._file(out, name, mode=0o755)
        elif kind == "update":
            for name in self._some(200):
                self._file(out, name)
        elif kind == "removal":
            self._removal(out)
        else:
            self._parents(out, f"srv/data{index}/x")

    def _packages(self, out: Tar, number: int) -> None:
        """Put files where there are others, and below new directories: few of them large, and a list of all of them."""
        for _ in range(number):
            if self._rng.randrange(8) == 0:
                self._directories.append(f"{self._rng.choice(self._directories[:200])}/p{len(self._directories)}")
            self._made += 1
            name = f"{self._rng.choice(self._directories[-200:])}/f{self._made}"
            if self._rng.randrange(12) == 0:
                self._parents(out, name)
                out.symlink(name, f"f{self._made - 1}")
            else:
                self._file(out, name)
        self._parents(out, "var/lib/status")
        out.file("var/lib/status", self._contents.take(80 * len(self._files)))

    def _sources(self, out: Tar, directory: str) -> None:
        self._directories.append(directory)
        for index in range(self._rng.randrange(1, 200)):
            self._file(out, f"{directory}/src{index % 7}/module{index}.js")

    def _removal(self, out: Tar) -> None:
        """Remove files, and replace one directory with all that is in it."""
        for name in self._some(100):
            del self._files[name]
            self._parents(out, name)
            out.whiteout(name)
        replaced = self._rng.choice(self._directories[4:])
        self._files = {name: None for name in self._files if not name.startswith(f"{replaced}/")}
        self._parents(out, f"{replaced}/x")
        out.opaque(replaced)
        self._file(out, f"{replaced}/index")

    def _some(self, most: int) -> list[str]:
        return sorted(self._rng.sample(list(self._files), min(len(self._files), self._rng.randrange(1, most))))

    def _file(self, out: Tar, name: str, mode: int = 0o644) -> None:
        self._files[name] = None
        self._parents(out, name)
        out.file(name, self._contents.take(self._contents.size(2_000, 1.6, 4 << 20)), mode)

    def _parents(self, out: Tar, name: str) -> None:
        """Write the directories above a name, as every tool does that makes layers from changes."""
        for position, sign in enumerate(name):
            if sign == "/" and name[:position] not in self._written:
                self._written.add(name[:position])
                out.directory(name[:position])
