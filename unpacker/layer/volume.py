"""What a layer comes to on the disk, held to the limit for all layers of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.errors import LimitError

if TYPE_CHECKING:
    from unpacker.layer.rules import Rules


class Volume:
    """Counts one layer's bytes: those of its archive, and of whole files in place of hard links, where there are none.

    Each such link, of a few bytes in the archive, may be a copy of the largest file.

    Args:
        rules: The limit, and what all layers come to.

    Attributes:
        copied: Bytes of copies.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._archive = 0
        self.copied = 0

    def read(self, size: int) -> int:
        """Take how many bytes the archive has so far; give what all layers come to."""
        self._archive = size
        return self._rules.total(size + self.copied)

    def copy(self, size: int) -> None:
        """Count what is about to be copied.

        Raises:
            LimitError: It is too much.
        """
        self.copied += size
        total, most = self._rules.total(self._archive + self.copied), self._rules.limits.image_bytes
        if total > most:
            raise LimitError("image_bytes", most, total, "bytes of all layers and of copies in place of hard links")
