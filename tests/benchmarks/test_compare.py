"""The comparison with other unpackers runs, leaves nothing behind, and writes what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.layoutbuild import Compression, write_layout
from tests.support.probes import has_tool, needs_tool
from tests.support.tarbuild import directory, file, layer, whiteout

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
PEERS = [peer for peer in ("igzip", "gzip", "bsdtar", "tar", "umoci") if has_tool(peer)]


def compare(*words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the program as its users do."""
    done = subprocess.run(
        [sys.executable, "benchmarks/compare.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    layers = [layer(directory("etc"), file("etc/motd", b"hi"), file("etc/issue")), layer(whiteout("etc/issue"))]
    return write_layout(tmp_path / "layout", layers).path


@needs_tool("tar")
def test_report(layout: Path, tmp_path: Path) -> None:
    """Every contender that is there is timed, and the others are skipped with a reason."""
    work = tmp_path / "work"
    work.mkdir()
    before = sorted(layout.rglob("*"))

    done = compare(
        f"{layout}:latest", "--on", work, "--rounds", "1", "--peers", ",".join(PEERS), "--json", tmp_path / "r"
    )
    report: dict[str, Any] = json.loads((tmp_path / "r").read_text())

    assert report["format"] == 2
    assert report["rounds"] == 1
    assert {"cpu", "cores", "kernel", "python", "packages"} <= report["machine"].keys()
    assert report["image"]["layers"] == 2
    assert report["image"]["entries"] == 4
    assert {one["name"] for one in report["contenders"]} | report["skipped"].keys() == {"unpack", *PEERS}
    for one in report["contenders"]:
        assert one["version"]
        assert one["memory_kib"]["largest"] <= one["memory_kib"]["together"]
        (run,) = one["runs"]
        assert 0 < run["wall"] == one["seconds"]["wall"] == one["seconds"]["fastest"] == one["seconds"]["slowest"]
        assert one["name"] in done.stdout
    paths = {one["name"]: one["paths"] for one in report["contenders"]}
    assert paths["tar"] == 3, "a pipeline knows no whiteouts"
    assert paths["unpack"] == 2
    assert report["ratios"].keys() == paths.keys() - {"unpack"}
    assert all(one["least"] == one["median"] == one["most"] for one in report["ratios"].values()), "one round"
    assert list(work.iterdir()) == []
    assert sorted(layout.rglob("*")) == before


@needs_tool("tar")
def test_peer_that_cannot_is_skipped(layout: Path, tmp_path: Path) -> None:
    """A peer that has nothing to do with this image is left out, and the report says why."""
    done = compare(layout, "--on", tmp_path, "--rounds", "1", "--peers", "zstd")

    assert "zstd: skipped: no zstd layer in this image" in done.stdout


def test_no_image(layout: Path, tmp_path: Path) -> None:
    """A tag that is not there ends it with a sentence."""
    done = compare(f"{layout}:other", "--on", tmp_path, status=2)

    assert done.stderr.startswith("compare: ")
    assert "'latest'" in done.stderr


@needs_tool("tar")
@needs_tool("igzip")
def test_beside_what_was_recorded(layout: Path, tmp_path: Path) -> None:
    """It says how the ratio to igzip relates to the recorded one; slower is no failure."""
    words: list[str | Path] = [layout, "--on", tmp_path, "--rounds", "1", "--peers", "igzip"]
    compare(*words, "--json", tmp_path / "r")
    report = json.loads((tmp_path / "r").read_text())
    report["ratios"]["igzip"]["median"] = 0.001
    (tmp_path / "recorded").write_text(json.dumps({"comparisons": [report]}))

    done = compare(*words, "--recorded", tmp_path / "recorded")

    assert "recorded: SLOWER than it was by more than 15%: " in done.stdout


@needs_tool("tar")
@pytest.mark.parametrize(
    ("compression", "peer"),
    [
        pytest.param("gzip", "igzip", marks=needs_tool("igzip")),
        pytest.param("gzip", "bsdtar", marks=[needs_tool("bsdtar"), needs_tool("igzip")]),
        pytest.param("zstd", "zstd", marks=needs_tool("zstd")),
        pytest.param("none", "tar"),
        pytest.param("none", "bsdtar", marks=needs_tool("bsdtar")),
    ],
)
def test_peers_that_want_an_end_marker_get_one(compression: Compression, peer: str, tmp_path: Path) -> None:
    """``umoci insert`` writes neither the marker nor the last padding, which tar and bsdtar take for a cut archive."""
    cut = layer(directory("etc"), file("etc/motd", b"hi" * 300)).rstrip(b"\0")
    built = write_layout(tmp_path / "layout", [cut], compression=compression)

    done = compare(built.path, "--on", tmp_path, "--rounds", "1", "--peers", peer, "--json", tmp_path / "r")
    report = json.loads((tmp_path / "r").read_text())

    assert {one["name"]: one["paths"] for one in report["contenders"]} == {"unpack": 2, peer: 2}, done.stdout
