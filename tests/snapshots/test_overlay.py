"""The overlay snapshotter keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.snapshots import Again, SnapshotterContract
from unpacker.snapshots.overlay import OverlaySnapshotter

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
