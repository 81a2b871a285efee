"""B: descriptors, digests, and JSON at large (descriptor.md, considerations.md)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import AMD64, rule, status, told
from tests.support.layoutbuild import OCI, LayoutBuilder, digest_of
from tests.support.tarbuild import file, layer
from unpacker.content.disk import ContentStore
from unpacker.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    DocumentError,
    LimitError,
    SizeMismatchError,
    UnsupportedError,
    UsageError,
)
from unpacker.transfer import copy_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.cases import Place

MISSING = object()
SHA = "sha256:" + "0" * 64
TREE = {"a": "file"}


def with_layer(place: Place, **fields: object) -> LayoutBuilder:
    """Write an image whose second layer's descriptor has other fields; all digests are right."""

    def change(manifest: dict[str, Any]) -> None:
        descriptor = manifest["layers"][1]
        descriptor.update(fields)
        for name in [name for name, value in fields.items() if value is MISSING]:
            del descriptor[name]

    return place.write([file("a")], [file("b")], mutate={"manifest": change})


def with_other(place: Place, text: str) -> LayoutBuilder:
    """Write an image, and beside it in index.json a descriptor as it is given, raw."""
    built = place.write([file("a")])
    path = built.path / "index.json"
    path.write_text(path.read_text().replace('"manifests": [', f'"manifests": [{text}, '))
    return built


def descriptor(**fields: object) -> str:
    return json.dumps({"mediaType": "application/x", "digest": SHA, "size": 1, **fields})


def from_raw(place: Place, manifest: bytes, media_type: str = OCI["manifest"]) -> LayoutBuilder:
    """Name a manifest of these very bytes."""
    built = place.builder()
    built.name(built.blob(media_type, manifest))
    return built


# -- fields ------------------------------------------------------------------------------------------------------------


@rule(
    13,
    "MUST",
    "A descriptor has `mediaType`, `digest` and `size`.",
    "descriptor.md#properties",
    "the error has the place, such as `layers[1].size`",
)
@pytest.mark.parametrize("value", [MISSING, None, [], {}, True], ids=["missing", "null", "array", "object", "true"])
@pytest.mark.parametrize("name", ["mediaType", "digest", "size"])
def test_spec_013_a_required_field(name: str, value: object, place: Place) -> None:
    error = place.refused(DocumentError, with_layer(place, **{name: value}))

    assert (error.where, status(error)) == (f"layers[1].{name}", 4)


@rule(14, "MUST", "`mediaType` is that of RFC 6838.", "descriptor.md#properties", "looked at in every descriptor")
@pytest.mark.parametrize("media_type", ["a/b", "a" * 127 + "/" + "b" * 127, "application/x.y-z+json", "0/1!#$&^_.+-"])
def test_spec_014_a_media_type(media_type: str, place: Place) -> None:
    assert place.unpack(with_other(place, descriptor(mediaType=media_type))).sketch == TREE


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "application",
        ".foo/bar",
        "foo/.bar",
        "a/b/c",
        "a/",
        "/b",
        "a b/c",
        "a/b\n",
        "a" * 128 + "/b",
        "a/" + "b" * 128,
    ],
)
def test_spec_014_what_is_no_media_type(media_type: str, place: Place) -> None:
    assert place.refused(DocumentError, with_other(place, descriptor(mediaType=media_type))).where == (
        "manifests[0].mediaType"
    )


@rule(
    15,
    "MUST",
    "A digest is `algorithm:encoded`, in few characters.",
    "descriptor.md#digests",
    "one that is not never comes near a path (CVE-2024-3727)",
)
@pytest.mark.parametrize(
    "digest",
    [
        "sha256",
        ":ab",
        "sha256:",
        "SHA256:" + "0" * 64,
        "sha256+foo+-b:ab",
        "sha256:../../etc/passwd",
        "../sha256:ab",
        SHA + "\n",
        SHA + "\0",
        " " + SHA,
        "x:a/b",
        "sha256+b64u:a.b",
    ],
)
def test_spec_015_what_is_no_digest(digest: str, place: Place) -> None:
    error = place.refused(DocumentError, with_layer(place, digest=digest))

    assert error.where == "layers[1].digest"


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha256:ab", "sha256"])
def test_spec_015_a_reference_that_is_no_digest(digest: str, place: Place) -> None:
    built = place.write([file("a")])

    assert status(place.refused(UsageError, f"{built.path}@{digest}")) == 2


@rule(
    16,
    "MUST",
    "sha256 and blake3 have 64 lower-case hex digits, sha512 has 128.",
    "descriptor.md#registered-algorithms",
    "as it says, also where the blob is not needed",
)
@pytest.mark.parametrize("digest", [SHA, "sha512:" + "ab" * 64, "blake3:" + "0" * 64])
def test_spec_016_the_right_length(digest: str, place: Place) -> None:
    assert place.unpack(with_other(place, descriptor(digest=digest))).sketch == TREE


@pytest.mark.parametrize(
    "digest",
    ["sha256:" + "A" * 64, "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha512:" + "0" * 64, "blake3:" + "0" * 128],
)
def test_spec_016_another_length_or_case(digest: str, place: Place) -> None:
    error = place.refused(DocumentError, with_other(place, descriptor(digest=digest)))

    assert f"'{digest}'"[:60] in str(error)
    assert "lower-case hex digits" in str(error)


@rule(
    17,
    "MUST",
    "sha256 is implemented; sha512 and blake3 may be.",
    "descriptor.md#registered-algorithms",
    "sha256 and sha512; blake3 is refused, exit status 5: Python has none",
)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_spec_017_an_image_of_one_algorithm(algorithm: str, place: Place) -> None:
    assert place.unpack(place.write([file("a")], algorithm=algorithm)).sketch == TREE


@pytest.mark.parametrize("digest", ["blake3:" + "0" * 64, "sha384:" + "0" * 96, "md5:" + "0" * 32])
def test_spec_017_another_algorithm_is_needed(digest: str, place: Place) -> None:
    error = place.refused(UnsupportedError, with_layer(place, digest=digest))

    algorithm = digest.partition(":")[0]
    assert told(error) == f"digest {digest}: unsupported digest algorithm {algorithm} (supported: sha256, sha512)"
    assert status(error) == 5


@rule(
    18,
    "SHOULD",
    "An algorithm that is not known passes validation.",
    "descriptor.md#digests",
    "it matters if the blob is needed: unsupported, which is not the same as invalid",
)
@pytest.mark.parametrize(
    "digest", ["multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", "sha256+b64u:LCa0a="]
)
def test_spec_018_an_unknown_algorithm(digest: str, place: Place) -> None:
    assert place.unpack(with_other(place, descriptor(digest=digest))).sketch == TREE
    assert "unsupported digest algorithm" in str(place.refused(UnsupportedError, with_layer(place, digest=digest)))


@rule(19, "MAY", "The algorithms of one image may differ.", "descriptor.md#digests", "each digest for itself")
def test_spec_019_every_document_with_another_algorithm(place: Place) -> None:
    built = place.builder()
    (built.path / "blobs/sha512").mkdir()
    base = built.layer(layer(file("a")))
    built.algorithm = "sha512"
    upper = built.layer(layer(file("b")))
    image = built.image([base, upper], platform=AMD64)
    built.algorithm = "sha256"
    built.name(built.blob(OCI["manifest"], json.dumps(image.manifest).encode()))

    found = place.unpack(built)

    assert found.sketch == {"a": "file", "b": "file"}
    assert [one.partition(":")[0] for one in (image.config_digest, *image.diff_ids)] == ["sha512", "sha256", "sha512"]


@rule(
    20,
    "MUST",
    "`size` is a whole number from 0 to 2⁶³ - 1.",
    "descriptor.md#properties",
    "as it says: no strings, no fractions, no `true`",
)
@pytest.mark.parametrize("size", ["0", "9223372036854775807"])
def test_spec_020_a_size(size: str, place: Place) -> None:
    text = descriptor().replace('"size": 1', f'"size": {size}')

    assert place.unpack(with_other(place, text)).sketch == TREE


def test_spec_020_a_layer_of_no_bytes(place: Place) -> None:
    assert place.unpack(place.write([file("a")], b"", compression="none")).sketch == TREE


@pytest.mark.parametrize(
    "size", ["-1", '"7682"', "1.0", "1e3", "true", "null", "9223372036854775808", "1" + "0" * 5000, "-0.5", "[1]"]
)
def test_spec_020_what_is_no_size(size: str, place: Place) -> None:
    text = descriptor().replace('"size": 1', f'"size": {size}')

    assert "index.json" in str(place.refused(DocumentError, with_other(place, text)))


# -- what stands behind a descriptor -----------------------------------------------------------------------------------


@rule(
    21,
    "SHOULD",
    "The size is looked at before bytes are hashed.",
    "descriptor.md#verification",
    "before the first is read; a layer is at DEST only when all of it was right",
)
@pytest.mark.parametrize("by", [-7, -1, 1, 7])
def test_spec_021_another_size_with_the_right_bytes(by: int, place: Place) -> None:
    sizes = [built["size"] for built in place.write([file("a")], [file("b")]).images[0].manifest["layers"]]

    error = place.refused(SizeMismatchError, with_layer(place, size=sizes[1] + by))

    assert (error.expected, error.actual, error.more) == (sizes[1] + by, sizes[1], False)


@pytest.mark.parametrize("change", ["truncate", "extend"])
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_spec_021_another_size_of_the_file(what: str, change: str, place: Place) -> None:
    built = place.write([file("a")])
    image = built.images[0]
    digest = {"manifest": image.digest, "config": image.config_digest, "layer": image.layers[0].digest}[what]
    if change == "extend":
        built.extend(digest, bytes(7))
    else:
        built.truncate(digest, 7)

    error = place.refused(SizeMismatchError, built)

    assert (error.digest, error.actual - error.expected) == (digest, 7 if change == "extend" else -7)


@rule(
    22,
    "MUST",
    "`data` is padded base64 of the blob's own bytes; its digest and size should be verified.",
    "descriptor.md#embedded-content",
    "verified as a file would be, and used in its place; a file beside it is not read",
)
def test_spec_022_all_is_embedded(place: Place) -> None:
    built = place.write([file("a")], embed=("config", "manifest", "layers"))

    assert not list((built.path / "blobs/sha256").iterdir())
    assert place.unpack(built).sketch == TREE


def test_spec_022_the_data_is_right_and_the_file_is_not(place: Place) -> None:
    built = place.write([file("a")], embed=("manifest",))
    built.blob_path(built.images[0].digest).write_bytes(b"something else")

    assert place.unpack(built).sketch == TREE


@pytest.mark.parametrize("data", ["e30", "e3 0=", "e30=\n", "e30==", "_-0=", "e3-_", "=", "é30="], ids=ascii)
def test_spec_022_what_is_no_base64(data: str, place: Place) -> None:
    assert place.refused(DocumentError, with_layer(place, data=data)).where == "layers[1].data"


def test_spec_022_the_data_is_something_else(place: Place) -> None:
    """Though the file beside it would be right: whoever reads the one or the other must not see two images."""
    blob = place.write([file("a")], [file("b")]).images[0].layers[1].blob
    other = place.builder().blob("x/y", blob[:-1] + b"\xff", embed=True)["data"]

    assert place.refused(DigestMismatchError, with_layer(place, data=other)).expected == digest_of(blob)
    assert place.refused(SizeMismatchError, with_layer(place, data="e30=")).actual == 2


def test_spec_022_a_copy_embeds_nothing(place: Place) -> None:
    built = place.write([file("a")])
    copied = ContentStore(place.new("copy"), create=True)

    copy_image(ContentStore(built.path), copied, "latest")

    assert '"data"' not in (copied.path / "index.json").read_text()


@rule(
    23,
    "MAY",
    "`urls` say where else a blob could be had.",
    "descriptor.md#properties",
    "never fetched, and the error says so; credentials leaked to such places (CVE-2020-15157)",
)
def test_spec_023_urls_and_a_blob(place: Place) -> None:
    assert "b" in place.unpack(with_layer(place, urls=["https://example.com/x"]))


def test_spec_023_urls_and_no_blob(place: Place) -> None:
    built = with_layer(place, urls=["https://example.com/x"])
    digest = built.images[0].layers[1].digest
    built.remove(digest)

    error = place.refused(BlobNotFoundError, built)

    assert digest in str(error)
    assert "URLs, which are never fetched" in told(error)


@rule(
    24,
    "MUST",
    "Annotations are a map of strings; keys that are not known are no error.",
    "annotations.md#rules",
    "in descriptors, manifests and indexes",
)
@pytest.mark.parametrize("annotations", [{}, {"a.b": ""}, {"org.example.unknown": "x", "": "y"}, None])
def test_spec_024_annotations(annotations: object, place: Place) -> None:
    assert "b" in place.unpack(with_layer(place, annotations=annotations))


@pytest.mark.parametrize("annotations", [{"a": 1}, {"a": None}, {"a": {}}, [], "x"])
@pytest.mark.parametrize("where", ["descriptor", "manifest", "index.json"])
def test_spec_024_what_are_no_annotations(where: str, annotations: object, place: Place) -> None:
    if where == "descriptor":
        built = with_layer(place, annotations=annotations)
    else:
        name: Any = where
        built = place.write([file("a")], mutate={name: lambda document: document.update(annotations=annotations)})

    assert "annotations" in place.refused(DocumentError, built).where


@rule(
    25,
    "MUST",
    "An `artifactType` that is not known is no error.",
    "manifest.md#image-manifest-property-descriptions",
    "a media type (RFC 6838), and not looked at where an image was named; without a name it is not taken for one",
)
def test_spec_025_an_unknown_artifact_type(place: Place) -> None:
    built = place.write([file("a")], mutate={"manifest": lambda one: one.update(artifactType="application/vnd.x.y")})

    assert place.unpack(built).sketch == TREE
    assert "b" in place.unpack(with_layer(place, artifactType="application/vnd.example"))


@pytest.mark.parametrize("value", [1, "", "sbom", "application/", "application/x y", "application/x; charset=utf-8"])
def test_spec_025_an_artifact_type_that_is_no_media_type(value: object, place: Place) -> None:
    assert place.refused(DocumentError, with_layer(place, artifactType=value)).where == "layers[1].artifactType"
    built = place.write([file("a")], mutate={"manifest": lambda one: one.update(artifactType=value)})
    assert place.refused(DocumentError, built).where == "artifactType"


@rule(
    26,
    "MUST",
    "Properties that are not known are no error.",
    "considerations.md#extensibility",
    "passed over at every level; Docker's `platform` in a config's descriptor is one",
)
def test_spec_026_unknown_properties_everywhere(place: Place) -> None:
    more = {"foo": {}, "platform": {"os": "linux", "architecture": "amd64", "foo": 1}}

    def manifest(document: dict[str, Any]) -> None:
        document["foo"] = [1, None]
        for one in (document["config"], *document["layers"]):
            one.update(more)

    def config(document: dict[str, Any]) -> None:
        document.update(foo={"x": 1.5}, container_config={}, docker_version="1")
        document["rootfs"]["foo"] = document["config"]["Foo"] = {}

    def index(document: dict[str, Any]) -> None:
        document["foo"] = "x"
        for one in document["manifests"]:
            one.update(more)

    built = place.write(
        [file("a")], nested=1, mutate={"manifest": manifest, "config": config, "index": index, "index.json": index}
    )

    assert place.unpack(built).sketch == TREE


# -- JSON --------------------------------------------------------------------------------------------------------------

NOT_I_JSON: dict[str, Callable[[bytes], bytes]] = {
    "layers-twice": lambda data: data.replace(b'"layers":', b'"layers": [], "layers":'),
    "size-twice": lambda data: data.replace(b'"size":', b'"size": 1, "size":', 1),
    "nan": lambda data: data[:-1] + b', "x": NaN}',
    "infinity": lambda data: data[:-1] + b', "x": -Infinity}',
    "beyond-a-double": lambda data: data[:-1] + b', "x": 1e999}',
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "utf-32": lambda data: data.decode().encode("utf-32-le"),
    "mark": lambda data: b"\xef\xbb\xbf" + data,
    "latin-1": lambda data: data[:-1] + b', "x": "\xe9"}',
    "surrogate": lambda data: data[:-1] + rb', "x": "\ud800"}',
    "surrogate-bytes": lambda data: data[:-1] + b', "x": "\xed\xa0\x80"}',
    "trailing": lambda data: data + b"{}",
    "cut": lambda data: data[:-1],
    "comma": lambda data: data[:-1] + b",}",
    "comment": lambda data: b"// x\n" + data,
    "control": lambda data: data[:-1] + b', "x": "\n"}',
}


@rule(
    27,
    "MUST",
    "JSON is UTF-8, and no object has a name twice (I-JSON).",
    "considerations.md",
    "all of RFC 7493: Python's own reader takes the last of two names, NaN, and UTF-16",
)
@pytest.mark.parametrize("how", NOT_I_JSON)
@pytest.mark.parametrize("what", ["index.json", "manifest"])
def test_spec_027_what_is_no_i_json(what: str, how: str, place: Place) -> None:
    good = place.write([file("a")])
    change = NOT_I_JSON[how]
    if what == "manifest":
        built = from_raw(place, change(json.dumps(good.images[0].manifest).encode()))
    else:
        built = good
        path = built.path / "index.json"
        path.write_bytes(change(path.read_bytes()) if how != "layers-twice" else b'{"manifests":[],"manifests":[]}')

    error = place.refused(DocumentError, built)

    assert re.search(r"index\.json|sha256:[0-9a-f]{64}", str(error))


def test_spec_027_a_thousand_brackets(place: Place) -> None:
    built = from_raw(place, b'{"x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}")

    assert place.refused(LimitError, built).limit == "document_depth"


def test_spec_027_names_have_a_case(place: Place) -> None:
    """Go's reader takes ``Layers`` for ``layers``, so the two would see two images."""
    manifest = json.dumps(place.write([file("a")]).images[0].manifest).encode()

    error = place.refused(DocumentError, from_raw(place, manifest.replace(b'"layers"', b'"Layers"')))

    assert error.where == "layers"


@rule(
    28,
    "open",
    "How large a document may be.",
    "descriptor.md#verification",
    "8 MiB, an option; the declared size is looked at before anything is read (CVE-2023-25153)",
)
def test_spec_028_a_document_of_exabytes(place: Place) -> None:
    built = place.write([file("a")])
    path = built.path / "index.json"
    path.write_text(re.sub(r'"size": \d+', f'"size": {9 * 10**18}', path.read_text()))

    error = place.refused(LimitError, built)

    assert (error.limit, error.found, status(error)) == ("document_bytes", 9 * 10**18, 5)


def test_spec_028_a_large_index_json(place: Place) -> None:
    built = place.write([file("a")])
    with (built.path / "index.json").open("ab") as index:
        index.truncate(9 << 20)

    assert place.refused(LimitError, built).limit == "document_bytes"


@rule(
    29,
    "MUST",
    "Documents are kept byte by byte, or their digests would be others.",
    "considerations.md",
    "a copy into another layout has the same blobs, blanks and unknown properties included",
)
def test_spec_029_a_copy_is_the_same_bytes(place: Place) -> None:
    good = place.write([file("a")])
    manifest = json.dumps({**good.images[0].manifest, "x": {"z": 1, "a": 1.50}}, indent=3).encode() + b"\n\n"
    good.name(good.blob(OCI["manifest"], manifest), "odd")
    copied = ContentStore(place.new("copy"), create=True)

    copy_image(ContentStore(good.path), copied, "odd", AMD64)

    digest = digest_of(manifest).removeprefix("sha256:")
    assert (copied.path / "blobs/sha256" / digest).read_bytes() == manifest
    assert place.unpack(f"{copied.path}:odd").sketch == TREE
