"""Progress as a bar on a terminal, drawn with `rich`; nothing of it is left when the run is over."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from unpacker.cli.progress import Tally, waiting_line
from unpacker.cli.text import one_line
from unpacker.events import (
    BlobProgress,
    BlobWaiting,
    CopyEvent,
    CopyPlanned,
    Event,
    LayerProgress,
    Resolved,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL = 0.1
"""Seconds between two frames."""


class Bar:
    """Shows one bar for the image: which layer, or which blob of a copy, bytes read of all, rate, time left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # Drawn from the events alone: rich's own refresh thread would be running when the engine forks.
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(file=sys.stderr, highlight=False, emoji=False, markup=False),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=None, visible=False)
        self._tally = Tally()
        self._clock = clock
        self._drawn = float("-inf")
        self._broken = False

    def show(self, event: Event | CopyEvent) -> None:
        """Draw a frame, unless the last one is recent."""
        self._tally.add(event)
        if isinstance(event, Resolved | CopyPlanned):
            self._safely(self._progress.start)
        if isinstance(event, Waiting | BlobWaiting):
            self.say(waiting_line(event, self._tally))
        now = self._clock()
        if isinstance(event, LayerProgress | BlobProgress) and now - self._drawn < _INTERVAL:
            return
        self._drawn = now
        self._safely(self._draw)

    def _draw(self) -> None:
        tally = self._tally
        self._progress.update(
            self._task,
            description=tally.stage,
            total=tally.size,
            completed=tally.done,
            visible=tally.parts > 0,
            refresh=True,
        )

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        self._safely(lambda: self._progress.console.print(Text(one_line(line)), soft_wrap=True))

    def close(self) -> None:
        """Take the bar away and give the cursor back."""
        self._safely(self._progress.stop)

    def _safely(self, draw: Callable[[], None]) -> None:
        """Draw; a terminal that has gone stops nobody's work."""
        if self._broken:
            return
        try:
            draw()
        except OSError:
            self._broken = True
