"""A target with something of everything to be found, to see that it is found; it is none of those that are run."""

from __future__ import annotations

import time

from fuzz.target import Target
from unpacker.errors import quoted

_MOST = 50  # times 16 MiB


def check(data: bytes) -> None:
    """Do what the input says."""
    quoted(data[:20])  # something of the package, or the fuzzer would see no coverage
    if data.startswith(b"crash"):
        raise AssertionError("as it was told")
    if data.startswith(b"hang"):
        while True:
            pass
    if data.startswith(b"sleep"):  # as a machine does that is suspended
        time.sleep(float(data[5:]))
    if data.startswith(b"memory"):
        held: list[bytes] = []
        while len(held) < _MOST:
            held.append(bytes(b"\1" * (16 << 20)))
        time.sleep(5)  # whoever watches looks once a second


def seeds() -> list[bytes]:
    """Give nothing bad."""
    return [b"cras"]


TARGET = Target(check=check, seeds=seeds, longest=16, words=(b"crash",))
