"""What each stage of an unpack costs alone, and how close the whole comes to what they allow.

No arrangement of the stages is faster than all their work shared evenly by all cores, nor than the longest of them,
as each goes through a layer in order.  The larger of the two is the limit.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine, place, rounds
from benchmarks.image import prepare
from benchmarks.peers import Unpack
from benchmarks.timing import Command, Run, Summary, timed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.image import Image

ALONE = Path(__file__).with_name("alone.py")
STAGES = ("decompress", "sha256 in", "sha256 out", "parse", "write")
START = "start-up"


def measure(reference: str, tiny: str, on: Path, number_of_rounds: int) -> dict[str, object]:
    """Run each stage of an image alone, and the whole, by turns.

    Args:
        reference: The image.
        tiny: An image with nothing in it; to unpack it is start-up.
        on: Where to work.
        number_of_rounds: How many times each.
    """
    seconds: dict[str, list[Mapping[str, float]]] = {name: [] for name in STAGES}
    whole: list[Run] = []
    start: list[Run] = []
    load = machine.load()
    with place.workspace(on) as workspace:
        (workspace / "tiny").mkdir()
        image, nothing = prepare(reference, workspace), prepare(tiny, workspace / "tiny")
        facts = image.facts()
        where = place.choose(workspace, None)
        for number in range(number_of_rounds + 1):
            for name in STAGES:
                rounds.say(f"round {number} of {number_of_rounds}: {name}")
                with where.target() as target:
                    seconds[name].append(_alone(name, image, target))
            for one, took in ((image, whole), (nothing, start)):
                with where.target() as target, Unpack(one).ready(target):
                    took.append(_unpack(one, target, workspace / "stderr"))
    warm_ups: list[list[Any]] = [*seconds.values(), whole, start]
    for runs in warm_ups:
        del runs[0]
    return {
        "place": where.description,
        "rounds": number_of_rounds,
        "machine": machine.facts(),
        "load": [load, machine.load()],
        "image": facts,
        "whole": Summary.of(whole).facts(),
        "stages": {name: _medians(runs) for name, runs in seconds.items()}
        | {START: {"wall": round(Summary.of(start).wall, 4), "cpu": round(_cpu(start), 4)}},
    }


def _alone(name: str, image: Image, target: Path) -> Mapping[str, float]:
    layers = [str(path) for layer in image.layers for path in (layer.blob, layer.tar)]
    argv = [sys.executable, str(ALONE), name, str(target), *layers]
    done = subprocess.run(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ""}, check=True)
    found: Mapping[str, float] = json.loads(done.stdout)
    return found


def _unpack(image: Image, target: Path, log: Path) -> Run:
    one = Unpack(image)
    return timed(Command(argv=one.command(target), environment=one.environment(target), log=log))


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(run[key] for run in runs), 4) for key in ("wall", "cpu")}


def _cpu(runs: Sequence[Run]) -> float:
    return statistics.median(run.user + run.sys for run in runs)


def limit(stages: Mapping[str, Mapping[str, float]], cores: int) -> tuple[float, float]:
    """Give the seconds of all stages on all cores, and those of the longest."""
    return sum(one["cpu"] for one in stages.values()) / cores, max(one["wall"] for one in stages.values())
