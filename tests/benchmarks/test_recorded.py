"""A slower run is told from a recorded one, by ratio, and only for the same image on the same kind of place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.recorded import verdict

if TYPE_CHECKING:
    from pathlib import Path


def report(ratio: float, *, manifest: str = "sha256:a", place: str = "tmpfs at /here", peer: str = "igzip") -> Any:
    return {"image": {"manifest": manifest}, "place": place, "ratios": {peer: {"median": ratio}}}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(report(0.80), "no slower than it was, within 15%: 0.80 x igzip, recorded 0.80 x: +0%", id="same"),
        pytest.param(
            report(0.91), "no slower than it was, within 15%: 0.91 x igzip, recorded 0.80 x: +14%", id="noise"
        ),
        pytest.param(
            report(0.93), "SLOWER than it was by more than 15%: 0.93 x igzip, recorded 0.80 x: +16%", id="slower"
        ),
        pytest.param(
            report(0.40), "no slower than it was, within 15%: 0.40 x igzip, recorded 0.80 x: -50%", id="faster"
        ),
        pytest.param(
            report(9.0, manifest="sha256:b"),
            "nothing of this image (sha256:b) beside igzip on tmpfs at /here",
            id="another image",
        ),
        pytest.param(
            report(9.0, place="ext4 at /here"),
            "nothing of this image (sha256:a) beside igzip on ext4 at /here",
            id="another place",
        ),
        pytest.param(
            report(9.0, peer="umoci"), "igzip has not run, so there is nothing to compare", id="without the peer"
        ),
    ],
)
def test_verdict(now: Any, expected: str, tmp_path: Path) -> None:
    recorded = {"comparisons": [report(1.5, peer="bsdtar"), report(0.80, place="tmpfs at /there")]}
    (tmp_path / "compare.json").write_text(json.dumps(recorded))

    assert verdict(now, tmp_path / "compare.json") == f"recorded: {expected}"
