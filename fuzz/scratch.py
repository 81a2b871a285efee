"""Directories for as long as the process lives, among the system's temporary files."""

from __future__ import annotations

import atexit
import os
import tempfile
from functools import cache
from pathlib import Path

from unpacker.tree.remove import OPEN_DIRECTORY, remove_at


@cache
def scratch(name: str) -> Path:
    """Give a target's own directory; it goes when the process ends in an orderly way."""
    path = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    atexit.register(remove, path)
    return path


def remove(path: Path) -> None:
    """Remove a tree of any depth, and see that it is gone."""
    parent = os.open(path.parent, OPEN_DIRECTORY)
    try:
        remove_at(parent, path.name)
    finally:
        os.close(parent)
    assert not os.path.lexists(path), f"{path} is still there"
