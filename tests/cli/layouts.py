"""A layout on disk, written by hand: what `list`, `config` and `verify` read."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

OCI = "application/vnd.oci.image"
REF_NAME = "org.opencontainers.image.ref.name"

# A tar archive needs no more than its end to be read through.
EMPTY_TAR = bytes(10240)


@dataclass
class LayoutOnDisk:
    """Writes blobs and the index of a layout."""

    path: Path
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.path / "blobs/sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, media_type: str, data: bytes) -> dict[str, Any]:
        """Store a blob; give its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def document(self, kind: str, **content: Any) -> dict[str, Any]:
        """Store a JSON document."""
        return self.blob(f"{OCI}.{kind}.v1+json", json.dumps({"schemaVersion": 2, **content}).encode())

    def image(self, architecture: str, *tars: bytes) -> dict[str, Any]:
        """Store an image; give its manifest's descriptor."""
        layers = [self.blob(f"{OCI}.layer.v1.tar+gzip", gzip.compress(tar, mtime=0)) for tar in tars]
        diff_ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
        config = self.document(
            "config", os="linux", architecture=architecture, rootfs={"type": "layers", "diff_ids": diff_ids}
        )
        return self.document("manifest", mediaType=f"{OCI}.manifest.v1+json", config=config, layers=layers)

    def index(self, *manifests: dict[str, Any]) -> dict[str, Any]:
        """Store an index of images; give its descriptor."""
        return self.document("index", mediaType=f"{OCI}.index.v1+json", manifests=list(manifests))

    def name(self, descriptor: dict[str, Any], name: str | None = None) -> None:
        """Put an image into the layout's index."""
        annotations = {} if name is None else {"annotations": {REF_NAME: name}}
        self.manifests.append({**descriptor, **annotations})
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.manifests}))

    def blob_path(self, descriptor: dict[str, Any]) -> Path:
        """Give the file of a blob."""
        return self.path / "blobs" / str(descriptor["digest"]).replace(":", "/")

    def read(self, descriptor: dict[str, Any]) -> Any:
        """Read a document back."""
        return json.loads(self.blob_path(descriptor).read_bytes())


def on_platform(descriptor: dict[str, Any], architecture: str) -> dict[str, Any]:
    """Give a descriptor that says what it is for."""
    return {**descriptor, "platform": {"os": "linux", "architecture": architecture}}
