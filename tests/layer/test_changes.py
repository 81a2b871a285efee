"""The record of a staged layer: losses counted by kind, with the first of each as its example."""

from __future__ import annotations

from unpacker.events import LossKind
from unpacker.layer.changes import Changes, Losses
from unpacker.tree.directory import Directory


def test_losses_are_counted_with_one_example_each() -> None:
    """A layer may lose an owner a hundred thousand times; one of them says what it is about."""
    losses = Losses()
    losses.add(LossKind.OWNER, b"a", "first")
    losses.add(LossKind.OWNER, b"b", "second")
    losses.add(LossKind.XATTR, b"c", "third")
    assert losses.counts == {LossKind.OWNER: 2, LossKind.XATTR: 1}
    assert losses.samples == {LossKind.OWNER: (b"a", "first"), LossKind.XATTR: (b"c", "third")}


def test_losses_of_layers_add_up() -> None:
    """The example is that of the first layer that lost such a thing."""
    all_of_them, base, top = Losses(), Losses(), Losses()
    base.add(LossKind.OWNER, b"a", "base")
    top.add(LossKind.OWNER, b"b", "top")
    top.add(LossKind.OWNER, b"c", "top")
    top.add(LossKind.DEVICE, b"d", "top")
    for losses in (base, Losses(), top):
        all_of_them.update(losses)
    assert all_of_them.counts == {LossKind.OWNER: 3, LossKind.DEVICE: 1}
    assert all_of_them.samples == {LossKind.OWNER: (b"a", "base"), LossKind.DEVICE: (b"d", "top")}
    assert (base.counts, top.counts[LossKind.OWNER]) == ({LossKind.OWNER: 1}, 2), "they stay as they are"


def test_records_share_nothing() -> None:
    one, two = Changes(), Changes()
    one.opaque.append(b"a")
    one.whiteouts.append(b"b")
    one.assumed.append(Directory(None, b"c"))
    one.skipped.add(b"d")
    one.losses.add(LossKind.MODE, b"e", "why")
    assert (two.opaque, two.whiteouts, two.assumed, two.skipped, two.losses.counts) == ([], [], [], set(), {})
    assert two.unresolved is None
