"""The options of mounts, in the kernel's words: written for mount(2), and taken apart as it would.

In the name of any directory ``:``, ``,`` and the backslash have a backslash before them (measured on Linux 6.18).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.errors import UnsupportedError, UsageError, quoted
from unpacker.record import Record
from unpacker.tree.owners import IdMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpacker.snapshots.mounts import Mount

MOST_LOWERS = 500
"""The kernel's OVL_MAX_STACK."""
FLAGS = frozenset({"ro", "nosuid", "nodev", "noexec", "noatime", "strictatime", "nodiratime", "nosymfollow"})
"""Options of the mount itself, whatever the filesystem; their numbers stand in `unpacker.snapshots.kernel`."""
_CLEARED = {
    "rw": "ro",
    "suid": "nosuid",
    "dev": "nodev",
    "exec": "noexec",
    "atime": "noatime",
    "diratime": "nodiratime",
}
_NOTHING = frozenset({"defaults", "relatime", "bind"})
_ESCAPES = str.maketrans({"\\": "\\\\", ":": "\\:", ",": "\\,"})


class Request(Record):
    """What a `Mount` asks for, with its options taken apart."""

    type: str
    source: str
    target: str
    flags: frozenset[str]
    """Out of `FLAGS`."""
    recursive: bool = False
    """Whether a bind takes along what is mounted below."""
    lowers: tuple[str, ...] = ()
    upper: str | None = None
    work: str | None = None
    data: tuple[tuple[str, str | None], ...] = ()
    """Other options of the filesystem; None for those without a value."""
    uid_map: tuple[IdMap, ...] = ()
    gid_map: tuple[IdMap, ...] = ()

    def __str__(self) -> str:
        if self.type == "bind":
            return f"binding {quoted(self.source)}"
        return f"mounting an overlay of {len(self.lowers)} layer{'s'[: len(self.lowers) != 1]}"


def check_lowers(count: int) -> None:
    """Refuse a number of lower directories that no overlay has.

    Raises:
        UnsupportedError: It is none, or more than 500.
    """
    if not 0 < count <= MOST_LOWERS:
        raise UnsupportedError(
            subject="overlay mount",
            kind="number of layers",
            found=str(count),
            supported=(f"1 to {MOST_LOWERS}, which is the kernel's own limit (OVL_MAX_STACK)",),
        )


def escaped(path: str) -> str:
    """Put a backslash before what ends a name in options, be it of a lower, the upper or the work directory."""
    return path.translate(_ESCAPES)


def unescaped(text: str, separator: str = "") -> list[str]:
    """Take names apart at a separator, and the backslashes away."""
    names = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            names[-1] += next(characters, "")
        elif character == separator:
            names.append("")
        else:
            names[-1] += character
    return names


def overlay_data(request: Request, lowers: Sequence[str], upper: str | None, work: str | None) -> str:
    """Give the options of overlayfs as mount(2) wants them, with these names for the directories."""
    words = [key if value is None else f"{key}={value}" for key, value in request.data]
    words += [f"{key}={escaped(name)}" for key, name in (("workdir", work), ("upperdir", upper)) if name is not None]
    return ",".join([*words, f"lowerdir={':'.join(escaped(lower) for lower in lowers)}"])


def longest_data() -> int:
    """Give the bytes that the options of one mount(2) may have.

    A page with the NUL at their end.  The kernel does not refuse more, it cuts: the last name becomes another one.
    """
    return os.sysconf("SC_PAGE_SIZE") - 1


def read(mount: Mount) -> Request:
    """Take the options of a mount apart.

    Raises:
        UnsupportedError: A type other than ``overlay`` and ``bind``, or a number of layers that the kernel refuses.
        UsageError: An option that cannot be read.
    """
    if mount.type not in ("overlay", "bind"):
        raise UnsupportedError(subject="mount", kind="type", found=quoted(mount.type), supported=("overlay", "bind"))
    if "\0" in "".join((mount.source, mount.target, *mount.options)):
        raise UsageError(f"mount of {quoted(mount.source)}: NUL in its options")
    flags: set[str] = set()
    found: dict[str, str] = {}
    data: list[tuple[str, str | None]] = []
    for option in mount.options:
        key, equals, value = option.partition("=")
        if option in FLAGS:
            flags.add(option)
        elif option in _CLEARED:
            flags.discard(_CLEARED[option])
        elif key in ("uidmap", "gidmap") or (mount.type == "overlay" and key in ("lowerdir", "upperdir", "workdir")):
            found[key] = value
        elif option == "rbind":
            found[option] = option
        elif mount.type == "bind" and option not in _NOTHING:
            raise UsageError(f"bind mount of {quoted(mount.source)}: unknown option {quoted(option)}")
        elif option not in _NOTHING:
            data.append((key, value if equals else None))
    if ("uidmap" in found) != ("gidmap" in found):
        raise UsageError(f"mount of {quoted(mount.source)}: uidmap and gidmap come together")
    lowers = tuple(unescaped(found.get("lowerdir", ""), ":")) if mount.type == "overlay" else ()
    if mount.type == "overlay":
        _check_overlay(lowers, found)
    return Request(
        type=mount.type,
        source=mount.source,
        target=mount.target.strip("/"),
        flags=frozenset(flags),
        recursive="rbind" in found,
        lowers=lowers,
        upper=unescaped(found["upperdir"])[0] if "upperdir" in found else None,
        work=unescaped(found["workdir"])[0] if "workdir" in found else None,
        data=tuple(data),
        uid_map=_map(found.get("uidmap")),
        gid_map=_map(found.get("gidmap")),
    )


def _check_overlay(lowers: tuple[str, ...], found: dict[str, str]) -> None:
    if not all(lowers):
        raise UsageError("overlay mount: an empty name in lowerdir")  # "a::b" would make b a data-only layer
    if ("upperdir" in found) != ("workdir" in found):
        raise UsageError("overlay mount: upperdir and workdir come together")
    check_lowers(len(lowers))


def _map(text: str | None) -> tuple[IdMap, ...]:
    return () if text is None else tuple(IdMap.parse(part) for part in text.split(","))
