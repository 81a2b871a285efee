"""What it costs to begin: the command that only prints its help, the smallest image, the import of the package.

Beside ``python3 -c pass`` of the same interpreter, in the same environment.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import machine, place, report, rounds
from benchmarks.image import prepare
from benchmarks.peers import Contender, Unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.cache import Cache
    from benchmarks.image import Image

NOTHING = "python3 -c pass"


class Begin(Contender):
    """A command that makes nothing."""

    shows_tree = False
    remark = ""

    def __init__(self, image: Image, name: str, argv: list[str]) -> None:
        super().__init__(image)
        self.name = name  # type: ignore[misc]
        self._argv = argv

    def command(self, target: Path) -> list[str]:
        del target
        return self._argv

    def environment(self, target: Path) -> dict[str, str]:
        del target
        return dict(os.environ)

    @contextmanager
    def ready(self, target: Path) -> Iterator[int | None]:
        del target
        yield None


class UnpackTiny(Unpack):
    name = "unpack of one empty file"


def measure(cache: Cache, on: Path, number_of_rounds: int) -> dict[str, object]:
    """Run each of them by turns, many times: they are short."""
    load = machine.load()
    with place.workspace(on) as workspace:
        image = prepare(cache.made("tiny"), workspace)
        # -P: no module of the current directory is imported, which may be a checkout.
        contenders = [
            Begin(image, NOTHING, [sys.executable, "-c", "pass"]),
            Begin(image, "import unpacker", [sys.executable, "-P", "-c", "import unpacker"]),
            Begin(image, "unpack --help", [*Unpack.program(), "--help"]),
            UnpackTiny(image),
        ]
        failed: dict[str, str] = {}
        where = place.choose(workspace, None)
        results = rounds.measure(contenders, where, workspace / "stderr", number_of_rounds, failed)
    if failed:
        raise RuntimeError(str(failed))
    nothing = results[0].runs
    return {
        "place": where.description,
        "rounds": number_of_rounds,
        "machine": machine.facts(),
        "load": [load, machine.load()],
        "commands": [
            {
                "name": one.name,
                "seconds": one.summary.facts(),
                "memory_kib": one.facts()["memory_kib"],
                "ratio": report.ratio(one.runs, nothing),
            }
            for one in results
        ],
    }
