"""Makes what one entry says, under one name in a directory of the layer's own tree; the last entry of a name wins."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from unpacker.errors import UnsafeEntryError
from unpacker.events import LossKind
from unpacker.spec.entry import Entry, Kind
from unpacker.tree import links
from unpacker.tree.attributes import Applier
from unpacker.tree.copy import Copier
from unpacker.tree.data import HoleWriter, may_have_holes, write_all
from unpacker.tree.directory import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.archive.reader import TarReader
    from unpacker.layer.changes import Changes
    from unpacker.layer.rules import Rules
    from unpacker.tree.attributes import OnLoss
    from unpacker.tree.directory import Directory, Tree

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_LINK_MOST = 4095
"""Bytes that the kernel takes as the target of a symbolic link."""
_SKIPPED = 400
"""Bytes of memory that a device takes that was not made, besides its path."""
_MAJOR_MOST, _MINOR_MOST = 0xFFF, 0xFFFFF
# What mknod says where the caller may not, and where the filesystem or the kernel has no place for the node.
_NODE_REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


class Maker:
    """Makes files, symbolic links, fifos and devices.

    Args:
        tree: The layer's own tree.
        changes: The layer's record, which learns of losses and of devices that were left out.
        rules: Which owners to set.
        on_loss: Told of each loss, besides the record.
        on_replaced: Told when a directory or a symbolic link has gone: paths may lead elsewhere now.
        on_hidden: Told of a path with nothing of the layer's own, where what is below is replaced all the same.
        on_copy: See `unpacker.tree.copy.Copier`.
    """

    def __init__(
        self,
        tree: Tree,
        changes: Changes,
        rules: Rules,
        on_loss: OnLoss,
        on_replaced: Callable[[], None],
        on_hidden: Callable[[bytes], None],
        on_copy: Callable[[int], None],
    ) -> None:
        self._tree = tree
        self._changes = changes
        self._on_loss = on_loss
        self._on_replaced = on_replaced
        self._on_hidden = on_hidden
        self.apart = rules.markers is not None
        self.applier = Applier(rules.owners, self.lose, rules.umask, readable=rules.readable)
        applier = Applier(rules.owners.on_host(), self.lose, rules.umask, readable=rules.readable)
        self.copier = Copier(applier, on_copy)

    def file(
        self, directory: Directory, name: bytes, entry: Entry, reader: TarReader, *, tree: Tree | None = None
    ) -> None:
        """Make a regular file with the data that the reader is at; if asked, in another tree than the layer's own."""
        tree = tree or self._tree
        mode = entry.mode & 0o777
        at = directory.descriptor
        if at < 0:
            at = tree.descriptor(directory)
        try:
            descriptor = os.open(name, CREATE, mode, dir_fd=at)
        except FileExistsError:
            self.clear(directory, name, tree)
            descriptor = os.open(name, CREATE, mode, dir_fd=tree.descriptor(directory))
        try:
            if entry.size:
                _write(descriptor, entry, reader)
            self.applier.file(descriptor, entry, mode)
        finally:
            os.close(descriptor)

    def symlink(self, directory: Directory, name: bytes, entry: Entry) -> None:
        """Make a symbolic link; where it leads to is nobody's business, as nothing here follows it."""
        if not 0 < len(entry.link) <= _LINK_MOST:
            raise UnsafeEntryError(f"a symbolic link with a target of {len(entry.link)} bytes")
        self.make(directory, name, lambda at: links.symlink(entry.link, at, name))
        self.applier.special(self._tree.descriptor(directory), name, entry)

    def node(self, directory: Directory, name: bytes, entry: Entry) -> None:
        """Make a fifo or a device; one that may not be made is a loss, and nothing is there then."""
        mode = entry.mode & 0o777
        if self.apart and entry.kind is Kind.CHARACTER and entry.device == (0, 0):
            self.skip(directory, name, entry, "character device 0:0 not made: in a layer by itself it is a whiteout")
            return
        try:
            if entry.kind is Kind.FIFO:
                self.make(directory, name, lambda at: os.mkfifo(name, mode, dir_fd=at))
            else:
                kind = stat.S_IFCHR if entry.kind is Kind.CHARACTER else stat.S_IFBLK
                device = _device_number(*entry.device)
                self.make(directory, name, lambda at: os.mknod(name, kind | mode, device, dir_fd=at))
        except OSError as error:
            if error.errno not in _NODE_REFUSED:
                raise
            self.skip(directory, name, entry, f"{entry.kind.value} not made: {os.strerror(error.errno)}")
        else:
            self.applier.special(self._tree.descriptor(directory), name, entry)

    def skip(self, directory: Directory, name: bytes, entry: Entry, why: str) -> None:
        """Leave a device out, together with what it would have replaced, here and below."""
        self.clear(directory, name)
        path = directory.path(name)
        self._tree.remember(_SKIPPED + 3 * len(path))
        self._changes.skipped.add(path)
        self._on_hidden(path)
        self.lose(LossKind.DEVICE, entry.name, why)

    def hide(self, directory: Directory, name: bytes) -> None:
        """Keep hidden what the layers below have of a name: something has replaced it that is gone again."""
        self._on_hidden(directory.path(name))

    def make(self, directory: Directory, name: bytes, make: Callable[[int], None]) -> None:
        """Call ``make`` with a descriptor of the directory; if the name is taken, free it and call again."""
        try:
            make(self._tree.descriptor(directory))
        except FileExistsError:
            self.clear(directory, name)
            make(self._tree.descriptor(directory))

    def clear(self, directory: Directory, name: bytes, tree: Tree | None = None) -> None:
        """Remove what the layer itself has put there before."""
        tree = tree or self._tree
        if tree.look(directory, name) is not OTHER:
            self._on_replaced()
        tree.remove(directory, name)

    def lose(self, kind: LossKind, path: bytes, reason: str) -> None:
        """Count a loss."""
        self._changes.losses.add(kind, path, reason)
        self._on_loss(kind, path, reason)


def _device_number(major: int, minor: int) -> int:
    """Put a device number together; makedev(3) takes no more than 31 bits of either, and Linux has fewer.

    Raises:
        OSError: It has no place in 12 and 20 bits.
    """
    if major > _MAJOR_MOST or minor > _MINOR_MOST:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return os.makedev(major, minor)


def _write(descriptor: int, entry: Entry, reader: TarReader) -> None:
    """Write the data of a regular file."""
    if entry.segments is not None:
        writer = HoleWriter(descriptor)
        for offset, piece in _placed(entry.segments, reader.data()):
            writer.skip_to(offset)
            writer.write(piece)
        writer.finish(entry.size)
        return
    whole = reader.whole()
    if whole is not None and not may_have_holes(whole):  # of most files
        write_all(descriptor, whole)
        return
    writer = HoleWriter(descriptor)
    for piece in reader.data() if whole is None else (memoryview(whole),):
        writer.write(piece)
    writer.finish(entry.size)


def _placed(segments: list[tuple[int, int]], pieces: Iterator[memoryview]) -> Iterator[tuple[int, memoryview]]:
    """Give the data of a sparse file in pieces, each with its offset in the file."""
    piece = memoryview(b"")
    for begin, length in segments:
        offset, end = begin, begin + length
        while offset < end:
            piece = piece or next(pieces)
            here = piece[: end - offset]
            yield offset, here
            offset += len(here)
            piece = piece[len(here) :]
