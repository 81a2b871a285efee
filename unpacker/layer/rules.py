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
    """Given what a layer comes to so far (`unpacker.layer.volume`), gives what all layers come to."""

    def fit(self, size: int) -> bool:
        """Whether a layer that comes to this size is not too much."""
        return self.total(size) <= self.limits.image_bytes

    def check_total(self, size: int) -> None:
        """Refuse an image of which a layer, that comes to this size, is too much.

        Raises:
            LimitError: It is.
        """
        if not self.fit(size):
            what = "decompressed bytes of all layers"
            raise LimitError("image_bytes", self.limits.image_bytes, self.total(size), what)

    @property
    def name(self) -> str:
        """What two runs must have in common to make the same of a layer."""
        return f"{self.owners.name}, directory links kept" if self.keep_dirlinks else self.owners.name
