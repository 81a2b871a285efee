"""``python -m fuzz``: all targets, or some, for so many seconds altogether; see fuzz/README.md."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz import campaign
from fuzz.target import NAMES, UNLISTED

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
_SECONDS = 600
_LEAST = 5
"""Seconds for one target: two of them it takes to start."""
_COLUMNS = "{:<10} {:>7} {:>11} {:>7} {:>7} {:>9} {:>7} {:>6}  {}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if nothing was found."""
    parser = _parser()
    options = parser.parse_args(arguments)
    names = options.targets or list(NAMES)
    if unknown := set(names) - {*NAMES, UNLISTED}:
        parser.error(f"no target {min(unknown)}: there are {', '.join(NAMES)}")
    if options.replay:
        return _replay(names, options.replay)
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is missing: pip install --group fuzz")
    print(_COLUMNS.format("target", "seconds", "executions", "per s", "edges", "features", "corpus", "MiB", ""))
    seconds = max(options.seconds * options.jobs // len(names), _LEAST)
    findings: list[campaign.Result] = []

    def fuzz(name: str) -> None:
        begun = time.monotonic()
        result = campaign.run(name, seconds, options.corpus, options.findings)
        print(_line(result, time.monotonic() - begun), flush=True)
        if result.finding is not None:
            findings.append(result)

    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(fuzz, names):
            pass
    for result in findings:
        print(f"\n{result.name}: {result.finding}")
    return 1 if findings else 0


def _line(result: campaign.Result, clock: float) -> str:
    seconds = result.seconds or clock
    return _COLUMNS.format(
        result.name,
        round(seconds),
        result.executions,
        round(result.executions / seconds) if seconds else 0,
        result.edges,
        result.features,
        result.corpus,
        result.memory,
        "FOUND" if result.finding is not None else "nothing found",
    )


def _replay(names: list[str], files: Sequence[Path]) -> int:
    """Run files through one target, each alone."""
    status = 0
    for file in files:
        found = campaign.replay(names[0], file.absolute())
        print(f"{file}: {found or 'nothing found'}")
        status = status or int(found is not None)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Coverage-guided fuzzing of the package.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or some of: {', '.join(NAMES)}")
    parser.add_argument(
        "--seconds", type=int, default=_SECONDS, help="on the clock, shared by all targets (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="targets that run at the same time (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, default=HERE / "corpus", help="where inputs are kept from run to run")
    parser.add_argument("--findings", type=Path, default=HERE / "findings", help="where inputs that fail are put")
    parser.add_argument("--replay", type=Path, action="append", metavar="FILE", help="run this input of one target")
    return parser


if __name__ == "__main__":
    sys.exit(main())
