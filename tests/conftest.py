"""What all tests share: they leave nothing that pytest could not remove."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEEP = "100"


@pytest.fixture(scope="session", autouse=True)
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove what lies very deep among the temporary files.

    pytest keeps those of its last runs, and then removes them by recursion: trees of thousands of levels, of which there
    are some here, would end a later run in a RecursionError, and stay for ever.
    """
    yield
    top = tmp_path_factory.getbasetemp()
    remove = ["-execdir", "rm", "-rf", "{}", "+"]
    subprocess.run(
        ["find", top, "-mindepth", _DEEP, "-maxdepth", _DEEP, *remove], stderr=subprocess.DEVNULL, check=False
    )
