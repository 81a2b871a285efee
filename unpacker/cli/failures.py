"""Any exception as a code, a sentence, a hint and an exit status."""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unpacker import errors
from unpacker.cli.signals import Stopped

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (errors.UsageError, 2),
    (errors.NotFoundError, 3),
    (errors.IntegrityError, 4),
    (errors.ContentError, 5),
    (errors.FilesystemError, 6),
    (OSError, 6),
)
"""The exit status of each family of errors; anything else is a failure of the program, 1."""

INTERNAL = 1
BY_SIGNAL = 128
"""What shells add to the number of the signal that ended a program."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What the command line says about an exception."""

    code: str
    """A stable word for programs."""
    message: str
    """What happened, in one sentence."""
    hint: str | None = None
    """What to try next."""
    status: int
    """The exit status."""
    details: Mapping[str, object] = field(default_factory=dict)
    """The facts of the error, by name."""

    def as_dict(self) -> dict[str, object]:
        """Give the failure as ``--format json`` prints it."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "exit_status": self.status,
            "details": dict(self.details),
        }


def status_of(error: BaseException) -> int:
    """Give the exit status of an error: that of its family."""
    return next((status for family, status in STATUSES if isinstance(error, family)), INTERNAL)


def failure_of(error: BaseException) -> Failure:
    """Put an exception into words."""
    if isinstance(error, KeyboardInterrupt):
        return _stopped(signal.SIGINT)
    if isinstance(error, Stopped):
        return _stopped(signal.Signals(error.signum))
    if isinstance(error, errors.UnpackError):
        facts = {name: value for name, value in vars(error).items() if not name.startswith("_") and name != "advice"}
        return Failure(code=error.code, message=str(error), hint=error.hint, status=status_of(error), details=facts)
    if isinstance(error, OSError):
        return _failed_call(error)
    if isinstance(error, MemoryError):
        return Failure(code="internal", message="out of memory", status=INTERNAL)
    return Failure(
        code="internal",
        message=f"internal error: {type(error).__name__}: {error}; please report",
        hint="UNPACK_DEBUG=1 in the environment shows where it happened",
        status=INTERNAL,
    )


def _stopped(number: signal.Signals) -> Failure:
    return Failure(code="interrupted", message=f"stopped by {number.name}", status=BY_SIGNAL + number)


def _failed_call(error: OSError) -> Failure:
    """Say ``path: what was being done: strerror``; the notes on the error tell what was being done."""
    paths = [_shown(path) for path in (error.filename, error.filename2) if path is not None]
    doing = getattr(error, "__notes__", [])
    why = error.strerror or str(error) or type(error).__name__
    return Failure(
        code="filesystem",
        message=": ".join([*([" -> ".join(paths)] if paths else []), *doing, why]),
        hint="the filesystem is full, or your share of it: make room and try again" if error.errno in _FULL else None,
        status=status_of(error),
        details={
            "errno": errno.errorcode.get(error.errno or 0),
            "path": error.filename if isinstance(error.filename, str | bytes) else None,
        },
    )


def _shown(path: object) -> str:
    """Give a host path as it is, and a name that an image chose (bytes) in quotes."""
    if isinstance(path, bytes):
        return errors.quoted(path)
    return path if isinstance(path, str) else f"descriptor {path}"
