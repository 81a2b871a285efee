"""Where a path leads inside the root: component by component, on directory nodes, links followed as in a chroot.

A path of an image never reaches a system call.  Each component is looked up in the directory before it, first among
what the layer itself has made, then in the view of the layers below; ``..`` and absolute links stay inside the root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.errors import LimitError, quoted
from unpacker.layer.names import COMPONENT_MOST, WHITEOUT
from unpacker.limits import DEFAULT
from unpacker.tree.directory import OTHER, Directory, Other

if TYPE_CHECKING:
    from unpacker.layer.below import Below
    from unpacker.tree.directory import Tree

_MOST_HOPS = 40
"""Symbolic links on one path, the kernel's own limit."""
_MOST_LINKED = 1024
"""Components that the links on one path have together.

The kernel would walk over 80,000 of them; here each entry of an archive would take a fiftieth of a second.
"""


class LoopError(Exception):
    """A path with more symbolic links on it than the kernel would follow, or with endless ones."""


class NoNameError(Exception):
    """A symbolic link leads to a directory that would have to be made, and no directory may have its name."""


class UnknownError(Exception):
    """Only the layers below can tell, and there is no view of them."""


class Place:
    """A directory: as the layer itself has made it, as the layers below have it, or both.

    Attributes:
        own: Its node in the layer's own tree; None if only the layers below have it.
        below: What the layers below have there; None if nothing, if it is hidden, or if there is no view of them.
        alone: Whether nothing of the layers below can be in it: it, or one above it, replaced what was there.
    """

    __slots__ = ("alone", "below", "own")

    def __init__(self, own: Directory | None, below: Below | None, *, alone: bool = False) -> None:
        self.own = own
        self.below = below
        self.alone = alone or (own is not None and own.opaque)

    @property
    def node(self) -> Directory:
        """The node in the layer's own tree, where one is known to be: after a walk that makes what is missing."""
        if self.own is None:
            raise LookupError("a directory of the layers below only")
        return self.own


class Walk:
    """Walks over one layer's own tree, and the view of those below it.

    Args:
        tree: What the layer has made so far.
        below: The root of the view; None if there is nothing below, or no view.
        known: Whether ``below`` is all there is; else what the own tree lacks may be below, and nobody can say.
        assumed: Where to note each directory that is made for want of a view.
        most: How many bytes a path may have.
        directories: How many directories may be made: one name of 4 KB alone can ask for 2,000.
    """

    def __init__(
        self,
        tree: Tree,
        below: Below | None,
        *,
        known: bool,
        assumed: list[Directory],
        most: int,
        directories: int = DEFAULT.entries,
    ) -> None:
        self._tree = tree
        self._known = known
        self._assumed = assumed
        self._most = most
        self._directories = directories
        self._made = 0
        self.root = Place(tree.root, below)

    def to(self, path: list[bytes], *, make: bool) -> Place | None:
        """Give the directory at a path; None if there is none.

        With ``make``, what is missing on the way is made as an implied directory, and what is in the way is replaced by
        one; the place is then there, and has an own node.

        Raises:
            LoopError: Too many symbolic links.
            NoNameError: See `make`.
            UnknownError: What is missing may be below.  Not with ``make``, which takes it for a directory and notes it.
        """
        return self._from(self.root, path, make=make)

    def below(self, path: list[bytes]) -> Below | None:
        """Give the directory that a path leads to among the layers below alone; None if there is none.

        Raises:
            LoopError: Too many symbolic links.
        """
        found = self._from(Place(None, self.root.below), path, make=False)
        return None if found is None else found.below

    def _from(self, root: Place, path: list[bytes], *, make: bool) -> Place | None:
        way = [root]
        waiting = path[::-1]
        hops = linked = 0
        while waiting:
            component = waiting.pop()
            if component in (b"", b"."):
                continue
            if component == b"..":
                way[1:] = way[1:-1]
                continue
            found = self._step(way[-1], component, make=make)
            if found is None:
                return None
            if isinstance(found, Place):
                way.append(found)
                continue
            components = found.split(b"/")
            hops += 1
            linked += len(components)
            if hops > _MOST_HOPS or linked > _MOST_LINKED:
                raise LoopError
            waiting += components[::-1]
            if found.startswith(b"/"):
                del way[1:]
        return way[-1]

    def look(self, place: Place, name: bytes) -> Place | bytes | Other | None:
        """Say what has a name in a directory: a directory, a symbolic link (its target), something else, or nothing.

        Raises:
            UnknownError: The layer itself has nothing of this name, and the layers below may have.
        """
        if place.own is not None:
            found = self._tree.look(place.own, name)
            if isinstance(found, Directory):
                return Place(found, self._behind(place, found), alone=place.alone)
            if found is not None:
                return found
            if not self._known and not place.alone:
                raise UnknownError
        if place.below is None:
            return None
        under = place.below.look(name)
        return under if under is None or isinstance(under, bytes | Other) else Place(None, under)

    def own_directory(self, place: Place, name: bytes) -> Place | None:
        """Give the directory that the layer itself has made in another one under a name; None if it has made none."""
        child = None if place.own is None else place.own.children.get(name)
        return None if child is None else Place(child, self._behind(place, child), alone=place.alone)

    def make(self, parent: Directory, name: bytes) -> Directory:
        """Make a directory where the layer itself has nothing yet.

        Entries are refused by their names before they get here, but a symbolic link may lead anywhere.

        Raises:
            NoNameError: Its name is that of a whiteout, or longer than any.
            LimitError: Its path is longer than allowed, or there are too many.
        """
        if name.startswith(WHITEOUT) or len(name) > COMPONENT_MOST:
            raise NoNameError(f"a symbolic link in its path leads to {quoted(name)}, which no directory may be called")
        length = parent.length + len(name)
        if length > self._most:
            raise LimitError("path_bytes", self._most, length, "bytes of a path")
        self._made += 1
        if self._made > self._directories:
            raise LimitError("entries", self._directories, self._made, "directories in a layer")
        return self._tree.make(parent, name)

    def replace(self, parent: Directory, name: bytes) -> Directory:
        """Make a directory in place of something that the layer itself has made; nothing below can show through."""
        self._tree.remove(parent, name)
        child = self.make(parent, name)
        child.opaque = True
        return child

    def _step(self, place: Place, name: bytes, *, make: bool) -> Place | bytes | None:
        """Look one component up, or make it."""
        try:
            found = self.look(place, name)
        except UnknownError:
            if not make or place.own is None:
                raise
            made = self.make(place.own, name)
            self._assumed.append(made)
            self._tree.remember(made.size)  # once more: it stays among them, whatever becomes of it
            return Place(made, None, alone=place.alone)
        if isinstance(found, Place) and make and found.own is None and place.own is not None:
            found.own = self.make(place.own, name)
        if found is None or isinstance(found, Other):
            if not make or place.own is None:
                return None
            return Place(self._implied(place.own, name, in_the_way=found is OTHER), None, alone=place.alone)
        return found

    def _implied(self, parent: Directory, name: bytes, *, in_the_way: bool) -> Directory:
        """Make a directory that no entry speaks of; what is in its way may be the layer's own, or below."""
        if in_the_way and self._tree.look(parent, name) is not None:
            return self.replace(parent, name)
        return self.make(parent, name)

    def _behind(self, place: Place, child: Directory) -> Below | None:
        if place.below is None or child.opaque:
            return None
        found = place.below.look(child.name)
        return None if found is None or isinstance(found, bytes | Other) else found
