"""Layers that are staged side by side in a store: the same snapshots as one after the other, and nothing left behind."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.model.strategies import Stack, fit_for, stacks
from tests.support.forks import counted_forks
from tests.support.layoutbuild import write_layout
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr
from tests.support.tarbuild import directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff, files_below, read
from unpacker import child
from unpacker.errors import UnpackError
from unpacker.events import Event, LayerApplied, LayerReused, Lost, Warned
from unpacker.image import Image
from unpacker.layer import ahead
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.layoutbuild import LayoutBuilder
    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.record import SnapshotRecord

KINDS = pytest.mark.parametrize("kind", [OverlaySnapshotter, NativeSnapshotter], ids=["overlay", "native"])
LAYERS = [
    [
        directory("usr/lib", mode=0o750),
        symlink("lib", "usr/lib"),
        *(file(f"d{one}/f", b"%d" % one) for one in range(9)),
    ],
    [file("lib/x", b"1"), whiteout("d1/f"), opaque("d2"), file("d2/new", b"2"), hardlink("d2/link", "d2/new")],
    [hardlink("y", "lib/x"), directory("d3", mode=0o500), file("odd", xattrs={"x": b"y"})],
    [whiteout("lib"), file("lib/own", b"a directory now"), file("d4", b"a file now")],
]


@pytest.fixture(autouse=True)
def forks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """All processes that were forked, one a layer; none of them, and no descriptor, is there after a test."""
    if not child.may_fork():
        pytest.skip("this process has more threads than one")
    monkeypatch.setattr(ahead, "WORTH", 0)
    monkeypatch.setattr(ahead, "SHARES", 1000)
    with counted_forks(monkeypatch) as pids:
        yield pids


@pytest.fixture
def built(tmp_path: Path) -> LayoutBuilder:
    return write_layout(tmp_path / "layout", [layer(*entries) for entries in LAYERS])


def outcome(layout: Path, snapshots: StoreSnapshotter, jobs: int) -> tuple[object, list[str]]:
    """Unpack into a store; give what is recorded but for times, or what was refused, and the events but for progress."""
    events: list[Event] = []
    result: object
    try:
        result = [plain(one) for one in Image.open(layout).unpack(snapshots, jobs=jobs, on_event=events.append)]
    except (UnpackError, OSError) as error:
        result = (type(error), str(error), getattr(error, "__notes__", []))
    assert os.listdir(os.path.join(snapshots.catalog.root, "staging")) == []
    return result, sorted(
        str(event) for event in events if isinstance(event, LayerApplied | LayerReused | Lost | Warned)
    )


def plain(record: SnapshotRecord) -> dict[str, Any]:
    return {**vars(record), "created": 0, "updated": 0}


def trees(snapshots: StoreSnapshotter) -> dict[str, Tree]:
    """Give what is in each snapshot; the times of whiteouts are those at which they were made."""
    found = {info.name: read(snapshots.files(info.name)) for info in snapshots.walk()}
    for tree in found.values():
        for path, node in tree.items():
            if (node.kind == "char" and node.rdev == (0, 0)) or b"user.overlay.whiteout" in node.xattrs:
                tree[path] = dataclasses.replace(node, mtime_ns=0)
    return found


@KINDS
@pytest.mark.parametrize("jobs", [2, 4])
def test_it_makes_the_same_snapshots(
    jobs: int, kind: type[StoreSnapshotter], built: LayoutBuilder, tmp_path: Path, forks: list[int]
) -> None:
    """Layers that must be staged again with the view, and losses, among them."""
    with kind(tmp_path / "one") as one, kind(tmp_path / "other") as other:
        alone = outcome(built.path, one, 1)
        assert not forks

        together = outcome(built.path, other, jobs)

        assert 1 < len(forks) <= len(LAYERS), "the caller may be faster"
        assert together == alone
        assert len(trees(one)) == len(LAYERS)
        for name, tree in trees(one).items():
            assert diff(tree, trees(other)[name]) == [], name


@KINDS
@settings(
    max_examples=20,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
@given(stack=stacks())
def test_any_stack_makes_the_same_snapshots(
    kind: type[StoreSnapshotter], stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("any")
    fitted = fit_for([list(one) for one in stack], owners=can_chown(), devices=can_mknod(), xattrs=can_set_user_xattr())
    write_layout(place / "layout", [layer(*entries) for entries in fitted], compression="none")
    with kind(place / "one") as one, kind(place / "other") as other:
        alone = outcome(place / "layout", one, 1)
        assert outcome(place / "layout", other, 3) == alone
        for name, tree in trees(one).items():
            assert diff(tree, trees(other)[name]) == [], name


@KINDS
def test_what_is_there_is_not_staged(
    kind: type[StoreSnapshotter], built: LayoutBuilder, tmp_path: Path, forks: list[int]
) -> None:
    with kind(tmp_path / "store") as snapshots:
        outcome(built.path, snapshots, 1)
        top, next_to_it = reversed([str(one) for one in Image.open(built.path).chain_ids()[-2:]])
        whole = trees(snapshots)
        snapshots.remove(top)
        outcome(built.path, snapshots, 4)
        assert not forks  # a single layer has none to go beside

        snapshots.remove(top)
        snapshots.remove(next_to_it)
        outcome(built.path, snapshots, 4)

        assert len(forks) == 2
        assert {name: diff(tree, whole[name]) for name, tree in trees(snapshots).items()} == {
            name: [] for name in whole
        }


def test_nothing_is_staged_ahead_of_another_process(
    built: LayoutBuilder, tmp_path: Path, forks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is at the second layer, and has all of them soon."""
    with OverlaySnapshotter(tmp_path / "store") as snapshots:
        name = str(Image.open(built.path).chain_ids()[1])
        lock = snapshots.catalog.lock(name)
        lock.__enter__()
        extract = snapshots.extract

        def released(*words: Any, **options: Any) -> Any:
            lock.__exit__(None, None, None)
            monkeypatch.undo()
            return extract(*words, **options)

        monkeypatch.setattr(snapshots, "extract", released)

        _, events = outcome(built.path, snapshots, 4)

    assert not forks
    assert len([one for one in events if "LayerApplied" in one]) == len(LAYERS)


@KINDS
def test_what_another_process_has_made_meanwhile_is_used(
    kind: type[StoreSnapshotter], built: LayoutBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was staged of it is lost."""
    with kind(tmp_path / "store") as snapshots, kind(tmp_path / "store") as others:
        extract = snapshots.extract

        def overtaken(*words: Any, **options: Any) -> Any:
            outcome_of_other = Image.open(built.path).unpack(others, jobs=1)
            assert len(outcome_of_other) == len(LAYERS)
            return extract(*words, **options)

        monkeypatch.setattr(snapshots, "extract", overtaken)

        _, events = outcome(built.path, snapshots, 4)

    assert len([one for one in events if "LayerReused" in one]) == len(LAYERS)


@KINDS
@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_a_damaged_layer_leaves_those_below_it(
    number: int, kind: type[StoreSnapshotter], built: LayoutBuilder, tmp_path: Path
) -> None:
    built.flip(built.images[0].layers[number].digest)
    with kind(tmp_path / "one") as one, kind(tmp_path / "other") as other:
        alone = outcome(built.path, one, 1)

        assert outcome(built.path, other, 4) == alone
        assert isinstance(alone[0], tuple)
        assert len(trees(other)) == number


def test_a_mask_takes_nothing_from_the_caller(built: LayoutBuilder, tmp_path: Path, forks: list[int]) -> None:
    """What a child has written is read again by its name."""
    before = os.umask(0o777)
    try:
        with OverlaySnapshotter(tmp_path / "store") as snapshots:
            result, _ = outcome(built.path, snapshots, 4)
    finally:
        os.umask(before)

    assert isinstance(result, list)
    assert 1 < len(forks) <= len(LAYERS), "the caller may be faster"
    assert any(path.name == "new" for path in files_below(tmp_path / "store/snapshots"))
