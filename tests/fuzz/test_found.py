"""What fuzzing has found, each with the target that found it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.attacks.arena import Arena
from tests.support.tarbuild import Entry, directory, file, hardlink
from unpacker.errors import SnapshotStateError
from unpacker.snapshots.overlay import OverlaySnapshotter

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena(tmp_path)


# -- trees, layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_store", [False, True], ids=["merged", "store"])
@pytest.mark.parametrize("name", ["a/.", "a/./", "a/b/.."])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda name: directory(name, mode=0o700), id="directory"),
        pytest.param(lambda name: file(name, b"1"), id="file"),
        pytest.param(lambda name: hardlink(name, "f"), id="hardlink"),
    ],
)
def test_a_name_that_ends_in_dots_is_a_name_of_the_directory_before(
    arena: Arena, make: object, name: str, by_store: bool
) -> None:
    """``tar -c etc/.`` writes ``etc/./`` and ``etc/./passwd``; the first one became ``etc/etc``."""
    assert callable(make)
    entry = make(name)
    assert isinstance(entry, Entry)

    arena.agrees(
        [[file("f"), directory("a/b"), entry, file("a/./c") if entry.kind == "directory" else file("c")]],
        by_store=by_store,
    )


# -- catalog -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OverlaySnapshotter]:
    """A store with two snapshots, b on a."""
    with OverlaySnapshotter(tmp_path / "store", sync=False) as made:
        for name, parent in (("a", None), ("b", "a")):
            made.prepare("work", parent)
            made.commit(name, "work")
        yield made


def test_a_lease_with_damage_in_it_keeps_the_names_that_can_be_read(store: OverlaySnapshotter) -> None:
    """It was a traceback of garbage collection."""
    Path(store.catalog.root, "leases", "0").write_bytes(b"\xff\na")

    assert "a" in store.catalog.leased()


def test_a_snapshot_that_stands_on_itself_is_refused(store: OverlaySnapshotter) -> None:
    """By a damaged record: it was followed for ever."""
    record = store.catalog.committed("a")
    assert record is not None
    store.catalog.replace(record.changed(parent="b"))

    with pytest.raises(SnapshotStateError, match="stands on itself"):
        store.chain("b")
    with pytest.raises(SnapshotStateError, match="stands on itself"):
        store.prepare("on b", "b")
