"""Labels on disk: what became known of a blob, in a small file beside it.

``labels/<algorithm>/<encoded>.json`` holds one JSON object of strings for the blob of the same name.  Files appear and
are replaced whole, in one step, so readers need no lock.  Who changes one takes a lock, for as long as that takes; who
makes the first one needs none, as only one can, and an unpack mostly does (the lock would cost it a tenth of its time).
Nothing may be believed because a label says so.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.content.blob import read_regular
from unpacker.content.files import create, directory, replace, sweep
from unpacker.limits import DEFAULT
from unpacker.spec.labels import check, merged
from unpacker.spec.strictjson import load
from unpacker.tree.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unpacker.spec.digest import Digest

    Change = Callable[[dict[str, str]], dict[str, str]]

UNCOMPRESSED = "containerd.io/uncompressed"
"""On a layer's blob: its diff_id, under the name that containerd gives it."""

_PATIENCE = 30.0
"""Seconds to wait for other writers, of whom each needs milliseconds."""
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
        return merged(stored, self._unwritten.get(digest, {}))

    def set(self, digest: Digest, labels: Mapping[str, str]) -> None:
        """Set some labels of a blob and keep the others; an empty value takes a label away.

        A convenience for whoever can do without: what is set already costs no lock and no write, and where nothing can
        be written, the labels are kept for the life of the process only.

        Raises:
            UsageError: A label cannot be kept.
            DocumentError: The file is damaged; it is left as it is.
            UnsupportedError: It is no regular file.
            LockedError: Somebody else was writing labels all the time.
        """
        check(labels)
        if all(self.get(digest).get(key, "") == value for key, value in labels.items()):
            return
        try:
            if not self._create(digest, merged({}, labels)):
                self.change(digest, lambda found: merged(found, labels))
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            self._unwritten[digest] = {**self._unwritten.get(digest, {}), **labels}

    def change(self, digest: Digest, change: Change) -> dict[str, str]:
        """Change the labels of a blob while nobody else does; they are on the disk when this returns.

        Args:
            digest: Which blob.
            change: Makes the new labels of the old ones; nothing is written if it raises.

        Returns:
            The new labels.

        Raises:
            DocumentError, UnsupportedError, LockedError: See `set`.
            OSError: They cannot be written.
        """
        algorithm, encoded = digest.path_parts
        try:
            with (
                directory(self._root) as root,
                directory("labels", root, make=True) as top,
                directory(algorithm, top, make=True) as parent,
            ):
                with self._lock(top):
                    found = self._change(digest, change, parent, f"{encoded}.json")
                    self._unwritten.pop(digest, None)
                os.fsync(parent)  # Outside of the lock: others need not wait for the disk twice.
        except OSError as error:
            error.add_note(f"labelling blob {digest}")
            raise
        return found

    def _change(self, digest: Digest, change: Change, parent: int, name: str) -> dict[str, str]:
        """Write the labels anew, now that nobody else changes them; but somebody may still create the file."""
        while True:
            there = os.path.lexists(self._path(digest))
            found = change(merged(self._read(digest), self._unwritten.get(digest, {})))
            data = _as_json(found)
            if not there:
                if create(parent, name, data):
                    return found
                if os.path.lexists(self._path(digest)):
                    continue  # with labels of others, which must not be lost
            replace(parent, name, data)
            return found

    def _create(self, digest: Digest, labels: dict[str, str]) -> bool:
        """Write the first labels of a blob, which takes no lock; False if it has some, or if that cannot be done so."""
        algorithm, encoded = digest.path_parts
        if self._unwritten.get(digest) or os.path.lexists(self._path(digest)):
            return False
        try:
            with (
                directory(self._root) as root,
                directory("labels", root, make=True) as top,
                directory(algorithm, top, make=True) as parent,
            ):
                created = create(parent, f"{encoded}.json", _as_json(labels))
                if created:
                    os.fsync(parent)
        except OSError as error:
            error.add_note(f"labelling blob {digest}")
            raise
        return created

    def remove(self, digest: Digest) -> None:
        """Forget the labels of a blob, even damaged ones.

        Raises:
            LockedError: See `set`.
            OSError: They cannot be removed.
        """
        algorithm, encoded = digest.path_parts
        self._unwritten.pop(digest, None)
        if not os.path.lexists(self._path(digest)):
            return
        with (
            directory(self._root) as root,
            directory("labels", root) as top,
            directory(algorithm, top) as parent,
            self._lock(top),
            suppress(FileNotFoundError),
        ):
            os.unlink(f"{encoded}.json", dir_fd=parent)

    def sweep(self) -> int:
        """Remove what killed writers left; give how many files that were."""
        try:
            with directory(self._root) as root, directory("labels", root) as top, self._lock(top):
                swept = 0
                for algorithm in os.listdir(top):
                    with suppress(NotADirectoryError), directory(algorithm, top) as parent:
                        swept += sweep(parent, r"[a-zA-Z0-9=_-]+\.json")
                return swept
        except FileNotFoundError:
            return 0

    def changed(self, digest: Digest) -> int | None:
        """Give when the labels of a blob were last written, in nanoseconds since 1970; None if they never were."""
        try:
            return os.lstat(self._path(digest)).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None

    def _lock(self, top: int) -> Lock:
        path = os.path.join(self._root, "labels", ".lock")
        return Lock(path, where=self._root, what="the lock of the labels", directory=top).acquire(_PATIENCE)

    def _path(self, digest: Digest) -> str:
        algorithm, encoded = digest.path_parts
        return os.path.join(self._root, "labels", algorithm, f"{encoded}.json")

    def _read(self, digest: Digest) -> dict[str, str]:
        path = self._path(digest)
        try:
            data = read_regular(path, DEFAULT.document_bytes, "document_bytes")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return load(data, path).string_map()


def _as_json(labels: Mapping[str, str]) -> bytes:
    return json.dumps(labels, indent=1, sort_keys=True).encode() + b"\n"
