"""Descriptors: each property right, and each wrong in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unpacker.errors import DocumentError
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest
from unpacker.spec.platforms import Platform
from unpacker.spec.strictjson import load

EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
ABSENT = object()


def some(*values: object) -> tuple[object, ...]:
    return values


def parse(**changes: Any) -> Descriptor:
    properties = {"mediaType": "a/b", "digest": EMPTY, "size": 2, **changes}
    text = json.dumps({name: value for name, value in properties.items() if value is not ABSENT})
    return Descriptor.from_json(load(text.encode(), "x"))


def test_the_least_descriptor() -> None:
    assert parse() == Descriptor(media_type="a/b", digest=Digest.parse(EMPTY), size=2)


def test_a_descriptor_with_everything() -> None:
    found = parse(
        data="e30=",
        urls=["https://example.com/x"],
        annotations={"a": "", "b": "c"},
        platform={"os": "windows", "architecture": "amd64", "os.version": "10", "os.features": ["f"], "features": 1},
        artifactType="a/c",
        unknown={"x": 1},
    )
    assert found.data == b"{}"
    assert found.urls == ("https://example.com/x",)
    assert found.annotations == {"a": "", "b": "c"}
    assert found.platform == Platform("windows", "amd64", os_version="10", os_features=("f",))
    assert found.artifact_type == "a/c"


@pytest.mark.parametrize("name", ["data", "urls", "annotations", "platform", "artifactType"])
def test_null_is_absent_in_optional_properties(name: str) -> None:
    assert parse(**{name: None}) == parse()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("mediaType", value) for value in some(ABSENT, None, 1, "", "application", "foo/.bar")),
        *(
            ("digest", value)
            for value in some(ABSENT, None, 1, "", "sha256:", EMPTY.upper(), f"{EMPTY}\n", "sha256:../x")
        ),
        *(("size", value) for value in some(ABSENT, None, -1, "2", 2.0, True, 2**63)),
        *(("data", value) for value in some(1, [], "e30", "e30==", "e3 0=", "e30=\n", "_-==", "é", "=")),
        *(("urls", value) for value in some("x", [1], {})),
        *(("platform", value) for value in some("linux", [], {"os": 1, "architecture": "x"})),
        *(("artifactType", value) for value in some(1, "", "application", "application/", "a b/c", "a/b;c=d", "é/b")),
    ],
)
def test_a_wrong_property_is_refused_where_it_stands(name: str, value: object) -> None:
    with pytest.raises(DocumentError) as raised:
        parse(**{name: value})
    assert raised.value.where.startswith(name)


@pytest.mark.parametrize("value", [{"a": 1}, {"a": None}, ["a"], "a"])
def test_annotations_are_a_map_of_strings(value: object) -> None:
    with pytest.raises(DocumentError, match="annotations"):
        parse(annotations=value)


@pytest.mark.parametrize("size", [0, 2**63 - 1])
def test_the_range_of_sizes(size: int) -> None:
    assert parse(size=size).size == size


@pytest.mark.parametrize("platform", [{}, {"os": "linux"}, {"architecture": "amd64", "os": ""}, {"os": None}])
def test_a_platform_that_leaves_out_what_it_must_have_says_nothing(platform: object) -> None:
    assert parse(platform=platform).platform is None


def test_a_digest_of_an_unknown_algorithm_is_read() -> None:
    assert not parse(digest="multihash+base58:Qm").digest.supported
