"""How cost grows: with entries, with layers, with what a layer hides.  `unpack` alone, and only in memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks import machine, place, rounds
from benchmarks.image import prepare
from benchmarks.peers import Unpack

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.cache import Cache
    from benchmarks.image import Image
    from benchmarks.report import Result

SERIES: dict[str, tuple[str, ...]] = {
    "entries": ("entries-10000", "entries-100000", "entries-1000000"),
    "layers": ("layers-1", "layers-10", "layers-100"),
    "shared": ("shared-by-1", "shared-by-10", "shared-by-100"),
    "opaque": ("opaque-base", "opaque"),
    "whiteouts": ("whiteouts-base", "whiteouts", "whiteouts-twice"),
}
START = "tiny"
"""The image of one entry: what a run costs before it has done anything."""


class UnpackOne(Unpack):
    """`unpack` of one image among others that are measured by turns."""

    def __init__(self, image: Image, name: str) -> None:
        super().__init__(image)
        self.name = name  # type: ignore[misc]


def measure(cache: Cache, on: Path, number_of_rounds: int, series: Iterable[str] = tuple(SERIES)) -> dict[str, object]:
    """Unpack the images of every series by turns.

    Args:
        cache: Has the images, or makes them.
        on: Where to work.
        number_of_rounds: How many times each.
        series: Which of them.
    """
    found: dict[str, object] = {}
    load = machine.load()
    for name in series:
        with place.workspace(on) as workspace:
            contenders, images = [], {}
            for image_name in (START, *SERIES[name]):
                rounds.say(f"preparing {image_name}")
                (work := workspace / image_name).mkdir()
                images[image_name] = prepare(cache.made(image_name), work)
                contenders.append(UnpackOne(images[image_name], image_name))
            failed: dict[str, str] = {}
            where = place.choose(workspace, None)
            results = rounds.measure(contenders, where, workspace / "stderr", number_of_rounds, failed)
            for image_name, why in failed.items():
                print(f"  {image_name}: {why}", file=sys.stderr)
            found[name] = [_point(result, images[result.name]) for result in results]
    return {
        "place": where.description,
        "rounds": number_of_rounds,
        "machine": machine.facts(),
        "load": [load, machine.load()],
        "series": found,
    }


def _point(result: Result, image: Image) -> dict[str, object]:
    facts = result.facts()
    return {
        "image": result.name,
        "entries": image.entries,
        "layers": len(image.layers),
        "tar_bytes": image.tar_bytes,
        "seconds": facts["seconds"],
        "memory_kib": facts["memory_kib"],
        "paths": result.paths,
    }
