"""What every attack needs: something outside that must stay as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks.arena import Arena

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena(tmp_path)
