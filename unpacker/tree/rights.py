"""What the owner may do with what was made just now, whatever the process's file mode creation mask takes from him.

Under a mask like 0277 or 0777 an unprivileged caller could not go on in a directory that he has made, nor read a file
again.  The command line sets a mask of its own; but it is the whole process's, with all its threads, so the library
gives back what it has taken.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_OF_FILES = stat.S_IRUSR | stat.S_IWUSR


def make_directory(name: str | bytes, mode: int = stat.S_IRWXU, *, holder: int | None = None) -> bool:
    """Make a directory that its owner can work in; True if rights had to be given back to him for that.

    Args:
        name: Its name, or its path.
        mode: As mkdir(2) has it: the mask takes from it what it takes from others.
        holder: Descriptor of the directory that it shall be in.

    Raises:
        FileExistsError: Something has the name.
        OSError: It cannot be made, or not be looked at; then it is not there.
    """
    os.mkdir(name, mode, dir_fd=holder)
    try:
        return regain(name, holder)
    except FileNotFoundError:  # another process that sweeps may have met it already
        return False
    except BaseException:
        with suppress(OSError):
            os.rmdir(name, dir_fd=holder)
        raise


def regain(name: str | bytes, holder: int | None = None) -> bool:
    """Let its owner work in a directory that he has made; True if he could not."""
    if os.stat(name, dir_fd=holder, follow_symlinks=False).st_mode & stat.S_IRWXU == stat.S_IRWXU:
        return False
    # O_PATH opens what may not be opened, and /proc leads to that very directory.
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=holder)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        with suppress(OSError):  # without modes, or without /proc: what cannot be done in it says so itself
            os.chmod(f"/proc/self/fd/{descriptor}", mode | stat.S_IRWXU)
    finally:
        os.close(descriptor)
    return True


def regain_file(descriptor: int) -> None:
    """Let its owner read and write a file that he has just made."""
    mode = os.fstat(descriptor).st_mode
    if mode & _OF_FILES != _OF_FILES:
        with suppress(OSError):  # as above
            os.fchmod(descriptor, stat.S_IMODE(mode) | _OF_FILES)
