"""One tree, all ways: what the kernel's overlayfs shows of the layers, a native snapshot, a copy out of the store, DEST.

The reference model says what it must be.  ``UNPACK_EXAMPLES=500 pytest tests/snapshots/test_four_ways.py`` looks for new
stacks of layers; those of all ways but the kernel's are in ``tests/test_model_agrees.py``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, example, given, note, settings

from tests.model import reference, ways
from tests.model.strategies import Stack, fit_for, stacks
from tests.snapshots.namespaces import in_own_mounts
from tests.support.layoutbuild import write_layout
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr, needs_overlay
from tests.support.tarbuild import directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff, read
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
    every = [ways.mounted, ways.copy, ways.linked, ways.native, ways.dest]
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
        with tempfile.TemporaryDirectory() as place:
            layout = Path(place, "layout")
            write_layout(layout, [layer(*entries) for entries in stack], compression="none")
            try:
                trees = all_ways(layout, Path(place))
            except UnpackError as error:
                pytest.fail(f"refused: {error}")
        for way, tree in trees.items():
            assert not diff(expected, tree), way

    check()


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
