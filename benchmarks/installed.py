"""An environment with the project as its users have it: built as a wheel, installed, compiled.

A program that measures runs itself once more with the interpreter of that environment, next to which the command is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def run_in(environment: Path, script: str, *, again: bool) -> None:
    """Go on with this program in an environment; returns only if it is in there already.

    Args:
        environment: Where it is, or is made.
        script: The program.
        again: Whether to install this checkout once more, for the one that is there may be older.
    """
    if Path(sys.prefix).resolve() == environment.resolve():
        return
    python = environment / "bin" / "python"
    if again or not (environment / "bin" / "unpack").exists():
        if not python.exists():
            venv.create(environment, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # The first brings what it depends on, the second replaces an older build of the same version.
        subprocess.run([*pip, str(PROJECT)], check=True)
        subprocess.run([*pip, "--force-reinstall", "--no-deps", str(PROJECT)], check=True)
    sys.stdout.flush()
    os.execv(python, [str(python), script, *sys.argv[1:]])  # noqa: S606 - no shell is wanted
