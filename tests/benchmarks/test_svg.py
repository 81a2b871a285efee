"""Charts are well-formed, readable in both schemes, and their lengths are the numbers."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.svg import STYLE, Bar, Line, bars, decade, lines, steps

SVG = "{http://www.w3.org/2000/svg}"


def read(drawn: str) -> ET.Element:
    return ET.fromstring(drawn)  # noqa: S314 - it is our own


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bars("a < b", [("one & two", [Bar("x", 0.5, 0.4, 0.6), Bar("y", 2.0, 1.9, 2.5)])])
    root = read(drawn)

    widths = [float(rect.get("width", "")) for rect in root.iter(f"{SVG}rect")]
    texts = [text.text for text in root.iter(f"{SVG}text")]

    assert widths[1] / widths[0] == pytest.approx(4, rel=0.01)
    assert {"a < b", "one & two", "x", "y", "0.50 \u00d7", "2.00 \u00d7"} <= set(texts)


def test_the_whisker_goes_from_least_to_most() -> None:
    root = read(bars("t", [("g", [Bar("x", 1.0, 0.5, 1.5)])]))
    (rect,) = root.iter(f"{SVG}rect")
    (spread,) = [line for line in root.iter(f"{SVG}polyline") if line.get("class") == "spread"]

    (first, _), (last, _) = ([float(part) for part in point.split(",")] for point in spread.get("points", "").split())

    width = float(rect.get("width", ""))
    assert (first - float(rect.get("x", ""))) / width == pytest.approx(0.5, rel=0.01)
    assert (last - float(rect.get("x", ""))) / width == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize("log_y", [True, False], ids=["logarithmic", "from nothing"])
def test_cost_that_grows_with_size_is_a_straight_line(log_y: bool) -> None:
    points = [(10.0**power, 3 * 10.0**power if log_y else 20.0) for power in range(4, 7)]
    root = read(lines("t", [Line("l", points)], across="x", up="y", log_y=log_y))

    at = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in root.iter(f"{SVG}circle")]

    assert at[1][0] - at[0][0] == pytest.approx(at[2][0] - at[1][0], abs=0.2)
    assert at[0][1] - at[1][1] == pytest.approx(at[1][1] - at[2][1], abs=0.2)
    assert (at[0][1] > at[1][1]) is log_y, "up is more"


def test_both_schemes_have_every_colour() -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    for kind in ("text", ".quiet", ".axis", ".grid", ".one", ".spread", ".c0", ".c1"):
        assert kind in light
        assert kind in dark


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (37.0, [0, 10, 20, 30, 40]), (240.0, [0, 50, 100, 150, 200, 250])],
)
def test_marks_are_round_and_reach_beyond(most: float, expected: list[float]) -> None:
    assert steps(most) == pytest.approx(expected)


def test_decades() -> None:
    assert [decade(4.0, up=True), decade(4.2, up=True), decade(4.0, up=False), decade(3.9, up=False)] == [4, 5, 4, 3]
