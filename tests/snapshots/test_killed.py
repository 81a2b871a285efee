"""Work on a store that is killed, or fails, at any step: the next one needs no help, and nothing is left.

``UNPACK_TEST_EVERY=1 pytest tests/snapshots/test_killed.py`` takes every step, not every so many-th;
``UNPACK_TEST_KILLS=200`` is how often a process is killed at a random moment.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.snapshots.faults import ERRNOS, calls, ended, failing, forked, killed
from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Node, Tree, diff, files_below, read
from unpacker.errors import NotFoundError, UnpackError
from unpacker.image import Image
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpacker.snapshots.base import StoreSnapshotter

EVERY = int(os.environ.get("UNPACK_TEST_EVERY", "0"))
KILLS = int(os.environ.get("UNPACK_TEST_KILLS", "25"))
FIXTURES = Path(__file__).parents[2] / "fixtures"
KINDS = pytest.mark.parametrize("kind", [OverlaySnapshotter, NativeSnapshotter], ids=["overlay", "native"])

TARS = [
    layer(directory("d"), file("d/a", b"a" * 5000), file("d/b", b"b"), hardlink("d/c", "d/b"), symlink("l", "d")),
    layer(whiteout("d/a"), file("l/new", b"n"), file("d/big", b"x" * 300_000)),
    layer(opaque("d"), file("d/only", b"o"), file("e/f", b"f")),
]


class Case(NamedTuple):
    """An image, and what it is."""

    layout: Path
    tree: Tree


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Case:
    place = tmp_path_factory.mktemp("small")
    built = write_layout(place / "layout", TARS)
    unpack(built.path, place / "dest", labels=False)
    return Case(built.path, read(place / "dest"))


def steps(total: int, most: int) -> list[int]:
    """Choose calls to end at: all of them, or as many as there is time for, other ones each day of the year."""
    step = EVERY or max(1, total // most)
    return list(range(1 + time.gmtime().tm_yday % step, total + 1, step))


def left(store: Path) -> list[str]:
    """Name what should not be there while nobody works on a store."""
    names = [path.relative_to(store).as_posix() for place in ("staging", "leases") for path in store.glob(f"{place}/*")]
    return names + [path.relative_to(store).as_posix() for path in files_below(store) if path.suffix == ".new"]


def whole(kind: type[StoreSnapshotter], case: Case, store: Path, dest: Path) -> None:
    """Unpack once more, without help: all is there then, and nothing else."""
    unpack(case.layout, dest, labels=False, store=store, sync=False)
    assert diff(case.tree, read(dest)) == []
    assert left(store) == []
    image = Image.open(case.layout)
    with kind(store, sync=False) as snapshots:
        assert image.is_unpacked(snapshots)
        assert sorted(info.name for info in snapshots.walk()) == sorted(map(str, image.chain_ids()))
        assert [known["name"] for known in snapshots.catalog.images()] == [f"{case.layout}:latest"]
        assert snapshots.cleanup() == 0


# -- at each step ------------------------------------------------------------------------------------------------------


@KINDS
def test_an_unpack_that_is_killed_at_any_step(kind: type[StoreSnapshotter], small: Case, tmp_path: Path) -> None:
    """Whatever it was at, be it making the store."""

    def work() -> None:
        with kind(tmp_path / "store") as snapshots:
            Image.open(small.layout).unpack(snapshots, labels=False)

    total = calls(work)
    (tmp_path / "store").rename(tmp_path / "complete")
    for number in steps(total, 16):
        assert killed(number, work)
        with kind(tmp_path / "store", sync=False):  # whoever unpacks by name of the store alone makes one for overlays
            pass
        whole(kind, small, tmp_path / "store", tmp_path / f"dest {number}")
        (tmp_path / "store").rename(tmp_path / f"store {number}")


@KINDS
@pytest.mark.parametrize("code", ERRNOS, ids=os.strerror)
def test_an_unpack_that_fails_at_any_step(kind: type[StoreSnapshotter], code: int, small: Case, tmp_path: Path) -> None:
    """It says so, or could do without; what it had begun is removed at once, or by the next one."""

    def work() -> None:
        with kind(tmp_path / "store") as snapshots:
            Image.open(small.layout).unpack(snapshots, labels=False)

    total = calls(work)
    (tmp_path / "store").rename(tmp_path / "complete")
    for number in steps(total, 6):
        try:
            with failing(number, code):
                work()
        except (OSError, UnpackError):
            pass
        with kind(tmp_path / "store", sync=False):
            pass
        whole(kind, small, tmp_path / "store", tmp_path / f"dest {number}")
        (tmp_path / "store").rename(tmp_path / f"store {number}")


def prepare(snapshots: StoreSnapshotter) -> None:
    snapshots.prepare("new", "base")


def commit(snapshots: StoreSnapshotter) -> None:
    snapshots.commit("top", "key")


def remove(snapshots: StoreSnapshotter) -> None:
    snapshots.remove("key")


def update(snapshots: StoreSnapshotter) -> None:
    snapshots.update(snapshots.stat("base").changed(labels={"k": "new"}))


@KINDS
@pytest.mark.parametrize("work", [prepare, commit, remove, update])
@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_change_happens_or_not(
    kind: type[StoreSnapshotter], work: Callable[[StoreSnapshotter], None], how: str, tmp_path: Path
) -> None:
    """At whatever step it ends: there is all of it or nothing, and it can be done afterwards, or is done."""

    def made(store: Path) -> StoreSnapshotter:
        snapshots = kind(store)
        snapshots.prepare("a")
        Path(snapshots.catalog.active_path("a"), "fs", "file").write_text("base")
        snapshots.commit("base", "a", {"k": "old"})
        snapshots.prepare("key", "base")
        Path(snapshots.catalog.active_path("key"), "fs", "new").write_text("new")
        return snapshots

    def state(snapshots: StoreSnapshotter) -> list[tuple[object, ...]]:
        found = sorted(snapshots.walk(), key=lambda info: info.name)
        return [(info.name, info.kind, info.parent, info.labels) for info in found]

    before = state(made(tmp_path / "before"))
    with made(tmp_path / "after") as snapshots:
        total = calls(lambda: work(snapshots))
        after = state(snapshots)
    seen = set()
    for number in steps(total, 6):
        store = tmp_path / f"store {number}"
        with made(store) as snapshots:
            if how == "killed":
                assert killed(number, lambda: work(snapshots))
            else:
                try:
                    with failing(number, ERRNOS[number % len(ERRNOS)]):
                        work(snapshots)
                except OSError:
                    pass
        with kind(store) as again:
            found = state(again)
            assert found in (before, after), number
            seen.add(found == after)
            try:
                work(again)
            except UnpackError:
                assert found == after, number
            assert state(again) == after
            with again.catalog.lease([]):
                pass
            assert [path for path in left(store) if not path.endswith(".new")] == []
            again.cleanup()
            assert left(store) == []
            for info in again.walk():
                with again.opened(info.name) if info.kind == "committed" else again.opened("base") as stack:
                    assert b"file" in [name for name, _ in stack.entries()]
            committed = [Path(again.files(info.name)).parent for info in again.walk("kind==committed")]
            assert {name for path in committed for name in os.listdir(path)} == {"fs", "snapshot.json"}
    if how == "killed":
        assert False in seen, "no kill came before the change, which would show nothing"


# -- at random moments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["edge", "large"])
def test_an_unpack_that_is_killed_at_random_moments(image: str, tmp_path: Path) -> None:
    """Again and again into one store, until it is complete, and then into the next one; DEST is whole or is not there."""
    if image == "edge":
        layout = FIXTURES / "edge"
    else:
        layers = [
            layer(
                *(file(f"d{number}/{name}", os.urandom(2000)) for name in range(150)),
                *([whiteout(f"d{number - 1}/7"), opaque(f"d{number - 2}")] if number > 1 else []),
            )
            for number in range(7)
        ]
        layout = write_layout(tmp_path / "layout", layers).path
    unpack(layout, tmp_path / "expected", labels=False)
    case = Case(layout, read(tmp_path / "expected"))

    def work() -> None:
        unpack(layout, tmp_path / "dest", labels=False, store=tmp_path / "store")

    began = time.monotonic()
    assert ended(forked(work)) == 0
    takes = time.monotonic() - began
    (tmp_path / "dest").rename(tmp_path / "dest-0")
    (tmp_path / "store").rename(tmp_path / "store-0")

    moments = random.Random(takes)  # noqa: S311
    hit = completed = 0
    for number in itertools.count(1):
        began = time.monotonic()
        pid = forked(work)
        time.sleep(moments.uniform(0, takes))
        os.kill(pid, signal.SIGKILL)
        if ended(pid):
            hit += 1
        else:  # the first one was slow, because the machine was busy or its modules were cold
            takes = min(takes, time.monotonic() - began)
        try:
            with OverlaySnapshotter(tmp_path / "store") as snapshots:
                check_layers(snapshots)
        except NotFoundError:
            pass
        if (tmp_path / "dest").exists():
            assert diff(case.tree, read(tmp_path / "dest")) == []
            (tmp_path / "dest").rename(tmp_path / f"dest-{number}")
        if moments.random() < 0.7:
            whole_after_kill(case, tmp_path, number)
            completed += 1
        if hit > KILLS // 4 and number > KILLS // 2:
            break
        assert number < 10 * KILLS, "nearly no kill hits an unpack, which shows nothing"
    whole_after_kill(case, tmp_path, 0)
    assert completed


def whole_after_kill(case: Case, place: Path, number: int) -> None:
    unpack(case.layout, place / "dest", labels=False, store=place / "store", sync=False)
    assert diff(case.tree, read(place / "dest")) == []
    assert left(place / "store") == []
    assert sorted(path.name for path in place.iterdir() if path.name.startswith(".")) == []
    (place / "dest").rename(place / f"whole-{number}")
    (place / "store").rename(place / f"store-{number}-whole")


def _may_be_whiteout(node: Node) -> bool:
    """By either way to write one: a device, or an attribute where the caller may make no devices."""
    return node.kind == "char" or b"user.overlay.whiteout" in node.xattrs


def check_layers(snapshots: StoreSnapshotter) -> None:
    """Compare every snapshot that is there with what a store that nobody disturbed has."""
    complete = OverlaySnapshotter(Path(snapshots.catalog.root).parent / "store-0", sync=False)
    for info in snapshots.walk():
        trees = [read(each.files(info.name)) for each in (complete, snapshots)]
        for tree in trees:  # when a whiteout was made shows nowhere
            tree.update({path: replace(node, mtime_ns=0) for path, node in tree.items() if _may_be_whiteout(node)})
        assert diff(*trees) == []
