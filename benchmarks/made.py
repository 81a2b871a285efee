"""Made-up images for what real ones do not show: a growing number of entries, of layers, of whiteouts; one large file.

Each function writes the layers of one image as tar archives into a directory, and gives their paths, base first.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from benchmarks.tars import Contents, Tar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

IN_A_DIRECTORY = 20
"""Entries of a directory, and directories of a directory, whatever the size of the whole."""
TOTAL = 50_000
"""Entries that are shared out among layers."""
EACH = 5_000
"""Entries of each layer, where the image grows with their number."""
TOUCHED = 10
"""One in so many files of a layer stands in a directory of a layer below."""
OPAQUE, BELOW_OPAQUE = 800, 5_000
WHITEOUTS = 100_000
LARGE = 2 << 30
PIECE = 64 << 10


def one_file(directory: Path, size: int = LARGE) -> list[Path]:
    """One layer with one large file, as models and disk images are."""
    tar = directory / "0.tar"
    with Tar(tar) as out:
        out.large_file("model.bin", Contents(random.Random(2), min(size, 64 << 20)), size // PIECE, PIECE)
    return [tar]


def entries(directory: Path, number: int) -> list[Path]:
    """One layer of so many entries, most of them small files."""
    tar = directory / "0.tar"
    with Tar(tar) as out:
        _write(out, _names(number), Contents(random.Random(number), _enough(number)))
    return [tar]


def layers(directory: Path, number: int, total: int = TOTAL) -> list[Path]:
    """As many entries in all, in so many layers; each adds directories, and files to those of the layers below."""
    rng, names = random.Random(number), list(_names(total))
    contents = Contents(rng, _enough(total))
    tars, seen = [], list[str]()
    for index in range(number):
        part = names[index * total // number : (index + 1) * total // number]
        tars.append(tar := directory / f"{index}.tar")
        with Tar(tar) as out:
            _write(out, _touching(part, seen, rng), contents)
        seen += [name for name in part if name.endswith("/")]
    return tars


def opaque(directory: Path, markers: int = OPAQUE, below: int = BELOW_OPAQUE) -> list[Path]:
    """So many files, and a layer above that marks every directory of them as opaque."""
    base = files(directory, below, markers)
    with Tar(top := directory / "1.tar") as out:
        for index in range(markers):
            out.directory(f"d{index}")
            out.opaque(f"d{index}")
    return [*base, top]


def whiteouts(directory: Path, number: int = WHITEOUTS) -> list[Path]:
    """So many files, and a layer above that removes each of them by its name."""
    base = files(directory, number, number // IN_A_DIRECTORY)
    with Tar(top := directory / "1.tar") as out:
        for name in _spread(number, number // IN_A_DIRECTORY):
            out.whiteout(name)
    return [*base, top]


def twice(directory: Path, number: int = WHITEOUTS) -> list[Path]:
    """So many files, and a layer above with as many others: what a whiteout may cost."""
    base = files(directory, number, number // IN_A_DIRECTORY)
    with Tar(top := directory / "1.tar") as out:
        for name in _spread(number, number // IN_A_DIRECTORY):
            out.file(f"{name}-other", b"contents")
    return [*base, top]


def files(directory: Path, number: int, directories: int) -> list[Path]:
    """One layer of so many files in so many directories."""
    with Tar(tar := directory / "0.tar") as out:
        for index in range(directories):
            out.directory(f"d{index}")
        for name in _spread(number, directories):
            out.file(name, b"contents")
    return [tar]


def _enough(number: int) -> int:
    """Give the bytes of contents that so many files choose from."""
    return min(8 << 20, number << 10)


def _spread(number: int, directories: int) -> Iterator[str]:
    """Give names of files, one directory after the other."""
    return (f"d{index}/f{file}" for index in range(directories) for file in range(index, number, directories))


def _names(number: int) -> Iterator[str]:
    """Give so many names, those of directories with a slash at the end, and each behind its directory.

    The tree only grows in breadth at its root: depth, and what a directory holds, are the same for every number.
    """
    count = leaf = 0
    while count < number:
        middle, upper = leaf // IN_A_DIRECTORY, leaf // IN_A_DIRECTORY**2
        above = [f"u{upper}/"] if leaf % IN_A_DIRECTORY**2 == 0 else []
        above += [f"u{upper}/m{middle}/"] if leaf % IN_A_DIRECTORY == 0 else []
        here = f"u{upper}/m{middle}/d{leaf}/"
        for name in [*above, here, *(f"{here}file{index}" for index in range(IN_A_DIRECTORY - 1))]:
            if count < number:
                yield name
            count += 1
        leaf += 1


def _touching(names: Iterable[str], seen: list[str], rng: random.Random) -> Iterator[str]:
    """Move some of the files into a directory of a layer below."""
    for name in names:
        if seen and not name.endswith("/") and rng.randrange(TOUCHED) == 0:
            yield f"{rng.choice(seen)}{name.replace('/', '-')}"
        else:
            yield name


def _write(out: Tar, names: Iterable[str], contents: Contents) -> None:
    """Write entries of these names: files, and of twenty one a symbolic and of forty one a hard link."""
    last = ""
    for number, name in enumerate(names):
        if name.endswith("/"):
            out.directory(name[:-1])
        elif number % 20 == 7:
            out.symlink(name, "../d0/file1")
        elif number % 40 == 13 and last:
            out.hardlink(name, last)
        else:
            out.file(name, contents.take(contents.size(400, 1.0, 64 << 10)))
            last = name
