"""The invariant that defines correctness: every way of unpacking makes what the reference model says.

DEST, a copy out of a store of layers, a native snapshot: one tree, with the same losses where the caller may not make
all of it.  What the kernel shows of the layers is compared in ``tests/snapshots/test_four_ways.py``.

The examples are the same in every run, so that a failure is never chance.  This looks for new ones, which take a second
for every twenty::

    UNPACK_EXAMPLES=20000 pytest tests/test_model_agrees.py -k any_stack --hypothesis-seed=1 --hypothesis-show-statistics
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, event, example, given, note, settings
from hypothesis import strategies as st

from tests.model import reference, ways
from tests.model.losses import Losses
from tests.model.strategies import Stack, fit_for, stacks
from tests.support.layoutbuild import write_layout
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr
from tests.support.tarbuild import Entry, char, directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff
from unpacker.events import LossKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.model.ways import Way

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
WAYS: Mapping[str, Way] = {"dest": ways.dest, "copy": ways.copy, "native": ways.native}


def modelled(stack: Stack, *, keep_dirlinks: bool = False) -> Tree | str:
    """Apply the layers in the model; give the tree, or the refusal."""
    try:
        return reference.apply(stack, keep_dirlinks=keep_dirlinks)
    except reference.Refused as refused:
        return f"refused: {refused}"


def compare(stack: Stack, *, keep_dirlinks: bool = False) -> str:
    """Fail if one way does not lead to the tree of the model, and say where; give what all have come to."""
    expected = modelled(stack, keep_dirlinks=keep_dirlinks)
    with ways.scratch() as scratch:
        layout, place = scratch / "layout", scratch / "made"
        write_layout(layout, [layer(*entries) for entries in stack], compression="none")
        place.mkdir()
        made = {way: ways.made_or_refused(go, layout, place, keep_dirlinks=keep_dirlinks) for way, go in WAYS.items()}
    if isinstance(expected, str):
        assert all(isinstance(one, str) for one in made.values()), f"{expected}, and there is a tree: {made}"
        return "refused by all"
    losses = Losses(stack, owners=can_chown(), devices=can_mknod(), keep_dirlinks=keep_dirlinks)
    for way, one in made.items():
        assert not isinstance(one, str), f"{way}: {one}, and the model has a tree"
        differences = diff(losses.tree(), one.tree)
        assert not differences, f"{way}:\n" + "\n".join(differences)
        _compare_losses(losses.counts(), one.losses, way)
    return "a tree" + ", without " * bool(losses.counts()) + ", ".join(sorted(losses.counts()))


def _compare_losses(expected: Mapping[LossKind, int], counted: Mapping[LossKind, int], way: str) -> None:
    """Fail if something was lost that nobody tells of, or told of that was not lost.

    Where the layers stay apart a directory may have an owner in each of them, and each is a loss.
    """
    told = f"{way} has lost {dict(counted)}, and must lose {dict(expected)}"
    assert counted.keys() == expected.keys(), told
    assert counted.get(LossKind.DEVICE) == expected.get(LossKind.DEVICE), told
    owners, least = counted.get(LossKind.OWNER, 0), expected.get(LossKind.OWNER, 0)
    assert owners == least or (owners > least and way != "dest"), told


def check(stack: Stack, *, keep_dirlinks: bool = False) -> None:
    """Compare, and show the stack where that fails."""
    stack = fit_for(stack, owners=True, devices=True, xattrs=can_set_user_xattr())
    for number, entries in enumerate(stack):
        note(f"layer {number}:" + "".join(f"\n    {entry!r}" for entry in entries))
    event(compare(stack, keep_dirlinks=keep_dirlinks))


@PROPERTY
@given(stack=stacks())
@example(stack=[[]])
@example(stack=[[directory("usr/lib"), symlink("lib", "usr/lib")], [file("lib/x")]])
@example(stack=[[directory("usr/lib"), symlink("lib", "usr/lib")], [file("lib/x"), whiteout("lib/y")]])
@example(stack=[[file("d/old")], [whiteout("d"), file("d/new")], [opaque("d"), hardlink("x", "d/new")]])
@example(stack=[[file("d/old"), hardlink("e", "d/old")], [hardlink("f", "e")], [whiteout("d"), file("d/new")]])
def test_any_stack_of_layers_is_what_the_model_says(stack: Stack) -> None:
    """Every stack of layers gives the same tree, or is refused by all."""
    check(stack)


@settings(PROPERTY, max_examples=max(1, EXAMPLES // 3))
@given(stack=stacks(keep_dirlinks=True))
@example(stack=[[directory("usr/lib"), symlink("lib", "usr/lib")], [directory("lib", mode=0o700), file("lib/x")]])
def test_keeping_dirlinks_makes_what_the_model_says(stack: Stack) -> None:
    """So it is where symbolic links to directories are kept."""
    check(stack, keep_dirlinks=True)


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


# Found without privilege, where a device cannot be made: what it replaces is gone from its entry on, and not before.
NULL = char("d", 1, 3)
DEVICES: Mapping[str, Stack] = {
    "over a file that an earlier hard link means": [[file("d", b"x")], [hardlink("b", "d"), NULL]],
    "replaced in its layer, then linked to": [[NULL, file("d", b"x"), hardlink("b", "d")]],
    "over a link that an earlier entry goes through": [[directory("e"), symlink("d", "e")], [file("d/y"), NULL]],
    "over a link, then something in it": [[directory("e"), symlink("d", "e")], [NULL, file("d/x")]],
    "over a link, and a whiteout below it": [[file("e/y"), symlink("d", "e")], [NULL, whiteout("d/y")]],
    "over a link, a whiteout, something in it": [
        [file("e/y"), symlink("d", "e")],
        [NULL, whiteout("d/y"), file("d/z")],
    ],
    "over a directory, then something in it": [[file("d/x")], [NULL, file("d/y")]],
    "in a directory that a link to it replaces": [
        [file("c/a")],
        [char("c/a", 1, 3), hardlink("h", "c/a"), hardlink("c", "h")],
    ],
    "hidden before a link to what comes later": [[NULL], [whiteout("d"), hardlink("b", "d"), file("d")]],
    "hidden a layer before that": [[NULL], [whiteout("d")], [hardlink("b", "d"), file("d")]],
    "hidden with its directory": [
        [char("c/d", 1, 3)],
        [whiteout("c")],
        [hardlink("b", "c/d"), file("c/d")],
    ],
    "hidden by an opaque root": [[NULL], [opaque(".")], [hardlink("b", "d"), file("d")]],
    "a link to it hidden by an opaque root": [
        [NULL, hardlink("h", "d")],
        [file("f"), opaque(".")],
        [hardlink("b", "h"), file("h")],
    ],
    "linked to before it comes, and after": [[file("d", b"x")], [hardlink("b", "d"), NULL, hardlink("c", "d")]],
    "linked to over three layers": [[NULL], [hardlink("b", "d")], [hardlink("c", "b")]],
}


# Found as any caller: a hard link whose target leads through its own name, which is a directory again as soon as the
# link that has replaced that makes room.
THROUGH_ITSELF: Mapping[str, Stack] = {
    "then something in it": [
        [file("a/h", b"x"), file("b/h", b"y")],
        [symlink("a", "b"), hardlink("a", "/a/h"), hardlink("a/h", "b/h")],
    ],
    "to nothing": [[file("b/h"), file("a/h")], [symlink("a", "b"), hardlink("a", "/a/h")]],
    "that is a link below": [[symlink("b", "."), file("a/b")], [hardlink("b", "b/a/b"), file("c")]],
    "that is a link below, then something in it": [
        [symlink("b", ".")],
        [symlink("a/b", "c/a")],
        [hardlink("b", "b/a/b"), file("b/a/b")],
    ],
    "to the link itself, by another of its names": [
        [symlink("b", ".w/..")],
        [symlink("b/./a/b", "../b"), hardlink("b/a/b", "b")],
        [hardlink("b", "b/a/b"), file("c")],
    ],
    "to the link itself": [[symlink("b", ".")], [hardlink("b", "b"), file("b/c")], [hardlink("a", "b")]],
    "to a device": [
        [char("b/a", 1, 3), file("b/h"), hardlink("a/h", "b/a")],
        [symlink("a", "b"), hardlink("a", "/a/h")],
    ],
}


@pytest.mark.parametrize("stack", [pytest.param(stack, id=name) for name, stack in THROUGH_ITSELF.items()])
def test_a_hard_link_through_its_own_name(stack: Stack) -> None:
    """What was there is gone before the target is looked for, and what that had replaced does not come back."""
    compare(stack)


@pytest.mark.parametrize("stack", [pytest.param(stack, id=name) for name, stack in DEVICES.items()])
def test_a_device_that_may_not_be_made(stack: Stack) -> None:
    """It is lost alone: hard links to it go with it, and nothing else does."""
    compare(stack)
