"""The store on disk keeps the contract, whatever is on the disk already, and whoever else is at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.content import Again, ContentContract
from unpacker.content.disk import ContentStore

if TYPE_CHECKING:
    from pathlib import Path

    from unpacker.content.store import Store


class TestContentStore(ContentContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return ContentStore(tmp_path / "layout", create=True)

    @pytest.fixture
    def again(self, tmp_path: Path) -> Again:
        return lambda: ContentStore(tmp_path / "layout")
