"""The strategies give what the property test needs: stacks that collide, most of which can be held."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings

from tests.model import reference
from tests.model.strategies import Stack, fit_for, stacks
from tests.support.tarbuild import layer

FEW = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@FEW
@given(stack=stacks())
def test_everything_becomes_bytes(stack: Stack) -> None:
    """All that is generated can be written as pax archives."""
    for entries in stack:
        assert len(layer(*entries)) % 512 == 0


@FEW
@given(stack=stacks())
def test_fitted_stacks_ask_for_nothing_special(stack: Stack) -> None:
    """Without privilege: no owners, no devices, no xattrs, and modes that let the caller read."""
    for entries in fit_for(stack, owners=False, devices=False, xattrs=False):
        for entry in entries:
            assert (entry.uid, entry.gid, entry.xattrs) == (0, 0, {})
            assert entry.mode & 0o700 == 0o700
            assert entry.kind not in ("char", "block")


def test_most_stacks_can_be_held_and_all_kinds_occur() -> None:
    """Refusals are the exception, hard links and symlinks survive, and trees are not trivial."""
    kinds: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()

    @FEW
    @given(stack=stacks())
    def look(stack: Stack) -> None:
        try:
            tree = reference.apply(stack)
        except reference.Refused:
            outcomes["refused"] += 1
            return
        outcomes["linked"] += any(node.link for node in tree.values())
        outcomes["large"] += len(tree) > 5
        kinds.update(node.kind for node in tree.values())

    look()
    assert outcomes["refused"] < 75
    assert outcomes["linked"] > 3
    assert outcomes["large"] > 30
    assert {"file", "directory", "symlink", "fifo", "char", "block"} <= set(kinds)
