"""The outcome of a comparison: as JSON for programs, as a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from benchmarks.timing import Memory, Run, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT = 2
"""Goes up when a field of the JSON changes its meaning."""
OURS = "unpack"
COLUMNS = ("", "wall s", "min", "max", "user s", "sys s", "largest MiB", "all MiB", "paths", "unpack is")


@dataclass(slots=True, kw_only=True)
class Result:
    """What one contender did."""

    name: str
    version: str
    remark: str
    command: list[str]
    memory: Memory
    paths: int | None
    """How many paths its warm-up made, where that is a tree: whoever leaves whiteouts out has more."""
    runs: list[Run] = field(default_factory=list)

    @property
    def summary(self) -> Summary:
        return Summary.of(self.runs)

    def facts(self) -> dict[str, object]:
        return {
            "name": self.name,
            "version": self.version,
            "remark": self.remark,
            "command": self.command,
            "paths": self.paths,
            "memory_kib": asdict(self.memory),
            "seconds": self.summary.facts(),
            "runs": [{name: round(value, 4) for name, value in asdict(run).items()} for run in self.runs],
        }


def ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> dict[str, float]:
    """Give the ratio of the medians, and the least and the largest ratio of two runs of one round."""
    pairs = [one.wall / other.wall for one, other in zip(ours, theirs, strict=True)]
    median = Summary.of(ours).wall / Summary.of(theirs).wall
    return {"median": round(median, 3), "least": round(min(pairs), 3), "most": round(max(pairs), 3)}


@dataclass(slots=True, kw_only=True)
class Report:
    """A whole comparison."""

    started: str
    place: str
    rounds: int
    machine: dict[str, object]
    load: list[float]
    """The machine's load before and after."""
    image: dict[str, object]
    results: list[Result]
    skipped: dict[str, str]

    def ratios(self) -> dict[str, dict[str, float]]:
        """Give, for each peer, the wall time of ``unpack`` as a multiple of the peer's; empty without ours."""
        runs = {result.name: result.runs for result in self.results}
        ours = runs.pop(OURS, None)
        return {} if ours is None else {name: ratio(ours, theirs) for name, theirs in runs.items()}

    def facts(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "started": self.started,
            "place": self.place,
            "rounds": self.rounds,
            "machine": self.machine,
            "load": self.load,
            "image": self.image,
            "contenders": [result.facts() for result in self.results],
            "ratios": self.ratios(),
            "skipped": self.skipped,
        }

    def text(self) -> str:
        return "\n".join([*self._heading(), "", *self._table(), "", *self._remarks()])

    def _heading(self) -> Iterator[str]:
        image, machine = self.image, self.machine
        yield (
            f"{image['reference']}: {image['layers']} layers, {image['entries']:,} entries, "
            f"{_mb(image['blob_bytes'])} packed, {_mb(image['tar_bytes'])} unpacked"
        )
        yield (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {machine['python']}; "
            f"load {self.load[0]} before, {self.load[1]} after"
        )
        yield f"{self.place}; medians of {self.rounds} interleaved rounds after a warm-up"

    def _table(self) -> Iterator[str]:
        ratios = self.ratios()
        rows = [COLUMNS, *(_row(result, ratios.get(result.name)) for result in self.results)]
        widths = [max(len(row[number]) for row in rows) for number in range(len(COLUMNS))]
        for first, *rest in rows:
            cells = [first.ljust(widths[0]), *(text.rjust(wide) for text, wide in zip(rest, widths[1:], strict=True))]
            yield "  ".join(cells).rstrip()

    def _remarks(self) -> Iterator[str]:
        for result in self.results:
            yield f"{result.name}: {result.remark} ({result.version})"
        for name, why in self.skipped.items():
            yield f"{name}: skipped: {why}"


def _row(result: Result, beside: dict[str, float] | None) -> tuple[str, ...]:
    summary = result.summary
    seconds = (summary.wall, summary.fastest, summary.slowest, summary.user, summary.sys)
    kib = (result.memory.largest, result.memory.together)
    return (
        result.name,
        *(f"{value:.3f}" for value in seconds),
        *(f"{value / 1024:.0f}" for value in kib),
        "" if result.paths is None else f"{result.paths:,}",
        "" if beside is None else "{median:.2f} x ({least:.2f}-{most:.2f})".format(**beside),
    )


def _mb(count: object) -> str:
    return f"{count / 1e6:.1f} MB" if isinstance(count, int) else "?"
