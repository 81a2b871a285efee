"""docs/benchmarks.md and its charts are what the recorded results say, and the results say nothing about where they lay."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks import pages, tables
from benchmarks.aims import aims
from benchmarks.suite import public
from tests.support.markdown import PROJECT

RESULTS = pages.read()


@pytest.mark.parametrize("path", pages.made(RESULTS, pages.PAGE.read_text()), ids=lambda path: path.name)
def test_page_and_charts_are_what_the_results_say(path: Any) -> None:
    """``python3 benchmarks/pages.py`` makes them so."""
    assert path.read_text() == pages.made(RESULTS, pages.PAGE.read_text())[path]


def test_every_mark_of_the_page_is_filled() -> None:
    marks = {match[1] for match in pages.MARKED.findall(pages.PAGE.read_text())}
    assert marks == pages.blocks(RESULTS).keys()
    assert len(re.findall("<!-- end -->", pages.PAGE.read_text())) == len(marks)


def test_every_chart_is_shown() -> None:
    shown = set(re.findall(r"\((benchmarks-\S+\.svg)\)", pages.PAGE.read_text()))
    assert shown == {f"benchmarks-{name}.svg" for name in pages.charts(RESULTS)}
    assert shown == {path.name for path in (PROJECT / "docs").glob("benchmarks-*.svg")}


def test_results_name_no_place_of_the_machine() -> None:
    for path in pages.RESULTS.glob("*.json"):
        assert set(re.findall(r'(?<=[" ])/[\w./-]+', path.read_text())) <= {"/dev/shm"}


def test_what_is_published_of_a_comparison() -> None:
    found = {
        "image": {"reference": "/home/me/layout", "manifest": "sha256:a"},
        "contenders": [{"name": "unpack", "command": ["/home/me/unpack"], "remark": "ours", "paths": 3}],
        "skipped": {"tar": "exit status 2: tar: /home/me/unpack-bench-x1_y/tars/0.tar: no such file"},
    }
    assert public(found) == {
        "image": {"manifest": "sha256:a"},
        "contenders": [{"name": "unpack", "paths": 3}],
        "skipped": {"tar": "exit status 2: tar: .../tars/0.tar: no such file"},
    }


# -- made-up results ---------------------------------------------------------------------------------------------------


def took(name: str, wall: float, mib: int) -> dict[str, Any]:
    seconds = {"wall": wall, "user": wall, "sys": 0.5, "fastest": wall, "slowest": wall}
    return {"name": name, "version": f"{name} 1", "seconds": seconds, "memory_kib": {"together": mib << 10}}


def comparison(name: str = "node", place: str = "tmpfs at /dev/shm", ratio: float = 0.7) -> dict[str, Any]:
    return {
        "name": name,
        "compression": "gzip",
        "place": place,
        "image": {"layers": 4, "entries": 72_000, "blob_bytes": 227_000_000, "tar_bytes": 866_000_000},
        "contenders": [took("unpack", 2.1, 150), took("igzip", 3.0, 8)],
        "ratios": {"igzip": {"median": ratio, "least": 0.65, "most": 0.78}},
        "skipped": {"umoci": "not installed: umoci"},
    }


def point(image: str, entries: int, wall: float, mib: int = 40) -> dict[str, Any]:
    return {"image": image, "layers": 1, "entries": entries, **took("unpack", wall, mib)}


def series(times: list[float], mib: tuple[int, ...] = (18, 30, 30, 30)) -> list[dict[str, Any]]:
    sizes = [1, 10_000, 100_000, 1_000_000]
    return [point(f"i{size}", size, wall, peak) for size, wall, peak in zip(sizes, times, mib, strict=True)]


HIDDEN = [point("start", 1, 0.1), point("base", 100, 1.1), point("hides", 200, 2.0)]
FLAT = series([0.1, 0.3, 2.1, 20.1])


def linear(**changed: list[dict[str, Any]]) -> dict[str, Any]:
    usual = {"entries": FLAT, "layers": FLAT, "shared": FLAT, "opaque": HIDDEN, "whiteouts": HIDDEN}
    return {"linear": {"series": usual | changed}}


def verdicts(results: dict[str, Any]) -> dict[str, bool]:
    return {aim.what: aim.met for aim in aims(results)}


def test_ratios_are_held_against_what_is_asked() -> None:
    for ratio, met in ((0.75, True), (0.76, False)):
        found = verdicts({"compare": {"comparisons": [comparison(ratio=ratio)]}})
        assert found["node, gzip: beside igzip"] is met


def test_only_ratios_in_memory_are_held_against_it() -> None:
    found = verdicts({"compare": {"comparisons": [comparison(place="fresh ext4 of 8G for each run")]}})
    assert list(found) == ["peak memory of all processes together, the worst of all images here"]


@pytest.mark.parametrize(
    ("times", "met"),
    [
        pytest.param([0.1, 0.3, 2.1, 20.1], True, id="linear, with a start of 0.1 s"),
        pytest.param([0.1, 0.3, 2.1, 26.1], False, id="a third more for each of a million"),
    ],
)
def test_time_that_grows_in_line(times: list[float], met: bool) -> None:
    found = verdicts(linear(entries=series(times)))
    assert found["time for an entry over 10⁴, 10⁵, 10⁶ entries: the most beside the first"] is met


def test_memory_that_grows_in_line() -> None:
    for peak, met in ((1018, True), (2018, False)):
        found = verdicts(linear(layers=series([0.1, 0.3, 2.1, 20.1], (18, 28, 118, peak))))
        assert found["memory for an entry over 1, 10, 100 layers of 5,000 entries: the most beside the first"] is met


def test_what_hides_may_not_cost_more_than_the_files() -> None:
    for wall, met in ((2.0, True), (2.2, False)):
        found = verdicts(linear(opaque=[*HIDDEN[:2], point("hides", 200, wall)]))
        assert found["opaque: the layer that hides beside the layer of the files"] is met


def test_tables() -> None:
    one = [comparison()]
    assert tables.ratios(one, "gzip", "tmpfs").splitlines()[2] == "| node | 0.70 \u00d7 (0.65-0.78) |"
    assert tables.costs(one, "gzip", "tmpfs").splitlines()[2] == "| node | 2.10 / 2.60 / 150 | 3.00 / 3.50 / 8 |"
    assert tables.images(one).splitlines()[2] == "| node | 4 | 72,000 | 227.0 | - | 866.0 |"
    assert tables.ratios(one, "zstd", "tmpfs") == tables.NOTHING
    assert tables.peers(one).splitlines() == ["- igzip: igzip 1", "- umoci did not unpack gzip layers of node: umoci"]
