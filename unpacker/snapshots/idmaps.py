"""Mounts that show other owners than there are on disk: mount_setattr(2) with MOUNT_ATTR_IDMAP, since Linux 5.12.

The kernel takes the two maps from a user namespace that has them.  One is made for the moment, by a child: a process
with threads may not enter a user namespace, nor should it fork, so the child is a Python of its own that does this one
thing.  The descriptor keeps the namespace when the child is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unpacker.tree.owners import IdMap

_CHILD = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.unshare(0x10000000)  # CLONE_NEWUSER
os.write(1, b"%d" % (ctypes.get_errno() if failed else 0))
os.close(1)
os.read(0, 1)
"""


@contextmanager
def user_namespace(uid_map: Sequence[IdMap], gid_map: Sequence[IdMap]) -> Iterator[int]:
    """Give a descriptor of a user namespace with these maps.

    Raises:
        OSError: There can be none, or the caller may not map these ids (CAP_SETUID, CAP_SETGID).
    """
    # Isolated and without site: nothing of the caller's environment runs in it, and it starts in 20 ms.
    command = [sys.executable, "-I", "-S", "-c", _CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as child:  # noqa: S603
        try:
            descriptor = _namespace_of(child, uid_map, gid_map)
        finally:
            child.kill()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _namespace_of(child: subprocess.Popen[bytes], uid_map: Sequence[IdMap], gid_map: Sequence[IdMap]) -> int:
    said = b"" if child.stdout is None else child.stdout.read()
    if said != b"0":
        number = int(said or b"0")
        raise OSError(number, os.strerror(number) if number else "no child process to make a user namespace")
    for name, ranges in (("uid_map", uid_map), ("gid_map", gid_map)):
        text = "".join(f"{one.container} {one.host} {one.size}\n" for one in ranges)
        try:
            with open(f"/proc/{child.pid}/{name}", "wb", buffering=0) as written:  # the kernel takes one write only
                written.write(text.encode())
        except OSError as error:
            raise OSError(error.errno, f"{name} {_shown(ranges)}: {error.strerror}") from None
    return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def _shown(ranges: Sequence[IdMap]) -> str:
    return ",".join(f"{one.container}:{one.host}:{one.size}" for one in ranges)
