"""A staged layer as plain values: what one process says of it to another, which has the files already.

Nodes go as a flat list, parents first, since an image may nest its directories thousands deep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpacker.events import LossKind
from unpacker.layer.changes import Changes
from unpacker.tree.attributes import Attributes
from unpacker.tree.directory import Directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpacker.tree.directory import Tree

    Packed = tuple[list[Any], ...]
    """What `marshal` takes: nodes, which of them were assumed, losses, and the rest of the record."""


def pack(tree: Tree, changes: Changes) -> Packed:
    """Give a staged layer as values that `marshal` takes."""
    numbers: dict[Directory, int] = {}
    nodes: list[tuple[Any, ...]] = []

    def add(node: Directory, *, there: bool) -> None:
        parent = -1 if node.parent is None else numbers[node.parent]
        numbers[node] = len(nodes)
        nodes.append((parent, node.name, there, node.opaque, _values(node.attributes)))

    pending = [tree.root]
    while pending:
        node = pending.pop()
        add(node, there=True)
        pending += node.children.values()
    for assumed in changes.assumed:
        for node in reversed([*_unknown(assumed, numbers)]):
            add(node, there=False)
    losses = [(kind.value, count, *changes.losses.samples[kind]) for kind, count in changes.losses.counts.items()]
    numbered = [numbers[node] for node in changes.assumed]
    counts = [changes.entries, changes.tar_bytes, changes.copied_bytes]
    rest = [changes.opaque, changes.whiteouts, list(changes.skipped), changes.unresolved, counts]
    return nodes, numbered, losses, rest


def _unknown(node: Directory | None, numbers: dict[Directory, int]) -> Iterable[Directory]:
    """Yield a directory that may be gone from the tree, and those above it that are, the inner ones first."""
    while node is not None and node not in numbers:
        yield node
        node = node.parent


def unpack(packed: Packed, tree: Tree) -> Changes:
    """Give the tree, of which only the root is known, all its nodes, and make the record anew.

    Raises:
        LimitError: They take too much memory.
    """
    values, assumed, losses, rest = packed
    nodes: list[Directory] = []
    for parent, name, there, opaque, attributes in values:
        if parent < 0:
            node = tree.root
        elif there:
            node = tree.add(nodes[parent], name)
        else:
            node = Directory(nodes[parent], name)
        node.opaque = opaque
        if attributes is not None:
            tree.describe(node, Attributes(*attributes))
        nodes.append(node)
    changes = Changes()
    changes.assumed = [nodes[number] for number in assumed]
    for kind, count, path, reason in losses:
        changes.losses.counts[LossKind(kind)] = count
        changes.losses.samples[LossKind(kind)] = (path, reason)
    changes.opaque, changes.whiteouts, skipped, changes.unresolved, counts = rest
    changes.entries, changes.tar_bytes, changes.copied_bytes = counts
    changes.skipped = set(skipped)
    return changes


def _values(attributes: Attributes | None) -> tuple[Any, ...] | None:
    if attributes is None:
        return None
    return attributes.mode, attributes.uid, attributes.gid, attributes.mtime, attributes.xattrs
