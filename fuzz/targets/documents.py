"""Index, manifest and config: any document as each of them, and none of them as two (CVE-2021-41190)."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from fuzz.checks import check_refusal
from fuzz.mutators import json_document
from fuzz.target import Target
from tests.support.layoutbuild import DOCKER, OCI, digest_of
from unpacker.errors import DocumentError, LimitError, UnsupportedError
from unpacker.limits import Limits
from unpacker.spec.chain import chain_ids
from unpacker.spec.digest import Digest
from unpacker.spec.documents import Config, Index, Manifest
from unpacker.spec.mediatypes import is_valid
from unpacker.spec.platforms import Platform, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from unpacker.spec.descriptor import Descriptor

    T = TypeVar("T")

LIMITS = Limits(index_manifests=6, layers=6, document_depth=12)
_HOST = Platform("linux", "amd64")


def check(data: bytes) -> None:
    """Read a document as all three."""
    index = _attempt(lambda: Index.parse(data, "index", LIMITS))
    manifest = _attempt(lambda: Manifest.parse(data, "manifest", LIMITS))
    config = _attempt(lambda: Config.parse(data, "config", LIMITS))
    assert index is None or manifest is None, "one document as index and as manifest"
    document = json.loads(data) if index or manifest or config else {}
    if index is not None:
        assert index == Index.parse(data, "index", LIMITS, null_is_empty=True)
        assert len(index.manifests) == len(document["manifests"]) <= LIMITS.index_manifests
        for one, said in zip(index.manifests, document["manifests"], strict=True):
            _check_descriptor(one, said)
    if manifest is not None:
        assert len(manifest.layers) == len(document["layers"] or ()) <= LIMITS.layers
        _check_descriptor(manifest.config, document["config"])
        for one, said in zip(manifest.layers, document["layers"] or (), strict=True):
            _check_descriptor(one, said)
        if manifest.subject is not None:
            _check_descriptor(manifest.subject, document["subject"])
    if config is not None:
        assert config.raw == document
        assert [str(one) for one in config.diff_ids] == (document["rootfs"].get("diff_ids") or [])
        assert len(chain_ids(config.diff_ids)) == len(config.diff_ids) <= LIMITS.layers
        if config.platform is not None:
            _check_platform(config.platform)


def _attempt(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except (DocumentError, LimitError, UnsupportedError) as error:
        check_refusal(error)
        return None


def _check_descriptor(descriptor: Descriptor, said: dict[str, Any]) -> None:
    assert is_valid(descriptor.media_type)
    assert descriptor.media_type == said["mediaType"]
    assert 0 <= descriptor.size < 2**63
    assert descriptor.size == said["size"]
    assert str(descriptor.digest) == said["digest"]
    assert Digest.parse(said["digest"]) == descriptor.digest
    assert descriptor.data == (None if said.get("data") is None else b64decode(said["data"], validate=True))
    assert descriptor.annotations == (said.get("annotations") or {})
    if descriptor.platform is not None:
        _check_platform(descriptor.platform)


def _check_platform(platform: Platform) -> None:
    assert rank(platform, platform) == 0, platform
    rank(_HOST, platform)


def seeds() -> Iterator[bytes]:
    """Give each kind of document, OCI's and Docker's."""
    digest = digest_of(b"")
    for types in (OCI, DOCKER):
        layer = {"mediaType": types["gzip"], "digest": digest, "size": 0}
        yield json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": types["manifest"],
                "config": {"mediaType": types["config"], "digest": digest, "size": 2, "data": "e30="},
                "layers": [layer, {**layer, "urls": ["https://example.com/a"]}],
                "annotations": {"a": "b"},
            }
        ).encode()
        platform = {"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1.2", "os.features": ["x"]}
        member = {"mediaType": types["manifest"], "digest": digest, "size": 7, "platform": platform}
        yield json.dumps({"schemaVersion": 2, "mediaType": types["index"], "manifests": [member, member]}).encode()
    rootfs = {"type": "layers", "diff_ids": [digest, digest_of(b"a", "sha512")]}
    yield json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs, "config": {"Cmd": ["sh"]}}).encode()
    subject = {"mediaType": "a/b", "digest": "x:y", "size": 1, "artifactType": "a/c"}
    manifest = {"schemaVersion": 2, "config": subject, "layers": None, "subject": subject, "artifactType": "a/b"}
    yield json.dumps(manifest).encode()
    yield b'{"schemaVersion": 1, "fsLayers": []}'


TARGET = Target(check=check, seeds=seeds, mutate=json_document, longest=4000, words=(b"null", b'"fsLayers":[]'))
