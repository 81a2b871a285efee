"""Seconds and memory are those of all processes that a command starts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.timing import Command, FailedError, Run, Summary, timed, watched

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 40 << 20
WORK = "import time; begun = time.process_time()\nwhile time.process_time() < begun + 0.2: pass"
HOLD = f"import time; held = b'x' * {SIZE}; time.sleep(3)"
TWO = (
    "import subprocess, sys; [p.wait() for p in [subprocess.Popen([sys.executable, '-c', sys.argv[1]]) for _ in 'ab']]"
)


def command(tmp_path: Path, *words: str) -> Command:
    return Command(argv=[sys.executable, "-c", *words], environment=os.environ, log=tmp_path / "log")


def test_memory_of_processes_together(tmp_path: Path) -> None:
    found = watched(command(tmp_path, TWO, HOLD))
    assert found.processes == 3
    assert SIZE < found.largest << 10 < 2 * SIZE
    assert found.together << 10 > 2 * SIZE


def test_seconds_of_processes_together(tmp_path: Path) -> None:
    found = timed(command(tmp_path, TWO, WORK))
    assert found.user + found.sys >= 0.4


def test_a_command_that_fails(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="exit status 3: so it is"):
        timed(command(tmp_path, "import sys; print('so it is', file=sys.stderr); sys.exit(3)"))


def test_medians_and_extremes() -> None:
    summary = Summary.of([Run(wall=wall, user=wall / 2, sys=0.0) for wall in (3.0, 1.0, 2.0)])
    assert (summary.wall, summary.user, summary.fastest, summary.slowest) == (2.0, 1.0, 1.0, 3.0)
