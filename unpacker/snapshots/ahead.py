"""Layers of an image that are staged side by side in a store, each before its turn comes to be a snapshot."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from unpacker.content.layout import Layout
    from unpacker.events import OnEvent
    from unpacker.layer.changes import Changes
    from unpacker.layer.rules import Rules
    from unpacker.resolve import Layer
    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.tree.directory import Tree
    from unpacker.tree.private import Private

    Take = Callable[[Layer, Private, bytes], tuple[Tree, Changes] | None]
    """Moves a layer, if it was staged ahead, to a name in a private place; gives its tree and its record."""


@contextmanager
def staged_ahead(
    layout: Layout,
    layers: Sequence[Layer],
    snapshotter: StoreSnapshotter,
    rules: Rules,
    *,
    jobs: int | None,
    on_event: OnEvent,
) -> Iterator[Take]:
    """Stage layers that the store does not have, if there are several.

    Nothing is locked meanwhile, so two processes may stage the same one, and of one the work is lost then.  For that to
    be rare, nothing is staged ahead where another process is at one of them: it may soon have them all.

    Args:
        layout: Where the blobs are.
        layers: Those of the image, in chain order.
        snapshotter: The store.
        rules: How.
        jobs: See `unpacker.layer.ahead.Ahead`; None: `unpacker.layer.ahead.default_jobs`.
        on_event: See there.
    """
    from unpacker.layer.ahead import Ahead, default_jobs, planned  # noqa: PLC0415 -- to look at a store needs none of it
    from unpacker.layer.batch import tree_name  # noqa: PLC0415 -- as above

    catalog = snapshotter.catalog
    jobs = default_jobs() if jobs is None else jobs
    missing = [layer for layer in layers if catalog.committed(str(layer.chain_id)) is None]
    shares = planned(missing, jobs)
    if not shares or any(catalog.is_locked(str(layer.chain_id)) for layer in missing):
        yield lambda _layer, _place, _name: None
        return
    with (
        catalog.staging() as staging,
        Ahead(layout, shares, staging, snapshotter.rules_in(staging, rules), jobs=jobs, on_event=on_event) as ahead,
    ):

        def take(layer: Layer, place: Private, name: bytes) -> tuple[Tree, Changes] | None:
            made = ahead.take(layer)
            if made is not None:
                try:
                    os.rename(tree_name(layer.index), name, src_dir_fd=staging.descriptor, dst_dir_fd=place.descriptor)
                except BaseException:
                    made[0].close()
                    raise
            return made

        yield take
