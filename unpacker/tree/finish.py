"""The last pass over a finished tree: every directory gets its real attributes, the deepest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.tree.attributes import Applier, Attributes, implied

if TYPE_CHECKING:
    from unpacker.tree.directory import Directory, Tree


def finish_directories(tree: Tree, applier: Applier) -> None:
    """Give every directory of the tree, but for its root, the attributes that its node waits with.

    Children come before their parent, so that a parent may lose its permissions; nothing is made or removed any more,
    so that times stay.
    """
    stack: list[tuple[Directory, bool]] = [(child, False) for child in tree.root.children.values()]
    while stack:
        node, children_done = stack.pop()
        if node.children and not children_done:
            stack.append((node, True))
            stack.extend((child, False) for child in node.children.values())
            continue
        applier.directory(tree.descriptor(node), node.attributes or implied(), node.path)


def finish_root(descriptor: int, wanted: Attributes, applier: Applier) -> None:
    """Give the root, wherever it is to be, its attributes."""
    applier.directory(descriptor, wanted, lambda: b".")
