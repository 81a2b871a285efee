"""Makes what was written last through a power cut: ``syncfs(2)``, which Python's ``os`` does not offer."""

from __future__ import annotations

import os


def sync_filesystem(descriptor: int) -> None:
    """Write out all of the filesystem that an open file is on; one call for any number of files.

    An fsync of each file would take longer than unpacking them.  Without any, a power cut leaves complete names with
    empty files behind them (containerd#5854).

    Raises:
        OSError: Something could not be written.
    """
    import ctypes  # noqa: PLC0415 -- only stores need it

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
        return
    if libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
