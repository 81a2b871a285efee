"""Some of a filesystem stays free, as long as there is that much of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.tree.support import opened
from unpacker.errors import RoomError
from unpacker.tree.room import Room

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = 1 << 62


def test_as_much_as_there_is_may_be_free(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    with opened(tmp_path) as descriptor:
        Room(descriptor, status.f_bavail * status.f_frsize // 2).check()
        Room(descriptor, WHOLE).check()  # a filesystem that is smaller is there to be filled


def test_less_than_is_kept_is_said(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    size = status.f_blocks * status.f_frsize
    with opened(tmp_path) as descriptor, pytest.raises(RoomError) as caught:
        Room(descriptor, size - 1).check()
    assert (caught.value.kept, caught.value.free < size) == (size - 1, True)
