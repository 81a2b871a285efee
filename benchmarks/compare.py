"""Times ``unpack`` beside every other unpacker on this machine: ``python benchmarks/compare.py LAYOUT[:TAG]``.

What is measured and what not to conclude stands in ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # as a program, not as a module: the project is then not on the path, this directory is
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import machine, place, recorded, rounds
from benchmarks.arguments import directory, end_as_if_interrupted, positive
from benchmarks.image import NoImageError, prepare
from benchmarks.peers import EVERYONE, Contender, Unpack
from benchmarks.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; give 0 if ``unpack`` was among those that ran."""
    arguments = _arguments(argv)
    end_as_if_interrupted()
    try:
        report = compare(
            arguments.image, arguments.on, arguments.contenders, arguments.rounds, fresh_ext4=arguments.fresh_ext4
        )
    except (NoImageError, place.PlaceError, OSError, subprocess.CalledProcessError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(report.text())
    if arguments.recorded is not None:
        print(recorded.verdict(report.facts(), arguments.recorded))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.facts(), indent=1) + "\n")
    return 0 if any(result.name == Unpack.name for result in report.results) else 1


def compare(
    reference: str,
    on: Path,
    kinds: Sequence[type[Contender]],
    number_of_rounds: int,
    *,
    fresh_ext4: str | None = None,
) -> Report:
    """Tell the whole comparison: the image, the contenders that can run, their runs."""
    started, load = datetime.now(UTC).isoformat(timespec="seconds"), machine.load()
    with place.workspace(on) as workspace:
        rounds.say("preparing the image")
        image = prepare(reference, workspace)
        where = place.choose(workspace, fresh_ext4)
        contenders = [kind(image) for kind in kinds]
        skipped = {one.name: why for one in contenders if (why := one.why_not())}
        contenders = [one for one in contenders if one.name not in skipped]
        if isinstance(where, place.Disk):
            size = image.tar_bytes + image.blob_bytes
            where.check_room(size, image.entries, len(contenders) * (number_of_rounds + 1))
        results = rounds.measure(contenders, where, workspace / "stderr", number_of_rounds, skipped)
        return Report(
            started=started,
            place=where.description,
            rounds=number_of_rounds,
            machine=machine.facts(),
            load=[load, machine.load()],
            image=image.facts(),
            results=results,
            skipped=skipped,
        )


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
        type=directory,
        default=place.default_directory(),
        help="where to work and unpack to (default: %(default)s); all of it is removed at the end",
    )
    parser.add_argument("--rounds", metavar="N", type=positive, default=5, help="timed runs each (default: 5)")
    parser.add_argument(
        "--peers",
        metavar="A,B",
        dest="contenders",
        type=named,
        default=list(EVERYONE),
        help="unpack beside these only (default: all)",
    )
    parser.add_argument(
        "--fresh-ext4",
        metavar="SIZE",
        help="unpack to a new ext4 of this size (8G) for each run, in a sparse file in DIR; needs root",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured as JSON")
    parser.add_argument(
        "--recorded",
        metavar="FILE",
        type=Path,
        help="say how unpack does beside igzip compared with what this file has recorded of the image",
    )
    return parser.parse_args(argv)


def named(text: str) -> list[type[Contender]]:
    wanted = {Unpack.name, *text.split(",")}
    unknown = wanted - {kind.name for kind in EVERYONE}
    if unknown:
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return [kind for kind in EVERYONE if kind.name in wanted]


if __name__ == "__main__":
    sys.exit(main())
