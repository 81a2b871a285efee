"""The processes that a test forks."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def counted_forks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Give all processes that are forked; none of them, and no descriptor, is there in the end."""
    before = os.listdir("/proc/self/fd")
    pids: list[int] = []
    fork = os.fork

    def counted() -> int:
        pid = fork()
        pids.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", counted)
    yield pids
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    assert len(os.listdir("/proc/self/fd")) == len(before)
