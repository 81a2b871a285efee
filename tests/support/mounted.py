"""Runs a piece of a test on a filesystem of its own: a small one, or one whose files can share blocks.

It is mounted in a mount namespace of its own, so nothing stays mounted, whatever becomes of the test::

    @needs_tmpfs
    def test_a_full_disk(tmp_path):
        run_on_tmpfs(tmp_path, "1m", '''
            from pathlib import Path
            (HERE / "file").write_bytes(bytes(2 << 20))
        ''')

What takes more than a few lines runs in a thread with a namespace of its own, and mounts there::

    @needs_btrfs
    @in_own_mounts
    def test_shared_blocks(tmp_path):
        place = mounted_btrfs(tmp_path)
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

PROJECT = Path(__file__).parents[2]
_HEAD = "import sys\nfrom pathlib import Path\nHERE = Path(sys.argv[1])\n"


def run_on_tmpfs(directory: Path, size: str, program: str) -> str:
    """Run a program of Python whose ``HERE`` is an empty filesystem in memory; give what it printed.

    Raises:
        AssertionError: It failed; what it said is in there.
    """
    return _run(directory, 'mount -t tmpfs -o "size=$1" tmpfs there', size, program)


def run_on_btrfs(directory: Path, size: str, program: str) -> str:
    """Run a program on an empty btrfs; raises as `run_on_tmpfs`."""
    make = 'truncate -s "$1" image && mkfs.btrfs -q --mixed image >&2 && mount -o loop image there'
    return _run(directory, make, size, program)


def mounted_btrfs(directory: Path, size: str = "256M") -> Path:
    """Mount an empty btrfs below a directory, for this thread; it goes when the thread's mount namespace does."""
    image, there = directory / "btrfs", directory / "there"
    there.mkdir()
    with open(image, "wb"):
        os.truncate(image, int(size.removesuffix("M")) << 20)
    for command in (("mkfs.btrfs", "-q", "--mixed", image), ("mount", "-o", "loop", image, there)):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return there


def _run(directory: Path, mount: str, size: str, program: str) -> str:
    there = directory / "there"
    there.mkdir()
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", f'{mount} && shift && exec "$@"', "sh", size),
            *("env", f"PYTHONPATH={PROJECT}", sys.executable, "-W", "error", "-c"),
            *(_HEAD + textwrap.dedent(program), str(there)),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
