"""The image under test: found in its layout, copied to a private one, its layers decompressed beforehand.

The copy holds this one image under the tag `TAG`, so that no contender has to choose, and none writes into the
original.  Documents are trusted here: what a damaged layout does to ``unpack`` is a matter for its tests.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

TAG = "bench"
END = 4 * 512
"""Bytes that hold the end marker, two blocks of zeros, whatever padding is missing before."""
REF_NAME = "org.opencontainers.image.ref.name"
Compression = Literal["none", "gzip", "zstd"]
MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class NoImageError(Exception):
    """The layout does not hold the image that was asked for, or more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer, as it is stored and as what it decompresses to."""

    media_type: str
    compression: Compression
    blob: Path
    ended: Path
    """The blob for programs that want an archive to end in its marker: itself, or a copy with one appended."""
    tar: Path
    """That, decompressed."""
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that is ready to be unpacked by anything."""

    reference: str
    manifest: str
    layout: Path
    layers: tuple[Layer, ...]

    @property
    def compressions(self) -> set[Compression]:
        return {layer.compression for layer in self.layers}

    @property
    def blob_bytes(self) -> int:
        return sum(layer.blob.stat().st_size for layer in self.layers)

    @property
    def tar_bytes(self) -> int:
        return sum(layer.tar.stat().st_size for layer in self.layers)

    @property
    def entries(self) -> int:
        return sum(layer.entries for layer in self.layers)

    def facts(self) -> dict[str, object]:
        return {
            "reference": self.reference,
            "manifest": self.manifest,
            "layers": len(self.layers),
            "entries": self.entries,
            "blob_bytes": self.blob_bytes,
            "tar_bytes": self.tar_bytes,
            "media_types": sorted({layer.media_type for layer in self.layers}),
        }


def prepare(reference: str, directory: Path) -> Image:
    """Copy one image, and its layers decompressed, into an empty directory.

    Args:
        reference: ``LAYOUT`` or ``LAYOUT:TAG``.
        directory: Where it goes: ``layout/`` and ``tars/``.
    """
    source, tag = split_reference(reference)
    descriptor = _choose(source, _document(source / "index.json")["manifests"], tag)
    layout, tars = directory / "layout", directory / "tars"
    tars.mkdir()
    manifest = _document(_blob(source, descriptor["digest"]))
    for one in (descriptor, manifest["config"], *manifest["layers"]):
        target = _blob(layout, one["digest"])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_blob(source, one["digest"]), target)
    top = {**descriptor, "annotations": {REF_NAME: TAG}}
    shutil.copyfile(source / "oci-layout", layout / "oci-layout")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    layers = tuple(
        _layer(_blob(layout, one["digest"]), one["mediaType"], tars / f"{number}.tar")
        for number, one in enumerate(manifest["layers"])
    )
    return Image(reference=reference, manifest=descriptor["digest"], layout=layout, layers=layers)


def split_reference(reference: str) -> tuple[Path, str | None]:
    """Split ``LAYOUT[:TAG]``; a colon in the name of a directory that is there is part of it."""
    if Path(reference).is_dir() or ":" not in reference:
        return Path(reference), None
    layout, _, tag = reference.rpartition(":")
    return Path(layout), tag


def _layer(blob: Path, media_type: str, tar: Path) -> Layer:
    with blob.open("rb") as stream:
        compression = MAGIC.get(stream.read(2), "none")
    ended = blob
    _decompress(compression, blob, tar)
    listed = _list(tar)
    if listed.returncode:
        # umoci insert writes neither the marker nor the last padding.  What is compressed can be continued.
        ended = tar.with_suffix(".blob")
        ended.write_bytes(blob.read_bytes() + _compressed(compression, bytes(END)))
        tar.unlink()
        _decompress(compression, ended, tar)
        listed = _list(tar)
        listed.check_returncode()
    entries = listed.stdout.count(b"\n")  # tar escapes line ends in names: one line is one entry
    return Layer(media_type=media_type, compression=compression, blob=blob, ended=ended, tar=tar, entries=entries)


def _list(tar: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["tar", "-tf", str(tar)], capture_output=True, check=False)


def _decompress(compression: Compression, blob: Path, tar: Path) -> None:
    if compression == "none":
        tar.symlink_to(blob)
        return
    with tar.open("wb") as out:
        subprocess.run([*decompressor(compression), str(blob)], stdout=out, check=True)


def _compressed(compression: Compression, data: bytes) -> bytes:
    if compression == "gzip":
        return gzip.compress(data)
    if compression == "none":
        return data
    return subprocess.run(["zstd", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def decompressor(compression: Compression) -> list[str]:
    """Give the command that decompresses to standard output, the file to be added; the fastest that is installed."""
    programs = {"none": ["cat"], "gzip": ["igzip", "pigz", "gzip"], "zstd": ["zstd"]}[compression]
    found = next((program for program in programs if shutil.which(program)), None)
    if found is None:
        raise NoImageError(f"a {compression} layer, and no program to decompress it: {', '.join(programs)}")
    return [found] if found == "cat" else [found, "-dc"]


def _choose(layout: Path, descriptors: list[dict[str, Any]], tag: str | None) -> dict[str, Any]:
    """Follow a tag to one manifest, through indexes in indexes, for this machine."""
    tags = [one.get("annotations", {}).get(REF_NAME) for one in descriptors]
    named = [one for one, name in zip(descriptors, tags, strict=True) if tag in (None, name)]
    if len(named) != 1:
        raise NoImageError(
            f"{layout}: {len(named)} images to choose from, expected one; the layout has the tags {tags}"
        )
    descriptor = named[0]
    while "manifests" in (document := _document(_blob(layout, descriptor["digest"]))):
        members = document["manifests"]
        here = [one for one in members if _is_here(one.get("platform", {}))]
        if not here:
            raise NoImageError(f"{layout}: nothing for {os.uname().machine} in {descriptor['digest']}")
        descriptor = here[0]
    return descriptor


def _is_here(platform: dict[str, str]) -> bool:
    machine = os.uname().machine
    wanted = ARCHITECTURES.get(machine, machine)
    return platform.get("os", "linux") == "linux" and platform.get("architecture", wanted) == wanted


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, encoded = digest.partition(":")
    return layout / "blobs" / algorithm / encoded


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document
