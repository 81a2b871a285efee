"""The names in index.json: every byte that is not ours stays, and nobody's entry is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.content import described
from unpacker.content.disk import ContentStore
from unpacker.content.names import IndexFile, _Text, to_json
from unpacker.errors import DocumentError, LimitError, ReferenceNotFoundError, UnsupportedError
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest
from unpacker.spec.platforms import Platform
from unpacker.spec.strictjson import load

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = (described(Digest.of(data)) for data in (b"1", b"2"))
ENTRY = json.dumps(to_json(ONE.changed(annotations={"org.opencontainers.image.ref.name": "new"})))
ODD = (
    '{"digest": "sha256:'
    + "0" * 64
    + r'", "size":7 ,"mediaType":"a/b", "x": 1.50e+3, "y": -0, "z": "\u00e9\/", "big": 123456789012345678901}'
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return ContentStore(tmp_path / "layout", create=True).path


@pytest.fixture
def names(root: Path) -> IndexFile:
    return IndexFile(str(root))


def write(root: Path, text: str) -> None:
    (root / "index.json").write_text(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('{"schemaVersion":2,"manifests":[]}', '{"schemaVersion":2,"manifests":[NEW]}', id="empty"),
        pytest.param('{"schemaVersion":2,"manifests":null}', '{"schemaVersion":2,"manifests":[NEW]}', id="null"),
        pytest.param(
            ' {"manifests" :\t[ ] , "schemaVersion": 2 }\n\n',
            ' {"manifests" :\t[ NEW] , "schemaVersion": 2 }\n\n',
            id="odd blanks",
        ),
        pytest.param(
            '{"schemaVersion":2,"manifests":[ODD],"x":{"manifests":[1, 2]}}',
            '{"schemaVersion":2,"manifests":[ODD,NEW],"x":{"manifests":[1, 2]}}',
            id="unknown fields and numbers",
        ),
        pytest.param(
            '{\n  "schemaVersion": 2,\n  "manifests": [\n    ODD,\n    ODD\n  ],\n  "y": 1.0\n}\n',
            '{\n  "schemaVersion": 2,\n  "manifests": [\n    ODD,\n    ODD,\n    NEW\n  ],\n  "y": 1.0\n}\n',
            id="indented",
        ),
        pytest.param(
            '{"schemaVersion":2,"manifests":[ODD , ODD]}',
            '{"schemaVersion":2,"manifests":[ODD , ODD, NEW]}',
            id="spaced",
        ),
        pytest.param(
            '{"schemaVersion":2,"annotations":{"a \\"manifests\\": [":"]}"},"manifests":[ODD]}',
            '{"schemaVersion":2,"annotations":{"a \\"manifests\\": [":"]}"},"manifests":[ODD,NEW]}',
            id="the word in other places",
        ),
        pytest.param(
            '{"schemaVersion":2,"m\\u0061nifests":[ODD]}',
            '{"schemaVersion":2,"m\\u0061nifests":[ODD,NEW]}',
            id="escaped",
        ),
    ],
)
def test_every_other_byte_stays(root: Path, names: IndexFile, before: str, after: str) -> None:
    write(root, before.replace("ODD", ODD))
    names.add("new", ONE)
    assert (root / "index.json").read_text() == after.replace("ODD", ODD).replace("NEW", ENTRY)

    names.remove("new")
    expected = before.replace("null", "[]").replace("ODD", ODD)
    assert (root / "index.json").read_text() == expected


def test_a_replaced_entry_keeps_its_place(root: Path, names: IndexFile) -> None:
    write(root, '{"schemaVersion":2,"manifests":[]}')
    for name in ("a", "b", "c"):
        names.add(name, ONE)
    names.add("b", TWO, replace=True)
    assert [each.digest for each in IndexFile(str(root)).all()["b"]] == [TWO.digest]
    found = json.loads((root / "index.json").read_text())["manifests"]
    assert [each["annotations"]["org.opencontainers.image.ref.name"] for each in found] == ["a", "b", "c"]


def test_what_changes_nothing_writes_nothing(root: Path, names: IndexFile) -> None:
    names.add("a", ONE)
    before = (root / "index.json").stat()
    names.add("a", ONE)
    with pytest.raises(ReferenceNotFoundError):
        names.remove("b")
    assert (root / "index.json").stat() == before


def test_all_that_is_known_of_a_descriptor_is_written(names: IndexFile, root: Path) -> None:
    whole = ONE.changed(
        data=b"1",
        urls=("https://example.com/1",),
        annotations={"x": "ü\n"},
        platform=Platform("windows", "amd64", "v2", "10.0", ("win32k",)),
        artifact_type="a/b",
    )
    names.add("whole", whole)
    entry = json.loads((root / "index.json").read_text())["manifests"][0]
    assert Descriptor.from_json(load(json.dumps(entry).encode(), "entry")) == whole.changed(
        annotations={"x": "ü\n", "org.opencontainers.image.ref.name": "whole"}
    )
    empty = ONE.changed(data=b"")
    assert Descriptor.from_json(load(json.dumps(to_json(empty)).encode(), "entry")) == empty


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"schemaVersion": 2, "manifests": [1]}',
        '{"schemaVersion": 2, "manifests": {}}',
        '{"schemaVersion": 2, "manifests": [], "manifests": []}',
        '{"schemaVersion": 2, "manifests": [], "layers": []}',
        '{"schemaVersion": 2, "manifests": []} x',
        "\ufeff{}",
    ],
)
def test_a_damaged_index_is_told_and_left_as_it_is(root: Path, names: IndexFile, content: str) -> None:
    write(root, content)
    for act in (names.all, lambda: names.add("a", ONE), lambda: names.remove("a")):
        with pytest.raises(DocumentError) as raised:
            act()
        assert raised.value.source == str(root / "index.json")
    assert (root / "index.json").read_text() == content


def test_an_index_that_is_a_link_is_not_replaced(root: Path, names: IndexFile, tmp_path: Path) -> None:
    (root / "index.json").rename(tmp_path / "outside")
    (root / "index.json").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsupportedError, match="unsupported file type symbolic link"):
        names.add("a", ONE)
    assert (root / "index.json").is_symlink()


def test_an_index_that_is_too_large_is_left_as_it_is(root: Path, names: IndexFile) -> None:
    write(root, '{"schemaVersion": 2, "manifests": [], "x": "' + "x" * (9 << 20) + '"}')
    with pytest.raises(LimitError):
        names.add("a", ONE)


def test_an_index_keeps_its_permissions(root: Path, names: IndexFile) -> None:
    (root / "index.json").chmod(0o664)
    names.add("a", ONE)
    assert stat.S_IMODE((root / "index.json").stat().st_mode) == 0o664


def test_a_link_planted_beside_the_index_is_not_written_through(root: Path, names: IndexFile, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("canary")
    (root / ".index.json.new").symlink_to(tmp_path / "outside")
    names.add("a", ONE)
    assert (tmp_path / "outside").read_text() == "canary"
    assert set(names.all()) == {"a"}
    (root / ".index.json.lock").unlink()
    (root / ".index.json.lock").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic links") as raised:
        names.add("b", ONE)
    assert raised.value.__notes__ == ["editing index.json"]
    assert (tmp_path / "outside").read_text() == "canary"


def test_a_failed_write_leaves_the_old_index(root: Path, names: IndexFile, monkeypatch: pytest.MonkeyPatch) -> None:
    names.add("a", ONE)
    before = (root / "index.json").read_bytes()

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", fail)
        with pytest.raises(OSError, match="Input/output error") as raised:
            names.add("b", ONE)
    assert raised.value.__notes__ == ["editing index.json"]
    assert (root / "index.json").read_bytes() == before
    assert not (root / ".index.json.new").exists()
    names.add("b", ONE)


def edit_many(root: Path, writer: int) -> None:
    names = IndexFile(os.fspath(root))
    for number in range(25):
        names.add(f"w{writer}.{number}", ONE if number % 2 else TWO)
        if number % 5 == 4:
            names.remove(f"w{writer}.{number - 1}")


def test_editors_in_several_processes_lose_nothing(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    editors = [context.Process(target=edit_many, args=(root, number)) for number in range(4)]
    for editor in editors:
        editor.start()
    for editor in editors:
        editor.join(60)
    assert [editor.exitcode for editor in editors] == [0] * 4
    expected = {f"w{writer}.{number}" for writer in range(4) for number in range(25) if number % 5 != 3}
    assert set(IndexFile(str(root)).all()) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=9).filter(lambda name: name != "manifests"), JSON, max_size=4),
    st.lists(JSON, max_size=4),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
def test_a_text_taken_apart_is_the_same_text(
    rest: dict[str, object], entries: list[object], indent: int | None, first: bool
) -> None:
    whole = {"manifests": entries, **rest} if first else {**rest, "manifests": entries}
    text = json.dumps(whole, indent=indent)
    taken = _Text(text)
    assert [json.loads(entry) for entry in taken.entries] == entries
    assert str(taken) == text
    taken.insert(len(entries), ['{"more": 1}'])
    assert json.loads(str(taken)) == {**whole, "manifests": [*entries, {"more": 1}]}
    taken.remove(range(len(entries) + 1))
    assert json.loads(str(taken)) == {**whole, "manifests": []}
