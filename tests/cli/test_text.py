"""Names, numbers and tables as people read them."""

from __future__ import annotations

import pytest

from unpacker.cli.text import amount, count, duration, prefix, printable, table, without_surrogates


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (63_400_000, "63.4 MB"),
        (2**40, "1.1 TB"),
        (2**63 - 1, "9.2 EB"),
    ],
)
def test_bytes_have_decimal_units(size: int, shown: str) -> None:
    assert amount(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.004, "0.00 s"),
        (0.48, "0.48 s"),
        (9.994, "9.99 s"),
        (12.34, "12.3 s"),
        (60.0, "1 min 00 s"),
        (187.4, "3 min 07 s"),
    ],
)
def test_times_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_numbers_agree_with_their_nouns() -> None:
    assert (count(1, "layer"), count(0, "layer"), count(1234, "entry", "entries")) == (
        "1 layer",
        "0 layers",
        "1,234 entries",
    )


def test_a_digest_is_told_by_its_beginning() -> None:
    assert prefix("sha256:" + "0123456789" * 6) == "sha256:012345678901"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünïcode 'x\\n'", "plain Ünïcode 'x\\n'"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202e\u2028", "\\u202e\\u2028"),
        ("\udcff\ud800", "\\xff\\ud800"),
    ],
)
def test_text_is_harmless_to_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_surrogates_are_no_text() -> None:
    assert without_surrogates("a\udcff\ud800\x1b") == "a\\xff\\ud800\x1b"


def test_columns_have_one_width_and_lines_no_blank_ends() -> None:
    assert table(("NAME", "X"), [("a", "1"), ("longer", "")]) == "NAME    X\na       1\nlonger  \n"
