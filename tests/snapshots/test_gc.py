"""Garbage collection: what is kept, what goes, in which order, and beside whom."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.stores import forget, layout_of, names, unpacked
from tests.support.probes import PROJECT
from unpacker.errors import DocumentError
from unpacker.snapshots.fsck import check
from unpacker.snapshots.gc import collect
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


# -- what is kept ------------------------------------------------------------------------------------------------------


@KINDS
def test_what_no_image_stands_for_goes_and_says_what_it_took(
    kind: type[StoreSnapshotter], layout: Path, tmp_path: Path
) -> None:
    with kind(tmp_path / "store", sync=False) as store:
        full, half = unpacked(store, layout, "full"), unpacked(store, layout, "half")
        assert collect(store).removed == ()
        used = [store.usage(name) for name in full[1:]]

        forget(store, layout, "full")
        done = collect(store)

        assert [record.name for record in done.removed] == [full[2], full[1]], "the child goes before its parent"
        assert names(store) == set(half), "what another image shares stays"
        assert (done.kept, done.freed.size) == (2, sum(usage.size for usage in used))
        assert done.freed.inodes == sum(usage.inodes for usage in used)
        assert not any(os.path.lexists(store.catalog.path(name)) for name in full[1:])
        assert os.listdir(tmp_path / "store/staging") == []


def test_the_same_name_on_two_platforms_is_two_images(layout: Path, store: StoreSnapshotter) -> None:
    full = unpacked(store, layout, "full")
    facts = next(store.catalog.images())
    store.catalog.set_image({**facts, "platform": "linux/arm64", "chain_id": full[0]})

    assert collect(store).removed == ()
    store.catalog.remove_image(facts["name"], facts["platform"])
    assert [record.name for record in collect(store).removed] == full[:0:-1]


@pytest.mark.parametrize("make", [OverlaySnapshotter.prepare, OverlaySnapshotter.view], ids=["active", "view"])
def test_what_somebody_works_with_stays_and_all_below_it(
    make: Callable[..., object], layout: Path, store: StoreSnapshotter
) -> None:
    full = unpacked(store, layout, "full")
    make(store, "work", full[1])
    forget(store, layout, "full")

    assert [record.name for record in collect(store).removed] == full[2:]
    assert names(store) == {"work", *full[:2]}
    store.remove("work")
    assert [record.name for record in collect(store).removed] == [full[1], full[0]]


def mine(store: StoreSnapshotter, name: str, parent: str | None = None, **labels: str) -> str:
    """Commit a snapshot by hand."""
    store.prepare(f"{name} in the making", parent)
    store.commit(name, f"{name} in the making", {key.replace("_", "/"): value for key, value in labels.items()})
    return name


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        pytest.param("containerd.io/gc.root", "2026-11-24T00:00:00Z", {"named", "root"}, id="root"),
        pytest.param("containerd.io/gc.root.not", "yes", set(), id="another label"),
        pytest.param("containerd.io/gc.ref.snapshot.overlay", "other", set(), id="a reference of what is not kept"),
    ],
)
def test_labels_that_make_a_snapshot_stay(key: str, value: str, kept: set[str], store: StoreSnapshotter) -> None:
    mine(store, "other")
    mine(store, "root")
    mine(store, "named", "root")
    store.update(store.stat("named").changed(labels={key: value}), f"labels.{key}")

    collect(store)

    assert names(store) == kept


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        pytest.param("containerd.io/gc.ref.snapshot.overlay", True, id="this kind"),
        pytest.param("containerd.io/gc.ref.snapshot.overlay/first", True, id="one of several"),
        pytest.param("containerd.io/gc.ref.snapshot.native", False, id="another kind"),
        pytest.param("containerd.io/gc.ref.snapshot.overlayfs", False, id="a longer word"),
        pytest.param("containerd.io/gc.ref.content", False, id="of content"),
    ],
)
def test_labels_that_refer_to_others(key: str, kept: bool, store: StoreSnapshotter) -> None:
    mine(store, "below")
    mine(store, "wanted", "below")
    store.prepare("work", labels={key: "wanted"})

    collect(store)

    assert names(store) == ({"work", "wanted", "below"} if kept else {"work"})


def test_references_in_a_circle_end(store: StoreSnapshotter) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        mine(store, name)
        labels = {"containerd.io/gc.ref.snapshot.overlay": other, "containerd.io/gc.root": "yes"}
        store.update(store.stat(name).changed(labels=labels), "labels")

    assert collect(store).removed == ()
    for name in ("a", "b"):
        store.update(store.stat(name).changed(labels={}), "labels.containerd.io/gc.root")
    assert {record.name for record in collect(store).removed} == {"a", "b"}


# -- beside others -----------------------------------------------------------------------------------------------------


def test_a_lease_keeps_what_is_there_and_what_is_to_come(layout: Path, store: StoreSnapshotter) -> None:
    full = unpacked(store, layout, "full")
    forget(store, layout, "full")

    with store.catalog.lease([full[1], "to come"]):
        assert [record.name for record in collect(store).removed] == [full[2]]
        mine(store, "to come")
        assert collect(store).removed == ()
    assert {record.name for record in collect(store).removed} == {full[0], full[1], "to come"}


def test_a_lease_of_a_killed_process_keeps_nothing(layout: Path, store: StoreSnapshotter) -> None:
    full = unpacked(store, layout, "full")
    forget(store, layout, "full")
    program = f"""
import os, signal
from unpacker.snapshots.overlay import OverlaySnapshotter
with OverlaySnapshotter({store.catalog.root!r}).catalog.lease({full!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=False)
    assert done.returncode == -9
    assert len(os.listdir(os.path.join(store.catalog.root, "leases"))) == 1

    found = collect(store)

    assert (len(found.removed), found.leftovers) == (3, 1)
    assert os.listdir(os.path.join(store.catalog.root, "leases")) == []


UNPACK_AND_FORGET = """
import sys
from tests.snapshots.stores import forget, unpacked
from tests.support.tree import read
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.unpacking import unpack
from pathlib import Path

layout, store, dest = map(Path, sys.argv[1:4])
with OverlaySnapshotter(store, sync=False) as snapshotter:
    for turn in range(int(sys.argv[4])):
        name = ("full", "half")[turn % 2]
        unpack(f"{layout}:{name}", dest, platform="linux/amd64", force=True, store=store, labels=False, sync=False)
        assert (dest / "etc/hosts").read_text().startswith(("middle", "base")[turn % 2])
        snapshotter.catalog.remove_image(f"{layout}:{name}", "linux/amd64")
"""


def test_unpacks_go_on_while_everything_is_collected_all_the_time(
    layout: Path, store: StoreSnapshotter, tmp_path: Path
) -> None:
    """No unpack loses a layer between finding it in the store and copying it out; nor does a collection fail."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", UNPACK_AND_FORGET, layout, store.catalog.root, tmp_path / f"dest{number}", "12"],
            cwd=PROJECT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    removed = 0
    try:
        while any(worker.poll() is None for worker in workers):
            removed += len(collect(store).removed)
    finally:
        said = [worker.communicate()[1] for worker in workers]

    assert [(worker.returncode, text) for worker, text in zip(workers, said, strict=True)] == [(0, "")] * 3
    assert removed > 0
    assert check(store).faults == ()
    collect(store)
    assert names(store) == set()


# -- when something goes wrong -----------------------------------------------------------------------------------------


def test_a_dry_run_says_the_same_and_does_nothing(layout: Path, store: StoreSnapshotter) -> None:
    full = unpacked(store, layout, "full")
    forget(store, layout, "full")

    planned = collect(store, dry_run=True)

    assert names(store) == set(full)
    assert planned.removed == collect(store).removed
    assert names(store) == set()


@pytest.mark.parametrize("what", ["record", "image"])
def test_nothing_goes_while_nobody_knows_what_a_damaged_file_refers_to(
    what: str, layout: Path, store: StoreSnapshotter
) -> None:
    full, alone = unpacked(store, layout, "full"), unpacked(store, layout, "alone")
    forget(store, layout, "full")
    damaged = Path(store.catalog.path(alone[0]), "snapshot.json")
    if what == "image":
        damaged = Path(store.catalog.image_path(f"{layout}:alone", "linux/amd64"))
    damaged.write_text("{}")

    with pytest.raises(DocumentError, match=str(damaged)):
        collect(store)

    assert all(os.path.isdir(store.catalog.path(name)) for name in full)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_killed_in_the_middle_it_leaves_a_whole_store(at: int, layout: Path, store: StoreSnapshotter) -> None:
    full = unpacked(store, layout, "full")
    forget(store, layout, "full")
    program = f"""
import os, signal
from unpacker.snapshots import gc
from unpacker.snapshots.overlay import OverlaySnapshotter
rename, times = os.rename, 0
def killed(*args, **options):
    global times
    rename(*args, **options)
    times += 1
    if times == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
os.rename = killed
gc.collect(OverlaySnapshotter({store.catalog.root!r}))
"""

    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=False)

    assert done.returncode == -9
    assert names(store) == set(full[: 3 - at])
    found = check(store)
    assert (found.faults, found.leftovers) == ((), 1), "the directory in staging"
    collect(store)
    assert names(store) == set()


def test_a_chain_of_a_thousand_goes_from_its_end(store: StoreSnapshotter) -> None:
    """Deep as an image may be: no recursion, and no order but the right one."""
    template = store.catalog
    mine(store, "0")
    record = template.committed("0")
    assert record is not None
    for number in range(1, 1000):
        path = Path(template.path(str(number)))
        (path / "fs").mkdir(parents=True)
        (path / "snapshot.json").write_bytes(record.changed(name=str(number), parent=str(number - 1)).as_json())

    removed = [int(record.name) for record in collect(store).removed]

    assert all(above == below + 1 for above, below in pairwise(removed))
    assert len(removed) == 1000
