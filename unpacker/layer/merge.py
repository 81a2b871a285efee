"""Applies one layer to a tree that holds those below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.layer import settle
from unpacker.layer.apply import apply_layer
from unpacker.layer.below import Merged

if TYPE_CHECKING:
    from unpacker.layer.apply import Place, Stage
    from unpacker.layer.below import Hidden
    from unpacker.layer.changes import Changes
    from unpacker.layer.rules import Rules
    from unpacker.tree.directory import Tree


def merge_layer(
    stage: Stage,
    rules: Rules,
    place: Place,
    tree: Tree,
    skipped: set[bytes],
    *,
    empty: bool,
    name: bytes = b"layer",
    made: tuple[Tree, Changes] | None = None,
) -> Changes:
    """Apply one layer to a tree that holds those below it.

    Args:
        stage: Stages the layer.
        rules: How.
        place: Where it is staged, on the tree's filesystem.
        tree: The tree.
        skipped: Paths of devices that could not be made, in the layers below.
        empty: Whether there are no layers below.
        name: What its tree is called in the place.
        made: See `unpacker.layer.apply.apply_layer`.
    """

    def settled(own: Tree, hides: Hidden, _changes: Changes) -> None:
        settle.remove(hides, tree)
        skipped.difference_update([path for path in skipped if hides and hides.has(path)])
        settle.merge(own, tree)

    below = None if empty else Merged(tree, tree.root, skipped)
    changes = apply_layer(stage, rules, place, name, below, settled, made)
    place.discard(name)
    return changes
