"""One target for some seconds: a process of its own, watched, and what came of it."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.scratch import remove

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[1]
MEMORY = 1024
"""MiB that a process may have: no input is larger than kilobytes, and a zstd window may be of 128 MiB."""
PATIENCE = 120
"""Seconds on the clock for one input, after which the fuzzer stops.  A busy machine, or one that was suspended, is slow
as well, so whether it really hangs is tried again: with `REPLAY` seconds of the processor."""
REPLAY = 60
_REPLAY_CLOCK = 600
_STATUS = re.compile(r"^#(\d+)\t.* cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
_FINAL = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)
_SHOWN = 30
"""Lines of a traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a target."""

    name: str
    seconds: float
    executions: int
    edges: int
    features: int
    corpus: int
    memory: int
    """MiB at most."""
    finding: str | None = None
    """What is wrong, in some lines."""


def run(
    name: str, seconds: int, corpus: Path, findings: Path, *, patience: int = PATIENCE, memory: int = MEMORY
) -> Result:
    """Fuzz one target.

    Args:
        name: Which.
        seconds: How long, on the clock.
        corpus: Where inputs that were worth keeping are kept, a directory for each target.
        findings: Where those are put that bring something to light.
        patience: See `PATIENCE`.
        memory: See `MEMORY`.
    """
    found = findings / name
    found.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={patience}",
        f"-rss_limit_mb={memory}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        "-report_slow_units=100000",  # that is ours to say: see `fuzz.target.SLOW`
    ]
    with _scratch() as place:
        log = place / "log"
        command = [sys.executable, "-m", "fuzz.engine", name, str(corpus / name), *options]
        with log.open("wb") as output:
            status = _finished(command, place, output.fileno())
        text = log.read_text(errors="replace")
    artifacts = sorted(set(found.iterdir()) - before)
    return _result(name, text, status, artifacts)


def _finished(command: list[str], place: Path, output: int) -> int:
    """Run a process to its end, which an interrupt of ours is, too."""
    with subprocess.Popen(command, cwd=PROJECT, env=_environment(place), stdout=output, stderr=output) as process:
        try:
            return process.wait()
        except BaseException:
            process.kill()
            raise


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a directory for what a process leaves, which may have been killed in the midst of a deep tree."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        yield place
    finally:
        remove(place)


def _result(name: str, text: str, status: int, artifacts: list[Path]) -> Result:
    lines = _STATUS.findall(text)
    last = [int(number) for number in lines[-1]] if lines else [0, 0, 0, 0]
    final = {key: int(number) for key, number in _FINAL.findall(text)}
    seconds = re.search(r"^Done \d+ runs in (\d+) second", text, re.MULTILINE)
    return Result(
        name=name,
        seconds=int(seconds[1]) if seconds else 0,
        executions=final.get("number_of_executed_units", last[0]),
        edges=last[1],
        features=last[2],
        corpus=last[3],
        memory=final.get("peak_rss_mb", 0),
        finding=None if status == 0 else _finding(name, text, artifacts),
    )


def _finding(name: str, text: str, artifacts: list[Path]) -> str | None:
    """Say what stopped a fuzzer; None if that was a slow machine."""
    for artifact in artifacts:
        again = replay(name, artifact)
        if again is not None:
            return f"{artifact}\n{again}"
        if artifact.name.startswith("timeout-"):
            return None
    where = f"{artifacts[0]}, not when it is run alone\n" if artifacts else ""
    lines = [line for line in text.splitlines() if not line.startswith(("INFO", "#", "WARNING", "stat::"))]
    return where + "\n".join(lines[-_SHOWN:])


def replay(name: str, artifact: Path, *, processor: int = REPLAY) -> str | None:
    """Run an input alone, for so many seconds of the processor at most; give what is wrong with it, or None."""
    command = [sys.executable, "-m", "fuzz.engine", "--replay", name, str(artifact)]
    with _scratch() as place:
        try:
            done = subprocess.run(
                command,
                cwd=PROJECT,
                env=_environment(place),
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 5)),
                capture_output=True,
                text=True,
                timeout=_REPLAY_CLOCK,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it hangs: no end after {_REPLAY_CLOCK} s"
    if done.returncode == 0:
        return None
    if done.returncode == -signal.SIGXCPU:
        return f"it hangs: no end after {processor} s of the processor"
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}\n{done.stderr}"
    return "\n".join(done.stderr.splitlines()[-_SHOWN:])
