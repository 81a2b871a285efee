"""Paths that lead to the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unpacker.tree.paths import overlap

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a", "a", True),
        ("a", "a/", True),
        ("a", "a/b/c", True),
        ("a", "ab", False),
        ("a/b", "a/c", False),
        (".", "a", True),
        ("/", "a", True),
        ("/", "/", True),
        ("link", "a", True),
        ("link/b", "a", True),
        ("a/../link", "a/b", True),
        ("a/missing", "a/missing/too", True),
        ("other", "link", False),
    ],
)
def test_overlap(one: str, other: str, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One in the other, whichever is given first, links followed; a common beginning of names is nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")

    assert overlap(one, other) is expected
    assert overlap(other, one) is expected
