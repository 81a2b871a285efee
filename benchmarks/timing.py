"""One run of one command: how long it takes, and in another run how much memory.

Time and memory are measured apart, since looking at memory while it is used takes time away.  Time is the wall clock
around the process and the ``rusage`` of it and of every descendant that was waited for.  Memory is read from ``/proc``
every few milliseconds: ``ru_maxrss`` says nothing about a small program, because on Linux a process begins with the
peak of the process that started it.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LOOK = 0.004
"""Seconds between two looks at memory."""
TICK = os.sysconf("SC_CLK_TCK")


class FailedError(Exception):
    """A command that did not succeed; the text is the end of what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is run: an argument vector, its environment, and a server that works for it, if there is one."""

    argv: list[str]
    environment: Mapping[str, str]
    log: Path
    """Where its standard error goes; its standard output goes nowhere."""
    server: int | None = None
    """The process id of a server that was started before, as the leader of a session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Seconds of one run."""

    wall: float
    user: float
    sys: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Peaks of resident memory in KiB."""

    largest: int
    """Of the process that used most."""
    together: int
    """Of all processes at one time, as far as it was looked at; what several share is counted once (``Pss``)."""
    processes: int
    """How many processes were seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All runs of one contender: medians, and the extremes of the wall clock."""

    wall: float
    user: float
    sys: float
    fastest: float
    slowest: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Summary:
        walls = [run.wall for run in runs]
        return cls(
            wall=statistics.median(walls),
            user=statistics.median(run.user for run in runs),
            sys=statistics.median(run.sys for run in runs),
            fastest=min(walls),
            slowest=max(walls),
        )

    def facts(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def timed(command: Command) -> Run:
    """Run a command to its end; give its seconds, and those that its server worked meanwhile.

    Raises:
        FailedError: It ended with another status than 0.
    """
    server = _server_seconds(command)
    started = time.perf_counter()
    with _spawned(command) as pid:
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - started
    _check(command, status)
    worked = _server_seconds(command)
    user, system = worked[0] - server[0], worked[1] - server[1]
    return Run(wall=wall, user=usage.ru_utime + user, sys=usage.ru_stime + system)


def watched(command: Command) -> Memory:
    """Run a command to its end; give the peaks of memory of its processes and of its server's.

    Raises:
        FailedError: It ended with another status than 0.
    """
    peaks: dict[int, int] = {}
    together = 0
    with _spawned(command) as pid:
        sessions = {pid, command.server}
        while True:
            now = 0
            for member in _members(sessions):
                peaks[member] = max(peaks.get(member, 0), _field(member, "status", "VmHWM"))
                now += _field(member, "smaps_rollup", "Pss")
            together = max(together, now)
            ended, status, _ = os.wait4(pid, os.WNOHANG)
            if ended:
                break
            time.sleep(LOOK)
    _check(command, status)
    largest = max(peaks.values())
    # Between two looks one process may have peaked and shrunk.
    return Memory(largest=largest, together=max(largest, together), processes=len(peaks))


@contextmanager
def _spawned(command: Command) -> Iterator[int]:
    """Start a command as the leader of a session; if waiting for it is broken off, end it with all that it started."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(command.log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    argv = command.argv
    pid = os.posix_spawnp(argv[0], argv, command.environment, file_actions=actions, setsid=True)
    try:
        yield pid
    except BaseException:
        # It was not waited for, so the id is still its own, dead or alive.
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        raise


def _check(command: Command, status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    if code:
        said = command.log.read_text(errors="replace").strip().splitlines()[-3:]
        raise FailedError(f"exit status {code}: {' / '.join(said) or 'said nothing'}"[:400])


# -- /proc -------------------------------------------------------------------------------------------------------------


def _members(sessions: set[int | None]) -> list[int]:
    """Give the processes of some sessions; one that leaves its session is lost from sight."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _session(int(name)) in sessions]


def _stat(pid: int) -> list[str]:
    """Give the fields of ``/proc/PID/stat`` from the third on (the second may contain anything); none if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _session(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[3]) if fields else -1


def _field(pid: int, file: str, field: str) -> int:
    """Give a number of KiB that a file of ``/proc/PID`` has; nothing if the process is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
    return 0


def _server_seconds(command: Command) -> tuple[float, float]:
    """Give the user and system seconds of the server and of its children that it has waited for."""
    fields = _stat(command.server) if command.server is not None else []
    if not fields:
        return 0.0, 0.0
    user, system, of_children_user, of_children_system = (int(field) for field in fields[11:15])
    return (user + of_children_user) / TICK, (system + of_children_system) / TICK
