"""The page about attacks names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "security.md").read_text()
HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(set(re.findall(r"test_\w+\.py(?:::test_\w+)?", PAGE))))
def test_the_page_names_tests_that_there_are(name: str) -> None:
    file, _, test = name.partition("::")
    assert f"def {test}(" in (HERE / file).read_text() if test else (HERE / file).is_file()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"unpacker/[\w/]+\.py", PAGE))))
def test_the_page_names_modules_that_there_are(name: str) -> None:
    assert (PROJECT / name).is_file()


def test_each_file_of_attacks_is_on_the_page() -> None:
    files = {path.name for path in HERE.glob("test_*.py")} - {Path(__file__).name}
    assert {name for name in files if name not in PAGE} == set()
