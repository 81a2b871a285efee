"""Steps that must not be broken off in the middle: the renames by which DEST appears, and the removal of what is left.

Python turns a signal into an exception between any two steps of the main thread, be it within a ``finally``.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object] | int | None

_WAITING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let whoever asks this process to stop wait until the end, and then be heard.

    Handlers are replaced for the time, not the thread's signal mask, as other threads would take the signal then and
    Python would still raise its exception here.  In any other thread than the main one Python raises none.
    """
    came: list[int] = []
    before: dict[int, Handler] = {}
    early: BaseException | None = None
    try:
        _replace(before, lambda number, _frame: came.append(number))
    except ValueError:
        pass  # not in the main thread
    except BaseException as stop:  # noqa: BLE001 -- it came a moment before its handler was replaced, and waits too
        early = stop
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if early is not None:
            raise early
        if came:
            signal.raise_signal(came[0])


def _replace(before: dict[int, Handler], handler: Callable[[int, FrameType | None], object]) -> None:
    for number in _WAITING:
        earlier = signal.getsignal(number)
        if earlier not in (None, signal.SIG_IGN):  # None: somebody set it outside of Python
            signal.signal(number, handler)
            before[number] = earlier
