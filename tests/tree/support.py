"""What the tests of trees share: descriptors opened and counted, modes of the process changed and put back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from unpacker.tree.directory import MOST_OPEN, OPEN_DIRECTORY, Tree
from unpacker.tree.remove import remove_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpacker.events import LossKind


@contextmanager
def opened(path: Path, flags: int = OPEN_DIRECTORY) -> Iterator[int]:
    """Open a directory, or with other flags a file."""
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set the file mode creation mask for a while."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def new_tree(path: Path, most_open: int = MOST_OPEN) -> Tree:
    """Make an empty directory the root of a tree."""
    path.mkdir()
    return Tree(os.open(path, OPEN_DIRECTORY), most_open=most_open)


def descriptors() -> int:
    """Count the open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


class Watch:
    """Counts the descriptors over and over, while something goes on."""

    def __enter__(self) -> Self:
        self.most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count)
        self._thread.start()
        return self

    def _count(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, descriptors())

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()


class Lost(list[tuple["LossKind", bytes, str]]):
    """Takes losses."""

    def __call__(self, kind: LossKind, path: bytes, reason: str) -> None:
        self.append((kind, path, reason))

    @property
    def kinds(self) -> list[LossKind]:
        """Give their kinds alone."""
        return [kind for kind, _, _ in self]


MEMORY = "/dev/shm"


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """Give an empty directory like ``tmp_path``, in memory where there is such a place.

    To remove thousands of directories takes seconds on a journaling filesystem.
    """
    path = Path(tempfile.mkdtemp(prefix="trees-", dir=MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None))
    try:
        yield path
    finally:
        holder = os.open(path.parent, os.O_RDONLY)
        try:
            remove_at(holder, path.name)
        finally:
            os.close(holder)


HIDING_PROC = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]


@cache
def can_hide_proc() -> bool:
    """Whether the caller may run a command in a mount namespace of its own, where there is no /proc."""
    try:
        return subprocess.run([*HIDING_PROC, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def run_without_proc(program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program where there is no /proc."""
    command = [*HIDING_PROC, sys.executable, "-c", program]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)


needs_hidden_proc = pytest.mark.skipif(not can_hide_proc(), reason="missing: the right to mount something over /proc")
