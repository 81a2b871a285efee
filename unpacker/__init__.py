"""Turn a container image on disk into a verified root filesystem: no daemon, no network, no privilege.

The main job is one call, which makes a directory of an image, whole and verified or not at all::

    import unpacker

    report = unpacker.unpack("layout:latest", "rootfs")
    print(report.entries, dict(report.losses))

What stands behind it can be used by itself, and by other programs at the same time::

    LAYOUT ──▶ ContentStore        bytes by digest, with labels: an OCI image layout, or a MemoryStore
                 │   ▲
                 │   └─ copy_image                                     from store to store
                 ▼
               Image               a name and a platform: manifest, config, diff_ids, chain_ids
                 │
                 │  unpack         each layer once: verified, decompressed, staged, settled, committed
                 ▼
    STORE  ──▶ Snapshotter         directories by chain_id: OverlaySnapshotter, NativeSnapshotter
                 │       │
                 │       └─ mounts ──▶ overlayfs, of whoever mounts
                 │  copy, clone or link
                 ▼
               DEST                without a store: straight from the layers, by one rename

An overview of what is in here is docs/library.md; docs/architecture.md leads through the code.  Names come in when
they are asked for: ``import unpacker`` itself costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from unpacker import errors, events
    from unpacker.content.disk import ContentStore
    from unpacker.content.memory import MemoryStore
    from unpacker.events import Report
    from unpacker.image import Image
    from unpacker.layer.rules import Rules
    from unpacker.limits import Limits
    from unpacker.resolve import Reference
    from unpacker.snapshots.mounts import Mount
    from unpacker.snapshots.native import NativeSnapshotter
    from unpacker.snapshots.opening import open_snapshotter
    from unpacker.snapshots.overlay import OverlaySnapshotter
    from unpacker.spec.descriptor import Descriptor
    from unpacker.spec.digest import Digest
    from unpacker.spec.platforms import Platform
    from unpacker.transfer import copy_image
    from unpacker.tree.owners import IdMap
    from unpacker.unpacking import unpack

__all__ = [
    "ContentStore",
    "Descriptor",
    "Digest",
    "IdMap",
    "Image",
    "Limits",
    "MemoryStore",
    "Mount",
    "NativeSnapshotter",
    "OverlaySnapshotter",
    "Platform",
    "Reference",
    "Report",
    "Rules",
    "copy_image",
    "errors",
    "events",
    "open_snapshotter",
    "unpack",
]

_PLACES = {
    "ContentStore": "content.disk",
    "Descriptor": "spec.descriptor",
    "Digest": "spec.digest",
    "IdMap": "tree.owners",
    "Image": "image",
    "Limits": "limits",
    "MemoryStore": "content.memory",
    "Mount": "snapshots.mounts",
    "NativeSnapshotter": "snapshots.native",
    "OverlaySnapshotter": "snapshots.overlay",
    "Platform": "spec.platforms",
    "Reference": "resolve",
    "Report": "events",
    "Rules": "layer.rules",
    "copy_image": "transfer",
    "open_snapshotter": "snapshots.opening",
    "unpack": "unpacking",
}


if not TYPE_CHECKING:  # A type checker sees the names above, and no others.

    def __getattr__(name: str) -> object:
        """Give a public name, whose module is imported now (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module 'unpacker' has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 -- as said above

        if name not in _PLACES:
            return import_module(f"unpacker.{name}")
        found: object = getattr(import_module(f"unpacker.{_PLACES[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
