"""What the numbers were measured on: the machine, and the Python with the packages that decompress."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
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
        "unpacker": _installed(),
        "commit": _commit(),
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


def _installed() -> str:
    """Say how the project is installed for this interpreter: only from a wheel is it as its users have it."""
    try:
        origin = distribution("oci-unpack").read_text("direct_url.json") or "{}"
    except PackageNotFoundError:
        return "a checkout"
    return "editable" if json.loads(origin).get("dir_info", {}).get("editable") else "a wheel"


def _commit() -> str:
    """Name the commit of this checkout; with a plus if files are not as in it."""
    argv = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    with suppress(OSError):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return "unknown"


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
