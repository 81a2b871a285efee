"""A digest that is computed a piece at a time, by whichever thread has time for it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unpacker.spec.digest import Digest


class Hashing:
    """The digest of pieces in a row; its length is how many of them wait.

    Args:
        digest: Which algorithm; what the digest is, this does not look at.
    """

    def __init__(self, digest: Digest) -> None:
        self._hasher = digest.hasher()
        self._chunks: deque[bytes] = deque()
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self._chunks)

    def add(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self._chunks.append(chunk)

    def go_on(self, *, wait: bool = False) -> bool:
        """Hash one chunk; False if there is none, or another thread is at it, and shall not be waited for."""
        if not self._turn.acquire(blocking=wait):
            return False
        try:
            if not self._chunks:
                return False
            self._hasher.update(self._chunks.popleft())
            return True
        finally:
            self._turn.release()

    def hexdigest(self) -> str:
        """Give the digest of all that was added, when no other thread is at it any more."""
        while self.go_on(wait=True):
            pass
        return self._hasher.hexdigest()
