"""The page is that of the tests, and the tests are all there."""

from __future__ import annotations

import re

import pytest

from tests.conformance.cases import RULES
from tests.conformance.mutations import MUTATIONS
from tests.conformance.page import PAGE, PROJECT, SECTIONS, names_in, page

ROWS = {"h": 13, "i": 17, "j": 21}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "stale: python -m tests.conformance.page"


def test_no_rule_is_left_out() -> None:
    page()
    numbered = {f"spec_{number:03}" for number in range(1, 88)}
    rows = {f"spec_{table}_{row:02}" for table, most in ROWS.items() for row in range(1, most + 1)}

    assert set(RULES) == numbered | rows


@pytest.mark.parametrize("name", SECTIONS)
def test_every_test_belongs_to_a_rule(name: str) -> None:
    keys = {re.match(r"test_(spec_(?:\d{3}|[hij]_\d\d))_", test) for test in names_in(name)}

    assert {found[1] for found in keys if found} <= set(RULES)
    assert None not in keys


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.key)
def test_every_mutation_can_still_be_made(mutation: object) -> None:
    """Whether tests notice it is tried by hand, see `tests.conformance.mutations`; the line that it changes is there."""
    one = next(each for each in MUTATIONS if each is mutation)

    assert one.key in RULES
    assert (PROJECT / "unpacker" / one.file).read_text().count(one.old) == 1
