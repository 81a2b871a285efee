"""How much room is left on a filesystem: whoever else writes there shall not be hit by a bomb."""

from __future__ import annotations

import os

from unpacker.errors import RoomError

_EACH = 1 << 20


class Room:
    """Sees to it that some of a filesystem stays free.

    To ask costs two microseconds, and is done once for each mebibyte of a layer and not for each file: so a little
    less may stay free in the end.

    Args:
        descriptor: Of any file on it, which stays open.
        kept: Bytes to stay free for those without privilege.
    """

    def __init__(self, descriptor: int, kept: int) -> None:
        self._descriptor = descriptor
        self._kept = kept
        self._since = 0  # bytes since it was asked the last time

    def take(self, size: int) -> None:
        """Count what is about to be written; see `check`, which is called for each mebibyte."""
        self._since += size
        if self._since >= _EACH:
            self._since = 0
            self.check()

    def check(self) -> None:
        """Ask how much is left.

        Raises:
            RoomError: Less than is to be kept.
        """
        status = os.fstatvfs(self._descriptor)
        free = status.f_bavail * status.f_frsize
        # Some filesystems of the FUSE kind know of no blocks at all; a very small one is there to be filled.
        if free < self._kept < status.f_blocks * status.f_frsize:
            raise RoomError(free=free, kept=self._kept)
