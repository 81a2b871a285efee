"""Runs everyone by turns.

Each contender runs once to warm up, watched for its memory, and then once a round: A B C A B C, so that whatever else
the machine does hits all of them alike, and the runs of one round can be compared with each other.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks import place
from benchmarks.report import Result
from benchmarks.timing import Command, FailedError, Run, timed, watched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers import Contender


def measure(
    contenders: Sequence[Contender], where: place.Place, log: Path, rounds: int, skipped: dict[str, str]
) -> list[Result]:
    """Run everyone once to warm up, then in rounds; who fails is out, and stands in ``skipped`` with its reason."""
    results: dict[Contender, Result] = {}
    for number in range(rounds + 1):
        for one in contenders:
            if one.name in skipped:
                continue
            say(f"round {number} of {rounds}: {one.name}" if number else f"warm-up: {one.name}")
            try:
                if number:
                    results[one].runs.append(_timed(one, where, log))
                else:
                    results[one] = _warmed_up(one, where, log)
            except FailedError as failure:
                skipped[one.name] = str(failure)
    return [result for one, result in results.items() if one.name not in skipped]


def _warmed_up(one: Contender, where: place.Place, log: Path) -> Result:
    with where.target() as target, one.ready(target) as server:
        command = _command(one, target, log, server)
        memory = watched(command)
        paths = place.count(target / "root") if one.shows_tree else None
    return Result(
        name=one.name,
        version=one.version(),
        remark=one.remark,
        command=command.argv,
        memory=memory,
        paths=paths,
    )


def _timed(one: Contender, where: place.Place, log: Path) -> Run:
    with where.target() as target, one.ready(target) as server:
        return timed(_command(one, target, log, server))


def _command(one: Contender, target: Path, log: Path, server: int | None) -> Command:
    return Command(argv=one.command(target), environment=one.environment(target), log=log, server=server)


def say(text: str) -> None:
    """Tell whoever watches what is going on."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
