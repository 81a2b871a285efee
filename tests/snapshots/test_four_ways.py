"""One tree, all ways: what the kernel's overlayfs shows of the layers, a native snapshot, a copy out of the store, DEST.

The reference model says what it must be.  ``UNPACK_EXAMPLES=500 pytest tests/snapshots/test_four_ways.py`` looks for new
stacks of layers; those of all ways but the kernel's are in ``tests/test_model_agrees.py``.
"""

from __future__ import annotations

import base64
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, event, example, given, note, settings

from tests.model import reference, ways
from tests.model.strategies import Stack, fit_for, stacks
from tests.snapshots.namespaces import in_own_mounts
from tests.support.layoutbuild import write_layout
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr, needs_overlay
from tests.support.tarbuild import (
    SECOND,
    Entry,
    block,
    char,
    directory,
    encode,
    fifo,
    file,
    hardlink,
    layer,
    opaque,
    sparse_old,
    sparse_pax,
    symlink,
    whiteout,
)
from tests.support.tree import Node, Tree, diff, read
from unpacker.errors import UnpackError
from unpacker.snapshots.mounting import temporary
from unpacker.snapshots.overlay import OverlaySnapshotter

FIXTURES = Path(__file__).parents[2] / "fixtures"
FIXED = "UNPACK_EXAMPLES" not in os.environ
PROPERTY = settings(
    max_examples=int(os.environ.get("UNPACK_EXAMPLES", "60")),
    derandomize=FIXED,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=not FIXED,
)


def all_ways(layout: Path, place: Path) -> dict[str, Tree]:
    """Unpack an image in all ways; give the trees by the names of the ways."""
    every = [ways.mounted, ways.copy, ways.again, ways.linked, ways.native, ways.dest]
    return {way.__name__: way(layout, place).tree for way in every}


@pytest.mark.parametrize("name", ["hello", "docker", "zstd", "plain", "multi", "edge", "replaced"])
@needs_overlay
@in_own_mounts
def test_every_fixture_is_the_same_four_ways(name: str, tmp_path: Path) -> None:
    """Down to the last attribute."""
    trees = all_ways(FIXTURES / name, tmp_path)

    for way, tree in trees.items():
        assert not diff(trees["dest"], tree), way


@needs_overlay
@in_own_mounts
def test_any_stack_of_layers_is_the_same_four_ways() -> None:
    """Whiteouts and opaque directories in any order, links across layers, directories that nobody speaks of."""

    @PROPERTY
    @given(stack=stacks())
    @example(stack=[[directory("usr/lib"), symlink("lib", "usr/lib")], [file("lib/x"), whiteout("lib/y")]])
    @example(stack=[[file("a/a/b")], [opaque("a/a")], [file("a/c")]])
    @example(stack=[[file("a"), file("b/c")], [opaque(""), file("b/d")]])
    @example(stack=[[file("d/old"), hardlink("e", "d/old")], [hardlink("f", "e")], [whiteout("d"), file("d/new")]])
    @example(stack=[[file("d/x")], [file("d")], [file("d/y")]])
    def check(stack: Stack) -> None:
        stack = fit_for(stack, owners=can_chown(), devices=can_mknod(), xattrs=can_set_user_xattr())
        for number, entries in enumerate(stack):
            note(f"layer {number}:" + "".join(f"\n    {entry!r}" for entry in entries))
        try:
            expected = reference.apply(stack)
        except reference.Refused:
            event("refused")
            return
        event("a tree")
        with ways.scratch() as place:
            layout = place / "layout"
            write_layout(layout, [layer(*entries) for entries in stack], compression="none")
            try:
                trees = all_ways(layout, place)
            except UnpackError as error:
                pytest.fail(f"refused: {error}")
        for way, tree in trees.items():
            assert not diff(expected, tree), way

    check()


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Give an ACL as the kernel stores it: tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


NO_ID = 2**32 - 1
ACL = acl((0x01, 7, NO_ID), (0x02, 6, 12), (0x04, 4, NO_ID), (0x10, 6, NO_ID), (0x20, 0, NO_ID))
"""user::rwx user:12:rw- group::r-- mask::rw- other::---"""
ATTRIBUTES = {
    "security.capability, version 2": {b"security.capability": struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)},
    "security.capability, version 3": {b"security.capability": struct.pack("<6I", 0x03000001, 1 << 10, 0, 0, 0, 1000)},
    "an ACL": {b"system.posix_acl_access": ACL},
    "a default ACL": {b"system.posix_acl_default": ACL},
    "trusted": {b"trusted.a": b"\0", b"trusted.empty": b""},
    "of overlayfs itself": {b"trusted.overlay.opaque": b"y", b"user.overlay.whiteout": b"", b"trusted.overlay.x": b"1"},
    "user": {b"user.a": b"\0=\n", b"user.\xff": b"v" * 3000},
}


def by_libarchive(entry: Entry) -> Entry:
    """Write the attributes as bsdtar does: names percent-encoded, values in base64."""
    records = [
        (b"LIBARCHIVE.xattr." + name.replace(b"a", b"%61"), base64.b64encode(value).rstrip(b"="))
        for name, value in entry.xattrs.items()
    ]
    return replace(entry, encoded=encode(replace(entry, xattrs={}, records=tuple(records)), "pax"))


@pytest.mark.parametrize("xattrs", [pytest.param(xattrs, id=name) for name, xattrs in ATTRIBUTES.items()])
@needs_overlay
@in_own_mounts
def test_attributes_are_the_same_all_ways(xattrs: dict[bytes, bytes], tmp_path: Path) -> None:
    """On files and directories, also where a later layer has its own reasons to copy them up; in both spellings."""
    kind = tmp_path / "d" if b"system.posix_acl_default" in xattrs else tmp_path / "f"
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    try:
        for name, value in xattrs.items():
            os.setxattr(kind, name, value)
    except OSError as error:
        pytest.skip(f"missing: {error.strerror}")
    entries = [directory("in"), directory("in/d", mode=0o2760, uid=7, xattrs=xattrs), file("in/d/x")]
    if kind.name == "f":
        plain = file("in/f", b"data", mode=0o4760, uid=7, gid=8, xattrs=xattrs)
        entries += [plain, by_libarchive(replace(plain, name=b"in/g")), hardlink("in/h", "in/g")]
        if b"security.capability" in xattrs:
            entries[1] = directory("in/d", mode=0o2760, uid=7)

    upper = [file("in/d/y"), *([hardlink("in/again", "in/h"), hardlink("more", "in/f")] if kind.name == "f" else [])]
    check_stack([entries, upper], tmp_path)


def sparse(name: str, encoding: Literal["old", "0.0", "0.1", "1.0"]) -> Entry:
    segments = [(1 << 20, b"x" * 600), (3 << 20, b"y")]
    return sparse_old(name, segments, 5 << 20) if encoding == "old" else sparse_pax(name, segments, 5 << 20, encoding)


LIMITS: dict[str, list[Entry]] = {
    "ids": [
        file("a", uid=2**32 - 2, gid=2**31),
        directory("d", uid=2**31, gid=2**32 - 2),
        symlink("l", "a", uid=2**31),
    ],
    "times": [
        file("a", mtime=-3 * SECOND // 2),
        directory("d", mtime=13_569_465_600 * SECOND + 1),
        symlink("l", "a", mtime=-1),
        fifo("p", mtime=2**32 * SECOND + 999_999_999),
    ],
    "names": [file("n" * 255), file("/".join(["d" * 255] * 15 + ["e" * 255])), symlink("l", "t" * 4095)],
    "devices": [char("a", 4095, 2**18 - 1), block("b", 259, 70_000), char("c", 0, 1), block("z", 0, 0)],
    "sparse files": [sparse("old", "old"), sparse("0", "0.0"), sparse("1", "0.1"), sparse("2", "1.0")],
}


@pytest.mark.parametrize("entries", [pytest.param(entries, id=name) for name, entries in LIMITS.items()])
@needs_overlay
@in_own_mounts
def test_what_tar_can_just_say_is_the_same_all_ways(entries: list[Entry], tmp_path: Path) -> None:
    """And once more as a hard link of a later layer, for which each file is copied up."""
    upper = [
        hardlink(b"up%d" % number, entry.name) for number, entry in enumerate(entries) if entry.kind != "directory"
    ]
    check_stack([entries, upper], tmp_path)
    for way in ("dest", "copy"):
        for entry in entries:
            if len(entry.data) > 1 << 20:
                status = (tmp_path / way / os.fsdecode(entry.name)).stat()
                assert status.st_blocks * 512 < 1 << 20, f"{way}: holes have stayed holes"


def check_stack(stack: Stack, place: Path) -> None:
    """Fail if one way leads to another tree than the reference model."""
    write_layout(place / "layout", [layer(*entries) for entries in stack], compression="none")
    expected = reference.apply(stack)
    for way, tree in all_ways(place / "layout", place).items():
        differences = diff(expected, unescaped(tree) if way == "linked" else tree)
        assert not differences, f"{way}:\n" + "\n".join(differences)


def unescaped(tree: Tree) -> Tree:
    """Give a tree without what hard links into a store show: overlayfs's attributes under the names they have there."""

    def plain(node: Node) -> Node:
        named = {name.replace(b".overlay.overlay.", b".overlay.", 1): value for name, value in node.xattrs.items()}
        return replace(node, xattrs=dict(sorted(named.items())))

    return {path: plain(node) for path, node in tree.items()}


@needs_overlay
@in_own_mounts
def test_what_is_written_through_a_mount_is_a_layer(tmp_path: Path) -> None:
    """Prepared over an image, written to, committed, and copied out: as it was seen through the mount."""
    with OverlaySnapshotter(tmp_path / "store", sync=False) as overlay:
        parent = ways.snapshot(FIXTURES / "edge", overlay)[0]
        with temporary(overlay.prepare("work", parent)) as place:
            root = Path(place)
            (root / "etc/new").write_text("new")
            (root / "etc/motd").unlink()
            for path in sorted((root / "zoo").iterdir()):
                if path.is_file() and not path.is_symlink():
                    path.unlink()
                    break
            (root / "usr/bin/hello").write_text("#!/bin/sh\n")
            (root / "usr/bin/hello").rename(root / "usr/bin/renamed")
            os.link(root / "usr/bin/mksh", root / "usr/bin/linked")
            os.utime(root / "etc", ns=(10**9, 10**9))
            os.utime(root / "usr/bin", ns=(10**9, 10**9))
            seen = read(root)
        overlay.commit("changed", "work", {"note": "by hand"})
        assert overlay.stat("changed").labels == {"note": "by hand"}
        assert not diff(seen, ways.mounted_snapshot(overlay, "changed"))
        with overlay.opened("changed") as stack:
            copied = {name for name, _ in stack.entries()}
        assert copied == {path.split(b"/")[0] for path in seen if path != b"."}
