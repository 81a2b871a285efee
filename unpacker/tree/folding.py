"""Filesystems that take two names for one, such as ``README`` and ``readme`` (vfat, exFAT, NTFS, ext4 with casefold).

Of two such names in an image, the later one would take the place of the other without a word: it is refused instead,
and so is DEST on a filesystem that turns names into lower case (``lowntfs-3g`` with ``ignore_case``).
Names that a filesystem takes for one for other reasons than upper and lower case (ZFS, with ``normalization``) are
found out only where these are taken for one as well.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.errors import DestinationError, quoted
from unpacker.tree.directory import Directory, Tree, rewound
from unpacker.tree.rights import make_directory

if TYPE_CHECKING:
    from unpacker.tree.directory import Other

_MIXED = b".Probe"


def folds(directory: int, name: bytes) -> bool:
    """Whether a name with letters, that nobody can guess, is there in the other case as well, if it is there in one."""
    try:
        os.stat(name.swapcase(), dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def keeps_case(directory: int) -> bool:
    """Try whether a filesystem that folds names lists them as they were given."""
    make_directory(_MIXED, holder=directory)
    try:
        return os.fsdecode(_MIXED) in os.listdir(rewound(directory))
    finally:
        os.rmdir(_MIXED, dir_fd=directory)


class FoldingTree(Tree):
    """A tree on such a filesystem: what has a name, has just this one.

    A directory is listed for each name that is there already, which takes its time; nearly all are new.

    Args:
        descriptor: As of any `Tree`.
        path: Where the tree shall be in the end, for the error.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        super().__init__(descriptor)
        self._path = path

    def look(self, node: Directory, name: bytes) -> Directory | bytes | Other | None:
        """See `Tree.look`."""
        found = super().look(node, name)
        return found if found is None or isinstance(found, Directory) or name in self._names(node) else None

    def make(self, parent: Directory, name: bytes) -> Directory:
        """See `Tree.make`; raises as `refuse_twin`."""
        try:
            return super().make(parent, name)
        except FileExistsError:
            self.refuse_twin(parent, name)
            raise

    def remove(self, parent: Directory, name: bytes) -> None:
        """See `Tree.remove`; raises as `refuse_twin`, since what would go has another name."""
        self.refuse_twin(parent, name)
        super().remove(parent, name)

    def move(self, parent: Directory, name: bytes, into: Tree, target: Directory) -> None:
        """See `Tree.move`; raises as `refuse_twin`, since what would be replaced has another name."""
        if isinstance(into, FoldingTree):
            into.refuse_twin(target, name)
        super().move(parent, name, into, target)

    def refuse_twin(self, node: Directory, name: bytes) -> None:
        """Refuse a name that something else is found under.

        Raises:
            DestinationError: It is.
        """
        if name in node.children:
            return
        try:
            status = os.stat(name, dir_fd=self.descriptor(node), follow_symlinks=False)
        except FileNotFoundError:
            return
        names = self._names(node)
        if name in names:
            return
        folded = os.fsdecode(name).casefold()
        twins = [twin for twin in names if os.fsdecode(twin).casefold() == folded]
        twins += [twin for twin, inode in names.items() if inode == status.st_ino]
        twin = twins[0] if twins else b""
        one, other = quoted(node.path(name)), quoted(node.path(twin))
        raise DestinationError(path=self._path, why=f"is on a filesystem that takes {one} and {other} for one name")

    def _names(self, node: Directory) -> dict[bytes, int]:
        """Give the names in a directory as they are, with their inodes."""
        with os.scandir(rewound(self.descriptor(node))) as entries:
            return {os.fsencode(entry.name): entry.inode() for entry in entries}
