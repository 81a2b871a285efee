"""Mounts as values: what to mount and with which options, in containerd's shape and in the kernel's words.

A snapshot is not mounted by whoever keeps it; it is told how it can be, as a list of `Mount`, and anybody may do it:
`unpacker.snapshots.mounting`, mount(8) by hand (`unpacker.snapshots.command`), a container runtime from JSON.  Nothing
here calls the kernel.

What overlayfs asks for (Documentation/filesystems/overlayfs.rst; measured on Linux 6.18):

- the lower directories stand nearest first; in any name ``:``, ``,`` and the backslash have a backslash before them;
- one directory with nothing to write to is no overlay but EINVAL: it becomes a bind mount;
- there are at most 500 lower directories, and all options of one mount(2) together fill at most a page.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.errors import UnsupportedError, UsageError, quoted
from unpacker.record import Record
from unpacker.tree.owners import IdMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Path = str | os.PathLike[str]

MOST_LOWERS = 500
"""The kernel's OVL_MAX_STACK."""
STRICT = ("index=off", "metacopy=off", "redirect_dir=nofollow")
"""What every overlay of ours is mounted with, whatever the kernel was built to do by default.

With ``metacopy`` and ``redirect_dir`` a write through the mount leaves files without their data in the upper directory,
and directories that point elsewhere: no layer could be made of it, and no copy of it be the tree that was seen.  With
``index`` the upper directory can only ever be mounted over these same lower ones.
"""
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


class Mount(Record):
    """One thing to mount; paths are as `os.fsdecode` gives them, so they may hold any bytes."""

    type: str
    """``overlay`` or ``bind``."""
    source: str
    """The directory to bind; for an overlay just a word that mount(8) shows."""
    options: tuple[str, ...] = ()
    """As in /etc/fstab, but ``uidmap`` and ``gidmap``, which containerd has invented (see `idmapped`)."""
    target: str = ""
    """A directory below the place to mount at, there once the mounts before this one are; empty: that place itself."""

    def as_dict(self) -> dict[str, object]:
        """Give the JSON object that containerd has for it.

        Bytes of a name that are not UTF-8 are lone surrogates there, which Python reads back and others replace.
        """
        shown: dict[str, object] = {"type": self.type, "source": self.source}
        if self.target:
            shown["target"] = self.target
        return {**shown, "options": list(self.options)}


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


# -- making ------------------------------------------------------------------------------------------------------------


def overlay_mount(
    lowers: Sequence[Path],
    upper: Path | None = None,
    work: Path | None = None,
    *,
    userxattr: bool = False,
    extra: Iterable[str] = (),
) -> Mount:
    """Say how layers are mounted as one tree.

    One lower directory alone is bound read-only, an upper one alone is bound writable: overlayfs takes neither, and
    containerd does the same.

    Args:
        lowers: The layers' directories, nearest first.
        upper: Where what is written goes; without one the tree is read-only.
        work: An empty directory of overlayfs's own, beside ``upper``.
        userxattr: Whether markers are ``user.overlay.*`` attributes, see `unpacker.layer.markers`.
        extra: More options of overlayfs, over those of `STRICT`; an overlay only has them.

    Raises:
        UnsupportedError: None, or more than 500 directories.
    """
    below = [_absolute(lower) for lower in lowers]
    if (upper is None) != (work is None):
        raise ValueError("an upper and a work directory come together")
    if upper is None and len(below) == 1:
        return bind_mount(below[0], readonly=True)
    if upper is not None and not below:
        return bind_mount(upper, readonly=False)
    _check_lowers(len(below))
    options = [*(["userxattr"] if userxattr else []), *STRICT, *extra]
    if upper is not None and work is not None:
        options += [f"workdir={escaped(_absolute(work))}", f"upperdir={escaped(_absolute(upper))}"]
    options.append(f"lowerdir={':'.join(escaped(lower) for lower in below)}")
    return Mount(type="overlay", source="overlay", options=tuple(options))


def bind_mount(path: Path, *, readonly: bool) -> Mount:
    """Say how a directory is mounted as it is, and what is mounted below it."""
    return Mount(type="bind", source=_absolute(path), options=("ro" if readonly else "rw", "rbind"))


def idmapped(mount: Mount, uid_map: Sequence[IdMap], gid_map: Sequence[IdMap]) -> Mount:
    """Say how the same is mounted with other owners: id ``container`` on disk is seen as ``host``.

    As in containerd, the lower directories of an overlay are mapped and the upper one is not: what is written through
    the mount has on disk the owner that it is seen with, and the upper directory itself should belong to who is seen as
    its owner (`IdMap` 0).
    """
    if not uid_map or not gid_map:
        raise ValueError("owners are mapped by a map of uids and one of gids")
    kept = [option for option in mount.options if not option.startswith(("uidmap=", "gidmap="))]
    return mount.changed(options=(*kept, f"uidmap={_map_text(uid_map)}", f"gidmap={_map_text(gid_map)}"))


def _map_text(ranges: Sequence[IdMap]) -> str:
    return ",".join(f"{one.container}:{one.host}:{one.size}" for one in ranges)


def _absolute(path: Path) -> str:
    """Give a path that means the same to whoever mounts; not normalized, since ``..`` may follow a symlink."""
    text = os.fsdecode(path)
    if "\0" in text or not text:
        raise ValueError(f"no path: {text!r}")
    return text if text.startswith("/") else os.path.join(os.getcwd(), text)


def _check_lowers(count: int) -> None:
    if not 0 < count <= MOST_LOWERS:
        raise UnsupportedError(
            subject="overlay mount",
            kind="number of layers",
            found=str(count),
            supported=(f"1 to {MOST_LOWERS}, which is the kernel's own limit (OVL_MAX_STACK)",),
        )


# -- the kernel's words ------------------------------------------------------------------------------------------------


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
        target=mount.target,
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
    _check_lowers(len(lowers))


def _map(text: str | None) -> tuple[IdMap, ...]:
    return () if text is None else tuple(IdMap.parse(part) for part in text.split(","))
