"""Writes image layouts: tar archives become the layers of one image, compressed as tools do it by default."""

from __future__ import annotations

import hashlib
import json
import platform
import zlib
from typing import TYPE_CHECKING, Any, Protocol

import zstandard

from benchmarks.image import ARCHITECTURES, REF_NAME, TAG, Compression

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OCI = "application/vnd.oci.image"
SUFFIXES: dict[Compression, str] = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}
GZIP_LEVEL, ZSTD_LEVEL = 6, 3
"""What gzip, pigz and zstd take if they are told nothing."""
GZIP_WINDOW = 31
CHUNK = 1 << 20


class Compressor(Protocol):
    """What zlib and zstandard have in common."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Stored:
    """No compression."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def write_layout(
    layout: Path, tars: Sequence[Path], compression: Compression, config: dict[str, Any] | None = None
) -> None:
    """Write a layout with one image under the tag `TAG`.

    Args:
        layout: A directory to make.
        tars: The layers, base first.
        compression: How they are stored.
        config: The image's config, whose ``rootfs`` is replaced; a minimal one by default.
    """
    (layout / "blobs" / "sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    layers, diff_ids = [], []
    for tar in tars:
        descriptor, diff_id = _layer(layout, tar, compression)
        layers.append(descriptor)
        diff_ids.append(diff_id)
    machine = platform.machine()
    whole = config or {"os": "linux", "architecture": ARCHITECTURES.get(machine, machine)}
    whole["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": _document(layout, whole, f"{OCI}.config.v1+json"),
        "layers": layers,
    }
    top = _document(layout, manifest, f"{OCI}.manifest.v1+json") | {"annotations": {REF_NAME: TAG}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))


def _compressor(compression: Compression) -> Compressor:
    if compression == "gzip":
        return zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WINDOW)
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj() if compression == "zstd" else Stored()


def _layer(layout: Path, tar: Path, compression: Compression) -> tuple[dict[str, object], str]:
    """Store one layer; give its descriptor and its diff_id."""
    compressor = _compressor(compression)
    blob, diff, size = hashlib.sha256(), hashlib.sha256(), 0
    part = layout / "part"
    with tar.open("rb") as source, part.open("wb") as out:
        while chunk := source.read(CHUNK):
            diff.update(chunk)
            packed = compressor.compress(chunk)
            blob.update(packed)
            size += out.write(packed)
        packed = compressor.flush()
        blob.update(packed)
        size += out.write(packed)
    part.rename(layout / "blobs" / "sha256" / blob.hexdigest())
    media_type = f"{OCI}.layer.v1.tar{SUFFIXES[compression]}"
    descriptor = {"mediaType": media_type, "digest": f"sha256:{blob.hexdigest()}", "size": size}
    return descriptor, f"sha256:{diff.hexdigest()}"


def _document(layout: Path, document: object, media_type: str) -> dict[str, object]:
    """Store a JSON document; give its descriptor."""
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
