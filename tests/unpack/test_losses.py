"""What could not be applied: told one by one as events, and counted in the report; both are the same."""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.probes import needs_user_xattr
from tests.support.tarbuild import char, directory, file, hardlink, layer, symlink
from unpacker.events import Event, LossKind, Lost
from unpacker.layer import apply
from unpacker.layer.apply import Told
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unpacker.events import Report

NOWHERE = {"nowhere.attribute": b"1"}
"""Which no filesystem takes."""
TOO_LARGE = 1 << 20
"""Nobody has such a device."""
TARS = (
    layer(
        directory("usr/lib", xattrs=NOWHERE),
        symlink("lib", "usr/lib"),
        char("usr/lib/node", TOO_LARGE, 1),
        file("usr/lib/file", b"1", xattrs=NOWHERE),
    ),
    # It has to be staged again, since `lib` is a link, and only then it is known what `again` is a link to.
    layer(
        file("lib/one", b"1", xattrs=NOWHERE),
        hardlink("again", "usr/lib/node"),
        file("lib/two", b"2", xattrs=NOWHERE),
        directory("etc", xattrs=NOWHERE),
    ),
)
LOST = {LossKind.XATTR: 5, LossKind.DEVICE: 2}
PATHS = [b"again", b"etc", b"lib/one", b"lib/two", b"usr/lib", b"usr/lib/file", b"usr/lib/node"]


def plainly(layout: Path, dest: Path, events: list[Event]) -> Report:
    return unpack(layout, dest, owner="self", jobs=1, on_event=events.append)


def side_by_side(layout: Path, dest: Path, events: list[Event]) -> Report:
    return unpack(layout, dest, owner="self", jobs=2, on_event=events.append)


def by_a_store(layout: Path, dest: Path, events: list[Event]) -> Report:
    return unpack(layout, dest, owner="self", store=dest.parent / "store", on_event=events.append)


def by_whole_trees(layout: Path, dest: Path, events: list[Event]) -> Report:
    with NativeSnapshotter(dest.parent / "store"):
        return by_a_store(layout, dest, events)


@pytest.mark.parametrize("way", [plainly, side_by_side, by_a_store, by_whole_trees])
def test_each_loss_is_told_once_and_counted_once(
    way: Callable[[Path, Path, list[Event]], Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unpacker.layer.ahead.WORTH", 0)
    write_layout(tmp_path / "layout", TARS)
    events: list[Event] = []
    report = way(tmp_path / "layout", tmp_path / "dest", events)

    told = [event for event in events if isinstance(event, Lost)]
    assert sorted(event.path for event in told) == PATHS
    assert Counter(event.kind for event in told) == report.losses == LOST
    assert report.loss_samples.keys() == LOST.keys()


@pytest.mark.parametrize(("way", "count"), [(plainly, 1), (by_a_store, 2), (by_whole_trees, 2)])
def test_a_directory_with_entries_in_two_layers(
    way: Callable[[Path, Path, list[Event]], Report], count: int, tmp_path: Path
) -> None:
    """A layer of a store counts for itself, but not what it only implies."""
    tars = [layer(directory("d", xattrs=NOWHERE)), layer(directory("d", xattrs=NOWHERE)), layer(file("d/file"))]
    write_layout(tmp_path / "layout", tars)
    events: list[Event] = []

    report = way(tmp_path / "layout", tmp_path / "dest", events)

    assert report.losses == {LossKind.XATTR: count}
    assert [event.path for event in events if isinstance(event, Lost)] == [b"d"] * count


@needs_user_xattr
@pytest.mark.parametrize("way", [plainly, by_a_store, by_whole_trees])
def test_an_attribute_that_a_store_would_take_for_the_mode(
    way: Callable[[Path, Path, list[Event]], Report], tmp_path: Path
) -> None:
    """Else a file would be setuid that is not, to whoever reads the archive."""
    xattrs = {"user.overlay.unpack.mode": b"4755", "user.a": b"1"}
    tars = [layer(file("file", mode=0o644, xattrs=xattrs), directory("d", mode=0o711, xattrs=xattrs))]
    write_layout(tmp_path / "layout", tars)

    report = way(tmp_path / "layout", tmp_path / "dest", [])

    assert report.losses == {LossKind.XATTR: 2}
    assert report.loss_samples[LossKind.XATTR].endswith("user.overlay.unpack.mode: the name is our own")
    for name, mode in (("file", 0o644), ("d", 0o711)):
        assert stat.S_IMODE((tmp_path / "dest" / name).stat().st_mode) == mode
        assert os.listxattr(tmp_path / "dest" / name) == ["user.a"]


def test_what_was_told_of_a_layer_is_not_told_again() -> None:
    events: list[Event] = []
    losses = [Lost(kind=LossKind.XATTR, path=b"%d" % number, reason="why") for number in range(10)]
    told = Told(events.append)
    told.begin()
    for loss in losses[:8]:
        told(loss)
    events.clear()
    for loss in (losses[0], losses[8], losses[1], losses[5], losses[9], losses[7]):
        told.again(loss)

    assert events == [losses[8], losses[9]]


def test_more_losses_than_are_remembered_are_told_twice_and_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "_MOST_TOLD", 2)
    events: list[Event] = []
    losses = [Lost(kind=LossKind.XATTR, path=b"%d" % number, reason="why") for number in range(4)]
    told = Told(events.append)
    for loss in losses[:3]:
        told(loss)
    for loss in losses:
        told.again(loss)

    assert events == [*losses[:3], losses[2], losses[3]]
