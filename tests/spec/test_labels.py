"""Labels: which can be kept, which may come from an image, and how field paths change them."""

from __future__ import annotations

import pytest

from unpacker.errors import UsageError
from unpacker.spec.labels import check, from_image, is_reserved, updated


@pytest.mark.parametrize(
    ("key", "value"),
    [("k", "v" * 4095), ("k" * 4096, ""), ("supercalifragilistic" * 10, "ü" * 1948), ("containerd.io/gc.root", "x")],
    ids=["long value", "long key", "bytes, not characters", "reserved"],
)
def test_labels_of_4096_bytes_can_be_kept(key: str, value: str) -> None:
    check({key: value})


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("k", "v" * 4096, "longer than 4096 bytes"),
        ("k" * 4097, "", "longer than 4096 bytes"),
        ("k" * 3000, "ü" * 549, "longer than 4096 bytes"),
        ("", "v", "its key is empty"),
        ("k", "\udc80", "not Unicode text"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_a_short_sentence(key: str, value: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        check({"fine": "x", key: value})
    assert len(str(raised.value)) < 200
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("containerd.io/gc.root", True),
        ("containerd.io/", True),
        ("io.cri-containerd", True),
        ("io.cri-containerd.image", True),
        ("containerd.iox", False),
        ("com.example/containerd.io/gc.root", False),
        ("CONTAINERD.IO/gc.root", False),
        ("org.opencontainers.image.title", False),
    ],
)
def test_reserved_names(key: str, expected: bool) -> None:
    assert is_reserved(key) is expected


def test_an_image_cannot_set_what_programs_act_on() -> None:
    """An annotation that becomes a label of containerd's can keep garbage, or have a program run (CVE-2026-53488)."""
    annotations = {
        "org.opencontainers.image.title": "fine",
        "containerd.io/gc.root": "for ever",
        "containerd.io/snapshot/overlayfs.remap": "0:0",
        "io.cri-containerd.image": "managed",
        "empty": "",
        "": "nameless",
        "long": "x" * 5000,
    }

    assert from_image(annotations) == {"org.opencontainers.image.title": "fine"}


OLD = {"a": "1", "b": "2", "c.d/e": "3"}


@pytest.mark.parametrize(
    ("new", "paths", "expected"),
    [
        ({"x": "y"}, (), {"x": "y"}),
        ({"x": "y", "a": ""}, (), {"x": "y"}),
        ({}, (), {}),
        ({"x": "y"}, ("labels",), {"x": "y"}),
        ({"a": "9", "x": "y"}, ("labels.a",), {**OLD, "a": "9"}),
        ({"a": "", "x": "y"}, ("labels.a",), {"b": "2", "c.d/e": "3"}),
        ({}, ("labels.a", "labels.never"), {"b": "2", "c.d/e": "3"}),
        ({"c.d/e": "9"}, ("labels.c.d/e", "labels.b"), {"a": "1", "c.d/e": "9"}),
        ({"a": "9"}, ("labels.a", "labels"), {"a": "9"}),
        ({"a": "9", "b": ""}, ("labels", "labels.b"), {"a": "9"}),
    ],
)
def test_field_paths_say_what_changes(new: dict[str, str], paths: tuple[str, ...], expected: dict[str, str]) -> None:
    assert updated(OLD, new, paths) == expected


@pytest.mark.parametrize("path", ["size", "digest", "", "labels.", "label.a", "Labels", "labelsx", "created"])
def test_nothing_but_labels_can_be_updated(path: str) -> None:
    with pytest.raises(UsageError, match=r"^field path '.*' cannot be updated$"):
        updated(OLD, {"a": "9"}, ("labels.a", path))


def test_an_update_keeps_the_limits() -> None:
    with pytest.raises(UsageError, match="longer than 4096 bytes"):
        updated(OLD, {"a": "9", "long": "x" * 5000}, ("labels.a",))
