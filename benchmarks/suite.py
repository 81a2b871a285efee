"""Measures everything that docs/benchmarks.md shows: ``python3 benchmarks/suite.py CACHE NAME=LAYOUT[:TAG] ...``.

Each part writes its results as soon as it has them, and replaces only what it has measured anew.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # as a program: the project's directory comes last, so that what is installed is measured
    sys.path[0:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import installed, place
from benchmarks.arguments import directory, end_as_if_interrupted, positive
from benchmarks.image import NoImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from benchmarks.cache import Cache
    from benchmarks.image import Compression

RESULTS = Path(__file__).with_name("results")
PARTS = ("compare", "linear", "stages", "startup")
MADE = ("layers-40", "one-file")
COMPRESSIONS: tuple[Compression, ...] = ("gzip", "zstd", "none")
PEERS: dict[Compression, str] = {
    "gzip": "igzip,bsdtar,tar,umoci,skopeo,ctr",
    "zstd": "zstd,bsdtar,tar,umoci,skopeo",
    "none": "bsdtar,tar,umoci,skopeo",
}
STARTS = 5
"""How many times more often than the others the short commands of start-up are run."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    environment = arguments.cache / "environment"
    installed.run_in(environment, str(Path(__file__).resolve()), again=True)
    from benchmarks.cache import Cache  # noqa: PLC0415 - what it needs is in that environment

    end_as_if_interrupted()
    arguments.results.mkdir(parents=True, exist_ok=True)
    cache = Cache(arguments.cache)
    try:
        for part in arguments.parts:
            started = time.monotonic()
            _say(f"{part} ...")
            RUN[part](arguments, cache)
            _say(f"{part}: {time.monotonic() - started:.0f} s")
    except (NoImageError, place.PlaceError, OSError, subprocess.CalledProcessError) as error:
        _say(f"suite: {error}")
        return 2
    if arguments.results == RESULTS:
        from benchmarks import pages  # noqa: PLC0415

        pages.write()
    return 0


# -- the parts ---------------------------------------------------------------------------------------------------------


def _compare(arguments: argparse.Namespace, cache: Cache) -> None:
    from benchmarks import compare  # noqa: PLC0415

    for size in arguments.places:
        for name, compression, reference in _images(arguments, cache):
            _say(f"  {name}, {compression}, {'a fresh ext4' if size else 'memory'}")
            peers = compare.named(PEERS[compression])
            report = compare.compare(reference, arguments.on, peers, arguments.rounds, fresh_ext4=size).facts()
            _keep(arguments.results, "compare", "comparisons", {"name": name, "compression": compression, **report})


def _images(arguments: argparse.Namespace, cache: Cache) -> Iterator[tuple[str, Compression, str]]:
    """Give every image in every compression: name, compression, reference."""
    for name, reference in arguments.images:
        for compression in arguments.compressions:
            yield name, compression, cache.variant(name, reference, compression)
    for name in arguments.made:
        for compression in arguments.compressions:
            yield name, compression, cache.made(name, compression)


def _linear(arguments: argparse.Namespace, cache: Cache) -> None:
    from benchmarks import linear  # noqa: PLC0415

    _replace(arguments.results, "linear", linear.measure(cache, arguments.on, arguments.rounds))


def _stages(arguments: argparse.Namespace, cache: Cache) -> None:
    from benchmarks import stages  # noqa: PLC0415

    for name, compression, reference in _images(arguments, cache):
        if compression != "none":
            _say(f"  {name}, {compression}")
            found = stages.measure(reference, cache.made("tiny"), arguments.on, arguments.rounds)
            _keep(arguments.results, "stages", "images", {"name": name, "compression": compression, **found})


def _startup(arguments: argparse.Namespace, cache: Cache) -> None:
    from benchmarks import startup  # noqa: PLC0415

    _replace(arguments.results, "startup", startup.measure(cache, arguments.on, arguments.rounds * STARTS))


RUN: dict[str, Callable[[argparse.Namespace, Cache], None]] = {
    "compare": _compare,
    "linear": _linear,
    "stages": _stages,
    "startup": _startup,
}


# -- what they have found ----------------------------------------------------------------------------------------------


def _replace(results: Path, part: str, found: dict[str, object]) -> None:
    (results / f"{part}.json").write_text(json.dumps({"started": now(), **found}, indent=1) + "\n")


def _keep(results: Path, part: str, key: str, found: dict[str, Any]) -> None:
    """Put one image's results among those of the others, in the place of what they were before."""
    path = results / f"{part}.json"
    before = json.loads(path.read_text())[key] if path.exists() else []
    found = public({"started": now(), **found})
    kept = [one for one in before if _identity(one) != _identity(found)]
    _write(path, key, sorted([*kept, found], key=_identity))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _identity(one: dict[str, Any]) -> tuple[str, ...]:
    return one["name"], one["compression"], place.kind(one["place"])


def public(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out where things lay on this machine, and what stands in the code."""
    image = {key: value for key, value in found["image"].items() if key != "reference"}
    whose = [
        {key: value for key, value in one.items() if key not in ("command", "remark")}
        for one in found.get("contenders", [])
    ]
    skipped = {name: re.sub(r"/\S*?unpack-bench-[^/\s]*", "...", why) for name, why in found.get("skipped", {}).items()}
    found = {**found, "skipped": skipped} if skipped else found
    return {**found, "image": image} | ({"contenders": whose} if whose else {})


def _write(path: Path, key: str, found: Iterable[dict[str, Any]]) -> None:
    """Write one line for each image."""
    lines = ",\n".join(json.dumps(one) for one in found)
    path.write_text(f'{{"{key}": [\n{lines}\n]}}\n')


# -- the command line --------------------------------------------------------------------------------------------------


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="suite.py", description="Measure everything that docs/benchmarks.md shows.")
    parser.add_argument("cache", metavar="CACHE", type=Path, help="a directory for images and an environment, kept")
    parser.add_argument(
        "images",
        metavar="NAME=LAYOUT[:TAG]",
        nargs="*",
        type=_named,
        help="real images, besides those that are made up",
    )
    parser.add_argument(
        "--only", metavar="PART,...", dest="parts", type=partial(_some, PARTS), default=PARTS, help=", ".join(PARTS)
    )
    parser.add_argument(
        "--compressions",
        metavar="A,B",
        type=partial(_some, COMPRESSIONS),
        default=COMPRESSIONS,
        help=", ".join(COMPRESSIONS),
    )
    parser.add_argument(
        "--made", metavar="A,B", type=partial(_some, MADE), default=MADE, help=f"{', '.join(MADE)}; none if empty"
    )
    parser.add_argument(
        "--places",
        metavar="A,B",
        type=_places,
        default=[None, "8G"],
        help="memory, or the size of an ext4 that is new for each run (default: memory,8G)",
    )
    parser.add_argument("--on", metavar="DIR", type=directory, default=place.default_directory(), help="where to work")
    parser.add_argument("--rounds", metavar="N", type=positive, default=7, help="timed runs each (default: 7)")
    parser.add_argument(
        "--results", metavar="DIR", type=Path, default=RESULTS, help="where the JSON goes (default: benchmarks/results)"
    )
    arguments = parser.parse_args(argv)
    arguments.cache = arguments.cache.resolve()
    arguments.results = arguments.results.resolve()
    return arguments


def _named(text: str) -> tuple[str, str]:
    name, sign, reference = text.partition("=")
    if not (name and sign and reference):
        raise argparse.ArgumentTypeError(f"not NAME=LAYOUT[:TAG]: {text}")
    return name, reference


def _some(known: Sequence[str], text: str) -> tuple[str, ...]:
    chosen = tuple(filter(None, text.split(",")))
    if unknown := set(chosen) - set(known):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return chosen


def _places(text: str) -> list[str | None]:
    return [None if word == "memory" else word for word in text.split(",")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
