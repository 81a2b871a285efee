"""D: manifests, OCI's and Docker's (manifest.md, media-types.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import AMD64, rule, status, told
from tests.support.layoutbuild import DOCKER, OCI, LayoutBuilder, compress, digest_of
from tests.support.tarbuild import directory, file, layer, whiteout
from unpacker.content.disk import ContentStore
from unpacker.errors import DocumentError, UnsupportedError
from unpacker.image import Image
from unpacker.spec.mediatypes import NAMES_SUPPORTED_LAYERS
from unpacker.transfer import copy_image

if TYPE_CHECKING:
    from tests.conformance.cases import Place

TREE = {"a": "file"}
MISSING = object()
EMPTY = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
}


def changed(place: Place, **fields: object) -> LayoutBuilder:
    """Write an image whose manifest has other fields; all digests are right."""

    def change(manifest: dict[str, Any]) -> None:
        manifest.update(fields)
        for name in [name for name, value in fields.items() if value is MISSING]:
            del manifest[name]

    return place.write([file("a")], mutate={"manifest": change})


def artifact(place: Place, **fields: object) -> LayoutBuilder:
    """Write a manifest of something that is no image, named ``v1``."""
    built = place.builder()
    layers = [built.blob("application/vnd.example.data", b"data")]
    manifest = {"schemaVersion": 2, "mediaType": OCI["manifest"], "config": EMPTY, "layers": layers, **fields}
    built.name(built.blob(OCI["manifest"], json.dumps(manifest).encode()), "v1")
    return built


@rule(
    39,
    "MUST",
    "`schemaVersion` is 2; a `mediaType` is that of a manifest, and should be its descriptor's.",
    "manifest.md#image-manifest-property-descriptions",
    "another one is refused (CVE-2021-41190), one that is absent is not",
)
@pytest.mark.parametrize("value", [1, "2", 3, None, MISSING])
def test_spec_039_another_schema_version(value: object, place: Place) -> None:
    assert place.refused(DocumentError, changed(place, schemaVersion=value)).where == "schemaVersion"


def test_spec_039_no_media_type(place: Place) -> None:
    assert place.unpack(changed(place, mediaType=MISSING)).sketch == TREE


@pytest.mark.parametrize("media_type", [OCI["index"], OCI["config"], DOCKER["manifest"], "x/y"])
def test_spec_039_another_media_type(media_type: str, place: Place) -> None:
    built = changed(place, mediaType=media_type)

    error = place.refused(DocumentError, built)

    assert str(error) == (f"{built.images[0].digest}: mediaType: expected {OCI['manifest']}, found '{media_type}'")


def test_spec_039_a_manifest_with_manifests(place: Place) -> None:
    built = changed(place, manifests=[])

    error = place.refused(DocumentError, built)

    assert (error.source, error.where, status(error)) == (built.images[0].digest, "manifests", 4)


@rule(
    40,
    "MUST",
    "A config of an unknown media type is not parsed, and no error to store.",
    "manifest.md#image-manifest-property-descriptions",
    "it is no image: to unpack it is refused, to copy it is not",
)
@pytest.mark.parametrize(
    "media_type", ["application/vnd.example.config", "application/octet-stream", "application/json"]
)
def test_spec_040_a_config_of_another_kind(media_type: str, place: Place) -> None:
    built = place.builder()
    config = built.blob(media_type, b"\xff not JSON")
    manifest = {"schemaVersion": 2, "mediaType": OCI["manifest"], "config": config, "layers": []}
    built.name(built.blob(OCI["manifest"], json.dumps(manifest).encode()), "v1")

    error = place.refused(UnsupportedError, built, "v1")

    assert "is not a container image: unsupported config media type " + media_type in str(error)
    assert status(error) == 5
    assert copy_image(ContentStore(built.path), ContentStore(place.new("copy"), create=True), "v1", "all").copied == 2


@pytest.mark.parametrize("config", [None, MISSING, {}, []])
def test_spec_040_no_config(config: object, place: Place) -> None:
    assert place.refused(DocumentError, changed(place, config=config)).where.startswith("config")


@rule(41, "MUST", "Layers are applied in their order, onto nothing.", "manifest.md", "as it says")
def test_spec_041_the_order_counts(place: Place) -> None:
    first, second = [directory("d"), file("d/a", b"1"), file("b")], [file("d/a", b"22"), whiteout("b"), file("c")]

    assert place.image(first, second).sketch == {"c": "file", "d": "directory", "d/a": "file 22"}
    assert place.image(second, first).sketch == {"b": "file", "c": "file", "d": "directory", "d/a": "file 1"}


@rule(
    42,
    "SHOULD",
    "An image has a layer at least.",
    "manifest.md#image-manifest-property-descriptions",
    "one without is an empty root; Docker writes null for none",
)
@pytest.mark.parametrize("layers", [[], None])
@pytest.mark.parametrize("diff_ids", [[], None])
def test_spec_042_no_layers(layers: object, diff_ids: object, place: Place) -> None:
    built = place.write(
        mutate={
            "manifest": lambda document: document.update(layers=layers),
            "config": lambda document: document["rootfs"].update(diff_ids=diff_ids),
        }
    )

    found = place.unpack(built)

    assert found.sketch == {}
    assert (found["."].mode, found["."].mtime_ns, found.report.chain_id) == (0o755, 0, None)


@rule(
    43,
    "MUST",
    "`tar`, `tar+gzip`, their nondistributable twins; `tar+zstd` should be known, too.",
    "manifest.md#image-manifest-property-descriptions",
    "all of them, and Docker's names; others are refused with their number",
)
@pytest.mark.parametrize("media_type", NAMES_SUPPORTED_LAYERS)
def test_spec_043_a_known_kind_of_layer(media_type: str, place: Place) -> None:
    how: Any = next((one for one in ("gzip", "zstd") if media_type.endswith(one)), "none")
    tar = layer(file("a"))
    built = place.builder()
    one = built.layer(tar, how)
    one.descriptor["mediaType"] = media_type
    built.name(built.image([one], platform=AMD64))

    found = place.unpack(built)

    assert (found.sketch, found.warnings) == (TREE, "")
    assert one.blob == compress(tar, how)


def test_spec_043_all_that_must_be_known_is() -> None:
    oci = "application/vnd.oci.image.layer."
    assert {f"{oci}v1.tar", f"{oci}v1.tar+gzip", f"{oci}v1.tar+zstd"} <= set(NAMES_SUPPORTED_LAYERS)
    assert {f"{oci}nondistributable.v1.tar", f"{oci}nondistributable.v1.tar+gzip"} <= set(NAMES_SUPPORTED_LAYERS)
    assert {DOCKER["gzip"], "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"} <= set(NAMES_SUPPORTED_LAYERS)


@pytest.mark.parametrize(
    "media_type", [OCI["gzip"] + "+encrypted", "application/vnd.example", EMPTY["mediaType"], OCI["none"] + "+xz"]
)
def test_spec_043_an_unknown_kind_of_layer(media_type: str, place: Place) -> None:
    built = place.write(
        [file("a")], [file("b")], mutate={"manifest": lambda one: one["layers"][1].update(mediaType=media_type)}
    )

    error = place.refused(UnsupportedError, built)

    assert str(error) == f"layer 1 ({built.images[0].layers[1].digest}): unsupported media type {media_type}"
    assert "supported: " in told(error)


@rule(
    44,
    "MUST",
    "With the empty descriptor as config, `artifactType` is set.",
    "manifest.md#guidance-for-an-empty-descriptor",
    "an artifact is no image, whether its blob `{}` is there or embedded, and whatever its type",
)
@pytest.mark.parametrize("config", [EMPTY, {**EMPTY, "data": "e30="}], ids=["blob", "embedded"])
@pytest.mark.parametrize("more", [{"artifactType": "application/vnd.x"}, {}], ids=["type", "no-type"])
def test_spec_044_an_artifact_is_no_image(more: dict[str, object], config: object, place: Place) -> None:
    error = place.refused(UnsupportedError, artifact(place, config=config, **more), "v1")

    assert "is not a container image: unsupported config media type application/vnd.oci.empty.v1+json" in str(error)
    assert digest_of(b"{}") == EMPTY["digest"]


@rule(
    45,
    "MAY",
    "`subject` names another manifest, which need not be there.",
    "manifest.md#image-manifest-property-descriptions",
    "it must be a descriptor, and is not opened",
)
def test_spec_045_a_subject_that_is_not_there(place: Place) -> None:
    subject = {"mediaType": OCI["manifest"], "digest": "sha256:" + "0" * 64, "size": 1}

    assert place.unpack(changed(place, subject=subject)).sketch == TREE


@pytest.mark.parametrize("subject", [".nope", {}, [], {"mediaType": "x/y", "digest": "x", "size": 1}])
def test_spec_045_what_is_no_subject(subject: object, place: Place) -> None:
    assert place.refused(DocumentError, changed(place, subject=subject)).where.startswith("subject")


@rule(
    46,
    "open",
    "Older artifacts say what they are by their config's media type alone.",
    "manifest.md#guidelines-for-artifact-usage",
    "that type is what the error names; an `application/octet-stream` is an artifact, too",
)
@pytest.mark.parametrize("media_type", ["application/vnd.cncf.helm.config.v1+json", "application/octet-stream"])
def test_spec_046_an_older_artifact(media_type: str, place: Place) -> None:
    built = artifact(place, config={**EMPTY, "mediaType": media_type, "data": "e30="})

    assert f"unsupported config media type {media_type}" in str(place.refused(UnsupportedError, built, "v1"))


@rule(
    47,
    "MAY",
    "Docker's documents of schema 2 are the same under other names.",
    "media-types.md#compatibility-matrix",
    "read, also mixed with OCI's; schema 1 has no diff_ids and is refused",
)
def test_spec_047_the_same_image_under_dockers_names(place: Place) -> None:
    layers = ([file("a"), file("b")], [whiteout("b")])
    oci, docker = (
        place.unpack(place.write(*layers, nested=1)),
        place.unpack(place.write(*layers, nested=1, docker=True)),
    )

    assert oci.tree == docker.tree
    assert oci.report.chain_id == docker.report.chain_id is not None


def test_spec_047_dockers_layers_in_an_oci_manifest(place: Place) -> None:
    built = place.write([file("a")], mutate={"manifest": lambda one: one["layers"][0].update(mediaType=DOCKER["gzip"])})

    assert place.unpack(built).sketch == TREE


@pytest.mark.parametrize("suffix", ["json", "prettyjws"])
def test_spec_047_schema_1(suffix: str, place: Place) -> None:
    built = place.builder()
    media_type = f"application/vnd.docker.distribution.manifest.v1+{suffix}"
    built.name(built.blob(media_type, b'{"schemaVersion": 1, "fsLayers": []}'), "v1")

    error = place.refused(UnsupportedError, built, "v1")

    assert f"unsupported media type {media_type}" in str(error)
    assert status(error) == 5


def test_spec_047_schema_1_under_the_name_of_schema_2(place: Place) -> None:
    built = place.builder()
    built.name(built.blob(DOCKER["manifest"], b'{"schemaVersion": 1, "fsLayers": []}'), "v1")

    assert "unsupported document Docker schema 1" in str(place.refused(UnsupportedError, built, "v1"))


@rule(
    48,
    "SHOULD",
    "Where two media types differ, that of the descriptor is believed, if the digest is right.",
    "media-types.md#media-type-conflicts",
    "documents that say something else are refused, see 31 and 39; of layers the bytes decide, see 60",
)
def test_spec_048_the_descriptors_type_is_believed(place: Place) -> None:
    """A manifest without a type of its own is an index where the descriptor says so, and then it has no manifests."""
    built = place.builder()
    image = built.image([layer(file("a"))], platform=AMD64)
    bare = {key: value for key, value in image.manifest.items() if key != "mediaType"}
    built.name(built.blob(OCI["manifest"], json.dumps(bare).encode()), "manifest")
    built.name(built.blob(OCI["index"], json.dumps(bare).encode()), "index")

    assert place.unpack(built, "manifest").sketch == TREE
    assert place.refused(DocumentError, built, "index").where == "config"
    assert Image.open(f"{built.path}:manifest", AMD64).manifest().media_type is None
