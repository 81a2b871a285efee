"""How ``unpack`` does beside a peer, compared with what was recorded before: shown, never a reason to fail.

Seconds of two machines cannot be compared, but a ratio of two programs on one machine roughly can.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.place import kind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PEER = "igzip"
"""The pipeline that verifies nothing: the one to keep up with."""
TOLERANCE = 0.15
"""How much slower a few rounds on a busy machine may make it look."""


def verdict(report: dict[str, Any], path: Path, peer: str = PEER) -> str:
    """Say in one line how a comparison relates to the recorded one of the same image on the same kind of place.

    Args:
        report: What was measured just now, as `benchmarks.report.Report.facts`.
        path: What was recorded: ``compare.json`` of the suite.
        peer: Beside whom.
    """
    name = report["image"]["manifest"]
    now = report["ratios"].get(peer)
    if now is None:
        return f"recorded: {peer} has not run, so there is nothing to compare"
    comparisons = json.loads(path.read_text())["comparisons"] if path.exists() else []
    before = _recorded(comparisons, name, report["place"], peer)
    if before is None:
        return f"recorded: nothing of this image ({name}) beside {peer} on {report['place']}"
    change = now["median"] / before["median"] - 1
    said = f"{now['median']:.2f} x {peer}, recorded {before['median']:.2f} x: {change:+.0%}"
    if change > TOLERANCE:
        return f"recorded: SLOWER than it was by more than {TOLERANCE:.0%}: {said}"
    return f"recorded: no slower than it was, within {TOLERANCE:.0%}: {said}"


def _recorded(comparisons: Iterable[dict[str, Any]], manifest: str, place: str, peer: str) -> dict[str, float] | None:
    """Find the ratio for an image, by its manifest's digest, on a kind of file system."""
    for one in comparisons:
        if one["image"]["manifest"] == manifest and kind(one["place"]) == kind(place) and peer in one["ratios"]:
            ratio: dict[str, float] = one["ratios"][peer]
            return ratio
    return None
