"""The whole suite on a small image: it measures what is installed, and each part leaves its results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import suite
from benchmarks.cache import Cache
from tests.support.layoutbuild import write_layout
from tests.support.probes import needs_tool
from tests.support.tarbuild import directory, file, layer

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0
# The environment is made with pip from an index, which a test does not: it is this one here, which the suite takes as
# it is, and the rest of the program is the same.
RUN = """
import sys
sys.path.insert(0, {root!r})
from benchmarks import installed, suite
installed.run_in = lambda *_, **__: None
sys.exit(suite.main(sys.argv[1:]))
"""


def run(*words: str | Path, status: int = 0) -> str:
    argv = [sys.executable, "-c", RUN.format(root=str(ROOT)), *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == status, done.stderr
    return done.stderr


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "layout", [layer(directory("etc"), file("etc/motd", b"hi"))]).path


@needs_tool("tar")
@needs_tool("igzip")
def test_parts_leave_their_results(layout: Path, tmp_path: Path) -> None:
    work, results = tmp_path / "work", tmp_path / "results"
    work.mkdir()
    words: list[str | Path] = ["--made", "", "--places", "memory", "--rounds", "1", "--on", work, "--results", results]

    run(tmp_path / "cache", f"small={layout}", *words, "--only", "stages,startup", "--compressions", "gzip")

    (image,) = read(results / "stages.json")["images"]
    assert (image["name"], image["compression"]) == ("small", "gzip")
    assert image["stages"].keys() == {"decompress", "sha256 in", "sha256 out", "parse", "write", "start-up"}
    assert image["whole"]["wall"] > 0
    commands = {one["name"]: one for one in read(results / "startup.json")["commands"]}
    assert commands["python3 -c pass"]["ratio"]["median"] == 1
    assert commands["unpack --help"]["ratio"]["least"] > 0
    assert list(work.iterdir()) == []


@needs_tool("tar")
@needs_tool("igzip")
@needs_tool("bsdtar")
def test_results_of_the_same_image_are_replaced_and_others_stay(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(suite.PEERS, "gzip", "tar")
    monkeypatch.setitem(suite.PEERS, "none", "tar")
    words = [
        "--made",
        "",
        "--places",
        "memory",
        "--rounds",
        "1",
        "--on",
        str(tmp_path),
        "--results",
        str(tmp_path / "r"),
    ]
    words += ["--compressions", "gzip,none"]
    found = []
    for name, rounds in (("first", "1"), ("second", "1"), ("first", "2")):
        arguments = suite._arguments([str(tmp_path / "cache"), f"{name}={layout}", *words, "--rounds", rounds])
        arguments.results.mkdir(exist_ok=True)
        suite._compare(arguments, Cache(arguments.cache))
        found = read(tmp_path / "r" / "compare.json")["comparisons"]

    assert [(one["name"], one["compression"], one["rounds"]) for one in found] == [
        ("first", "gzip", 2),
        ("first", "none", 2),
        ("second", "gzip", 1),
        ("second", "none", 1),
    ]
    assert str(tmp_path) not in (tmp_path / "r" / "compare.json").read_text().replace(f"at {tmp_path}", "")


def test_no_such_image(layout: Path, tmp_path: Path) -> None:
    words: list[str | Path] = ["--made", "", "--only", "compare", "--results", tmp_path / "r", "--on", tmp_path]
    assert "suite: " in run(tmp_path / "cache", f"small={layout}:other", *words, status=2)
