"""C: indexes, and which platform is chosen (image-index.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import AMD64, rule, status, told
from tests.support.layoutbuild import OCI, LayoutBuilder
from tests.support.tarbuild import file, layer
from unpacker.errors import DocumentError, LimitError, PlatformNotFoundError, ReferenceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.conformance.cases import Place

TREE = {"a": "file"}
MISSING = object()


def platform_of(text: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


def of_platforms(place: Place, *platforms: Mapping[str, object] | None, docker: bool = False) -> LayoutBuilder:
    """Write an index of images, the n-th of which holds the file ``n``; None is a descriptor without a platform."""
    built = place.builder(docker=docker)
    members = []
    for number, platform in enumerate(platforms):
        descriptor = dict(built.image([layer(file(str(number)))], platform=AMD64).descriptor, platform=platform)
        members.append({key: value for key, value in descriptor.items() if value is not None})
    built.name(built.index(*members))
    return built


def chosen(place: Place, built: LayoutBuilder, platform: str) -> str:
    return " ".join(place.unpack(built, platform=platform).sketch)


@rule(30, "MUST", "`schemaVersion` is 2.", "image-index.md#image-index-property-descriptions", "an integer, and there")
@pytest.mark.parametrize("value", [1, "2", 3, 2.0, True, None, MISSING])
@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize("name", ["index.json", "index"])
def test_spec_030_another_schema_version(name: Any, docker: bool, value: object, place: Place) -> None:
    def change(document: dict[str, Any]) -> None:
        document["schemaVersion"] = value
        if value is MISSING:
            del document["schemaVersion"]

    built = place.write([file("a")], nested=1, docker=docker, mutate={name: change})

    assert place.refused(DocumentError, built).where == "schemaVersion"


@rule(
    31,
    "MUST",
    "A `mediaType` in the document is that of an index.",
    "image-index.md#image-index-property-descriptions",
    "and that of its descriptor; a document that is index and manifest at once is neither (CVE-2021-41190)",
)
@pytest.mark.parametrize("name", ["index.json", "index"])
def test_spec_031_no_media_type(name: Any, place: Place) -> None:
    built = place.write([file("a")], nested=1, mutate={name: lambda document: document.pop("mediaType")})

    assert place.unpack(built).sketch == TREE


@pytest.mark.parametrize("media_type", [OCI["manifest"], OCI["config"], "application/json", 1])
@pytest.mark.parametrize("name", ["index.json", "index"])
def test_spec_031_another_media_type(name: Any, media_type: object, place: Place) -> None:
    built = place.write([file("a")], nested=1, mutate={name: lambda document: document.update(mediaType=media_type)})

    assert place.refused(DocumentError, built).where == "mediaType"


@pytest.mark.parametrize("field", ["layers", "config", "fsLayers"])
def test_spec_031_an_index_with_the_fields_of_a_manifest(field: str, place: Place) -> None:
    built = place.write([file("a")], nested=1, mutate={"index": lambda document: document.update({field: []})})

    error = place.refused(DocumentError, built)

    assert (error.where, error.source) == (field, built.top["manifests"][0]["digest"])


@rule(
    32,
    "MUST",
    "`manifests` is there; it may be empty.",
    "image-index.md#image-index-property-descriptions",
    "in index.json null is empty, too, as Docker 25.0.0 wrote it (moby#47210)",
)
@pytest.mark.parametrize("value", [[], None])
def test_spec_032_no_manifests(value: object, place: Place) -> None:
    built = place.write([file("a")], mutate={"index.json": lambda document: document.update(manifests=value)})

    assert told(place.refused(ReferenceNotFoundError, built)).endswith("(the layout names no image)")


@pytest.mark.parametrize("value", [MISSING, {}, "x"])
def test_spec_032_manifests_are_something_else(value: object, place: Place) -> None:
    def change(document: dict[str, Any]) -> None:
        document["manifests"] = value
        if value is MISSING:
            del document["manifests"]

    built = place.write([file("a")], nested=1, mutate={"index": change})

    assert place.refused(DocumentError, built).where == "manifests"


def test_spec_032_null_in_a_blob(place: Place) -> None:
    built = place.write([file("a")], nested=1, mutate={"index": lambda document: document.update(manifests=None)})

    assert place.refused(DocumentError, built).where == "manifests"


@rule(
    33,
    "SHOULD",
    "An index may hold indexes.",
    "image-index.md#image-index-property-descriptions",
    "8 deep, 10,000 descriptors, both options; one that is met again is not opened again",
)
@pytest.mark.parametrize("nested", [0, 1, 2, 7])
def test_spec_033_indexes_in_indexes(nested: int, place: Place) -> None:
    assert place.unpack(place.write([file("a")], nested=nested)).sketch == TREE


def test_spec_033_too_deep(place: Place) -> None:
    error = place.refused(LimitError, place.write([file("a")], nested=9))

    assert (error.limit, status(error)) == ("index_depth", 5)


def test_spec_033_many_ways_to_the_same(place: Place) -> None:
    """Each of seven indexes names the next one a hundred times: 10 ** 14 ways, were each gone."""
    built = place.builder()
    member: Any = built.image([layer(file("a"))], platform=AMD64)
    for _ in range(7):
        member = built.index(*[member] * 100)
    built.name(member)

    assert place.unpack(built).sketch == TREE


def test_spec_033_too_many(place: Place) -> None:
    built = place.builder()
    image = built.image([layer(file("a"))], platform="linux/arm64")
    built.name(built.index(*[image.descriptor] * 10_001))

    assert place.refused(LimitError, built).limit == "index_manifests"


@rule(
    34,
    "MUST",
    "A platform has `os` and `architecture`.",
    "image-index.md#image-index-property-descriptions",
    "one that has not says nothing, and the image's config is asked; other types are errors",
)
@pytest.mark.parametrize(
    "platform", [{"os": "linux"}, {"architecture": "arm64"}, {}, {"os": "", "architecture": "arm64"}]
)
def test_spec_034_half_a_platform(platform: dict[str, str], place: Place) -> None:
    built = of_platforms(place, platform_of("linux/arm64"), platform)

    assert chosen(place, built, AMD64) == "1"


@pytest.mark.parametrize("platform", [{"os": 1, "architecture": "amd64"}, {"os": "linux", "architecture": []}, "linux"])
def test_spec_034_no_platform_at_all(platform: Any, place: Place) -> None:
    assert "manifests[0].platform" in place.refused(DocumentError, of_platforms(place, platform)).where


@rule(
    35,
    "SHOULD",
    "`variant`, `os.version` and `os.features` say more; all features that are asked for must be there.",
    "image-index.md#platform-variants",
    "an image that asks for features, or for another build of Windows, is not chosen; `features` is not looked at",
)
@pytest.mark.parametrize(
    ("more", "asked", "found"),
    [
        ({"os": "linux", "architecture": "arm", "variant": "v6"}, "linux/arm/v6", True),
        ({"os": "linux", "architecture": "arm", "variant": "v8"}, "linux/arm/v7", False),
        ({"os": "linux", "architecture": "amd64", "variant": "v3"}, "linux/amd64/v3", True),
        ({"os": "linux", "architecture": "amd64", "variant": "v3"}, "linux/amd64", False),
        ({"os": "linux", "architecture": "ppc64le", "variant": "power9"}, "linux/ppc64le/power9", True),
        ({"os": "linux", "architecture": "riscv64", "variant": "rva22u64"}, "linux/riscv64", False),
        (
            {"os": "windows", "architecture": "amd64", "os.version": "10.0.14393.1066"},
            "windows(10.0.14393)/amd64",
            True,
        ),
        ({"os": "windows", "architecture": "amd64", "os.version": "10.0.17763.1"}, "windows(10.0.14393)/amd64", False),
        ({"os": "windows", "architecture": "amd64", "os.features": ["win32k"]}, "windows/amd64", False),
        ({"os": "linux", "architecture": "amd64", "features": ["sse4"]}, "linux/amd64", True),
    ],
)
def test_spec_035_what_a_platform_asks_for(more: dict[str, object], asked: str, found: bool, place: Place) -> None:
    built = of_platforms(place, platform_of("linux/s390x"), more)

    if found:
        assert chosen(place, built, asked) == "1"
    else:
        place.refused(PlatformNotFoundError, built, platform=asked)


@rule(
    36,
    "SHOULD",
    "Of several that match the first is taken.",
    "image-index.md#image-index-property-descriptions",
    "of several that suit equally; a machine's own variant is better than an older one it runs",
)
def test_spec_036_the_first_of_two(place: Place) -> None:
    built = of_platforms(place, platform_of("linux/arm64"), platform_of(AMD64), platform_of(AMD64))

    assert chosen(place, built, AMD64) == "1"


@pytest.mark.parametrize(
    ("offered", "asked"),
    [
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm/v7", "linux/arm"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm/v6", "linux/arm/v7"),
        ("linux/arm/v5", "linux/arm/v7"),
        ("Linux/AMD64", "linux/amd64"),
    ],
)
def test_spec_036_other_words_for_what_suits(offered: str, asked: str, place: Place) -> None:
    assert chosen(place, of_platforms(place, platform_of("linux/s390x"), platform_of(offered)), asked) == "1"


def test_spec_036_the_better_one_comes_later(place: Place) -> None:
    built = of_platforms(place, platform_of("linux/arm/v6"), platform_of("linux/arm/v7"))

    assert chosen(place, built, "linux/arm/v7") == "1"


@rule(
    37,
    "MAY",
    "A descriptor may have no platform.",
    "image-index.md#image-index-property-descriptions",
    "the image's config says it; attestations (`unknown/unknown`, or annotated as such) are never chosen",
)
def test_spec_037_the_config_is_asked(place: Place) -> None:
    built = of_platforms(place, platform_of("linux/arm64"), None)

    assert chosen(place, built, AMD64) == "1"


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("by", ["platform", "annotation"])
def test_spec_037_an_attestation(by: str, first: bool, place: Place) -> None:
    built = place.builder()
    image = built.image([layer(file("a"))], platform=AMD64).descriptor
    other = dict(built.image([layer(file("b"))], platform=AMD64).descriptor)
    if by == "platform":
        other["platform"] = {"os": "unknown", "architecture": "unknown"}
    else:
        other["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    built.name(built.index(*([other, image] if first else [image, other])))

    assert place.unpack(built).sketch == TREE


@rule(38, "open", "No image matches.", "image-index.md", "exit status 3, and the hint lists what there is")
def test_spec_038_another_platform(place: Place) -> None:
    built = of_platforms(place, platform_of("linux/arm64/v8"), platform_of("linux/arm/v7"))

    error = place.refused(PlatformNotFoundError, built, platform="linux/s390x")

    assert told(error) == (
        f"index {built.top['manifests'][0]['digest']}: no manifest for platform linux/s390x"
        " (the index has: linux/arm64/v8, linux/arm/v7; choose one with --platform)"
    )
    assert status(error) == 3
    assert chosen(place, built, "linux/arm64/v8") == "0"


def test_spec_038_subject_and_artifact_type_of_an_index(place: Place) -> None:
    more = {
        "artifactType": "application/vnd.x",
        "subject": {"mediaType": OCI["manifest"], "digest": "sha256:" + "0" * 64, "size": 2},
    }
    change: Callable[[dict[str, Any]], None] = lambda document: document.update(more)  # noqa: E731 -- one table of changes
    built = place.write([file("a")], nested=1, mutate={"index": change, "index.json": change})

    assert json.loads((built.path / "index.json").read_text())["artifactType"] == "application/vnd.x"
    assert place.unpack(built).sketch == TREE
