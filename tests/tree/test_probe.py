"""What a caller and a filesystem can do is found out by trying, and the trial leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.support.probes import can_chown, needs_nobody, nobodys_directory, nobodys_python, run_as_nobody
from tests.tree.support import descriptors, needs_hidden_proc, opened, run_without_proc
from tests.tree.support import umask as with_umask
from unpacker.tree.probe import may_chown, umask

if TYPE_CHECKING:
    from pathlib import Path

AS_NOBODY = "import os; from unpacker.tree.probe import may_chown; print(may_chown(os.open('.', os.O_RDONLY)))"


def test_who_may_chown_may(tmp_path: Path) -> None:
    before = descriptors()
    with opened(tmp_path) as directory:
        assert may_chown(directory) is can_chown()
    assert os.listdir(tmp_path) == []
    assert descriptors() == before


@needs_nobody
def test_nobody_may_not_chown() -> None:
    with nobodys_directory() as place:
        assert run_as_nobody([nobodys_python() or "", "-c", AS_NOBODY], cwd=place).stdout == "False\n"
        assert os.listdir(place) == []


def test_root_without_the_capability_may_not_chown(tmp_path: Path) -> None:
    """Euid 0 proves nothing: in a user namespace with one id, every other id has no place."""
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        sys.executable,
        "-c",
        "import os; print(os.geteuid());" + AS_NOBODY,
    ]
    tmp_path.chmod(0o777)
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("missing: unshare")
    if done.returncode:
        pytest.skip("missing: user namespaces")
    assert done.stdout.splitlines() == ["0", "False"]
    assert os.listdir(tmp_path) == []


def test_a_directory_that_may_not_be_written_to_is_an_error(tmp_path: Path) -> None:
    """It is no answer to the question."""
    with opened(tmp_path) as directory:
        tmp_path.rmdir()
        with pytest.raises(FileNotFoundError):
            may_chown(directory)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077, 0o777])
def test_the_umask_is_read_and_stays(mask: int) -> None:
    with with_umask(mask):
        assert umask() == mask
        assert umask() == mask
        assert os.umask(mask) == mask


WITHOUT_PROC = textwrap.dedent("""
    import os
    from unpacker.tree.probe import umask
    assert not os.path.exists("/proc/self")
    os.umask(0o022)
    print(oct(umask()), oct(os.umask(0)))
""")


@needs_hidden_proc
def test_without_proc_every_mode_is_set_explicitly(tmp_path: Path) -> None:
    """As if the mask took all bits: asking by os.umask would set it, for all threads of the program."""
    done = run_without_proc(WITHOUT_PROC, tmp_path)
    assert done.stdout == "0o777 0o22\n"


@pytest.mark.parametrize("capability", ["chown", "fowner"])
def test_who_could_not_go_on_with_what_was_given_away_may_not(capability: str, tmp_path: Path) -> None:
    """A container with all capabilities dropped and CHOWN added again: chown works, then chmod and utime do not."""
    if not can_chown():
        pytest.skip("missing: capabilities to drop")
    drop = [f"--inh-caps=-{capability}", f"--bounding-set=-{capability}"]
    try:
        command = ["setpriv", *drop, sys.executable, "-c", AS_NOBODY]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("missing: setpriv")
    assert done.stdout == "False\n"
    assert os.listdir(tmp_path) == []
