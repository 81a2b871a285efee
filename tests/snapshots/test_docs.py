"""The page about mounts does what it says: every command and every program on it, in its order, in one directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.snapshots.namespaces import can_enter_user_namespace, in_own_mounts
from tests.support.probes import (
    PROJECT,
    needs_chown,
    needs_mknod,
    needs_overlay,
    needs_tool,
    needs_user_xattr,
)
from unpacker.snapshots import mounts, options
from unpacker.snapshots.probe import idmap_works

PAGE = (Path(__file__).parents[2] / "docs" / "mounts.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@needs_overlay
@needs_chown
@needs_mknod
@needs_user_xattr
@needs_tool("setfattr")
@in_own_mounts
def test_everything_on_the_page_runs(tmp_path: Path) -> None:
    if not idmap_works(tmp_path) or not can_enter_user_namespace():
        pytest.skip("missing: mapped owners, or user namespaces")
    os.chdir(tmp_path)
    said = ""
    for language, text in BLOCKS:
        if language in ("text", "json"):
            assert said == text
            said = ""
        else:
            assert not said, "output that the page does not show"
            if language == "console":
                session(text)
            else:
                said = run([sys.executable, "-c", text])
    assert not said
    assert len(BLOCKS) > 10


def session(text: str) -> None:
    """Run a shell session, and compare what it shows."""
    for command, shown in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", text, re.MULTILINE):
        assert run(["sh", "-euc", command]) == shown


def run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_page_names_what_is_always_set_and_the_limit() -> None:
    assert ",".join(mounts.STRICT) in PAGE
    assert f"| {options.MOST_LOWERS} layers |" in PAGE


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(unpacker\.[\w.]+)", PAGE))))
def test_what_the_page_names_is_there(name: str) -> None:
    assert resolve_name(name) is not None
