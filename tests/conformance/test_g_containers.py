"""G: what layouts come in, and what programs write into them."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import AMD64, rule, status, told
from tests.support.layoutbuild import REF_NAME, LayoutBuilder
from tests.support.tarbuild import file, layer
from unpacker.cli import unpack_main
from unpacker.errors import (
    AmbiguousReferenceError,
    BlobNotFoundError,
    LayerCountError,
    LayoutNotFoundError,
    ReferenceNotFoundError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.cases import Place

TREE = {"a": "file"}
NAME = "docker.io/library/app:1.0"


def archive(place: Place, source: Path, order: int = 1, prefix: str = "") -> str:
    """Put a directory into a tar, its members in one order or the other."""
    made = place.new("archive")
    with tarfile.open(made, "w") as tar:
        for path in sorted(source.rglob("*"))[::order]:
            tar.add(path, prefix + str(path.relative_to(source)), recursive=False)
    return str(made)


def as_docker_saves(place: Place) -> LayoutBuilder:
    """Write what `docker save` of version 25 and later writes, extracted: a layout, and the older form's manifest.json."""
    built = place.builder()
    image = dict(built.image([layer(file("a"))], "none", platform=AMD64).descriptor)
    image["annotations"] = {"io.containerd.image.name": NAME, REF_NAME: "1.0"}
    built.name(image, None)
    config, tar = (
        digest.replace(":", "/") for digest in (built.images[0].config_digest, built.images[0].layers[0].digest)
    )
    older = [{"Config": f"blobs/{config}", "RepoTags": [NAME], "Layers": [f"blobs/{tar}"]}]
    (built.path / "manifest.json").write_text(json.dumps(older))
    (built.path / "repositories").write_text("{}")
    return built


@rule(
    84,
    "open",
    "A layout in a tar archive (`oci-archive`).",
    "containers/image",
    "**not read**: refused, exit status 3, with the advice to extract it",
)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_spec_084_an_archive_of_a_layout(
    prefix: str, order: int, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive(place, place.write([file("a")]).path, order, prefix)

    assert status(place.refused(LayoutNotFoundError, path)) == 3
    assert unpack_main([path, str(place.path / "dest")]) == 3
    assert capsys.readouterr().err == (
        f"unpack: error: {path}: not an OCI image layout: it is a file; an archive of a layout must be extracted first\n"
    )


@rule(
    85,
    "open",
    "`docker save` before version 25: `manifest.json`, and layers as `ID/layer.tar` or links to them.",
    "moby",
    "**not read**: refused, exit status 3, and called what it is",
)
def test_spec_085_dockers_older_format(place: Place) -> None:
    old = place.new("old")
    (old / "0123").mkdir(parents=True)
    (old / "0123/layer.tar").write_bytes(layer(file("a")))
    (old / "4567").symlink_to("0123")
    (old / "manifest.json").write_text('[{"Config":"89ab.json","RepoTags":null,"Layers":["0123/layer.tar"]}]')

    error = place.refused(LayoutNotFoundError, str(old))

    assert str(error).endswith("no file oci-layout; manifest.json alone is docker save's older format")
    assert "must be extracted" in str(place.refused(LayoutNotFoundError, archive(place, old)))


@rule(
    86,
    "open",
    "`docker save` since version 25: a layout and `manifest.json` in one.",
    "moby#44598",
    "the layout is read, under both of its names; manifest.json is not looked at, so broken saves are errors",
)
@pytest.mark.parametrize("name", [None, NAME, "1.0"])
def test_spec_086_what_docker_saves(name: str | None, place: Place) -> None:
    assert place.unpack(as_docker_saves(place), name).sketch == TREE


def test_spec_086_two_images_with_one_tag(place: Place) -> None:
    """Docker's ref.name is the tag alone, so it does not say which."""
    built = as_docker_saves(place)
    other = dict(built.image([layer(file("b"))], platform=AMD64).descriptor)
    other["annotations"] = {"io.containerd.image.name": "docker.io/library/other:1.0", REF_NAME: "1.0"}
    built.name(other, None)

    assert place.unpack(built, NAME).sketch == TREE
    assert place.unpack(built, "docker.io/library/other:1.0").sketch == {"b": "file"}
    assert "2 images match" in str(place.refused(AmbiguousReferenceError, built, "1.0"))


def test_spec_086_broken_saves(place: Place) -> None:
    """moby#47065: no layers in the manifest; moby#47210: no manifests; moby#49473: no layers among the blobs."""
    manifest: dict[str, Any] = {"manifest": lambda document: document.update(layers=[])}
    top: dict[str, Any] = {"index.json": lambda document: document.update(manifests=None)}
    gone = as_docker_saves(place)
    gone.remove(gone.images[0].layers[0].digest)

    assert "0 layers, but its config has 1 diff_ids" in str(
        place.refused(LayerCountError, place.write([file("a")], mutate=manifest))
    )
    assert "names no image" in told(place.refused(ReferenceNotFoundError, place.write([file("a")], mutate=top)))
    assert status(place.refused(BlobNotFoundError, gone)) == 3


@rule(
    87,
    "open",
    "skopeo and podman write as a name whatever they were given.",
    "containers/image",
    "any text is a name; podman's `docker-archive` is not read, as 85",
)
@pytest.mark.parametrize("tag", ["latest", "docker.io/library/app:1.0", "v1@x", "a:b", "", None])
def test_spec_087_names_of_skopeo(tag: str | None, place: Place) -> None:
    built = place.write([file("a")], tag=tag)

    assert place.unpack(built, tag or None).sketch == TREE
    assert place.unpack(built).sketch == TREE


def test_spec_087_podmans_archive(place: Place) -> None:
    """manifest.json comes last there, and layers are named by their digest."""
    old = place.new("old")
    old.mkdir()
    digest = place.builder().layer(layer(file("a"))).diff_id.removeprefix("sha256:")
    (old / f"{digest}.tar").write_bytes(layer(file("a")))
    (old / "manifest.json").write_text(json.dumps([{"Config": "x.json", "Layers": [f"{digest}.tar"]}]))

    assert "must be extracted" in str(place.refused(LayoutNotFoundError, archive(place, old)))
