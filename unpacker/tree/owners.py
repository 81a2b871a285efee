"""Who will own what is unpacked: maps of ids, and whether the caller may give files away at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.errors import UnsafeEntryError, UsageError
from unpacker.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

_ID_END = 2**32 - 1
_ID_DIGITS = 10
POLICIES = ("auto", "keep", "self")


class IdMap(Record, kw_only=False):
    """Ids ``container`` to ``container + size - 1`` of the image become ``host`` and following on disk."""

    container: int
    host: int
    size: int = 1

    @classmethod
    def parse(cls, text: str) -> IdMap:
        """Read ``CONTAINER:HOST[:SIZE]``.

        Raises:
            UsageError: It is not two or three numbers in the range of ids.
        """
        parts = text.split(":")
        if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() for part in parts):
            raise UsageError(f"id map {text!r} is not CONTAINER:HOST[:SIZE]")
        # int() refuses thousands of digits in its own words.
        found = cls(*(int(part) if len(part) <= _ID_DIGITS else _ID_END for part in parts))
        if not found.size or max(found.container, found.host) + found.size > _ID_END:
            raise UsageError(f"id map {text!r} leaves the range of ids, 0 to {_ID_END - 1}")
        return found


class Owners:
    """Turns the owner of an entry into the owner to set on disk.

    Args:
        apply: Whether to call chown at all (`unpacker.tree.probe.may_chown` answers for ``auto``).
        required: Whether an owner that cannot be set is an error instead of a counted loss (``keep``).
        counted: Whether an owner that is not set is a loss; not where the caller asked for it (``self``).
        uid_map, gid_map: Maps of ids; empty means that ids stay as they are.
    """

    def __init__(
        self,
        *,
        apply: bool,
        required: bool = False,
        counted: bool = True,
        uid_map: Sequence[IdMap] = (),
        gid_map: Sequence[IdMap] = (),
    ) -> None:
        self.apply = apply
        self.required = required
        self.counted = counted
        self._uids = tuple(uid_map)
        self._gids = tuple(gid_map)
        self.mapped = bool(self._uids or self._gids)

    @property
    def name(self) -> str:
        """What is done, in a few words."""
        if not self.apply:
            return "no owners"
        maps = [f"{kind} {known.container}:{known.host}:{known.size}" for kind, known in self._known()]
        return f"owners mapped ({', '.join(maps)})" if maps else "owners kept"

    def _known(self) -> list[tuple[str, IdMap]]:
        return [("uid", known) for known in self._uids] + [("gid", known) for known in self._gids]

    def on_host(self) -> Owners:
        """Give the same for ids that are the host's already."""
        return Owners(apply=self.apply, required=self.required, counted=self.counted)

    def map(self, uid: int, gid: int) -> tuple[int, int]:
        """Give the ids on the host.

        Raises:
            UnsafeEntryError: There is a map, and it leaves this id out.
        """
        return _mapped(uid, self._uids, "uid"), _mapped(gid, self._gids, "gid")


def _mapped(number: int, ranges: tuple[IdMap, ...], kind: str) -> int:
    if not ranges:
        return number
    for known in ranges:
        if known.container <= number < known.container + known.size:
            return known.host + number - known.container
    raise UnsafeEntryError(f"{kind} {number} is in no range of --{kind}-map")
