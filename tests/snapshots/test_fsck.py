"""A store against its records: every kind of damage is found, said in one line, and repaired as far as that can be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.snapshots.stores import layout_of, names, unpacked
from tests.support.probes import PROJECT
from tests.support.tree import read
from unpacker.snapshots.fsck import Fault, check, repair
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.snapshots.base import StoreSnapshotter

KINDS = pytest.mark.parametrize("kind", [OverlaySnapshotter, NativeSnapshotter], ids=lambda kind: kind.kind)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return layout_of(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreSnapshotter]:
    with OverlaySnapshotter(tmp_path / "store", sync=False) as snapshotter:
        yield snapshotter


def edited(change: dict[str, Any]) -> Callable[[Path], None]:
    """Give what changes fields of a record."""

    def edit(snapshot: Path) -> None:
        record = json.loads((snapshot / "snapshot.json").read_bytes())
        (snapshot / "snapshot.json").write_text(json.dumps({**record, **change}))

    return edit


def cut(path: str) -> Callable[[Path], None]:
    return lambda snapshot: os.truncate(snapshot / path, 10)


def linked(snapshot: Path) -> None:
    (snapshot / "fs").rename(snapshot / "elsewhere")
    (snapshot / "fs").symlink_to("elsewhere")


DAMAGES = {
    "no record": (lambda snapshot: (snapshot / "snapshot.json").unlink(), "has no snapshot.json"),
    "an empty record": (lambda snapshot: (snapshot / "snapshot.json").write_text(""), "snapshot.json: expected"),
    "half a record": (cut("snapshot.json"), "snapshot.json: expected"),
    "a record of another format": (edited({"format": 2}), "snapshot.json: format: expected .*1.*, found 2"),
    "the record of another": (edited({"name": "other"}), "its record is that of committed snapshot 'other'"),
    "the record of an active one": (edited({"kind": "active"}), "its record is that of active snapshot"),
    "another diff_id": (edited({"diffID": "sha256:" + "0" * 64}), "make the chain_id sha256:"),
    "no digest for a diff_id": (edited({"diffID": "sha256:0"}), "its record: .*sha256:0"),
    "no usage": (edited({"usage": None}), "its record has no usage"),
    "no files at all": (lambda snapshot: shutil.rmtree(snapshot / "fs"), "has no directory fs"),
    "a link for a directory": (linked, "has no directory fs"),
    "a file less": (lambda snapshot: (snapshot / "fs/usr").unlink(), "has 3 inodes, and was made of 4"),
    "a file more": (lambda snapshot: (snapshot / "fs/more").touch(), "has 5 inodes, and was made of 4"),
    "a file cut short": (cut("fs/usr"), r"has \d+ bytes on disk, and was made of \d+"),
}
DAMAGED = pytest.mark.parametrize(("damage", "why"), DAMAGES.values(), ids=DAMAGES)


def only(faults: tuple[Fault, ...], *, orphans: bool = False) -> Fault:
    (fault,) = (each for each in faults if each.orphan is orphans and each.kind == "snapshot")
    return fault


@KINDS
def test_what_is_whole_has_no_faults(kind: type[StoreSnapshotter], layout: Path, tmp_path: Path) -> None:
    with kind(tmp_path / "store", sync=False) as store:
        for name in ("full", "half", "alone"):
            unpacked(store, layout, name)
        store.prepare("work", unpacked(store, layout, "full")[-1])
        store.view("look")
        store.prepare("done", None)
        store.commit("mine", "done")

        found = check(store)

    assert (found.faults, found.snapshots, found.images, found.leftovers) == ((), 8, 3, 0)


@DAMAGED
def test_damage_is_found_and_repaired_by_unpacking_again(
    damage: Callable[[Path], object], why: str, layout: Path, store: StoreSnapshotter
) -> None:
    full = unpacked(store, layout, "full")
    whole = {name: read(Path(store.files(name))) for name in full}
    broken = Path(store.catalog.path(full[1]))

    damage(broken)
    fault = only(check(store).faults)

    assert fault.path == str(broken)
    assert re.search(why, fault.why), fault.why
    assert re.fullmatch(rf"{re.escape(str(broken))}( \(\S+\))?: .+", str(fault))
    done = repair(store, lambda: unpacked(store, layout, "full"))
    assert (done.faults, only(done.remade).path) == ((), str(broken))
    assert check(store).faults == ()
    assert {name: read(Path(store.files(name))) for name in full} == whole
    assert os.listdir(Path(store.catalog.root, "staging")) == []


@DAMAGED
def test_without_its_image_it_is_removed_with_all_that_stands_on_it(
    damage: Callable[[Path], object], why: str, layout: Path, store: StoreSnapshotter
) -> None:
    full, half = unpacked(store, layout, "full"), unpacked(store, layout, "half")

    damage(Path(store.catalog.path(full[1])))
    done = repair(store)

    assert done.faults == check(store).faults == ()
    assert [fault.kind for fault in done.removed] == ["snapshot", "snapshot", "image"]
    assert re.search(why, done.removed[0].why)
    assert names(store) == set(half), "the base is another image's, too"
    assert [image["name"] for image in store.catalog.images()] == [f"{layout}:half"]


@DAMAGED
def test_what_somebody_works_on_is_not_taken_from_below(
    damage: Callable[[Path], object], why: str, layout: Path, store: StoreSnapshotter
) -> None:
    full = unpacked(store, layout, "full")
    store.prepare("work", full[2])
    broken = Path(store.catalog.path(full[1]))

    damage(broken)
    done = repair(store, lambda: unpacked(store, layout, "half"))

    assert broken.is_dir()
    assert str(broken) in {fault.path for fault in done.faults}
    assert re.search(why, next(fault.why for fault in done.faults if fault.path == str(broken)))
    assert Path(store.catalog.active_path("work"), "fs").is_dir()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        pytest.param(lambda active: (active / "active.json").unlink(), "has no active.json", id="no record"),
        pytest.param(lambda active: (active / "active.json").write_text("[]"), "active.json: expected", id="no object"),
        pytest.param(lambda active: shutil.rmtree(active / "fs"), "has no directory fs", id="no files"),
        pytest.param(lambda active: shutil.rmtree(active / "work"), "has no directory work", id="no work directory"),
        pytest.param(
            lambda active: os.rename(active, active.with_name("0" * 64)), "its record is that of active", id="moved"
        ),
    ],
)
def test_a_broken_active_snapshot_is_told_and_left_to_its_owner(
    damage: Callable[[Path], object], why: str, store: StoreSnapshotter
) -> None:
    store.prepare("work")

    damage(Path(store.catalog.active_path("work")))
    done = repair(store)

    (fault,) = done.faults
    assert (fault.kind, done.removed) == ("active", ())
    assert re.search(why, fault.why)
    assert os.path.lexists(fault.path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "expected", id="empty"),
        pytest.param('{"name": "x"}', "expected", id="without its facts"),
        pytest.param(
            json.dumps(dict.fromkeys(("name", "platform", "manifest", "chain_id"), "x")),
            "is that of another image",
            id="another's",
        ),
    ],
)
def test_a_damaged_image_is_found_and_forgotten(text: str, why: str, layout: Path, store: StoreSnapshotter) -> None:
    full = unpacked(store, layout, "full")
    path = Path(store.catalog.image_path(f"{layout}:full", "linux/amd64"))

    path.write_text(text)
    (fault,) = check(store).faults

    assert (fault.kind, fault.path) == ("image", str(path))
    assert why in fault.why
    assert repair(store).removed == (fault,)
    assert not path.exists()
    assert names(store) == set(full), "for the garbage collection to decide"


def test_an_image_without_its_snapshot_is_unpacked_again(layout: Path, store: StoreSnapshotter) -> None:
    full = unpacked(store, layout, "full")
    store.remove(full[-1])

    (fault,) = check(store).faults
    done = repair(store, lambda: unpacked(store, layout, "full"))

    assert fault.why == f"its snapshot {full[-1]} is not there"
    assert (done.faults, done.remade) == ((), (fault,))
    assert names(store) == set(full)


def test_what_is_no_snapshot_in_the_place_of_one(store: StoreSnapshotter) -> None:
    place = Path(store.catalog.root, "snapshots")
    (place / "sha256").mkdir()
    (place / "sha256/notes").write_text("of somebody")
    (place / "README").write_text("of somebody")

    found = check(store)

    assert {(fault.path, fault.why) for fault in found.faults} == {
        (str(place / "sha256/notes"), "is no snapshot"),
        (str(place / "README"), "is no snapshot"),
    }
    assert repair(store).faults == ()
    assert names(store) == set()


def test_what_killed_processes_left_is_swept(store: StoreSnapshotter) -> None:
    store.prepare("work")
    root = Path(store.catalog.root)
    (root / "staging/half").mkdir()
    (root / "leases/left").write_text("x")
    (root / f"images/.{'0' * 64}.json.new").write_text("{")
    Path(store.catalog.active_path("work"), ".active.json.new").write_text("{")

    found = check(store)

    assert (found.faults, found.leftovers) == ((), 4)
    assert check(store).leftovers == 0


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_repair_that_was_killed_is_finished_by_the_next(at: int, layout: Path, store: StoreSnapshotter) -> None:
    """Nothing is in the place of a snapshot that is not one: neither half removed, nor half made."""
    full = unpacked(store, layout, "full")
    for name in full[:2]:
        cut("snapshot.json")(Path(store.catalog.path(name)))
    program = f"""
import os, signal
from pathlib import Path
from tests.snapshots.stores import unpacked
from unpacker.snapshots.catalog import Catalog
from unpacker.snapshots.fsck import repair
from unpacker.snapshots.overlay import OverlaySnapshotter
times = 0
def until_killed(change):
    def changed(*args):
        global times
        change(*args)
        times += 1
        if times == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
    return changed
Catalog.take, Catalog.publish = until_killed(Catalog.take), until_killed(Catalog.publish)
store = OverlaySnapshotter({store.catalog.root!r}, sync=False)
repair(store, lambda: unpacked(store, Path({str(layout)!r}), "full"))
"""

    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=False)

    assert done.returncode == -9
    finished = repair(store, lambda: unpacked(store, layout, "full"))
    assert finished.faults == check(store).faults == ()
    assert names(store) == set(full)
    assert os.listdir(Path(store.catalog.root, "staging")) == []


def test_size_is_not_compared_to_the_block(layout: Path, store: StoreSnapshotter) -> None:
    """Filesystems allocate when data reaches the disk, or inline it: then files have other blocks than when counted."""
    full = unpacked(store, layout, "full")
    for name, size in ((full[1], store.usage(full[1]).size + 4 * 4096), (full[2], 0)):
        usage = {"inodes": store.usage(name).inodes, "size": size}
        edited({"usage": usage})(Path(store.catalog.path(name)))

    assert check(store).faults == ()


def test_it_does_not_look_through_links_out_of_the_store(layout: Path, store: StoreSnapshotter, tmp_path: Path) -> None:
    full = unpacked(store, layout, "full")
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(10):
        (outside / str(number)).touch()
    usr = Path(store.files(full[1]), "usr")
    usr.unlink()
    usr.symlink_to(outside)

    only(check(store).faults)
    repair(store)

    assert len(os.listdir(outside)) == 10
    assert subprocess.run(["ls", outside], check=True, capture_output=True).stdout
