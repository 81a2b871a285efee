"""Runs a program of an image in the tree that was unpacked."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_CHROOT = shutil.which("chroot")


@cache
def can_chroot() -> bool:
    """Whether the caller may make another directory its root."""
    return (
        _CHROOT is not None and subprocess.run([_CHROOT, "/", "true"], capture_output=True, check=False).returncode == 0
    )


needs_chroot = pytest.mark.skipif(not can_chroot(), reason="missing: the right to chroot (CAP_SYS_CHROOT)")


def run_inside(root: Path, command: str) -> str:
    """Run a shell command in a tree; give what it prints.  The test is skipped if the machine cannot run its programs."""
    assert _CHROOT is not None
    done = subprocess.run(
        [_CHROOT, root, "/bin/sh", "-c", command],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "Exec format error" in done.stderr:
        pytest.skip("missing: a kernel that runs the programs of this image")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
