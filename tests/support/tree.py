"""Reads a directory tree from disk into a value, which compares and prints well.

Everything is read by lstat, nothing is followed, opened for its effect, or changed.  There is no recursion, and no path
longer than the kernel takes, however deep the tree.  The root is ``b"."``, all else is relative to it: ``b"etc/motd"``.

A tree on disk (`read`) and one of the reference model (`tests.model.reference`) have the same shape; `diff` says in
readable lines where two of them part, `sketch` gives a tree as text for expectations written by hand.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

Tree = dict[bytes, "Node"]

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
SHOWN_CONTENT = 64
"""Contents up to this size stand in a node as they are, larger ones as their digest."""
HOST_XATTRS = frozenset({b"security.selinux"})
"""What the host puts on every file by itself."""
_PATH_STEP = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One path of a tree."""

    kind: str
    mode: int = 0
    """Permission bits with setuid, setgid and sticky."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    """Bytes of a regular file, with holes; 0 for all else."""
    content: bytes = b""
    """What a regular file has in it, see `content_of`."""
    target: bytes = b""
    """Where a symbolic link points to."""
    rdev: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""
    mtime_ns: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    link: bytes = b""
    """The first name, in byte order, of the hard links that this is one of; empty if it has no other name."""


def content_of(data: bytes) -> bytes:
    """Give what stands for a file's content: itself if it is short, else its digest."""
    return data if len(data) <= SHOWN_CONTENT else b"sha256:" + hashlib.sha256(data).hexdigest().encode()


def files_below(root: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the paths of all that is no directory below one; `Path.rglob` fails at links with long targets."""
    for directory, _, names in os.walk(root):
        for name in names:
            yield Path(directory, name)


# -- reading -----------------------------------------------------------------------------------------------------------


def read(root: str | os.PathLike[str], *, ignore_xattrs: Collection[bytes] = HOST_XATTRS) -> Tree:
    """Read a tree from disk; what its owner may not read is read all the same, and has its mode again in the end."""
    tree: Tree = {}
    names: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
    with _readable_for_now(Path(root)) as about_root, _opened(Path(root)) as top, ExitStack() as lent:
        tree[b"."] = _node(top, b".", about_root, ignore_xattrs)
        waiting = [b""]
        while waiting:
            parent = waiting.pop()
            with _beneath(top, parent) as directory:
                for name in sorted(os.fsencode(entry) for entry in os.listdir(directory)):
                    path = parent + b"/" + name if parent else name
                    status = os.lstat(name, dir_fd=directory)
                    mode = stat.S_IMODE(status.st_mode)
                    with ExitStack() as now:  # a file may have another name, under which its mode is looked at, too
                        if not _is_readable(directory, name, status):
                            os.chmod(name, mode | 0o700, dir_fd=directory)
                            given_back = lent if stat.S_ISDIR(status.st_mode) else now
                            given_back.callback(_give_back, top, parent, name, mode)
                        tree[path] = _node(directory, name, status, ignore_xattrs)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(path)
                    else:
                        names[status.st_dev, status.st_ino].append(path)
    return grouped(tree, names.values())


@contextmanager
def _readable_for_now(root: Path) -> Iterator[os.stat_result]:
    """Let this caller look into the root of a tree, and give its status as it was."""
    status = os.stat(root)
    readable = os.access(root, os.R_OK | os.X_OK, effective_ids=True)
    if not readable:
        root.chmod(stat.S_IMODE(status.st_mode) | 0o700)
    try:
        yield status
    finally:
        if not readable:
            root.chmod(stat.S_IMODE(status.st_mode))


def _is_readable(directory: int, name: bytes, status: os.stat_result) -> bool:
    """Whether this caller may look into a directory or a file; for others it is of no matter."""
    wanted = os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return True
    return os.access(name, wanted, dir_fd=directory, effective_ids=True)


def _give_back(top: int, parent: bytes, name: bytes, mode: int) -> None:
    with _beneath(top, parent) as directory:
        os.chmod(name, mode, dir_fd=directory)


def grouped(tree: Tree, groups: Collection[Collection[bytes]]) -> Tree:
    """Write into the nodes which names belong together, and put the paths in order."""
    for group in groups:
        if len(group) > 1:
            for path in group:
                tree[path] = replace(tree[path], link=min(group))
    return dict(sorted(tree.items()))


def _node(directory: int, name: bytes, status: os.stat_result, ignore_xattrs: Collection[bytes]) -> Node:
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    device = kind in ("char", "block")
    # A path through the descriptor's own entry in /proc, since listxattr(2) has no *at form.
    place = f"/proc/self/fd/{directory}/".encode() + name
    xattrs = {os.fsencode(key) for key in os.listxattr(place, follow_symlinks=False)} - set(ignore_xattrs)
    return Node(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == "file" else 0,
        content=_content(directory, name, status.st_size) if kind == "file" else b"",
        target=os.readlink(name, dir_fd=directory) if kind == "symlink" else b"",
        rdev=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0),
        mtime_ns=status.st_mtime_ns,
        xattrs={key: os.getxattr(place, key, follow_symlinks=False) for key in sorted(xattrs)},
    )


def _content(directory: int, name: bytes, size: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb") as stored:
        if size <= SHOWN_CONTENT:
            return stored.read()
        return b"sha256:" + hashlib.file_digest(stored, "sha256").hexdigest().encode()


@contextmanager
def _opened(path: str | Path | bytes, directory: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _beneath(top: int, path: bytes) -> Iterator[int]:
    """Open a directory of the tree, in steps that are shorter than PATH_MAX."""
    descriptor = os.dup(top)
    try:
        rest = path.split(b"/") if path else []
        while rest:
            step = [rest.pop(0)]
            while rest and len(b"/".join(step)) < _PATH_STEP:
                step.append(rest.pop(0))
            with _opened(b"/".join(step), descriptor) as deeper:
                os.dup2(deeper, descriptor, inheritable=False)
        yield descriptor
    finally:
        os.close(descriptor)


# -- comparing ---------------------------------------------------------------------------------------------------------


def diff(expected: Tree, actual: Tree, *, ignore: Collection[str] = ()) -> list[str]:
    """Say where two trees part, a line each; an empty list means that they are the same.

    Args:
        expected: The tree as it should be.
        actual: The tree as it is.
        ignore: Names of fields of `Node` that are not compared.
    """
    compared = [one.name for one in fields(Node) if one.name not in ignore]
    lines = []
    for path in sorted({*expected, *actual}):
        shown = show(path)
        if path not in actual:
            lines.append(f"{shown}: missing ({expected[path].kind})")
        elif path not in expected:
            lines.append(f"{shown}: too much ({actual[path].kind})")
        else:
            for key in compared:
                wanted, got = getattr(expected[path], key), getattr(actual[path], key)
                if wanted != got:
                    lines.append(f"{shown}: {key}: expected {_value(key, wanted)}, got {_value(key, got)}")
    return lines


def unprivileged(tree: Tree) -> Tree:
    """Give what of a tree a caller without privilege can make: no devices, and no owners but itself."""
    return {path: replace(node, uid=0, gid=0) for path, node in tree.items() if node.kind not in ("char", "block")}


def show(path: bytes) -> str:
    r"""Give a path as printable text, with undecodable bytes as ``\xNN``."""
    return ascii(path.decode("utf-8", "backslashreplace"))[1:-1]


def _value(key: str, value: object) -> str:
    return f"{value:04o}" if key == "mode" and isinstance(value, int) else repr(value)


def sketch(tree: Tree) -> dict[str, str]:
    """Give a tree as text, without attributes, for expectations that are written by hand.

    ``{"etc": "directory", "etc/motd": "file hi", "bin": "symlink usr/bin", "null": "char 1:3", "b": "file x = a"}``,
    where ``= a`` names the first of the hard links that this one belongs to.  The root is left out.
    """
    return {show(path): _line(node) for path, node in tree.items() if path != b"."}


def _line(node: Node) -> str:
    words = [node.kind]
    if node.kind == "file" and node.content:
        words.append(show(node.content))
    elif node.kind == "symlink":
        words.append(show(node.target))
    elif node.kind in ("char", "block"):
        words.append(f"{node.rdev[0]}:{node.rdev[1]}")
    if node.link:
        words.append(f"= {show(node.link)}")
    return " ".join(words)
