"""What README.md shows is what happens.  Its two lines as a whole, network and all, are run by ``.ci/run``."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.support.markdown import PROJECT, blocks

if TYPE_CHECKING:
    from pathlib import Path

README = PROJECT / "README.md"
SHELL = [block.text.strip() for block in blocks(README, "sh")]
CONSOLE = blocks(README, "console")
PYTHON = blocks(README, "python")
FIXTURE_RUNS_HERE = platform.machine() == "x86_64"


@cache
def can_chroot() -> bool:
    done = subprocess.run(["chroot", "/", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give the checkout of somebody who has done the first step: ``.venv`` has the two commands."""
    for name in ("hello", "multi"):
        shutil.copytree(PROJECT / "fixtures" / name, tmp_path / "fixtures" / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, function in {"unpack": "unpack_main", "unpacker": "main"}.items():
        script = f"#!{sys.executable}\nimport sys\nfrom unpacker.cli import {function}\nsys.exit({function}())\n"
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    return tmp_path


def run(command: list[str] | str, checkout: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as the README's reader would, in the checkout, with the environment of no CI."""
    done = subprocess.run(
        command if isinstance(command, list) else ["sh", "-ec", command],
        cwd=checkout,
        env={
            "PATH": f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def timeless(text: str) -> list[str]:
    return re.sub(r"\b[\d.]+ m?s$", "TIME", text, flags=re.MULTILINE).splitlines()


def test_the_first_line_unpacks_and_runs(checkout: Path) -> None:
    """After setting up: ``unpack``, as anybody, and a program of the image, as root."""
    make, install, unpack, chroot = SHELL[0].split(" && ")
    assert (make, install) == ("python3 -m venv .venv", ".venv/bin/pip install -q .")

    run(unpack, checkout)
    assert (checkout / "rootfs" / "bin" / "hello").is_file()

    if can_chroot() and FIXTURE_RUNS_HERE:
        assert run(chroot, checkout).stdout.startswith("hello")


def test_the_second_line_runs_the_tests() -> None:
    """It is what runs this test where ``.ci/run`` has it; here, that it ends in a plain run of all of them."""
    assert SHELL[1].endswith(" --group test && .venv/bin/pytest")


def test_the_lines_of_shell_are_where_ci_looks_for_them() -> None:
    assert len(SHELL) == 2


def test_the_terminal_shows_what_it_would(checkout: Path) -> None:
    """Each command works, and each line shown below one is printed; more may be, such as what could not be applied."""
    parts = [part for block in CONSOLE for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]]
    for part in parts:
        command, *shown = part.splitlines()

        done = run(command, checkout)

        printed = timeless(done.stdout) + timeless(done.stderr)
        assert [line for line in timeless("\n".join(shown)) if line not in printed] == [], command


def test_the_library_example_runs(checkout: Path) -> None:
    """Both halves: the report of an unpack, and one that may fail, without privilege, with a readable error."""
    (block,) = PYTHON
    shutil.copytree(checkout / "fixtures" / "hello", checkout / "layout")

    done = run([sys.executable, "-c", block.text], checkout)

    report, *error = done.stdout.splitlines()
    assert report.startswith("linux/amd64 26 {")
    assert (checkout / "rootfs" / "bin" / "hello").is_file()
    if error:
        assert error[0].startswith("loss not everything could be applied")
    assert (checkout / "rootfs2").exists() == (not error)


def test_the_parts_it_names_are_there() -> None:
    named = re.findall(r"^    (unpacker/\S+)", README.read_text(), re.MULTILINE)

    assert len(named) > 5
    assert [name for name in named if not (PROJECT / name).exists()] == []
