"""What the programs in this directory share at their command lines."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import NoReturn


def directory(text: str) -> Path:
    """Take a directory that is there."""
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"no directory: {text}")
    return path


def positive(text: str) -> int:
    """Take a number of times."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"not a positive whole number: {text}")
    return int(text)


def end_as_if_interrupted() -> None:
    """Let the signals that end a program be exceptions, so that everything that was made is removed."""

    def stop(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
