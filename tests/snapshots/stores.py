"""Small images in small stores, for the tests of what is done to a store as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.layoutbuild import LayoutBuilder
from tests.support.tarbuild import directory, file, layer, whiteout
from unpacker.image import Image

if TYPE_CHECKING:
    from pathlib import Path

    from unpacker.snapshots.base import StoreSnapshotter

BASE = layer(directory("etc", mode=0o755), file("etc/hosts", b"base\n" * 2000), file("etc/motd", b"hello\n"))
MIDDLE = layer(file("etc/hosts", b"middle\n"), file("usr", b"u" * 100_000))
TOP = layer(whiteout("etc/motd"), file("top", b"t"))
OTHER = layer(file("other", b"o"))
IMAGES = {"full": (BASE, MIDDLE, TOP), "half": (BASE, OTHER), "alone": (OTHER,)}


def layout_of(path: Path) -> Path:
    """Write a layout of three images: two share their first layer, the third one shares none."""
    builder = LayoutBuilder(path)
    for name, tars in IMAGES.items():
        builder.name(builder.image(list(tars)), name)
    return path


def unpacked(snapshotter: StoreSnapshotter, layout: Path, name: str) -> list[str]:
    """Unpack an image into a store; give the names of its snapshots, base first."""
    image = Image.open(f"{layout}:{name}", "linux/amd64")
    return [record.name for record in image.unpack(snapshotter, labels=False)]


def forget(snapshotter: StoreSnapshotter, layout: Path, name: str) -> None:
    """Let nothing refer to an image any more."""
    assert snapshotter.catalog.remove_image(f"{layout}:{name}", "linux/amd64")


def names(snapshotter: StoreSnapshotter) -> set[str]:
    """Give what is there."""
    return {info.name for info in snapshotter.walk()}
