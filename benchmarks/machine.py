"""What the numbers were measured on: the machine, and the Python with the packages that decompress."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CODECS = ("isal", "zstandard", "pyzstd")


def facts() -> dict[str, object]:
    uname = os.uname()
    return {
        "cpu": _cpu_model(),
        "architecture": uname.machine,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": f"{uname.sysname} {uname.release}",
        "root": os.geteuid() == 0,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python_build": sys.version,
        "packages": {name: found for name in CODECS if (found := _package(name))},
    }


def load() -> float:
    """Give the load of the last minute: above the number of contenders' own processes, others were at work."""
    return round(os.getloadavg()[0], 2)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
