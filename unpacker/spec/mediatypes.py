"""Media types of images, OCI's and Docker's schema 2 (media-types.md), which are two names for the same formats."""

from __future__ import annotations

import re

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"

INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
"""Docker's first manifest, which has neither a config nor diff_ids."""

# Media type of a layer -> that of the same layer uncompressed, and its compression.  The specification has no
# nondistributable layers with zstd in Docker's names, but BuildKit writes what the pattern suggests.
_LAYERS = {
    f"{base}{separator}{compression}" if compression != "none" else base: (base, compression)
    for base, separator in ((OCI_LAYER, "+"), (OCI_NONDISTRIBUTABLE, "+"), (DOCKER_LAYER, "."), (DOCKER_FOREIGN, "."))
    for compression in ("none", "gzip", "zstd")
}
NAMES_SUPPORTED_LAYERS = tuple(_LAYERS)

_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_GRAMMAR = re.compile(f"{_NAME}/{_NAME}")


def is_valid(media_type: str) -> bool:
    """Whether it is a media type at all (RFC 6838, section 4.2)."""
    return _GRAMMAR.fullmatch(media_type) is not None


def is_index(media_type: str) -> bool:
    """Whether it is an image index, or a manifest list."""
    return media_type in INDEXES


def is_manifest(media_type: str) -> bool:
    """Whether it is an image manifest."""
    return media_type in MANIFESTS


def is_config(media_type: str) -> bool:
    """Whether it is the config of a container image; any other one makes its manifest an artifact."""
    return media_type in CONFIGS


def is_layer(media_type: str) -> bool:
    """Whether it is a layer that can be unpacked."""
    return media_type in _LAYERS


def layer_compression(media_type: str) -> str | None:
    """Give ``none``, ``gzip`` or ``zstd`` as a layer's media type says; None if it is not a layer's."""
    found = _LAYERS.get(media_type)
    return None if found is None else found[1]


def uncompressed(media_type: str) -> str:
    """Give the media type of the same layer uncompressed.

    Raises:
        ValueError: It is not a layer's.
    """
    found = _LAYERS.get(media_type)
    if found is None:
        raise ValueError(f"{media_type} is not the media type of a layer")
    return found[0]
