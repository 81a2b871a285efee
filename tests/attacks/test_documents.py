"""JSON documents that lie, that are paths, or that are cheap to write and dear to read.

The index, the manifest and the config are read before anything is known to be what it should be; each of them has up to
8 MiB, and may name others ten thousand times.
"""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layoutbuild import OCI, REF_NAME, LayoutBuilder, write_layout
from tests.support.tarbuild import file, layer
from tests.unpack.command import errors, refused, unpack
from unpacker.cli import main
from unpacker.content.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.arena import Arena
    from unpacker.limits import Limits
    from unpacker.spec.descriptor import Descriptor

IMAGE = [layer(file("a"))]
MOST = 8 << 20


# -- digests that are paths --------------------------------------------------------------------------------------------

PATHS = (
    "sha256:../../../outside/secret",
    "sha256:../../outside/secret" + "0" * 37,
    "../../outside:secret",
    "sha256/../../outside:secret",
    "sha256:/etc/passwd",
    "sha256:" + "0" * 63 + "\n",
    "sha256:" + "0" * 63 + "\0",
    "sha256:" + "A" * 64,
    "sha256:" + "0" * 65,
    "sha256:",
    ":",
    "",
    "x+.:y",
    "a" * 1000 + ":/",
)


@pytest.mark.parametrize("where", ["index.json", "config", "layer", "diff_id"])
@pytest.mark.parametrize("digest", PATHS)
def test_a_digest_is_never_a_path(digest: str, where: str, arena: Arena) -> None:
    """containers/image joined digests to paths before it parsed them (CVE-2024-3727)."""

    def change(document: dict[str, Any]) -> None:
        if where == "index.json":
            for descriptor in document["manifests"]:
                descriptor["digest"] = digest
        elif where == "config":
            document["config"]["digest"] = digest
        elif where == "layer":
            document["layers"][0]["digest"] = digest
        else:
            document["rootfs"]["diff_ids"][0] = digest

    name: Any = {"index.json": "index.json", "diff_id": "config"}.get(where, "manifest")
    built = write_layout(arena.layout, IMAGE, mutate={name: change})
    assert "digest" in refused(unpack(built.path, arena.dest), 4)
    arena.check()


@pytest.mark.parametrize("name", ["../../outside/secret", "/etc/passwd", "a/../b", ".", "..", "\0", "x" * 100_000])
def test_a_name_is_never_a_path(name: str, arena: Arena) -> None:
    built = write_layout(arena.layout, IMAGE, tag=name)
    if "\0" not in name and len(name) < 1000:
        assert unpack(f"{built.path}:{name}", arena.dest).status == 0
    assert unpack(f"{built.path}:other", arena.path / "other").status == 3
    arena.check()


# -- documents that are cheap to write and dear to read ----------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What documents are read, by digest."""
    found: list[str] = []
    document = Layout.document

    def counted(self: Layout, descriptor: Descriptor, limits: Limits) -> bytes:
        found.append(str(descriptor.digest))
        return document(self, descriptor, limits)

    monkeypatch.setattr(Layout, "document", counted)
    return found


def crowded(arena: Arena) -> LayoutBuilder:
    """A layout whose index names two manifests two thousand times, and does not say what they are for."""
    built = LayoutBuilder(arena.layout)
    images = [built.image([layer(file(name))], platform=None) for name in "ab"]
    named = {"annotations": {REF_NAME: "v1"}}
    built.name(built.index(*[{**image.descriptor, **named} for image in images] * 1000), "v1")
    return built


def test_a_manifest_is_asked_for_its_platform_once(arena: Arena, read: list[str]) -> None:
    built = crowded(arena)
    assert unpack("--platform", "linux/s390x", f"{built.path}:v1", arena.dest).status == 3
    assert len(read) == len(set(read)) == 1 + 2 * 2


def test_a_manifest_is_listed_often_and_read_once(
    arena: Arena, read: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    built = crowded(arena)
    assert main(["list", "--format", "json", str(built.path)]) == 0
    assert len(json.loads(capsys.readouterr().out)["images"]) == 2000
    assert len(read) == len(set(read)) == 1 + 2 * 2


def test_an_index_is_listed_often_and_read_once(
    arena: Arena, read: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    built = LayoutBuilder(arena.layout)
    inner = built.index(built.image(IMAGE))
    for number in range(500):
        built.top["manifests"].append({**inner, "annotations": {REF_NAME: str(number)}})
    built.name(inner)
    assert main(["list", str(built.path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 501
    assert len(read) == 2


def test_one_endless_name_does_not_widen_every_line(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    built = LayoutBuilder(arena.layout)
    image = built.image(IMAGE)
    built.top["manifests"] = [{**image.descriptor, "annotations": {REF_NAME: "short"}}] * 1000
    built.name(image, "x" * 100_000)
    assert main(["list", str(built.path)]) == 0
    assert len(capsys.readouterr().out) < 500_000


DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "deep-arrays": lambda: b"[" * (MOST // 2),
    "deep-objects": lambda: b'{"a":' * (MOST // 5),
    "one-digit-after-another": lambda: b"[" + b"9" * (MOST - 2) + b"]",
    "one-fraction": lambda: b"[0." + b"9" * (MOST - 4) + b"]",
    "one-exponent": lambda: b"[1e" + b"9" * (MOST - 4) + b"]",
    "one-name-twice": lambda: b"{" + b'"a":0,' * 100_000 + b'"a":0}',
    "one-string-without-end": lambda: b'["' + b'\\"' * (MOST // 2 - 2),
    "one-string-of-brackets": lambda: b'["' + b"[{" * (MOST // 2 - 2) + b'"]',
    "many-numbers": lambda: b"[" + b"0," * 1_000_000 + b"0]",
    "a-name-over-many-values": lambda: b'{"\\ud83d\\ude00":0,"' + b"a" * (MOST // 2) + b'":[' + b"0," * 99_999 + b"0]}",
    "too-long": lambda: b" " * (MOST + 1),
}


@pytest.mark.parametrize("which", DOCUMENTS)
def test_a_document_ends_in_one_line(which: str, arena: Arena) -> None:
    built = write_layout(arena.layout, IMAGE)
    (built.path / "index.json").write_bytes(DOCUMENTS[which]())
    tracemalloc.start()
    outcome = unpack(built.path, arena.dest)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    line = refused(outcome, outcome.status)
    assert outcome.status in (4, 5)
    assert len(line) < 1000
    assert peak < 100 << 20


@pytest.mark.parametrize("field", ["manifests", "layers", "diff_ids"])
def test_a_million_of_anything_is_too_many(field: str, arena: Arena) -> None:
    """Refused by their number, before anything is made of them."""

    def change(document: dict[str, Any]) -> None:
        holder = document["rootfs"] if field == "diff_ids" else document
        holder[field] = [0] * 1_000_000

    name: Any = {"manifests": "index.json", "layers": "manifest", "diff_ids": "config"}[field]
    built = write_layout(arena.layout, IMAGE, mutate={name: change})
    assert "more than the limit of" in refused(unpack(built.path, arena.dest), 5)


@pytest.mark.parametrize("size", [2**63 - 1, 2**62, MOST + 1])
@pytest.mark.parametrize("which", ["manifest", "config"])
def test_a_size_reserves_nothing(which: str, size: int, arena: Arena) -> None:
    """It is a number in a document that nobody has verified: containerd and umoci took memory for it."""

    def change(document: dict[str, Any]) -> None:
        for descriptor in document["manifests"] if which == "manifest" else [document["config"]]:
            descriptor["size"] = size

    name: Any = {"manifest": "index.json", "config": "manifest"}[which]
    built = write_layout(arena.layout, IMAGE, mutate={name: change})
    outcome = unpack(built.path, arena.dest)
    assert outcome.status in (4, 5)
    assert len(errors(outcome)) == 1


def test_one_document_in_two_roles_is_refused(arena: Arena) -> None:
    """A manifest that is an index as well shows one image to a scanner and another one to a runtime (CVE-2021-41190)."""
    built = LayoutBuilder(arena.layout, mutate={"manifest": lambda document: document.update(manifests=[])})
    built.name(built.image(IMAGE))
    assert "manifests" in refused(unpack(built.path, arena.dest), 4)
    for media_type, descriptor in (("manifest", built.index(built.images[0])), ("index", built.images[0].descriptor)):
        built.top["manifests"] = []
        built.name({**descriptor, "mediaType": OCI[media_type]})
        refused(unpack(built.path, arena.dest), 4)
        assert main(["list", str(built.path)]) == 4, "what lists images sees the same ones"
