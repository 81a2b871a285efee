"""Layers in a store: made by one rule, read again by whoever made them, copied and linked out of it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.probes import (
    PROJECT,
    needs_chown,
    needs_nobody,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from tests.support.tarbuild import directory, file, hardlink, layer, symlink, whiteout
from tests.support.tree import diff, files_below, read
from unpacker.errors import LossError, SnapshotNotFoundError, SnapshotStateError
from unpacker.events import LossKind
from unpacker.image import Image
from unpacker.layer.apply import Told, bound_stage
from unpacker.layer.rules import Rules
from unpacker.snapshots import base
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.snapshots.snapshotter import LayerSource
from unpacker.tree.owners import Owners
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.snapshotter import Usage

KINDS = pytest.mark.parametrize("kind", [OverlaySnapshotter, NativeSnapshotter], ids=["overlay", "native"])


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "layout", [layer(directory("d"), file("d/a", b"1")), layer(file("b", b"2"))]).path


# -- without privilege -------------------------------------------------------------------------------------------------


UNREADABLE = [
    layer(
        directory("write-only", mode=0o300),
        file("write-only/x", b"x"),
        directory("nothing", mode=0),
        file("nothing/y", b"y"),
        file("shadow", b"root:*", mode=0),
        file("group-only", b"1", mode=0o4070, xattrs={"user.note": b"1"}),
        hardlink("shadow-", "shadow"),
        file("replaced", b"1", mode=0o200),
    ),
    layer(file("write-only/z", b"z"), file("replaced", b"2", mode=0o100), hardlink("late", "shadow")),
    layer(whiteout("nothing/y"), file("nothing/w", b"w"), directory("./", mode=0o111)),
]


@needs_nobody
@KINDS
@pytest.mark.parametrize("image", ["unreadable", "edge"])
def test_what_its_owner_may_not_read_comes_out_of_a_store(kind: type[StoreSnapshotter], image: str) -> None:
    """Fedora's /etc/shadow is 0000: without privilege, the store could else neither be read nor built upon."""
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as place:
        layout = PROJECT / "fixtures/edge"
        if image == "unreadable":
            layout = write_layout(place / "layout", UNREADABLE).path
        program = (
            f"import sys; from unpacker.snapshots.{kind.kind} import {kind.__name__} as kind\n"
            "from unpacker.unpacking import unpack; kind('store').close()\n"
            "unpack(sys.argv[1], 'plain', labels=False)\n"
            "for name, link in (('first', False), ('second', False), ('linked', True)):\n"
            "    unpack(sys.argv[1], name, labels=False, store='store', link=link)\n"
        )
        run_as_nobody([python, "-c", program, layout], cwd=place)

        plain = read(place / "plain")
        assert len(plain) > 5
        for name in ("first", "second", "linked"):
            assert diff(plain, read(place / name)) == [], name
        if image == "unreadable":
            for name, links in (("linked/shadow", 3), ("linked/write-only/x", 2)):
                assert (place / name).stat().st_nlink == links, (
                    "what has another mode in the store is copied all the same"
                )
        for path in files_below(place / "store/snapshots"):
            status = path.lstat()
            assert not stat.S_ISREG(status.st_mode) or status.st_mode & stat.S_IRUSR


# -- rules -------------------------------------------------------------------------------------------------------------


@needs_chown
@KINDS
def test_layers_of_other_rules_are_not_mixed(kind: type[StoreSnapshotter], layout: Path, tmp_path: Path) -> None:
    """Not silently: one would get owners that were not asked for."""
    with kind(tmp_path / "store") as snapshots:
        image = Image.open(layout)
        image.unpack(snapshots, Rules(owners=Owners(apply=False, counted=False), umask=0o022))
        with pytest.raises(SnapshotStateError, match=r"was unpacked with .*: use another store"):
            image.unpack(snapshots, Rules(owners=Owners(apply=True), umask=0o022))


@KINDS
def test_what_somebody_has_committed_as_a_layer_is_one(
    kind: type[StoreSnapshotter], layout: Path, tmp_path: Path
) -> None:
    """containerd's remote snapshotters do so: who names a chain_id says that it is this."""
    image = Image.open(layout)
    with kind(tmp_path / "store") as snapshots:
        snapshots.prepare("by hand")
        Path(snapshots.catalog.active_path("by hand"), "fs/mine").write_text("mine")
        snapshots.commit(str(image.chain_ids()[0]), "by hand")
    unpack(layout, tmp_path / "dest", store=tmp_path / "store")
    assert sorted(os.listdir(tmp_path / "dest")) == ["b", "mine"]


@KINDS
def test_a_layer_without_its_parent_does_not_appear(kind: type[StoreSnapshotter], layout: Path, tmp_path: Path) -> None:
    """Who removes the parent meanwhile, where no lease keeps it, is told nothing; who builds on it is."""
    image = Image.open(layout)
    with kind(tmp_path / "store") as snapshots:
        rules = snapshots.rules()
        below, above = map(str, image.chain_ids())
        image.unpack(snapshots, rules)
        snapshots.remove(above)
        top = image.layers[1]

        def removed_meanwhile(*values: object, **given: object) -> object:
            record = staged(*values, **given)  # type: ignore[arg-type]
            snapshots.remove(below)
            return record

        staged = snapshots._stage
        snapshots._stage = removed_meanwhile  # type: ignore[method-assign,assignment]
        source = LayerSource(
            chain_id=top.chain_id,
            diff_id=top.diff_id,
            blob=top.descriptor.digest,
            stage=bound_stage(image.layout, top, Told()),
            take=lambda _place, _name: None,
            on_loss=lambda _kind, _path, _reason: None,
        )
        with pytest.raises(SnapshotNotFoundError, match=below):
            snapshots.extract(source, below, rules)
        assert list(snapshots.walk()) == []
        assert os.listdir(tmp_path / "store/staging") == []


@KINDS
def test_what_is_removed_while_it_is_committed_is_not_there(
    kind: type[StoreSnapshotter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tree is counted before anybody is kept out: that it has gone is said as always."""
    with kind(tmp_path / "store") as snapshots:
        snapshots.prepare("key")

        def meanwhile(path: str) -> Usage:
            snapshots.remove("key")
            return count(path)

        count = base.measured
        monkeypatch.setattr(base, "measured", meanwhile)
        with pytest.raises(SnapshotNotFoundError, match="'key'"):
            snapshots.commit("name", "key")
        assert list(snapshots.walk()) == []


# -- hard links into the store -----------------------------------------------------------------------------------------


@KINDS
def test_linked_trees_are_as_copied_ones(kind: type[StoreSnapshotter], tmp_path: Path) -> None:
    """And share their files with the store."""
    layers = [
        layer(directory("d", mode=0o750), file("d/a", b"1"), hardlink("d/b", "d/a"), symlink("l", "d/a")),
        layer(file("c", b"2"), hardlink("e", "d/a")),
    ]
    layout = write_layout(tmp_path / "layout", layers).path
    kind(tmp_path / "store").close()
    for name, link in (("copied", False), ("linked", True)):
        unpack(layout, tmp_path / name, store=tmp_path / "store", link=link)
    assert diff(read(tmp_path / "copied"), read(tmp_path / "linked")) == []
    assert (tmp_path / "copied/c").stat().st_nlink == 1
    assert (tmp_path / "linked/c").stat().st_nlink == 2


@pytest.mark.parametrize("lossy", [[".", "a"], [".", "d"], ["."], ["a", "d", "."]], ids=" ".join)
def test_strict_counts_the_same_losses_with_a_store_and_without(lossy: list[str], tmp_path: Path) -> None:
    """That of the root as well, which gets its attributes last."""
    nowhere = {"unknown.x": b"1"}  # no filesystem has it
    entries = [(file if name == "a" else directory)(name, xattrs=nowhere) for name in lossy]
    layout = write_layout(tmp_path / "layout", [layer(*entries)]).path
    for store in (None, tmp_path / "store", tmp_path / "store"):
        with pytest.raises(LossError) as raised:
            unpack(layout, tmp_path / "dest", strict=True, store=store, owner="self", sync=False)
        assert raised.value.losses == {"xattr": len(lossy)}
        assert not (tmp_path / "dest").exists()


def test_a_destination_whose_files_can_have_fewer_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may be on XFS, which counts to billions, and DEST on ext4: a loss, and no reason to stop."""
    names = [f"b{number}" for number in range(6)]
    layout = write_layout(tmp_path / "layout", [layer(file("a", b"1"), *(hardlink(name, "a") for name in names))]).path
    unpack(layout, tmp_path / "first", store=tmp_path / "store", owner="self", sync=False)
    link = os.link

    def limited(source: bytes, new: bytes, **options: Any) -> None:
        if os.stat(source, dir_fd=options["src_dir_fd"]).st_nlink >= 3:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), source)
        link(source, new, **options)

    monkeypatch.setattr(os, "link", limited)
    report = unpack(layout, tmp_path / "second", store=tmp_path / "store", owner="self", sync=False)
    assert report.losses == {LossKind.LINK: 2}
    assert {(tmp_path / "second" / name).read_bytes() for name in names} == {b"1"}
    assert len({(tmp_path / "second" / name).stat().st_ino for name in ["a", *names]}) == 3


def test_a_file_that_can_have_no_more_names_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ext4 counts to 65,000: a store that is linked from often comes there."""
    layout = write_layout(tmp_path / "layout", [layer(file("a", b"1"), hardlink("b", "a"), file("c", b"3"))]).path
    unpack(layout, tmp_path / "first", store=tmp_path / "store", link=True)
    real = os.link

    def full(source: bytes, name: bytes, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool) -> None:
        if os.fstat(src_dir_fd).st_dev and "store" in os.readlink(f"/proc/self/fd/{src_dir_fd}") and source != b"c":
            raise OSError(31, os.strerror(31))
        real(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", full)
    unpack(layout, tmp_path / "second", store=tmp_path / "store", link=True)
    assert diff(read(tmp_path / "first"), read(tmp_path / "second")) == []
    assert (tmp_path / "second/a").stat().st_nlink == 2
    assert (tmp_path / "second/c").stat().st_nlink == 3
