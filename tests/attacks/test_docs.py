"""The page about attacks names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.attacks import bombs

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


# -- the table of bombs ------------------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    found = bombs.TABLE.search(PAGE)
    assert found is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()[2:]]


def test_the_table_has_every_bomb_and_how_it_ends() -> None:
    said = [(name, end) for name, _, _, _, end in rows()]

    assert said == [
        (bomb.name, "unpacked" if bomb.end == "unpacked" else f"refused: `{bomb.end}`") for bomb in bombs.BOMBS
    ]


def test_no_bomb_took_more_than_it_may() -> None:
    most = {bomb.name: bomb.most for bomb in bombs.BOMBS}

    assert [name for name, _, _, memory, _ in rows() if int(memory) << 20 > most[name]] == []


def test_the_table_is_made_by_its_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With two that take no time: all of them are for whoever changes what they are about."""
    assert bombs.main(["sparse map", "2³¹", "--on", str(tmp_path)]) == 0

    shown = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [(line[0].strip("| "), line[-1].strip(" |")) for line in shown] == [
        (name, end) for name, _, _, _, end in rows() if "sparse map" in name or "2³¹" in name
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bomb", "taken", "said"),
    [
        (bombs.BOMBS[0], bombs.Taken(1, 1.0, 1 << 20, "unpacked"), ""),
        (bombs.BOMBS[0], bombs.Taken(1, 1.0, bombs.MOST + 1, "unpacked"), "bytes of memory"),
        (bombs.BOMBS[0], bombs.Taken(1, 1.0, 1 << 20, "unpack: error: x"), "not unpacked"),
        (bombs.BOMBS[3], bombs.Taken(1, 1.0, 1 << 20, "unpacked"), "not refused by header_bytes"),
    ],
    ids=["right", "memory", "refused", "unpacked"],
)
def test_what_is_wrong_with_a_bomb_is_said(bomb: bombs.Bomb, taken: bombs.Taken, said: str) -> None:
    found = bombs.faults(bomb, taken)

    assert bool(found) == bool(said)
    assert said in "".join(found)
