"""Merged trees: the second DEST of an image is one call on btrfs, and the same tree; whatever happens to what is kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.faults import calls, ended, forked, killed
from tests.snapshots.namespaces import in_own_mounts
from tests.support.layoutbuild import write_layout
from tests.support.mounted import mounted_btrfs
from tests.support.probes import (
    NOBODY,
    needs_btrfs,
    needs_nobody,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from tests.support.tarbuild import char, directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff, read
from unpacker.errors import LossError
from unpacker.events import Event, LayerApplied, LayerReused
from unpacker.image import Image
from unpacker.snapshots import gc, merged
from unpacker.snapshots.catalog import opened
from unpacker.snapshots.fsck import check, repair
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.opening import open_snapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.tree import subvolume
from unpacker.tree.remove import remove_at
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpacker.events import Report
    from unpacker.snapshots.base import StoreSnapshotter

FIXTURES = Path(__file__).parents[2] / "fixtures"
LAYERS = [
    layer(
        directory("./", mode=0o2311, uid=7, gid=8, mtime=1_250_000_000),
        *(
            directory("d", mode=0o500, mtime=5 * 10**9),
            file("d/a", b"a" * 9000, mode=0),
            file("d/b", b"b", uid=3, gid=4),
        ),
        *(hardlink("d/c", "d/b"), symlink("l", "d"), file("gone", b"g"), file("o/old", b"o")),
    ),
    layer(file("l/new", b"n", xattrs={"user.a": b"1"}), whiteout("gone"), opaque("o"), file("o/new", b"x" * 300_000)),
    layer(file("top", b"t", mode=0o4755), directory("closed", mode=0)),
]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "layout", LAYERS).path


def is_subvolume(path: Path) -> bool:
    return path.stat().st_ino == 256


def kept(store: Path) -> list[Path]:
    return sorted(store.glob("snapshots/*/*/merged"))


def stored(source: Path | str, place: Path, name: str = "dest", **more: object) -> Report:
    """Unpack by way of the store of a place, without waiting for the disk."""
    return unpack(source, place / name, store=place / "store", labels=False, sync=False, **more)  # type: ignore[arg-type]


def facts(report: Report) -> dict[str, object]:
    """Give what two runs should say alike: what is odd about a layer is told by who reads it, and no store has that."""
    return {name: value for name, value in vars(report).items() if name not in ("dest", "seconds", "warnings")}


def left(place: Path) -> list[str]:
    """Name what should not be there while nobody works."""
    return [
        *(name for name in os.listdir(place) if name.startswith(".")),
        *(path.name for part in ("staging", "leases") for path in (place / "store" / part).glob("*")),
    ]


# -- the second DEST ---------------------------------------------------------------------------------------------------


@needs_btrfs
@in_own_mounts
@pytest.mark.parametrize("kind", [OverlaySnapshotter, NativeSnapshotter], ids=["overlay", "native"])
def test_it_is_one_call_and_the_same_tree_and_report(
    kind: type[StoreSnapshotter], layout: Path, tmp_path: Path
) -> None:
    """As an unpack without a store makes it; the layers are not looked at, and no lock is taken."""
    place = mounted_btrfs(tmp_path)
    kind(place / "store", sync=False).close()
    for number, source in enumerate([layout, *(FIXTURES / name for name in ("edge", "replaced", "multi"))]):
        unpack(source, tmp_path / f"plain {number}", labels=False)
        expected = read(tmp_path / f"plain {number}")
        first = stored(source, place, f"first {number}")
        (locks := place / "store/locks").rename(place / "store/no-locks")
        seen: list[Event] = []
        second = stored(source, place, f"second {number}", on_event=seen.append)
        locks.with_name("no-locks").rename(locks)

        for name in ("first", "second"):
            assert diff(expected, read(place / f"{name} {number}")) == []
            assert is_subvolume(place / f"{name} {number}")
        assert facts(first) == facts(second)
        layers = len(Image.open(source).layers)
        assert [type(event) for event in seen if isinstance(event, LayerApplied | LayerReused)] == [
            LayerReused
        ] * layers
    assert len(kept(place / "store")) == 4
    with open_snapshotter(place / "store") as snapshots:
        assert check(snapshots).faults == ()
    assert left(place) == []


@needs_btrfs
@in_own_mounts
def test_each_dest_is_a_tree_of_its_own(layout: Path, tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    stored(layout, place, "first")
    expected = read(place / "first")
    (place / "first/top").write_bytes(b"changed")
    shutil.rmtree(place / "first/d")

    stored(layout, place, "second")
    assert diff(expected, read(place / "second")) == []
    (place / "second/top").unlink()
    stored(layout, place, "third")

    assert diff(expected, read(place / "third")) == []
    assert (place / "first/top").read_bytes() == b"changed"
    shutil.rmtree(place / "second")


@needs_btrfs
@in_own_mounts
def test_by_force_a_subvolume_takes_the_place_of_another(layout: Path, tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    expected = read_stored(layout, place)
    (place / "dest/more").touch()

    stored(layout, place, force=True)

    assert diff(expected, read(place / "dest")) == []
    assert sorted(os.listdir(place)) == ["dest", "store"]


def read_stored(layout: Path, place: Path, name: str = "dest", **more: object) -> Tree:
    stored(layout, place, name, **more)
    return read(place / name)


@needs_btrfs
@in_own_mounts
def test_another_name_of_the_image_is_noted_first(layout: Path, tmp_path: Path) -> None:
    """Else garbage collection would take the snapshots away from under it."""
    place = mounted_btrfs(tmp_path)
    stored(layout, place, "first")
    again = shutil.copytree(layout, tmp_path / "again")

    stored(again, place, "second")

    assert is_subvolume(place / "second")
    with open_snapshotter(place / "store") as snapshots:
        assert sorted(image["name"] for image in snapshots.catalog.images()) == [f"{again}:latest", f"{layout}:latest"]


@needs_btrfs
@in_own_mounts
def test_losses_are_told_the_second_time_as_well(tmp_path: Path) -> None:
    """A device 0:0, which is a whiteout in a store; strict fails alike."""
    source = write_layout(tmp_path / "layout", [layer(char("d/null", 0, 0), file("d/f"))]).path
    place = mounted_btrfs(tmp_path)
    first, second = stored(source, place, "first"), stored(source, place, "second")

    assert first.losses
    assert facts(first) == facts(second)
    said = []
    for name in ("strict", "strict again"):
        with pytest.raises(LossError) as error:
            stored(source, place, name, strict=True)
        said.append(str(error.value))
        assert not (place / name).exists()
    assert said[0] == said[1]
    with pytest.raises(LossError, match=r"d/null"):
        unpack(source, place / "other", store=place / "other store", strict=True, sync=False)
    assert left(place) == []


# -- where it cannot be ------------------------------------------------------------------------------------------------


@needs_btrfs
@in_own_mounts
def test_a_dest_that_stays_gets_files(layout: Path, tmp_path: Path) -> None:
    """What is in a subvolume does not move out of it by a rename."""
    place = mounted_btrfs(tmp_path)
    expected = read_stored(layout, place, "first")
    (place / "second").mkdir()
    os.chdir(place / "second")

    stored(layout, place, "second")

    assert not is_subvolume(place / "second")
    assert diff(expected, read(place / "second")) == []


@needs_btrfs
@in_own_mounts
def test_links_into_the_store_are_links(layout: Path, tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    expected = read_stored(layout, place, "first")

    stored(layout, place, "second", link=True)

    assert not is_subvolume(place / "second")
    assert (place / "second/top").stat().st_nlink == 2
    assert diff(expected, read(place / "second")) == []
    assert (place / "second/top").samefile(next((place / "store/snapshots").glob("*/*/fs/top")))


@needs_btrfs
@in_own_mounts
def test_another_filesystem_gets_a_copy_and_nothing_is_kept_for_it(layout: Path, tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    for name in ("first", "second"):
        unpack(layout, tmp_path / name, store=place / "store", labels=False, sync=False)
    assert kept(place / "store") == []
    (tmp_path / "other").mkdir()
    other = mounted_btrfs(tmp_path / "other")
    stored(layout, place)

    unpack(layout, other / "dest", store=place / "store", labels=False, sync=False)

    assert diff(read(tmp_path / "first"), read(other / "dest")) == []
    assert not is_subvolume(other / "dest")


@needs_btrfs
@in_own_mounts
def test_an_image_without_layers_is_an_empty_directory(tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    source = write_layout(tmp_path / "layout", []).path
    for name in ("first", "second"):
        assert stored(source, place, name).layers == 0
        assert os.listdir(place / name) == []
        assert not is_subvolume(place / name)


@needs_btrfs
@in_own_mounts
def test_who_owns_all_of_it_makes_another_tree(layout: Path, tmp_path: Path) -> None:
    """Without the image's owners, files belong to the caller and to the caller's group of that moment."""
    place = mounted_btrfs(tmp_path)
    stored(layout, place, "first", owner="self")

    def work() -> None:
        os.setegid(4321)
        stored(layout, place, "second", owner="self")

    assert ended(forked(work)) == 0
    assert (place / "first/top").stat().st_gid == os.getegid()
    assert (place / "second/top").stat().st_gid == 4321


# -- what is kept, and changed or damaged ------------------------------------------------------------------------------


def open_to_all(tree: Path) -> None:
    """Let a kept tree be written to, as its owner can."""
    descriptor = os.open(tree, os.O_RDONLY)
    assert subvolume.set_writable(descriptor, writable=True)
    os.close(descriptor)


def write(place: Path) -> None:
    open_to_all(place / "fs")
    with open(place / "fs/top", "r+b") as changed:
        changed.write(b"T")


def copy(place: Path) -> None:
    """Put a directory in place of the subvolume, as in a store that was copied file by file."""
    shutil.copytree(place / "fs", place / "copied", symlinks=True)
    (place / "fs").rename(place / "subvolume")
    (place / "copied").rename(place / "fs")


def swap(place: Path) -> None:
    """Put another subvolume in its place."""
    (place / "fs").rename(place / "before")
    made = os.open(place, os.O_RDONLY)
    assert subvolume.create(made, b"fs")
    os.close(made)


def replace(place: Path) -> None:
    without_merged(place.parents[3])
    place.touch()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "written to": (write, "is not in the state in which it was left"),
    "a directory": (copy, "is not in the state in which it was left"),
    "another subvolume": (swap, "is not in the state in which it was left"),
    "no files": (lambda place: (place / "fs").rename(place / "else"), "has no fs"),
    "no record": (lambda place: (place / "merged.json").unlink(), "has no merged.json"),
    "half a record": (lambda place: os.truncate(place / "merged.json", 20), "merged.json: expected JSON"),
    "a record of another format": (
        lambda place: (place / "merged.json").write_text('{"format": 2}'),
        "merged.json: format: expected",
    ),
    "a file in its place": (replace, "has no merged.json"),
}


@needs_btrfs
@in_own_mounts
@pytest.mark.parametrize(("damage", "why"), DAMAGES.values(), ids=DAMAGES)
def test_a_kept_tree_that_is_not_what_it_was_is_made_anew(
    damage: Callable[[Path], object], why: str, layout: Path, tmp_path: Path
) -> None:
    """Nobody gets it, fsck says so, and the next unpack, or a repair, takes it away."""
    place = mounted_btrfs(tmp_path)
    expected = read_stored(layout, place, "first")
    (known,) = kept(place / "store")

    damage(known)
    with open_snapshotter(place / "store", sync=False) as snapshots:
        (fault,) = check(snapshots).faults
    assert (fault.kind, fault.path) == ("merged", str(known))
    assert why in fault.why
    assert diff(expected, read_stored(layout, place, "second")) == []

    with open_snapshotter(place / "store", sync=False) as snapshots:
        assert check(snapshots).faults == ()
        damage(kept(place / "store")[0])
        assert [fault.kind for fault in repair(snapshots).removed] == ["merged"]
        assert check(snapshots).faults == ()
    assert kept(place / "store") == []
    assert diff(expected, read_stored(layout, place, "third")) == []
    assert left(place) == []


@needs_btrfs
@in_own_mounts
@pytest.mark.parametrize("when", ["before", "after", "not yet"])
def test_a_kept_tree_that_is_removed_while_it_is_copied_is_not_taken(
    when: str, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes it renames it first; of what was copied until then, some may be missing."""
    place = mounted_btrfs(tmp_path)
    expected = read_stored(layout, place, "first")
    (known,) = kept(place / "store")
    original = subvolume.snapshot

    def meanwhile(source: int, directory: int, name: bytes) -> bool:
        monkeypatch.undo()
        if when == "after":
            assert original(source, directory, name)
        known.rename(place / "removed")
        if when != "not yet":
            open_to_all(place / "removed/fs")
            (place / "removed/fs/top").unlink()
        return when == "after" or original(source, directory, name)

    monkeypatch.setattr(subvolume, "snapshot", meanwhile)
    stored(layout, place, "second")

    assert not known.samefile(place / "removed")
    assert diff(expected, read(place / "second")) == []
    assert left(place) == []


@needs_btrfs
@in_own_mounts
def test_what_cannot_be_kept_is_no_reason_to_stop(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = mounted_btrfs(tmp_path)
    unpack(layout, tmp_path / "plain", labels=False)

    def full(*_values: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(merged, "keep", full)
    report = stored(layout, place)

    assert report.warnings == (f"{place}/store: the merged tree is not kept: [Errno 28] No space left on device",)
    assert diff(read(tmp_path / "plain"), read(place / "dest")) == []
    assert left(place) == []


@needs_btrfs
@in_own_mounts
def test_it_goes_with_its_snapshot(layout: Path, tmp_path: Path) -> None:
    """By garbage collection; what was copied from it stays."""
    place = mounted_btrfs(tmp_path)
    expected = read_stored(layout, place)
    with open_snapshotter(place / "store", sync=False) as snapshots:
        assert snapshots.catalog.remove_image(f"{layout}:latest", "linux/amd64")

        assert len(gc.collect(snapshots).removed) == 3

    assert list((place / "store/snapshots").glob("*/*")) == []
    assert left(place) == []
    assert diff(expected, read(place / "dest")) == []


@needs_btrfs
@in_own_mounts
def test_it_goes_when_its_snapshot_is_only_what_others_stand_on(tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    base = write_layout(tmp_path / "base", LAYERS[:2]).path
    top = write_layout(tmp_path / "top", LAYERS).path
    stored(base, place, "first")
    stored(top, place, "second")
    with open_snapshotter(place / "store", sync=False) as snapshots:
        assert gc.collect(snapshots).merged == 0
        assert snapshots.catalog.remove_image(f"{base}:latest", "linux/amd64")

        found = gc.collect(snapshots, dry_run=True)
        assert (found.removed, found.kept, found.merged) == ((), 3, 1)
        assert len(kept(place / "store")) == 2
        assert gc.collect(snapshots).changed(leftovers=0) == found

    assert kept(place / "store") == [Path(merged.path(snapshots.catalog, str(Image.open(top).chain_ids()[-1])))]
    assert left(place) == []


@needs_btrfs
@in_own_mounts
def test_store_and_dest_may_be_in_different_subvolumes(layout: Path, tmp_path: Path) -> None:
    """As they are where a system has one for homes, whose devices are not the same."""
    place = mounted_btrfs(tmp_path)
    above = os.open(place, os.O_RDONLY)
    assert subvolume.create(above, b"home")
    os.close(above)
    expected = read_stored(layout, place, "first")
    for name in ("home/second", "home/third"):
        assert diff(expected, read_stored(layout, place, name)) == []
        assert is_subvolume(place / name)
    assert left(place) == left(place / "home/..") == []
    assert sorted(os.listdir(place / "home")) == ["second", "third"]


# -- many at once, killed ones, users without privilege ----------------------------------------------------------------


@needs_btrfs
@in_own_mounts
def test_of_eight_processes_one_makes_it(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = mounted_btrfs(tmp_path)
    start = tmp_path / "start"
    original = merged.keep

    def told(*values: object) -> bool:
        with open(tmp_path / "kept", "a") as log:
            log.write(f"{os.getpid()}\n")
        return original(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(merged, "keep", told)

    def work(number: int) -> None:
        while not start.exists():
            time.sleep(0.01)
        stored(layout, place, f"dest {number}")

    pids = [forked(lambda number=number: work(number)) for number in range(8)]  # type: ignore[misc]
    start.touch()

    assert [ended(pid) for pid in pids] == [0] * 8
    assert len((tmp_path / "kept").read_text().splitlines()) == 1
    expected = read(place / "dest 0")
    for number in range(8):
        assert is_subvolume(place / f"dest {number}")
        assert diff(expected, read(place / f"dest {number}")) == []
    assert left(place) == []


def without_merged(store: Path) -> None:
    """Leave all layers: the steps that are of interest come after them."""
    for path in kept(store):
        with opened(str(path.parent)) as parent:
            remove_at(parent, path.name)


@needs_btrfs
@in_own_mounts
def test_an_unpack_that_is_killed_at_any_step(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one needs no help: what is kept is whole or not there, and what was begun is swept."""
    place = mounted_btrfs(tmp_path, "512M")
    expected = read_stored(layout, place, "first")
    without_merged(place / "store")

    def check_next(number: object) -> None:
        if (place / "dest").exists():
            shutil.rmtree(place / "dest")
        assert diff(expected, read_stored(layout, place)) == [], number
        assert is_subvolume(place / "dest")
        with open_snapshotter(place / "store", sync=False) as snapshots:
            assert check(snapshots).faults == ()
        assert left(place) == []
        shutil.rmtree(place / "dest")
        without_merged(place / "store")

    total = calls(lambda: stored(layout, place))
    check_next("counted")
    for number in range(1 + total % 5, total + 1, max(1, total // 25)):
        assert killed(number, lambda: stored(layout, place))
        check_next(number)

    original = subvolume._ask

    def after(number: int) -> None:
        asked: list[int] = []

        def ask(descriptor: int, request: int, argument: bytearray) -> bool:
            done = original(descriptor, request, argument)
            asked.append(request)
            if len(asked) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        monkeypatch.setattr(subvolume, "_ask", ask)
        stored(layout, place)

    number = 0
    while ended(forked(lambda number=number: after(number + 1))):  # type: ignore[misc]
        number += 1
        check_next(f"call {number}")
    assert number > 5, "two looks at the filesystem, made, copied, closed, looked at"


@needs_btrfs
@in_own_mounts
def test_a_power_cut_leaves_what_is_whole(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each call that writes something down: the disk, as it is then, has a whole tree or none."""
    place = mounted_btrfs(tmp_path, "128M")
    image = Image.open(layout)
    with open_snapshotter(place / "store", create=True) as snapshots:
        image.unpack(snapshots, labels=False)
    cuts: list[Path] = []

    def cutting(call: Callable[..., object]) -> Callable[..., object]:
        def cut(*values: object, **given: object) -> object:
            done = call(*values, **given)
            cuts.append(tmp_path / f"cut {len(cuts)}")
            subprocess.run(["cp", "--sparse=always", tmp_path / "btrfs", cuts[-1]], check=True)
            return done

        return cut

    with monkeypatch.context() as patch:
        for module, name in ((subvolume, "_ask"), (os, "rename"), (os, "fsync")):
            patch.setattr(module, name, cutting(getattr(module, name)))
        unpack(layout, place / "dest", store=place / "store", labels=False)
    expected = read(place / "dest")
    subprocess.run(["umount", place], check=True)

    found = set()
    for cut in cuts:
        subprocess.run(["mount", "-o", "loop", cut, place], check=True)
        with open_snapshotter(place / "store") as snapshots:
            assert check(snapshots).faults == ()
        found.add(len(kept(place / "store")))
        if (place / "dest").exists():
            assert diff(expected, read(place / "dest")) == []
        assert diff(expected, read_stored(layout, place, "next")) == []
        subprocess.run(["umount", place], check=True)
        cut.unlink()
    assert found == {0, 1}


@needs_btrfs
@needs_nobody
@in_own_mounts
def test_a_user_without_privilege_has_all_of_it(layout: Path, tmp_path: Path) -> None:
    """Files that even their owner may not read, a root that nobody may enter, and the removal of all of it."""
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as directory:
        shutil.copytree(layout, directory / "layout")
        for parent, names, files in os.walk(directory):
            for name in (".", *names, *files):
                os.chown(os.path.join(parent, name), NOBODY, NOBODY)
        place = mounted_btrfs(directory)
        try:
            has_all_of_it(place, python)
        finally:
            subprocess.run(["umount", place], check=True)


def has_all_of_it(place: Path, python: str) -> None:
    os.chown(place, NOBODY, NOBODY)

    def run(*words: str) -> dict[str, object]:
        done = run_as_nobody([python, "-m", "unpacker", *words, "--format=json"], cwd=place)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    plain = run("unpack", "-q", "../layout", "plain")
    reports = [run("unpack", "-q", "--store=store", "../layout", name) for name in ("first", "second")]
    expected = read(place / "plain")
    for name in ("first", "second"):
        assert diff(expected, read(place / name)) == []
        assert is_subvolume(place / name)
    assert reports[0]["losses"] == reports[1]["losses"] == plain["losses"] != {}
    assert reports[0]["loss_samples"] == reports[1]["loss_samples"] != {}
    assert run("fsck", "--store=store")["faults"] == []
    run("unpack", "-q", "--store=store", "--force", "../layout", "first")
    run("rm", "--store=store", "../layout")
    assert len(run("gc", "--store=store")["removed"]) == 3  # type: ignore[arg-type]
    assert list((place / "store/snapshots").glob("*/*")) == []
    assert left(place) == []
