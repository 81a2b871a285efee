"""The invariant that defines correctness: what `unpacker.unpack` makes is what the reference model says.

The examples are the same in every run, so that a failure is never chance.  ``UNPACK_EXAMPLES=20000 pytest
tests/test_model_agrees.py`` looks for new ones.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from tests.model import reference
from tests.model.strategies import Stack, fit_for, stacks
from tests.support.layoutbuild import write_layout
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr
from tests.support.tarbuild import Entry, directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff, read
from unpacker.errors import UnpackError

EXAMPLES = int(os.environ.get("UNPACK_EXAMPLES", "300"))
FIXED = "UNPACK_EXAMPLES" not in os.environ
PROPERTY = settings(
    max_examples=EXAMPLES,
    derandomize=FIXED,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    print_blob=not FIXED,
)
IGNORED = () if can_chown() else ("uid", "gid")

unpack = pytest.importorskip("unpacker.unpacking", reason="missing: the unpacker itself").unpack


def unpacked(stack: Stack, *, keep_dirlinks: bool = False, store: bool = False) -> Tree | str:
    """Unpack an image of these layers, by way of a store or not; give the tree, or the refusal."""
    with tempfile.TemporaryDirectory() as place:
        layout, dest = Path(place, "layout"), Path(place, "dest")
        write_layout(layout, [layer(*entries) for entries in stack], compression="none")
        try:
            snapshots = Path(place, "store") if store else None
            unpack(layout, dest, keep_dirlinks=keep_dirlinks, labels=False, store=snapshots, sync=False)
        except (UnpackError, OSError) as error:
            assert not dest.exists(), "a refusal leaves nothing behind"
            assert not store or os.listdir(Path(place, "store", "staging")) == []
            return f"refused: {error!r}"
        assert sorted(os.listdir(place)) == ["dest", "layout"] + ["store"] * store
        return read(dest)


def modelled(stack: Stack, *, keep_dirlinks: bool = False) -> Tree | str:
    """Apply the layers in the model; give the tree, or the refusal."""
    try:
        return reference.apply(stack, keep_dirlinks=keep_dirlinks)
    except reference.Refused as refused:
        return f"refused: {refused}"


def check(stack: Stack, *, keep_dirlinks: bool = False, store: bool = False) -> None:
    """Fail if the two do not agree, and say where."""
    stack = fit_for(stack, owners=can_chown(), devices=can_mknod(), xattrs=can_set_user_xattr())
    expected = modelled(stack, keep_dirlinks=keep_dirlinks)
    got = unpacked(stack, keep_dirlinks=keep_dirlinks, store=store)
    for number, entries in enumerate(stack):
        note(f"layer {number}:" + "".join(f"\n    {entry!r}" for entry in entries))
    if isinstance(expected, str) or isinstance(got, str):
        note(f"model: {expected if isinstance(expected, str) else 'a tree'}")
        note(f"unpack: {got if isinstance(got, str) else 'a tree'}")
        assert isinstance(expected, str) == isinstance(got, str), "one refuses, the other does not"
        return
    differences = diff(expected, got, ignore=IGNORED)
    assert not differences, "\n".join(differences)


@PROPERTY
@given(stack=stacks())
@example(stack=[[]])
@example(stack=[[directory("usr/lib"), symlink("lib", "usr/lib")], [file("lib/x")]])
@example(stack=[[file("d/old")], [whiteout("d"), file("d/new")], [opaque("d"), hardlink("x", "d/new")]])
def test_unpack_makes_what_the_model_says(stack: Stack) -> None:
    """Every stack of layers gives the same tree, or is refused by both."""
    check(stack)


@settings(PROPERTY, max_examples=max(1, EXAMPLES // 3))
@given(stack=stacks(keep_dirlinks=True))
@example(stack=[[directory("usr/lib"), symlink("lib", "usr/lib")], [directory("lib", mode=0o700), file("lib/x")]])
def test_keeping_dirlinks_makes_what_the_model_says(stack: Stack) -> None:
    """So it is where symbolic links to directories are kept."""
    check(stack, keep_dirlinks=True)


@PROPERTY
@given(stack=stacks())
@example(stack=[[directory("usr/lib"), symlink("lib", "usr/lib")], [file("lib/x"), whiteout("lib/y")]])
@example(stack=[[file("d/old"), hardlink("e", "d/old")], [hardlink("f", "e")], [whiteout("d"), file("d/new")]])
def test_a_store_makes_what_the_model_says(stack: Stack) -> None:
    """So it is where the layers stay apart, each saying what it hides, and DEST is a copy of what they add up to."""
    check(stack, store=True)


@settings(PROPERTY, max_examples=max(1, EXAMPLES // 3))
@given(stack=stacks(keep_dirlinks=True))
def test_a_store_keeps_dirlinks_as_the_model_says(stack: Stack) -> None:
    """And so it is for both together."""
    check(stack, keep_dirlinks=True, store=True)


@settings(PROPERTY, max_examples=max(1, EXAMPLES // 10))
@given(stack=stacks(), data=st.data())
def test_order_of_whiteouts_within_a_layer_is_nothing(stack: Stack, data: st.DataObject) -> None:
    """Whiteouts and opaque markers mean the same wherever in their layer they stand."""
    moved = [_with_whiteouts_moved(entries, data) for entries in stack]
    assert modelled(moved) == modelled(stack) or isinstance(modelled(stack), str)
    check(moved)


def _with_whiteouts_moved(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    plain = [entry for entry in entries if b".wh." not in entry.name]
    for marker in entries:
        if b".wh." in marker.name:
            plain.insert(data.draw(st.integers(0, len(plain))), marker)
    return plain
