"""What a failed call was about: most calls get descriptors, which have no names that an error could tell."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def at(doing: str) -> Iterator[None]:
    """Let an error that names neither a file nor what was being done say at least this."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str | bytes) and not getattr(error, "__notes__", ()):
            error.add_note(doing)
        raise
