"""Paths of the host, compared before anything is done with them."""

from __future__ import annotations

import os


def overlap(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to the same place, or one of them into what the other leads to."""
    first, second = (os.path.join(os.path.realpath(path), "") for path in (one, other))
    return first.startswith(second) or second.startswith(first)
