"""The view of the layers below: what staging and settling may ask about them.

Three ways to see layers answer it: a tree into which they were merged (`Merged`), a stack of directories, one a layer,
as overlayfs has them (`unpacker.layer.stack`), and either of them without what the layer at work hides (`Covered`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from unpacker.tree.directory import Directory, Other

if TYPE_CHECKING:
    from unpacker.layer.stack import StackedFile
    from unpacker.tree.directory import Tree

Path = tuple[bytes, ...]


class Below(Protocol):
    """One directory of the layers below."""

    def look(self, name: bytes) -> Below | bytes | Other | None:
        """Say what has this name: a directory, a symbolic link (its target), something else, or nothing."""

    def descriptor(self) -> int:
        """Give a descriptor of the directory, whose files may get more names: valid until the next call for another."""

    def file(self, name: bytes) -> StackedFile | None:
        """Give where in a stack of layers the file of this name is; None if it cannot be linked to a copy of it."""

    def skipped(self, name: bytes) -> bool:
        """Whether the layers below have a device of this name that could not be made."""


class Merged:
    """One directory of a tree into which the layers below were merged."""

    __slots__ = ("_skipped", "node", "tree")

    def __init__(self, tree: Tree, node: Directory, skipped: set[bytes]) -> None:
        self.tree = tree
        self.node = node
        self._skipped = skipped

    def look(self, name: bytes) -> Merged | bytes | Other | None:
        """See `Below`."""
        found = self.tree.look(self.node, name)
        return Merged(self.tree, found, self._skipped) if isinstance(found, Directory) else found

    def descriptor(self) -> int:
        """See `Below`."""
        return self.tree.descriptor(self.node)

    def file(self, name: bytes) -> StackedFile | None:
        """See `Below`; nothing is stacked here."""
        del name
        return None

    def skipped(self, name: bytes) -> bool:
        """See `Below`."""
        return self.node.path(name) in self._skipped


class Hidden:
    """What one layer hides of those below it, by the real paths of directories there: names, or all that is in one."""

    __slots__ = ("all", "names")

    def __init__(self) -> None:
        self.names: dict[Path, set[bytes]] = {}
        self.all: set[Path] = set()

    def __bool__(self) -> bool:
        return bool(self.names or self.all)

    def covers(self, path: Path, name: bytes) -> bool:
        """Whether a name in a directory is hidden."""
        return path in self.all or name in self.names.get(path, ())

    def has(self, path: bytes) -> bool:
        """Whether a path, or one above it, is hidden."""
        parts = tuple(path.split(b"/"))
        return any(self.covers(parts[:depth], name) for depth, name in enumerate(parts))


class Covered:
    """One directory of the layers below, without what is hidden."""

    __slots__ = ("_hidden", "below", "path")

    def __init__(self, below: Below, hidden: Hidden, path: Path = ()) -> None:
        self.below = below
        self.path = path
        self._hidden = hidden

    def look(self, name: bytes) -> Covered | bytes | Other | None:
        """See `Below`."""
        if self._hidden.covers(self.path, name):
            return None
        found = self.below.look(name)
        if found is None or isinstance(found, bytes | Other):
            return found
        return Covered(found, self._hidden, (*self.path, name))

    def file(self, name: bytes) -> StackedFile | None:
        """Give the file that has a name in a stack of layers; None if nothing, or a directory, has it."""
        return None if self._hidden.covers(self.path, name) else self.below.file(name)

    def descriptor(self) -> int:
        """See `Below`."""
        return self.below.descriptor()

    def skipped(self, name: bytes) -> bool:
        """See `Below`."""
        return not self._hidden.covers(self.path, name) and self.below.skipped(name)

    def hide(self, path: bytes) -> None:
        """Hide what has a path, on which there are no symbolic links, from now on and for all that see it."""
        *parents, last = path.split(b"/")
        here = self
        for name in parents:
            found = here.look(name)
            if not isinstance(found, Covered):
                return
            here = found
        if here.look(last) is not None:
            self._hidden.names.setdefault(here.path, set()).add(last)
