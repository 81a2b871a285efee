"""The command line: argv to values, values to the engine, what came of it to an exit status.

The only package that prints, reads the environment or knows about exit statuses.  In the order a run meets them:

    arguments   what can be said on the command line, and its help
    run         the frame of every command: whatever happens in it becomes one line and an exit status
    signals     SIGTERM and SIGHUP as an exception, so that clean-up happens
    unpack, listing, config, verify      one verb each
    options     texts of options to values of the library
    feedback    what a run says on stderr: progress (plain, terminal), warnings, losses, the summary
    failures    any exception to a code, a sentence, a hint and a status: the one table of exit statuses
    streams     stdout for data, stderr for people; nothing reaches a terminal unescaped

`arguments` and `run` import argparse and little else, not even `typing` (hence ``TYPE_CHECKING = False``), so that
``unpack --help`` is there at once: the verbs, the engine and `rich` come in when a run needs them.
"""

from __future__ import annotations

from unpacker.cli import arguments
from unpacker.cli.run import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "unpack_main"]


def unpack_main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``unpack``: one image to one directory."""
    return run(arguments.unpack_parser(), argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``unpacker``: the toolbox, one verb after it."""
    return run(arguments.toolbox_parser(), argv)
