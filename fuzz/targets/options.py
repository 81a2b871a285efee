"""What users write: references, maps of ids, limits, names of images.  It is read, or refused in one line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.scratch import scratch
from fuzz.target import Target
from unpacker.cli.options import limits
from unpacker.content.names import check_name
from unpacker.errors import UsageError
from unpacker.resolve import Reference
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest
from unpacker.spec.labels import updated
from unpacker.tree.owners import IdMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMELESS = Descriptor(media_type="a/b", digest=Digest("x", "y"), size=0)


def check(data: bytes) -> None:
    """Let the first byte say what the others are."""
    text = data[1:].decode("utf-8", "surrogateescape")
    try:
        _CHECKS[data[0] % len(_CHECKS) if data else 0](text)
    except UsageError as error:
        check_refusal(error)


def _check_reference(text: str) -> None:
    layout = str(scratch("references") / "layout")
    os.makedirs(layout, exist_ok=True)
    for one in (text, f"{layout}{text}"):
        reference = Reference.parse(one)
        assert one.removeprefix("oci:").startswith(reference.layout) or one.startswith(reference.layout)
        if reference.digest is not None:
            assert one.endswith(f"@{reference.digest}")
        if reference.tag is not None:
            assert f":{reference.tag}" in one
        again = Reference.parse(f"{layout}:{reference.name}") if reference.tag else reference
        assert (again.tag, again.digest) == (reference.tag, reference.digest)


def _check_id_map(text: str) -> None:
    found = IdMap.parse(text)
    assert found.size > 0
    assert 0 <= found.container < found.container + found.size <= 2**32 - 1
    assert 0 <= found.host < found.host + found.size <= 2**32 - 1
    assert IdMap.parse(f"{found.container}:{found.host}:{found.size}") == found


def _check_limits(text: str) -> None:
    found = limits(text.split(","))
    assert all(value > 0 for value in vars(found).values())
    said = [f"{name}={value}" for name, value in vars(found).items()]
    if max(vars(found).values()) < 10**18:  # more digits than that are not read, and units give more
        assert limits(said) == found


def _check_image_name(text: str) -> None:
    check_name(text, [_NAMELESS])
    assert text.isascii()
    assert text.isprintable()
    assert 0 < len(text) <= 4096


def _check_labels(text: str) -> None:
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    paths = [part[1:] for part in text.split(",") if part.startswith("!")]
    changed = updated({"a": "b"}, pairs, paths)
    assert all(changed.values())
    assert updated({"a": "b"}, changed, []) == changed


_CHECKS: tuple[Callable[[str], None], ...] = (
    _check_reference,
    _check_id_map,
    _check_limits,
    _check_image_name,
    _check_labels,
)


def seeds() -> Iterator[bytes]:
    """Give texts for each, right and wrong."""
    digest = "sha256:" + "0" * 64
    examples = (
        ("", ":v1", f"@{digest}", f":v1@{digest}", "oci:x:y", ":a@b", ":", "@sha256:", f":a@{digest}@{digest}"),
        ("0:100000:65536", "0:0", "1:2:3:4", "4294967295:0", "0:0:0", "1" * 250 + ":0"),
        ("layers=3,entries=20G", "layer-bytes=1t", "x=1", "layers", "layers=0", "layers=-1"),
        ("docker.io/library/debian:12", "a__b", "/", "a" * 250, "é"),
        ("a=b,c=", "a=1,!labels.a", "!labels,b=1", "!x", "=1"),
    )
    for number, texts in enumerate(examples):
        for text in texts:
            yield bytes([number]) + text.encode()


WORDS = (b"sha256:", b"oci:", b"labels.", b"layers=", b"4294967295", b"@", b":", b"layer_bytes=")

TARGET = Target(check=check, seeds=seeds, longest=300, words=WORDS)
