"""Index, manifest and config: what is read, and which confusion is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unpacker.errors import DocumentError, LimitError, UnsupportedError
from unpacker.limits import Limits
from unpacker.spec.documents import Config, Index, Manifest
from unpacker.spec.mediatypes import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)
from unpacker.spec.platforms import Platform

DIGEST = "sha256:" + "a" * 64
ABSENT = object()


def descriptor(media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 5, **more}


def encode(base: dict[str, Any], changes: dict[str, Any]) -> bytes:
    return json.dumps({key: value for key, value in {**base, **changes}.items() if value is not ABSENT}).encode()


def index(changes: dict[str, Any], **options: Any) -> Index:
    base = {"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST)]}
    return Index.parse(encode(base, changes), DIGEST, **options)


def manifest(changes: dict[str, Any], **options: Any) -> Manifest:
    base = {"schemaVersion": 2, "config": descriptor(OCI_CONFIG), "layers": [descriptor(OCI_LAYER)]}
    return Manifest.parse(encode(base, changes), DIGEST, **options)


def config(changes: dict[str, Any], **options: Any) -> Config:
    base = {"os": "linux", "architecture": "arm", "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}
    return Config.parse(encode(base, changes), DIGEST, **options)


# -- index -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
def test_an_index(media_type: str) -> None:
    found = index({"mediaType": media_type, "annotations": {"a": "b"}, "new": 1}, media_type=media_type)

    assert [str(each.digest) for each in found.manifests] == [DIGEST]
    assert (found.media_type, found.annotations) == (media_type, {"a": "b"})
    assert index({}).media_type is None
    assert index({"manifests": []}).manifests == ()


@pytest.mark.parametrize("media_type", ["application/xml", "application/vnd.new+json", OCI_LAYER])
def test_an_index_may_hold_anything(media_type: str) -> None:
    entries = [descriptor(OCI_MANIFEST), descriptor(media_type)]
    assert len(index({"manifests": entries}).manifests) == 2


@pytest.mark.parametrize("version", [ABSENT, None, 1, 3, "2", 2.0, True])
def test_the_schema_version_is_2(version: object) -> None:
    for parse in (index, manifest):
        with pytest.raises(DocumentError, match="schemaVersion: expected the integer 2"):
            parse({"schemaVersion": version})


@pytest.mark.parametrize("manifests", [ABSENT, {}, "x", None])
def test_manifests_is_an_array(manifests: object) -> None:
    with pytest.raises(DocumentError, match="manifests: expected an array"):
        index({"manifests": manifests})


def test_null_manifests_are_none_where_that_is_asked_for() -> None:
    assert index({"manifests": None}, null_is_empty=True).manifests == ()
    with pytest.raises(DocumentError, match="manifests: expected an array, found nothing"):
        index({"manifests": ABSENT}, null_is_empty=True)


@pytest.mark.parametrize("name", ["config", "layers", "fsLayers"])
def test_an_index_that_could_pass_as_a_manifest_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match=f"{DIGEST}: {name}: expected no such field in an index"):
        index({name: []})


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, "application/vnd.new+json", 1])
def test_an_index_that_says_to_be_something_else_is_refused(media_type: object) -> None:
    with pytest.raises(DocumentError, match="mediaType: expected"):
        index({"mediaType": media_type})


def test_a_media_type_that_is_not_the_descriptors_is_refused_with_both() -> None:
    with pytest.raises(DocumentError) as raised:
        index({"mediaType": OCI_INDEX}, media_type=DOCKER_INDEX)
    assert (raised.value.expected, raised.value.found) == (DOCKER_INDEX, f"'{OCI_INDEX}'")
    with pytest.raises(DocumentError, match="mediaType"):
        manifest({"mediaType": OCI_INDEX}, media_type=OCI_MANIFEST)


def test_an_index_has_a_limit() -> None:
    with pytest.raises(LimitError, match="entries of manifests: 3, more than the limit of 2"):
        index({"manifests": [1, 2, 3]}, limits=Limits(index_manifests=2))


# -- manifest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_a_manifest(media_type: str) -> None:
    found = manifest({"mediaType": media_type, "annotations": None, "artifactType": "a/b"}, media_type=media_type)

    assert found.config.media_type == OCI_CONFIG
    assert [each.media_type for each in found.layers] == [OCI_LAYER]
    assert (found.media_type, found.artifact_type, found.subject) == (media_type, "a/b", None)


def test_a_manifest_may_have_no_layers() -> None:
    assert manifest({"layers": []}).layers == ()
    assert manifest({"layers": None}).layers == ()
    with pytest.raises(DocumentError, match="layers: expected an array, found nothing"):
        manifest({"layers": ABSENT})


def test_an_error_in_a_layer_has_its_place() -> None:
    layers = [descriptor(OCI_LAYER), descriptor(OCI_LAYER), descriptor(OCI_LAYER, size=-1)]
    with pytest.raises(DocumentError, match=r": layers\[2\].size: expected an integer from 0 to .*, found -1"):
        manifest({"layers": layers})


def test_a_manifest_that_could_pass_as_an_index_is_refused() -> None:
    with pytest.raises(DocumentError, match="manifests: expected no such field in a manifest, found an array"):
        manifest({"manifests": []})


@pytest.mark.parametrize("changes", [{"config": ABSENT}, {"config": None}, {"config": {}}, {"subject": ".nope"}])
def test_a_broken_manifest_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        manifest(changes)


def test_a_subject_is_read() -> None:
    found = manifest({"subject": descriptor(OCI_MANIFEST)}).subject
    assert found is not None
    assert found.media_type == OCI_MANIFEST


def test_dockers_schema_1_is_unsupported_by_name() -> None:
    with pytest.raises(UnsupportedError, match="unsupported document Docker schema 1"):
        manifest({"schemaVersion": 1, "fsLayers": [], "config": ABSENT, "layers": ABSENT})


def test_layers_have_a_limit() -> None:
    with pytest.raises(LimitError, match="entries of layers"):
        manifest({"layers": [1, 2, 3]}, limits=Limits(layers=2))


# -- config ------------------------------------------------------------------------------------------------------------


def test_a_config() -> None:
    found = config({"variant": "v6", "os.version": "1", "os.features": ["x"], "new": 1})

    assert [str(each) for each in found.diff_ids] == [DIGEST]
    assert found.platform == Platform("linux", "arm", "v6", "1", ("x",))
    assert found.raw["new"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"Env": ["no equals sign", 7], "Volumes": [], "ExposedPorts": 5, "User": {}}},
        {"config": "x", "history": 5, "created": 1, "author": []},
        {"config": None, "history": None, "created": None, "variant": None, "os.features": None},
    ],
)
def test_what_only_matters_to_a_running_container_does_not_matter(changes: dict[str, Any]) -> None:
    assert len(config(changes).diff_ids) == 1


@pytest.mark.parametrize("rootfs", [{"type": "layers"}, {"type": "layers", "diff_ids": None}])
def test_an_image_without_layers_may_leave_out_its_diff_ids(rootfs: object) -> None:
    assert config({"rootfs": rootfs}).diff_ids == ()


@pytest.mark.parametrize("changes", [{"os": ABSENT}, {"architecture": ""}, {"architecture": None}])
def test_a_config_may_not_say_what_it_is_for(changes: dict[str, Any]) -> None:
    assert config(changes).platform is None


def test_another_type_of_rootfs_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match=f"config {DIGEST}: unsupported rootfs.type base"):
        config({"rootfs": {"type": "base", "diff_ids": []}})


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"rootfs": ABSENT}, "rootfs"),
        ({"rootfs": None}, "rootfs"),
        ({"rootfs": {"diff_ids": []}}, "rootfs.type"),
        ({"rootfs": {"type": None}}, "rootfs.type"),
        ({"rootfs": {"type": "layers", "diff_ids": {}}}, "rootfs.diff_ids"),
        ({"rootfs": {"type": "layers", "diff_ids": [DIGEST, "x"]}}, "rootfs.diff_ids[1]"),
        ({"os": 1}, "os"),
        ({"architecture": []}, "architecture"),
    ],
)
def test_a_broken_config_is_refused_where_it_is_broken(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(DocumentError) as raised:
        config(changes)
    assert raised.value.where == where


def test_diff_ids_have_a_limit() -> None:
    with pytest.raises(LimitError, match=r"entries of rootfs\.diff_ids"):
        config({"rootfs": {"type": "layers", "diff_ids": [DIGEST] * 3}}, limits=Limits(layers=2))
