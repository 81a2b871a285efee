"""Labels: what became known of a blob, in a small file beside it.

``labels/<algorithm>/<encoded>.json`` holds one JSON object of strings for the blob of the same name.  Files are
replaced whole, by one rename, so readers need no lock.  Writers merge, so they take one.  Labels are a convenience:
where they cannot be written they are kept for the life of the process only, and nothing may be believed because a label
says so.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from unpacker.content.blob import read_regular
from unpacker.errors import UsageError, quoted
from unpacker.limits import DEFAULT
from unpacker.spec.strictjson import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unpacker.spec.digest import Digest

UNCOMPRESSED = "containerd.io/uncompressed"
"""On a layer's blob: its diff_id, under the name that containerd gives it."""

_LONGEST = 4096
"""Bytes of a key and its value together, containerd's limit."""
_PATIENCE = 10.0
"""Seconds to wait for another writer, who needs milliseconds."""
_CANNOT_WRITE = frozenset(
    {
        *(errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.ENOSPC, errno.EDQUOT),
        # A filesystem without locks.
        *(errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP),
        # A link or a file where one of our directories or the lock should be.
        *(errno.ELOOP, errno.ENOTDIR),
    }
)


class LabelStore:
    """The labels of a layout's blobs."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.fspath(root)
        self._unwritten: dict[Digest, dict[str, str]] = {}

    def get(self, digest: Digest) -> dict[str, str]:
        """Give the labels of a blob; none is as good as no file.

        Raises:
            DocumentError: The file is damaged.
            UnsupportedError: It is no regular file.
        """
        try:
            stored = self._read(digest)
        except PermissionError:
            stored = {}
        return _merged(stored, self._unwritten.get(digest, {}))

    def set(self, digest: Digest, labels: Mapping[str, str]) -> None:
        """Set some labels of a blob and keep the others; an empty value takes a label away.

        What is set already costs no lock and no write.

        Raises:
            UsageError: A label is too long.
            DocumentError: The file is damaged; it is left as it is.
            UnsupportedError: It is no regular file.
        """
        for key, value in labels.items():
            if len(key.encode()) + len(value.encode()) > _LONGEST:
                raise UsageError(f"label {quoted(key[:64])}: key and value are longer than {_LONGEST} bytes together")
        if all(self.get(digest).get(key, "") == value for key, value in labels.items()):
            return
        try:
            self._write(digest, labels)
        except OSError as error:
            if error.errno not in _CANNOT_WRITE and not isinstance(error, TimeoutError):
                error.add_note(f"labelling blob {digest}")
                raise
            self._unwritten[digest] = {**self._unwritten.get(digest, {}), **labels}

    def _read(self, digest: Digest) -> dict[str, str]:
        algorithm, encoded = digest.path_parts
        path = os.path.join(self._root, "labels", algorithm, f"{encoded}.json")
        try:
            data = read_regular(path, DEFAULT.document_bytes, "document_bytes")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return load(data, path).string_map()

    def _write(self, digest: Digest, labels: Mapping[str, str]) -> None:
        from filelock import FileLock  # noqa: PLC0415 - slow to import, and most runs find their labels set

        algorithm, encoded = digest.path_parts
        with _directory(None, self._root) as root, _directory(root, "labels") as top:
            lock = FileLock(os.path.join(self._root, "labels", ".lock"), timeout=_PATIENCE, fallback_to_soft=False)
            with lock, _directory(top, algorithm) as parent:
                found = _merged(self._read(digest), labels)  # As it is now that nobody else writes.
                _replace(parent, f"{encoded}.json", json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")


def _merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in {**old, **new}.items() if value}


@contextmanager
def _directory(parent: int | None, name: str) -> Iterator[int]:
    """Open a directory, made if it is not there; below the root no link is followed, since a layout may be hostile."""
    if parent is not None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
            os.fsync(parent)
        except FileExistsError:
            pass
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if parent is None else os.O_NOFOLLOW)
    fd = os.open(name, flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _replace(parent: int, name: str, data: bytes) -> None:
    """Put a file in place whole, durably; the caller has the lock."""
    temporary = f".{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=parent)  # Left by a writer that was killed.
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise
    os.fsync(parent)
