"""The private directory in which everything is made, until DEST appears by one rename.

``.NAME.unpack-XXXXXXXX`` is a sibling of DEST, so that it is on the same filesystem; it is ``0700`` all the time, as
what is made in it may be setuid and is not verified yet (CVE-2021-41091 was such a directory left open).  Its owner
holds a lock on it: one that nobody holds is what a killed run left behind, and the next run for that DEST removes it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.errors import DestinationError
from unpacker.tree.destination import Destination
from unpacker.tree.directory import OPEN_DIRECTORY, WORKING_MODE, Tree, rewound
from unpacker.tree.folding import FoldingTree, folds, keeps_case
from unpacker.tree.private import file_in, lock, make_private, new_directory_in, new_file_in
from unpacker.tree.remove import remove_at
from unpacker.tree.undisturbed import undisturbed

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from typing import Self

_NAME_MOST = 200
_RANDOM = 4
_SPARE = 4
"""Descriptors that are kept for the removal: a run that fails because there are no more must be able to clean up."""


class Workspace:
    """A private directory on DEST's filesystem; a context manager that leaves nothing behind but what it published.

    Args:
        dest: Where the finished tree shall be.
        force: Whether a DEST that is not empty is replaced.

    Raises (on entry):
        DestinationError: DEST is there and is not an empty directory.
        OSError: The directory that DEST is in cannot be made, or written to.
    """

    def __init__(self, dest: str, *, force: bool) -> None:
        self._destination = Destination(dest, force=force)
        self._prefix = b".%s.unpack-" % self._destination.name[:_NAME_MOST]
        self._name = b""
        self._published = False
        self._folds = False
        self._spare: list[int] = []
        self.descriptor = -1

    def __enter__(self) -> Self:
        try:
            with undisturbed():
                self._destination.open()
            self._sweep()
            self._destination.check()
            with undisturbed():
                self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        with undisturbed():
            try:
                self._remove()
            except OSError as error:
                if self._published:  # else there is an error already, and the next run tries again
                    error.add_note(f"DEST is complete, but what it replaced cannot be removed from {self._path}")
                    raise
            finally:
                self._destination.close(done=self._published)

    def _remove(self) -> None:
        while self._spare:
            os.close(self._spare.pop())
        if self.descriptor < 0:
            return
        descriptor, self.descriptor = self.descriptor, -1
        try:
            _remove_workspace(self._destination.holder, self._name, descriptor)
        finally:
            os.close(descriptor)

    @property
    def inside(self) -> bool:
        """Whether what is in the tree's root moves up into a DEST that stays, name by name."""
        return self._destination.inside

    @property
    def _path(self) -> str:
        parent = self._destination.path if self._destination.inside else self._destination.parent
        return os.path.join(parent, os.fsdecode(self._name))

    # -- before ------------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Remove what killed runs for the same DEST have left: a workspace of ours without a living owner."""
        holder = self._destination.holder
        ours = re.compile(re.escape(self._prefix) + rb"[0-9a-f]{%d}" % (2 * _RANDOM))
        try:
            names = os.listdir(rewound(holder))
        except OSError as error:  # a descriptor has no name that would say what could not be listed
            raise OSError(error.errno, error.strerror, os.path.dirname(self._path)) from error
        for name in filter(ours.fullmatch, map(os.fsencode, names)):
            with suppress(OSError):
                descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=holder)
                try:
                    if _is_private(os.fstat(descriptor)) and lock(descriptor):
                        _remove_workspace(holder, name, descriptor)
                finally:
                    os.close(descriptor)

    def _make(self) -> None:
        try:
            while len(self._spare) < _SPARE:
                self._spare.append(os.dup(self._destination.holder))
            self._name, self.descriptor = make_private(self._destination.holder, self._prefix, _RANDOM)
        except OSError as error:  # it is about the directory, and not about a name in it
            raise OSError(error.errno, error.strerror, os.path.dirname(self._path)) from error
        self._folds = folds(self._destination.holder, self._name)
        if self._folds and not keeps_case(self.descriptor):
            raise DestinationError(path=self._destination.path, why="is on a filesystem that changes the case of names")

    # -- meanwhile ---------------------------------------------------------------------------------------------------

    def tree(self, name: bytes) -> Tree:
        """Make an empty directory in the workspace, as the root of a tree; whoever asks closes it."""
        try:
            root = new_directory_in(self.descriptor, name)
        except OSError as error:
            error.add_note(f"in {self._path}")
            raise
        return self._tree(root)

    def opened(self, name: bytes) -> Tree:
        """Open a tree of the workspace that was made before; whoever asks closes it."""
        return self._tree(os.open(name, OPEN_DIRECTORY, dir_fd=self.descriptor))

    def _tree(self, root: int) -> Tree:
        return FoldingTree(root, self._destination.path) if self._folds else Tree(root)

    def new_file(self, name: bytes) -> io.FileIO:
        """Make a file in the workspace, to be written; whoever asks closes it."""
        return new_file_in(self.descriptor, name)

    def file(self, name: bytes) -> io.FileIO:
        """Open a file of the workspace, to be read; whoever asks closes it."""
        return file_in(self.descriptor, name)

    def discard(self, name: bytes) -> None:
        """Remove one tree, or file, of the workspace."""
        remove_at(self.descriptor, name)

    # -- after -------------------------------------------------------------------------------------------------------

    def publish(self, name: bytes, root: int, finish: Callable[[int], None]) -> None:
        """Let the tree ``name``, whose root is open as ``root``, appear as DEST.

        ``finish`` gives the root, by its descriptor, its attributes.

        Raises:
            DestinationError: Something has come to DEST in the meantime.
        """
        with undisturbed():
            if self._destination.inside:
                self._destination.fill(root, self._name, finish)
            else:
                finish(root)
                self._destination.replace(self.descriptor, name)
            self._published = True


def _is_private(status: os.stat_result) -> bool:
    """Whether a directory may be one of ours: a neighbour may have given its name to any that we own."""
    return status.st_uid == os.geteuid() and status.st_mode & 0o777 == WORKING_MODE


def _remove_workspace(holder: int, name: bytes, descriptor: int) -> None:
    """Remove a workspace, open as ``descriptor``: first what is in it, so that no step of that lies outside of it."""
    for child in os.listdir(rewound(descriptor)):
        remove_at(descriptor, child)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=holder)
