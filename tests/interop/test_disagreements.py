"""Where unpackers part, we do what docs/fidelity.md says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.interop.disagreements import SECTIONS, Case, answer, ours
from tests.support.probes import (
    PROJECT,
    needs_chown,
    needs_mknod,
    needs_trusted_xattr,
    needs_user_xattr,
)

if TYPE_CHECKING:
    from pathlib import Path

FIDELITY = PROJECT / "docs" / "fidelity.md"
CASES = [pytest.param(case, id=case.matter) for cases in SECTIONS.values() for case in cases]


@needs_chown
@needs_mknod
@needs_user_xattr
@needs_trusted_xattr
@pytest.mark.parametrize("case", CASES)
def test_our_answer(case: Case) -> None:
    assert answer(case, ours) == case.ours


@needs_chown
@needs_mknod
@needs_user_xattr
@needs_trusted_xattr
@pytest.mark.parametrize("case", CASES)
def test_our_answer_by_way_of_a_store(case: Case, tmp_path: Path) -> None:
    """It is the same, but for the one kind of file that a layer in overlayfs form cannot hold, which is counted."""
    assert answer(case, partial(ours, store=tmp_path / "store")) == (case.from_store or case.ours)


@pytest.mark.parametrize("case", CASES)
def test_the_table_tells_our_answer(case: Case) -> None:
    """The documented table was printed by the same code, and has not been left behind by it."""
    assert f"\n| {case.matter} | {case.ours} |" in FIDELITY.read_text(encoding="utf-8")
