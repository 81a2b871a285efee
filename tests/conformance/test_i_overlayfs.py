"""I: what overlayfs makes of directories on disk, and what a store writes accordingly.

The kernel's own behaviour is measured, too: if one of these facts changes, what we write must change with it.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.conformance.cases import AMD64, rule
from tests.snapshots.namespaces import in_own_mounts
from tests.support.probes import needs_chown, needs_mknod, needs_overlay, needs_trusted_xattr
from tests.support.tarbuild import SECOND, char, directory, file, hardlink, opaque, whiteout
from tests.support.tree import Tree, diff, read, sketch
from unpacker.errors import LossError, MountError, UnsupportedError
from unpacker.events import LossKind
from unpacker.image import Image
from unpacker.snapshots.mounting import mount, temporary, unmount
from unpacker.snapshots.mounts import Mount, overlay_mount
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.cases import Entries, Place


class Layers:
    """An image in a store: its layers' directories, base first, and the tree that the kernel shows."""

    def __init__(self, place: Place, *layers: Entries) -> None:
        self.place = place
        built = place.write(*layers)
        self.dest = place.unpack(built)
        with OverlaySnapshotter(place.new("overlay"), sync=False) as snapshotter:
            records = Image.open(built.path, AMD64).unpack(snapshotter, labels=False)
            self.losses = [dict(record.losses) for record in records]
            self.directories = [place.path / snapshotter.files(record.name) for record in records]
            with temporary(snapshotter.mounts(records[-1].name)) as merged:
                self.mounted: Tree = read(merged)

    def agree(self) -> Tree:
        """The mounted tree is that of DEST."""
        assert diff(self.dest.tree, self.mounted) == []
        return self.mounted


@contextmanager
def overlaid(place: Place, *lowers: Path, extra: tuple[str, ...] = ()) -> Iterator[Path]:
    """Mount directories, top first, and give where."""
    target = place.new("mounted")
    target.mkdir()
    mount([overlay_mount(lowers, extra=extra)], target)
    try:
        yield target
    finally:
        unmount(target)


def directories(place: Place, *names: str) -> list[Path]:
    made = [place.new(name) for name in names]
    for path in made:
        path.mkdir()
    return made


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


@rule("I1", "open", "A whiteout is a character device 0:0.", "overlayfs.rst, whiteouts", "of whoever may make devices")
@needs_overlay
@needs_mknod
@in_own_mounts
def test_spec_i_01_a_whiteout_is_a_device(place: Place) -> None:
    made = Layers(place, [file("a"), file("d/b"), file("d/c")], [whiteout("a"), whiteout("d/b")])

    assert [is_whiteout(made.directories[1] / name) for name in ("a", "d/b")] == [True, True]
    assert sketch(made.agree()) == {"d": "directory", "d/c": "file"}


@rule(
    "I2",
    "open",
    "A whiteout may be an empty file with an attribute, if its directory is marked as one that holds such.",
    "overlayfs.rst, whiteouts (Linux 6.8)",
    "of whoever may not make devices; without the mark on the directory readdir would list it",
)
@needs_overlay
@needs_trusted_xattr
@in_own_mounts
def test_spec_i_02_a_whiteout_is_an_attribute(place: Place) -> None:
    """Measured: it is hidden from lookups in any case, from listings only with the mark."""
    upper, lower = directories(place, "upper", "lower")
    for path in (upper / "d", lower / "d"):
        path.mkdir()
        (path / "a").touch()
    os.setxattr(upper / "d/a", "trusted.overlay.whiteout", b"y")
    with overlaid(place, upper, lower) as merged:
        assert not (merged / "d/a").exists()
        assert os.listdir(merged / "d") == ["a"]
    os.setxattr(upper / "d", "trusted.overlay.opaque", b"x")
    with overlaid(place, upper, lower) as merged:
        assert os.listdir(merged / "d") == []


@rule(
    "I3", "open", "A directory with `overlay.opaque=y` hides those below.", "overlayfs.rst, opaque", "what is replaced"
)
@needs_overlay
@needs_trusted_xattr
@in_own_mounts
def test_spec_i_03_an_opaque_directory(place: Place) -> None:
    made = Layers(place, [file("d/old"), file("e/old")], [opaque("d"), file("d/new"), file("e/new")])

    top = made.directories[1]
    assert os.getxattr(top / "d", "trusted.overlay.opaque") == b"y"
    assert "trusted.overlay.opaque" not in os.listxattr(top / "e")
    assert sketch(made.agree()) == {
        "d": "directory",
        "d/new": "file",
        "e": "directory",
        "e/new": "file",
        "e/old": "file",
    }


@rule(
    "I4",
    "open",
    "On a layer's root the mark has no effect.",
    "measured",
    "an opaque root becomes a whiteout for each name below (containerd sets the mark alone)",
)
@needs_overlay
@needs_mknod
@needs_trusted_xattr
@in_own_mounts
def test_spec_i_04_an_opaque_root(place: Place) -> None:
    made = Layers(place, [file("a"), file("d/b")], [file("c")], [opaque(""), file("d/new")])

    assert {name for name in ("a", "c") if is_whiteout(made.directories[2] / name)} == {"a", "c"}
    assert sketch(made.agree()) == {"d": "directory", "d/new": "file"}
    upper, lower = directories(place, "upper", "lower")
    (lower / "still-there").touch()
    os.setxattr(upper, "trusted.overlay.opaque", b"y")
    with overlaid(place, upper, lower) as merged:
        assert os.listdir(merged) == ["still-there"]


@rule(
    "I5",
    "open",
    "A whiteout in an opaque or new directory shows as a name that is not there.",
    "measured",
    "none is written there",
)
@needs_overlay
@needs_mknod
@needs_trusted_xattr
@in_own_mounts
def test_spec_i_05_no_ghosts(place: Place) -> None:
    made = Layers(
        place,
        [file("d/a"), file("x")],
        [opaque("d"), whiteout("d/a"), whiteout("d/none"), whiteout("new/a"), file("new/b"), whiteout("none")],
    )

    assert sketch(made.agree()) == {"d": "directory", "new": "directory", "new/b": "file", "x": "file"}
    assert sorted(path.name for path in made.directories[1].rglob("*")) == ["b", "d", "new"]
    upper, lower = directories(place, "upper", "lower")
    (upper / "d").mkdir()
    os.mknod(upper / "d/ghost", stat.S_IFCHR, 0)
    with overlaid(place, upper, lower) as merged:
        listed = os.listdir(merged / "d")
        with suppress(FileNotFoundError):
            assert not (merged / "d/ghost").lstat()
        assert listed == ["ghost"]


@rule("I6", "open", "A directory that is removed and made again must be opaque.", "measured", "as it says")
@needs_overlay
@needs_trusted_xattr
@in_own_mounts
def test_spec_i_06_removed_and_made_again(place: Place) -> None:
    made = Layers(place, [file("d/old"), file("f")], [whiteout("d"), file("d/new"), file("f/x")])

    assert os.getxattr(made.directories[1] / "d", "trusted.overlay.opaque") == b"y"
    assert sketch(made.agree()) == {"d": "directory", "d/new": "file", "f": "directory", "f/x": "file"}


@rule(
    "I7",
    "open",
    "Of merged directories the topmost's attributes are seen.",
    "overlayfs.rst, merged directories",
    "a directory that a layer only passes through has those of the layer below, times and xattrs too",
)
@needs_overlay
@needs_chown
@in_own_mounts
def test_spec_i_07_attributes_of_merged_directories(place: Place) -> None:
    made = Layers(place, [directory("d", mode=0o2711, uid=5, gid=6, mtime=7 * SECOND)], [file("d/a")], [file("d/b")])

    node = made.agree()[b"d"]
    assert (node.mode, node.uid, node.gid, node.mtime_ns) == (0o2711, 5, 6, 7 * SECOND)


@rule("I8", "open", "A device 0:0 of a layer's own would be a whiteout.", "measured", "left out, and counted")
@needs_overlay
@needs_mknod
@in_own_mounts
def test_spec_i_08_a_device_0_0(place: Place) -> None:
    built = place.write([file("x"), char("null", 1, 3)], [char("a", 0, 0)])
    with OverlaySnapshotter(place.new("overlay"), sync=False) as snapshotter:
        records = Image.open(built.path, AMD64).unpack(snapshotter, labels=False)
        with temporary(snapshotter.mounts(records[-1].name)) as merged:
            assert sketch(read(merged)) == {"null": "char 1:3", "x": "file"}
    assert records[1].losses == {LossKind.DEVICE: 1}


@needs_mknod
def test_spec_i_08_a_device_0_0_and_strict(place: Place) -> None:
    """Found in the layer, and later in the record of a layer that is there already, which has no more than a count."""
    built, store = place.write([char("a", 0, 0)]), place.new("store")

    for first in ("'a': character device 0:0 not made", "in layers of the store"):
        dest = place.new("dest")
        with pytest.raises(LossError) as raised:
            unpack(built.path, dest, platform=AMD64, labels=False, store=store, sync=False, strict=True)
        assert str(raised.value).startswith(f"not everything could be applied (device 1): {first}")
        assert not dest.exists()
    assert unpack(built.path, place.new("dest"), platform=AMD64, store=store, sync=False).losses == {LossKind.DEVICE: 1}


@rule(
    "I9",
    "open",
    "`trusted.overlay.*` of a layer would hide, redirect or fill in files of others.",
    "overlayfs.rst, nesting",
    "stored escaped, and seen through the mount as the layer has them",
)
@needs_overlay
@needs_trusted_xattr
@in_own_mounts
def test_spec_i_09_attributes_are_escaped(place: Place) -> None:
    evil = {"trusted.overlay.opaque": b"y", "trusted.overlay.redirect": b"/secret", "trusted.overlay.metacopy": b""}
    made = Layers(place, [file("d/a"), file("secret/b")], [directory("d", xattrs=evil)])

    assert sorted(name for name in os.listxattr(made.directories[1] / "d")) == [
        "trusted.overlay.overlay.metacopy",
        "trusted.overlay.overlay.opaque",
        "trusted.overlay.overlay.redirect",
    ]
    tree = made.agree()
    assert (b"d/a" in tree, {key.decode(): value for key, value in tree[b"d"].xattrs.items()}) == (True, evil)


@rule(
    "I10",
    "open",
    "`redirect_dir` and `metacopy` are not for layers that are not trusted.",
    "overlayfs.rst, metadata only copy up",
    "switched off in every mount of ours that is written to; no layer has attributes of theirs, see I9",
)
def test_spec_i_10_options_that_are_off() -> None:
    options = overlay_mount(["/b", "/a"], "/upper", "/work").options

    assert {"metacopy=off", "redirect_dir=nofollow", "index=off"} <= set(options)


@rule("I11", "open", "An overlay has 500 lower directories at most.", "OVL_MAX_STACK", "more are refused before a call")
@needs_overlay
@in_own_mounts
def test_spec_i_11_five_hundred_layers(place: Place) -> None:
    lowers = directories(place, *["l"] * 501)
    (lowers[499] / "last").touch()

    with overlaid(place, *lowers[:500]) as merged:
        assert os.listdir(merged) == ["last"]
    with pytest.raises(UnsupportedError, match="number of layers 501"):
        overlay_mount(lowers)


@rule(
    "I12",
    "open",
    "mount(2) takes a page of options.",
    "measured: 4,095 bytes",
    "longer ones go by the newer calls, or by short names: many layers with long paths are mounted",
)
@needs_overlay
@in_own_mounts
def test_spec_i_12_long_options(place: Place) -> None:
    deep = place.new("x" * 200)
    lowers = [deep / (f"{number:03}" + "y" * 200) for number in range(100)]
    for number, lower in enumerate(lowers):
        (lower / f"in-{number}").mkdir(parents=True)

    with overlaid(place, *lowers) as merged:
        assert len(os.listdir(merged)) == 100


@rule(
    "I13",
    "open",
    "Lower directories stand top first, `:`, `,` and `\\` with a backslash.",
    "overlayfs.rst, multiple lower layers",
    "as it says",
)
@needs_overlay
@in_own_mounts
def test_spec_i_13_order_and_escapes(place: Place) -> None:
    lowers = [place.path / name for name in ("top:1", "mid,2", "low\\3", "all::,,\\\\")]
    for lower in lowers:
        lower.mkdir()
        (lower / "who").write_text(lower.name)

    with overlaid(place, *lowers) as merged:
        assert (merged / "who").read_text() == "top:1"


@rule("I14", "open", "One lower directory alone is no overlay.", "measured: EINVAL", "it is bound, read-only")
@needs_overlay
@in_own_mounts
def test_spec_i_14_one_layer(place: Place) -> None:
    (alone,) = directories(place, "alone")
    target = place.new("mounted")
    target.mkdir()

    with pytest.raises(MountError) as raised:
        mount([Mount(type="overlay", source="overlay", options=(f"lowerdir={alone}",))], target)
    assert raised.value.errno == errno.EINVAL
    assert overlay_mount([alone]).type == "bind"
    assert sketch(Layers(place, [file("a")]).agree()) == {"a": "file"}


@rule(
    "I15",
    "open",
    "Upper and work directory are on one filesystem, and no overlay's but this one's.",
    "overlayfs.rst, upper and lower",
    "they lie beside each other, a pair for each prepared snapshot",
)
def test_spec_i_15_upper_and_work(place: Place) -> None:
    built = place.write([file("a")])
    with OverlaySnapshotter(place.new("overlay"), sync=False) as snapshotter:
        name = Image.open(built.path, AMD64).unpack(snapshotter, labels=False)[-1].name
        pairs = []
        for key in ("one", "two"):
            (made,) = snapshotter.prepare(key, name)
            options = dict(option.split("=", 1) for option in made.options if "=" in option)
            pairs.append((options["upperdir"], options["workdir"]))
    assert len({path for pair in pairs for path in pair}) == 4
    for upper, work in pairs:
        assert os.path.dirname(upper) == os.path.dirname(work)
        assert os.listdir(work) == []


@rule(
    "I16",
    "open",
    "A link between two layers cannot be.",
    "measured: copy-up breaks it",
    "the file below is copied up under all its names, so that they stay one file",
)
@needs_overlay
@in_own_mounts
def test_spec_i_16_links_to_a_layer_below(place: Place) -> None:
    made = Layers(place, [file("a", b"x"), hardlink("b", "a"), file("d/e")], [hardlink("c", "a")])

    assert {name.name for name in made.directories[1].iterdir()} == {"a", "b", "c"}
    tree = made.agree()
    assert {tree[name].link for name in (b"a", b"b", b"c")} == {b"a"}


@rule(
    "I17",
    "open",
    "Lower directories must not change while they are mounted.",
    "overlayfs.rst, changes to underlying filesystems",
    "committed snapshots are never written to, and only removed whole, when nothing stands on them",
)
def test_spec_i_17_what_is_committed_stays(place: Place) -> None:
    first, second = place.write([file("a")], [file("b")]), place.write([file("a")], [file("c"), whiteout("a")])
    with OverlaySnapshotter(place.new("overlay"), sync=False) as snapshotter:
        records = Image.open(first.path, AMD64).unpack(snapshotter, labels=False)
        before = [read(snapshotter.files(record.name)) for record in records]
        Image.open(second.path, AMD64).unpack(snapshotter, labels=False)
        Image.open(first.path, AMD64).unpack(snapshotter, labels=False)
        assert [read(snapshotter.files(record.name)) for record in records] == before
        with pytest.raises(Exception, match="has a child"):
            snapshotter.remove(records[0].name)
