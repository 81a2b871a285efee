"""Settle in overlay form: a staged layer stays a directory of its own, and says itself what it hides of those below.

The kernel's rules for such a directory (measured on Linux 6.18):

- The topmost directory of a path gives the attributes: so a directory that the layer only implies takes over those of
  the one below, or the layer would change what it does not speak of.
- A whiteout inside an opaque directory shows as a broken name: none is ever written there.
- The root of a layer cannot be opaque, the kernel ignores it: every name below becomes a whiteout instead.
- A directory over a file, or over a whiteout, needs no mark to hide it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.layer.stack import Stack
from unpacker.tree.attributes import implied

if TYPE_CHECKING:
    from unpacker.layer.below import Hidden, Path
    from unpacker.layer.markers import Markers
    from unpacker.tree.directory import Directory, Tree


def settle(own: Tree, hides: Hidden, below: Stack | None, markers: Markers) -> None:
    """Bring a staged layer into overlay form; its directories still wait for their attributes then.

    Args:
        own: The layer's tree.
        hides: What it hides, by real paths below.
        below: The layers below, nothing left out; None if there are none.
        markers: How to write what it hides.
    """
    if below is not None:
        _make_ways(own, hides)
    waiting: list[tuple[Directory, Path, Stack | None, bool]] = [(own.root, (), below, False)]
    while waiting:
        node, path, under, replaces = waiting.pop()
        if under is not None and replaces:
            markers.hide_all(own, node)
            under = None
        if node.attributes is None:
            own.describe(node, implied() if under is None else under.attributes(markers.stored))
        if under is not None and path in hides.all and path:
            # Emptied, not replaced: the directory itself is still the one below.
            markers.hide_all(own, node)
            under = None
        if under is not None:
            for name in _hidden_names(path, hides, under):
                if own.look(node, name) is None:
                    markers.hide(own, node, name)
        for name, child in node.children.items():
            lower = None if under is None else under.look(name)
            replaces = child.opaque or hides.covers(path, name)
            waiting.append((child, (*path, name), lower if isinstance(lower, Stack) else None, replaces))


def _hidden_names(path: Path, hides: Hidden, under: Stack) -> list[bytes]:
    """Give the names that need a whiteout of their own where a directory is not opaque; all only in the root."""
    if path in hides.all:
        return [*(name for name, _ in under.entries()), *under.left_out_of_root()]
    return list(hides.names.get(path, ()))


def _make_ways(own: Tree, hides: Hidden) -> None:
    """Make the directories in which markers will stand, as far as the layer has nothing else in their place."""
    for path in [*hides.all, *hides.names]:
        node = own.root
        for depth, name in enumerate(path):
            if hides.covers(path[:depth], name):  # as a whole, by now
                break
            child = node.children.get(name)
            if child is None:
                if own.look(node, name) is not None:
                    break
                child = own.make(node, name)
            if child.opaque:
                break
            node = child
