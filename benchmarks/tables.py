"""What was measured as tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.aims import aims, memory, net
from benchmarks.place import kind
from benchmarks.stages import limit
from benchmarks.svg import TIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NAMES = {
    "igzip": "`igzip -dc \\| tar -x`",
    "zstd": "`zstd -dc \\| tar -x`",
    "tar": "`tar -x`, decompressed before",
    "bsdtar": "bsdtar",
    "umoci": "umoci",
    "skopeo": "skopeo, its store",
    "ctr": "ctr import",
}
"""The peers in the order of the columns."""
NOTHING = "Not measured yet."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruler = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ruler, *rows))


def times(value: float) -> str:
    return f"{value:.2f} {TIMES}"


def ratio(one: Mapping[str, float]) -> str:
    return f"{times(one['median'])} ({one['least']:.2f}-{one['most']:.2f})"


def mib(kib: float) -> str:
    return f"{kib / 1024:.0f}"


def machines(documents: Iterable[Mapping[str, Any]]) -> str:
    """Say on what and when, once for all that was measured on the same."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in documents:
        machine = one["machine"]
        packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        text = (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
            f"{machine['kernel']}, {machine['python']}, {packages}; "
            f"the project at {machine['commit']}, installed from {machine['unpacker']}"
        )
        found.setdefault(text, []).append(one)
    return "\n".join(f"- {_when(there)}: {text}." for text, there in found.items())


def _when(documents: Sequence[Mapping[str, Any]]) -> str:
    days = sorted({one["started"][:10] for one in documents})
    rounds = sorted({one["rounds"] for one in documents})
    load = max(one["load"][0] for one in documents)
    day = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{day}, {' or '.join(map(str, rounds))} rounds, a load of {load} or less before each part"


def ratios(comparisons: Sequence[Mapping[str, Any]], compression: str, place: str) -> str:
    """Each image's ratios to the peers, with their spread."""
    chosen = _chosen(comparisons, compression, place)
    if not chosen:
        return NOTHING
    peers = [peer for peer in NAMES if any(peer in one["ratios"] for one in chosen)]
    rows = [
        [one["name"], *(ratio(one["ratios"][peer]) if peer in one["ratios"] else "-" for peer in peers)]
        for one in chosen
    ]
    return table(["`unpack` is", *(NAMES[peer] for peer in peers)], rows)


def costs(comparisons: Sequence[Mapping[str, Any]], compression: str, place: str) -> str:
    """What each contender took of each image: wall seconds, CPU seconds, peak memory of all its processes."""
    chosen = _chosen(comparisons, compression, place)
    if not chosen:
        return NOTHING
    every = {one["name"]: one for comparison in chosen for one in comparison["contenders"]}
    names = [name for name in ("unpack", *NAMES) if name in every]
    rows = []
    for comparison in chosen:
        took = {one["name"]: one for one in comparison["contenders"]}
        rows.append([comparison["name"], *(_cost(took[name]) if name in took else "-" for name in names)])
    return table(["s / CPU s / MiB", *(f"`{name}`" for name in names)], rows)


def _cost(one: Mapping[str, Any]) -> str:
    seconds = one["seconds"]
    return f"{seconds['wall']:.2f} / {seconds['user'] + seconds['sys']:.2f} / {mib(one['memory_kib']['together'])}"


def _chosen(comparisons: Sequence[Mapping[str, Any]], compression: str, place: str) -> list[Mapping[str, Any]]:
    found = [one for one in comparisons if one["compression"] == compression and kind(one["place"]) == place]
    return sorted(found, key=lambda one: one["image"]["tar_bytes"])


def images(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """What was unpacked."""
    sizes: dict[str, dict[str, float]] = {}
    facts = {}
    for one in comparisons:
        facts[one["name"]] = one["image"]
        sizes.setdefault(one["name"], {})[one["compression"]] = one["image"]["blob_bytes"] / 1e6
    rows = []
    for name, image in sorted(facts.items(), key=lambda item: item[1]["tar_bytes"]):
        packed = [f"{sizes[name][how]:,.1f}" if how in sizes[name] else "-" for how in ("gzip", "zstd")]
        rows.append([name, str(image["layers"]), f"{image['entries']:,}", *packed, f"{image['tar_bytes'] / 1e6:,.1f}"])
    return table(["image", "layers", "entries", "gzip MB", "zstd MB", "unpacked MB"], rows)


def peers(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Which versions ran, and who could not."""
    versions = {one["name"]: one["version"] for comparison in comparisons for one in comparison["contenders"]}
    lines = [f"- {name}: {versions[name]}" for name in NAMES if name in versions]
    missing: dict[tuple[str, str, str], list[str]] = {}
    for one in comparisons:
        for name, why in one["skipped"].items():
            missing.setdefault((name, one["compression"], why.rpartition(": ")[2]), []).append(one["name"])
    lines += [
        f"- {name} did not unpack {how} layers of {', '.join(sorted(set(which)))}: {why}"
        for (name, how, why), which in sorted(missing.items())
    ]
    return "\n".join(lines)


def linear(series: Mapping[str, list[dict[str, Any]]]) -> str:
    rows = []
    for points in series.values():
        for one in points[1:]:
            seconds, peak = one["seconds"], one["memory_kib"]["together"]
            wall = f"{seconds['wall']:.2f} ({seconds['fastest']:.2f}-{seconds['slowest']:.2f})"
            cpu = f"{seconds['user'] + seconds['sys']:.2f}"
            each = [f"{net(points, one):.1f}", mib(peak), f"{memory(points, one):,.0f}"]
            rows.append([one["image"], str(one["layers"]), f"{one['entries']:,}", wall, cpu, *each])
    head = ["image", "layers", "entries", "wall s", "CPU s", "µs an entry", "peak MiB", "bytes an entry"]
    return table(head, rows)


def stages(measured: Sequence[Mapping[str, Any]]) -> str:
    names = list(measured[0]["stages"])
    rows = []
    for one in sorted(measured, key=lambda one: (one["compression"], one["image"]["tar_bytes"])):
        shared, longest = limit(one["stages"], one["machine"]["cores"])
        alone = [f"{one['stages'][name]['wall']:.2f}" for name in names]
        whole, fastest, slowest = (one["whole"][name] for name in ("wall", "fastest", "slowest"))
        took = f"{whole:.2f} ({fastest:.2f}-{slowest:.2f})"
        last = [f"{shared:.2f}", f"{longest:.2f}", took, times(whole / max(shared, longest))]
        rows.append([f"{one['name']}, {one['compression']}", *alone, *last])
    return table(["seconds", *names, "CPU of all / cores", "longest", "the whole", "is, of the larger"], rows)


def startup(commands: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"`{one['name']}`",
            f"{one['seconds']['wall'] * 1e3:.1f}",
            ratio(one["ratio"]),
            mib(one["memory_kib"]["together"]),
        ]
        for one in commands
    ]
    return table(["command", "ms", "of `python3 -c pass`", "MiB"], rows)


def held(results: Mapping[str, Any]) -> str:
    """Every aim, and whether it is met."""
    rows = []
    for one in aims(results):
        asked, found = (
            (times(value) if one.unit == "x" else f"{value:.0f} {one.unit}") for value in (one.asked, one.found)
        )
        rows.append([one.what, f"≤ {asked}", found, "yes" if one.met else "**no**"])
    return table(["aim", "asked", "measured", "met"], rows)
