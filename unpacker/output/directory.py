"""All layers of an image merged into one tree, in a workspace beside DEST.

Each layer is staged in a tree of its own, several of them side by side (`unpacker.layer.ahead`), and moves into the
merged one in chain order, whole subtrees by one rename.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.events import LayerApplied, OnEvent, ignore
from unpacker.image import label
from unpacker.layer.ahead import Ahead, default_jobs, planned
from unpacker.layer.apply import Told, bound_stage
from unpacker.layer.batch import tree_name
from unpacker.layer.changes import Losses
from unpacker.layer.merge import merge_layer
from unpacker.output.rootfs import Rootfs

if TYPE_CHECKING:
    from unpacker.image import Image
    from unpacker.layer.rules import Rules
    from unpacker.tree.workspace import Workspace


def build(
    image: Image,
    workspace: Workspace,
    rules: Rules,
    *,
    labels: bool = True,
    jobs: int | None = None,
    on_event: OnEvent = ignore,
) -> Rootfs:
    """Apply an image's layers in chain order; the caller closes the tree that comes out.

    Args:
        image: The image.
        workspace: Where the work is done.
        rules: How.
        labels: Note each verified layer's diff_id in the layout.
        jobs: Layers that are staged at a time; None: `unpacker.layer.ahead.default_jobs`.
        on_event: See `unpacker.layer.apply.stage_layer`; gets `LayerApplied` too.

    Raises:
        UnpackError, OSError: See `unpacker.layer.apply.stage_layer`.
    """
    jobs = default_jobs() if jobs is None else jobs
    merged = Rootfs(b"merged", workspace.tree(b"merged"), Losses())
    skipped: set[bytes] = set()
    copied = 0
    if rules.memory is not None:
        merged.tree.share(rules.memory)
    told = Told(on_event)
    try:
        shares = planned(image.layers, jobs)
        with Ahead(image.layout, shares, workspace, rules, jobs=jobs, on_event=told) as ahead:
            for layer in image.layers:
                told.begin()
                changes = merge_layer(
                    bound_stage(image.layout, layer, told),
                    rules.changed(total=(merged.tar_bytes + copied).__add__),
                    workspace,
                    merged.tree,
                    skipped,
                    empty=layer.index == 0,
                    name=tree_name(layer.index),
                    made=ahead.take(layer),
                )
                merged.add(changes)
                skipped |= changes.skipped
                copied += changes.copied_bytes
                if labels:
                    label(image.layout, layer, on_event)
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
