"""The frame of every command: whatever happens in it ends as one line on stderr and an exit status."""

from __future__ import annotations

import os
import sys
from itertools import pairwise

from unpacker.cli import signals, streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from unpacker.cli.arguments import Parser
    from unpacker.cli.failures import Failure

READER_GONE = 141
"""What a shell reports for a program that SIGPIPE ended, which is what the others in a pipeline do."""


def run(parser: Parser, argv: Sequence[str] | None = None) -> int:
    """Read the arguments, do what they say, give the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with signals.stoppable():
            arguments = parser.parse_args(words)
            return _dispatch(arguments)
    except SystemExit as done:  # --help, --version
        return done.code if isinstance(done.code, int) else 0
    except streams.ReaderGoneError:
        return READER_GONE
    except BaseException as error:  # noqa: BLE001 -- here is where every error ends
        with signals.deaf():
            return _fail(error, program=parser.prog, as_json=_asks_for_json(words))


def _dispatch(arguments: argparse.Namespace) -> int:
    # Each verb brings in the engine, or what it needs of it: 100 ms that --help does not wait for.
    match arguments.verb:
        case "unpack":
            from unpacker.cli import unpack  # noqa: PLC0415

            return unpack.run(arguments)
        case "list":
            from unpacker.cli import listing  # noqa: PLC0415

            return listing.run(arguments)
        case "config":
            from unpacker.cli import config  # noqa: PLC0415

            return config.run(arguments)
        case _:
            from unpacker.cli import verify  # noqa: PLC0415

            return verify.run(arguments)


def _asks_for_json(words: Sequence[str]) -> bool:
    """Tell from the bare words, as the arguments themselves may be what could not be read."""
    options = list(words[: words.index("--")] if "--" in words else words)
    return "--format=json" in options or ("--format", "json") in pairwise(options)


def _fail(error: BaseException, *, program: str, as_json: bool) -> int:
    from unpacker.cli.failures import failure_of  # noqa: PLC0415 -- only runs that fail need it

    failure = failure_of(error)
    if os.environ.get("UNPACK_DEBUG") == "1":
        _say_traceback(error)
    streams.say(f"{program}: error: {failure.message}")
    if failure.hint is not None:
        streams.say(f"{program}: hint: {failure.hint}")
    if as_json:
        _emit_failure(failure)
    return failure.status


def _emit_failure(failure: Failure) -> None:
    from unpacker.cli.jsontext import to_json  # noqa: PLC0415 -- as above

    try:
        streams.emit(to_json(failure.as_dict()))
    except (OSError, streams.ReaderGoneError):
        return  # there is an exit status already, and a line on stderr


def _say_traceback(error: BaseException) -> None:
    import traceback  # noqa: PLC0415 -- for whoever looks for a fault

    for chunk in traceback.format_exception(error):
        for line in chunk.splitlines():
            streams.say(line)
