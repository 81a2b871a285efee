"""A stack of layers on disk, each a directory in overlayfs form, seen as the one tree that they add up to.

What overlayfs does in the kernel, done for reading: of a name, the topmost layer decides; directories merge downwards
until one is opaque; a whiteout is the end of it.
"""

from __future__ import annotations

import os
import stat
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from unpacker.tree.attributes import Attributes
from unpacker.tree.copy import kept
from unpacker.tree.directory import Directory, Other

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.layer.markers import Markers
    from unpacker.tree.directory import Memory
    from unpacker.tree.disk import DiskTree


_NAME = 75
"""Bytes of memory that a name takes in a set, besides itself."""


class Found(Enum):
    """What a layer has under a name."""

    DIRECTORY = "directory"
    FILE = "anything else"
    WHITEOUT = "nothing, and nothing below"


class StackedLayer:
    """One layer of a stack.

    Args:
        tree: Its directory; whoever made it closes it.
        markers: How it says what it hides.
        skipped: Paths of devices that could not be made.
    """

    def __init__(self, tree: DiskTree, markers: Markers, skipped: frozenset[bytes] = frozenset()) -> None:
        self.tree = tree
        self.markers = markers
        self.skipped = skipped
        self._linked: dict[int, list[tuple[Directory, bytes]]] | None = None

    def look(self, node: Directory, name: bytes) -> Directory | bytes | Other | Found | None:
        """Say what the layer has under a name: `Found.WHITEOUT`, or as in `Tree.look`."""
        status = self.tree.status(node, name)
        if status is None:
            return Found.WHITEOUT if name in self.markers.whiteouts(self.tree, node) else None
        if self.markers.is_whiteout(self.tree, node, name, status):
            return Found.WHITEOUT
        return self.tree.kind(node, name, status.st_mode)

    def opaque(self, node: Directory) -> bool:
        """Whether a directory of the layer hides those of the same path below."""
        return self.markers.is_opaque(self.tree, node)

    def scan(self, node: Directory) -> Iterator[tuple[bytes, Found]]:
        """Give all that the layer has in a directory."""
        for name, entry in self.tree.scan(node):
            if entry.is_dir(follow_symlinks=False):
                yield name, Found.DIRECTORY
            elif self._is_whiteout(node, name, entry):
                yield name, Found.WHITEOUT
            else:
                yield name, Found.FILE
        for name in self.markers.whiteouts(self.tree, node):
            yield name, Found.WHITEOUT

    def names(self, inode: int) -> list[tuple[Directory, bytes]]:
        """Give all names of a file that has more than one.

        The first question reads the whole layer, which stays as it is; files with one name are not remembered.
        """
        if self._linked is None:
            self._linked = {}
            waiting = [self.tree.root]
            while waiting:
                node = waiting.pop()
                for name, entry in self.tree.scan(node):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Directory(node, name))  # which the tree need not keep
                    elif entry.stat(follow_symlinks=False).st_nlink > 1:
                        self._linked.setdefault(entry.inode(), []).append((node, name))
        return self._linked.get(inode, [])

    def _is_whiteout(self, node: Directory, name: bytes, entry: os.DirEntry[str]) -> bool:
        # Nearly every name is a file or a link, and no whiteout of the usual kind is one: no status is asked for.
        if entry.is_symlink() or (self.markers.encoding != "user" and entry.is_file(follow_symlinks=False)):
            return False
        return self.markers.is_whiteout(self.tree, node, name, entry.stat(follow_symlinks=False))


class Part(NamedTuple):
    """A directory of one layer."""

    layer: StackedLayer
    node: Directory


class StackedFile:
    """What is no directory, in one layer of a stack."""

    __slots__ = ("layer", "name", "node")

    def __init__(self, layer: StackedLayer, node: Directory, name: bytes) -> None:
        self.layer = layer
        self.node = node
        self.name = name

    def identity(self) -> tuple[int, int]:
        """Give what is the same for all names of the file: device and inode."""
        status = os.stat(self.name, dir_fd=self.layer.tree.descriptor(self.node), follow_symlinks=False)
        return status.st_dev, status.st_ino

    def paths(self) -> Iterator[bytes]:
        """Give all paths that the file has in its layer, this one first."""
        first = self.node.path(self.name)
        yield first
        status = self.layer.tree.status(self.node, self.name)
        if status is None or status.st_nlink == 1:
            return
        for node, name in self.layer.names(status.st_ino):
            path = node.path(name)
            if path != first:
                yield path


class Stack:
    """One directory of the tree that a stack of layers adds up to (a `Below`).

    Args:
        parts: The directory of each layer that has one there and is not hidden, topmost first; at least one.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts

    def look(self, name: bytes) -> Stack | bytes | Other | None:
        """See `Below`."""
        parts: list[Part] = []
        for layer, node in self.parts:
            found = layer.look(node, name)
            if found is None:
                continue
            if isinstance(found, Directory):
                parts.append(Part(layer, found))
                if layer.opaque(found):
                    break
                continue
            if not parts and not isinstance(found, Found):
                return found
            break
        return Stack(parts) if parts else None

    def entries(self) -> Iterator[tuple[bytes, Stack | Part]]:
        """Give all that is in the directory: directories as such, of all else the part that has it.

        Raises:
            LimitError: There is more than may be remembered.
        """
        directories: dict[bytes, list[Part]] = {}
        done: set[bytes] = set()
        tree, taken = self.parts[0].layer.tree, 0
        try:
            for layer, node in self.parts:
                last = node is self.parts[-1].node
                for name, found in layer.scan(node):
                    if name in done:
                        continue
                    size = len(name)
                    if found is Found.DIRECTORY:
                        child = Directory(node, name)  # which the tree does not keep: a copy meets each only once
                        directories.setdefault(name, []).append(Part(layer, child))
                        size += child.size
                        if not last and layer.opaque(child):
                            done.add(name)
                    elif not last:
                        done.add(name)
                        size += _NAME
                    if found is Found.DIRECTORY or not last:
                        taken += size
                        tree.remember(size)
                    if found is Found.FILE and name not in directories:
                        yield name, Part(layer, node)
            for name, parts in directories.items():
                yield name, Stack(parts)
        finally:
            tree.remember(-taken)

    def share(self, memory: Memory) -> None:
        """Count in this memory what is remembered of the layers while they are read."""
        for layer, _ in self.parts:
            layer.tree.share(memory)

    def attributes(self, stored: Callable[[bytes], bytes] = bytes) -> Attributes:
        """Give the attributes of the directory, which are those of the topmost layer that has it.

        ``stored`` gives the names under which its extended attributes shall be stored elsewhere.
        """
        layer, node = self.parts[0]

        def renamed(name: bytes) -> bytes | None:
            shown = layer.markers.shown(name)
            return None if shown is None else stored(shown)

        descriptor = layer.tree.descriptor(node)
        status = os.fstat(descriptor)
        mode, attributes = kept(descriptor, stat.S_IMODE(status.st_mode), renamed)
        found = Attributes(mode, status.st_uid, status.st_gid, status.st_mtime_ns, attributes)
        found.on_host = True
        return found

    def file(self, name: bytes) -> StackedFile | None:
        """Give the file that has a name; None if nothing, or a directory, has it."""
        for layer, node in self.parts:
            found = layer.look(node, name)
            if found is not None:
                return None if isinstance(found, Directory | Found) else StackedFile(layer, node, name)
        return None

    def descriptor(self) -> int:
        """Not in a stack, where a file cannot have a name in two layers: it is copied up (`unpacker.layer.copyup`)."""
        raise NotImplementedError

    def left_out_of_root(self) -> set[bytes]:
        """Give the names in the root whose devices could not be made: there is nothing to see of them, and to hide."""
        return {path for layer, _ in self.parts for path in layer.skipped if b"/" not in path}

    def skipped(self, name: bytes) -> bool:
        """See `Below`; what an upper layer has of this name, a whiteout too, comes before."""
        for layer, node in self.parts:
            if node.path(name) in layer.skipped:
                return True
            if layer.look(node, name) is not None:
                return False
        return False
