"""Puts the results into docs/benchmarks.md and its charts: ``python3 benchmarks/pages.py``.

The page is written by hand but for what stands between two marks, ``<!-- NAME -->`` and ``<!-- end -->``; a test says
that this, and the charts, are what the results say.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

if not __package__:  # as a program, not as a module: the project is then not on the path, this directory is
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import svg, tables
from benchmarks.aims import SMALL, net
from benchmarks.place import kind

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks" / "results"
PAGE = PROJECT / "docs" / "benchmarks.md"
MARKED = re.compile(r"(<!-- (?!end)([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
RATIOS = {"gzip": ("tmpfs", "gzip"), "zstd": ("tmpfs", "zstd"), "gzip-ext4": ("fresh ext4", "gzip")}
"""Which comparisons have a chart."""
PLACES = {"tmpfs": "memory", "fresh ext4": "ext4"}
SHORT = {
    "igzip": "igzip | tar",
    "zstd": "zstd | tar",
    "tar": "tar of plain tars",
    "skopeo": "skopeo, store",
    "ctr": "ctr import",
}


def read() -> dict[str, Any]:
    """Read what there is."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def write() -> None:
    """Write the page and the charts anew."""
    for path, text in made(read(), PAGE.read_text()).items():
        path.write_text(text)


def made(results: dict[str, Any], page: str) -> dict[Path, str]:
    """Give the page and the charts, as the results say, by their paths."""
    texts = blocks(results)

    def filled(match: re.Match[str]) -> str:
        return f"{match[1]}{texts.get(match[2], tables.NOTHING)}\n{match[3]}"

    drawn = {PAGE.with_name(f"benchmarks-{name}.svg"): text for name, text in charts(results).items()}
    return {PAGE: MARKED.sub(filled, page), **drawn}


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """Give what can stand between marks, by name."""
    found = {"aims": tables.held(results)}
    documents = []
    if "compare" in results:
        comparisons = results["compare"]["comparisons"]
        documents += comparisons
        found |= {"images": tables.images(comparisons), "peers": tables.peers(comparisons)}
        for place, short in PLACES.items():
            for how in ("gzip", "zstd", "none"):
                found[f"ratios {how} {short}"] = tables.ratios(comparisons, how, place)
                found[f"costs {how} {short}"] = tables.costs(comparisons, how, place)
    if "stages" in results:
        documents += results["stages"]["images"]
        found["stages"] = tables.stages(results["stages"]["images"])
    if "linear" in results:
        documents.append(results["linear"])
        found["linear"] = tables.linear(results["linear"]["series"])
    if "startup" in results:
        documents.append(results["startup"])
        found["startup"] = tables.startup(results["startup"]["commands"])
    return {**found, "machine": tables.machines(documents)}


def charts(results: dict[str, Any]) -> dict[str, str]:
    """Give the charts by name."""
    found = {}
    comparisons = results.get("compare", {}).get("comparisons", [])
    for name, (place, how) in RATIOS.items():
        groups = [
            (f"{one['name']}, {one['image']['entries']:,} entries", _bars(one["ratios"]))
            for one in sorted(comparisons, key=lambda one: one["image"]["tar_bytes"])
            if kind(one["place"]) == place and one["compression"] == how and one["image"]["tar_bytes"] > SMALL
        ]
        if groups:
            found[name] = svg.bars(f"Wall time of unpack: shorter is better ({how}, {place})", groups)
    if "linear" in results:
        found |= _growth(results["linear"]["series"]["entries"])
    return found


def _bars(ratios: dict[str, dict[str, float]]) -> list[svg.Bar]:
    return [
        svg.Bar(SHORT.get(peer, peer), one["median"], one["least"], one["most"])
        for peer, one in sorted(ratios.items(), key=lambda item: -item[1]["median"])
    ]


def _growth(points: list[dict[str, Any]]) -> dict[str, str]:
    images = points[1:]
    seconds = [(one["entries"], one["seconds"]["wall"]) for one in images]
    costs = [(one["entries"], net(points, one)) for one in images]
    memory = [(one["entries"], one["memory_kib"]["together"] / 1024) for one in images]
    across = "entries in the image"
    return {
        "time": svg.lines("Time over entries", [svg.Line("seconds", seconds)], across=across, up="seconds", log_y=True),
        "cost": svg.lines("Time for one entry", [svg.Line("µs", costs)], across=across, up="µs an entry", log_y=False),
        "memory": svg.lines(
            "Memory over entries", [svg.Line("MiB", memory)], across=across, up="peak MiB", log_y=False
        ),
    }


if __name__ == "__main__":
    write()
