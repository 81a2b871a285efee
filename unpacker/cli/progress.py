"""How far an unpack or a copy is, drawn from its events: nothing, plain lines, or a bar (`unpacker.cli.terminal`)."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Literal, Protocol

from unpacker.cli import streams
from unpacker.cli.text import amount, count, prefix
from unpacker.events import (
    BlobDone,
    BlobProgress,
    BlobStarted,
    BlobWaiting,
    CopyEvent,
    CopyPlanned,
    Event,
    LayerApplied,
    LayerProgress,
    LayerReused,
    LayerStarted,
    Resolved,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLAIN_INTERVAL = 10.0
"""Seconds between two lines about one layer: a long layer shows that it lives, and a CI log stays short."""

Kind = Literal["terminal", "plain", "none"]


class Display(Protocol):
    """Shows progress.  Lines from elsewhere go through `say` while it is open, so that a bar does not mix with them."""

    def show(self, event: Event | CopyEvent) -> None:
        """Take an event in; events of no interest are passed over."""

    def say(self, line: str) -> None:
        """Write one line to stderr."""

    def close(self) -> None:
        """Leave stderr as if no progress had been shown, cursor included.  May be called more than once."""


class Tally:
    """What the events of one run say so far.  Its parts, layers or blobs, may be under way side by side.

    Attributes:
        part: What they are called.
        parts: How many there are.
        size: Bytes of all of them.
        finished: How many are done.
    """

    def __init__(self) -> None:
        self.part = "layer"
        self.parts = 0
        self.size = 0
        self.finished = 0
        self._sizes: dict[int | str, int] = {}
        self._done: dict[int | str, int] = {}
        self._digests: dict[int, str] = {}

    def add(self, event: Event | CopyEvent) -> None:
        """Count an event in."""
        match event:
            case Resolved():
                self.parts, self.size = event.layers, event.size
            case CopyPlanned():
                self.part, self.parts, self.size = "blob", event.blobs, event.size
            case LayerStarted():
                self._sizes[event.index] = event.size
                self._digests[event.index] = event.digest
            case BlobStarted():
                self._sizes[event.digest] = event.size
            case LayerProgress():
                self._done[event.index] = event.done
            case BlobProgress():
                self._done[event.digest] = event.done
            case LayerReused():
                self.finished += 1
                self._digests[event.index] = event.digest
                self._sizes[event.index] = self._done[event.index] = event.size
            case LayerApplied():
                self.finished += 1
                self._done[event.index] = self._sizes.get(event.index, 0)
            case BlobDone():
                self.finished += 1
                self._done[event.digest] = event.size
            case Waiting():
                self._digests[event.index] = event.digest
            case _:
                return

    @property
    def done(self) -> int:
        """Bytes of blobs read so far."""
        return sum(self._done.values())

    @property
    def stage(self) -> str:
        """Say what is under way: ``layer 2/5``, counted from 1."""
        return "finishing" if self.finished == self.parts else f"{self.part} {self.finished + 1}/{self.parts}"

    def label(self, part: int | str) -> str:
        """Name a layer or a blob: ``layer 2/5 sha256:0123456789ab``."""
        if isinstance(part, str):
            return f"blob {prefix(part)}"
        return f"layer {part + 1}/{self.parts} {prefix(self._digests.get(part, ''))}"

    def size_of(self, part: int | str) -> int:
        """Give the bytes of a layer's blob, or of a blob."""
        return self._sizes.get(part, 0)


class Silent:
    """Shows nothing."""

    def show(self, event: Event | CopyEvent) -> None:
        """Pass over it."""

    def say(self, line: str) -> None:
        """Write it."""
        streams.say(line)

    def close(self) -> None:
        """Nothing to close."""


class Plain:
    """Shows one line for the image and one a layer, as a log wants it; of a copy, lines for large blobs only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._tally = Tally()
        self._clock = clock
        self._spoken: dict[int | str, float] = {}

    def show(self, event: Event | CopyEvent) -> None:
        """Write a line when there is something to tell."""
        self._tally.add(event)
        match event:
            case Resolved():
                layers = count(event.layers, "layer")
                self.say(f"resolved {event.name} ({event.platform}): {layers}, {amount(event.size)}")
            case CopyPlanned():
                self.say(f"copying {event.name}: {count(event.blobs, 'blob')}, {amount(event.size)}")
            case LayerStarted():
                self._spoken[event.index] = self._clock()
            case BlobStarted():
                self._spoken[event.digest] = self._clock()
            case LayerProgress():
                self._show_progress(event.index, event.done)
            case BlobProgress():
                self._show_progress(event.digest, event.done)
            case LayerApplied():
                read = amount(self._tally.size_of(event.index))
                entries = f"{count(event.entries, 'entry', 'entries')}, " if event.entries else ""
                label = self._tally.label(event.index)
                self.say(f"{label}: {entries}{read} read, {amount(event.size)} decompressed")
            case LayerReused():
                self.say(f"{self._tally.label(event.index)}: in the store already")
            case Waiting() | BlobWaiting():
                self.say(waiting_line(event, self._tally))
            case _:
                return

    def _show_progress(self, part: int | str, done: int) -> None:
        now = self._clock()
        if now - self._spoken.setdefault(part, now) < PLAIN_INTERVAL:
            return
        self._spoken[part] = now
        size = self._tally.size_of(part)
        share = f" ({done * 100 // size} %)" if size else ""
        self.say(f"{self._tally.label(part)}: {amount(done)} of {amount(size)}{share}")

    def say(self, line: str) -> None:
        """Write it."""
        streams.say(line)

    def close(self) -> None:
        """Nothing to close."""


def waiting_line(event: Waiting | BlobWaiting, tally: Tally) -> str:
    """Say for whom a run waits."""
    label = tally.label(event.index if isinstance(event, Waiting) else event.digest)
    holder = "another process" if event.pid is None else f"process {event.pid}"
    does = "unpacks" if isinstance(event, Waiting) else "copies"
    since = "" if event.since is None else f" since {event.since}"
    return f"{label}: waiting for {holder}, which {does} it{since}"


def display(mode: str, *, quiet: bool = False) -> Display:
    """Choose the display for this run's stderr."""
    match "none" if quiet else kind(mode, on_terminal=_on_terminal(), environment=os.environ):
        case "terminal":
            from unpacker.cli.terminal import Bar  # noqa: PLC0415 -- rich costs 40 ms, and most runs have no terminal

            return Bar()
        case "plain":
            return Plain()
        case _:
            return Silent()


def kind(mode: str, *, on_terminal: bool, environment: Mapping[str, str]) -> Kind:
    """Choose between the displays: a bar only where it can be drawn, and somebody is likely to see it."""
    if mode == "none":
        return "none"
    dumb = environment.get("TERM", "") in ("", "dumb", "unknown")
    in_ci = environment.get("CI", "").lower() not in ("", "0", "false")
    return "terminal" if mode == "auto" and on_terminal and not dumb and not in_ci else "plain"


def _on_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False
