"""Work grows as the archive does: nothing that an image repeats costs more each time (GHSA-rp3h-jf77-q9p4 was quadratic).

Seconds would depend on the machine, so calls are counted, and compared with the components of all names and links, since
each of them must be walked over.  A shape is unpacked at three sizes: for each component more, the larger step may not
take many more calls than the smaller one did.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import (
    Entry,
    directory,
    file,
    hardlink,
    layer,
    opaque,
    sparse_old,
    sparse_pax,
    symlink,
    whiteout,
)
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Stack = list[list[Entry]]
SIZE = 24
MOST = 1.4
"""How much dearer a component may become while the archive doubles; what is quadratic is twice as dear."""
SLACK = 20
"""Calls for a component that do not matter: what a run does once, or once for some megabytes."""


def deep(depth: int) -> str:
    return "/".join(["d"] * depth)


def each(count: int, *make: Callable[[int], Entry]) -> list[Entry]:
    return [one(number) for number in range(count) for one in make]


SHAPES: dict[str, Callable[[int], Stack]] = {
    "files": lambda n: [each(n, lambda i: file(f"d/{i}"))],
    "the same directories again": lambda n: [each(n, lambda i: directory(f"d/{i}"))] * 2,
    "implied directories": lambda n: [
        each(n, lambda i: file(f"d{i}/f")),
        each(n, lambda i: file(f"d{i}/g")),
    ],
    "one deep path": lambda n: [[file(f"{deep(8 * n)}/f")]],
    "one deep path above another": lambda n: [[file(f"{deep(8 * n)}/g")], [file(f"{deep(8 * n)}/f")]],
    "nested directories": lambda n: [[directory(deep(i + 1)) for i in range(n)]] * 2,
    "nested opaque markers": lambda n: [
        [directory(deep(i + 1)) for i in range(n)],
        each(n, lambda i: directory(deep(i + 1)), lambda i: opaque(deep(i + 1))),
    ],
    "nested whiteouts": lambda n: [
        [directory(deep(i + 1)) for i in range(n)],
        each(n, lambda i: whiteout(deep(i + 1) + "/x")),
    ],
    "whiteouts": lambda n: [each(n, lambda i: file(f"d/{i}")), each(n, lambda i: whiteout(f"d/{i}"))],
    "opaque markers": lambda n: [each(n, lambda i: file(f"{i}/d/f")), each(n, lambda i: opaque(f"{i}/d"))],
    "one opaque marker again and again": lambda n: [each(n, lambda i: file(f"d/{i}")), [opaque("d")] * n],
    "opaque markers of what is not there": lambda n: [
        each(n, lambda i: file(f"d/{i}")),
        each(n, lambda i: opaque(f"d/x{i}")),
    ],
    "a file and a link in turn": lambda n: [each(n, lambda _: file("a/b/x"), lambda _: symlink("a/b/x", "y"))],
    "a file and a full directory in turn": lambda n: [each(n, lambda _: file("x"), lambda _: file("x/y/z"))],
    "a link that leads elsewhere in turn": lambda n: [
        each(n, lambda i: file(f"d{i}/f"), lambda i: symlink("l", f"d{i}"), lambda _: file("l/g"))
    ],
    "entries through a link below": lambda n: [
        [directory("d"), symlink("l", "d")],
        each(n, lambda i: file(f"l/{i}")),
    ],
    "hard links": lambda n: [[file("f"), *each(n, lambda i: hardlink(f"l{i}", "f"))]],
    "hard links below": lambda n: [each(n, lambda i: file(f"f{i}")), each(n, lambda i: hardlink(f"l{i}", f"f{i}"))],
    "hard links to what comes later": lambda n: [
        [*each(n, lambda i: hardlink(f"l{i}", f"f{i}")), *each(n, lambda i: file(f"f{i}"))]
    ],
    "hard links that wait for each other": lambda n: [
        [
            *[directory(f"{n - i}") for i in range(n + 1)],
            *each(n, lambda i: hardlink(f"{i}/l", f"{i + 1}/l")),
            file(f"{n}/l"),
        ]
    ],
    "hard links that wait, the other way round": lambda n: [
        [
            *each(n + 1, lambda i: directory(f"{i}")),
            *each(n, lambda i: hardlink(f"{i}/l", f"{i + 1}/l")),
            file(f"{n}/l"),
        ]
    ],
    "files of AUFS": lambda n: [
        [
            *each(n, lambda i: file(f".wh..wh.plnk/{i}")),
            *each(n, lambda i: hardlink(f"l{i}", f".wh..wh.plnk/{i}")),
        ]
    ],
    "layers": lambda n: [each(10, lambda i: file(f"d/{i}")) for _ in range(n // 4)],
    "segments of a sparse file": lambda n: [[sparse_pax("f", [(i * 8192, b"x") for i in range(20 * n)], n * 163_841)]],
    "segments of an old sparse file": lambda n: [
        [sparse_old("f", [(i * 8192, bytes(511) + b"x") for i in range(20 * n)], n * 163_841)]
    ],
    "xattrs": lambda n: [[file("f", xattrs={f"user.{i}": b"" for i in range(20 * n)})]],
}
# What a shape repeats that is no name.
WEIGHTS = {"segments of a sparse file": 20, "segments of an old sparse file": 20, "xattrs": 20}


def weight(stack: Stack, shape: str, size: int) -> int:
    names = [name for entries in stack for entry in entries for name in (entry.name, entry.link)]
    return sum(1 + name.count(b"/") for name in names) + WEIGHTS.get(shape, 0) * size


def calls(stack: Stack, place: Path) -> int:
    """Unpack an image; give how many functions were called for it, those written in C as well."""
    write_layout(place / "layout", [layer(*entries) for entries in stack], compression="none")
    count = 0

    def tally(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tally)
    try:
        unpack(place / "layout", place / "dest", labels=False, owner="self")
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_archive_is_twice_the_work(shape: str, tmp_path: Path) -> None:
    weights, counts = [], []
    for size in (SIZE, 2 * SIZE, 4 * SIZE):
        place = tmp_path / str(size)
        place.mkdir()
        stack = SHAPES[shape](size)
        weights.append(weight(stack, shape, size))
        counts.append(calls(stack, place))
    first = (counts[1] - counts[0]) / (weights[1] - weights[0])
    second = (counts[2] - counts[1]) / (weights[2] - weights[1])
    assert second < MOST * first + SLACK, f"{first:.0f} calls for each component at first, {second:.0f} later"
