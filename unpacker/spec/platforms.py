"""Platforms: what an image is for, and which of several suits a machine best (image-index.md, platform).

The specification says only that the first match wins.  What matches is containerd's rule (its ``platforms.Only``), as
everybody's: a machine runs its own variant and the older ones, an amd64 machine i386 programs too, an arm64 machine
those of 32-bit arm.  No guess is made about the variant of an amd64 host, as containerd makes none.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from unpacker.errors import UsageError, quoted
from unpacker.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORM = "OS/ARCHITECTURE[/VARIANT], such as linux/amd64 or linux/arm/v7"
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_OS = re.compile(r"([A-Za-z0-9_.-]+)(?:\(([A-Za-z0-9_.-]*)((?:\+[A-Za-z0-9_.-]+)*)\))?")
_ARM64 = re.compile(r"v([89])(?:\.([0-9]))?")
_NUMBERED = re.compile(r"v([1-9])")

_KNOWN_OS = frozenset({"aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "linux"}) | frozenset(
    {"netbsd", "openbsd", "plan9", "solaris", "windows", "zos"}
)
_KNOWN_ARCHITECTURES = frozenset({"386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64"}) | frozenset(
    {"mips64le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm"}
)
# Machines, as the kernel names them, that have another name in Go's list and no variant in it.
_MACHINES = {"i386": "386", "i486": "386", "i586": "386", "i686": "386", "loongarch64": "loong64"}


class Platform(Record, kw_only=False):
    """What an image is for, in the words of Go's GOOS and GOARCH."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``OS[(VERSION[+FEATURE...])]/ARCHITECTURE[/VARIANT]``; a known OS or architecture alone will do.

        Raises:
            UsageError: It is something else.
        """
        head, *parts = text.split("/")
        first = _OS.fullmatch(head)
        if first is None or len(parts) not in (0, 1, 2) or not all(_WORD.fullmatch(part) for part in parts):
            raise UsageError(f"platform {quoted(text)} cannot be read", f"write {_FORM}")
        name, version, features = first[1], first[2] or "", (first[3] or "").split("+")[1:]
        if parts:
            return cls(name, parts[0], "".join(parts[1:]), version, tuple(features)).normalized()
        host = cls.host()
        lone = cls(name, name).normalized()
        if lone.os in _KNOWN_OS:
            return host.changed(os=lone.os, os_version=version, os_features=tuple(features))
        if lone.architecture in _KNOWN_ARCHITECTURES and "(" not in text:
            return lone.changed(os=host.os)
        raise UsageError(f"platform {quoted(text)} is neither a known OS nor a known architecture", f"write {_FORM}")

    @classmethod
    def host(cls) -> Platform:
        """Give the platform whose images this machine runs: Linux ones, on a Mac too, where a virtual machine does."""
        if hasattr(os, "uname"):
            system, machine = os.uname().sysname.lower(), os.uname().machine.lower()
        else:
            import platform  # noqa: PLC0415 - slow to import, and needed on Windows only

            system, machine = "", platform.machine().lower()
        return cls("freebsd" if system == "freebsd" else "linux", *_machine(machine)).normalized()

    def normalized(self) -> Platform:
        """Give the one spelling of all that mean the same platform."""
        architecture, variant = _normal_architecture(self.architecture.lower(), self.variant.lower())
        name = self.os.lower()
        return Platform(
            os="darwin" if name == "macos" else name,
            architecture=architecture,
            variant=variant,
            os_version=self.os_version,
            os_features=tuple(sorted(set(self.os_features))),
        )

    @property
    def is_unknown(self) -> bool:
        """Whether it says to be for nothing, as BuildKit writes for attestations."""
        return "unknown" in (self.os, self.architecture)

    def __str__(self) -> str:
        details = "+".join((self.os_version, *self.os_features))
        name = f"{self.os}({details})" if details else self.os
        return "/".join([name, self.architecture, *([self.variant] if self.variant else [])])


def rank(wanted: Platform, offered: Platform) -> int | None:
    """Say how well an image suits: 0 is best, more is worse, None is not at all.

    An image that asks for features of the OS needs them all; of two, the one that uses more is better.
    """
    wanted, offered = wanted.normalized(), offered.normalized()
    if wanted.os != offered.os or not _same_version(wanted.os_version, offered.os_version):
        return None
    if not set(offered.os_features).issubset(wanted.os_features):
        return None
    unused = len(wanted.os_features) - len(offered.os_features)
    for position, (architecture, variant) in enumerate(_runs(wanted.architecture, wanted.variant)):
        if (offered.architecture, offered.variant) == _normal_architecture(architecture, variant):
            return position * (len(wanted.os_features) + 1) + unused
    return None


def _same_version(wanted: str, offered: str) -> bool:
    """Compare versions of Windows up to the build; the revision after it does not matter."""
    return not wanted or not offered or wanted.split(".")[:3] == offered.split(".")[:3]


def _runs(architecture: str, variant: str) -> Iterator[tuple[str, str]]:
    """Yield what a machine runs, best first."""
    yield architecture, variant
    if architecture == "amd64":
        yield from (("amd64", f"v{number}") for number in range(_number(variant) - 1, 0, -1))
        yield "386", ""
    elif architecture == "arm":
        yield from (("arm", f"v{number}") for number in range(_number(variant) - 1, 4, -1))
    elif architecture == "arm64":
        yield from _runs_on_arm64(variant or "v8")


def _runs_on_arm64(variant: str) -> Iterator[tuple[str, str]]:
    match = _ARM64.fullmatch(variant)
    if match is None:
        return
    major, minor = int(match[1]), int(match[2] or 0)
    if major == 9:  # noqa: PLR2004
        yield from (("arm64", f"v9.{older}") for older in range(minor - 1, -1, -1))
        # v9.0 branched off v8.5, and has what came up to there.
        minor += 6
    yield from (("arm64", f"v8.{older}") for older in range(minor - 1, -1, -1))
    yield from _runs("arm", "v8")


def _number(variant: str) -> int:
    match = _NUMBERED.fullmatch(variant)
    return int(match[1]) if match else 0


def _normal_architecture(architecture: str, variant: str) -> tuple[str, str]:
    if architecture == "i386":
        return "386", ""
    if architecture in ("x86_64", "x86-64", "amd64"):
        return "amd64", "" if variant == "v1" else variant
    if architecture in ("aarch64", "arm64"):
        return "arm64", {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"}.get(variant, variant)
    if architecture in ("armhf", "armel"):
        return "arm", "v7" if architecture == "armhf" else "v6"
    if architecture == "arm":
        return "arm", {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    return architecture, variant


def _machine(machine: str) -> tuple[str, str]:
    """Turn the kernel's name of a machine into architecture and variant."""
    arm = re.match(r"armv([5-8])", machine)
    if arm:
        return "arm", f"v{arm[1]}"
    return _MACHINES.get(machine, machine), ""
