"""One entry of a tar archive, as its headers together say."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What an entry makes; hard links are names of something that another entry made."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "fifo"


class Entry:
    """One entry; a plain class with slots, since one is made for every file of every image.

    Attributes:
        kind: What it makes.
        name: Its path as the archive has it: any bytes but NUL.
        link: The target of a symbolic or hard link, else empty.
        mode: Permission bits with setuid, setgid and sticky (``0o7777`` at most).
        uid, gid: Numeric owner; names are never looked up.
        mtime: Nanoseconds since 1970, negative before.
        size: Bytes of a regular file when it is whole (with its holes); 0 for all other kinds.
        stored: Bytes of data that follow in the archive; less than ``size`` for a sparse file.
        segments: The data of a sparse file, as (offset, length) in ascending order; None if it is not sparse.
        device: (major, minor) of a device node, else (0, 0).
        xattrs: Extended attributes by name; None is the usual case.
        offset: Where its (last) header stands in the decompressed stream.
    """

    __slots__ = (
        "device",
        "gid",
        "kind",
        "link",
        "mode",
        "mtime",
        "name",
        "offset",
        "segments",
        "size",
        "stored",
        "uid",
        "xattrs",
    )

    def __init__(self, kind: Kind, name: bytes, offset: int) -> None:
        self.kind = kind
        self.name = name
        self.offset = offset
        self.link = b""
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.mtime = 0
        self.size = 0
        self.stored = 0
        self.segments: list[tuple[int, int]] | None = None
        self.device = (0, 0)
        self.xattrs: dict[bytes, bytes] | None = None

    def __repr__(self) -> str:
        return f"<Entry {self.kind.value} {self.name!r} at {self.offset}>"
