"""Copy-up: where the names of a file are found, and what that takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import Entry, file, hardlink, layer
from tests.support.tree import read, sketch
from unpacker.image import Image
from unpacker.layer.markers import SidecarMarkers
from unpacker.layer.stack import StackedFile, StackedLayer
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.tree.directory import OPEN_DIRECTORY
from unpacker.tree.disk import DiskTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unpacker.tree.directory import Directory

CALLS = ("open", "scandir", "stat", "link", "readlink", "getxattr", "listxattr")


class CountingTree(DiskTree):
    """Counts how often a directory is read."""

    scans = 0

    def scan(self, node: Directory) -> Iterator[tuple[bytes, os.DirEntry[str]]]:
        """See `DiskTree`."""
        self.scans += 1
        return super().scan(node)


def test_a_layer_is_read_once_for_all_its_linked_files(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}/a").touch()
        (tmp_path / f"d{number}/alone").touch()
        os.link(tmp_path / f"d{number}/a", tmp_path / f"b{number}")
    with CountingTree(os.open(tmp_path, OPEN_DIRECTORY)) as tree:
        stacked = StackedLayer(tree, SidecarMarkers())
        for number in range(20):
            node = tree.directory(tree.root, b"d%d" % number)
            linked, alone = (list(StackedFile(stacked, node, name).paths()) for name in (b"a", b"alone"))

            assert linked == [b"d%d/a" % number, b"b%d" % number]
            assert alone == [b"d%d/alone" % number]
        assert tree.scans == 21


def calls_for(links: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Count the system calls that a layer of links, each to another linked file of the layer below, takes in a store."""
    below: list[Entry] = []
    for number in range(links):
        below += [file(f"d{number}/a", b"%d" % number), hardlink(f"d{number}/b", f"d{number}/a")]
    above = [hardlink(f"e{number}/c", f"d{number}/b") for number in range(links)]
    layout = write_layout(place / f"layout{links}", [layer(*below), layer(*above)]).path
    image, count = Image.open(layout), 0

    def counting(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            return real(*arguments, **options)

        return call

    with OverlaySnapshotter(place / f"store{links}", sync=False) as snapshots, monkeypatch.context() as patched:
        for name in CALLS:
            patched.setattr(os, name, counting(getattr(os, name)))
        top = image.unpack(snapshots, labels=False)[-1].name
    found = sketch(read(snapshots.files(top)))
    for number in range(links):
        assert found[f"e{number}/c"] == found[f"d{number}/a"] == f"file {number} = d{number}/a"
    return count


def test_links_into_one_layer_take_a_time_that_grows_with_their_number_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with its square: a layer of 10,000 of them would take hours."""
    few, more, many = (calls_for(number, tmp_path, monkeypatch) for number in (10, 20, 40))

    assert many - more == pytest.approx(2 * (more - few), rel=0.1)
