"""Writes the content of a file: all of it, but for the zeros, which become holes.

A hole reads as zeros and takes no space.  Images hold many: databases, disk images, ``lastlog`` (one of 300 GB, all
hole, filled many a disk, moby#5419).
"""

from __future__ import annotations

import os

PAGE = 4096
"""Runs of zeros of at least so many bytes, at a multiple of it in the file, become holes."""

_ZEROS = bytes(PAGE)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write at the descriptor's position; a short write (a full disk, a signal) is continued."""
    written = os.write(descriptor, data)
    while written < len(data):
        data = memoryview(data)[written:]
        written = os.write(descriptor, data)


def may_have_holes(data: bytes | memoryview, first: int = 0) -> bool:
    """Whether a page of zeros can be in data that has a page's first byte at ``first``, and at each page from there.

    That byte says of nearly every page of real data that it is not all zero.
    """
    return len(data) >= PAGE and 0 in bytes(data[first::PAGE])


class HoleWriter:
    """Writes data one piece after the other, holes where it is zero; `finish` gives the file its size.

    Args:
        descriptor: Of a new, empty file; the caller closes it.
    """

    __slots__ = ("_descriptor", "_hole", "_position")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._hole = False  # whether the file's offset is behind `_position`

    def skip_to(self, offset: int) -> None:
        """Go on at an offset, which is not before the end of what was written."""
        if offset != self._position:
            self._position = offset
            self._hole = True

    def write(self, data: memoryview) -> None:
        """Write the next piece."""
        size = len(data)
        first = -self._position % PAGE
        if not may_have_holes(data, first):
            self._put(data)
            return
        begin = 0
        for at in range(first, size - PAGE + 1, PAGE):
            if data[at] == 0 and data[at : at + PAGE].tobytes() == _ZEROS:  # comparing a memoryview is slow
                if at > begin:
                    self._put(data[begin:at])
                self._position += PAGE
                self._hole = True
                begin = at + PAGE
        if begin < size:
            self._put(data[begin:])

    def _put(self, data: memoryview) -> None:
        if self._hole:
            os.lseek(self._descriptor, self._position, os.SEEK_SET)
            self._hole = False
        write_all(self._descriptor, data)
        self._position += len(data)

    def finish(self, size: int) -> None:
        """Give the file its size, which a hole at its end has not."""
        if self._hole or size != self._position:
            os.ftruncate(self._descriptor, size)
