"""Hard links of a layer: to its own files, to files of the layers below, and to what comes later in the archive.

A link means what its target's path leads to at that moment (layer.md, Hardlinks); only if that is nothing, it means
what is there when the layer ends.  Until then an empty file stands in for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from unpacker.errors import UnsafeEntryError, quoted
from unpacker.events import LossKind
from unpacker.layer import names
from unpacker.layer.copyup import copy_up
from unpacker.layer.maker import CREATE
from unpacker.layer.names import LINK_STORE
from unpacker.layer.walk import LoopError, Place, UnknownError, Walk
from unpacker.tree.directory import rewound
from unpacker.tree.links import link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.archive.reader import TarReader
    from unpacker.layer.changes import Changes
    from unpacker.layer.maker import Maker
    from unpacker.spec.entry import Entry
    from unpacker.tree.directory import Directory, Tree

_WAITING = 500
"""Bytes of memory that a link takes that waits, besides its names."""
_MOST_ROUNDS = 64
"""How often links that wait are gone through: two suffice for all but those that somebody has knotted on purpose."""


class SkippedError(Exception):
    """What a hard link means is a device that could not be made."""


class Copied(NamedTuple):
    """The last copy of a file that has as many names as its filesystem allows."""

    aside: bytes
    """A name of it in the store, which stays whatever becomes of the others."""
    names: int
    """How many the file had."""
    links: int
    """How many links the layer had made by then."""


class StandIn(NamedTuple):
    """What an empty file stands in for."""

    entry: Entry
    mtime: int


class Target(NamedTuple):
    """What a hard link means: a name in a directory, and the tree that its own node belongs to."""

    place: Place
    name: bytes
    tree: Tree


class HardLinks:
    """Makes the hard links of one layer.

    Args:
        tree: The layer's own tree.
        store: An empty tree beside it: for AUFS's files, which hard links mean, and for copies of what they mean.
        walk: Where paths lead.
        maker: Makes room.
        changes: The layer's record.
        refuse: Told why an entry cannot be; raises, or takes note if the layers below may change that.
        known: Whether all is known; else links that nothing answers are left to the staging with the view.
    """

    def __init__(
        self,
        tree: Tree,
        store: Tree,
        *,
        walk: Walk,
        maker: Maker,
        changes: Changes,
        refuse: Callable[[str], None],
        known: bool,
    ) -> None:
        self._tree = tree
        self._store = store
        self._aufs = store.make(store.root, b"aufs")
        self._walk = walk
        self._maker = maker
        self._changes = changes
        self._refuse = refuse
        self._known = known
        self._pending: dict[int, StandIn] = {}  # by inode
        self._moment = 10**18 + int.from_bytes(os.urandom(8), "big") % 10**18  # in this century
        self._copies: dict[tuple[int, int], Copied] = {}  # by device and inode of the file that has no room for a name
        self._made = 0

    def keep(self, name: bytes, entry: Entry, reader: TarReader) -> None:
        """Keep one of AUFS's files."""
        self._maker.file(self._aufs, name, entry, reader, tree=self._store)

    def add(self, place: Place, name: bytes, entry: Entry) -> None:
        """Give a file one more name; its owner, mode and times stay as they are, whatever this entry says of them."""
        directory = place.node
        try:
            if self._has_directory(place, name):
                # It is gone before the link's target is looked for, which may have been in it.
                self._stand_in(directory, name, entry)
            if not self._link(place, name, entry):
                self._stand_in(directory, name, entry)
        except UnknownError:
            self._refuse("a hard link to what may be in a layer below")
            self._stand_in(directory, name, entry)
        except LoopError:
            self._maker.clear(directory, name)
            self._refuse("more symbolic links to its target than the kernel follows")
        except IsADirectoryError:
            self._maker.clear(directory, name)
            self._refuse(f"a hard link to {quoted(entry.link)}, which is a directory")
        except SkippedError:
            self._skip(directory, name, entry)

    def finish(self) -> None:
        """Make the hard links whose target came after them, links to such links among them.

        Raises:
            UnsafeEntryError: There is nothing that one of them could be a link to.
        """
        if not self._pending:
            return
        if not self._known:
            self._refuse("a hard link to what comes later")
            return
        waiting = sorted(self._stand_ins(), key=lambda one: one[2].offset)
        for _ in range(_MOST_ROUNDS):
            # What a link waits for mostly comes later in the archive; where it leads through another link, earlier.
            waiting.reverse()
            still = [one for one in waiting if not self._resolve(*one)]
            if not still:
                return
            if len(still) == len(waiting):
                raise _refused(still[0][2], f"a hard link to {quoted(still[0][2].link)}, which is nothing")
            waiting = still
        raise _refused(waiting[0][2], "one of too many hard links that wait for each other")

    # -- one link ----------------------------------------------------------------------------------------------------

    def _has_directory(self, place: Place, name: bytes) -> bool:
        try:
            return isinstance(self._walk.look(place, name), Place)
        except UnknownError:
            return False

    def _link(self, place: Place, name: bytes, entry: Entry) -> bool:
        """Make a hard link; False if there is nothing (yet) that it could be a link to."""
        directory = place.node
        target = self._target(entry)
        if target is not None and self._leads_through_below(place, name, target):
            self._maker.hide(directory, name)
            target = self._target(entry)
        if target is None:
            return False
        try:
            self._link_to(target, directory, name, entry)
        except FileExistsError:
            target = self._target(entry) or target  # it may have been copied up, and this name with it
            if self._is_same(target, directory, name):
                return True  # to remove it could remove the file itself
            self._maker.clear(directory, name)
            self._maker.hide(directory, name)  # or the way could lead into a directory that it had replaced
            target = self._target(entry)  # it may have been a symbolic link on the way
            if target is None:
                return False
            self._link_to(target, directory, name, entry)
        return True

    def _target(self, entry: Entry) -> Target | None:
        """Find what a hard link means; None if it is nothing.

        Raises:
            IsADirectoryError: It is a directory.
            SkippedError: It is a device that could not be made.
            UnknownError, LoopError: See `Walk.to`.
        """
        path = names.components(entry.link)
        if not path:
            raise IsADirectoryError
        *parents, last = path
        if path[0] == LINK_STORE:
            kept = parents == [LINK_STORE] and self._store.look(self._aufs, last) is not None
            return Target(Place(self._aufs, None), last, self._store) if kept else None
        place = self._walk.to(parents, make=False)
        if place is None:
            return None
        if self._is_skipped(place, last):
            raise SkippedError
        found = self._walk.look(place, last)
        if isinstance(found, Place):
            raise IsADirectoryError
        if found is None and place.below is not None and place.below.skipped(last):
            raise SkippedError
        return None if found is None else Target(place, last, self._tree)

    def _is_skipped(self, place: Place, name: bytes) -> bool:
        """Whether the layer's own device of this name could not be made, and nothing has come in its place since."""
        own = place.own
        return own is not None and own.path(name) in self._changes.skipped and self._tree.look(own, name) is None

    def _link_to(self, target: Target, directory: Directory, name: bytes, entry: Entry) -> None:
        with self._tree.held(directory) as into:
            source = self._source(target, entry)
            why = link(source, target.name, into, name)
            if why is None:
                self._made += 1
                return
            status = os.stat(target.name, dir_fd=source, follow_symlinks=False)
            if self._stands_in(status):
                self._stand_in(directory, name, entry)  # a copy of what stands in for it would stay what it is
                return
            if not self._link_to_copy(status, into, name):
                self._maker.copier.copy(source, target.name, into, name, entry.name)
                self._keep_copy(status, into, name)
            self._maker.lose(LossKind.LINK, entry.name, why)

    def _source(self, target: Target, entry: Entry) -> int:
        """Give a descriptor of the directory that has the file which a link means."""
        place, last, tree = target
        if place.below is None or (place.own is not None and tree.look(place.own, last) is not None):
            return tree.descriptor(place.node)
        if not self._maker.apart:
            return place.below.descriptor()
        copy_up(place, last, walk=self._walk, tree=tree, copier=self._maker.copier, path=entry.name)
        place = self._walk.to(names.components(entry.link)[:-1], make=True) or place
        return tree.descriptor(place.node)

    def _link_to_copy(self, original: os.stat_result, into: int, name: bytes) -> bool:
        """Link to the last copy of a file that takes no more names; False if there is none, or if it takes none either.

        Else each further link, of a few bytes in the archive, would be a whole file on the disk.
        """
        copied = self._copies.get((original.st_dev, original.st_ino))
        # Another file that has got the same inode since needs as many links to come here.
        if copied is None or self._made - copied.links >= copied.names - 1:
            return False
        if link(self._store.descriptor(self._store.root), copied.aside, into, name):
            return False
        self._made += 1
        return True

    def _keep_copy(self, original: os.stat_result, into: int, name: bytes) -> None:
        aside = b"copy-%d" % self._made
        if not link(into, name, self._store.descriptor(self._store.root), aside):
            self._made += 1
            self._copies[original.st_dev, original.st_ino] = Copied(aside, original.st_nlink, self._made)

    def _leads_through_below(self, place: Place, name: bytes, target: Target) -> bool:
        """Whether a symbolic link below has the name: it may be on the way, and goes before the target is looked for.

        Unless it is the very file that is meant.
        """
        if place.below is None or not isinstance(place.below.look(name), bytes):
            return False
        if self._tree.look(place.node, name) is not None:
            return False  # the layer's own comes before it
        there = self._identity(Target(place, name, self._tree))
        return there is None or there != self._identity(target)

    def _identity(self, target: Target) -> tuple[int, int] | None:
        """Give device and inode of what a link means, wherever it is."""
        place, last, _ = target
        own = self._own_status(target)
        if own is not None:
            return own.st_dev, own.st_ino
        if place.below is None:
            return None
        file = place.below.file(last)
        if file is not None:
            return file.identity()
        if self._maker.apart:
            return None
        status = os.stat(last, dir_fd=place.below.descriptor(), follow_symlinks=False)
        return status.st_dev, status.st_ino

    def _is_same(self, target: Target, directory: Directory, name: bytes) -> bool:
        """Whether a name is a link to the layer's own file already."""
        own = self._own_status(target)
        if self._tree.look(directory, name) is None:
            return False  # another name, which the filesystem takes for this one
        there = os.stat(name, dir_fd=self._tree.descriptor(directory), follow_symlinks=False)
        return own is not None and os.path.samestat(own, there)

    def _own_status(self, target: Target) -> os.stat_result | None:
        """Give the status of the layer's own file that a link means; None if it is one of a layer below."""
        place, last, tree = target
        if place.own is None or tree.look(place.own, last) is None:
            return None
        return os.stat(last, dir_fd=tree.descriptor(place.own), follow_symlinks=False)

    def _skip(self, directory: Directory, name: bytes, entry: Entry) -> None:
        self._maker.skip(directory, name, entry, "hard link to a device that was not made")

    # -- links that wait ---------------------------------------------------------------------------------------------

    def _stand_in(self, directory: Directory, name: bytes, entry: Entry) -> None:
        """Put an empty file where the link will be.

        It is known by its inode, and by a time that nobody can guess: once it is gone, another file may get the inode.
        """
        entry.xattrs = None  # a link has none of its own, and this entry is kept
        self._tree.remember(_WAITING + len(entry.name) + len(entry.link))

        def make(at: int) -> None:
            descriptor = os.open(name, CREATE, 0o600, dir_fd=at)
            try:
                os.utime(descriptor, ns=(self._moment, self._moment))
                status = os.fstat(descriptor)  # with the time as far as the filesystem can hold it
            finally:
                os.close(descriptor)
            self._pending[status.st_ino] = StandIn(entry, status.st_mtime_ns)

        self._maker.make(directory, name, make)

    def _stands_in(self, status: os.stat_result) -> Entry | None:
        """Give the entry that a file stands in for; None if it is a file by itself."""
        found = self._pending.get(status.st_ino)
        return found.entry if found is not None and found.mtime == status.st_mtime_ns else None

    def _stand_ins(self) -> Iterator[tuple[Directory, bytes, Entry]]:
        """Yield the names of all stand-ins: one has several if later links meant it."""
        nodes = [self._tree.root]
        while nodes:
            node = nodes.pop()
            with os.scandir(rewound(self._tree.descriptor(node))) as found:
                likely = [each for each in found if each.inode() in self._pending]
                entries = [(each.name, self._stands_in(each.stat(follow_symlinks=False))) for each in likely]
            for name, entry in entries:
                if entry is not None:
                    yield node, os.fsencode(name), entry
            nodes += node.children.values()

    def _resolve(self, directory: Directory, name: bytes, entry: Entry) -> bool:
        """Make one link that has waited; False if its target waits itself, or is nothing yet."""
        try:
            target = self._target(entry)
            status = None if target is None else self._own_status(target)
            if target is None or (status is not None and self._stands_in(status)):
                return False
            os.unlink(name, dir_fd=self._tree.descriptor(directory))
            self._link_to(target, directory, name, entry)
        except IsADirectoryError:
            raise _refused(entry, f"a hard link to {quoted(entry.link)}, which is a directory") from None
        except LoopError:
            raise _refused(entry, "more symbolic links to its target than the kernel follows") from None
        except SkippedError:
            self._skip(directory, name, entry)
        return True


def _refused(entry: Entry, why: str) -> UnsafeEntryError:
    return UnsafeEntryError(why, entry=entry.name, offset=entry.offset)
