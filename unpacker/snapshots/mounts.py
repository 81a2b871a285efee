"""Mounts as values: what to mount and with which options, in containerd's shape and in the kernel's words.

A snapshot is not mounted by whoever keeps it; it is told how it can be, as a list of `Mount`, and anybody may do it:
`unpacker.snapshots.mounting`, mount(8) by hand (`unpacker.snapshots.command`), a container runtime from JSON.  Nothing
here calls the kernel.

What overlayfs asks for (Documentation/filesystems/overlayfs.rst; measured on Linux 6.18):

- the lower directories stand nearest first;
- one directory with nothing to write to is no overlay but EINVAL: it becomes a bind mount;
- there are at most 500 lower directories, and all options of one mount(2) together fill at most a page
  (`unpacker.snapshots.options`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.record import Record
from unpacker.snapshots.options import check_lowers, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unpacker.tree.owners import IdMap

    Path = str | os.PathLike[str]

STRICT = ("index=off", "metacopy=off", "redirect_dir=nofollow")
"""What every overlay of ours that is written to is mounted with, whatever the kernel was built to do by default.

With ``metacopy`` and ``redirect_dir`` a write through the mount leaves files without their data in the upper directory,
and directories that point elsewhere: no layer could be made of it, and no copy of it be the tree that was seen.  With
``index`` the upper directory can only ever be mounted over these same lower ones.
"""


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
        extra: More options of overlayfs, over those of `STRICT`, which an overlay that is written to has.

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
    check_lowers(len(below))
    options = [*(["userxattr"] if userxattr else []), *(STRICT if upper is not None else ()), *extra]
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
    the mount has on disk the owner that it is seen with, and so should the upper directory itself.  A bind mount is
    mapped whole, and what is written through it has the owner on disk that is mapped to the one that it is seen with.
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
