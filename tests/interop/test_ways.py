"""Whole images, all ways: what DEST has is what the kernel shows of the layers, to the last attribute.

They are the layouts of ``UNPACK_TEST_IMAGES``, and a Debian that was edited (`tests.interop.edits`), of which it is also
known what it was before it became layers.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contracts.snapshots import make
from tests.interop.edits import EDITS, TAG, build
from tests.interop.peers import Umoci
from tests.interop.rows import differences, rows
from tests.interop.running import needs_chroot
from tests.interop.test_images import FOLDER, IMAGES, needs_image, needs_images
from tests.model import ways
from tests.snapshots.namespaces import in_own_mounts
from tests.support.probes import needs_chown, needs_mknod, needs_overlay, needs_tool
from tests.support.tree import diff
from tests.support.treesum import manifest
from unpacker.snapshots.overlay import OverlaySnapshotter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.rows import Lines

pytestmark = [needs_chown, needs_mknod, needs_overlay]
WAYS = [ways.mounted, ways.copy, ways.again, ways.linked, ways.native]


def check_all_ways(source: str | Path, place: Path) -> None:
    """Fail if one way leads to another tree than the straight one, or loses anything."""
    expected = ways.dest(source, place)
    assert expected.losses == {}
    for way in WAYS:
        made = way(source, place)
        differences = diff(expected.tree, made.tree)
        assert not differences, f"{way.__name__}:\n" + "\n".join(differences[:20])
        assert made.losses == {}


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a directory for all that is unpacked here: too much to be kept by pytest."""
    with ways.scratch() as path:
        yield path


@pytest.mark.parametrize(("name", "tag"), IMAGES or [pytest.param("", "", marks=needs_images)])
@in_own_mounts
def test_every_image_is_the_same_all_ways(name: str, tag: str, place: Path) -> None:
    """DEST, the mount of its layers, a copy of them, hard links to them, a native snapshot."""
    check_all_ways(f"{FOLDER}/{name}:{tag}", place)


# -- a Debian that was edited ------------------------------------------------------------------------------------------

NEEDS = [needs_image("debian-min"), needs_chroot, *map(needs_tool, ("umoci", "setcap", "setfacl", "setfattr"))]


class Edited:
    """The image, and the tree that it was made of."""

    def __init__(self, place: Path) -> None:
        self.layout, root = build(Path(FOLDER, "debian-min"), place)
        self.source = f"{self.layout}:{TAG}"
        self.tree: Lines = manifest(os.fsencode(root))


@pytest.fixture(scope="module")
def edited() -> Iterator[Edited]:
    with tempfile.TemporaryDirectory(prefix="edits-") as path:
        yield Edited(Path(path))


class TestEdits:
    """A layer for each edit, packed by umoci."""

    pytestmark = NEEDS

    @in_own_mounts
    def test_it_is_the_same_all_ways(self, edited: Edited, place: Path) -> None:
        check_all_ways(edited.source, place)

    def test_it_is_what_was_edited(self, edited: Edited, place: Path) -> None:
        """But for what umoci leaves out of layers: fractions of a second, and attributes without a value."""
        ways.dest(edited.source, place)

        was, found = rows(edited.tree), rows(manifest(os.fsencode(place / "dest")))

        def left_out(path: str, column: str) -> bool:
            wanted, got = was[path][column], found[path][column]
            if column == "mtime":
                return int(got) % 10**9 == 0 and abs(int(wanted) - int(got)) <= 10**9 // 2
            return column == "xattrs" and set(wanted.split(",")) - set(got.split(",")) == {"user.empty=0x"}

        assert was.keys() == found.keys()
        assert not differences(edited.tree, manifest(os.fsencode(place / "dest")), left_out)

    def test_umoci_makes_the_same(self, edited: Edited, place: Path) -> None:
        ways.dest(edited.source, place)

        assert not differences(manifest(os.fsencode(place / "dest")), Umoci().tree(edited.layout, place))


class TestEditsThroughAMount:
    """The same edits, each written through a mount over all earlier ones, and committed."""

    pytestmark = NEEDS

    @in_own_mounts
    def test_what_was_written_is_there(self, place: Path) -> None:
        """It is seen again through the mount of what was committed, and in a copy of that."""
        with OverlaySnapshotter(place / "store", sync=False) as overlay:
            parent, _ = ways.snapshot(f"{FOLDER}/debian-min", overlay)
            for number, script in enumerate(EDITS.values()):
                parent = make(overlay, f"edit {number}", parent, partial(edit, script))


def edit(script: str, root: Path) -> None:
    subprocess.run(["sh", "-ec", script], cwd=root, check=True, capture_output=True)
