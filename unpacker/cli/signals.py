"""Being told to stop, as an exception: staging directories are removed on the way out, whoever sent the signal.

Python turns SIGINT alone into an exception; SIGTERM (from ``timeout``, a CI runner, an init) and SIGHUP (a closed
terminal) would end the process where it stands.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], object] | int | None

_STOPPING = (signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked this process to stop.  No ``Exception``, so that nothing on the way takes it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` on the first SIGTERM or SIGHUP; later ones are ignored, lest they stop the clean-up.

    A signal that the caller has set to be ignored (``nohup``) stays ignored.
    """
    wanted = [number for number in _STOPPING if signal.getsignal(number) is signal.SIG_DFL]

    def stop(signum: int, _frame: FrameType | None) -> None:
        for number in wanted:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped(signum)

    with _handled(wanted, stop):
        yield


@contextmanager
def deaf() -> Iterator[None]:
    """Ignore all of them: for the last words, when the clean-up is done."""
    with _handled([signal.SIGINT, *_STOPPING], signal.SIG_IGN):
        yield


@contextmanager
def _handled(numbers: list[signal.Signals], handler: Callable[[int, FrameType | None], None] | int) -> Iterator[None]:
    before: dict[signal.Signals, _Handler] = {}
    try:
        for number in numbers:
            before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread: somebody else's signals
        pass
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier if earlier is not None else signal.SIG_DFL)
