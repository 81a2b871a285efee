"""What is noted of a blob is what was seen: ``containerd.io/uncompressed`` beside the blobs of a layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import digest_of, write_layout
from tests.support.tarbuild import file, layer
from tests.support.tree import read
from tests.unpack.command import refused, succeeded
from tests.unpack.command import unpack as run_unpack
from unpacker.content.labels import UNCOMPRESSED
from unpacker.content.layout import Layout
from unpacker.spec.digest import Digest
from unpacker.unpacking import unpack

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


# -- as files, by the command ------------------------------------------------------------------------------------------

TOP = layer(file("b", b"another"))


def test_each_layers_blob_has_its_own_file(tmp_path: Path) -> None:
    """Only layers: what a manifest or a config gives, decompressed, is itself."""
    built = write_layout(tmp_path / "layout", [TAR, TOP], compression=("gzip", "none"))

    succeeded(run_unpack(built.path, tmp_path / "rootfs"))

    files = {path.name: json.loads(path.read_text()) for path in (built.path / "labels/sha256").iterdir()}
    assert files == {
        one.digest.removeprefix("sha256:") + ".json": {"containerd.io/uncompressed": one.diff_id}
        for one in built.images[0].layers
    }


def test_without_labels_nothing_is_written(tmp_path: Path) -> None:
    """Not even the directory."""
    built = write_layout(tmp_path / "layout", [TAR])
    before = read(built.path)

    succeeded(run_unpack("--no-labels", built.path, tmp_path / "rootfs"))

    assert read(built.path) == before


def test_a_layer_that_was_verified_keeps_its_label_if_a_later_one_is_damaged(tmp_path: Path) -> None:
    """It is true of its blob; the damaged one gets none."""
    built = write_layout(tmp_path / "layout", [TAR, TOP])
    base, top = built.images[0].layers
    built.flip(top.digest)

    refused(run_unpack(built.path, tmp_path / "rootfs"), 4)

    assert label_of(built.path, base.digest) == base.diff_id
    assert label_of(built.path, top.digest) is None


def test_a_label_that_is_not_true_is_not_believed(tmp_path: Path) -> None:
    """The blob is read all the same, and the label put right."""
    built = write_layout(tmp_path / "layout", [TAR])
    one = built.images[0].layers[0]
    lie = digest_of(b"something else")
    Layout.open(built.path).labels.set(Digest.parse(one.digest), {UNCOMPRESSED: lie, "own": "kept"})

    succeeded(run_unpack(built.path, tmp_path / "rootfs"))

    labels = Layout.open(built.path).labels.get(Digest.parse(one.digest))
    assert labels == {UNCOMPRESSED: one.diff_id, "own": "kept"}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"containerd.io/uncompressed": 1}', b"[]", b'{"a": "1", "a": "2"}', b"\xff"], ids=ascii
)
def test_a_damaged_label_is_a_warning_and_stays_as_it_is(damage: bytes, tmp_path: Path) -> None:
    """Whoever wrote it may need it; the tree does not."""
    built = write_layout(tmp_path / "layout", [TAR])
    digest = built.images[0].layers[0].digest
    path = built.path / "labels" / (digest.replace(":", "/") + ".json")
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)

    outcome = run_unpack("--format=json", built.path, tmp_path / "rootfs")

    assert outcome.status == 0, outcome.lines
    (warning,) = json.loads(outcome.out)["warnings"]
    assert warning.startswith(f"layer {digest}: no label written: {path}: ")
    assert path.read_bytes() == damage
    assert (tmp_path / "rootfs/a").exists()


@pytest.mark.parametrize("where", ["labels", "labels/sha256", "labels/.lock"])
@pytest.mark.parametrize("what", ["file", "link"])
def test_what_is_in_the_place_of_labels_is_no_error_and_not_followed(where: str, what: str, tmp_path: Path) -> None:
    """A layout may be hostile: nothing is written outside of it."""
    built = write_layout(tmp_path / "layout", [TAR])
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    path = built.path / where
    path.parent.mkdir(exist_ok=True)
    if what == "link":
        path.symlink_to(outside / "file" if where.endswith(".lock") else outside)
    elif not where.endswith(".lock"):
        path.touch()
    before = read(outside)

    assert run_unpack(built.path, tmp_path / "rootfs").status == 0

    assert read(outside) == before
    assert (tmp_path / "rootfs/a").exists()
