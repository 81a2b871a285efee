"""Whole images of any documents: what the files of a layout say, all digests right, is unpacked or refused.

The input is one JSON object with a document for each of ``index.json``, an index, a manifest and a config.
``"@config"`` and the like stand for the digest, or the size, of what they name; the documents are stored from the
config upwards.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fuzz.arena import place, unpacked
from fuzz.checks import check_refusal
from fuzz.mutators import json_document
from fuzz.target import Target
from tests.support.layoutbuild import OCI, REF_NAME, compress, digest_of
from tests.support.tarbuild import file, layer
from unpacker.checks import check_blobs
from unpacker.content.disk import ContentStore
from unpacker.errors import UnpackError
from unpacker.image import Image
from unpacker.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = Limits(layers=5, index_manifests=8, index_depth=3)
_TAR = layer(file("a", b"1"))
_LAYER = compress(_TAR, "gzip")
_ORDER = ("config", "manifest", "index", "index.json")


def check(data: bytes) -> None:
    """Write a layout, find its image, unpack it, check it."""
    try:
        documents = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(documents, dict):
        return
    with place() as path:
        write(path / "layout", documents)
        source = str(path / "layout") + _text(documents, "reference")
        platform = _text(documents, "platform") or None
        got = unpacked(path, platform=platform, limits=LIMITS) if source.endswith("layout") else None
        try:
            image = Image.open(source, platform, limits=LIMITS)
        except UnpackError as error:
            check_refusal(error)
            assert got is None or type(got.error) is type(error), got
        else:
            found = image.resolution
            assert len(found.layers) == len(found.manifest.layers) == len(found.config.diff_ids) <= LIMITS.layers
            if got is not None and got.tree is not None:
                assert got.tree.keys() == {b".", b"a"} if image.resolution.layers else {b"."}
                assert got.report is not None
                assert got.report.layers == len(image.resolution.layers)
        _check_store(path / "layout")


def _check_store(path: Path) -> None:
    try:
        store = ContentStore(path)
        for found in check_blobs(store):
            assert found.blob is None, found
        store.names.all()
    except UnpackError as error:
        check_refusal(error)


def write(path: Path, documents: dict[str, Any]) -> None:
    """Write the files of a layout."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    known = {"@layer": (digest_of(_LAYER), len(_LAYER)), "@tar": (digest_of(_TAR), len(_TAR))}
    (blobs / known["@layer"][0].removeprefix("sha256:")).write_bytes(_LAYER)
    for name in _ORDER:
        text = json.dumps(_filled(documents.get(name), known)).encode()
        if name == "index.json":
            (path / name).write_bytes(text)
        else:
            known[f"@{name}"] = (digest_of(text), len(text))
            (blobs / known[f"@{name}"][0].removeprefix("sha256:")).write_bytes(text)
    (path / "oci-layout").write_text(json.dumps(documents.get("oci-layout", {"imageLayoutVersion": "1.0.0"})))


def _filled(document: Any, known: dict[str, tuple[str, int]]) -> Any:
    """Give a copy with what stands for digests and sizes replaced."""
    document = json.loads(json.dumps(document))
    top = [document]
    waiting: list[Any] = [top]
    while waiting:
        container = waiting.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            value = container[key]
            if isinstance(value, str) and value in known:
                container[key] = known[value][key == "size"]
            elif isinstance(value, dict | list):
                waiting.append(value)
    return top[0]


def _text(documents: dict[str, Any], key: str) -> str:
    """Give a word of the command line; a path of the user's own is shown as it is, so it has to be printable."""
    found = documents.get(key)
    return "".join(filter(str.isprintable, found)) if isinstance(found, str) else ""


def seeds() -> Iterator[bytes]:
    """Give images of some forms."""
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["@tar", "@tar"]}}
    layers = [{"mediaType": OCI["gzip"], "digest": "@layer", "size": "@layer"}] * 2
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI["manifest"],
        "config": {"mediaType": OCI["config"], "digest": "@config", "size": "@config"},
        "layers": layers,
    }
    platform = {"os": "linux", "architecture": "amd64"}
    to_manifest = {"mediaType": OCI["manifest"], "digest": "@manifest", "size": "@manifest"}
    to_index = {"mediaType": OCI["index"], "digest": "@index", "size": "@index"}
    index = {"schemaVersion": 2, "manifests": [{**to_manifest, "platform": platform}]}
    attestation = {"vnd.docker.reference.type": "attestation-manifest"}
    base = {"config": config, "manifest": manifest, "index": index}
    for top in (
        [to_manifest],
        [{**to_index, "annotations": {REF_NAME: "v1"}}],
        [{**to_manifest, "annotations": {REF_NAME: "v1"}}, {**to_manifest, "annotations": {REF_NAME: "v2"}}],
        [to_index, {**to_manifest, "annotations": attestation}],
    ):
        yield json.dumps({**base, "index.json": {"schemaVersion": 2, "manifests": top}}).encode()
    yield json.dumps({**base, "index.json": index, "reference": ":v1", "platform": "linux/arm64"}).encode()
    yield json.dumps({**base, "index.json": index, "reference": "@sha256:" + "0" * 64, "oci-layout": {}}).encode()


WORDS = (b'"@manifest"', b'"@config"', b'"@index"', b'"@layer"', b'"platform":', b'"reference":', b'"annotations":')

TARGET = Target(check=check, seeds=seeds, mutate=json_document, longest=6000, words=WORDS)
