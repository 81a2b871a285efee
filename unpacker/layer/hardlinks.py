"""Hard links of a layer: to its own files, to files of the layers below, and to what comes later in the archive.

A link means what its target's path leads to at that moment (layer.md, Hardlinks); only if that is nothing, it means
what is there when the layer ends.  Until then an empty file stands in for it.
"""

from __future__ import annotations

import errno
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.archive.reader import TarReader
    from unpacker.layer.changes import Changes
    from unpacker.layer.maker import Maker
    from unpacker.spec.entry import Entry
    from unpacker.tree.directory import Directory, Tree

# What link says where a filesystem has no hard links, or no more for this file, or the kernel protects the target.
_REFUSED = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS})
_MOST_ROUNDS = 64
"""How often links that wait are gone through: two suffice for all but those that somebody has knotted on purpose."""


class SkippedError(Exception):
    """What a hard link means is a device that could not be made."""


class Target(NamedTuple):
    """What a hard link means: a name in a directory, and the tree that its own node belongs to."""

    place: Place
    name: bytes
    tree: Tree


class HardLinks:
    """Makes the hard links of one layer.

    Args:
        tree: The layer's own tree.
        store: An empty tree beside it: for AUFS's files, which hard links mean, and for stand-ins.
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
        self._pending: dict[int, Entry] = {}  # by the inode of the file that stands in for the link's target

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
            if not self._link(directory, name, entry):
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

    def _link(self, directory: Directory, name: bytes, entry: Entry) -> bool:
        """Make a hard link; False if there is nothing (yet) that it could be a link to."""
        target = self._target(entry)
        if target is None:
            return False
        try:
            self._link_to(target, directory, name, entry)
        except FileExistsError:
            if self._is_same(target, directory, name):
                return True  # to remove it could remove the file itself
            self._maker.clear(directory, name)
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
        if place.own is not None and place.own.path(last) in self._changes.skipped:
            raise SkippedError
        found = self._walk.look(place, last)
        if isinstance(found, Place):
            raise IsADirectoryError
        if found is None and place.below is not None and place.below.skipped(last):
            raise SkippedError
        return None if found is None else Target(place, last, self._tree)

    def _link_to(self, target: Target, directory: Directory, name: bytes, entry: Entry) -> None:
        place, last, tree = target
        with self._tree.held(directory) as into:
            if place.below is not None and (place.own is None or tree.look(place.own, last) is None):
                if not self._maker.apart:
                    place.below.link(last, into, name)
                    return
                copy_up(place, last, walk=self._walk, tree=tree, copier=self._maker.copier, path=entry.name)
                place = self._walk.to(names.components(entry.link)[:-1], make=True) or place
            source = tree.descriptor(place.node)
            try:
                os.link(last, name, src_dir_fd=source, dst_dir_fd=into, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                if os.stat(last, dir_fd=source, follow_symlinks=False).st_ino in self._pending:
                    self._stand_in(directory, name, entry)  # a copy of what stands in for it would stay what it is
                    return
                self._maker.copier.copy(source, last, into, name, entry.name)
                self._maker.lose(LossKind.LINK, entry.name, f"copied, not linked: {os.strerror(error.errno)}")

    def _is_same(self, target: Target, directory: Directory, name: bytes) -> bool:
        """Whether a name is a link to the layer's own file already."""
        inode = self._own_inode(target)
        there = os.stat(name, dir_fd=self._tree.descriptor(directory), follow_symlinks=False)
        return inode is not None and inode == there.st_ino

    def _own_inode(self, target: Target) -> int | None:
        """Give the inode of the layer's own file that a link means; None if it is one of a layer below."""
        place, last, tree = target
        if place.own is None or tree.look(place.own, last) is None:
            return None
        return os.stat(last, dir_fd=tree.descriptor(place.own), follow_symlinks=False).st_ino

    def _skip(self, directory: Directory, name: bytes, entry: Entry) -> None:
        self._maker.skip(directory, name, entry, "hard link to a device that was not made")

    # -- links that wait ---------------------------------------------------------------------------------------------

    def _stand_in(self, directory: Directory, name: bytes, entry: Entry) -> None:
        """Put an empty file where the link will be.

        It has a second name aside, so that no other file gets its inode if it is replaced.
        """
        aside = b"stand-in-%d" % len(self._pending)
        own = self._store.descriptor(self._store.root)
        descriptor = os.open(aside, CREATE, 0o600, dir_fd=own)
        self._pending[os.fstat(descriptor).st_ino] = entry
        os.close(descriptor)
        self._maker.make(directory, name, lambda at: os.link(aside, name, src_dir_fd=own, dst_dir_fd=at))

    def _stand_ins(self) -> Iterator[tuple[Directory, bytes, Entry]]:
        """Yield the names of all stand-ins: one has several if later links meant it."""
        nodes = [self._tree.root]
        while nodes:
            node = nodes.pop()
            with os.scandir(rewound(self._tree.descriptor(node))) as found:
                inodes = [(os.fsencode(each.name), each.inode()) for each in found]
            for name, inode in inodes:
                if inode in self._pending and name not in node.children:
                    yield node, name, self._pending[inode]
            nodes += node.children.values()

    def _resolve(self, directory: Directory, name: bytes, entry: Entry) -> bool:
        """Make one link that has waited; False if its target waits itself, or is nothing yet."""
        try:
            target = self._target(entry)
            if target is None or self._own_inode(target) in self._pending:
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
