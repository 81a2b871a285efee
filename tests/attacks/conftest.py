"""What every attack needs: something outside that must stay as it is, and an end."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.attacks.arena import Arena

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

PATIENCE = 60
"""Seconds after which an attack has succeeded, by never ending."""


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"does not end in {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena(tmp_path)
