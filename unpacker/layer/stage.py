"""Stage: the entries of one layer become files in a private, empty tree, and a record of what is still open (`Changes`).

Without a view of the layers below, every directory that no entry has made before something in it is taken for a directory
of theirs, so any number of layers stage side by side.  Settling checks that (`unpacker.layer.settle`).  Where it was
wrong, or where only the layers below could say what an entry means, the layer is staged again by the same code, now with
the view: then each entry acts on the merged tree as it is at that moment, and nothing is taken for granted.

Directories get their attributes last, when all work in them is done; so they wait in the nodes of the tree.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from unpacker.errors import UnsafeEntryError, quoted
from unpacker.events import LossKind
from unpacker.layer import names
from unpacker.layer.changes import Changes
from unpacker.layer.links import copy_instead
from unpacker.layer.names import LINK_STORE, WHITEOUT, Role
from unpacker.layer.walk import LoopError, Place, UnknownError, Walk
from unpacker.limits import DEFAULT, Limits
from unpacker.spec.entry import Entry, Kind
from unpacker.tree.attributes import Applier, Attributes
from unpacker.tree.data import PAGE, HoleWriter, write_all
from unpacker.tree.directory import OTHER, Directory, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.archive.reader import TarReader
    from unpacker.layer.below import Below
    from unpacker.tree.attributes import OnLoss
    from unpacker.tree.owners import Owners

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COMPONENT_MOST = 255
_PLACES_MOST = 4096
_LINK_MOST = 4095
"""Bytes that the kernel takes as the target of a symbolic link."""
# What mknod says where the caller may not (EPERM), where the filesystem or the kernel has no place for the numbers.
_NODE_REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
# What link says where a filesystem has no hard links, or no more for this file, or the kernel protects the target.
_LINK_REFUSED = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS})


class Skipped(Exception):  # noqa: N818 -- an answer, not a failure
    """What a hard link means is a device that could not be made."""


class Stager:
    """Stages one layer.

    Args:
        tree: An empty tree; it holds the layer afterwards.
        store: An empty tree beside it, for files of AUFS that only hard links mean.
        owners: Which owners to set.
        umask: The process's file mode creation mask.
        below: The view of the layers below; None if there are none, or no view.
        known: Whether ``below`` is all there is: staged with the view, or nothing is below.
        keep_dirlinks: Whether a directory's entry leaves a symbolic link to a directory in its place.
        limits: How long a path may be.
        on_loss: Told of each loss, besides the record.
    """

    def __init__(
        self,
        tree: Tree,
        store: Tree,
        *,
        owners: Owners,
        umask: int,
        below: Below | None = None,
        known: bool = False,
        keep_dirlinks: bool = False,
        limits: Limits = DEFAULT,
        on_loss: OnLoss = lambda _kind, _path, _reason: None,
    ) -> None:
        self.changes = Changes()
        self.climbed: bytes | None = None
        """The first name that leads above the root and was kept inside."""
        self._tree = tree
        self._store = store
        self._known = known
        self._keep_dirlinks = keep_dirlinks
        self._most = limits.path_bytes
        self._on_loss = on_loss
        self._walk = Walk(tree, below, known=known, assumed=self.changes.assumed, most=limits.path_bytes)
        self._applier = Applier(owners, self._lose, umask)
        self._aufs = store.make(store.root, b"aufs")
        self._pending: dict[int, Entry] = {}  # by the inode of the file that stands in for the link's target
        self._places: dict[bytes, Place] = {}
        self._forget_places()

    def run(self, reader: TarReader) -> None:
        """Stage all entries.

        Raises:
            CorruptLayerError, LimitError: The archive is broken, or too large.
            UnsafeEntryError: An entry that no root filesystem can hold.
            OSError: The host failed; a note says at which entry.
        """
        self._reader = reader
        add: dict[Kind, Callable[[Place, bytes, Entry], None]] = {
            Kind.FILE: self._file,
            Kind.DIRECTORY: self._directory,
            Kind.SYMLINK: self._symlink,
            Kind.HARDLINK: self._hardlink,
            Kind.FIFO: self._node,
            Kind.CHARACTER: self._node,
            Kind.BLOCK: self._node,
        }
        entry: Entry | None = None
        try:
            for entry in reader:
                located = self._locate(entry)
                if located is not None:
                    add[entry.kind](*located, entry)
            entry = None
            self._resolve_pending()
        except UnsafeEntryError as error:
            if error.entry is None and entry is not None:
                error.entry, error.offset = entry.name, entry.offset
            raise
        except OSError as error:
            if entry is not None:
                error.add_note(f"entry {quoted(entry.name)}")
            raise
        self.changes.entries = reader.count

    # -- where an entry belongs --------------------------------------------------------------------------------------

    def _locate(self, entry: Entry) -> tuple[Place, bytes] | None:
        """Give the directory that an entry is in, and its name there; None if it makes nothing there."""
        name = entry.name
        parent, _, last = (name.rstrip(b"/") if name.endswith(b"/") else name).rpartition(b"/")
        place = self._places.get(parent)
        if (
            place is None
            or not last
            or last in (b".", b"..")
            or last.startswith(WHITEOUT)
            or len(last) > _COMPONENT_MOST
            or place.own is None
            or place.own.length + len(last) > self._most
        ):
            return self._locate_anew(entry, parent)
        return place, last

    def _locate_anew(self, entry: Entry, parent: bytes) -> tuple[Place, bytes] | None:
        path = names.components(entry.name)
        if b".." in entry.name and self.climbed is None and names.climbs(entry.name):
            self.climbed = entry.name
        names.check(path, self._most)
        if not path:
            if entry.kind is not Kind.DIRECTORY:
                # umoci made it a symbolic link, and let the next layer through it (CVE-2021-29136).
                raise UnsafeEntryError(f"the root must be a directory, not a {entry.kind.value}")
            self._tree.root.attributes = Attributes.of(entry)
            return None
        role = names.role(path)
        if role is not Role.PLAIN:
            self._take_marker(role, path, entry)
            return None
        try:
            place = self._walk.to(path[:-1], make=True)
        except LoopError:
            self._refuse("more symbolic links in its path than the kernel follows")
            return None
        assert place is not None
        if place.own is None or place.own.length + len(path[-1]) > self._most:
            raise UnsafeEntryError(f"a name of more than {self._most} bytes, symbolic links followed")
        if b".." not in parent:
            if len(self._places) > _PLACES_MOST:
                self._forget_places()
            self._places[parent] = place
        return place, path[-1]

    def _forget_places(self) -> None:
        """Forget where paths lead: something on their way may have been replaced."""
        self._places.clear()
        self._places[b""] = self._places[b"."] = self._walk.root

    def _take_marker(self, role: Role, path: list[bytes], entry: Entry) -> None:
        """Note a whiteout; it hides what is below wherever in its layer it stands (layer.md, Whiteouts)."""
        if role is Role.OPAQUE:
            self.changes.opaque.append(path[:-1])
        elif role is Role.WHITEOUT:
            self.changes.whiteouts.append([*path[:-1], path[-1].removeprefix(WHITEOUT)])
        elif role is Role.LINK_STORE and entry.kind is Kind.FILE:
            self._file(Place(self._aufs, None), path[-1], entry, tree=self._store)

    def _refuse(self, why: str) -> None:
        """Refuse an entry, or leave that to the staging with the view: a link may lead elsewhere then.

        Raises:
            UnsafeEntryError: All is known.
        """
        if self._known:
            raise UnsafeEntryError(why)
        self.changes.unresolved = self.changes.unresolved or why

    # -- one entry of each kind --------------------------------------------------------------------------------------

    def _file(self, place: Place, name: bytes, entry: Entry, tree: Tree | None = None) -> None:
        tree = tree or self._tree
        directory = place.own
        assert directory is not None
        mode = entry.mode & 0o777
        at = directory.descriptor
        if at < 0:
            at = tree.descriptor(directory)
        try:
            descriptor = os.open(name, _CREATE, mode, dir_fd=at)
        except FileExistsError:
            self._clear(directory, name, tree)
            descriptor = os.open(name, _CREATE, mode, dir_fd=tree.descriptor(directory))
        try:
            if entry.size:
                self._write(descriptor, entry)
            self._applier.file(descriptor, entry, mode)
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, entry: Entry) -> None:
        reader = self._reader
        if entry.segments is None:
            whole = reader.whole()
            if whole is not None and len(whole) < PAGE:
                write_all(descriptor, whole)
                return
            writer = HoleWriter(descriptor)
            for piece in reader.data() if whole is None else (whole,):
                writer.write(piece)
        else:
            writer = HoleWriter(descriptor)
            for offset, piece in _placed(entry.segments, reader.data()):
                writer.skip_to(offset)
                writer.write(piece)
        writer.finish(entry.size)

    def _directory(self, place: Place, name: bytes, entry: Entry) -> None:
        """Merge with the directory that is there, and replace all else; the attributes are replaced altogether."""
        parent = place.own
        assert parent is not None
        child = parent.children.get(name)
        if child is None and self._keep_dirlinks:
            child = self._behind_link(place, name)
        if child is None:
            try:
                child = self._walk.make(parent, name)
            except FileExistsError:
                child = self._walk.replace(parent, name)
                self._forget_places()
        child.attributes = Attributes.of(entry)

    def _behind_link(self, place: Place, name: bytes) -> Directory | None:
        """Give the directory that a symbolic link in an entry's place leads to; None if it is to be replaced."""
        assert place.own is not None
        path = [*place.own.path().split(b"/"), name]
        try:
            if isinstance(self._walk.look(place, name), bytes) and self._walk.to(path, make=False) is not None:
                found = self._walk.to(path, make=True)
                return None if found is None else found.own
        except LoopError:
            pass
        except UnknownError:
            self.changes.assumed.append(place.own.path(name))
        return None

    def _symlink(self, place: Place, name: bytes, entry: Entry) -> None:
        if not 0 < len(entry.link) <= _LINK_MOST:
            raise UnsafeEntryError(f"a symbolic link with a target of {len(entry.link)} bytes")
        self._make(place, name, lambda at: os.symlink(entry.link, name, dir_fd=at))
        self._finish_special(place, name, entry)

    def _node(self, place: Place, name: bytes, entry: Entry) -> None:
        """Make a fifo or a device; one that may not be made is a loss, and then nothing is there."""
        mode = entry.mode & 0o777
        try:
            if entry.kind is Kind.FIFO:
                self._make(place, name, lambda at: os.mkfifo(name, mode, dir_fd=at))
            else:
                kind = stat.S_IFCHR if entry.kind is Kind.CHARACTER else stat.S_IFBLK
                device = os.makedev(*entry.device)
                self._make(place, name, lambda at: os.mknod(name, kind | mode, device, dir_fd=at))
        except OSError as error:
            if error.errno not in _NODE_REFUSED:
                raise
            self._skip(place, name, entry, f"{entry.kind.value} not made: {os.strerror(error.errno)}")
        else:
            self._finish_special(place, name, entry)

    def _skip(self, place: Place, name: bytes, entry: Entry, why: str) -> None:
        """Leave a device out, together with what it would have replaced."""
        assert place.own is not None
        self._clear(place.own, name)
        path = place.own.path(name)
        self.changes.skipped.add(path)
        self.changes.whiteouts.append(path.split(b"/"))
        self._lose(LossKind.DEVICE, entry.name, why)

    def _finish_special(self, place: Place, name: bytes, entry: Entry) -> None:
        assert place.own is not None
        self._applier.special(self._tree.descriptor(place.own), name, entry)

    def _make(self, place: Place, name: bytes, make: Callable[[int], None]) -> None:
        """Make something in a directory in place of what the layer itself has there."""
        assert place.own is not None
        try:
            make(self._tree.descriptor(place.own))
        except FileExistsError:
            self._clear(place.own, name)
            make(self._tree.descriptor(place.own))

    def _clear(self, directory: Directory, name: bytes, tree: Tree | None = None) -> None:
        """Remove what the layer itself has put there before: the last entry of a name wins."""
        tree = tree or self._tree
        if tree.look(directory, name) is not OTHER:
            self._forget_places()
        tree.remove(directory, name)

    def _lose(self, kind: LossKind, path: bytes, reason: str) -> None:
        self.changes.losses.add(kind, path, reason)
        self._on_loss(kind, path, reason)

    # -- hard links --------------------------------------------------------------------------------------------------

    def _hardlink(self, place: Place, name: bytes, entry: Entry) -> None:
        """Give a file one more name; its owner, mode and times stay as they are, whatever this entry says of them."""
        assert place.own is not None
        try:
            if self._has_directory(place, name):
                # It is gone before the link's target is looked for, which may have been in it.
                self._stand_in(place.own, name, entry)
            if not self._link(place.own, name, entry):
                self._stand_in(place.own, name, entry)
        except UnknownError:
            self._refuse("a hard link to what may be in a layer below")
            self._stand_in(place.own, name, entry)
        except LoopError:
            self._clear(place.own, name)
            self._refuse("more symbolic links to its target than the kernel follows")
        except IsADirectoryError:
            self._clear(place.own, name)
            self._refuse(f"a hard link to {quoted(entry.link)}, which is a directory")
        except Skipped:
            self._skip(place, name, entry, "hard link to a device that was not made")

    def _has_directory(self, place: Place, name: bytes) -> bool:
        try:
            return isinstance(self._walk.look(place, name), Place)
        except UnknownError:
            return False

    def _link(self, directory: Directory, name: bytes, entry: Entry) -> bool:
        """Make a hard link; False if there is nothing (yet) that it could be a link to."""
        found = self._target(entry)
        if found is None:
            return False
        target, last, tree = found
        try:
            self._link_to(target, last, tree, directory, name, entry)
        except FileExistsError:
            if self._is_same(target, last, tree, directory, name):
                return True
            self._clear(directory, name)
            found = self._target(entry)  # it may have been in what was just removed
            if found is None:
                return False
            self._link_to(*found, directory, name, entry)
        return True

    def _link_to(
        self, target: Place, last: bytes, tree: Tree, directory: Directory, name: bytes, entry: Entry
    ) -> None:
        with self._tree.held(directory) as into:
            if target.own is None or (target.below is not None and tree.look(target.own, last) is None):
                assert target.below is not None
                target.below.link(last, into, name)
                return
            source = tree.descriptor(target.own)
            try:
                os.link(last, name, src_dir_fd=source, dst_dir_fd=into, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _LINK_REFUSED:
                    raise
                copy_instead(source, last, into, name)
                self._lose(LossKind.LINK, entry.name, f"a copy, not a hard link: {os.strerror(error.errno)}")

    def _is_same(self, target: Place, last: bytes, tree: Tree, directory: Directory, name: bytes) -> bool:
        """Whether a name is a link to a file already; to remove it then could remove the file."""
        if target.own is None or tree.look(target.own, last) is None:
            return False
        status = os.stat(last, dir_fd=tree.descriptor(target.own), follow_symlinks=False)
        return os.path.samestat(
            status, os.stat(name, dir_fd=self._tree.descriptor(directory), follow_symlinks=False)
        )

    def _target(self, entry: Entry) -> tuple[Place, bytes, Tree] | None:
        """Give the directory and name of what a hard link means, and the tree it is in; None if it is nothing.

        Raises:
            IsADirectoryError: It is a directory.
            UnknownError, LoopError: See `Walk.to`.
            Skipped: It is a device that could not be made.
        """
        path = names.components(entry.link)
        if path[:1] == [LINK_STORE]:
            if len(path) != 2 or self._store.look(self._aufs, path[1]) is None:  # noqa: PLR2004
                return None
            return Place(self._aufs, None), path[1], self._store
        if not path:
            raise IsADirectoryError
        parent = self._walk.to(path[:-1], make=False)
        if parent is None:
            return None
        last = path[-1]
        if parent.own is not None and parent.own.path(last) in self.changes.skipped:
            raise Skipped
        found = self._walk.look(parent, last)
        if isinstance(found, Place):
            raise IsADirectoryError
        if found is None:
            if parent.below is not None and parent.below.skipped(last):
                raise Skipped
            return None
        return parent, last, self._tree

    def _stand_in(self, directory: Directory, name: bytes, entry: Entry) -> None:
        """Put an empty file where a hard link will be: its target may come later in the layer.

        It has a second name aside, so that no other file gets its inode if it is replaced.
        """
        aside = b"stand-in-%d" % len(self._pending)
        own = self._store.descriptor(self._store.root)
        descriptor = os.open(aside, _CREATE, 0o600, dir_fd=own)
        self._pending[os.fstat(descriptor).st_ino] = entry
        os.close(descriptor)
        self._make(Place(directory, None), name, lambda at: os.link(aside, name, src_dir_fd=own, dst_dir_fd=at))

    def _resolve_pending(self) -> None:
        """Make the hard links whose target came after them, links to such links among them.

        Raises:
            UnsafeEntryError: There is nothing that one of them could be a link to.
        """
        if not self._pending:
            return
        if not self._known:
            self.changes.unresolved = self.changes.unresolved or "a hard link to what comes later"
            return
        waiting = list(self._stand_ins())
        while waiting:
            still = [one for one in waiting if not self._resolve(*one)]
            if len(still) == len(waiting):
                entry = still[0][2]
                raise UnsafeEntryError(
                    f"a hard link to {quoted(entry.link)}, which is nothing", entry=entry.name, offset=entry.offset
                )
            waiting = still

    def _resolve(self, directory: Directory, name: bytes, entry: Entry) -> bool:
        """Make one link that was waiting; False if its target waits itself, or is nothing yet."""
        try:
            found = self._target(entry)
            if found is None:
                return False
            target, last, tree = found
            if target.own is not None and tree is self._tree and tree.look(target.own, last) is not None:
                status = os.stat(last, dir_fd=tree.descriptor(target.own), follow_symlinks=False)
                if status.st_ino in self._pending:
                    return False
            os.unlink(name, dir_fd=self._tree.descriptor(directory))
            self._link_to(target, last, tree, directory, name, entry)
        except IsADirectoryError:
            raise UnsafeEntryError(
                f"a hard link to {quoted(entry.link)}, which is a directory", entry=entry.name, offset=entry.offset
            ) from None
        except LoopError:
            raise UnsafeEntryError(
                "more symbolic links to its target than the kernel follows", entry=entry.name, offset=entry.offset
            ) from None
        except Skipped:
            self._skip(Place(directory, None), name, entry, "hard link to a device that was not made")
        return True

    def _stand_ins(self) -> Iterator[tuple[Directory, bytes, Entry]]:
        """Yield the names of all files that stand in for a link's target: several, if they were linked to themselves."""
        nodes = [self._tree.root]
        while nodes:
            node = nodes.pop()
            with os.scandir(self._tree.descriptor(node)) as found:
                names_here = [(os.fsencode(each.name), each.inode()) for each in found]
            for name, inode in names_here:
                if inode in self._pending and name not in node.children:
                    yield node, name, self._pending[inode]
            nodes += node.children.values()


def _placed(segments: list[tuple[int, int]], pieces: Iterator[memoryview]) -> Iterator[tuple[int, memoryview]]:
    """Give the data of a sparse file in pieces, each with its offset in the file."""
    piece = memoryview(b"")
    for offset, length in segments:
        while length:
            if not piece:
                piece = next(pieces)
            here = piece[:length]
            yield offset, here
            offset += len(here)  # noqa: PLW2901
            length -= len(here)  # noqa: PLW2901
            piece = piece[len(here) :]
