"""Where the runs unpack to, a new directory each, and its removal outside the time that is measured.

On ext4 the kernel does not reuse a freshly removed inode for a while, and passes over all of them at each create: what
is unpacked right after a removal takes many times as long, and the next contender pays for it.  So on anything but
tmpfs nothing is removed before the end; or each run gets a file system of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class PlaceError(Exception):
    """Nothing can be measured in this place."""


class Place(Protocol):
    """Somewhere to unpack to."""

    description: str

    def target(self) -> AbstractContextManager[Path]:
        """Give a new empty directory as a context, which ends with it gone or left for the end."""
        ...


@contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """Give a private directory for all that a comparison writes, and remove it at the end."""
    path = Path(tempfile.mkdtemp(prefix="unpack-bench-", dir=directory.resolve()))
    try:
        yield path
    finally:
        remove(path)


def default_directory() -> Path:
    """Prefer memory, where nothing but the contenders' own work is measured."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def remove(path: Path) -> None:
    """Remove a tree that others made: of any depth, with directories that forbid it, never another file system."""
    done = subprocess.run(["rm", "-rf", "--one-file-system", str(path)], capture_output=True, text=True, check=False)
    if done.returncode and path.exists():
        subprocess.run(["chmod", "-R", "u+rwX", str(path)], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=True)


def count(root: Path) -> int:
    """Count what is below a directory."""
    total, waiting = 0, [str(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                total += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return total


def filesystem(path: Path) -> str:
    """Name the type of the file system that a directory is on."""
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def kind(description: str) -> str:
    """Give of a place's description what can be compared between machines: not where it is, nor how large."""
    return re.split(" at | of ", description, maxsplit=1)[0]


def choose(workspace: Path, fresh_ext4: str | None) -> Place:
    """Give the kind of place that suits a workspace."""
    if fresh_ext4:
        return FreshExt4(workspace, fresh_ext4)
    if filesystem(workspace) == "tmpfs":
        return Memory(workspace)
    return Disk(workspace)


class Memory:
    """A tmpfs: what was unpacked is removed after each run."""

    def __init__(self, workspace: Path) -> None:
        self.description = f"tmpfs at {workspace.parent}"
        self._workspace = workspace

    @contextmanager
    def target(self) -> Iterator[Path]:
        path = Path(tempfile.mkdtemp(prefix="run-", dir=self._workspace))
        try:
            yield path
        finally:
            remove(path)


class Disk:
    """Any other file system: all is kept until the end, and what is still to be written is written before each run."""

    def __init__(self, workspace: Path) -> None:
        self.description = f"{filesystem(workspace)} at {workspace.parent}"
        self._parent = workspace / "runs"
        self._parent.mkdir()
        # ext4 then spreads the directories below over the disk, each with inodes of its own; others refuse the flag.
        if shutil.which("chattr"):
            subprocess.run(["chattr", "+T", str(self._parent)], capture_output=True, check=False)

    @contextmanager
    def target(self) -> Iterator[Path]:
        path = Path(tempfile.mkdtemp(prefix="run-", dir=self._parent))
        subprocess.run(["sync", "-f", str(path)], check=True)
        yield path

    def check_room(self, size: int, entries: int, runs: int) -> None:
        """Refuse to fill a disk: nothing is removed before the end."""
        found = os.statvfs(self._parent)
        free, needed = found.f_bavail * found.f_frsize, runs * (size + entries * 2048)
        if needed > free or (found.f_files and runs * entries > found.f_favail):
            raise PlaceError(
                f"{self.description}: {runs} runs are kept until the end and need {needed >> 20} MiB and "
                f"{runs * entries} inodes, {free >> 20} MiB and {found.f_favail} are free; "
                "take fewer rounds or contenders, a tmpfs, or --fresh-ext4"
            )


class FreshExt4:
    """A new ext4 for each run, in a sparse file; needs the right to mount."""

    def __init__(self, workspace: Path, size: str) -> None:
        self.description = f"fresh ext4 of {size} for each run, in a file on {filesystem(workspace)}"
        self._file, self._mountpoint, self._size = workspace / "ext4", workspace / "mnt", size
        self._mountpoint.mkdir()

    @contextmanager
    def target(self) -> Iterator[Path]:
        try:
            self._make()
            yield self._mountpoint / "run"
        finally:
            self._unmake()

    def _make(self) -> None:
        # All is initialised now: lazily, the kernel would do it in the background of the runs.
        options = "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
        _tell(["truncate", "-s", self._size, str(self._file)])
        _tell(["mkfs.ext4", "-q", "-F", "-i", "8192", "-E", options, str(self._file)])
        _tell(["mount", "-o", "loop", str(self._file), str(self._mountpoint)])
        (self._mountpoint / "run").mkdir()
        _tell(["sync", "-f", str(self._mountpoint)])

    def _unmake(self) -> None:
        until = time.monotonic() + 5  # a server that was just ended may still hold it
        while self._mountpoint.is_mount():
            if time.monotonic() > until:
                raise PlaceError(f"{self._mountpoint} is still in use; it has to be unmounted by hand")
            if subprocess.run(["umount", str(self._mountpoint)], capture_output=True, check=False).returncode:
                time.sleep(0.25)
        self._file.unlink(missing_ok=True)


def _tell(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlaceError(f"{' '.join(argv)}: {done.stderr.strip()}")
