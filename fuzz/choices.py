"""Bytes as decisions: how a fuzzer, which knows bytes only, comes to build a layer, a stream or a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    T = TypeVar("T")

_BYTE = 256


class Choices:
    """Takes decisions from the front of some bytes; when those are used up, it is always the first choice.

    Unlike a random generator it lets a small change of the bytes be a small change of what is made of them.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are still there."""
        return max(len(self._data) - self._at, 0)

    def byte(self) -> int:
        """Give one byte; 0 at the end."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, end: int) -> int:
        """Give a number from 0 to ``end - 1``."""
        number, most = self.byte(), _BYTE
        while most < end:
            number, most = number * _BYTE + self.byte(), most * _BYTE
        return number % end

    def pick(self, things: Sequence[T]) -> T:
        """Give one of some things."""
        return things[self.below(len(things))]

    def once_in(self, times: int) -> bool:
        """Say yes once in so many times, and no at the end of the bytes."""
        return self.byte() % times == times - 1

    def take(self, most: int) -> bytes:
        """Give the next bytes as they are."""
        taken = self._data[self._at : self._at + most]
        self._at += most
        return taken

    def rest(self) -> bytes:
        """Give all that is left."""
        return self.take(self.left)
