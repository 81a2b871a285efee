"""What a target is: a function that takes any bytes, and raises if something about them does not hold."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

NAMES = (
    "tar",
    "pax",
    "sparse",
    "gz",
    "zst",
    "strictjson",
    "documents",
    "digests",
    "platforms",
    "filters",
    "options",
    "labels",
    "index",
    "records",
    "catalog",
    "image",
    "layers",
    "trees",
)
"""Every target, each a module of `fuzz.targets`."""
UNLISTED = "broken"
"""The one by which this machinery is tested."""
SLOW = 20.0
"""Seconds of the processor that no input may take: real ones take milliseconds, also where a machine is busy."""

Mutate = Callable[[bytes, Random], bytes]


class TooSlowError(Exception):
    """An input of kilobytes that takes the processor for seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing to be fuzzed."""

    check: Callable[[bytes], None]
    """Runs the code on an input, and raises if it does not do what it should."""
    seeds: Callable[[], Iterable[bytes]]
    """Gives inputs to begin with: small, and between them of every kind."""
    mutate: Mutate | None = None
    """Changes an input so that it keeps its form; without it only bytes are changed."""
    longest: int = 4096
    """Bytes of an input at most."""
    words: tuple[bytes, ...] = ()
    """What is worth to be put somewhere."""

    def run(self, data: bytes) -> None:
        """Check one input, and how much of the processor's time it takes.

        Raises:
            TooSlowError: Too much. Time on the clock is not asked for: a machine may be busy, or suspended.
            Exception: Whatever else the input brings to light.
        """
        begun = time.process_time()
        self.check(data)
        spent = time.process_time() - begun
        if spent > SLOW:
            raise TooSlowError(f"{spent:.1f} s of the processor for {len(data)} bytes")


def load(name: str) -> Target:
    """Give a target by its name."""
    found = importlib.import_module(f"fuzz.targets.{name}").TARGET
    assert isinstance(found, Target)
    return found
