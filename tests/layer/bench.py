"""A workbench for layers: entries are staged and merged by the package's own functions, without any layout around."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support.probes import can_chown
from tests.support.tarbuild import Entry, layer
from tests.support.tree import read, sketch
from unpacker.archive.reader import TarReader
from unpacker.layer.merge import merge_layer
from unpacker.layer.rules import Rules
from unpacker.layer.stage import Stager
from unpacker.limits import DEFAULT, Limits
from unpacker.tree.attributes import Applier
from unpacker.tree.directory import OPEN_DIRECTORY, Tree
from unpacker.tree.finish import finish_directories
from unpacker.tree.owners import Owners
from unpacker.tree.remove import remove_at

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from tests.support.tree import Tree as ReadTree
    from unpacker.events import LossKind
    from unpacker.layer.below import Covered
    from unpacker.layer.changes import Changes
    from unpacker.layer.markers import Markers


def current_umask() -> int:
    """Give the mask, which only one thread uses here."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


class Bench:
    """Holds a merged tree, and places in which layers are staged; a context manager that closes them.

    Attributes:
        merged: The layers so far.
        changes: The record of the last layer.
        times: How often it was staged.
        losses: What could not be applied, of all layers.
    """

    def __init__(
        self, path: Path, *, keep_dirlinks: bool = False, limits: Limits = DEFAULT, markers: Markers | None = None
    ) -> None:
        self.path = path
        self.rules = Rules(
            owners=Owners(apply=True, counted=can_chown()),
            umask=current_umask(),
            keep_dirlinks=keep_dirlinks,
            limits=limits,
            markers=markers,
        )
        self.losses: list[tuple[LossKind, bytes, str]] = []
        self.times = 0
        self.changes: Changes
        self._holder = os.open(path, OPEN_DIRECTORY)
        self._skipped: set[bytes] = set()
        self._layers = 0
        self.merged = self.tree(b"merged")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.merged.close()
        os.close(self._holder)

    def tree(self, name: bytes) -> Tree:
        """Make an empty tree."""
        os.mkdir(name, 0o700, dir_fd=self._holder)
        return Tree(os.open(name, OPEN_DIRECTORY, dir_fd=self._holder))

    def discard(self, name: bytes) -> None:
        """Remove one."""
        remove_at(self._holder, name)

    # -- one layer ---------------------------------------------------------------------------------------------------

    def stage(self, *entries: Entry | bytes, below: Covered | None = None, known: bool = False) -> Stager:
        """Stage entries into a tree that can be looked at with `staged`; the stager has the record."""
        self.discard(b"staged")
        with self.tree(b"staged") as tree, self.tree(b"store") as store:
            stager = Stager(
                tree, store, self.rules, below=below, known=known, on_loss=lambda *loss: self.losses.append(loss)
            )
            try:
                stager.run(TarReader(iter([layer(*entries)]), self.rules.limits))
            finally:
                self.discard(b"store")
        return stager

    def staged(self) -> dict[str, str]:
        """Give what was staged, as text."""
        return sketch(read(self.path / "staged"))

    def add(self, *entries: Entry | bytes, apart: bool = True) -> Self:
        """Apply one layer to those before it; if not ``apart``, it is staged with the view in any case."""
        archive = layer(*entries)
        self.times = 0

        def stage(tree: Tree, store: Tree, rules: Rules, *, below: Covered | None, known: bool, first: bool) -> Changes:
            self.times += 1
            said = self.losses if first else []  # the second time it says the same again
            stager = Stager(tree, store, rules, below=below, known=known, on_loss=lambda *loss: said.append(loss))
            stager.run(TarReader(iter([archive]), rules.limits))
            if not known and not apart:
                stager.changes.unresolved = "to be staged with the view"
            return stager.changes

        self.changes = merge_layer(stage, self.rules, self, self.merged, self._skipped, empty=not self._layers)
        self._skipped |= self.changes.skipped
        self._layers += 1
        return self

    # -- all of them -------------------------------------------------------------------------------------------------

    def sketch(self) -> dict[str, str]:
        """Give the merged tree as text."""
        return sketch(read(self.path / "merged"))

    def finish(self) -> ReadTree:
        """Give all directories their attributes, and read the merged tree."""
        lost = lambda *loss: self.losses.append(loss)  # noqa: E731
        finish_directories(self.merged, Applier(self.rules.owners, lost, self.rules.umask))
        return read(self.path / "merged")
