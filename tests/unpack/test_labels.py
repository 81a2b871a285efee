"""What is noted of a blob is what was seen: ``containerd.io/uncompressed`` beside the blobs of a layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import digest_of, write_layout
from tests.support.tarbuild import file, layer
from unpacker.content.labels import UNCOMPRESSED
from unpacker.content.layout import Layout
from unpacker.spec.digest import Digest
from unpacker.unpack import unpack

if TYPE_CHECKING:
    from pathlib import Path

TAR = layer(file("a", b"the one that is in the store"))


def label_of(layout: Path, blob: str) -> str | None:
    return Layout.open(layout).labels.get(Digest.parse(blob)).get(UNCOMPRESSED)


@pytest.mark.parametrize("store", [False, True], ids=["without", "with a store"])
def test_a_verified_layer_is_labelled(store: bool, tmp_path: Path) -> None:
    built = write_layout(tmp_path / "layout", [TAR])

    unpack(built.path, tmp_path / "rootfs", store=tmp_path / "store" if store else None)

    assert label_of(built.path, built.images[0].layers[0].digest) == digest_of(TAR)


def test_a_blob_that_was_verified_before_is_labelled_without_being_read(tmp_path: Path) -> None:
    """The store knows which blob gave it the layer, and a digest means the same bytes in any layout."""
    first, second = (write_layout(tmp_path / name, [TAR]) for name in ("first", "second"))
    unpack(first.path, tmp_path / "rootfs", store=tmp_path / "store")

    unpack(second.path, tmp_path / "again", store=tmp_path / "store")

    assert label_of(second.path, second.images[0].layers[0].digest) == digest_of(TAR)


def test_a_blob_that_nobody_has_read_gets_no_label(tmp_path: Path) -> None:
    """An image may claim that another blob gives a layer which the store has; it is not read, so it is not known."""
    honest = write_layout(tmp_path / "honest", [TAR])
    claiming = write_layout(
        tmp_path / "claiming",
        [layer(file("a", b"something else"))],
        mutate={"config": lambda config: config["rootfs"].update(diff_ids=[digest_of(TAR)])},
    )
    unpack(honest.path, tmp_path / "rootfs", store=tmp_path / "store")

    unpack(claiming.path, tmp_path / "other", store=tmp_path / "store")

    assert label_of(claiming.path, claiming.images[0].layers[0].digest) is None
