"""ChainIDs: names of what a stack of layers adds up to (config.md, Layer ChainID)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """Give the ChainID at each layer, base first: a layer over other parents has another one."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
