"""Times ``unpack`` beside every other unpacker on this machine: ``python benchmarks/compare.py LAYOUT[:TAG]``.

Each contender runs once to warm up, watched for its memory, and then once a round: A B C A B C, so that whatever else
the machine does hits all of them alike.  What is measured and what not to conclude stands in ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if not __package__:  # as a program, not as a module: the project is then not on the path, this directory is
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import machine, place
from benchmarks.image import NoImageError, prepare
from benchmarks.peers import EVERYONE, Contender, Unpack
from benchmarks.report import Report, Result
from benchmarks.timing import Command, FailedError, Run, timed, watched

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; give 0 if ``unpack`` was among those that ran."""
    arguments = _arguments(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        report = compare(arguments)
    except (NoImageError, place.PlaceError, OSError, subprocess.CalledProcessError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(report.text())
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.facts(), indent=1) + "\n")
    return 0 if any(result.name == Unpack.name for result in report.results) else 1


def compare(arguments: argparse.Namespace) -> Report:
    """Tell the whole comparison: the image, the contenders that can run, their runs."""
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), machine.load()
    with place.workspace(arguments.on) as workspace:
        _say("preparing the image")
        image = prepare(arguments.image, workspace)
        where = place.choose(workspace, arguments.fresh_ext4)
        contenders = [kind(image) for kind in arguments.contenders]
        skipped = {one.name: why for one in contenders if (why := one.why_not())}
        contenders = [one for one in contenders if one.name not in skipped]
        if isinstance(where, place.Disk):
            where.check_room(
                image.tar_bytes + image.blob_bytes, image.entries, len(contenders) * (arguments.rounds + 1)
            )
        results = _measure(contenders, where, workspace / "stderr", arguments.rounds, skipped)
        return Report(
            started=started,
            place=where.description,
            rounds=arguments.rounds,
            machine=machine.facts(),
            load=[load, machine.load()],
            image=image.facts(),
            results=results,
            skipped=skipped,
        )


def _measure(
    contenders: Sequence[Contender], where: place.Place, log: Path, rounds: int, skipped: dict[str, str]
) -> list[Result]:
    """Run everyone once to warm up, then in rounds; who fails is out, and stands in ``skipped`` with its reason."""
    results: dict[Contender, Result] = {}
    for number in range(rounds + 1):
        for one in contenders:
            if one.name in skipped:
                continue
            _say(f"round {number} of {rounds}: {one.name}" if number else f"warm-up: {one.name}")
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


# -- the command line --------------------------------------------------------------------------------------------------


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    peers = [kind.name for kind in EVERYONE if kind is not Unpack]
    parser = argparse.ArgumentParser(
        prog="compare.py",
        description="Time unpack beside the other unpackers on this machine.",
        epilog=f"peers: {', '.join(peers)}; those that cannot run are skipped, with the reason",
    )
    parser.add_argument("image", metavar="LAYOUT[:TAG]", help="an OCI image layout; it is copied and left as it is")
    parser.add_argument(
        "--on",
        metavar="DIR",
        type=_directory,
        default=place.default_directory(),
        help="where to work and unpack to (default: %(default)s); all of it is removed at the end",
    )
    parser.add_argument("--rounds", metavar="N", type=_positive, default=5, help="timed runs each (default: 5)")
    parser.add_argument(
        "--peers",
        metavar="A,B",
        dest="contenders",
        type=_contenders,
        default=list(EVERYONE),
        help="unpack beside these only (default: all)",
    )
    parser.add_argument(
        "--fresh-ext4",
        metavar="SIZE",
        help="unpack to a new ext4 of this size (8G) for each run, in a sparse file in DIR; needs root",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured as JSON")
    return parser.parse_args(argv)


def _directory(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"no directory: {text}")
    return path


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"not a positive whole number: {text}")
    return int(text)


def _contenders(text: str) -> list[type[Contender]]:
    wanted = {Unpack.name, *text.split(",")}
    unknown = wanted - {kind.name for kind in EVERYONE}
    if unknown:
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return [kind for kind in EVERYONE if kind.name in wanted]


def _stop(number: int, frame: object) -> NoReturn:
    """End as if interrupted, so that everything that was made is removed."""
    del frame
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
