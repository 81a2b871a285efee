"""Ingests on disk: bytes on their way to become a blob, which another process can go on with.

Each has a directory below ``ingest``, named by the sha256 of its reference (docs/formats.md)::

    ref          the reference; its mtime is when the ingest began
    total        how many bytes there will be, in decimal digits, if that was announced
    expected     the digest that they will have, if that was announced
    data         the bytes so far; its mtime is when the last came
    lock         held, by flock, while somebody writes

What is without ``ref`` is the rest of an ingest that was about to be made, or to be removed.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.content.files import directory, open_directory, read_text
from unpacker.content.store import Status
from unpacker.content.writer import IngestWriter, read_digest, read_number
from unpacker.errors import IngestNotFoundError, LockedError, quoted
from unpacker.tree.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpacker.content.store import OnWait
    from unpacker.content.writer import Finish
    from unpacker.spec.digest import Digest

_NAME = re.compile(r"[0-9a-f]{64}")


class Ingests:
    """The ingests of a layout.

    Args:
        root: The layout.
        finish: Told what an ingest became, see `unpacker.content.writer.IngestWriter`.
    """

    def __init__(self, root: str, finish: Finish) -> None:
        self._root = root
        self._finish = finish

    def open(
        self, ref: str, size: int | None, digest: Digest | None, wait: float, on_wait: OnWait | None
    ) -> IngestWriter:
        """Begin an ingest, or go on with one; see `unpacker.content.store.Store.writer`."""
        try:
            here, lock = self._enter(name_of(ref), f"ingest {quoted(ref)}", wait, on_wait)
            try:
                return IngestWriter(self._root, ref, here, lock, self._finish, size=size, digest=digest)
            except BaseException:
                lock.release()
                os.close(here)
                raise
        except OSError as error:
            error.add_note(f"opening ingest {quoted(ref)}")
            raise

    def status(self, ref: str) -> Status:
        """Give how far an ingest is."""
        try:
            with directory(self._root) as root, directory("ingest", root) as ingests:
                found = _status(ingests, name_of(ref))
        except FileNotFoundError:
            found = None
        if found is None:
            raise self._not_found(ref)
        return found

    def all(self) -> Iterator[Status]:
        """Give how far each ingest is."""
        try:
            with directory(self._root) as root, directory("ingest", root) as ingests:
                for name in os.listdir(ingests):
                    found = _status(ingests, name)
                    if found is not None:
                        yield found
        except FileNotFoundError:
            return

    def abort(self, ref: str) -> None:
        """Throw an ingest away, or what is left of one."""
        if not self.has(ref):
            raise self._not_found(ref)
        here, lock = self._enter(name_of(ref), f"ingest {quoted(ref)}")
        try:
            remove(self._root, here, name_of(ref))
        finally:
            lock.release()
            os.close(here)

    def sweep(self) -> int:
        """Remove what is left of ingests that were killed before they had a reference; give how many there were."""
        try:
            names = os.listdir(os.path.join(self._root, "ingest"))
        except FileNotFoundError:
            return 0
        return sum(self._swept(name) for name in names if _NAME.fullmatch(name))

    def _swept(self, name: str) -> bool:
        with directory(self._root) as root, directory("ingest", root) as ingests:
            if _status(ingests, name) is not None:
                return False
            try:
                here, lock = self._enter(name, "the rest of an ingest")
            except (LockedError, NotADirectoryError):
                return False  # It is just being begun, or is nothing of ours.
            try:
                # Somebody may have begun it while nobody had the lock.
                rest = _status(ingests, name) is None
                if rest:
                    remove(self._root, here, name)
                return rest
            finally:
                lock.release()
                os.close(here)

    def has(self, ref: str) -> bool:
        """Whether there is anything of an ingest."""
        return os.path.isdir(os.path.join(self._root, "ingest", name_of(ref)))

    def _enter(self, name: str, what: str, wait: float = 0.0, on_wait: OnWait | None = None) -> tuple[int, Lock]:
        """Open the directory of an ingest, made if it is not there, and take its lock."""
        path = os.path.join(self._root, "ingest", name)
        while True:
            with directory(self._root) as root, directory("ingest", root, make=True) as ingests:
                try:
                    here = open_directory(name, ingests, make=True)
                except FileNotFoundError:
                    continue  # It was there, and is no more: somebody's ingest is complete.
            lock = Lock(os.path.join(path, "lock"), where=self._root, what=what)
            try:
                lock.acquire(wait, on_wait)
                if _is_at(here, path):
                    return here, lock
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(here)
                raise
            # Whom we waited for has removed the directory, its lock included, since the ingest is complete.
            lock.release()
            os.close(here)

    def _not_found(self, ref: str) -> IngestNotFoundError:
        return IngestNotFoundError(store=self._root, ref=ref)


def name_of(ref: str) -> str:
    """Give the name of an ingest's directory: references may hold anything."""
    return hashlib.sha256(ref.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def remove(root: str, here: int, name: str) -> None:
    """Remove the directory of an ingest, whose lock is held.

    Its data goes first, so that what a killed process leaves is small, then the reference, without which what is left
    is no ingest; and the lock last.
    """
    first = ("data", "ref")
    rest = [file for file in os.listdir(here) if file not in {*first, "lock"}]
    for file in (*first, *rest, "lock"):
        with suppress(FileNotFoundError):
            os.unlink(file, dir_fd=here)
    with directory(root) as top, directory("ingest", top) as ingests, suppress(OSError):
        # Somebody who waited may have made it anew by now.
        os.rmdir(name, dir_fd=ingests)


def _status(ingests: int, name: str) -> Status | None:
    """Read how far an ingest is; None if there is none of this name, or no more."""
    try:
        with directory(name, ingests) as here:
            ref = read_text(here, "ref")
            if ref is None or name_of(ref) != name:
                return None
            started = os.stat("ref", dir_fd=here).st_mtime_ns
            try:
                data = os.stat("data", dir_fd=here, follow_symlinks=False)
                offset, updated = data.st_size, data.st_mtime_ns
            except FileNotFoundError:
                offset, updated = 0, started
            return Status(
                ref=ref,
                offset=offset,
                total=read_number(here),
                expected=read_digest(here),
                started=started,
                updated=updated,
            )
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_at(fd: int, path: str) -> bool:
    """Whether an open directory is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False
