"""Runs ``unpack`` as it is, in this process or in one of its own, and looks what it has left behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unpacker.cli import unpack_main

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).parents[2]
PROGRAM = "import sys; from unpacker.cli import unpack_main; sys.exit(unpack_main())"
PATIENCE = 60.0
"""Seconds after which a run is stuck."""

Word = str | bytes | os.PathLike[str]


class Outcome(NamedTuple):
    """What a run said and gave."""

    status: int
    out: str
    lines: list[str]
    """Of stderr."""


def unpack(*words: Word) -> Outcome:
    """Run the command in this process; quietly, so that errors are all that it says."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        status = unpack_main(["-q", *map(os.fsdecode, words)])
    said, errors = ((stream.buffer.getvalue().decode()) for stream in (out, err))
    return Outcome(status, said, errors.splitlines())


def command(*words: Word, python: str = sys.executable) -> list[str]:
    """Give the command of a process of its own."""
    return [python, "-c", PROGRAM, *map(os.fsdecode, words)]


def environment() -> dict[str, str]:
    """Give an environment in which a process finds the project, wherever it runs."""
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def run(words: Sequence[str], *, cwd: str | os.PathLike[str] | None = None, text: str | None = None) -> Outcome:
    """Run any command to its end."""
    done = subprocess.run(
        words, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE, input=text
    )
    return Outcome(done.returncode, done.stdout, done.stderr.splitlines())


@contextmanager
def started(*words: Word, cwd: str | os.PathLike[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Begin a run in a process of its own; it does not outlive the context."""
    with subprocess.Popen(
        command(*words), cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def ended(run: subprocess.Popen[str]) -> Outcome:
    """Wait for the end of a run."""
    out, err = run.communicate(timeout=PATIENCE)
    return Outcome(run.returncode, out, err.splitlines())


def errors(outcome: Outcome) -> list[str]:
    """Give the errors among what a run said, without what stands before them."""
    before = "unpack: error: "
    return [line.removeprefix(before) for line in outcome.lines if line.startswith(before)]


def hints(outcome: Outcome) -> list[str]:
    """Give the hints."""
    before = "unpack: hint: "
    return [line.removeprefix(before) for line in outcome.lines if line.startswith(before)]


def refused(outcome: Outcome, status: int) -> str:
    """Check that a run failed with one line, and a hint at most; give the line."""
    found = errors(outcome)
    assert outcome.status == status, outcome.lines
    assert len(found) == 1, outcome.lines
    assert len(outcome.lines) == 1 + len(hints(outcome)), outcome.lines
    return found[0]


def succeeded(outcome: Outcome) -> None:
    """Check that a run said nothing and did its work."""
    assert (outcome.status, outcome.lines) == (0, [])


def listing(place: str | os.PathLike[str]) -> list[str]:
    """Name what is in a directory."""
    return sorted(os.listdir(place))
