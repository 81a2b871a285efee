"""A: the layout on disk (image-layout.md)."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.conformance.cases import AMD64, rule, status, told
from tests.support.layoutbuild import OCI, REF_NAME, LayoutBuilder, digest_of
from tests.support.tarbuild import file, layer
from unpacker.errors import (
    AmbiguousReferenceError,
    BlobNotFoundError,
    DigestMismatchError,
    DocumentError,
    LayoutNotFoundError,
    ReferenceNotFoundError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.cases import Place

SHA = "sha256:" + "0" * 64


@rule(
    1,
    "MUST",
    "`oci-layout` is there, a JSON object with `imageLayoutVersion`; it may have other fields.",
    "image-layout.md#oci-layout-file",
    "as it says; the error names the file",
)
@pytest.mark.parametrize("text", ['{"imageLayoutVersion":"1.0.0","x":1}', ' {"imageLayoutVersion" : "1.0.0"}\n'])
def test_spec_001_oci_layout_may_have_other_fields(text: str, place: Place) -> None:
    built = place.write([file("a")])
    (built.path / "oci-layout").write_text(text)

    assert place.unpack(built).sketch == {"a": "file"}


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", '"1.0.0"', '{"imageLayoutVersion":1.0}', "imageLayoutVersion"])
def test_spec_001_oci_layout_that_is_none(text: str, place: Place) -> None:
    built = place.write([file("a")])
    (built.path / "oci-layout").write_text(text)

    assert str(built.path / "oci-layout") in str(place.refused(DocumentError, built))


def test_spec_001_oci_layout_is_missing(place: Place) -> None:
    built = place.write([file("a")])
    (built.path / "oci-layout").unlink()

    error = place.refused(LayoutNotFoundError, built)

    assert (str(error), status(error)) == (f"{built.path}: not an OCI image layout: no file oci-layout", 3)


@rule(2, "open", "There is one version of the layout, 1.0.0.", "image-layout.md#oci-layout-file", "others are refused")
@pytest.mark.parametrize("version", ["2.0.0", "1.0.1", "1.0", "", "v1.0.0"])
def test_spec_002_a_version_that_nobody_knows(version: str, place: Place) -> None:
    built = place.write([file("a")])
    (built.path / "oci-layout").write_text(json.dumps({"imageLayoutVersion": version}))

    error = place.refused(UnsupportedError, built)

    assert f"unsupported imageLayoutVersion {version}" in str(error)
    assert status(error) == 5


@rule(3, "MUST", "`index.json` is at the root, and an image index.", "image-layout.md#indexjson-file", "as it says")
@pytest.mark.parametrize("index", [None, "directory"])
def test_spec_003_index_json_is_missing(index: str | None, place: Place) -> None:
    built = place.write([file("a")])
    (built.path / "index.json").unlink()
    if index is not None:
        (built.path / "index.json").mkdir()

    assert "index.json" in str(place.refused(LayoutNotFoundError, built))


@pytest.mark.parametrize("what", ["manifest", "[]", "null", "text"])
def test_spec_003_index_json_is_something_else(what: str, place: Place) -> None:
    built = place.write([file("a")])
    text = json.dumps(built.images[0].manifest) if what == "manifest" else what
    (built.path / "index.json").write_text(text)

    assert str(built.path / "index.json") in str(place.refused(DocumentError, built))


@rule(
    4,
    "MUST",
    "`blobs` is there; it may be empty.",
    "image-layout.md#blobs",
    "as it says, also where every descriptor has its `data`",
)
def test_spec_004_blobs_may_be_empty(place: Place) -> None:
    assert told(place.refused(ReferenceNotFoundError, place.builder())).endswith("(the layout names no image)")


@pytest.mark.parametrize("embed", [(), ("config", "manifest", "layers")], ids=["blobs", "embedded"])
def test_spec_004_blobs_is_missing(embed: tuple[str, ...], place: Place) -> None:
    built = place.write([file("a")], embed=embed)
    (built.path / "blobs").rename(built.path / "away")

    assert "no directory blobs" in str(place.refused(LayoutNotFoundError, built))


@rule(5, "SHOULD", "Files that are not known are no error.", "image-layout.md#content", "they are not looked at")
def test_spec_005_unknown_files(place: Place) -> None:
    built = place.write([file("a")])
    for name in ("manifest.json", "repositories", "README", "ingest/x", "blobs/sha256/.tmp", "blobs/unknown/x"):
        (built.path / name).parent.mkdir(exist_ok=True)
        (built.path / name).write_text("not JSON")

    assert place.unpack(built).sketch == {"a": "file"}


@rule(
    6,
    "MUST",
    "A blob is `blobs/<algorithm>/<encoded>`, and has that digest.",
    "image-layout.md#blobs",
    "each is hashed as it is read; the error has both digests",
)
def test_spec_006_two_algorithms_side_by_side(place: Place) -> None:
    built = place.builder()
    (built.path / "blobs/sha512").mkdir()
    built.algorithm = "sha512"
    upper = built.layer(layer(file("b")))
    built.algorithm = "sha256"
    built.name(built.image([layer(file("a")), upper], platform=AMD64))

    assert place.unpack(built).sketch == {"a": "file", "b": "file"}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_spec_006_one_byte_is_another(what: str, algorithm: str, place: Place) -> None:
    built = place.write([file("a", b"x" * 4000)], algorithm=algorithm, compression="none")
    image = built.images[0]
    digest = {"manifest": image.digest, "config": image.config_digest, "layer": image.layers[0].digest}[what]
    built.flip(digest, 600 if what == "layer" else -1)

    error = place.refused(DigestMismatchError, built)

    got = digest_of(built.blob_path(digest).read_bytes(), algorithm)
    assert (error.expected, error.actual, status(error)) == (digest, got, 4)


@rule(
    7,
    "MAY",
    "Blobs that nothing names may be there, and blobs that are named may be missing.",
    "image-layout.md#blobs",
    "what is missing matters if it is needed; it is not called damaged",
)
def test_spec_007_only_the_wanted_platform_is_there(place: Place) -> None:
    built = place.builder()
    images = [built.image([layer(file(name))], platform=f"linux/{name}") for name in ("arm64", "amd64")]
    built.name(built.index(*images))
    built.blob("application/x", b"nobody's")
    for digest in (images[0].digest, images[0].config_digest, images[0].layers[0].digest):
        built.remove(digest)

    assert place.unpack(built).sketch == {"amd64": "file"}


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_spec_007_what_is_needed_is_missing(what: str, place: Place) -> None:
    built = place.write([file("a")])
    image = built.images[0]
    digest = {"manifest": image.digest, "config": image.config_digest, "layer": image.layers[0].digest}[what]
    built.remove(digest)

    error = place.refused(BlobNotFoundError, built)

    assert digest in str(error)
    assert str(built.blob_path(digest)) in str(error)
    assert status(error) == 3


@rule(
    8,
    "MUST",
    "An unknown media type in an index is no error.",
    "image-index.md#image-index-property-descriptions",
    "such an entry is passed over",
)
@pytest.mark.parametrize("nested", [False, True], ids=["index.json", "nested"])
@pytest.mark.parametrize("at", [0, 1, 2], ids=["first", "middle", "last"])
def test_spec_008_xml_among_the_manifests(at: int, nested: bool, place: Place) -> None:
    built = place.builder()
    members = [
        dict(built.image([layer(file(name))], platform=f"linux/{name}").descriptor) for name in ("arm64", "amd64")
    ]
    members.insert(at, {"mediaType": "application/xml", "digest": SHA, "size": 7143})
    for member in [built.index(*members)] if nested else members:
        built.name(member, "v1")

    assert place.unpack(built, "v1").sketch == {"amd64": "file"}


def test_spec_008_xml_alone_is_no_image(place: Place) -> None:
    built = place.builder()
    built.name({"mediaType": "application/xml", "digest": SHA, "size": 7143}, "v1")

    assert "unsupported media type application/xml" in str(place.refused(UnsupportedError, built, "v1"))


@rule(
    9,
    "SHOULD",
    "`org.opencontainers.image.ref.name` means something in `index.json` only.",
    "annotations.md#pre-defined-annotation-keys",
    "in nested indexes it is not looked at",
)
def test_spec_009_a_nested_name_is_none(place: Place) -> None:
    built = place.builder()
    inner = dict(built.image([layer(file("a"))], platform=AMD64).descriptor, annotations={REF_NAME: "v1"})
    built.name(built.index(inner), "outer")

    assert place.unpack(built, "outer").sketch == {"a": "file"}
    assert "'v1'" in str(place.refused(ReferenceNotFoundError, built, "v1"))


@rule(
    10,
    "open",
    "What a name looks like is not restricted.",
    "image-layout.md#indexjson-file",
    "names are compared byte by byte, and are never a path",
)
@pytest.mark.parametrize(
    "name", ["1.0", "docker.io/library/x:1", "a@b", "with blanks", "é", "e\u0301", "../../x", "/etc/passwd", "a:b:c"]
)
def test_spec_010_any_name(name: str, place: Place) -> None:
    built = place.write([file("a")], tag=name)

    assert place.unpack(built, name).report.name == name


@pytest.mark.parametrize("name", ["../../x", "../layout-1", "V1", "v1 ", "v", "sha256/x"])
def test_spec_010_a_name_that_is_not_there(name: str, place: Place) -> None:
    error = place.refused(ReferenceNotFoundError, place.write([file("a")], tag="v1"), name)

    assert told(error).endswith("(the layout has: v1)")


@rule(
    11,
    "open",
    "One name may stand at several descriptors.",
    "image-layout.md#indexjson-file",
    "they are one image for several platforms; without a reference there must be one image",
)
def test_spec_011_one_name_for_several_platforms(place: Place) -> None:
    built = place.builder()
    for name in ("arm64", "amd64"):
        built.name(built.image([layer(file(name))], platform=f"linux/{name}"), "v1")

    assert place.unpack(built, "v1").sketch == {"amd64": "file"}
    assert place.unpack(built, platform="linux/arm64").sketch == {"arm64": "file"}


def test_spec_011_one_image_under_several_names(place: Place) -> None:
    built = place.write([file("a")], tag="v1")
    built.name(built.images[0], "v2")

    assert place.unpack(built).sketch == {"a": "file"}


def test_spec_011_two_images_and_no_reference(place: Place) -> None:
    built = place.write([file("a")], tag="v1")
    built.name(built.image([layer(file("b"))], platform=AMD64), "v2")

    error = place.refused(AmbiguousReferenceError, built)

    assert told(error) == f"{built.path}: no reference given, and 2 images match (choose one of: v1, v2)"


NOT_FILES: dict[str, Callable[[str], object]] = {
    "symbolic link": lambda path: os.symlink("/etc/passwd", path),
    "link to a device": lambda path: os.symlink("/dev/zero", path),
    "fifo": os.mkfifo,
    "directory": os.mkdir,
}


@rule(
    12,
    "open",
    "What kind of file a blob is.",
    "image-layout.md#blobs",
    "only regular files are opened, links are not followed, at most one byte beyond the size is read",
)
@pytest.mark.parametrize("kind", NOT_FILES)
@pytest.mark.parametrize("what", ["manifest", "layer"])
def test_spec_012_a_blob_that_is_no_file(what: str, kind: str, place: Place) -> None:
    """A fifo would hang the reader, a device would feed it for ever."""
    built = place.write([file("a")])
    path = built.blob_path(built.images[0].digest if what == "manifest" else built.images[0].layers[0].digest)
    path.unlink()
    NOT_FILES[kind](str(path))

    error = place.refused(UnsupportedError, built)

    assert str(path) in str(error)
    assert f"file type {kind.replace('link to a device', 'symbolic link')}" in str(error)


def test_spec_012_a_link_to_a_good_blob_is_not_followed_either(place: Place) -> None:
    built = place.write([file("a")])
    path = built.blob_path(built.images[0].digest)
    path.rename(built.path / "aside")
    path.symlink_to(built.path / "aside")

    assert "symbolic link" in str(place.refused(UnsupportedError, built))


def test_spec_012_the_builder_writes_what_the_specification_says(place: Place) -> None:
    """What all these tests stand on: a layout that its own words describe."""
    built: LayoutBuilder = place.write([file("a")])

    assert json.loads((built.path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((built.path / "index.json").read_text())["mediaType"] == OCI["index"]
