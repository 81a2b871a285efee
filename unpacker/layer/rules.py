"""How layers are applied, whichever layer it is: one value, handed down the whole way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.errors import LimitError
from unpacker.limits import DEFAULT, Limits
from unpacker.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpacker.layer.markers import Markers
    from unpacker.tree.directory import Memory
    from unpacker.tree.owners import Owners


class Rules(Record):
    """What a caller has decided, and what was found out about the process."""

    owners: Owners
    umask: int
    keep_dirlinks: bool = False
    markers: Markers | None = None
    """How layers that stay apart say what they hide; None where they are merged."""
    readable: bool = False
    """Whether the caller must be able to read all of it again (`unpacker.tree.attributes.Applier`)."""
    limits: Limits = DEFAULT
    memory: Memory | None = None
    """What all layers together have to remember; None: each of them has as much as ``limits`` allow for itself."""

    total: Callable[[int], int] = int
    """Given the decompressed bytes of a layer so far, gives those of all layers so far."""

    def check_total(self, tar_bytes: int) -> None:
        """Refuse an image whose layers so far were decompressed to too much.

        Raises:
            LimitError: They were.
        """
        if tar_bytes > self.limits.image_bytes:
            what = "decompressed bytes of all layers"
            raise LimitError("image_bytes", self.limits.image_bytes, tar_bytes, what)

    @property
    def name(self) -> str:
        """What two runs must have in common to make the same of a layer."""
        return f"{self.owners.name}, directory links kept" if self.keep_dirlinks else self.owners.name
