"""Runs of the command line inside the test process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.engine import ScriptedEngine
from unpacker.cli import main, unpack_main


@dataclass(frozen=True)
class Outcome:
    """What a run left: its exit status and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR", "UNPACK_DEBUG", "UNPACK_STORE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run_unpack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``unpack`` with an engine that plays a scenario."""

    def run(*words: str, engine: Callable[..., Any] | None = None) -> Outcome:
        monkeypatch.setattr("unpacker.cli.unpack.unpack", engine or ScriptedEngine())
        status = unpack_main(words)
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def run_toolbox(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``unpacker`` as it is."""

    def run(*words: str) -> Outcome:
        status = main(words)
        return Outcome(status, *capsys.readouterr())

    return run
