"""Resolution: which image is meant, and what it is made of."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layoutbuild import REF_NAME, BuiltImage, LayoutBuilder, digest_of, write_layout
from unpacker.content.layout import Layout
from unpacker.errors import (
    AmbiguousReferenceError,
    BlobNotFoundError,
    DigestMismatchError,
    DocumentError,
    LayerCountError,
    LayoutNotFoundError,
    LimitError,
    PlatformNotFoundError,
    ReferenceNotFoundError,
    SizeMismatchError,
    UnsupportedError,
    UsageError,
)
from unpacker.events import Event, Warned
from unpacker.limits import DEFAULT, Limits
from unpacker.resolve import Reference, Resolution, resolve
from unpacker.spec.digest import Digest
from unpacker.spec.platforms import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from unpacker.spec.descriptor import Descriptor

FULL_NAME = "io.containerd.image.name"
OTHER = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Platform, "host", classmethod(lambda cls: cls("linux", "amd64")))


@pytest.fixture
def built(tmp_path: Path) -> LayoutBuilder:
    return LayoutBuilder(tmp_path / "layout")


class Found:
    """What came of a resolution, warnings included."""

    def __init__(
        self, built: LayoutBuilder, rest: str = "", platform: str | None = None, limits: Limits = DEFAULT
    ) -> None:
        self.events: list[Event] = []
        reference = Reference.parse(f"{built.path}{rest}")
        wanted = None if platform is None else Platform.parse(platform)
        self.image: Resolution = resolve(Layout.open(reference.layout), reference, wanted, limits, self.events.append)

    @property
    def manifest(self) -> str:
        return str(self.image.manifest_descriptor.digest)

    @property
    def target(self) -> str:
        return str(self.image.target.digest)

    @property
    def warnings(self) -> list[str]:
        assert all(isinstance(event, Warned) for event in self.events)
        return [event.message for event in self.events if isinstance(event, Warned)]


def tar(number: int) -> bytes:
    """Give layers that differ; nothing here looks into them."""
    return bytes([number]) * 512


def annotated(image: BuiltImage | dict[str, Any], **annotations: str) -> dict[str, Any]:
    descriptor = image.descriptor if isinstance(image, BuiltImage) else image
    return {**descriptor, "annotations": annotations}


# -- references --------------------------------------------------------------------------------------------------------

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dir", Reference("dir")),
        ("dir:v1", Reference("dir", "v1")),
        ("./dir:v1", Reference("./dir", "v1")),
        ("dir/:v1", Reference("dir/", "v1")),
        (f"dir@{DIGEST}", Reference("dir", None, DIGEST)),
        (f"dir:v1@{DIGEST}", Reference("dir", "v1", DIGEST)),
        ("dir:docker.io/library/x:1", Reference("dir", "docker.io/library/x:1")),
        ("dir:a@b", Reference("dir", "a@b")),
        (f"dir:@{DIGEST}", Reference("dir", f"@{DIGEST}")),
        ("dir:with space ü", Reference("dir", "with space ü")),
        ("dir:../../x", Reference("dir", "../../x")),
        ("co:lon", Reference("co:lon")),
        ("co:lon:v1", Reference("co:lon", "v1")),
        (f"co:lon@{DIGEST}", Reference("co:lon", None, DIGEST)),
        ("co:v1", Reference("co", "v1")),
        ("at@sign:v1", Reference("at@sign", "v1")),
        ("oci:dir", Reference("dir")),
        ("oci:dir:v1", Reference("dir", "v1")),
        ("file.tar", Reference("file.tar")),
        ("file.tar:v1", Reference("file.tar", "v1")),
        ("missing", Reference("missing")),
        ("missing:v1", Reference("missing")),
        (f"missing:v1@{DIGEST}", Reference("missing")),
        ("oci:missing:v1", Reference("missing")),
    ],
)
def test_a_reference_is_a_path_and_a_name(
    text: str, expected: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that exists wins over the split, and the longest one that is a directory over shorter ones."""
    monkeypatch.chdir(tmp_path)
    for name in ("dir", "co", "co:lon", "at@sign"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.tar").touch()
    assert Reference.parse(text) == expected


def test_a_directory_called_like_the_prefix_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oci").mkdir()
    (tmp_path / "dir").mkdir()
    assert Reference.parse("oci:dir") == Reference("oci", "dir")


@pytest.mark.parametrize("rest", [":", "@", "@v1", "@sha256:ab", f"@{str(DIGEST).upper()}", f"@{DIGEST}\n"])
def test_a_reference_that_cannot_be_read(rest: str, built: LayoutBuilder) -> None:
    with pytest.raises(UsageError) as raised:
        Reference.parse(f"{built.path}{rest}")
    assert raised.value.hint is not None


@pytest.mark.parametrize("text", ["", "oci:"])
def test_no_reference_at_all(text: str) -> None:
    with pytest.raises(UsageError, match="no layout given"):
        Reference.parse(text)


def test_an_odd_path_is_a_layout_that_is_not_there() -> None:
    for text in ("a\0b", "a\0b:v1", "x" * 10_000):
        with pytest.raises(LayoutNotFoundError):
            Layout.open(Reference.parse(text).layout)


# -- the image ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("nested", [0, 1, 3])
def test_an_image_is_its_documents_and_its_layers(tmp_path: Path, docker: bool, algorithm: str, nested: int) -> None:
    built = write_layout(
        tmp_path / "layout", [tar(1), tar(2)], docker=docker, algorithm=algorithm, nested=nested, compression="gzip"
    )
    image = built.images[0]
    found = Found(built, ":latest")

    assert found.manifest == image.digest
    assert str(found.image.config_descriptor.digest) == image.config_digest
    assert str(found.image.platform) == "linux/amd64"
    assert found.image.name == "latest"
    assert [layer.index for layer in found.image.layers] == [0, 1]
    assert [str(layer.diff_id) for layer in found.image.layers] == image.diff_ids
    assert [str(layer.descriptor.digest) for layer in found.image.layers] == [each.digest for each in image.layers]
    chain = digest_of(" ".join(image.diff_ids).encode())
    assert [str(layer.chain_id) for layer in found.image.layers] == [image.diff_ids[0], chain]
    assert found.warnings == []


@pytest.mark.parametrize("embed", [["config"], ["manifest"], ["config", "manifest", "layers"]])
def test_documents_may_be_embedded_in_their_descriptors(tmp_path: Path, embed: list[Any]) -> None:
    built = write_layout(tmp_path / "layout", [tar(1)], embed=embed)
    assert Found(built).manifest == built.images[0].digest


@pytest.mark.parametrize("empty", [[], None])
def test_an_image_may_have_no_layers(tmp_path: Path, empty: object) -> None:
    """As of docker build FROM scratch with nothing in it."""

    def manifest(document: dict[str, Any]) -> None:
        document["layers"] = empty

    def config(document: dict[str, Any]) -> None:
        document["rootfs"]["diff_ids"] = empty

    built = write_layout(tmp_path / "layout", [], mutate={"manifest": manifest, "config": config})
    assert Found(built).image.layers == ()


def test_layers_may_be_missing_from_the_layout(tmp_path: Path) -> None:
    """Whoever only wants to know the config does not need them."""
    built = write_layout(tmp_path / "layout", [tar(1)])
    built.remove(built.images[0].layers[0].digest)
    assert len(Found(built).image.layers) == 1


# -- by name -----------------------------------------------------------------------------------------------------------


def test_names_choose(built: LayoutBuilder) -> None:
    images = {
        name: built.image([tar(number)]) for number, name in enumerate(["v1", "v1.1", "docker.io/x/y:1@z", "é x"])
    }
    for name, image in images.items():
        built.name(image, name)
    for name, image in images.items():
        found = Found(built, f":{name}")
        assert (found.manifest, found.image.name) == (image.digest, name)


@pytest.mark.parametrize("name", ["v", "V1", "v1 ", "../../x", "v1.0"])
def test_a_name_that_is_not_there_is_an_error_that_lists_those_that_are(built: LayoutBuilder, name: str) -> None:
    built.name(built.image([tar(1)]), "v1")
    built.name(built.image([tar(2)]), "v2")
    with pytest.raises(ReferenceNotFoundError) as raised:
        Found(built, f":{name}")
    assert raised.value.reference == name
    assert raised.value.available == ("v1", "v2")


def test_the_only_image_needs_no_name(built: LayoutBuilder) -> None:
    built.name(built.image([tar(1)]), None)
    found = Found(built)
    assert found.image.name == found.manifest == built.images[0].digest


def test_no_name_for_several_images_is_an_error_even_if_one_is_the_latest(built: LayoutBuilder) -> None:
    built.name(built.image([tar(1)]), "v1")
    built.name(built.image([tar(2)]), "latest")
    unnamed = built.image([tar(3)])
    built.name(unnamed, None)
    with pytest.raises(AmbiguousReferenceError) as raised:
        Found(built)
    assert raised.value.available == ("v1", "latest", unnamed.digest)


def test_two_names_of_one_image_are_one_image(built: LayoutBuilder) -> None:
    image = built.image([tar(1)])
    for name in ("v1", "latest", None):
        built.name(image, name)
    found = Found(built)
    assert (found.manifest, found.image.name) == (image.digest, "v1")


def test_an_empty_layout_has_no_image(built: LayoutBuilder) -> None:
    with pytest.raises(ReferenceNotFoundError, match=r"no image$") as raised:
        Found(built)
    assert raised.value.hint == "the layout names no image"


@pytest.mark.parametrize("index_first", [True, False])
def test_manifests_beside_their_index_are_no_images_of_their_own(built: LayoutBuilder, *, index_first: bool) -> None:
    """Stores of oras list every manifest that they hold (oras-go #664)."""
    images = [built.image([tar(number)], platform=each) for number, each in enumerate(["linux/arm64", "linux/amd64"])]
    index = built.index(*images)
    entries: list[tuple[BuiltImage | dict[str, Any], str | None]] = [(image, None) for image in images]
    entries.insert(0 if index_first else 2, (index, "v1"))
    for entry, name in entries:
        built.name(entry, name)

    found = Found(built)

    assert (found.image.name, found.manifest) == ("v1", images[1].digest)
    built.name(images[0], "arm")
    with pytest.raises(AmbiguousReferenceError) as raised:
        Found(built)
    assert raised.value.available == ("v1", "arm"), "what has a name of its own may be meant"


def test_an_index_that_cannot_be_read_does_not_hide_that_there_are_several_images(built: LayoutBuilder) -> None:
    image = built.image([tar(1)])
    index = built.index(image)
    built.name(index, "v1")
    built.name(built.image([tar(2)]), "v2")
    built.blob_path(index["digest"]).write_bytes(b"{}")
    with pytest.raises(AmbiguousReferenceError):
        Found(built)


@pytest.mark.parametrize("kind", ["sigs", "atts", "sboms"])
def test_what_cosign_saves_beside_an_image_is_nobodys_choice(kind: str, built: LayoutBuilder) -> None:
    """Signatures have the config of an image; only the annotation tells."""
    image = built.image([tar(1)])
    built.name(annotated(built.image([tar(2)]), kind=f"dev.cosignproject.cosign/{kind}"), None)
    built.name(annotated(image, kind="dev.cosignproject.cosign/image"), None)

    assert Found(built).manifest == image.digest


def test_names_count_in_index_json_only(built: LayoutBuilder) -> None:
    inner = built.image([tar(1)])
    built.name(built.index(annotated(inner, **{REF_NAME: "inner"})), "outer")
    with pytest.raises(ReferenceNotFoundError):
        Found(built, ":inner")
    assert Found(built, f"@{inner.digest}").image.name == inner.digest


def test_full_names_are_names_too(built: LayoutBuilder) -> None:
    """As docker save writes them: the tag alone is the ref.name."""
    image = built.image([tar(1)])
    built.name(annotated(image, **{FULL_NAME: "docker.io/library/x:1", REF_NAME: "1"}), None)
    for rest in ("", ":1", ":docker.io/library/x:1"):
        assert Found(built, rest).manifest == image.digest
    assert Found(built, ":1").image.name == "1"


def test_one_tag_of_several_repositories_is_ambiguous(built: LayoutBuilder) -> None:
    images = {name: built.image([tar(number)]) for number, name in enumerate(["a", "b"])}
    for name, image in images.items():
        built.name(annotated(image, **{FULL_NAME: f"docker.io/library/{name}:latest", REF_NAME: "latest"}), None)
    for rest in ("", ":latest"):
        with pytest.raises(AmbiguousReferenceError) as raised:
            Found(built, rest)
        assert raised.value.available == ("docker.io/library/a:latest", "docker.io/library/b:latest")
    assert Found(built, ":docker.io/library/b:latest").manifest == images["b"].digest


def test_entries_that_are_no_images_are_nobodys_choice(built: LayoutBuilder) -> None:
    """Unknown media types, attestations and signatures may stand beside the image, before and after it."""
    unknown = built.blob("application/xml", b"<x/>")
    signature = {**built.image([tar(9)]).descriptor, "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json"}
    image = built.image([tar(1)])
    for entry in (unknown, signature, image, unknown):
        built.name(entry, None)
    assert Found(built).manifest == image.digest


def test_an_artifact_type_may_be_that_of_a_config(built: LayoutBuilder) -> None:
    image = built.image([tar(1)])
    built.name({**image.descriptor, "artifactType": "application/vnd.oci.image.config.v1+json"}, "v1")
    assert Found(built).manifest == image.digest


@pytest.mark.parametrize("media_type", ["application/xml", "application/vnd.docker.distribution.manifest.v1+prettyjws"])
@pytest.mark.parametrize("rest", ["", ":v1", "@"])
def test_what_is_no_manifest_is_unsupported_when_it_is_meant(built: LayoutBuilder, media_type: str, rest: str) -> None:
    descriptor = built.blob(media_type, b"<x/>")
    built.name(descriptor, "v1")
    with pytest.raises(UnsupportedError, match="unsupported media type") as raised:
        Found(built, f"@{descriptor['digest']}" if rest == "@" else rest)
    assert raised.value.found == media_type


# -- by digest ---------------------------------------------------------------------------------------------------------


def test_a_digest_names_a_manifest_or_an_index_wherever_it_is(built: LayoutBuilder) -> None:
    images = [
        built.image([tar(number)], platform=platform) for number, platform in enumerate(["linux/amd64", "linux/s390x"])
    ]
    inner = built.index(*images)
    outer = built.index(inner)
    built.name(built.image([tar(9)]), "v0")
    built.name(outer, "v1")

    for descriptor in (inner, outer):
        found = Found(built, f"@{descriptor['digest']}")
        assert (found.manifest, found.target) == (images[0].digest, descriptor["digest"])
    found = Found(built, f"@{images[1].digest}")
    assert (found.manifest, found.target) == (images[1].digest, images[1].digest)
    assert found.warnings == ["the image is for linux/s390x, this host is linux/amd64"]


def test_a_digest_that_is_not_there(built: LayoutBuilder) -> None:
    image = built.image([tar(1)])
    built.name(image, "v1")
    for digest in (OTHER, image.config_digest, image.layers[0].digest, "other:x"):
        with pytest.raises(ReferenceNotFoundError) as raised:
            Found(built, f"@{digest}")
        assert (raised.value.reference, raised.value.available) == (digest, (image.digest,))


def test_a_digest_beside_a_name_must_belong_to_it(built: LayoutBuilder) -> None:
    one, two = built.image([tar(1)]), built.image([tar(2)])
    built.name(built.index(one), "v1")
    built.name(two, "v2")
    assert Found(built, f":v1@{one.digest}").manifest == one.digest
    assert Found(built, f":v2@{two.digest}").image.name == "v2"
    with pytest.raises(ReferenceNotFoundError) as raised:
        Found(built, f":v1@{two.digest}")
    assert raised.value.reference == f"v1@{two.digest}"


def test_a_name_may_end_in_a_digest(built: LayoutBuilder) -> None:
    """As containerd calls what it pulled by digest; the digest may be another one, of the index that it was in."""
    image = built.image([tar(1)])
    built.name(image, f"docker.io/library/x@{OTHER}")
    built.name(built.image([tar(2)]), "v2")
    found = Found(built, f":docker.io/library/x@{OTHER}")
    assert (found.manifest, found.image.name) == (image.digest, f"docker.io/library/x@{OTHER}")


# -- by platform -------------------------------------------------------------------------------------------------------


def several(built: LayoutBuilder, *platforms: str | None) -> list[BuiltImage]:
    images = [built.image([tar(number)], platform=platform) for number, platform in enumerate(platforms)]
    built.name(built.index(*images), "v1")
    return images


def test_the_platform_chooses(built: LayoutBuilder) -> None:
    images = several(built, "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", "linux/amd64", "linux/386")
    expected = {
        None: 3,
        "linux/amd64": 3,
        "linux/arm64": 0,
        "linux/arm64/v8": 0,
        "linux/arm": 2,
        "linux/arm/v8": 2,
        "linux/arm/v6": 1,
        "linux/386": 4,
    }
    for platform, number in expected.items():
        found = Found(built, platform=platform)
        assert found.manifest == images[number].digest
        assert found.warnings == []
        assert found.target != found.manifest


def test_another_architecture_that_runs_is_used_with_a_warning(built: LayoutBuilder) -> None:
    images = several(built, "linux/arm/v7", "linux/s390x")
    found = Found(built, platform="linux/arm64")
    assert found.manifest == images[0].digest
    assert found.warnings == ["there is no image for linux/arm64, so the one for linux/arm/v7 is used"]


def test_no_match_is_an_error_that_lists_what_is_there(built: LayoutBuilder) -> None:
    several(built, "linux/arm64/v8", "linux/s390x", "linux/s390x", None)
    with pytest.raises(PlatformNotFoundError) as raised:
        Found(built, platform="linux/riscv64")
    assert raised.value.available == ("linux/arm64/v8", "linux/s390x", "linux/amd64")
    assert raised.value.platform == "linux/riscv64"


def test_the_first_of_equal_matches_wins(built: LayoutBuilder) -> None:
    images = several(built, "linux/s390x", "linux/amd64", "linux/amd64")
    assert Found(built).manifest == images[1].digest


def test_what_suits_better_wins_over_what_comes_first_also_across_indexes(built: LayoutBuilder) -> None:
    worse, better = built.image([tar(1)], platform="linux/386"), built.image([tar(2)], platform="linux/amd64")
    built.name(built.index(built.index(worse), built.index(better)), "v1")
    assert Found(built).manifest == better.digest


def test_the_only_image_is_used_with_a_warning_whatever_this_host_is(built: LayoutBuilder) -> None:
    image = several(built, "linux/s390x")[0]
    found = Found(built)
    assert found.manifest == image.digest
    assert found.warnings == ["the image is for linux/s390x, this host is linux/amd64"]


@pytest.mark.parametrize("in_index", [True, False])
@pytest.mark.parametrize("said", [True, False])
def test_the_only_image_is_not_used_if_another_platform_was_asked_for(
    built: LayoutBuilder, in_index: bool, said: bool
) -> None:
    image = built.image([tar(1)], platform="linux/s390x")
    if not said:
        del image.descriptor["platform"]
    built.name(built.index(image) if in_index else image, "v1")
    with pytest.raises(PlatformNotFoundError) as raised:
        Found(built, platform="linux/arm64")
    assert raised.value.available == ("linux/s390x",)
    assert Found(built, platform="linux/s390x").warnings == []


def test_attestations_are_never_chosen(built: LayoutBuilder) -> None:
    attestation = built.image([tar(9)], platform="unknown/unknown")
    marked = annotated(built.image([tar(8)]), **{"vnd.docker.reference.type": "attestation-manifest"})
    image = built.image([tar(1)], platform="linux/s390x")
    built.name(built.index(attestation, marked, image), "v1")
    assert Found(built).manifest == image.digest, "and leave the image the only one"
    with pytest.raises(PlatformNotFoundError) as raised:
        Found(built, platform="linux/amd64")
    assert raised.value.available == ("linux/s390x",)


def test_attestations_alone_are_no_image(built: LayoutBuilder) -> None:
    built.name(built.index(built.image([tar(9)], platform="unknown/unknown")), "v1")
    with pytest.raises(PlatformNotFoundError) as raised:
        Found(built)
    assert raised.value.hint == "the index has no image for any platform"


def test_entries_without_platform_are_asked_for_their_configs(built: LayoutBuilder) -> None:
    images = [built.image([tar(number)], platform=each) for number, each in enumerate(["linux/arm64", "linux/amd64"])]
    for image in images:
        del image.descriptor["platform"]
    built.name(built.index(*images), "v1")
    assert Found(built).manifest == images[1].digest
    assert Found(built, platform="linux/arm64").manifest == images[0].digest


def test_an_entry_that_says_its_platform_wins_over_one_that_does_not(built: LayoutBuilder) -> None:
    images = several(built, None, "linux/amd64")
    assert Found(built).manifest == images[1].digest


def test_an_entry_that_says_half_a_platform_is_asked_for_its_config(built: LayoutBuilder) -> None:
    images = [built.image([tar(number)], platform=each) for number, each in enumerate(["linux/arm64", "linux/amd64"])]
    images[1].descriptor["platform"] = {"os": "linux"}
    built.name(built.index(*images), "v1")
    assert Found(built).manifest == images[1].digest


def test_one_name_for_several_platforms_is_one_image(built: LayoutBuilder) -> None:
    images = [built.image([tar(number)], platform=each) for number, each in enumerate(["linux/arm64", "linux/amd64"])]
    for image in images:
        built.name(image, "v1")
    for rest in ("", ":v1"):
        assert Found(built, rest).manifest == images[1].digest
        assert Found(built, rest, platform="linux/arm64").manifest == images[0].digest
    with pytest.raises(PlatformNotFoundError, match=r"index.json: no manifest for platform linux/s390x"):
        Found(built, platform="linux/s390x")


def test_no_name_for_several_platforms_is_one_image_too(built: LayoutBuilder) -> None:
    images = [built.image([tar(number)], platform=each) for number, each in enumerate(["linux/arm64", "linux/amd64"])]
    for image in images:
        built.name(image, None)
    assert Found(built).manifest == images[1].digest
    built.name(built.image([tar(3)], platform="linux/amd64"), None)
    with pytest.raises(AmbiguousReferenceError):
        Found(built)


def test_a_layout_may_hold_one_platform_of_many(built: LayoutBuilder) -> None:
    images = several(built, "linux/arm64", "linux/amd64")
    built.remove(images[0].digest)
    assert Found(built).manifest == images[1].digest
    with pytest.raises(BlobNotFoundError) as raised:
        Found(built, platform="linux/arm64")
    assert raised.value.digest == images[0].digest


def test_a_missing_index_is_passed_over_if_it_is_not_needed(built: LayoutBuilder) -> None:
    image = built.image([tar(1)])
    missing = built.index(built.image([tar(2)], platform="linux/arm64"))
    built.name(built.index(missing, image), "v1")
    built.remove(missing["digest"])
    assert Found(built).manifest == image.digest
    with pytest.raises(BlobNotFoundError) as raised:
        Found(built, platform="linux/riscv64/x")
    assert raised.value.digest == missing["digest"]


def test_a_config_for_another_platform_than_its_index_says_is_a_warning(built: LayoutBuilder) -> None:
    image = built.image([tar(1)], platform="linux/arm64")
    image.descriptor["platform"] = {"os": "linux", "architecture": "amd64"}
    built.name(built.index(image), "v1")
    found = Found(built, platform="linux/amd64")
    assert str(found.image.platform) == "linux/arm64"
    assert found.warnings == [f"manifest {image.digest}: the index says linux/amd64, its config says linux/arm64"]


def test_a_config_that_leaves_out_the_variant_is_not_worth_a_warning(built: LayoutBuilder) -> None:
    image = built.image([tar(1)], platform="linux/arm")
    image.descriptor["platform"] = {"os": "linux", "architecture": "arm", "variant": "v6"}
    built.name(built.index(image), "v1")
    assert Found(built, platform="linux/arm/v6").warnings == []


@pytest.mark.parametrize("platform", [None, "linux/arm64"])
def test_an_image_that_says_nothing_is_used_with_a_warning(tmp_path: Path, platform: str | None) -> None:
    def config(document: dict[str, Any]) -> None:
        del document["architecture"]

    built = write_layout(tmp_path / "layout", [tar(1)], platform=None, mutate={"config": config})
    found = Found(built, platform=platform)
    assert str(found.image.platform) == "linux/unknown"
    assert len(found.warnings) == 1
    assert "does not say" in found.warnings[0]


# -- bombs -------------------------------------------------------------------------------------------------------------


def test_indexes_nest_up_to_the_limit(tmp_path: Path) -> None:
    assert Found(write_layout(tmp_path / "fits", [tar(1)], nested=8)).image.layers
    with pytest.raises(LimitError, match="indexes inside indexes: 9, more than the limit of 8"):
        Found(write_layout(tmp_path / "too deep", [tar(1)], nested=9))


def test_an_index_is_opened_once_however_often_it_is_met(built: LayoutBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these holds the one before ten times: a hundred million paths lead to one image."""
    image = built.image([tar(1)])
    member: Any = image
    for _ in range(8):
        member = built.index(*[member] * 10)
    built.name(member, "v1")
    opened: list[Digest] = []
    document = Layout.document

    def counted(self: Layout, descriptor: Descriptor, limits: Limits) -> bytes:
        opened.append(descriptor.digest)
        return document(self, descriptor, limits)

    monkeypatch.setattr(Layout, "document", counted)

    assert Found(built).manifest == image.digest
    assert len(opened) == 8 + 2


def test_descriptors_of_all_indexes_together_have_a_limit(built: LayoutBuilder) -> None:
    image = built.image([tar(1)])
    built.name(built.index(built.index(*[image] * 6), built.index(*[image] * 7)), "v1")
    assert Found(built, limits=Limits(index_manifests=16)).manifest == image.digest
    for rest in ("", f"@{OTHER}"):
        with pytest.raises(LimitError, match="descriptors so far: 16, more than the limit of 15"):
            Found(built, rest, limits=Limits(index_manifests=15))


def test_layers_have_a_limit(tmp_path: Path) -> None:
    built = write_layout(tmp_path / "layout", [tar(1), tar(2)])
    with pytest.raises(LimitError, match="2, more than the limit of 1"):
        Found(built, limits=Limits(layers=1))


# -- what is wrong with it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["index", "manifest", "config"])
def test_a_document_is_what_its_digest_says_or_an_error(tmp_path: Path, which: str) -> None:
    built = write_layout(tmp_path / "layout", [tar(1)], nested=1)
    digest = {
        "index": built.top["manifests"][0]["digest"],
        "manifest": built.images[0].digest,
        "config": built.images[0].config_digest,
    }[which]

    built.flip(digest, 5)
    with pytest.raises(DigestMismatchError) as mismatch:
        Found(built)
    assert mismatch.value.expected == digest
    assert mismatch.value.actual == digest_of(built.blob_path(digest).read_bytes())

    built.extend(digest)
    with pytest.raises(SizeMismatchError) as size:
        Found(built)
    assert size.value.digest == digest

    built.remove(digest)
    with pytest.raises(BlobNotFoundError) as missing:
        Found(built)
    assert (missing.value.digest, missing.value.path) == (digest, str(built.blob_path(digest)))


@pytest.mark.parametrize("name", ["index", "manifest", "config"])
def test_a_document_that_is_no_json_is_named_by_its_digest(built: LayoutBuilder, name: str) -> None:
    broken = built.blob(built.types[name], b'{"a": ')
    entry = broken
    if name == "config":
        content = {"schemaVersion": 2, "config": broken, "layers": []}
        entry = built.blob(built.types["manifest"], json.dumps(content).encode())
    built.name(entry, "v1")
    with pytest.raises(DocumentError, match="at byte offset 6") as raised:
        Found(built)
    assert raised.value.source == broken["digest"]


@pytest.mark.parametrize("layers", [1, 3])
def test_as_many_layers_as_diff_ids(tmp_path: Path, layers: int) -> None:
    def change(document: dict[str, Any]) -> None:
        document["layers"] = (document["layers"] * 2)[:layers]

    built = write_layout(tmp_path / "layout", [tar(1), tar(2)], mutate={"manifest": change})
    with pytest.raises(LayerCountError, match=f"{layers} layers, but its config has 2 diff_ids"):
        Found(built)


def test_history_does_not_matter(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["history"] = [{"created_by": "x"}] * 5

    assert Found(write_layout(tmp_path / "layout", [tar(1)], mutate={"config": change})).warnings == []


@pytest.mark.parametrize("media_type", ["application/vnd.example", "application/vnd.oci.empty.v1+json"])
def test_an_artifact_is_no_container_image(tmp_path: Path, media_type: str) -> None:
    def change(document: dict[str, Any]) -> None:
        document["config"]["mediaType"] = media_type

    built = write_layout(tmp_path / "layout", [tar(1)], mutate={"manifest": change})
    expected = f"is not a container image: unsupported config media type {media_type}"
    with pytest.raises(UnsupportedError, match=re.escape(expected)):
        Found(built)


def test_a_layer_of_an_unknown_kind_is_unsupported_by_number_and_digest(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["layers"][1]["mediaType"] = "application/vnd.example"

    built = write_layout(tmp_path / "layout", [tar(1), tar(2)], mutate={"manifest": change})
    digest = built.images[0].layers[1].digest
    with pytest.raises(UnsupportedError) as raised:
        Found(built)
    assert str(raised.value) == f"layer 1 ({digest}): unsupported media type application/vnd.example"
    assert raised.value.hint is not None
    assert "application/vnd.oci.image.layer.v1.tar+gzip" in raised.value.hint


@pytest.mark.parametrize("which", ["layer", "diff_id"])
def test_a_digest_that_cannot_be_checked_is_unsupported(tmp_path: Path, which: str) -> None:
    blake3 = "blake3:" + "a" * 64

    def manifest(document: dict[str, Any]) -> None:
        if which == "layer":
            document["layers"][0]["digest"] = blake3

    def config(document: dict[str, Any]) -> None:
        if which == "diff_id":
            document["rootfs"]["diff_ids"] = [blake3]

    built = write_layout(tmp_path / "layout", [tar(1)], mutate={"manifest": manifest, "config": config})
    with pytest.raises(UnsupportedError, match=f"digest {blake3}: unsupported digest algorithm blake3"):
        Found(built)


def test_a_digest_that_cannot_be_checked_may_stand_on_what_is_not_chosen(built: LayoutBuilder) -> None:
    image = built.image([tar(1)])
    other = {**image.descriptor, "digest": "blake3:" + "a" * 64, "platform": {"os": "linux", "architecture": "arm64"}}
    built.name(built.index(other, image), "v1")
    assert Found(built).manifest == image.digest
    with pytest.raises(UnsupportedError, match="digest algorithm blake3"):
        Found(built, platform="linux/arm64")


def test_a_rootfs_of_another_type_is_unsupported(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["rootfs"]["type"] = "base"

    built = write_layout(tmp_path / "layout", [tar(1)], mutate={"config": change})
    with pytest.raises(UnsupportedError, match=f"config {built.images[0].config_digest}: unsupported rootfs.type base"):
        Found(built)


def test_an_index_does_not_pass_as_a_manifest_nor_a_manifest_as_an_index(built: LayoutBuilder) -> None:
    image = built.image([tar(1)])
    index = built.index(image)
    types = built.types
    for entry, media_type in ((index, types["manifest"]), (image.descriptor, types["index"])):
        built.top["manifests"] = []
        built.name({**entry, "mediaType": media_type}, "v1")
        with pytest.raises(DocumentError, match="mediaType: expected"):
            Found(built)
