"""The layout builder: whole layouts are consistent, damage is where it was asked for, other programs read them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from tests.support.layoutbuild import REF_NAME, LayoutBuilder, digest_of, write_layout
from tests.support.probes import needs_chown, needs_tool
from tests.support.tarbuild import directory, file, layer, whiteout
from tests.support.tree import read, sketch

if TYPE_CHECKING:
    from pathlib import Path

BASE = layer(directory("etc"), file("etc/issue", b"old"))
UPPER = layer(file("etc/motd", b"hi"), whiteout("etc/issue"))


def stored(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """Read a blob and check it against its descriptor."""
    algorithm, encoded = descriptor["digest"].split(":")
    if "data" in descriptor:
        data = base64.b64decode(descriptor["data"], validate=True)
    else:
        data = (layout / "blobs" / algorithm / encoded).read_bytes()
    assert hashlib.new(algorithm, data).hexdigest() == encoded
    assert len(data) == descriptor["size"]
    return data


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("nested", [0, 2])
@pytest.mark.parametrize("embed", [(), ("config", "manifest", "layers")])
def test_layouts_are_consistent(tmp_path: Path, docker: bool, algorithm: str, nested: int, embed: Any) -> None:
    """From index.json down, every descriptor has the right digest and size, and every diff_id is right."""
    built = write_layout(
        tmp_path / "layout",
        [BASE, UPPER],
        compression=["gzip", "zstd"],
        docker=docker,
        algorithm=algorithm,
        nested=nested,
        embed=embed,
        platform="linux/arm/v7",
    )
    (entry,) = json.loads((built.path / "index.json").read_bytes())["manifests"]
    assert entry["annotations"] == {REF_NAME: "latest"}
    for _ in range(nested):
        (entry,) = json.loads(stored(built.path, entry))["manifests"]
    assert entry["platform"] == {"os": "linux", "architecture": "arm", "variant": "v7"}
    manifest = json.loads(stored(built.path, entry))
    config = json.loads(stored(built.path, manifest["config"]))
    blobs = [stored(built.path, descriptor) for descriptor in manifest["layers"]]
    tars = [gzip.decompress(blobs[0]), zstandard.ZstdDecompressor().decompress(blobs[1])]
    assert tars == [BASE, UPPER]
    assert config["rootfs"]["diff_ids"] == [digest_of(tar, algorithm) for tar in tars] == built.images[0].diff_ids
    assert ("docker" in manifest["mediaType"]) == docker


def test_several_images(tmp_path: Path) -> None:
    """One index of two platforms that share a layer, and a second tag."""
    builder = LayoutBuilder(tmp_path / "layout")
    shared = builder.layer(BASE)
    images = [builder.image([shared], platform=f"linux/{name}") for name in ("amd64", "arm64")]
    builder.name(builder.index(*images), "all")
    builder.name(images[0], None)
    assert len({image.digest for image in images}) == 2
    assert [entry.get("annotations") for entry in builder.top["manifests"]] == [{REF_NAME: "all"}, None]
    assert len(list((builder.path / "blobs/sha256").iterdir())) == 1 + 2 * 2 + 1


def test_consistent_mutation(tmp_path: Path) -> None:
    """A document that is changed before it is stored has the digest of what it then is."""

    def swap(config: dict[str, Any]) -> None:
        config["rootfs"]["diff_ids"].reverse()

    built = write_layout(tmp_path / "layout", [BASE, UPPER], mutate={"config": swap})
    config = json.loads(stored(built.path, built.images[0].config_descriptor))
    assert config["rootfs"]["diff_ids"] == built.images[0].diff_ids[::-1]


def test_damage(tmp_path: Path) -> None:
    """Blobs change where they lie, under their old names."""
    built = write_layout(tmp_path / "layout", [BASE], compression="none")
    digest = built.images[0].layers[0].digest
    path = built.blob_path(digest)
    built.flip(digest, 0)
    assert path.read_bytes()[0] == BASE[0] ^ 0xFF
    built.truncate(digest, 10)
    assert path.stat().st_size == len(BASE) - 10
    built.extend(digest, b"x")
    assert path.stat().st_size == len(BASE) - 9
    built.remove(digest)
    assert not path.exists()


@needs_tool("umoci")
@needs_chown
def test_umoci_unpacks_it(tmp_path: Path) -> None:
    """A layout of ours is one to somebody else, too."""
    built = write_layout(tmp_path / "layout", [BASE, UPPER])
    rootfs = tmp_path / "rootfs"
    subprocess.run(
        ["umoci", "raw", "unpack", "--image", f"{built.path}:latest", str(rootfs)], check=True, capture_output=True
    )
    assert sketch(read(rootfs)) == {"etc": "directory", "etc/motd": "file hi"}
