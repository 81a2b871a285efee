from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.conformance.cases import Place, no_permissions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    if no_permissions():  # whoever needs permissions needs them to remove the directories, too
        for parent, names, _ in os.walk(tmp_path):
            for name in names:
                path = os.path.join(parent, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
