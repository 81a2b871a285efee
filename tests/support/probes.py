"""Probes of what this caller, this filesystem and this machine can do, as pytest marks: never by platform or by user id.

``@needs_chown`` and its like skip a test and say what was missing; the functions beneath them answer in a test.  All of
them try the thing itself in a fresh directory of the system's temporary one (where pytest's ``tmp_path`` is, too), once a
process, and leave nothing.  `run_as_nobody` runs a command without privilege, from root.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOBODY = 65534
"""The id that has no rights anywhere: by custom nobody's, and the kernel's own overflow id."""
PROJECT = Path(__file__).parents[2]


@contextmanager
def _directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="probe-") as path:
        yield path


def _tries(attempt: Callable[[str], object]) -> bool:
    """Say whether something works on a file in a fresh directory."""
    with _directory() as path:
        name = os.path.join(path, "probe")
        Path(name).touch()
        try:
            attempt(name)
        except OSError:
            return False
        return True


@cache
def can_chown() -> bool:
    """Whether the caller may give files away."""
    return _tries(lambda name: os.chown(name, 12345, 12345))


@cache
def can_mknod() -> bool:
    """Whether the caller may make device nodes."""
    return _tries(lambda name: os.mknod(name + ".node", stat.S_IFCHR | 0o600, os.makedev(1, 3)))


@cache
def can_set_user_xattr() -> bool:
    """Whether the filesystem of temporary files holds ``user.*`` attributes."""
    return _tries(lambda name: os.setxattr(name, "user.probe", b"1"))


@cache
def can_set_trusted_xattr() -> bool:
    """Whether the caller may set ``trusted.*`` attributes on the filesystem of temporary files."""
    return _tries(lambda name: os.setxattr(name, "trusted.probe", b"1"))


@cache
def can_mount_overlay() -> bool:
    """Whether the caller may mount overlayfs; tried in a mount namespace of its own, so nothing stays mounted."""
    if not has_tool("unshare"):
        return False
    with _directory() as path:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(os.path.join(path, name))
        options = "lowerdir=lower,upperdir=upper,workdir=work"
        command = f"mount -t overlay overlay -o {options} merged"
        return _succeeds(["unshare", "--mount", "sh", "-c", command], cwd=path)


@cache
def can_mount_tmpfs() -> bool:
    """Whether the caller may mount small filesystems of its own, in a mount namespace of its own."""
    if not has_tool("unshare"):
        return False
    with _directory() as path:
        return _succeeds(["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], cwd=path)


@cache
def can_mount_btrfs() -> bool:
    """Whether the caller may mount btrfs, whose files can share blocks, from a file."""
    if not (has_tool("unshare") and has_tool("mkfs.btrfs")):
        return False
    with _directory() as path:
        os.mkdir(os.path.join(path, "there"))
        command = "truncate -s 128M image && mkfs.btrfs -q image && mount -o loop image there"
        return _succeeds(["unshare", "--mount", "sh", "-c", command], cwd=path)


@cache
def nobodys_python() -> str | None:
    """Give a Python that nobody may run, and that can import the project; None if the caller may not change its ids.

    It is mostly our own; but that may live in root's home, which nobody can read.  Then one of the system will do, if it
    has the same version.
    """
    if os.geteuid() != 0:
        return None
    program = "import sys, unpacker, zstandard; print(sys.version_info[:2])"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with suppress(OSError):
            if run_as_nobody([python, "-c", program], check=False).stdout == f"{sys.version_info[:2]}\n":
                return python
    return None


@cache
def has_tool(name: str) -> bool:
    """Whether a program is installed."""
    return shutil.which(name) is not None


def _succeeds(command: Sequence[str], cwd: str) -> bool:
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False).returncode == 0


# -- without privilege -------------------------------------------------------------------------------------------------


def run_as_nobody(
    command: Sequence[str | os.PathLike[str]], *, cwd: str | os.PathLike[str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command as an unprivileged user with no groups, from root; `nobodys_python` has the package at hand.

    ``run_as_nobody([nobodys_python(), "-m", "unpacker", "unpack", layout, dest])``.  The user sees neither pytest's ``tmp_path`` (0700, root's) nor may it write in the project: give it `nobodys_directory`.

    Raises:
        subprocess.CalledProcessError: It failed, and ``check`` was asked for; its output stands in a note.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), sysconfig.get_path("platlib")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
    }
    done = subprocess.run(
        command,
        cwd=cwd or "/",
        env=environment,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        error = subprocess.CalledProcessError(done.returncode, list(command), done.stdout, done.stderr)
        error.add_note(done.stdout + done.stderr)
        raise error
    return done


@contextmanager
def nobodys_directory() -> Iterator[Path]:
    """Give a directory that `run_as_nobody` may write to; root removes it in the end, whatever is in it."""
    path = Path(tempfile.mkdtemp(prefix="nobody-"))
    try:
        os.chown(path, NOBODY, NOBODY)
        yield path
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(path)


# -- marks ---------------------------------------------------------------------------------------------------------------


def _needs(possible: bool, missing: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not possible, reason=f"missing: {missing}")


needs_chown = _needs(can_chown(), "the right to give files away (CAP_CHOWN)")
needs_mknod = _needs(can_mknod(), "the right to make device nodes (CAP_MKNOD)")
needs_user_xattr = _needs(can_set_user_xattr(), f"user xattrs on {tempfile.gettempdir()}")
needs_trusted_xattr = _needs(can_set_trusted_xattr(), f"the right to set trusted xattrs on {tempfile.gettempdir()}")
needs_overlay = _needs(can_mount_overlay(), "the right to mount overlayfs")
needs_tmpfs = _needs(can_mount_tmpfs(), "the right to mount a tmpfs of its own")
needs_btrfs = _needs(can_mount_btrfs(), "mkfs.btrfs, and the right to mount what it makes")
needs_nobody = _needs(nobodys_python() is not None, "a user to drop to (only root can), or a Python which it may run")


def needs_tool(name: str) -> pytest.MarkDecorator:
    """Give the mark of a test that runs a program: ``@needs_tool("umoci")``."""
    return _needs(has_tool(name), f"the program {name}")
