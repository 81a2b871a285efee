"""The overlay snapshotter keeps the contract."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.contracts.snapshots import Again, SnapshotterContract
from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import file, hardlink, layer, symlink
from tests.support.tree import diff, read
from unpacker.snapshots.catalog import opened
from unpacker.snapshots.encoding import choose_encoding
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unpacker.snapshots.base import StoreSnapshotter


class TestOverlay(SnapshotterContract):
    @pytest.fixture
    def snapshots(self, tmp_path: Path) -> Iterator[StoreSnapshotter]:
        with OverlaySnapshotter(tmp_path / "store", sync=False) as made:
            yield made

    @pytest.fixture
    def again(self, tmp_path: Path) -> Again:
        return lambda: OverlaySnapshotter(tmp_path / "store", sync=False)


def test_hard_links_show_no_attribute_under_the_name_that_it_is_stored_under(tmp_path: Path) -> None:
    """In a store an attribute of overlayfs itself has another name, or it would hide or redirect what is below."""
    encoding = snapshots_encoding(tmp_path)
    attribute = {"device": "trusted.overlay.metacopy", "user": "user.overlay.metacopy"}.get(encoding)
    if attribute is None:
        pytest.skip("missing: extended attributes, by which a layer says what it hides")
    special = [file("a", b"a", xattrs={attribute: b"1"}), hardlink("d/b", "a"), symlink("l", "a")]
    write_layout(tmp_path / "layout", [layer(*special, file("plain", b"c", xattrs={"user.a": b"1"}))])
    store = tmp_path / "store"
    copied, linked = (tmp_path / name for name in ("copied", "linked"))
    unpack(tmp_path / "layout", copied, store=store, sync=False)
    unpack(tmp_path / "layout", linked, store=store, sync=False, link=True)

    assert diff(read(copied), read(linked)) == []
    assert os.listxattr(linked / "a") == [attribute]
    assert {name: (linked / name).stat().st_nlink for name in ("a", "d/b", "plain")} == {"a": 2, "d/b": 2, "plain": 2}
    assert (linked / "l").lstat().st_nlink == 2
    assert [path for path in store.glob("snapshots/*/*/fs/a") if path.samefile(linked / "a")] == []


def snapshots_encoding(place: Path) -> str:
    """Say how a store in a directory says what layers hide."""
    with opened(str(place)) as descriptor:
        return choose_encoding(descriptor)
