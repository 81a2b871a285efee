"""What fuzzing has found, each with the target that found it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks.arena import Arena
from tests.support.tarbuild import Entry, directory, file, hardlink

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena(tmp_path)


# -- trees, layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_store", [False, True], ids=["merged", "store"])
@pytest.mark.parametrize("name", ["a/.", "a/./", "a/b/.."])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda name: directory(name, mode=0o700), id="directory"),
        pytest.param(lambda name: file(name, b"1"), id="file"),
        pytest.param(lambda name: hardlink(name, "f"), id="hardlink"),
    ],
)
def test_a_name_that_ends_in_dots_is_a_name_of_the_directory_before(
    arena: Arena, make: object, name: str, by_store: bool
) -> None:
    """``tar -c etc/.`` writes ``etc/./`` and ``etc/./passwd``; the first one became ``etc/etc``."""
    assert callable(make)
    entry = make(name)
    assert isinstance(entry, Entry)

    arena.agrees(
        [[file("f"), directory("a/b"), entry, file("a/./c") if entry.kind == "directory" else file("c")]],
        by_store=by_store,
    )
