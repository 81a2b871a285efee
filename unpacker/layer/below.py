"""The view of the layers below: what staging and settling may ask about them.

Two ways to hold layers answer it: a tree into which they were merged (`Merged`), and a stack of directories, one a
layer, as overlayfs has them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from unpacker.tree.directory import Directory

if TYPE_CHECKING:
    from unpacker.tree.directory import Other, Tree


class Below(Protocol):
    """One directory of the layers below."""

    def look(self, name: bytes) -> Below | bytes | Other | None:
        """Say what has this name: a directory, a symbolic link (its target), something else, or nothing."""

    def link(self, name: bytes, directory: int, new: bytes) -> None:
        """Make ``new``, in the directory with this descriptor, one more name of the file ``name``.

        Raises:
            FileExistsError: Something has the name ``new``.
        """

    def skipped(self, name: bytes) -> bool:
        """Whether the layers below have a device of this name that could not be made."""


class Merged:
    """One directory of a tree into which the layers below were merged."""

    __slots__ = ("_node", "_skipped", "_tree")

    def __init__(self, tree: Tree, node: Directory, skipped: set[bytes]) -> None:
        self._tree = tree
        self._node = node
        self._skipped = skipped

    def look(self, name: bytes) -> Merged | bytes | Other | None:
        """See `Below`."""
        found = self._tree.look(self._node, name)
        return Merged(self._tree, found, self._skipped) if isinstance(found, Directory) else found

    def link(self, name: bytes, directory: int, new: bytes) -> None:
        """See `Below`; here the two names share the file itself."""
        own = self._tree.descriptor(self._node)
        os.link(name, new, src_dir_fd=own, dst_dir_fd=directory, follow_symlinks=False)

    def skipped(self, name: bytes) -> bool:
        """See `Below`."""
        return self._node.path(name) in self._skipped
