"""A tree that we build ourselves: one directory descriptor at its root, and a node for each of its directories.

Nothing here ever sees a path.  A directory is reached from its parent's descriptor by one name at a time and never
through a symlink, so whatever links an image (or another process) plants, no call leaves the tree.  As every directory
in it was made by us, the nodes know them all, and looking for a parent costs no system call.

Directories stay ``0700`` while work goes on; their real attributes wait in the nodes until the end
(`unpacker.tree.finish`), so that a ``0500`` directory of an image does not stop an unprivileged user, nor new children
change a directory's time.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from contextlib import contextmanager, suppress
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from unpacker.errors import LimitError
from unpacker.limits import DEFAULT
from unpacker.tree.descriptors import part
from unpacker.tree.remove import remove_at
from unpacker.tree.rights import make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from unpacker.tree.attributes import Attributes

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
WORKING_MODE = 0o700
MOST_OPEN = 128
_LONG = 32
"""Steps down of which each directory stays open.  Of more only those that are 1, 2, 4, 8 ... steps above the end: else
two that are a thousand deep would, by turns, be opened from the top each time, and entries take milliseconds each."""

_NODE = 270
"""Bytes that a node takes at most, with its place in a dictionary, but for its name."""
_ATTRIBUTES = 140
"""Bytes that its attributes take, but for the extended ones."""
_HOLDER = 224
"""Bytes of a dictionary with one child in it."""
_PAIR = 200
"""Bytes that an extended attribute takes in a dictionary, but for its name and its value."""
_NOTHING: Mapping[bytes, Directory] = MappingProxyType({})


def rewound(descriptor: int) -> int:
    """Give a directory's descriptor, ready to list what is in the directory now.

    What has come into a directory after it was opened may be left out until it is rewound (POSIX, readdir).  btrfs does
    leave it out, so that whole layers would be missing there, without an error.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class Other(Enum):
    """Something that is neither a directory nor a symbolic link."""

    OTHER = "other"


OTHER = Other.OTHER


class Memory:
    """What must be remembered until the end takes memory: by this it is counted, and ends where it is too much.

    All trees of one unpack share it.  Directories are the most of it: a million of them fit into 7 MB of an image.

    Args:
        most: Bytes that may be taken.
    """

    __slots__ = ("most", "taken")

    def __init__(self, most: int = DEFAULT.memory_bytes) -> None:
        self.most = most
        self.taken = 0

    def take(self, size: int) -> None:
        """Count what is remembered from now on, or forgotten if it is less than nothing.

        Raises:
            LimitError: It is too much.
        """
        self.taken += size
        if size > 0 and self.taken > self.most:
            what = "bytes of memory for directories, whiteouts and hard links that wait"
            raise LimitError("memory_bytes", self.most, self.taken, what)


def _size_of(attributes: Attributes | None) -> int:
    """Give the bytes of memory that attributes take."""
    if attributes is None:
        return 0
    xattrs = attributes.xattrs or {}
    return _ATTRIBUTES + sum(_PAIR + len(name) + len(value) for name, value in xattrs.items())


class Directory:
    """One directory of a `Tree`.

    Attributes:
        parent: The directory that it is in; None for the root.
        name: Its name in there; empty for the root.
        length: Bytes of its path from the root.
        attributes: What it shall have in the end; None while it is only implied by what is in it.
        opaque: Whether it hides the directory of the same path in the layers below.
        children: The directories in it, by name; without a dictionary of its own as long as there are none.
    """

    __slots__ = ("attributes", "children", "descriptor", "length", "name", "opaque", "parent")

    def __init__(self, parent: Directory | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.length: int = 0 if parent is None else parent.length + len(name) + 1
        self.children: Mapping[bytes, Directory] = _NOTHING
        self.attributes: Attributes | None = None
        self.opaque = False
        self.descriptor = -1

    @property
    def size(self) -> int:
        """Bytes of memory that it takes without its children, by estimate."""
        holder = 0 if self.children is _NOTHING else _HOLDER
        return _NODE + len(self.name) + holder + _size_of(self.attributes)

    def adopt(self, child: Directory) -> int:
        """Take a directory in under its name; give the bytes of memory that this takes."""
        if isinstance(self.children, dict):
            self.children[child.name] = child
            return 0
        self.children = {child.name: child}
        return _HOLDER

    def drop(self, name: bytes) -> Directory | None:
        """Give a directory away; None if there is none of this name."""
        return self.children.pop(name, None) if isinstance(self.children, dict) else None

    def path(self, name: bytes = b"") -> bytes:
        """Give the path from the root, of itself or of something in it."""
        parts = [name] if name else []
        node: Directory = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts))


class Tree:
    """A directory tree under construction; a context manager that closes its descriptors.

    Args:
        descriptor: An open directory descriptor of the (empty) root; the tree closes it.
        most_open: How many descriptors of other directories stay open, however deep an image nests its directories.

    Attributes:
        memory: What its nodes are counted in, until it is closed.
    """

    def __init__(self, descriptor: int, *, most_open: int = MOST_OPEN) -> None:
        self.memory = Memory()
        self._taken = 0
        self._masked: bool | None = None  # whether the umask takes rights of the owner; None until one was made
        self._most_open = part(most_open)
        self.root = Directory(None, b"")
        self.root.descriptor = descriptor
        self._open: deque[Directory] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor, whatever signal comes meanwhile; nodes and files stay."""
        try:
            while self._open:
                self._close_one()
            _close(self.root)
        except BaseException:
            self.close()
            raise
        self.remember(-self._taken)

    def share(self, memory: Memory) -> None:
        """Count in the same memory as other trees from now on."""
        taken = self._taken
        self.remember(-taken)
        self.memory = memory
        self.remember(taken)

    def remember(self, size: int) -> None:
        """Count memory until the tree is closed: that of its nodes, and of what else belongs to it.

        Raises:
            LimitError: It is too much.
        """
        self._taken += size
        self.memory.take(size)

    def descriptor(self, node: Directory) -> int:
        """Give an open descriptor of a directory: valid until the next call for another one."""
        if node.descriptor >= 0:
            return node.descriptor
        closed = []
        while node.descriptor < 0:
            closed.append(node)
            if node.parent is None:
                raise ValueError("the tree is closed")
            node = node.parent
        long, passed = len(closed) > _LONG, False
        while closed:
            inner = closed.pop()
            inner.descriptor = os.open(inner.name, OPEN_DIRECTORY, dir_fd=node.descriptor)
            if passed:
                _close(node)
                self._open.pop()
            passed = long and len(closed) & (len(closed) - 1) != 0
            self._open.append(inner)
            if len(self._open) > self._most_open:
                self._close_one(keep=inner)
            node = inner
        return node.descriptor

    def _close_one(self, keep: Directory | None = None) -> None:
        oldest = self._open.popleft()
        if oldest is keep:
            self._open.append(oldest)
        else:
            _close(oldest)

    @contextmanager
    def held(self, node: Directory) -> Iterator[int]:
        """Give a descriptor of a directory that stays valid while others are asked for."""
        descriptor = os.dup(self.descriptor(node))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def look(self, node: Directory, name: bytes) -> Directory | bytes | Other | None:
        """Say what has a name in a directory: a directory, a symbolic link (its target), something else, or nothing."""
        child = node.children.get(name)
        if child is not None:
            return child
        directory = self.descriptor(node)  # what fails here says nothing of the name
        try:
            return os.readlink(name, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None  # nothing has a name that nothing can have; a link may lead to one
            if error.errno != errno.EINVAL:
                raise
            return OTHER

    def make(self, parent: Directory, name: bytes) -> Directory:
        """Make a directory and its node.

        Raises:
            FileExistsError: Something else has the name.
        """
        if self._masked is False:
            os.mkdir(name, WORKING_MODE, dir_fd=self.descriptor(parent))
        else:
            self._masked = make_directory(name, holder=self.descriptor(parent))
        return self.add(parent, name)

    def add(self, parent: Directory, name: bytes) -> Directory:
        """Make the node of a directory that is there."""
        node = Directory(parent, name)
        self.remember(parent.adopt(node) + node.size)
        return node

    def describe(self, node: Directory, attributes: Attributes) -> None:
        """Say what attributes a directory shall have in the end."""
        before = _size_of(node.attributes)
        node.attributes = attributes
        size = _size_of(attributes)
        if size != before:
            self.remember(size - before)

    def remove(self, parent: Directory, name: bytes) -> None:
        """Remove whatever has this name, with all that is in it."""
        node = parent.drop(name)
        if node is not None:
            self.remember(-self.forget(node))
        remove_at(self.descriptor(parent), name)

    def remove_empty(self, node: Directory) -> None:
        """Remove a directory, known to be one and to be empty; if it is not, it stays."""
        parent = node.parent
        if parent is None:
            raise ValueError("the root")
        with suppress(OSError):
            os.rmdir(node.name, dir_fd=self.descriptor(parent))
            parent.drop(node.name)
            self.remember(-self.forget(node))

    def forget(self, node: Directory) -> int:
        """Close the descriptors of a directory and all below it, before it goes away or elsewhere; give their size."""
        size = 0
        stack = [node]
        while stack:
            gone = stack.pop()
            size += gone.size
            _close(gone)
            stack.extend(gone.children.values())
        return size

    def move(self, parent: Directory, name: bytes, into: Tree, target: Directory) -> None:
        """Rename one thing, be it a whole subtree, to the same name in a directory of another tree.

        What has the name there is replaced, unless one of the two is a directory.

        Raises:
            NotADirectoryError, IsADirectoryError, FileExistsError: One of the two is a directory.
        """
        os.rename(name, name, src_dir_fd=self.descriptor(parent), dst_dir_fd=into.descriptor(target))
        node = parent.drop(name)
        if node is not None:
            size = self.forget(node)
            self.remember(-size)
            node.parent = target
            into.remember(size + target.adopt(node))


def _close(node: Directory) -> None:
    """Close the descriptor of a directory, and never twice: its number may be another file's by then.

    A signal may come between any two steps, and everything is closed on the way out.
    """
    descriptor, node.descriptor = node.descriptor, -1
    if descriptor >= 0:
        os.close(descriptor)
