"""What the measurements are held against, and what they say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.place import kind
from benchmarks.stages import limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RATIOS = (
    ("node", "gzip", {"igzip": 0.75, "umoci": 0.22, "bsdtar": 0.45, "tar": 1.35, "ctr": 0.25, "skopeo": 0.25}),
    ("debian-min", "gzip", {"igzip": 0.80, "umoci": 0.30, "bsdtar": 0.52, "ctr": 0.25, "skopeo": 0.25}),
    ("wheels", "gzip", {"igzip": 0.75, "ctr": 0.25, "skopeo": 0.25}),
    *((name, "zstd", {"zstd": 0.75}) for name in ("node", "debian-min", "wheels")),
)
"""Wall time in memory, as a multiple of a peer's, by image and compression."""
GROWING = {
    "entries": "10⁴, 10⁵, 10⁶ entries",
    "layers": "1, 10, 100 layers of 5,000 entries",
    "shared": "1, 10, 100 layers that share 50,000 entries",
}
FLAT = 0.20
PEAK_MIB = 200
SMALL = 10_000_000
"""An image of fewer bytes says how a program starts, and not how it unpacks."""
HELP = 2.5
LIMIT = 1.25


class Aim(NamedTuple):
    """One of them."""

    what: str
    asked: float
    found: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.found <= self.asked


def aims(results: Mapping[str, Any]) -> Iterator[Aim]:
    """Give every aim that something was measured for."""
    yield from _ratios(results.get("compare", {}).get("comparisons", []))
    yield from _peaks(results)
    if "linear" in results:
        yield from _flat(results["linear"]["series"])
        yield from _hidden(results["linear"]["series"])
    for one in results.get("startup", {}).get("commands", []):
        if one["name"] == "unpack --help":
            yield Aim("`unpack --help` beside `python3 -c pass`", HELP, one["ratio"]["median"])
    for one in results.get("stages", {}).get("images", []):
        most = max(limit(one["stages"], one["machine"]["cores"]))
        if one["image"]["tar_bytes"] > SMALL:
            what = f"{one['name']}, {one['compression']}: the whole beside its limit"
            yield Aim(what, LIMIT, one["whole"]["wall"] / most)


def _ratios(comparisons: list[dict[str, Any]]) -> Iterator[Aim]:
    found = {(one["name"], one["compression"]): one["ratios"] for one in comparisons if kind(one["place"]) == "tmpfs"}
    for name, compression, peers in RATIOS:
        for peer, most in peers.items():
            if peer in found.get((name, compression), {}):
                ratio = found[name, compression][peer]["median"]
                yield Aim(f"{name}, {compression}: beside {peer}", most, ratio)


def _peaks(results: Mapping[str, Any]) -> Iterator[Aim]:
    peaks = [
        one["memory_kib"]["together"]
        for comparison in results.get("compare", {}).get("comparisons", [])
        for one in comparison["contenders"]
        if one["name"] == "unpack"
    ]
    for points in results.get("linear", {}).get("series", {}).values():
        peaks += [one["memory_kib"]["together"] for one in points]
    if peaks:
        yield Aim(
            "peak memory of all processes together, the worst of all images here", PEAK_MIB, max(peaks) / 1024, "MiB"
        )


def net(points: list[dict[str, Any]], one: dict[str, Any]) -> float:
    """Give the microseconds for an entry, without what a run costs that has nothing to do."""
    seconds: float = one["seconds"]["wall"] - points[0]["seconds"]["wall"]
    entries: int = one["entries"]
    return seconds / entries * 1e6


def memory(points: list[dict[str, Any]], one: dict[str, Any]) -> float:
    """Give the bytes of memory for an entry, without what a run takes that has nothing to do."""
    more: int = one["memory_kib"]["together"] - points[0]["memory_kib"]["together"]
    entries: int = one["entries"]
    return more * 1024 / entries


def _flat(series: Mapping[str, list[dict[str, Any]]]) -> Iterator[Aim]:
    """An entry costs no more in a larger image than in the smallest."""
    for name, over in GROWING.items():
        for what, cost in (("time", net), ("memory", memory)):
            first, *more = (cost(series[name], one) for one in series[name][1:])
            yield Aim(f"{what} for an entry over {over}: the most beside the first", 1 + FLAT, max(more) / first)


def _hidden(series: Mapping[str, list[dict[str, Any]]]) -> Iterator[Aim]:
    """What hides files costs no more than they did."""
    for name in ("opaque", "whiteouts"):
        start, base, hidden = (one["seconds"]["wall"] for one in series[name][:3])
        yield Aim(f"{name}: the layer that hides beside the layer of the files", 1, (hidden - base) / (base - start))
