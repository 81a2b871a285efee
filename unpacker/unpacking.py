"""The main job, on one screen: an image of a layout becomes a root filesystem at DEST."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from unpacker.errors import DestinationError, LossError, UsageError, quoted
from unpacker.events import LossKind, Lost, OnEvent, Report, Resolved, Warned, ignore
from unpacker.image import Image
from unpacker.layer.rules import Rules
from unpacker.limits import DEFAULT, Limits
from unpacker.tree.attributes import Applier, implied
from unpacker.tree.directory import Memory
from unpacker.tree.finish import finish_directories, finish_root
from unpacker.tree.owners import POLICIES, IdMap, Owners
from unpacker.tree.paths import overlap
from unpacker.tree.probe import may_chown, umask
from unpacker.tree.whereabouts import at
from unpacker.tree.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpacker.content.layout import Layout
    from unpacker.output.rootfs import Rootfs
    from unpacker.resolve import Resolution
    from unpacker.spec.platforms import Platform


def unpack(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    platform: str | Platform | None = None,
    force: bool = False,
    owner: str = "auto",
    uid_map: Sequence[IdMap] = (),
    gid_map: Sequence[IdMap] = (),
    strict: bool = False,
    keep_dirlinks: bool = False,
    labels: bool = True,
    store: str | os.PathLike[str] | None = None,
    link: bool = False,
    sync: bool = True,
    jobs: int | None = None,
    limits: Limits = DEFAULT,
    on_event: OnEvent = ignore,
) -> Report:
    """Unpack an image: DEST is there when every byte is verified, or not at all.

    Args:
        source: ``LAYOUT[:TAG][@DIGEST]``.
        dest: A directory to make; one that is there must be empty, or ``force`` be set.
        platform: ``os[/architecture[/variant]]`` of the image; None is this host's.
        force: Replace a ``dest`` that is not empty, in one step.
        owner: ``auto`` sets the image's owners if the caller may, ``keep`` sets them or fails, ``self`` sets none.
        uid_map, gid_map: Which ids of the image become which ids on disk; none means that they stay.
        strict: Fail if anything cannot be applied.
        keep_dirlinks: Let a directory's entry leave a symbolic link to a directory in its place.
        labels: Note each verified layer's diff_id as ``containerd.io/uncompressed`` in the layout.
        store: A snapshot store: layers that are in it are not read again, the others come into it, and DEST is a copy.
        link: Make DEST of hard links into the store, which must never be written to then.
        sync: Write the store to the disk before a layer appears in it.
        jobs: How many layers are staged at a time, in processes of their own; None: as many as there are cores to use,
            but four at most.  A process with other threads is never forked, and stages one layer after the other.
        limits: How much the image may ask for.
        on_event: Told what happens, in this thread.

    Raises:
        UnpackError: See `unpacker.errors`.
        OSError: A system call failed on the host's side; its notes say at what.
    """
    started = time.monotonic()
    told = _Teller(on_event)
    image = Image.open(source, platform, limits=limits, on_event=told)
    with at(f"looking at {os.fspath(dest)}"):
        _check_dest(os.fspath(dest), image.layout, store)
    told(_resolved(image.resolution))
    with at(f"unpacking to {os.fspath(dest)}"), Workspace(os.fspath(dest), force=force) as workspace:
        owners = _owners(owner, uid_map, gid_map, workspace)
        memory = Memory(limits.memory_bytes)
        rules = Rules(owners=owners, umask=umask(), keep_dirlinks=keep_dirlinks, limits=limits, memory=memory)
        if store is None:
            from unpacker.output.directory import build  # noqa: PLC0415 -- what is in a store already is not staged

            rootfs = build(image, workspace, rules, labels=labels, jobs=jobs, on_event=told)
        else:
            from unpacker.output.stored import build_from_store  # noqa: PLC0415 -- only a store needs it
            from unpacker.snapshots.opening import open_snapshotter  # noqa: PLC0415

            with open_snapshotter(store, create=True, sync=sync) as snapshotter:
                rootfs = build_from_store(
                    image,
                    snapshotter,
                    workspace,
                    rules,
                    dest=os.fspath(dest),
                    link=link,
                    labels=labels,
                    jobs=jobs,
                    on_event=told,
                )
        with rootfs.tree as tree:

            def lose(kind: LossKind, path: bytes, reason: str) -> None:
                rootfs.losses.add(kind, path, reason)
                told(Lost(kind=kind, path=path, reason=reason))

            def finish(root: int) -> None:
                finish_root(root, tree.root.attributes or implied(), applier)
                if strict:
                    _refuse_losses(rootfs)

            applier = Applier(owners, lose, rules.umask)
            finish_directories(tree, applier)
            if strict and workspace.inside:  # before anything moves up into DEST; else with what the root itself loses
                _refuse_losses(rootfs)
            workspace.publish(rootfs.name, tree.descriptor(tree.root), finish)
    return _report(image.resolution, rootfs, os.fspath(dest), told.warnings, time.monotonic() - started)


class _Teller:
    """Passes events on, and keeps the warnings for the report."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self.warnings: list[str] = []

    def __call__(self, event: object) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.message)
        self._on_event(event)  # type: ignore[arg-type]


def _resolved(image: Resolution) -> Resolved:
    return Resolved(
        name=image.name,
        manifest=str(image.manifest_descriptor.digest),
        platform=str(image.platform),
        layers=len(image.layers),
        size=sum(layer.descriptor.size for layer in image.layers),
    )


def _check_dest(dest: str, layout: Layout, store: str | os.PathLike[str] | None) -> None:
    """Refuse what can only be a mistake."""
    if not dest:  # an unset variable of a script; the path of nothing is that of the current directory
        raise UsageError("DEST is empty")
    if layout.clashes(dest):
        raise DestinationError(path=dest, why="is the layout, or among its blobs, or has the layout in it")
    if store is not None and overlap(dest, store):
        raise DestinationError(path=dest, why="is the store, or in it, or has the store in it")


def _owners(policy: str, uid_map: Sequence[IdMap], gid_map: Sequence[IdMap], workspace: Workspace) -> Owners:
    if policy not in POLICIES:
        raise UsageError(f"owner {quoted(policy)}", f"one of {', '.join(POLICIES)}")
    apply = policy == "keep" or (policy == "auto" and may_chown(workspace.descriptor))
    keep, own = policy == "keep", policy == "self"
    return Owners(apply=apply, required=keep, counted=not own, uid_map=uid_map, gid_map=gid_map)


def _refuse_losses(rootfs: Rootfs) -> None:
    counts, samples = rootfs.losses.counts, rootfs.losses.samples
    if counts:
        # Of layers that a store has already, only the counts are known.
        first = next((f"{quoted(path)}: {reason}" for path, reason in samples.values()), "in layers of the store")
        raise LossError(losses={str(kind): count for kind, count in counts.items()}, first=first)


def _report(image: Resolution, rootfs: Rootfs, dest: str, warnings: list[str], seconds: float) -> Report:
    return Report(
        name=image.name,
        manifest=str(image.manifest_descriptor.digest),
        platform=str(image.platform),
        dest=dest,
        layers=len(image.layers),
        entries=rootfs.entries,
        blob_bytes=sum(layer.descriptor.size for layer in image.layers),
        tar_bytes=rootfs.tar_bytes,
        seconds=seconds,
        chain_id=str(image.layers[-1].chain_id) if image.layers else None,
        losses=rootfs.losses.counts,
        loss_samples={kind: f"{quoted(path)}: {reason}" for kind, (path, reason) in rootfs.losses.samples.items()},
        warnings=tuple(warnings),
    )
