"""Each stage alone does what the stage does in an unpack, and says what it took."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import unpacker
from benchmarks import made
from benchmarks.alone import STAGES
from benchmarks.image import Layer, prepare
from benchmarks.layouts import write_layout
from benchmarks.stages import ALONE, limit
from benchmarks.stages import STAGES as NAMES
from tests.support.probes import needs_chown, needs_tool
from tests.support.tree import read

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.image import Image

pytestmark = [needs_tool("tar"), needs_tool("igzip")]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    (tmp_path / "tars").mkdir()
    write_layout(tmp_path / "source", made.entries(tmp_path / "tars", 300), "gzip")
    (tmp_path / "work").mkdir()
    return prepare(str(tmp_path / "source"), tmp_path / "work")


def alone(stage: str, image: Image, target: Path) -> dict[str, float]:
    target.mkdir()
    layers = [str(path) for layer in image.layers for path in (layer.blob, layer.tar)]
    argv = [sys.executable, str(ALONE), stage, str(target), *layers]
    found: dict[str, float] = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
    return found


def test_the_stages_have_the_names_of_the_table() -> None:
    assert tuple(STAGES) == NAMES


@pytest.mark.parametrize("stage", NAMES)
def test_seconds_of_a_stage(stage: str, image: Image, tmp_path: Path) -> None:
    took = alone(stage, image, tmp_path / "target")
    assert took["wall"] > 0
    assert took["cpu"] > 0


@needs_chown
def test_what_writing_alone_makes_is_the_tree(image: Image, tmp_path: Path) -> None:
    """All but the root, which only gets its attributes at the end of an unpack."""
    alone("write", image, tmp_path / "target")
    unpacker.unpack(image.layout, tmp_path / "root")

    trees = [read(path) for path in (tmp_path / "target" / image.layers[0].tar.name, tmp_path / "root")]

    for tree in trees:
        tree.pop(b"", None)
        tree.pop(b".", None)
    assert trees[0] == trees[1]


@pytest.mark.parametrize("stage", ["decompress", "parse"])
def test_a_stage_reads_all_of_it(stage: str, image: Image, tmp_path: Path) -> None:
    """A damaged archive is met with by whoever goes through it, at its very end too."""
    layer = image.layers[0]
    tar, blob = tmp_path / "cut.tar", tmp_path / "cut.gz"
    tar.write_bytes(layer.tar.read_bytes()[:-1024] + b"x" * 512)
    blob.write_bytes(layer.blob.read_bytes()[:-1])
    cut = Layer(media_type=layer.media_type, compression="gzip", blob=blob, ended=blob, tar=tar, entries=0)
    broken = image.__class__(reference="", manifest="", layout=image.layout, layers=(cut,))

    with pytest.raises(subprocess.CalledProcessError):
        alone(stage, broken, tmp_path / "target")


@pytest.mark.parametrize(
    ("cpu", "wall", "expected"),
    [
        pytest.param([1.0, 1.0, 2.0], [1.0, 1.0, 2.1], (2.0, 2.1), id="one long stage"),
        pytest.param([1.0] * 6, [1.0] * 6, (3.0, 1.0), id="much work for two cores"),
    ],
)
def test_the_limit(cpu: list[float], wall: list[float], expected: tuple[float, float]) -> None:
    stages = {
        str(number): {"cpu": one, "wall": other} for number, (one, other) in enumerate(zip(cpu, wall, strict=True))
    }
    assert limit(stages, 2) == expected
