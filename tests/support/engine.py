"""An engine that plays a scenario instead of unpacking: the command line cannot tell the difference.

In a process of its own, for terminals and signals: ``python -m tests.support.engine SCENARIO [argument of unpack ...]``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unpacker.errors import DigestMismatchError
from unpacker.events import (
    Event,
    LayerApplied,
    LayerProgress,
    LayerStarted,
    LossKind,
    Lost,
    OnEvent,
    Report,
    Resolved,
    Warned,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIGESTS = tuple(f"sha256:{character * 64}" for character in "abc")
MANIFEST = "sha256:" + "d" * 64


def report(**changes: Any) -> Report:
    """Give the report of a small image, with changes."""
    facts: dict[str, Any] = {
        "name": "v1",
        "manifest": MANIFEST,
        "platform": "linux/amd64",
        "dest": "rootfs",
        "layers": 1,
        "entries": 9012,
        "blob_bytes": 63_400_000,
        "tar_bytes": 180_200_000,
        "seconds": 0.48,
    }
    return Report(**{**facts, **changes})


def resolved(layers: int = 1, *, name: str = "v1") -> Resolved:
    """Give the event of an image with so many layers of 1 MB."""
    return Resolved(name=name, manifest=MANIFEST, platform="linux/amd64", layers=layers, size=layers * 1_000_000)


def layer(index: int, *, steps: int = 4) -> Iterator[Event]:
    """Yield the events of a layer of 1 MB."""
    yield LayerStarted(index=index, digest=DIGESTS[index], size=1_000_000)
    for step in range(1, steps + 1):
        yield LayerProgress(index=index, done=1_000_000 * step // steps)
    yield LayerApplied(index=index, digest=DIGESTS[index], diff_id=DIGESTS[index], entries=12, size=3_000_000)


class ScriptedEngine:
    """Takes the place of `unpacker.unpacking.unpack`: sends events, then gives a report or raises."""

    def __init__(self, *events: Event, outcome: Report | BaseException | None = None, pause: float = 0) -> None:
        self.events = events
        self.outcome = outcome if outcome is not None else report()
        self.pause = pause
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, source: str, dest: str, *, on_event: OnEvent, **options: Any) -> Report:
        self.calls.append((source, dest, options))
        for event in self.events:
            on_event(event)
            time.sleep(self.pause)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def waiting_engine(_source: str, dest: str, *, on_event: OnEvent, **_options: Any) -> Report:
    """Begin a layer, say so in a file, then take for ever; clean up whatever happens."""
    staging = Path(dest + ".staging")
    staging.mkdir()
    try:
        on_event(resolved())
        on_event(LayerStarted(index=0, digest=DIGESTS[0], size=1_000_000))
        on_event(LayerProgress(index=0, done=500_000))
        Path(dest + ".ready").touch()
        time.sleep(60)
    finally:
        staging.rmdir()
    raise AssertionError("nobody stopped it")


SCENARIOS: dict[str, Callable[..., Report]] = {
    "two-layers": ScriptedEngine(
        resolved(2),
        *layer(0),
        Warned(message="media type says gzip, magic bytes say zstd"),
        Lost(kind=LossKind.OWNER, path=b"etc/\x1b[31mshadow", reason="you may not chown"),
        *layer(1),
        outcome=report(layers=2),
        pause=0.03,
    ),
    "damaged": ScriptedEngine(
        resolved(), *layer(0), outcome=DigestMismatchError(expected=DIGESTS[0], actual=DIGESTS[1]), pause=0.03
    ),
    "waiting": waiting_engine,
}


def main() -> int:
    """Run ``unpack`` with a scripted engine."""
    from unpacker.cli import unpack, unpack_main  # noqa: PLC0415 -- after the process has begun, as the command does

    scenario, *words = sys.argv[1:]
    vars(unpack)["unpack"] = SCENARIOS[scenario]
    return unpack_main(words)


if __name__ == "__main__":
    sys.exit(main())
