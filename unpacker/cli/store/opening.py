"""--store, or UNPACK_STORE in the environment, to an open store; and an image whose layers are in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.cli.parser import STORE_VARIABLE, store_of
from unpacker.errors import UsageError
from unpacker.snapshots.opening import open_snapshotter

if TYPE_CHECKING:
    from argparse import Namespace

    from unpacker.snapshots.base import StoreSnapshotter


def open_store(arguments: Namespace, *, create: bool = False) -> StoreSnapshotter:
    """Open the store; the caller closes it.

    Raises:
        UsageError: There is none.
        StoreNotFoundError, UnsupportedError: See `open_snapshotter`.
    """
    store = store_of(arguments)
    if store is None:
        raise UsageError("no snapshot store given", f"--store DIR, or {STORE_VARIABLE} in the environment")
    return open_snapshotter(store, create=create)
