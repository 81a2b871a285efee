"""Stage: the entries of one layer become files in a private, empty tree, and a record of what is open (`Changes`).

Without a view of the layers below, every directory that no entry has made before something in it is taken for one of
theirs, so any number of layers stage side by side.  Settling checks that (`unpacker.layer.settle`).  Where it was
wrong, or where only the layers below could say what an entry means, the layer is staged again by the same code, now
with the view: then each entry acts on the merged tree as it is at that moment, and nothing is taken for granted.

Directories get their attributes last, when all work in them is done; so they wait in the nodes of the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.errors import InLayerError, LimitError, UnsafeEntryError, quoted, word
from unpacker.events import LossKind
from unpacker.layer import names
from unpacker.layer.changes import Changes
from unpacker.layer.hardlinks import HardLinks
from unpacker.layer.maker import Maker
from unpacker.layer.names import COMPONENT_MOST, WHITEOUT, Role
from unpacker.layer.walk import LoopError, NoNameError, Place, UnknownError, Walk
from unpacker.spec.entry import Entry, Kind
from unpacker.tree.attributes import KEPT_MODE, Attributes
from unpacker.tree.copy import ignore_copy
from unpacker.tree.directory import Directory, Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpacker.archive.reader import TarReader
    from unpacker.layer.below import Covered
    from unpacker.layer.rules import Rules
    from unpacker.tree.attributes import OnLoss
    from unpacker.tree.directory import Tree

_WHITEOUT = 200
"""Bytes of memory that a whiteout takes besides its path."""
_PLACES_MOST = 4096
_UNUSUAL = (b"", b".")
"""How names begin that may be something else than names: nothing, ``.``, ``..``, whiteouts."""


def _ignore_loss(_kind: object, _path: bytes, _reason: str) -> None:
    """Do nothing: losses are in the record as well."""


class Stager:
    """Stages one layer.

    Args:
        tree: An empty tree; it holds the layer afterwards.
        store: An empty tree beside it, for what hard links need meanwhile.
        rules: How.
        below: The view of the layers below; None if there are none, or no view.
        known: Whether ``below`` is all there is: staged with the view, or nothing is below.
        on_loss: Told of each loss, besides the record.
        on_copy: See `unpacker.tree.copy.Copier`.

    Attributes:
        changes: The record.
        climbed: The first name that leads above the root, and was kept inside.
    """

    def __init__(
        self,
        tree: Tree,
        store: Tree,
        rules: Rules,
        *,
        below: Covered | None = None,
        known: bool = False,
        on_loss: OnLoss = _ignore_loss,
        on_copy: Callable[[int], None] = ignore_copy,
    ) -> None:
        self.changes = Changes()
        self.climbed: bytes | None = None
        self._tree = tree
        tree.share(rules.memory or Memory(rules.limits.memory_bytes))
        self._known = known
        self._keep_dirlinks = rules.keep_dirlinks
        self._markers = rules.markers
        self._limits = rules.limits
        self._most = rules.limits.path_bytes
        self._walk = Walk(
            tree,
            below,
            known=known,
            assumed=self.changes.assumed,
            most=self._most,
            directories=rules.limits.entries,
        )
        self._below = below
        self._maker = Maker(tree, self.changes, rules, on_loss, self._forget_places, self._hide, on_copy)
        self._links = HardLinks(
            tree, store, walk=self._walk, maker=self._maker, changes=self.changes, refuse=self._refuse, known=known
        )
        self._places: dict[bytes, Place] = {}  # where the parents of entries, spelled as they are, have led to
        self._forget_places()

    def run(self, reader: TarReader) -> None:
        """Stage all entries.

        Raises:
            CorruptLayerError, LimitError: The archive is broken, or too large.
            UnsafeEntryError: An entry that no root filesystem can hold.
            OSError: The host failed; a note says at which entry.
        """
        entry: Entry | None = None
        stored = None if self._markers is None else self._markers.stored
        try:
            for entry in reader:
                if entry.xattrs:
                    if entry.xattrs.pop(KEPT_MODE, None) is not None:  # in a store it would stand for the mode
                        self._maker.lose(LossKind.XATTR, entry.name, f"{word(KEPT_MODE)}: the name is our own")
                    if stored is not None:
                        entry.xattrs = {stored(key): value for key, value in entry.xattrs.items()}
                located = self._locate(entry, reader)
                if located is not None:
                    self._add(*located, entry, reader)
            entry = None
            self._links.finish()
        except InLayerError as error:
            # The reader's own errors have an offset, and may be about what comes behind this entry.
            if error.entry is None and error.offset is None and entry is not None:
                error.entry, error.offset = entry.name, entry.offset
            raise
        except OSError as error:
            if entry is not None:
                error.add_note(f"entry {quoted(entry.name)}")
            raise
        self.changes.entries = reader.count

    def _add(self, place: Place, name: bytes, entry: Entry, reader: TarReader) -> None:
        """Make what an entry says, in a directory that is there."""
        if place.below is not None and isinstance(place.below.look(name), bytes):
            self._forget_places()  # they may have led through a link below, which this entry replaces
        kind = entry.kind
        directory = place.node
        if kind is Kind.FILE:
            self._maker.file(directory, name, entry, reader)
        elif kind is Kind.DIRECTORY:
            self._directory(place, name, entry)
        elif kind is Kind.SYMLINK:
            self._maker.symlink(directory, name, entry)
        elif kind is Kind.HARDLINK:
            self._links.add(place, name, entry)
        else:
            self._maker.node(directory, name, entry)

    # -- where an entry belongs --------------------------------------------------------------------------------------

    def _locate(self, entry: Entry, reader: TarReader) -> tuple[Place, bytes] | None:
        """Give the directory that an entry is in, and its name there; None if it makes nothing there."""
        name = entry.name
        parent, _, last = name.rpartition(b"/")
        if not last:
            name = name.rstrip(b"/")
            parent, _, last = name.rpartition(b"/")
        place = self._places.get(parent)
        if place is None or last[:1] in _UNUSUAL or place.own is None:
            return self._locate_anew(entry, parent, reader)
        size = len(last)
        if size > COMPONENT_MOST or place.own.length + size > self._most:
            return self._locate_anew(entry, parent, reader)
        return place, last

    def _locate_anew(self, entry: Entry, parent: bytes, reader: TarReader) -> tuple[Place, bytes] | None:
        path = names.components(entry.name)
        if self.climbed is None and b".." in entry.name and names.climbs(entry.name):
            self.climbed = entry.name
        names.check(path, self._limits)
        if not path:
            if entry.kind is not Kind.DIRECTORY:
                # umoci made it a symbolic link, and let the next layer through it (CVE-2021-29136).
                raise UnsafeEntryError(f"the root must be a directory, not a {entry.kind.value}")
            self._tree.describe(self._tree.root, Attributes.of(entry))
            return None
        role = names.role(path)
        if role is not Role.PLAIN:
            self._take_marker(role, path, entry, reader)
            return None
        if names.components(parent) != path[:-1]:  # GNU tar's `a/./`: what stands before its last slash is `a` itself
            parent = b"/".join(path[:-1])
        place, why = None, "more symbolic links in its path than the kernel follows"
        try:
            place = self._beneath(parent) or self._walk.to(path[:-1], make=True)
        except LoopError:
            pass
        except NoNameError as error:
            why = str(error)
        if place is None:
            self._refuse(why)
            return None
        length = place.node.length + len(path[-1])
        if length > self._most:
            raise LimitError("path_bytes", self._most, length, "bytes of a path, symbolic links followed")
        if b".." not in parent:
            if len(self._places) > _PLACES_MOST:
                self._forget_places()
            self._places[parent] = place
        return place, path[-1]

    def _beneath(self, parent: bytes) -> Place | None:
        """Find where an entry's parent leads by the place of its own parent: archives go down one step at a time."""
        above, _, name = parent.rpartition(b"/")
        place = self._places.get(above)
        return None if place is None or name in (b"", b".", b"..") else self._walk.own_directory(place, name)

    def _forget_places(self) -> None:
        """Forget where paths lead: something on their way may have been replaced."""
        self._places.clear()
        self._places[b""] = self._places[b"."] = self._walk.root

    def _hide(self, path: bytes) -> None:
        """Hide what is below a path, from the entry on that has replaced it."""
        self._forget_places()
        if self._below is not None:
            self._below.hide(path)

    def _take_marker(self, role: Role, path: list[bytes], entry: Entry, reader: TarReader) -> None:
        """Note a whiteout; it hides what is below wherever in its layer it stands (layer.md, Whiteouts)."""
        *parents, last = path
        if role in (Role.OPAQUE, Role.WHITEOUT):
            self._tree.remember(_WHITEOUT + 2 * len(entry.name))  # here, and among what it hides
        if role is Role.OPAQUE:
            self.changes.opaque.append(b"/".join(parents))
        elif role is Role.WHITEOUT:
            self.changes.whiteouts.append(b"/".join([*parents, last.removeprefix(WHITEOUT)]))
        elif role is Role.LINK_STORE and entry.kind is Kind.FILE:
            self._links.keep(last, entry, reader)

    def _refuse(self, why: str) -> None:
        """Refuse an entry, or leave that to the staging with the view: a link may lead elsewhere then.

        Raises:
            UnsafeEntryError: All is known.
        """
        if self._known:
            raise UnsafeEntryError(why)
        self.changes.unresolved = self.changes.unresolved or why

    # -- directories -------------------------------------------------------------------------------------------------

    def _directory(self, place: Place, name: bytes, entry: Entry) -> None:
        """Merge with the directory that is there, and replace all else; the attributes are replaced altogether."""
        parent = place.node
        child = parent.children.get(name)
        if child is None and self._keep_dirlinks:
            child = self._behind_link(place, name)
        if child is None:
            try:
                child = self._walk.make(parent, name)
            except FileExistsError:
                child = self._walk.replace(parent, name)
                self._forget_places()
        self._tree.describe(child, Attributes.of(entry))

    def _behind_link(self, place: Place, name: bytes) -> Directory | None:
        """Give the directory that a symbolic link in an entry's place leads to; None if it is to be replaced."""
        path = [*place.node.path().split(b"/"), name]
        own = None
        try:
            own = self._walk.look(place, name)
            if isinstance(own, bytes) and self._walk.to(path, make=False) is not None:
                found = self._walk.to(path, make=True)
                return None if found is None else found.node
        except LoopError:
            pass
        except UnknownError:
            if own is None:
                self.changes.assumed.append(Directory(place.node, name))
            else:
                self._refuse("a directory in place of a symbolic link to what may be in a layer below")
        return None
