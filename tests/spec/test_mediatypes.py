"""Media types: what is what."""

from __future__ import annotations

import pytest

from unpacker.spec import mediatypes

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker.image.rootfs"


@pytest.mark.parametrize(
    ("media_type", "compression", "uncompressed"),
    [
        (f"{OCI}.layer.v1.tar", "none", f"{OCI}.layer.v1.tar"),
        (f"{OCI}.layer.v1.tar+gzip", "gzip", f"{OCI}.layer.v1.tar"),
        (f"{OCI}.layer.v1.tar+zstd", "zstd", f"{OCI}.layer.v1.tar"),
        (f"{OCI}.layer.nondistributable.v1.tar", "none", f"{OCI}.layer.nondistributable.v1.tar"),
        (f"{OCI}.layer.nondistributable.v1.tar+gzip", "gzip", f"{OCI}.layer.nondistributable.v1.tar"),
        (f"{OCI}.layer.nondistributable.v1.tar+zstd", "zstd", f"{OCI}.layer.nondistributable.v1.tar"),
        (f"{DOCKER}.diff.tar", "none", f"{DOCKER}.diff.tar"),
        (f"{DOCKER}.diff.tar.gzip", "gzip", f"{DOCKER}.diff.tar"),
        (f"{DOCKER}.diff.tar.zstd", "zstd", f"{DOCKER}.diff.tar"),
        (f"{DOCKER}.foreign.diff.tar", "none", f"{DOCKER}.foreign.diff.tar"),
        (f"{DOCKER}.foreign.diff.tar.gzip", "gzip", f"{DOCKER}.foreign.diff.tar"),
    ],
)
def test_layers(media_type: str, compression: str, uncompressed: str) -> None:
    assert mediatypes.is_layer(media_type)
    assert mediatypes.layer_compression(media_type) == compression
    assert mediatypes.uncompressed(media_type) == uncompressed
    assert media_type in mediatypes.NAMES_SUPPORTED_LAYERS


@pytest.mark.parametrize(
    "media_type",
    [
        f"{OCI}.layer.v1.tar+gzip+encrypted",
        f"{OCI}.layer.v1.tar+xz",
        f"{OCI}.layer.v1.tar.gzip",
        f"{DOCKER}.diff.tar+gzip",
        "application/vnd.oci.empty.v1+json",
        "application/vnd.in-toto+json",
        "",
    ],
)
def test_what_is_no_layer(media_type: str) -> None:
    assert not mediatypes.is_layer(media_type)
    assert mediatypes.layer_compression(media_type) is None
    with pytest.raises(ValueError, match="not the media type of a layer"):
        mediatypes.uncompressed(media_type)


def test_documents_have_two_names_each() -> None:
    assert mediatypes.is_index(f"{OCI}.index.v1+json")
    assert mediatypes.is_index("application/vnd.docker.distribution.manifest.list.v2+json")
    assert mediatypes.is_manifest(f"{OCI}.manifest.v1+json")
    assert mediatypes.is_manifest("application/vnd.docker.distribution.manifest.v2+json")
    assert mediatypes.is_config(f"{OCI}.config.v1+json")
    assert mediatypes.is_config("application/vnd.docker.container.image.v1+json")
    assert not any(mediatypes.is_manifest(each) for each in mediatypes.INDEXES + mediatypes.SCHEMA1)


@pytest.mark.parametrize("media_type", ["a/b", "application/vnd.x+json", f"{'a' * 127}/{'b' * 127}"])
def test_the_grammar_of_rfc_6838(media_type: str) -> None:
    assert mediatypes.is_valid(media_type)


@pytest.mark.parametrize(
    "media_type", ["", "application", ".foo/bar", "foo/.bar", "a/b\n", "a/b; charset=x", f"{'a' * 128}/b", "a/b/c"]
)
def test_what_breaks_the_grammar(media_type: str) -> None:
    assert not mediatypes.is_valid(media_type)
