"""The frame of every command: whatever happens in it ends as one line on stderr and an exit status."""

from __future__ import annotations

import os
import sys
from itertools import pairwise

from unpacker.cli import streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from unpacker.cli.failures import Failure
    from unpacker.cli.parser import Parser

_MODULES = {
    "unpack": "unpack",
    "list": "listing",
    "config": "config",
    "verify": "verify",
    "mount": "store.mounting",
    "umount": "store.mounting",
    "import": "store.importing",
}
"""Where the verbs are; those over a store have modules of their own names."""
READER_GONE = 141
"""What a shell reports for a program that SIGPIPE ended, which is what the others in a pipeline do."""


def run(parser: Parser, argv: Sequence[str] | None = None) -> int:
    """Read the arguments, do what they say, give the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(parser.parse_args(words))
    except SystemExit as done:  # --help, --version
        return done.code if isinstance(done.code, int) else 0
    except streams.ReaderGoneError:
        return READER_GONE
    except BaseException as error:  # noqa: BLE001 -- here is where every error ends
        from unpacker.cli import signals  # noqa: PLC0415 -- as in `_dispatch`

        with signals.deaf():
            return _fail(error, program=parser.prog, as_json=_asks_for_json(words))


def _dispatch(arguments: argparse.Namespace) -> int:
    # The verb brings in the engine, and signals contextlib: --help waits for neither.
    from importlib import import_module  # noqa: PLC0415

    from unpacker.cli import signals  # noqa: PLC0415

    # The mask must not take the owner's own rights: the work goes on in directories that were made just now.  It is the
    # whole process's, so the command line may change it and the library may not.
    before = os.umask(0o077)
    os.umask(before & 0o077)
    try:
        with signals.stoppable():
            verb = import_module(f"unpacker.cli.{_MODULES.get(arguments.verb, f'store.{arguments.verb}')}")
            status: int = verb.run(arguments)
            return status
    finally:
        os.umask(before)


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
