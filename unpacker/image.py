"""The image: containerd's client ``Image`` over a layout and a snapshotter."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from unpacker.content.labels import UNCOMPRESSED
from unpacker.content.layout import Layout
from unpacker.errors import UnpackError
from unpacker.events import LayerApplied, LayerReused, Lost, OnEvent, Waiting, Warned, ignore
from unpacker.limits import DEFAULT, Limits
from unpacker.record import Record
from unpacker.resolve import Layer, Reference, Resolution, resolve
from unpacker.snapshots.snapshotter import LayerSource
from unpacker.spec.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from unpacker.layer.rules import Rules
    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.record import SnapshotRecord
    from unpacker.spec.descriptor import Descriptor
    from unpacker.spec.digest import Digest
    from unpacker.spec.documents import Manifest
    from unpacker.tree.lock import Holder


class Sizes(Record):
    """What an image takes."""

    packed: int
    """Bytes of manifest, config and layers as stored."""
    unpacked: int | None
    """Bytes on disk of its snapshots; None where not all of them are there."""


class Image:
    """One image of a layout, found and its documents verified; its layers are read when they are wanted.

    Args:
        layout: Where it is.
        resolution: What was found.
        limits: How much it may ask for.
    """

    def __init__(self, layout: Layout, resolution: Resolution, limits: Limits = DEFAULT) -> None:
        self.layout = layout
        self.resolution = resolution
        self._limits = limits

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        platform: str | Platform | None = None,
        *,
        limits: Limits = DEFAULT,
        on_event: OnEvent = ignore,
    ) -> Image:
        """Find an image.

        Args:
            source: ``LAYOUT[:TAG][@DIGEST]``.
            platform: ``os[/architecture[/variant]]``; None is this host's.
            limits: How much it may ask for.
            on_event: Gets `unpacker.events.Warned`.

        Raises:
            UnpackError: See `unpacker.resolve.resolve`.
        """
        reference = Reference.parse(os.fspath(source))
        layout = Layout.open(reference.layout)
        wanted = Platform.parse(platform) if isinstance(platform, str) else platform
        return cls(layout, resolve(layout, reference, wanted, limits, on_event), limits)

    def __repr__(self) -> str:
        return f"<Image {self.name} of {self.layout}>"

    @property
    def name(self) -> str:
        """What it is called: its reference, or its digest."""
        return self.resolution.name

    @property
    def target(self) -> Descriptor:
        """What the name stands for: an index or a manifest."""
        return self.resolution.target

    @property
    def platform(self) -> Platform:
        """What it is for."""
        return self.resolution.platform

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, base first."""
        return self.resolution.layers

    def manifest(self) -> Manifest:
        """Give its manifest."""
        return self.resolution.manifest

    def config(self) -> Descriptor:
        """Give the descriptor of its config."""
        return self.resolution.config_descriptor

    def spec(self) -> Mapping[str, Any]:
        """Give its config, the whole document."""
        return self.resolution.config.raw

    def rootfs(self) -> list[Digest]:
        """Give its diff_ids, base first."""
        return [layer.diff_id for layer in self.layers]

    def chain_ids(self) -> list[Digest]:
        """Give its chain_ids, base first."""
        return [layer.chain_id for layer in self.layers]

    def size(self) -> int:
        """Give the bytes of target, manifest, config and layers as stored, each as often as it is named."""
        found = self.resolution
        described = {
            found.target.digest: found.target.size,
            found.manifest_descriptor.digest: found.manifest_descriptor.size,
        }
        return (
            sum(described.values()) + found.config_descriptor.size + sum(layer.descriptor.size for layer in self.layers)
        )

    def usage(self, snapshotter: StoreSnapshotter | None = None) -> Sizes:
        """Give what it takes, packed and, with a snapshotter, unpacked."""
        unpacked: int | None = None
        if snapshotter is not None and self.is_unpacked(snapshotter):
            unpacked = sum(snapshotter.usage(str(chain_id)).size for chain_id in self.chain_ids())
        return Sizes(packed=self.size(), unpacked=unpacked)

    def is_unpacked(self, snapshotter: StoreSnapshotter) -> bool:
        """Whether all its snapshots are there; an image without layers always is."""
        return all(snapshotter.catalog.committed(str(chain_id)) is not None for chain_id in self.chain_ids())

    def is_kept(self, snapshotter: StoreSnapshotter) -> bool:
        """Whether all its snapshots are there, and stay there because of this very image: nothing is left to do."""
        return self.kept(snapshotter) is not None

    def kept(self, snapshotter: StoreSnapshotter) -> list[SnapshotRecord] | None:
        """Give the records of all layers, base first, if nothing is left to do."""
        facts = self._facts() if self.layers else None
        if facts is not None and snapshotter.catalog.image(facts["name"], facts["platform"]) != facts:
            return None
        records = [snapshotter.catalog.committed(str(chain_id)) for chain_id in self.chain_ids()]
        found = [record for record in records if record is not None]
        return found if len(found) == len(records) else None

    def unpack(
        self,
        snapshotter: StoreSnapshotter,
        rules: Rules | None = None,
        *,
        labels: bool = True,
        jobs: int | None = None,
        on_event: OnEvent = ignore,
    ) -> list[SnapshotRecord]:
        """Make the snapshots of all layers that are not there; what other processes make is waited for.

        Args:
            snapshotter: Where they shall be.
            rules: How layers are applied; None: as `StoreSnapshotter.rules` says.
            labels: Note each verified layer's diff_id as ``containerd.io/uncompressed`` in the layout.
            jobs: How many layers are staged at a time, as in `unpacker.unpack`.
            on_event: Told what happens, in this thread.

        Returns:
            The records of all layers, base first.

        Raises:
            UnpackError, OSError: See `unpacker.layer.apply.stage_layer`.
        """
        from unpacker.layer.apply import Told, bound_stage  # noqa: PLC0415 -- half of all code, and "is it there" needs none
        from unpacker.snapshots.ahead import staged_ahead  # noqa: PLC0415 -- as above

        rules = snapshotter.rules(self._limits) if rules is None else rules
        records: list[SnapshotRecord] = []
        names = [str(chain_id) for chain_id in self.chain_ids()]
        told = Told(on_event)
        with (
            snapshotter.catalog.lease(names),
            staged_ahead(self.layout, self.layers, snapshotter, rules, jobs=jobs, on_event=told) as take,
        ):
            for layer, parent in zip(self.layers, [None, *names], strict=False):
                total = sum(each.tar_bytes for each in records)
                told.begin()
                source = LayerSource(
                    chain_id=layer.chain_id,
                    diff_id=layer.diff_id,
                    blob=layer.descriptor.digest,
                    stage=bound_stage(self.layout, layer, told),
                    take=partial(take, layer),
                    on_loss=lambda kind, path, reason: on_event(Lost(kind=kind, path=path, reason=reason)),
                )
                record = _extract(snapshotter, source, parent, rules.changed(total=total.__add__), layer, on_event)
                records.append(record)
                rules.check_total(total + record.tar_bytes)
                if labels and record.blob == str(layer.descriptor.digest):  # another blob has not been seen to give it
                    label(self.layout, layer, on_event)
            if names:
                snapshotter.catalog.set_image(self._facts())
        return records

    def _facts(self) -> dict[str, str]:
        return {
            "name": f"{os.path.abspath(self.layout)}:{self.name}",
            "manifest": str(self.resolution.manifest_descriptor.digest),
            "platform": str(self.platform),
            "chain_id": str(self.layers[-1].chain_id),
        }


def _extract(
    snapshotter: StoreSnapshotter,
    source: LayerSource,
    parent: str | None,
    rules: Rules,
    layer: Layer,
    on_event: OnEvent,
) -> SnapshotRecord:
    """Make the snapshot of a layer, unless it is there, and tell which of the two it was."""
    digest = str(layer.descriptor.digest)

    def waiting(holder: Holder) -> None:
        on_event(Waiting(index=layer.index, digest=digest, pid=holder.pid, since=holder.since))

    record, made = snapshotter.extract(source, parent, rules, on_wait=waiting)
    if made:
        on_event(
            LayerApplied(
                index=layer.index,
                digest=digest,
                diff_id=str(layer.diff_id),
                entries=record.entries,
                size=record.tar_bytes,
            )
        )
    else:
        on_event(LayerReused(index=layer.index, digest=digest, chain_id=record.name, size=layer.descriptor.size))
    return record


def label(layout: Layout, layer: Layer, on_event: OnEvent) -> None:
    """Note what a verified layer decompresses to; labels are a convenience, and stop nobody's work."""
    try:
        layout.labels.set(layer.descriptor.digest, {UNCOMPRESSED: str(layer.diff_id)})
    except (UnpackError, OSError) as error:
        on_event(Warned(message=f"layer {layer.descriptor.digest}: no label written: {error}"))
