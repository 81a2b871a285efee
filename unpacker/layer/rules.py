"""How layers are applied, whichever layer it is: one value, handed down the whole way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.limits import DEFAULT, Limits
from unpacker.record import Record

if TYPE_CHECKING:
    from unpacker.layer.markers import Markers
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

    @property
    def name(self) -> str:
        """What two runs must have in common to make the same of a layer."""
        return f"{self.owners.name}, directory links kept" if self.keep_dirlinks else self.owners.name
