"""All layers of an image merged into one tree, in a workspace beside DEST.

The base layer's tree *is* the merged tree; each further layer is staged in a tree of its own and moves into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.events import Event, LayerApplied, LayerProgress, OnEvent, ignore
from unpacker.layer import settle
from unpacker.layer.apply import stage_layer
from unpacker.layer.below import Merged
from unpacker.layer.changes import Changes, Losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpacker.content.layout import Layout
    from unpacker.layer.rules import Rules
    from unpacker.resolve import Layer
    from unpacker.tree.directory import Tree
    from unpacker.tree.workspace import Workspace


class Rootfs:
    """The layers merged so far, and what is to be told of them.

    Attributes:
        name: Of the tree's directory in the workspace.
        tree: The tree; whoever has this closes it.
        losses: What could not be applied.
        entries: Tar entries applied, over all layers.
        tar_bytes: Bytes of the layers decompressed.
        skipped: Paths of devices that could not be made.
    """

    def __init__(self, name: bytes, tree: Tree) -> None:
        self.name = name
        self.tree = tree
        self.losses = Losses()
        self.entries = 0
        self.tar_bytes = 0
        self.skipped: set[bytes] = set()

    def add(self, changes: Changes) -> None:
        """Take over what a layer's record says."""
        self.losses.update(changes.losses)
        self.entries += changes.entries
        self.tar_bytes += changes.tar_bytes
        self.skipped |= changes.skipped


def build(
    layout: Layout,
    layers: tuple[Layer, ...],
    workspace: Workspace,
    rules: Rules,
    *,
    on_event: OnEvent = ignore,
    on_verified: Callable[[Layer], None] = lambda _layer: None,
) -> Rootfs:
    """Apply layers in chain order; the caller closes the tree that comes out.

    Args:
        layout: Where the layers are.
        layers: Base first.
        workspace: Where the work is done.
        rules: How.
        on_event: See `unpacker.layer.apply.stage_layer`; gets `LayerApplied` too.
        on_verified: Told of each layer when its bytes are known to be right.

    Raises:
        UnpackError, OSError: See `unpacker.layer.apply.stage_layer`.
    """
    merged = Rootfs(b"merged", workspace.tree(b"merged"))
    try:
        for layer in layers:
            changes = _add(layout, layer, workspace, rules, merged, on_event)
            merged.add(changes)
            on_verified(layer)
            on_event(
                LayerApplied(
                    index=layer.index,
                    digest=str(layer.descriptor.digest),
                    diff_id=str(layer.diff_id),
                    entries=changes.entries,
                    size=changes.tar_bytes,
                )
            )
    except BaseException:
        merged.tree.close()
        raise
    return merged


def _add(
    layout: Layout, layer: Layer, workspace: Workspace, rules: Rules, merged: Rootfs, on_event: OnEvent
) -> Changes:
    """Stage one layer, and merge it."""

    def stage(tree: Tree, *, below: Merged | None, known: bool, on_event: OnEvent) -> Changes:
        with workspace.tree(b"links") as store:
            changes = stage_layer(layout, layer, tree, store, rules, below=below, known=known, on_event=on_event)
        workspace.discard(b"links")
        return changes

    if layer.index == 0:
        # Nothing is below it, so all is known, and its tree is the one that the others move into.
        return stage(merged.tree, below=None, known=True, on_event=on_event)
    with workspace.tree(b"layer") as own:
        changes = stage(own, below=None, known=False, on_event=on_event)
        view = Merged(merged.tree, merged.tree.root, merged.skipped)
        settle.remove(settle.hidden(own, changes, view, keep_dirlinks=rules.keep_dirlinks), merged.tree)
        agrees = settle.agrees(changes, view)
        if agrees:
            settle.merge(own, merged.tree)
    workspace.discard(b"layer")
    if not agrees:
        with workspace.tree(b"layer") as own:
            changes = stage(own, below=view, known=True, on_event=_only_progress(on_event))
            settle.merge(own, merged.tree)
        workspace.discard(b"layer")
    return changes


def _only_progress(on_event: OnEvent) -> OnEvent:
    """Pass on how far a layer is that is staged again; all else has been said the first time."""

    def passed_on(event: Event) -> None:
        if isinstance(event, LayerProgress):
            on_event(event)

    return passed_on
