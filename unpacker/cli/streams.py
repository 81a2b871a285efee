"""Where a command writes to: stdout is for data, stderr for people.

Text for people may hold names that an image chose.  `say` is the one way to the terminal, and lets no control character
through, whoever composed the line.
"""

from __future__ import annotations

import errno
import os
import sys
from io import UnsupportedOperation

from unpacker.cli.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


class ReaderGoneError(Exception):
    """Whoever read our stdout has stopped, as ``head`` does: no fault of ours, and nothing more to say."""


def say(line: str) -> None:
    """Write one line to stderr; a stderr that is closed or full stops nobody's work."""
    stream = sys.stderr
    # Python has no stream at all where the caller closed the descriptor (2>&-).
    if stream is None:
        return
    try:
        stream.write(one_line(line) + "\n")
        stream.flush()
    except OSError:
        _sink(stream)
    except ValueError:  # closed by the caller of `main`
        return


def emit(text: str) -> None:
    """Write text to stdout; what its encoding cannot hold is escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    emit_bytes(text.encode(encoding, "backslashreplace"))


def emit_bytes(data: bytes) -> None:
    """Write bytes to stdout as they are.

    Raises:
        ReaderGoneError: The reader has closed its end.
        OSError: They could not be written; the error says that it is about stdout.
    """
    stream = sys.stdout
    if stream is None:
        raise _about_stdout(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.flush()
    except BrokenPipeError as error:
        _sink(stream)
        raise ReaderGoneError from error
    except OSError as error:
        _sink(stream)
        raise _about_stdout(error) from error


def _about_stdout(error: OSError) -> OSError:
    about = OSError(error.errno, error.strerror, "standard output")
    about.add_note("write")
    return about


def _sink(stream: TextIO) -> None:
    """Let what is left in a broken stream's buffer go nowhere: Python flushes at exit, and would complain then."""
    try:
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except (OSError, ValueError, UnsupportedOperation):
        return
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
