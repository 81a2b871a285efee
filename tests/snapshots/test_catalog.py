"""The directory of a store: what is one, whose it is, who may change it, and what of it is damaged."""

from __future__ import annotations

import json
import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.faults import ended, forked
from tests.support.layoutbuild import write_layout
from tests.support.mounted import run_on_tmpfs
from tests.support.probes import NOBODY, needs_chown, needs_nobody, needs_tmpfs
from tests.support.tarbuild import directory, file, layer, whiteout
from tests.support.tree import diff, read
from tests.unpack.command import refused, succeeded, unpack
from unpacker.errors import DocumentError, SnapshotStateError, StoreOwnerError, UnpackError, UnsupportedError
from unpacker.image import Image
from unpacker.snapshots.catalog import Catalog
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    layers = [layer(directory("d"), file("d/a", b"1")), layer(file("b", b"2")), layer(whiteout("b"), file("c", b"3"))]
    return write_layout(tmp_path / "layout", layers).path


@pytest.fixture
def store(layout: Path, tmp_path: Path) -> Path:
    """A store with an image of three layers in it."""
    succeeded(unpack("--store", tmp_path / "store", layout, tmp_path / "made"))
    return tmp_path / "store"


# -- what is a store ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("unpack-snapshots 2 overlay\n", "'unpack-snapshots 2 overlay'"),
        ("unpack-snapshots 1 native\n", "'unpack-snapshots 1 native'"),
        ("", "''"),
        ("\x1b[31m" + "x" * 1000, r"'\x1b[31mxxx"),
    ],
    ids=["newer", "of another kind", "empty", "something else"],
)
def test_other_formats_are_refused_and_left_alone(version: str, found: str, store: Path) -> None:
    """By a snapshotter of one kind; whoever takes a store as it is takes both."""
    (store / "version").write_text(version)
    before = read(store)
    with pytest.raises(UnsupportedError) as refusal:
        OverlaySnapshotter(store)
    assert str(refusal.value).startswith(f"{store}/version: unsupported snapshot store {found}")
    assert refusal.value.hint == "supported: unpack-snapshots 1 overlay"
    assert diff(before, read(store)) == []


def test_the_command_names_the_version(store: Path, layout: Path, tmp_path: Path) -> None:
    (store / "version").write_text("unpack-snapshots 9 overlay\n")
    line = refused(unpack("--store", store, layout, tmp_path / "dest"), 5)
    assert line == f"{store}/version: unsupported snapshot store 'unpack-snapshots 9 overlay'"
    assert not (tmp_path / "dest").exists()


def test_a_directory_with_something_else_in_it_is_left_alone(layout: Path, tmp_path: Path) -> None:
    """Whoever gives the wrong directory to ``--store`` loses nothing in it."""
    (tmp_path / "precious").mkdir(mode=0o755)
    (tmp_path / "precious/file").write_text("mine")
    line = refused(unpack("--store", tmp_path / "precious", layout, tmp_path / "dest"), 5)
    assert line == (f"{tmp_path}/precious: unsupported snapshot store a directory with something else in it, 'file'")
    assert os.listdir(tmp_path / "precious") == ["file"]
    assert stat.S_IMODE((tmp_path / "precious").stat().st_mode) == 0o755


@pytest.mark.parametrize("made", [0, 3, 6], ids=["nothing", "some", "all"])
def test_a_store_that_was_never_finished_is(made: int, tmp_path: Path) -> None:
    """A process was killed before it wrote the version."""
    whole = sorted(os.listdir(OverlaySnapshotter(tmp_path / "whole").catalog.root))
    (tmp_path / "store").mkdir()
    for name in [name for name in whole if name != "version"][:made]:
        (tmp_path / "store" / name).mkdir()
    (tmp_path / "store/.version.new").write_text("unp")
    OverlaySnapshotter(tmp_path / "store")
    assert sorted(os.listdir(tmp_path / "store")) == whole


def test_many_make_one_store(tmp_path: Path) -> None:
    """At once: it is made once, and nobody takes it for something else meanwhile."""
    start = tmp_path / "start"

    def work() -> None:
        while not start.exists():
            pass
        for number in range(20):
            with OverlaySnapshotter(tmp_path / f"store {number}") as snapshots:
                snapshots.prepare(f"key {os.getpid()}")

    pids = [forked(work) for _ in range(4)]
    start.touch()
    assert [ended(pid) for pid in pids] == [0] * 4
    for number in range(20):
        assert len(list(OverlaySnapshotter(tmp_path / f"store {number}").walk())) == 4


# -- whose it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o777, 0o1777])
def test_a_store_is_closed_to_others(mode: int, store: Path) -> None:
    """setuid files of images lie in it (CVE-2021-41103): whatever opened it, the next run closes it."""
    store.chmod(mode)
    OverlaySnapshotter(store)
    assert stat.S_IMODE(store.stat().st_mode) == 0o700


def test_a_directory_that_is_there_becomes_a_store_and_is_closed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)
    OverlaySnapshotter(tmp_path / "store")
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


@needs_chown
@needs_nobody
def test_a_store_of_another_user_is_refused(store: Path, layout: Path, tmp_path: Path) -> None:
    """Root would put setuid files into somebody's directory, and follow the links that somebody plants in it."""
    os.chown(store, NOBODY, NOBODY)
    with pytest.raises(StoreOwnerError):
        OverlaySnapshotter(store)
    line = refused(unpack("--store", store, layout, tmp_path / "dest"), 6)
    assert line == f"{store}: a snapshot store of uid {NOBODY}, and you are uid {os.geteuid()}"


# -- what is damaged ---------------------------------------------------------------------------------------------------


def record_of(store: Path, number: int, layout: Path) -> Path:
    chain_id = Image.open(layout).chain_ids()[number]
    return store / "snapshots" / chain_id.algorithm / chain_id.encoded / "snapshot.json"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda document: {**document, "entries": "many"}, "entries: expected"),
        (lambda document: {**document, "format": 9}, "format: expected the integer 1, found 9"),
        (lambda _: [], "expected an object"),
    ],
    ids=["field", "format", "document"],
)
def test_a_damaged_record_is_reported_and_stops_nothing_else(
    damage: object, said: str, store: Path, layout: Path, tmp_path: Path
) -> None:
    """With the path of the file and that in the JSON; other snapshots are as they were."""
    path = record_of(store, 2, layout)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(damage(content)))  # type: ignore[operator]
    names = list(map(str, Image.open(layout).chain_ids()))
    with OverlaySnapshotter(store) as snapshots:
        with pytest.raises(DocumentError, match=said) as failure:
            snapshots.stat(names[2])
        assert str(failure.value).startswith(f"{path}: ")
        assert snapshots.stat(names[1]).parent == names[0]
        assert len(snapshots.mounts(names[1])) == 1
        snapshots.prepare("key", names[1])
        walk = snapshots.walk()
        assert {next(walk).name for _ in range(3)} == {*names[:2], "key"}
        with pytest.raises(DocumentError):
            next(walk)
    line = refused(unpack("--store", store, layout, tmp_path / "dest"), 4)
    assert line.startswith(f"{path}: ")
    assert not (tmp_path / "dest").exists()
    assert path.exists(), "somebody may want to look at it"


def test_a_snapshot_whose_children_are_not_known_stays(store: Path, layout: Path) -> None:
    """One of them may be the one whose record is damaged."""
    record_of(store, 2, layout).write_text("{")
    with OverlaySnapshotter(store) as snapshots, pytest.raises(DocumentError):
        snapshots.remove(str(Image.open(layout).chain_ids()[1]))
    assert record_of(store, 1, layout).exists()


# -- leases, and what is left ------------------------------------------------------------------------------------------


def test_what_dead_processes_left_goes_with_the_next_unpack(store: Path, layout: Path, tmp_path: Path) -> None:
    """Nobody has to call for it: staging, leases; what the living have stays."""
    (store / "staging/0123456789abcdef/fs/deep").mkdir(parents=True)
    (store / "leases/0123456789abcdef").write_text("sha256:0")
    with ExitStack() as living:
        catalog = Catalog(store, "overlay")
        living.enter_context(catalog.lease(["kept"]))
        place = living.enter_context(catalog.staging())
        place.tree(b"fs").close()
        succeeded(unpack("--store", store, layout, tmp_path / "dest"))
        assert len(os.listdir(store / "staging")) == len(os.listdir(store / "leases")) == 1
        assert catalog.leased() == {"kept"}
    assert os.listdir(store / "staging") == os.listdir(store / "leases") == []


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[NativeSnapshotter]:
    with NativeSnapshotter(tmp_path / "native") as made:
        yield made


def test_a_lease_keeps_what_is_not_there_yet(snapshots: NativeSnapshotter) -> None:
    with snapshots.catalog.lease(["name"]):
        snapshots.prepare("key")
        snapshots.commit("name", "key")
        with pytest.raises(SnapshotStateError, match="in use"):
            snapshots.remove("name")
    snapshots.remove("name")


def test_a_snapshotter_outlives_a_change_of_namespaces(store: Path, layout: Path) -> None:
    """A descriptor of before would belong to other mounts, and every rename from it fail with EXDEV."""
    from tests.snapshots.namespaces import in_own_mounts  # noqa: PLC0415 -- needs the right to make namespaces

    with OverlaySnapshotter(store) as opened:

        @in_own_mounts
        def inside() -> None:
            opened.prepare("key", str(Image.open(layout).chain_ids()[0]))

        try:
            inside()
        except PermissionError:
            pytest.skip("missing: the right to make a mount namespace")
        assert opened.stat("key").name == "key"


# -- a full disk -------------------------------------------------------------------------------------------------------


@needs_tmpfs
@pytest.mark.parametrize("kind", ["overlay", "native"])
def test_a_full_disk(kind: str, tmp_path: Path) -> None:
    """The store is as it was, and complete layers stay; with room the same command ends what it began."""
    layers = [layer(*(file(f"d{number}/{name}", os.urandom(20_000)) for name in range(20))) for number in range(4)]
    built = write_layout(tmp_path / "layout", layers, compression="none")
    program = f"""
        import os
        from unpacker.errors import UnpackError
        from unpacker.image import Image
        from unpacker.snapshots.{kind} import {kind.title()}Snapshotter as kind

        image = Image.open({str(built.path)!r})
        with kind(HERE / "store") as snapshots:
            filler = HERE / "filler"
            filler.write_bytes(bytes({3_000_000 if kind == "overlay" else 5_000_000}))
            try:
                image.unpack(snapshots, labels=False)
            except OSError as error:
                assert error.errno == 28, error
                assert any("entry 'd" in note for note in error.__notes__), error.__notes__
            else:
                raise AssertionError("there was room")
            assert os.listdir(HERE / "store/staging") == os.listdir(HERE / "store/leases") == []
            there = [info.name for info in snapshots.walk()]
            assert there == sorted(map(str, image.chain_ids()[: len(there)])), there
            assert 0 < len(there) < 4, there
            assert list(snapshots.catalog.images()) == []
            filler.unlink()
            made = image.unpack(snapshots, labels=False)
            assert len(made) == 4
            assert snapshots.cleanup() == 0
    """
    run_on_tmpfs(tmp_path, "4m" if kind == "overlay" else "8m", program)


def test_bad_input_leaves_the_store_as_it_was(store: Path, tmp_path: Path) -> None:
    """Layers before the damaged one stay, since they are what their digests say."""
    built = write_layout(tmp_path / "bad", [layer(file("new", b"1")), layer(file("worse", b"2"))])
    built.flip(built.images[0].layers[1].digest)
    line = refused(unpack("--store", store, built.path, tmp_path / "dest"), 4)
    assert built.images[0].layers[1].digest in line
    assert os.listdir(store / "staging") == os.listdir(store / "leases") == []
    with OverlaySnapshotter(store) as snapshots:
        assert len(list(snapshots.walk())) == 4
        assert len(list(snapshots.catalog.images())) == 1
        with pytest.raises(UnpackError):
            Image.open(built.path).unpack(snapshots)
