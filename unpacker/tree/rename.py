"""``renameat2(2)`` with RENAME_EXCHANGE: two names trade places in one step, which Python's ``os`` does not offer."""

from __future__ import annotations

import errno
import os

_RENAME_EXCHANGE = 2
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


def exchange(first_directory: int, first: bytes, second_directory: int, second: bytes) -> bool:
    """Let two existing names trade places atomically; False where kernel, libc or filesystem cannot.

    Raises:
        OSError: It failed for another reason.
    """
    import ctypes  # noqa: PLC0415  only --force needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(first_directory, first, second_directory, second, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), os.fsdecode(second))
