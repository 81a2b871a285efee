"""How far an unpack is, drawn from its events: nothing, plain lines, or a bar (`unpacker.cli.terminal`)."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Literal, Protocol

from unpacker.cli import streams
from unpacker.cli.text import amount, count, prefix
from unpacker.events import Event, LayerApplied, LayerProgress, LayerReused, LayerStarted, Resolved, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLAIN_INTERVAL = 10.0
"""Seconds between two lines about one layer: a long layer shows that it lives, and a CI log stays short."""

Kind = Literal["terminal", "plain", "none"]


class Display(Protocol):
    """Shows progress.  Lines from elsewhere go through `say` while it is open, so that a bar does not mix with them."""

    def show(self, event: Event) -> None:
        """Take an event in; events of no interest are passed over."""

    def say(self, line: str) -> None:
        """Write one line to stderr."""

    def close(self) -> None:
        """Leave stderr as if no progress had been shown, cursor included.  May be called more than once."""


class Tally:
    """What the events of one unpack say so far.  Layers may be under way side by side."""

    def __init__(self) -> None:
        self.layers = 0
        self.size = 0
        self.applied = 0
        self._sizes: dict[int, int] = {}
        self._done: dict[int, int] = {}
        self._digests: dict[int, str] = {}

    def add(self, event: Event) -> None:
        """Count an event in."""
        match event:
            case Resolved():
                self.layers, self.size = event.layers, event.size
            case LayerStarted():
                self._sizes[event.index] = event.size
                self._digests[event.index] = event.digest
            case LayerProgress():
                self._done[event.index] = event.done
            case LayerReused():
                self.applied += 1
                self._digests[event.index] = event.digest
                self._sizes[event.index] = self._done[event.index] = event.size
            case LayerApplied():
                self.applied += 1
                self._done[event.index] = self._sizes.get(event.index, 0)
            case Waiting():
                self._digests[event.index] = event.digest
            case _:
                return

    @property
    def done(self) -> int:
        """Bytes of layer blobs read so far."""
        return sum(self._done.values())

    @property
    def current(self) -> int:
        """Number of the layer that is under way, counted from 1."""
        return min(self.applied + 1, self.layers)

    def label(self, index: int) -> str:
        """Name a layer: ``layer 2/5 sha256:0123456789ab``."""
        return f"layer {index + 1}/{self.layers} {prefix(self._digests.get(index, ''))}"

    def size_of(self, index: int) -> int:
        """Give the bytes of a layer's blob."""
        return self._sizes.get(index, 0)


class Silent:
    """Shows nothing."""

    def show(self, event: Event) -> None:
        """Pass over it."""

    def say(self, line: str) -> None:
        """Write it."""
        streams.say(line)

    def close(self) -> None:
        """Nothing to close."""


class Plain:
    """Shows one line for the image and one a layer, as a log wants it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._tally = Tally()
        self._clock = clock
        self._spoken: dict[int, float] = {}

    def show(self, event: Event) -> None:
        """Write a line when there is something to tell."""
        self._tally.add(event)
        match event:
            case Resolved():
                layers = count(event.layers, "layer")
                self.say(f"resolved {event.name} ({event.platform}): {layers}, {amount(event.size)}")
            case LayerStarted():
                self._spoken[event.index] = self._clock()
            case LayerProgress():
                self._show_progress(event)
            case LayerApplied():
                read = amount(self._tally.size_of(event.index))
                entries = f"{count(event.entries, 'entry', 'entries')}, " if event.entries else ""
                label = self._tally.label(event.index)
                self.say(f"{label}: {entries}{read} read, {amount(event.size)} decompressed")
            case LayerReused():
                self.say(f"{self._tally.label(event.index)}: in the store already")
            case Waiting():
                self.say(f"{self._tally.label(event.index)}: {waits_for(event)}")
            case _:
                return

    def _show_progress(self, event: LayerProgress) -> None:
        now = self._clock()
        if now - self._spoken.setdefault(event.index, now) < PLAIN_INTERVAL:
            return
        self._spoken[event.index] = now
        size = self._tally.size_of(event.index)
        share = f" ({event.done * 100 // size} %)" if size else ""
        self.say(f"{self._tally.label(event.index)}: {amount(event.done)} of {amount(size)}{share}")

    def say(self, line: str) -> None:
        """Write it."""
        streams.say(line)

    def close(self) -> None:
        """Nothing to close."""


def waits_for(event: Waiting) -> str:
    """Say for whom a run waits."""
    holder = "another process" if event.pid is None else f"process {event.pid}"
    return f"waiting for {holder}, which unpacks it" + ("" if event.since is None else f" since {event.since}")


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
