"""Mount points, as the kernel writes them."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from unpacker.tree import mounts

if TYPE_CHECKING:
    from pathlib import Path


def test_the_root_and_proc_are_mount_points() -> None:
    """They are everywhere where there is a mountinfo to read."""
    assert mounts.is_mount("/")
    assert mounts.is_mount("/proc")
    assert not mounts.is_mount("/proc/self")
    assert mounts.mounted_in("/") is not None
    assert mounts.mounted_in("/proc/") != b"/proc"


def test_a_directory_of_ones_own_is_none_and_has_none(tmp_path: Path) -> None:
    """Nor is what is not there."""
    for path in (tmp_path, tmp_path / "not-there"):
        assert not mounts.is_mount(os.fspath(path))
        assert mounts.mounted_in(os.fspath(path)) is None


def test_octal_escapes_are_read_back() -> None:
    """Blank, tab, newline, backslash; what only looks like an escape was written with its backslash escaped."""
    assert mounts._unescaped(rb"/a\040b\011c\012d\134e\134040") == b"/a b\tc\nd\\e\\040"


def test_what_cannot_be_read_for_now_is_not_taken_for_nothing() -> None:
    """Whoever replaces a tree removes the old one, with all that is mounted in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            mounts.mounted_in("/")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
