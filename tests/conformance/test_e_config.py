"""E: the config, DiffIDs and ChainIDs (config.md, conversion.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import AMD64, rule, status
from tests.support.layoutbuild import LayoutBuilder, digest_of
from tests.support.tarbuild import directory, file, layer
from unpacker.cli import main
from unpacker.errors import (
    DiffIdMismatchError,
    DocumentError,
    LayerCountError,
    UnsupportedError,
)
from unpacker.image import Image
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.spec.chain import chain_ids
from unpacker.spec.digest import Digest
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.cases import Place

TREE = {"a": "file"}
MISSING = object()


def configured(place: Place, change: Callable[[dict[str, Any]], object]) -> LayoutBuilder:
    """Write an image of two layers with another config; all digests are right."""
    return place.write([file("a")], [file("b")], mutate={"config": change})


def set_fields(**fields: object) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config.update(fields)
        for name in [name for name, value in fields.items() if value is MISSING]:
            del config[name]

    return change


@rule(
    49,
    "MUST",
    "A config has `architecture`, `os` and `rootfs`, whose `type` is `layers`.",
    "config.md#properties",
    "another type is an error; a missing os or architecture is a warning, and the index is asked",
)
@pytest.mark.parametrize("kind", ["base", "", "Layers", "layers+base"])
def test_spec_049_another_type_of_rootfs(kind: str, place: Place) -> None:
    built = configured(place, lambda config: config["rootfs"].update(type=kind))

    error = place.refused(UnsupportedError, built)

    assert str(error) == f"config {built.images[0].config_digest}: unsupported rootfs.type {kind}"
    assert status(error) == 5


@pytest.mark.parametrize(
    ("rootfs", "where"),
    [
        (MISSING, "rootfs"),
        (None, "rootfs"),
        ([], "rootfs"),
        ({"diff_ids": []}, "rootfs.type"),
        ({"type": 1, "diff_ids": []}, "rootfs.type"),
        ({"type": "layers", "diff_ids": {}}, "rootfs.diff_ids"),
        ({"type": "layers", "diff_ids": ["x"]}, "rootfs.diff_ids[0]"),
        ({"type": "layers", "diff_ids": [None]}, "rootfs.diff_ids[0]"),
    ],
)
def test_spec_049_no_rootfs(rootfs: object, where: str, place: Place) -> None:
    assert place.refused(DocumentError, configured(place, set_fields(rootfs=rootfs))).where == where


@pytest.mark.parametrize("name", ["os", "architecture"])
def test_spec_049_no_os_or_architecture(name: str, place: Place) -> None:
    alone = place.write([file("a")], platform=None, mutate={"config": set_fields(**{name: MISSING})})

    assert "does not say what platform" in place.unpack(alone, platform=None).warnings
    assert place.unpack(configured(place, set_fields(**{name: MISSING}))).warnings == ""
    assert place.refused(DocumentError, configured(place, set_fields(**{name: 1}))).where == name


@rule(
    50,
    "MUST",
    "Optional fields may be null, which is as good as absent.",
    "config.md#properties",
    "as it says",
)
def test_spec_050_all_that_is_optional_is_null(place: Place) -> None:
    names = ("created", "author", "config", "history", "variant", "os.version", "os.features")
    built = configured(place, set_fields(**dict.fromkeys(names)))

    assert "b" in place.unpack(built)


def test_spec_050_all_in_config_is_null(place: Place) -> None:
    names = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal")
    built = configured(place, set_fields(config=dict.fromkeys(names)))

    assert "b" in place.unpack(built)


@rule(
    51,
    "MUST",
    "There are as many diff_ids as layers; each is the digest of the whole uncompressed archive.",
    "config.md#layer-diffid",
    "read to the very end, past the archive's end marker",
)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_spec_051_another_number_of_diff_ids(count: int, place: Place) -> None:
    def change(config: dict[str, Any]) -> None:
        config["rootfs"]["diff_ids"] = (config["rootfs"]["diff_ids"] * 2)[:count]

    built = configured(place, change)

    error = place.refused(LayerCountError, built)

    assert str(error) == f"manifest {built.images[0].digest}: 2 layers, but its config has {count} diff_ids"


def test_spec_051_the_diff_ids_are_swapped(place: Place) -> None:
    built = configured(place, lambda config: config["rootfs"]["diff_ids"].reverse())

    error = place.refused(DiffIdMismatchError, built)

    one, two = (each.diff_id for each in built.images[0].layers)
    assert (error.index, error.layer, error.expected, error.actual) == (0, built.images[0].layers[0].digest, two, one)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_spec_051_bytes_behind_the_end_count(compression: Any, place: Place) -> None:
    tar = layer(file("a"), padding=10 << 10)

    assert place.unpack(place.write(tar, compression=compression)).sketch == TREE
    for other in (tar + b"\0", tar[:-1], tar[:-1] + b"x"):
        change = set_fields(rootfs={"type": "layers", "diff_ids": [digest_of(other)]})
        error = place.refused(DiffIdMismatchError, place.write(tar, compression=compression, mutate={"config": change}))
        assert error.actual == digest_of(tar)


@rule(
    52,
    "MAY",
    "`history` says how layers were made; those with `empty_layer` have none.",
    "config.md#properties",
    "not looked at: in real images its length is often another one",
)
@pytest.mark.parametrize(
    "history",
    [
        [{"created": "2015-10-31T22:22:54.690851953Z"}, {"empty_layer": True}, {"created_by": "x"}],
        [{}] * 7,
        [],
        [{"created": "2015-10-31T22:22:54+02:00", "comment": None}],
        "nonsense",
    ],
)
def test_spec_052_any_history(history: object, place: Place) -> None:
    assert "b" in place.unpack(configured(place, set_fields(history=history)))


@rule(
    53,
    "MUST",
    "ChainID: that of one layer is its DiffID; of more, the digest of `ChainID(below) DiffID(top)`.",
    "config.md#layer-chainid",
    "the names of snapshots: what two images share is unpacked once",
)
def test_spec_053_the_vectors_of_the_specification() -> None:
    """Its own test, whose digests are none; and the DiffIDs of the example in config.md."""
    a, b, c = (Digest("sha256", name) for name in "abc")

    assert [str(one) for one in chain_ids([a, b, c])] == [
        "sha256:a",
        "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8",
        "sha256:dee159b33409cefa3f6eda71539f006014283e9d9130c18a1dea7bd8a33c9b1b",
    ]
    example = [
        "sha256:c6f988f4874bb0add23a778f753c65efe992244e148a1d2ec2a8b664fb66bbd1",
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    ]
    assert str(chain_ids(map(Digest.parse, example))[-1]) == (
        "sha256:c3191d32a37d7159b2e30830937d2e30268ad6c375a773a8994911a3aba9b93f"
    )
    assert chain_ids([]) == ()


def test_spec_053_snapshots_are_shared_by_chain(place: Place) -> None:
    """Two images over the same base share its snapshot; the same layer over another base has one of its own."""
    tars = {name: layer(file(name, name.encode())) for name in ("base", "other", "top", "end")}
    store = place.new("store")
    for number, names in enumerate([("base", "top"), ("base", "end"), ("other", "top")]):
        built = place.write(*(tars[name] for name in names))
        unpack(built.path, place.new("dest"), platform=AMD64, labels=False, store=store, sync=False)
        with OverlaySnapshotter(store, sync=False) as snapshotter:
            infos = list(snapshotter.walk())
        assert len(infos) == (2, 3, 5)[number]
        base, top = (digest_of(tars[name]) for name in names)
        chained = digest_of(f"{base} {top}".encode())
        assert {info.name: info.parent for info in infos}[chained] == base
        assert Image.open(built.path, AMD64).chain_ids() == [Digest.parse(base), Digest.parse(chained)]


@rule(54, "MUST", "The ImageID is the digest of the config's bytes.", "config.md#imageid", "shown as `config`")
def test_spec_054_the_image_id(place: Place) -> None:
    built = place.write([file("a")])
    config = Image.open(built.path, AMD64).config()

    assert str(config.digest) == digest_of(built.blob_path(built.images[0].config_digest).read_bytes())


@rule(
    55,
    "MUST",
    "What `config` says of running the image has its types.",
    "config.md#properties",
    "nothing is run here, so nothing of it is an error; `unpacker config` prints it as it is",
)
@pytest.mark.parametrize(
    "config",
    [
        {"User": "nosuch:7", "Env": ["foo", 7353], "Volumes": [], "ExposedPorts": ["80/tcp"]},
        {"Memory": -1, "MemorySwap": "x", "CpuShares": None, "Healthcheck": {}, "ArgsEscaped": True},
        {"Entrypoint": "sh", "Cmd": {}, "WorkingDir": ["/"], "Labels": {"a": 1}, "StopSignal": 9},
        [],
    ],
)
def test_spec_055_any_config_of_a_process(config: object, place: Place) -> None:
    assert "b" in place.unpack(configured(place, set_fields(config=config)))


@rule(
    56,
    "MAY",
    "A config may be converted to one of a runtime.",
    "conversion.md",
    "**not done**: the config is printed as it is stored, and what asks for a bundle is refused, exit status 2",
)
def test_spec_056_the_config_is_printed_as_it_is(place: Place, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """An unknown user, which a conversion must refuse, is no matter."""
    built = configured(place, set_fields(config={"User": "nosuch", "Entrypoint": ["/bin/sh"]}))
    config = built.blob_path(built.images[0].config_digest).read_bytes()

    assert main(["config", str(built.path), "--platform", AMD64]) == 0
    assert capfdbinary.readouterr() == (config, b"")
    assert b"process" not in config


def test_spec_056_no_bundle_is_made(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(place.write([file("a")]).path), str(place.path / "bundle")]) == 2
    assert "invalid choice: 'bundle'" in capsys.readouterr().err
    assert not (place.path / "bundle").exists()


@rule(57, "open", "Index and config may differ about the platform.", "image-index.md", "a warning; the index chooses")
def test_spec_057_index_and_config_differ(place: Place) -> None:
    built = place.builder()
    image = dict(built.image([layer(file("a"))], platform="linux/arm64").descriptor)
    image["platform"] = {"os": "linux", "architecture": "amd64"}
    built.name(built.index(image))

    found = place.unpack(built)

    assert found.sketch == TREE
    assert found.warnings == (f"manifest {image['digest']}: the index says linux/amd64, its config says linux/arm64")


def test_spec_057_index_and_config_agree(place: Place) -> None:
    built = place.write([directory("d")], platform="linux/arm64/v8")

    assert place.unpack(built, platform="linux/arm64").warnings == ""
