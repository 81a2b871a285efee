"""The store in memory keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.content import ContentContract
from unpacker.content.memory import MemoryStore

if TYPE_CHECKING:
    from unpacker.content.store import Store


class TestMemoryStore(ContentContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()
