r"""Prints a directory tree as text, one line a path: the form of the expectations in ``fixtures/expected/``.

It shares no code with the package nor with `tests.support.tree`, so that the expectations hang on neither.  Columns,
with one TAB between them, where ``-`` stands for what a path has not::

    path  type  mode  uid  gid  size  sha256  target  rdev  mtime  hardlink  xattrs

The first line is the top directory, ``.``; the rest is in byte order.  ``mtime`` is in nanoseconds, ``hardlink`` is the
first of the names of one file, ``xattrs`` are ``name=0xHEX`` with commas between.  What is not printable ASCII, and the
backslash, is written ``\xNN``.  Links are not followed.  As a program: ``python -m tests.support.treesum TREE``.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "sock",
}
HOST_XATTRS = frozenset({"security.selinux"})
"""What the host puts on every file by itself."""


def manifest(top: bytes | str) -> list[str]:
    """Give the lines of a tree; the caller must be able to read all of it, so it is best root."""
    root = os.fsencode(top)
    paths = [b".", *sorted(_walk(root))]
    infos = {path: os.lstat(os.path.join(root, path)) for path in paths}
    names: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
    for path, info in infos.items():
        if not stat.S_ISDIR(info.st_mode):
            names[info.st_dev, info.st_ino].append(path)
    # A link from outside the tree does not count, so it is the names found that decide and not st_nlink.
    linked = {path: group[0] for group in names.values() if len(group) > 1 for path in group}
    return [_line(root, path, info, linked.get(path)) for path, info in infos.items()]


def _walk(root: bytes) -> Iterator[bytes]:
    waiting = [b""]
    while waiting:
        parent = waiting.pop()
        with os.scandir(os.path.join(root, parent)) as entries:
            for entry in entries:
                path = os.path.join(parent, entry.name)
                yield path
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)


def _line(root: bytes, path: bytes, info: os.stat_result, linked: bytes | None) -> str:
    place, kind = os.path.join(root, path), TYPES[stat.S_IFMT(info.st_mode)]
    columns = (
        escape(path),
        kind,
        f"{stat.S_IMODE(info.st_mode):04o}",
        str(info.st_uid),
        str(info.st_gid),
        str(info.st_size) if kind == "file" else "-",
        _digest(place) if kind == "file" else "-",
        escape(os.readlink(place)) if kind == "link" else "-",
        f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" if kind in ("char", "block") else "-",
        str(info.st_mtime_ns),
        escape(linked) if linked else "-",
        _xattrs(place),
    )
    return "\t".join(columns)


def _digest(place: bytes) -> str:
    with open(place, "rb", buffering=0) as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()


def _xattrs(place: bytes) -> str:
    keys = sorted(key for key in os.listxattr(place, follow_symlinks=False) if key not in HOST_XATTRS)
    pairs = ((escape(os.fsencode(key)), os.getxattr(place, key, follow_symlinks=False)) for key in keys)
    return ",".join(f"{key}=0x{value.hex()}" for key, value in pairs) or "-"


def escape(raw: bytes) -> str:
    r"""Give bytes as printable ASCII, ``\xNN`` for all else."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in raw)


def main() -> int:
    """Print the tree that the command line names."""
    sys.stdout.writelines(line + "\n" for line in manifest(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
