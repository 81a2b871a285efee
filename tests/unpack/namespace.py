"""A mount namespace for one test: what is mounted in it is seen by nobody else, and goes with it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.probes import has_tool
from tests.unpack.command import Outcome, run

if TYPE_CHECKING:
    import os
    from typing import Self

_HOLD = "echo ready; read -r _"


class Namespace:
    """A context manager; a process holds the namespace until it ends."""

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *exception: object) -> None:
        self._holder.communicate("\n", timeout=10)

    def run(self, words: list[str]) -> Outcome:
        """Run a command in it."""
        return run(["nsenter", "--mount", "--target", str(self._holder.pid), *words])

    def mount(self, *words: str | os.PathLike[str]) -> None:
        """Mount something in it."""
        outcome = self.run(["mount", *map(str, words)])
        assert outcome.status == 0, outcome.lines

    def path(self, path: Path) -> Path:
        """Give the path by which this process reaches a path as it is in there."""
        return Path(f"/proc/{self._holder.pid}/root{path}")


@cache
def can_mount() -> bool:
    """Whether the caller may mount in a namespace of its own."""
    if not all(map(has_tool, ("unshare", "nsenter", "mount"))):
        return False
    command = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return run(command).status == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="missing: the right to mount in a namespace of one's own")
