"""How many descriptors a process may have, which some service managers and shells set low (``ulimit -n``)."""

from __future__ import annotations

import resource

_PART = 8
_LEAST = 2


def part(most: int) -> int:
    """Give how many descriptors one of a few parts of the work may keep open: ``most``, or less where there are few."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, max(_LEAST, soft // _PART))
