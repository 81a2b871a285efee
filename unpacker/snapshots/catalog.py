"""The directory of a snapshot store: who is where in it, and how it changes hands.

docs/formats.md describes it::

    DIR/                          0700
      version                     "unpack-snapshots 1 overlay": format, its number, which kind of snapshotter
      snapshots/<alg>/<hex>/      one committed snapshot a chain_id: fs, snapshot.json
      active/<hash of key>/       prepared ones: fs, work, active.json
      images/<hash of name>.json  which image names which chain_id
      leases/                     chain_ids that a running process needs
      locks/                      one lock file a chain_id, and who holds it
      staging/                    what is in the making

A committed snapshot appears by one rename of a directory that is complete.  A record is replaced whole, by one rename.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from unpacker.content.blob import read_regular
from unpacker.errors import SnapshotNotFoundError, UnsupportedError
from unpacker.limits import DEFAULT
from unpacker.snapshots.record import SnapshotRecord
from unpacker.snapshots.snapshotter import Kind
from unpacker.spec.digest import Digest, InvalidDigestError
from unpacker.tree.directory import OPEN_DIRECTORY, WORKING_MODE
from unpacker.tree.lock import FOREVER, Holder, Lock
from unpacker.tree.private import Private, sweep
from unpacker.tree.remove import remove_at
from unpacker.tree.sync import sync_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FORMAT = 1
VERSION = "version"
RECORD = "snapshot.json"
ACTIVE = "active.json"
"""The record of an active snapshot has a name of its own: so one rename of the directory commits it."""
_DIRECTORIES = ("snapshots", "active", "images", "leases", "locks", "staging")


class Catalog:
    """The files of a snapshot store.

    Args:
        root: The directory; made if it is not there, but not its parents.
        kind: Which kind of snapshots it holds.

    Raises:
        UnsupportedError: It is of another format or kind, or something else altogether.
    """

    def __init__(self, root: str | os.PathLike[str], kind: str) -> None:
        self.root = os.path.abspath(root)
        self._version = f"unpack-snapshots {FORMAT} {kind}\n"
        self._open()
        self._staging = os.open(os.path.join(self.root, "staging"), OPEN_DIRECTORY)

    def close(self) -> None:
        """Close what is open; fine to call twice."""
        if self._staging >= 0:
            os.close(self._staging)
            self._staging = -1

    def _open(self) -> None:
        with suppress(FileExistsError):
            os.mkdir(self.root, WORKING_MODE)
        path = os.path.join(self.root, VERSION)
        try:
            found = read_regular(path, DEFAULT.document_bytes, "document_bytes").decode("ascii", "replace")
        except FileNotFoundError:
            if os.listdir(self.root) not in ([], *([name] for name in _DIRECTORIES)) and not self._half_made():
                why = "a directory with something else in it"
                raise UnsupportedError(subject=self.root, kind="snapshot store", found=why) from None
            self._make()
            return
        if found != self._version:
            supported = (self._version.strip(),)
            shown = found.strip()[:80]
            raise UnsupportedError(subject=path, kind="snapshot store", found=repr(shown), supported=supported)

    def _half_made(self) -> bool:
        """Whether an earlier run was killed while it made the store."""
        return {name for name in os.listdir(self.root) if not name.startswith(".version-")} <= set(_DIRECTORIES)

    def _make(self) -> None:
        os.chmod(self.root, WORKING_MODE)  # setuid files lie in here, whatever the umask was (CVE-2021-41103)
        for name in _DIRECTORIES:
            with suppress(FileExistsError):
                os.mkdir(os.path.join(self.root, name), WORKING_MODE)
        self._write(self.root, VERSION, self._version.encode())

    # -- where things are ----------------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Give the directory of a committed snapshot."""
        return os.path.join(self.root, "snapshots", *_parts(name))

    def active_path(self, key: str) -> str:
        """Give the directory of an active snapshot or a view."""
        return os.path.join(self.root, "active", _hash(key))

    def find(self, name: str) -> tuple[str, SnapshotRecord]:
        """Give directory and record of a committed snapshot, or else of an active one.

        Raises:
            SnapshotNotFoundError: There is none.
        """
        record = self.committed(name)
        return self.active(name) if record is None else (self.path(name), record)

    def active(self, key: str) -> tuple[str, SnapshotRecord]:
        """Give directory and record of an active snapshot.

        Raises:
            SnapshotNotFoundError: There is none.
        """
        path = self.active_path(key)
        try:
            return path, self._read(path, ACTIVE)
        except FileNotFoundError:
            raise SnapshotNotFoundError(store=self.root, name=key) from None

    def committed(self, name: str) -> SnapshotRecord | None:
        """Give the record of a committed snapshot, None if there is none."""
        try:
            return self._read(self.path(name))
        except FileNotFoundError:
            return None

    def _read(self, path: str, name: str = RECORD) -> SnapshotRecord:
        path = os.path.join(path, name)
        return SnapshotRecord.parse(read_regular(path, DEFAULT.document_bytes * 8, "document_bytes"), path)

    def records(self) -> Iterator[SnapshotRecord]:
        """Give the records of all snapshots, committed ones first; one that goes away meanwhile is passed over."""
        for name, paths in ((RECORD, list(self._committed_paths())), (ACTIVE, self._below("active"))):
            for path in paths:
                with suppress(FileNotFoundError):
                    yield self._read(path, name)

    def _committed_paths(self) -> Iterator[str]:
        for path in self._below("snapshots"):
            for name in sorted(os.listdir(path)):
                yield os.path.join(path, name)

    def _below(self, name: str) -> list[str]:
        path = os.path.join(self.root, name)
        return [os.path.join(path, each) for each in sorted(os.listdir(path))]

    # -- changes -------------------------------------------------------------------------------------------------------

    def staging(self) -> Private:
        """Give a new place to make something in."""
        return Private(self._staging)

    def sweep(self) -> int:
        """Remove what killed processes have left."""
        return sweep(self._staging) + self._sweep_leases()

    def write_record(self, directory: int, record: SnapshotRecord) -> None:
        """Write the record of a snapshot into its directory, in place of the one that is there."""
        name = RECORD if record.kind is Kind.COMMITTED else ACTIVE
        replace_file(directory, name, record.as_json())

    def replace(self, record: SnapshotRecord) -> None:
        """Write the record of a snapshot that is there anew."""
        committed = record.kind is Kind.COMMITTED
        with opened(self.path(record.name) if committed else self.active_path(record.name)) as directory:
            self.write_record(directory, record)

    def commit(self, path: str, record: SnapshotRecord, *, sync: bool) -> None:
        """Let an active snapshot appear as a committed one."""
        with opened(path) as directory:
            self.write_record(directory, record)
            if sync:
                sync_filesystem(directory)
        target = self.path(record.name)
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(target), WORKING_MODE)
        os.rename(path, target)
        with opened(target) as directory:
            for name in (ACTIVE, "work"):
                remove_at(directory, name)
        with opened(os.path.dirname(target)) as directory:
            os.fsync(directory)

    def publish(self, place: Private, name: str) -> None:
        """Let a complete directory appear as a committed snapshot."""
        parent = os.path.dirname(self.path(name))
        with suppress(FileExistsError):
            os.mkdir(parent, WORKING_MODE)
        self._move(place, parent, os.path.basename(self.path(name)))

    def activate(self, place: Private, key: str) -> None:
        """Let a complete directory appear as an active snapshot."""
        path = self.active_path(key)
        self._move(place, os.path.dirname(path), os.path.basename(path))

    def _move(self, place: Private, parent: str, name: str) -> None:
        with opened(parent) as directory:
            place.move(directory, name)
            os.fsync(directory)

    def remove(self, path: str) -> None:
        """Remove a snapshot: its name goes first, in one step, what is in it afterwards."""
        with self.staging() as place:
            os.rename(path, f"/proc/self/fd/{place.descriptor}/removed")

    def _write(self, directory: str, name: str, data: bytes) -> None:
        with opened(directory) as descriptor:
            replace_file(descriptor, name, data)

    # -- images --------------------------------------------------------------------------------------------------------

    def images(self) -> Iterator[dict[str, str]]:
        """Give the images that hold snapshots: ``name``, ``manifest``, ``chain_id``, ``platform``."""
        for path in self._below("images"):
            if path.endswith(".json"):
                with suppress(FileNotFoundError):
                    from unpacker.spec.strictjson import load  # noqa: PLC0415 -- few calls need it

                    yield load(read_regular(path, DEFAULT.document_bytes, "document_bytes"), path).string_map()

    def set_image(self, facts: dict[str, str]) -> None:
        """Note which chain_id an image stands for: it is a root for the garbage collection from then on."""
        name = f"{_hash(facts['name'])}.json"
        self._write(os.path.join(self.root, "images"), name, json.dumps(facts, indent=1, sort_keys=True).encode())

    def remove_image(self, name: str) -> bool:
        """Forget an image; False if there is none."""
        try:
            os.unlink(os.path.join(self.root, "images", f"{_hash(name)}.json"))
        except FileNotFoundError:
            return False
        return True

    # -- locks ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str, on_wait: Callable[[Holder], None] | None = None) -> Iterator[None]:
        """Hold the lock of a name, across processes; the kernel gives it back if the process is killed.

        Args:
            name: A chain_id, or another word.
            on_wait: Told, once, who holds it.
        """
        path = os.path.join(self.root, "locks", f"{_hash(name)}.lock")
        with Lock(path, where=self.root, what=name).acquire(FOREVER, on_wait):
            yield

    @contextmanager
    def lease(self, names: Iterable[str]) -> Iterator[None]:
        """Keep snapshots, there already or still to come, from being collected while the process lives."""
        path = os.path.join(self.root, "leases", os.urandom(8).hex())
        with self.lock("gc"):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, "\n".join(names).encode())
        try:
            yield
        finally:
            os.unlink(path)
            os.close(descriptor)

    def leased(self) -> set[str]:
        """Give the names that living processes keep."""
        found: set[str] = set()
        for path in self._below("leases"):
            with suppress(FileNotFoundError):
                found.update(read_regular(path, DEFAULT.document_bytes, "document_bytes").decode().split("\n"))
        return found - {""}

    def _sweep_leases(self) -> int:
        """Remove the leases of processes that have ended."""
        swept = 0
        with self.lock("gc"):
            for path in self._below("leases"):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)
                    swept += 1
                except BlockingIOError:
                    pass
                finally:
                    os.close(descriptor)
        return swept


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Give a descriptor of a directory."""
    descriptor = os.open(path, OPEN_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def replace_file(directory: int, name: str, data: bytes) -> None:
    """Put a file into a directory whole and durably, in place of the one that is there."""
    temporary = f".{name}-{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        remove_at(directory, temporary)
        raise
    os.fsync(directory)


def _hash(name: str) -> str:
    """Give a file name for any word: keys are the caller's, and never become a path."""
    return sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def _parts(name: str) -> tuple[str, str]:
    """Give where a committed snapshot is, below ``snapshots``: under its chain_id, or the hash of another name."""
    try:
        return Digest.parse(name).path_parts
    except InvalidDigestError:
        return "name", _hash(name)
