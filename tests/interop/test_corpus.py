"""Oddities of real images, rebuilt small and named after the tool that makes them, or that broke over them.

What is expected is what the specification says (layer.md), and where it says nothing what a reader of the archive would
expect.  Images that the tools have made themselves are in ``test_fixtures.py``.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.support.compressed import gzip_member, skippable
from tests.support.layoutbuild import BuiltLayer, LayoutBuilder, compress, digest_of, write_layout
from tests.support.probes import (
    needs_chown,
    needs_mknod,
    needs_nobody,
    needs_user_xattr,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from tests.support.tarbuild import (
    SECOND,
    Entry,
    base256,
    char,
    directory,
    fifo,
    file,
    global_header,
    hardlink,
    layer,
    opaque,
    sparse_old,
    symlink,
    whiteout,
)
from tests.support.tree import Node, read, sketch
from unpacker.errors import (
    BlobNotFoundError,
    CorruptLayerError,
    LayerCountError,
    ReferenceNotFoundError,
    UnsafeEntryError,
)
from unpacker.events import LossKind, Report
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from pathlib import Path

Entries = Sequence[Entry | bytes]
THEN = 1_234_567_890 * SECOND


class Unpacked:
    """A tree that was unpacked, and what was said about it."""

    def __init__(self, root: Path, report: Report) -> None:
        self.root = root
        self.report = report
        self.tree = read(root)
        self.sketch = sketch(self.tree)
        """Without attributes, see `tests.support.tree.sketch`."""

    def __getitem__(self, path: str) -> Node:
        return self.tree[path.encode()]


class Place:
    """A directory to write layouts and to unpack them in."""

    def __init__(self, path: Path) -> None:
        self.layout = path / "layout"
        self._root = path / "root"

    def image(self, *layers: Entries, keep_dirlinks: bool = False) -> Unpacked:
        """Unpack an image of these layers."""
        write_layout(self.layout, [layer(*entries) for entries in layers])
        return self.unpack(keep_dirlinks=keep_dirlinks)

    def unpack(self, tag: str | None = None, *, keep_dirlinks: bool = False) -> Unpacked:
        """Unpack from the layout as it is."""
        source = f"{self.layout}:{tag}" if tag else self.layout
        report = unpack(source, self._root, platform="linux/amd64", labels=False, keep_dirlinks=keep_dirlinks)
        return Unpacked(self._root, report)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def unpack_as_nobody(*layers: Entries) -> dict[str, str]:
    """Unpack without privilege; give the tree as root sees it, without attributes."""
    with nobodys_directory() as at:
        write_layout(at / "layout", [layer(*entries) for entries in layers])
        run_as_nobody([str(nobodys_python()), "-m", "unpacker", "unpack", "-q", at / "layout", at / "root"])
        return sketch(read(at / "root"))


# -- how names are written ---------------------------------------------------------------------------------------------


def test_kaniko(place: Place) -> None:
    """An entry for ``/``, absolute names, absolute hard-link targets, also in layers below (charliecloud #1280)."""
    found = place.image(
        [
            directory("/", mode=0o711, mtime=THEN),
            directory("/app/"),
            file("/app/tool", b"x"),
            hardlink("/app/same", "/app/tool"),
        ],
        [directory("/app/"), whiteout("/app/tool"), hardlink("/app/third", "/app/same")],
    )

    assert found.sketch == {"app": "directory", "app/same": "file x = app/same", "app/third": "file x = app/same"}
    assert (found["."].mode, found["."].mtime_ns) == (0o711, THEN)


def test_distroless_and_bazel(place: Place) -> None:
    """No entries for directories, every time 0: the directories that are implied do not tell when they were made."""
    found = place.image([file("./etc/passwd", b"root", mtime=0)], [file("/usr/share/doc/base/copyright", mtime=0)])

    assert found.sketch == {
        "etc": "directory",
        "etc/passwd": "file root",
        "usr": "directory",
        "usr/share": "directory",
        "usr/share/doc": "directory",
        "usr/share/doc/base": "directory",
        "usr/share/doc/base/copyright": "file",
    }
    assert {node.mtime_ns for node in found.tree.values()} == {0}
    assert {node.mode for node in found.tree.values() if node.kind == "directory"} == {0o755}


NIX: Sequence[Entries] = (
    [
        directory("/nix", mode=0o555, mtime=SECOND),
        directory("/nix/store", mode=0o555, mtime=SECOND),
        directory("/nix/store/aaa-tool", mode=0o555, mtime=SECOND),
        file("/nix/store/aaa-tool/tool", b"tool", mode=0o555, mtime=SECOND),
    ],
    [
        directory("/nix/store/bbb-app", mode=0o555, mtime=SECOND),
        hardlink("/nix/store/bbb-app/tool", "/nix/store/aaa-tool/tool"),
        symlink("/bin", "/nix/store/bbb-app"),
    ],
)
NIX_TREE = {
    "bin": "symlink /nix/store/bbb-app",
    "nix": "directory",
    "nix/store": "directory",
    "nix/store/aaa-tool": "directory",
    "nix/store/aaa-tool/tool": "file tool = nix/store/aaa-tool/tool",
    "nix/store/bbb-app": "directory",
    "nix/store/bbb-app/tool": "file tool = nix/store/aaa-tool/tool",
}


def test_nix(place: Place) -> None:
    """Directories without write permission get children from later layers, and keep the time 1 that all things have."""
    found = place.image(*NIX)

    assert found.sketch == NIX_TREE
    assert {found[path].mode for path in ("nix", "nix/store", "nix/store/bbb-app")} == {0o555}
    assert {found[path].mtime_ns for path in NIX_TREE if path.startswith("nix")} == {SECOND}


@needs_nobody
def test_nix_without_privilege() -> None:
    """The one who unpacks may not write to those directories, either (umoci #222, image-tools #208)."""
    assert unpack_as_nobody(*NIX) == NIX_TREE


def test_git_archive(place: Place) -> None:
    """A pax global header with the commit's id makes no file, and says nothing about those that come after it."""
    found = place.image([global_header({"comment": "a" * 40}, name=b"pax_global_header"), file("a", mtime=THEN)])

    assert found.sketch == {"a": "file"}
    assert found["a"].mtime_ns == THEN


def test_names_that_look_like_climbing(place: Place) -> None:
    """Dots are legal in names, so ``..gitme`` is one like any other (moby/go-archive)."""
    found = place.image([file("..gitme"), file("..."), directory("a.."), file("a../..b")])

    assert found.sketch == {"...": "file", "..gitme": "file", "a..": "directory", "a../..b": "file"}
    assert not found.report.warnings


# -- what comes in the way of what -------------------------------------------------------------------------------------

USR_MERGE: Entries = (
    directory("usr"),
    directory("usr/lib", mode=0o750, mtime=THEN),
    file("usr/lib/old", b"old"),
    file("usr/lib/gone"),
    symlink("lib", "usr/lib"),
    symlink("absolute", "/usr/lib"),
    symlink("usr/twice", "../lib"),
)
USR_MERGE_TREE = {
    "absolute": "symlink /usr/lib",
    "lib": "symlink usr/lib",
    "usr": "directory",
    "usr/lib": "directory",
    "usr/lib/gone": "file",
    "usr/lib/old": "file old",
    "usr/twice": "symlink ../lib",
}


@pytest.mark.parametrize("link", ["lib", "absolute", "usr/twice"])
class TestUsrMerge:
    """A layer that was made for ``/lib``, over one where that is a link into ``/usr``."""

    def test_a_file_goes_where_the_link_leads(self, link: str, place: Place) -> None:
        found = place.image(USR_MERGE, [file(f"{link}/new", b"new")])

        assert found.sketch == USR_MERGE_TREE | {"usr/lib/new": "file new"}
        assert (found["usr/lib"].mode, found["usr/lib"].mtime_ns) == (0o750, THEN)

    def test_a_hard_link_finds_its_target_there(self, link: str, place: Place) -> None:
        found = place.image(USR_MERGE, [hardlink(f"{link}/same", f"{link}/old")])

        assert found["usr/lib/same"].link == b"usr/lib/old"
        assert found["usr/lib/old"].link == b"usr/lib/old"

    def test_a_whiteout_hides_there(self, link: str, place: Place) -> None:
        found = place.image(USR_MERGE, [whiteout(f"{link}/gone")])

        assert found.sketch == {path: line for path, line in USR_MERGE_TREE.items() if path != "usr/lib/gone"}

    def test_a_directorys_entry_takes_the_place_of_the_link(self, link: str, place: Place) -> None:
        """So says the specification: only a directory over a directory is merged (rules_oci #857)."""
        found = place.image(USR_MERGE, [directory(link), file(f"{link}/new")])

        assert found.sketch == USR_MERGE_TREE | {link: "directory", f"{link}/new": "file"}

    def test_unless_links_are_to_be_kept(self, link: str, place: Place) -> None:
        found = place.image(USR_MERGE, [directory(link, mode=0o700), file(f"{link}/new")], keep_dirlinks=True)

        assert found.sketch == USR_MERGE_TREE | {"usr/lib/new": "file"}
        assert found["usr/lib"].mode == 0o700


def test_alpine(place: Place) -> None:
    """A program in place of one of busybox's links does not become busybox (go-microvm #38)."""
    found = place.image(
        [file("bin/busybox", b"box"), symlink("bin/ls", "/bin/busybox")], [file("bin/ls", b"coreutils")]
    )

    assert found.sketch == {"bin": "directory", "bin/busybox": "file box", "bin/ls": "file coreutils"}


def test_darch(place: Place) -> None:
    """An entry below what is a file in the layers below makes a directory of it (umoci #546, darch #53)."""
    found = place.image([file("a", b"file")], [file("a/b/c", b"new")])

    assert found.sketch == {"a": "directory", "a/b": "directory", "a/b/c": "file new"}


def test_apple_container(place: Place) -> None:
    """A hard link into a directory that has no entry (apple/container #1797)."""
    found = place.image([file("a", b"x"), hardlink("d/e/b", "a")])

    assert found.sketch == {"a": "file x = a", "d": "directory", "d/e": "directory", "d/e/b": "file x = a"}


class TestGoContainerregistry:
    """What a flattening from the top down, which takes the first that it meets of a name, gets wrong."""

    def test_a_hard_link_keeps_what_it_linked_to(self, place: Place) -> None:
        """Replacing one name of a file leaves the other as it was (#2002, #977, kaniko #282)."""
        found = place.image([file("a", b"old"), hardlink("b", "a")], [file("a", b"new")])

        assert found.sketch == {"a": "file new", "b": "file old"}

    def test_a_hard_link_outlives_its_target(self, place: Place) -> None:
        found = place.image([file("a", b"old"), hardlink("b", "a")], [whiteout("a")])

        assert found.sketch == {"b": "file old"}

    def test_a_directory_removed_and_made_again_is_new(self, place: Place) -> None:
        """``rm -rf d && mkdir d`` in one layer (#2029); buildkit #2614 was the same."""
        found = place.image([file("d/old"), file("d/e/old")], [whiteout("d"), directory("d"), file("d/new")])

        assert found.sketch == {"d": "directory", "d/new": "file"}

    def test_an_opaque_directory_keeps_what_its_own_layer_has(self, place: Place) -> None:
        """Even if that comes first, and below directories without entries (#2372, moby #17819)."""
        found = place.image([file("d/e/old")], [file("d/e/new"), opaque("d")])

        assert found.sketch == {"d": "directory", "d/e": "directory", "d/e/new": "file"}

    def test_whiteouts_are_no_files_in_the_only_layer_either(self, place: Place) -> None:
        """#1623."""
        found = place.image([file("a"), whiteout("b"), opaque("d")])

        assert not [path for path in found.sketch if ".wh." in path]
        assert "a" in found.sketch

    def test_a_dot_is_a_legal_name_of_the_root(self, place: Place) -> None:
        """#2399."""
        found = place.image([directory(".", mode=0o700, mtime=THEN), file("./a")])

        assert found.sketch == {"a": "file"}
        assert (found["."].mode, found["."].mtime_ns) == (0o700, THEN)

    def test_the_same_layer_twice(self, place: Place) -> None:
        """It is applied twice, and what came between is replaced again."""
        first = [file("a", b"first"), whiteout("b")]
        found = place.image(first, [file("a", b"second"), file("b")], first)

        assert found.sketch == {"a": "file first"}


class TestGoArchive:
    """What moby's extraction has been tested with, since it once got it wrong."""

    @pytest.mark.parametrize(
        "entries",
        [
            pytest.param([file("../root-beside/new"), file("a")], id="a name"),
            pytest.param([symlink("up", "../root-beside"), file("up/new")], id="a link"),
            pytest.param([symlink("up", "../root-beside/old"), file("up", b"new")], id="a link's target"),
            pytest.param([whiteout("../root-beside/old"), file("a")], id="a whiteout"),
            pytest.param([symlink("up", "../root-beside"), opaque("up")], id="an opaque directory"),
        ],
    )
    def test_a_neighbour_whose_name_begins_alike(self, entries: Entries, place: Place) -> None:
        """A check of paths as text takes ``/x/root-beside`` for something in ``/x/root``."""
        beside = place.layout.parent / "root-beside"
        beside.mkdir()
        (beside / "old").write_text("old")
        found = place.image([file("first")], entries)

        assert os.listdir(beside) == ["old"]
        assert (beside / "old").read_text() == "old"
        assert "first" in found.sketch

    @pytest.mark.parametrize("order", [1, -1], ids=["outer first", "inner first"])
    def test_a_whiteout_below_what_is_whited_out(self, order: int, place: Place) -> None:
        """It would be a name in a directory that is gone, and bring that back."""
        hidden = [whiteout("foo"), whiteout("foo/bar")][::order]

        assert place.image([file("foo/bar"), file("a")], hidden).sketch == {"a": "file"}


class TestContinuity:
    """The layers of containerd's own suite over files with several names, as its differ writes them."""

    def test_both_names_of_a_file_are_replaced_together(self, place: Place) -> None:
        base = [file("hosts", b"old"), hardlink("link", "hosts"), hardlink("other", "hosts")]
        found = place.image(base, [file("hosts", b"new"), hardlink("link", "hosts")])

        assert found.sketch == {"hosts": "file new = hosts", "link": "file new = hosts", "other": "file old"}

    def test_a_name_more_for_a_file_that_stays(self, place: Place) -> None:
        found = place.image(
            [file("hosts", b"x"), hardlink("link", "hosts")], [hardlink("third", "link"), file("other")]
        )

        assert {path for path, node in found.tree.items() if node.link == b"hosts"} == {b"hosts", b"link", b"third"}

    def test_a_directory_becomes_a_link_to_what_replaces_it(self, place: Place) -> None:
        """Of its ``TestSymlinks``: names below the old directory are not looked up in the new one."""
        found = place.image(
            [file("a/old"), symlink("b", "a")], [whiteout("a"), whiteout("b"), file("b/new"), symlink("a", "b")]
        )

        assert found.sketch == {"a": "symlink b", "b": "directory", "b/new": "file"}


def test_aufs(place: Place) -> None:
    """Old layers keep files with several names in ``.wh..wh.plnk``, which is no part of the tree; the links are."""
    found = place.image(
        [
            directory(".wh..wh.plnk", mode=0o700),
            directory(".wh..wh.orph", mode=0o700),
            file(".wh..wh.aufs"),
            file(".wh..wh.plnk/12.34", b"x"),
            hardlink("a", ".wh..wh.plnk/12.34"),
            hardlink("d/b", ".wh..wh.plnk/12.34"),
        ]
    )

    assert found.sketch == {"a": "file x = a", "d": "directory", "d/b": "file x = a"}


def test_apt_lists(place: Place) -> None:
    """A layer that adds a file does not make its directory younger: apt would get a 304 for stale lists (ray #65737)."""
    lists = [directory("var/lib/apt/lists", mtime=THEN), file("var/lib/apt/lists/a", mtime=THEN)]
    found = place.image(lists, [file("var/lib/apt/lists/b", mtime=THEN)], [whiteout("var/lib/apt/lists/a")])

    assert found["var/lib/apt/lists"].mtime_ns == THEN


# -- kinds and attributes ----------------------------------------------------------------------------------------------


@cache
def can_read_all() -> bool:
    """Whether the caller may read what nobody may read."""
    with tempfile.NamedTemporaryFile() as closed:
        os.chmod(closed.name, 0)
        return os.access(closed.name, os.R_OK)


needs_dac_override = pytest.mark.skipif(not can_read_all(), reason="missing: the right to read all (CAP_DAC_OVERRIDE)")

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
LABEL = b"system_u:object_r:shadow_t:s0\0"
FEDORA: Sequence[Entries] = (
    [
        directory("root", mode=0o550),
        directory("proc", mode=0o555),
        file("etc/gshadow", b"old", mode=0),
        directory("etc/sudoers.d", mode=0),
        file("etc/sudoers.d/a", b"a", mode=0),
    ],
    [file("etc/gshadow", b"new", mode=0), file("etc/sudoers.d/b", b"b", mode=0), file("root/new")],
)
FEDORA_TREE = {
    "etc": "directory",
    "etc/gshadow": "file new",
    "etc/sudoers.d": "directory",
    "etc/sudoers.d/a": "file a",
    "etc/sudoers.d/b": "file b",
    "proc": "directory",
    "root": "directory",
    "root/new": "file",
}


class TestFedora:
    """Files and directories of mode 0000, labels of SELinux, capabilities."""

    @needs_dac_override
    def test_mode_0000_is_replaced(self, place: Place) -> None:
        found = place.image(*FEDORA)

        assert found.sketch == FEDORA_TREE
        assert [found[path].mode for path in ("etc/gshadow", "etc/sudoers.d", "root", "proc")] == [0, 0, 0o550, 0o555]

    @needs_nobody
    def test_mode_0000_is_replaced_without_privilege(self) -> None:
        """umoci #222."""
        assert unpack_as_nobody(*FEDORA) == FEDORA_TREE

    @needs_user_xattr
    def test_a_label_is_kept_or_counted(self, place: Place) -> None:
        """An SELinux label is for the host to refuse, and no reason to stop (umoci #49, moby #53616)."""
        found = place.image([file("etc/shadow", b"x", xattrs={"security.selinux": LABEL, "user.note": b"1"})])

        kept = "security.selinux" in os.listxattr(found.root / "etc/shadow")
        assert found.report.losses.get(LossKind.XATTR, 0) == (0 if kept else 1)
        assert found["etc/shadow"].xattrs == {b"user.note": b"1"}

    @needs_chown
    def test_capabilities_outlive_the_change_of_owner(self, place: Place) -> None:
        """chown clears them, and setuid (containers/storage #217)."""
        found = place.image([file("a", b"x", mode=0o6755, uid=7, gid=8, xattrs={"security.capability": CAPABILITY})])

        assert found["a"].xattrs == {b"security.capability": CAPABILITY}
        assert (found["a"].mode, found["a"].uid, found["a"].gid) == (0o6755, 7, 8)


class TestDocker29:
    """What broke when Docker 29.7 began to unpack by directory descriptors: all of it is in images that people use."""

    def test_a_directory_whose_parents_have_no_entry(self, place: Place) -> None:
        """moby #53257; quay.io/buildah/stable has one."""
        found = place.image([directory("usr")], [directory("usr/share/containers/", mode=0o700, mtime=THEN)])

        assert list(found.sketch) == ["usr", "usr/share", "usr/share/containers"]
        assert (found["usr/share/containers"].mode, found["usr/share/containers"].mtime_ns) == (0o700, THEN)

    @pytest.mark.parametrize("there", [True, False], ids=["target", "dangling"])
    @pytest.mark.parametrize("apart", [True, False], ids=["layers", "one layer"])
    def test_an_absolute_link_on_the_way(self, there: bool, apart: bool, place: Place) -> None:
        """It starts at the image's root, and a directory that it misses is made (moby #53258)."""
        base: list[Entry] = [directory("run")] if there else []
        base += [symlink("var/run", "/run")]
        upper = [file("var/run/lock/a", b"x")]
        found = place.image(base, upper) if apart else place.image(base + upper)

        assert found.sketch == {
            "run": "directory",
            "run/lock": "directory",
            "run/lock/a": "file x",
            "var": "directory",
            "var/run": "symlink /run",
        }

    def test_the_target_of_a_hard_link_behind_an_absolute_link(self, place: Place) -> None:
        found = place.image([file("run/a", b"x"), symlink("var/run", "/run")], [hardlink("b", "var/run/a")])

        assert found["b"].link == b"b"
        assert found["run/a"].link == b"b"

    @needs_mknod
    def test_a_device_that_must_not_be_opened(self, place: Place) -> None:
        """Opening ``/dev/ptmx`` makes a terminal, and fails where no devpts is mounted (moby #53299, #53318)."""
        found = place.image([char("dev/ptmx", 5, 2, mode=0o666), char("dev/console", 5, 1, mode=0o4620)])

        assert (found["dev/ptmx"].rdev, found["dev/ptmx"].mode) == ((5, 2), 0o666)
        assert (found["dev/console"].rdev, found["dev/console"].mode) == ((5, 1), 0o4620)

    def test_a_fifo_that_must_not_be_opened(self, place: Place) -> None:
        """It would wait for somebody to write."""
        found = place.image([fifo("run/initctl", mode=0o4622, mtime=THEN)])

        assert (found["run/initctl"].kind, found["run/initctl"].mode) == ("fifo", 0o4622)
        assert found["run/initctl"].mtime_ns == THEN


@needs_chown
def test_ids_of_a_directory_service(place: Place) -> None:
    """Owners beyond what seven octal digits hold, in GNU's binary form."""
    found = place.image(
        [file("a", fields={"uid": base256(4_000_000_000, 8), "gid": base256(2_097_152, 8)}, format="gnu")]
    )

    assert (found["a"].uid, found["a"].gid) == (4_000_000_000, 2_097_152)


def test_lastlog(place: Place) -> None:
    """A log as long as the largest user id: GNU tar stores what is in it, and so do we (moby #5419)."""
    whole = 64 << 20
    found = place.image([sparse_old("var/log/lastlog", [(0, b"x" * 512), (whole - 512, b"y" * 512)], whole)])
    status = (found.root / "var/log/lastlog").stat()

    assert status.st_size == whole
    assert status.st_blocks * 512 < 1 << 20


# -- archives and compression ------------------------------------------------------------------------------------------


def test_umoci_insert(place: Place) -> None:
    """No padding after the last file, and no end of the archive (umoci #436)."""
    tar = layer(file("a", b"x"), file("b", b"odd"), end=False, last_padding=False)
    write_layout(place.layout, [tar, layer(file("c"))])
    found = place.unpack()

    assert len(tar) % 512
    assert found.sketch == {"a": "file x", "b": "file odd", "c": "file"}


def stored(built: LayoutBuilder, tar: bytes, blob: bytes, media_type: str) -> BuiltLayer:
    """Store a layer as it is compressed already."""
    descriptor = built.blob(f"application/vnd.oci.image.layer.v1.{media_type}", blob)
    return BuiltLayer(tar=tar, blob=blob, diff_id=digest_of(tar), descriptor=descriptor)


def image_of(place: Place, tar: bytes, blob: bytes, media_type: str) -> Unpacked:
    """Unpack an image with one layer that is compressed already."""
    built = LayoutBuilder(place.layout)
    built.name(built.image([stored(built, tar, blob, media_type)]))
    return place.unpack()


def test_estargz(place: Place) -> None:
    """A gzip member for each entry, a table of contents that is a file of the layer, and an empty member as footer."""
    pieces = [
        layer(file("usr/bin/tool", b"tool" * 999), end=False),
        layer(file(".no.prefetch.landmark", b"\xf0"), end=False),
        layer(file("stargz.index.json", b'{"version":1,"entries":[]}')),
    ]
    tar = b"".join(pieces)
    footer = gzip_member(b"", extra=b"SG" + struct.pack("<H", 22) + b"%016xSTARGZ" % len(tar))
    found = image_of(place, tar, b"".join(map(gzip_member, pieces)) + footer, "tar+gzip")

    assert set(found.sketch) == {".no.prefetch.landmark", "stargz.index.json", "usr", "usr/bin", "usr/bin/tool"}
    assert not found.report.warnings


@pytest.mark.parametrize("first", [False, True], ids=["at the end", "at the beginning, too"])
def test_zstd_chunked(first: bool, place: Place) -> None:
    """A frame for each file, and its table of contents in skippable frames, which are no part of the archive."""
    pieces = [layer(file("a", b"x" * 9999), end=False), layer(file("b", b"y" * 9999))]
    contents = skippable(b'{"version":1,"entries":[]}') + skippable(bytes(56) + b"GNUlInUx")
    blob = (skippable(b"first") if first else b"") + b"".join(compress(each, "zstd") for each in pieces) + contents
    found = image_of(place, b"".join(pieces), blob, "tar+zstd")

    assert list(found.sketch) == ["a", "b"]
    assert not found.report.warnings


@pytest.mark.parametrize(
    ("tar", "blob", "media_type"),
    [
        pytest.param(layer(), layer(), "tar", id="no entries"),
        pytest.param(layer(), gzip_member(layer()), "tar+gzip", id="no entries, gzip"),
        pytest.param(b"", b"", "tar", id="no bytes"),
        pytest.param(b"", gzip_member(b""), "tar+gzip", id="no bytes, gzip"),
        pytest.param(b"", compress(b"", "zstd"), "tar+zstd", id="no bytes, zstd"),
        pytest.param(b"", b"", "tar+gzip", id="no bytes that are called gzip"),
    ],
)
def test_empty_layers(tar: bytes, blob: bytes, media_type: str, place: Place) -> None:
    """Builders write them for steps that change nothing; between others, they change nothing."""
    built = LayoutBuilder(place.layout)
    empty = stored(built, tar, blob, media_type)
    built.name(built.image([empty, layer(file("a"), file("b")), empty, layer(whiteout("b")), empty]))

    assert place.unpack().sketch == {"a": "file"}


def test_as_many_layers_as_docker_makes(place: Place) -> None:
    """127; each adds a file, replaces one, and hides what the one before has added."""
    layers: list[Entries] = [
        [file(f"d/{number}", b"%d" % number), file("same", b"%d" % number), whiteout(f"d/{number - 1}")]
        for number in range(127)
    ]

    assert place.image(*layers).sketch == {"d": "directory", "d/126": "file 126", "same": "file 126"}


# -- layouts -----------------------------------------------------------------------------------------------------------


def test_buildx(place: Place) -> None:
    """An image that stands in index.json once for each of its names, and twice for one of them."""
    built = LayoutBuilder(place.layout)
    image = built.image([layer(file("a"))])
    for name in ("latest", "v1", "latest"):
        built.name(image, name)

    assert place.unpack("latest").sketch == {"a": "file"}


def test_buildx_without_a_name_given(place: Place) -> None:
    """All its names are one image, so there is nothing to choose."""
    built = LayoutBuilder(place.layout)
    image = built.image([layer(file("a"))])
    index = built.index(image, image)
    built.name(index, "latest")
    built.name(index, "v1")

    assert place.unpack().sketch == {"a": "file"}


class TestBrokenDockerSaves:
    """What ``docker save`` has written: each of them gets one line that says what is wrong."""

    def test_a_manifest_without_its_layers(self, place: Place) -> None:
        """25.0.0-rc.1 left the layers out of it, and not out of the config (moby #47065)."""
        write_layout(place.layout, [layer(file("a"))], mutate={"manifest": lambda document: document.update(layers=[])})

        with pytest.raises(LayerCountError, match="0 layers, but its config has 1 diff_ids"):
            place.unpack()

    def test_an_index_of_nothing(self, place: Place) -> None:
        """25.0.0 wrote ``"manifests": null`` for an image that was saved by its digest (moby #47210)."""
        write_layout(
            place.layout, [layer(file("a"))], mutate={"index.json": lambda document: document.update(manifests=None)}
        )

        with pytest.raises(ReferenceNotFoundError) as raised:
            place.unpack()
        assert raised.value.hint == "the layout names no image"

    def test_a_layer_that_is_missing(self, place: Place) -> None:
        """moby #49473; the message names the blob, and nothing is left."""
        built = write_layout(place.layout, [layer(file("a")), layer(file("b"))])
        missing = built.images[0].layers[1].digest
        built.remove(missing)

        with pytest.raises(BlobNotFoundError, match=missing):
            place.unpack()
        assert os.listdir(place.layout.parent) == ["layout"]


@pytest.mark.parametrize(
    ("tar", "error", "said"),
    [
        pytest.param(layer(file(b"", b"x")), UnsafeEntryError, "name", id="empty filename"),
        pytest.param(layer(file("a/.wh.")), UnsafeEntryError, r"'a/\.wh\.'.*whiteout", id="invalid whiteout"),
        pytest.param(layer(file("a", b"x" * 2000))[:1024], CorruptLayerError, "a", id="missing contents"),
    ],
)
def test_badtars(tar: bytes, error: type[Exception], said: str, place: Place) -> None:
    """The kinds of the public images ``tianon/test:badtars-*`` (image-spec #1301): each names the entry."""
    write_layout(place.layout, [tar])

    with pytest.raises(error, match=said):
        place.unpack()


def test_a_name_that_is_not_utf8(place: Place) -> None:
    """Names are bytes: of the bad archives, this one is good."""
    found = place.image([file(b"latin-1-\xe9")])

    assert list(found.tree) == [b".", b"latin-1-\xe9"]
