"""Many processes, one store, one image: each layer is extracted by one of them, and the others wait and say for whom."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.faults import ended, forked
from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import file, layer, opaque, whiteout
from tests.support.tree import diff, read
from unpacker.events import Event, LayerApplied, LayerReused, LayerStarted, Waiting
from unpacker.image import Image
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpacker.snapshots.base import StoreSnapshotter

PROCESSES = 8
FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An image of eight layers."""
    layers = [
        layer(
            *(file(f"d{number}/{name}", f"{number} {name}".encode() * 50) for name in range(40)),
            *([whiteout(f"d{number - 1}/7"), opaque(f"d{number - 2}")] if number > 1 else []),
        )
        for number in range(8)
    ]
    return write_layout(tmp_path / "layout", layers).path


def told(place: Path, event: Event) -> None:
    """Write down an event for the test, from another process."""
    line = json.dumps([os.getpid(), type(event).__name__, {key: str(value) for key, value in vars(event).items()}])
    with open(place / "events", "a") as log:  # one write, so that lines stay whole
        log.write(line + "\n")


def events(place: Path, kind: type[Event]) -> list[tuple[int, dict[str, str]]]:
    """Give the events of a kind: who told them, and what they say."""
    lines = (place / "events").read_text().splitlines() if (place / "events").exists() else []
    return [(pid, said) for pid, name, said in map(json.loads, lines) if name == kind.__name__]


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", [OverlaySnapshotter, NativeSnapshotter], ids=["overlay", "native"])
@pytest.mark.parametrize("image", ["eight layers", "edge"])
def test_each_layer_is_extracted_once(kind: type[StoreSnapshotter], image: str, layout: Path, tmp_path: Path) -> None:
    """Though nobody has made the store yet; all succeed, and have the same tree."""
    source = layout if image == "eight layers" else FIXTURES / image
    unpack(source, tmp_path / "expected", labels=False)
    if kind is NativeSnapshotter:
        kind(tmp_path / "store").close()
    start = tmp_path / "start"

    def work(number: int) -> None:
        until(start.exists)
        unpack(
            source,
            tmp_path / f"dest {number}",
            labels=False,
            store=tmp_path / "store",
            on_event=lambda event: told(tmp_path, event),
        )

    pids = [forked(lambda number=number: work(number)) for number in range(PROCESSES)]  # type: ignore[misc]
    start.touch()
    assert [ended(pid) for pid in pids] == [0] * PROCESSES

    layers = len(Image.open(source).layers)
    assert layers >= 6
    assert sorted(int(said["index"]) for _, said in events(tmp_path, LayerApplied)) == list(range(layers))
    assert len(events(tmp_path, LayerReused)) == layers * (PROCESSES - 1)
    expected = read(tmp_path / "expected")
    for number in range(PROCESSES):
        assert diff(expected, read(tmp_path / f"dest {number}")) == []
    for pid, said in events(tmp_path, Waiting):
        assert said["pid"] in (set(map(str, pids)) - {str(pid)}) | {"None"}
    assert os.listdir(tmp_path / "store/staging") == os.listdir(tmp_path / "store/leases") == []


@pytest.mark.parametrize("kind", [OverlaySnapshotter, NativeSnapshotter], ids=["overlay", "native"])
def test_a_waiter_takes_over_from_one_that_is_killed(
    kind: type[StoreSnapshotter], layout: Path, tmp_path: Path
) -> None:
    """It was in the middle of the third layer, and others waited for it by name."""
    kind(tmp_path / "store").close()

    def work(*, stops: bool) -> None:
        def on_event(event: Event) -> None:
            told(tmp_path, event)
            if stops and isinstance(event, LayerStarted) and event.index == 2:
                signal.pause()

        with kind(tmp_path / "store") as snapshots:
            Image.open(layout).unpack(snapshots, labels=False, on_event=on_event)

    first = forked(lambda: work(stops=True))
    until(lambda: len(events(tmp_path, LayerStarted)) == 3)
    others = [forked(lambda: work(stops=False)) for _ in range(3)]
    until(lambda: len(events(tmp_path, Waiting)) == 3)
    assert {(said["index"], said["pid"]) for _, said in events(tmp_path, Waiting)} == {("2", str(first))}
    assert len(events(tmp_path, LayerApplied)) == 2

    os.kill(first, signal.SIGKILL)

    assert ended(first) == -signal.SIGKILL
    assert [ended(pid) for pid in others] == [0, 0, 0]
    assert sorted(int(said["index"]) for _, said in events(tmp_path, LayerApplied)) == list(range(8))
    with kind(tmp_path / "store") as snapshots:
        assert Image.open(layout).is_unpacked(snapshots)
        assert snapshots.cleanup() <= 2, "what the killed one left: a staging directory and a lease"
        assert os.listdir(tmp_path / "store/staging") == os.listdir(tmp_path / "store/leases") == []


def test_images_that_share_layers_share_the_work(layout: Path, tmp_path: Path) -> None:
    """A second image on the same base costs only its own layers, and only those are read."""
    first = Image.open(layout)
    tars = [first.layout.blob_path(one.descriptor.digest) for one in first.layers]
    shared = [layer(file("a", b"1")), layer(file("b", b"2"))]
    one = write_layout(tmp_path / "one", [*shared, layer(file("c", b"3"))]).path
    two = write_layout(tmp_path / "two", [*shared, layer(file("d", b"4"))]).path
    assert tars
    unpack(one, tmp_path / "dest one", store=tmp_path / "store")
    for blob in Image.open(two).layers[:2]:
        Path(Image.open(two).layout.blob_path(blob.descriptor.digest)).unlink()

    seen: list[Event] = []
    unpack(two, tmp_path / "dest two", store=tmp_path / "store", on_event=seen.append)

    assert [type(event) for event in seen if isinstance(event, LayerApplied | LayerReused)] == [
        LayerReused,
        LayerReused,
        LayerApplied,
    ]
    assert sorted(os.listdir(tmp_path / "dest two")) == ["a", "b", "d"]
