"""A place in memory, where there is one: to remove thousands of directories takes seconds on a journaling filesystem."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unpacker.tree.remove import remove_at

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = "/dev/shm"


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """Give an empty directory like ``tmp_path``; deep trees are welcome."""
    path = Path(tempfile.mkdtemp(prefix="trees-", dir=MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None))
    try:
        yield path
    finally:
        holder = os.open(path.parent, os.O_RDONLY)
        try:
            remove_at(holder, path.name)
        finally:
            os.close(holder)
