"""A tree that is on disk already, in a place where nobody else writes: nodes are made as its directories are met."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

from unpacker.tree.directory import MOST_OPEN, OPEN_DIRECTORY, OTHER, Directory, Memory, Other, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator


class DiskTree(Tree):
    """A tree that was made by an earlier run, within its limits: nodes are counted only if somebody shares memory."""

    def __init__(self, descriptor: int, *, most_open: int = MOST_OPEN) -> None:
        super().__init__(descriptor, most_open=most_open)
        self.share(Memory(sys.maxsize))

    def look(self, node: Directory, name: bytes) -> Directory | bytes | Other | None:
        """See `Tree.look`."""
        found = self.status(node, name)
        return None if found is None else self.kind(node, name, found.st_mode)

    def status(self, node: Directory, name: bytes) -> os.stat_result | None:
        """Give the status of what has a name; None if nothing has."""
        try:
            return os.stat(name, dir_fd=self.descriptor(node), follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return None  # as in `Tree.look`

    def kind(self, node: Directory, name: bytes, mode: int) -> Directory | bytes | Other:
        """Say what has a name, of this mode: a directory, a symbolic link (its target), or something else."""
        if stat.S_ISDIR(mode):
            return self.directory(node, name)
        if stat.S_ISLNK(mode):
            return os.readlink(name, dir_fd=self.descriptor(node))
        return OTHER

    def directory(self, node: Directory, name: bytes) -> Directory:
        """Give the node of a directory that is there."""
        child = node.children.get(name)
        return self.add(node, name) if child is None else child

    def scan(self, node: Directory) -> Iterator[tuple[bytes, os.DirEntry[str]]]:
        """Give what is in a directory, in no order, as it is read: it may be more than fits into memory."""
        # Opened once more, since a duplicate would share its place in the directory with whoever else reads it.
        descriptor = os.open(".", OPEN_DIRECTORY, dir_fd=self.descriptor(node))
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    yield os.fsencode(entry.name), entry
        finally:
            os.close(descriptor)
