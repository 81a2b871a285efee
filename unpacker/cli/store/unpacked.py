"""An image whose layers are in a store, brought there if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.cli import options
from unpacker.cli.feedback import Feedback
from unpacker.events import Resolved
from unpacker.image import Image

if TYPE_CHECKING:
    from argparse import Namespace

    from unpacker.snapshots.base import StoreSnapshotter


def unpacked(arguments: Namespace, snapshotter: StoreSnapshotter) -> str | None:
    """Unpack what is missing of the image that was asked for.

    An image that is all there, under this very name, is not touched: whoever asks how to mount it should not wait.

    Returns:
        The chain_id of its last layer; None if it has none.
    """
    limits = options.limits(arguments.limit)
    with Feedback.on_stderr(arguments) as feedback:
        image = Image.open(arguments.source, arguments.platform, limits=limits, on_event=feedback.on_event)
        if not image.layers:
            return None
        if not image.is_kept(snapshotter):
            facts = image.resolution
            feedback.on_event(
                Resolved(
                    name=image.name,
                    manifest=str(facts.manifest_descriptor.digest),
                    platform=str(image.platform),
                    layers=len(image.layers),
                    size=sum(layer.descriptor.size for layer in image.layers),
                )
            )
            image.unpack(snapshotter, on_event=feedback.on_event)
        return str(image.layers[-1].chain_id)
