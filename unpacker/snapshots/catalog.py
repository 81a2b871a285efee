"""The directory of a snapshot store: who is where in it, and how it changes hands.

docs/formats.md describes it::

    DIR/                          0700
      version                     "unpack-snapshots 1 overlay": format, its number, which kind of snapshotter
      snapshots/<alg>/<hex>/      one committed snapshot a chain_id: fs, snapshot.json, and merged (`merged`)
      active/<hash of key>/       prepared ones: fs, work, active.json
      images/<hash>.json          which image, by name and platform, stands for which chain_id
      leases/                     chain_ids that a running process needs
      locks/                      one lock file a chain_id, and who holds it
      staging/                    what is in the making
      l/                          short names of snapshots, for mounts of many layers

A committed snapshot appears by one rename of a directory that is complete.  A record is replaced whole, by one rename.
What a killed process has left lies in ``staging`` and ``leases``, and is removed when the next one takes a lease.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from unpacker.content.blob import read_regular
from unpacker.errors import (
    AlreadyExistsError,
    DocumentError,
    LockedError,
    SnapshotNotFoundError,
    StoreOwnerError,
    UnsupportedError,
    UsageError,
    quoted,
)
from unpacker.limits import DEFAULT
from unpacker.snapshots.record import SnapshotRecord
from unpacker.snapshots.short import LINKS, sweep_links
from unpacker.snapshots.snapshotter import Kind
from unpacker.spec.digest import Digest, InvalidDigestError
from unpacker.tree.directory import OPEN_DIRECTORY, WORKING_MODE
from unpacker.tree.lock import FOREVER, Holder, Lock
from unpacker.tree.private import Private, sweep
from unpacker.tree.remove import remove_at
from unpacker.tree.rights import make_directory, regain_file
from unpacker.tree.whereabouts import at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FORMAT = 1
VERSION = "version"
RECORD = "snapshot.json"
ACTIVE = "active.json"
"""The record of an active snapshot has a name of its own: so one rename of the directory commits it."""
IMAGE = ("name", "platform", "manifest", "chain_id")
"""What the file of an image says."""
_UNFINISHED = re.compile(r"\.[a-z0-9.]+\.json\.new")
"""See `replace_file`."""
_DIRECTORIES = ("snapshots", "active", "images", "leases", "locks", "staging")
_OWN = frozenset({*_DIRECTORIES, LINKS, VERSION, f".{VERSION}.new"})
_LONGEST_NAME = 4096
"""Bytes of a key or a name, as of a label: it stands in records."""
_SHOWN = 64


class Catalog:
    """The files of a snapshot store.

    Args:
        root: The directory; made if it is not there, but not its parents.
        kind: Which kind of snapshots it holds.
        sync: Whether what appears in it is on the disk before, and stays through a power cut.

    Raises:
        UnsupportedError: It is of another format or kind, or something else altogether.
    """

    def __init__(self, root: str | os.PathLike[str], kind: str, *, sync: bool = True) -> None:
        self.root = os.path.abspath(root)
        self._sync = sync
        self._version = f"unpack-snapshots {FORMAT} {kind}\n"
        self._open()

    def _open(self) -> None:
        with suppress(FileExistsError):
            make_directory(self.root)
        path = os.path.join(self.root, VERSION)
        found = self._found_version(path)
        if found is None:
            strange = sorted(name for name in os.listdir(self.root) if name not in _OWN)
            if strange:
                why = f"a directory with something else in it, {quoted(strange[0])}"
                raise UnsupportedError(subject=self.root, kind="snapshot store", found=why)
            self._close_to_others()
            self._make()
            found = self._found_version(path)
        if found != self._version:
            shown = repr((found or "").strip()[:80])
            supported = (self._version.strip(),)
            raise UnsupportedError(subject=path, kind="snapshot store", found=shown, supported=supported)
        if os.path.lexists(os.path.join(self.root, VERSION.upper())):  # nor would overlayfs take layers from there
            why = "on a filesystem that takes upper and lower case for one"
            raise UnsupportedError(subject=self.root, kind="snapshot store", found=why)
        self._close_to_others()

    def _found_version(self, path: str) -> str | None:
        try:
            return read_regular(path, DEFAULT.document_bytes, "document_bytes").decode("ascii", "replace")
        except FileNotFoundError:
            return None

    def _close_to_others(self) -> None:
        """Let nobody but the owner in: setuid files of any image lie in here (CVE-2021-41103), and paths are trusted.

        Raises:
            StoreOwnerError: It is somebody else's, who could run what is setuid in here, and lead this process astray.
        """
        status = os.stat(self.root)
        if status.st_uid != os.geteuid():
            raise StoreOwnerError(path=self.root, owner=status.st_uid, caller=os.geteuid())
        if stat.S_IMODE(status.st_mode) & ~WORKING_MODE:
            os.chmod(self.root, WORKING_MODE)

    def _make(self) -> None:
        """Make what is in a store; another process may be doing so, or may have been killed while it did."""
        for name in _DIRECTORIES:
            with suppress(FileExistsError):
                make_directory(os.path.join(self.root, name))
        with self.lock("version"):
            if not os.path.lexists(os.path.join(self.root, VERSION)):
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
            return path, self.read(path, ACTIVE)
        except FileNotFoundError:
            raise SnapshotNotFoundError(store=self.root, name=key) from None

    def check_free(self, name: str) -> None:
        """Refuse a key, or a name, that is taken, or that is none; the caller holds the lock ``gc``.

        Raises:
            AlreadyExistsError: A snapshot has it.
            UsageError: It cannot be one.
        """
        why = _fault(name)
        if why is not None:
            raise UsageError(f"snapshot name {quoted(name[:_SHOWN])}: {why}")
        if os.path.lexists(self.path(name)) or os.path.lexists(self.active_path(name)):
            raise AlreadyExistsError(where=self.root, what=f"snapshot {quoted(name)}")

    def committed(self, name: str) -> SnapshotRecord | None:
        """Give the record of a committed snapshot, None if there is none."""
        try:
            return self.read(self.path(name))
        except FileNotFoundError:
            return None

    def read(self, path: str, name: str = RECORD) -> SnapshotRecord:
        """Read the record in the directory of a snapshot.

        Raises:
            DocumentError: It is damaged.
            FileNotFoundError, NotADirectoryError: There is none.
        """
        path = os.path.join(path, name)
        return SnapshotRecord.parse(read_regular(path, DEFAULT.document_bytes * 8, "document_bytes"), path)

    def records(self) -> Iterator[SnapshotRecord]:
        """Give the records of all snapshots, committed ones first; one that goes away meanwhile is passed over.

        Raises:
            DocumentError: One is damaged; that is said after all others have been given.
        """
        damaged: list[DocumentError] = []
        for name, paths in ((RECORD, self.committed_paths()), (ACTIVE, self.active_paths())):
            for path in paths:
                try:
                    yield self.read(path, name)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except DocumentError as error:
                    damaged.append(error)
        if damaged:
            raise damaged[0]

    def committed_paths(self) -> list[str]:
        """Give the directories of all committed snapshots."""
        found = []
        for path in self._below("snapshots"):
            try:
                found += [os.path.join(path, name) for name in sorted(os.listdir(path))]
            except NotADirectoryError:
                found.append(path)  # It is none of ours, which `unpacker.snapshots.fsck` says.
        return found

    def active_paths(self) -> list[str]:
        """Give the directories of all active snapshots and views."""
        return self._below("active")

    def _below(self, name: str) -> list[str]:
        path = os.path.join(self.root, name)
        return [os.path.join(path, each) for each in sorted(os.listdir(path))]

    # -- changes -------------------------------------------------------------------------------------------------------

    @contextmanager
    def staging(self) -> Iterator[Private]:
        """Give a new place to make something in; what is still there in the end is removed."""
        # Opened each time: one from before belongs to another mount, should the caller have gone to other namespaces.
        with opened(os.path.join(self.root, "staging")) as holder, Private(holder) as place:
            yield place

    def sweep(self) -> int:
        """Remove what killed processes have left; give how many things that were."""
        with self.lock("gc"):
            links = sweep_links(self.root)
        return self._sweep_staging() + self._sweep_leases() + self._sweep_files() + links

    def _sweep_staging(self) -> int:
        with opened(os.path.join(self.root, "staging")) as holder:
            return sweep(holder)

    def _sweep_leases(self) -> int:
        with self.lock("gc"):
            return self._remove_leases()

    def _sweep_files(self) -> int:
        """Remove what was never put in place, and what a snapshot that was committed had as an active one.

        Nobody writes any of it without this lock.
        """
        swept = 0
        with self.lock("gc"):
            for path in self.committed_paths():
                if os.path.lexists(os.path.join(path, ACTIVE)):
                    self._settle(path)
                    swept += 1
            for path in [os.path.join(self.root, "images"), *self.committed_paths(), *self.active_paths()]:
                with suppress(NotADirectoryError):
                    for name in filter(_UNFINISHED.fullmatch, os.listdir(path)):
                        os.unlink(os.path.join(path, name))
                        swept += 1
        return swept

    def write_record(self, directory: int, record: SnapshotRecord) -> None:
        """Write the record of a snapshot into its directory, in place of the one that is there."""
        self.write_file(directory, RECORD if record.kind is Kind.COMMITTED else ACTIVE, record.as_json())

    def write_file(self, directory: int, name: str, data: bytes) -> None:
        """Put a small file into a directory (`replace_file`)."""
        replace_file(directory, name, data, sync=self._sync)

    def replace(self, record: SnapshotRecord) -> None:
        """Write the record of a snapshot that is there anew."""
        committed = record.kind is Kind.COMMITTED
        with opened(self.path(record.name) if committed else self.active_path(record.name)) as directory:
            self.write_record(directory, record)

    def commit(self, path: str, record: SnapshotRecord) -> None:
        """Let an active snapshot, which is on the disk, appear as a committed one; the caller holds the lock ``gc``."""
        with opened(path) as directory:
            self.write_record(directory, record)
        target = self.path(record.name)
        with self._parent(target) as directory:
            os.rename(path, target)
            self.sync(directory)
        self._settle(target)

    def _settle(self, path: str) -> None:
        """Take off a committed snapshot what it had as an active one; the record goes last, as the sign that it did."""
        with opened(path) as directory:
            for name in ("work", ACTIVE):
                remove_at(directory, name)

    def publish(self, place: Private, name: str) -> None:
        """Let a complete directory appear as a committed snapshot."""
        with self._parent(self.path(name)) as directory:
            place.move(directory, os.path.basename(self.path(name)))
            self.sync(directory)

    def activate(self, place: Private, key: str) -> None:
        """Let a complete directory appear as an active snapshot."""
        with self._parent(self.active_path(key)) as directory:
            place.move(directory, os.path.basename(self.active_path(key)))
            self.sync(directory)

    def attach(self, place: Private, path: str) -> None:
        """Let a complete directory appear in that of a committed snapshot; the caller holds the lock ``gc``."""
        parent, name = os.path.split(path)
        with opened(parent) as directory:
            place.move(directory, name)
            self.sync(directory)

    @contextmanager
    def _parent(self, path: str) -> Iterator[int]:
        """Give a descriptor of the directory that something shall be in; it is made, and stays through a power cut."""
        parent = os.path.dirname(path)
        try:
            make_directory(parent)
        except FileExistsError:
            pass
        else:
            with opened(os.path.dirname(parent)) as above:
                self.sync(above)
        with opened(parent) as directory:
            yield directory

    def sync(self, directory: int) -> None:
        """Let what has come into a directory, or gone from it, stay through a power cut."""
        if self._sync:
            os.fsync(directory)

    def take(self, path: str, place: Private, name: str = "removed") -> None:
        """Take a snapshot away, in one step and for good; its files go when the private place does."""
        os.rename(path, name, dst_dir_fd=place.descriptor)
        with opened(os.path.dirname(path)) as directory:
            self.sync(directory)  # Before any of its files goes: a power cut must not bring back half of it.

    def _write(self, directory: str, name: str, data: bytes) -> None:
        with at(f"writing {os.path.join(directory, name)}"), opened(directory) as descriptor:
            self.write_file(descriptor, name, data)

    # -- images --------------------------------------------------------------------------------------------------------

    def images(self) -> Iterator[dict[str, str]]:
        """Give the images that hold snapshots: ``name``, ``manifest``, ``chain_id``, ``platform``."""
        for path in self.image_paths():
            image = self.read_image(path)
            if image is not None:
                yield image

    def image(self, name: str, platform: str) -> dict[str, str] | None:
        """Give what is known of an image, None if it is not there."""
        return self.read_image(self.image_path(name, platform))

    def image_paths(self) -> list[str]:
        """Give the files of all images."""
        return [path for path in self._below("images") if not _UNFINISHED.fullmatch(os.path.basename(path))]

    def image_path(self, name: str, platform: str) -> str:
        """Give the file of an image: one name may stand for one on each platform."""
        return os.path.join(self.root, "images", f"{_hash(f'{name} {platform}')}.json")

    def read_image(self, path: str) -> dict[str, str] | None:
        """Read the file of an image; None if there is none.

        Raises:
            DocumentError: It is damaged.
        """
        from unpacker.spec.strictjson import load  # noqa: PLC0415 -- few calls need it

        try:
            document = load(read_regular(path, DEFAULT.document_bytes, "document_bytes"), path)
        except FileNotFoundError:
            return None
        for key in IMAGE:
            document.required(key).text()
        return document.string_map()

    def set_image(self, facts: dict[str, str]) -> None:
        """Note which chain_id an image stands for: it is a root for the garbage collection from then on."""
        path = self.image_path(facts["name"], facts["platform"])
        with self.lock("gc"):
            with suppress(DocumentError):  # a damaged one is written anew
                if self.read_image(path) == facts:
                    return
            directory, name = os.path.split(path)
            self._write(directory, name, json.dumps(facts, indent=1, sort_keys=True).encode())

    def remove_image(self, name: str, platform: str) -> bool:
        """Forget an image; False if there is none."""
        try:
            os.unlink(self.image_path(name, platform))
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

    def is_locked(self, name: str) -> bool:
        """Whether somebody holds the lock of a name at this moment."""
        path = os.path.join(self.root, "locks", f"{_hash(name)}.lock")
        if not os.path.exists(path):
            return False
        try:
            Lock(path, where=self.root, what=name).acquire().release()
        except LockedError:
            return True
        return False

    @contextmanager
    def lease(self, names: Iterable[str]) -> Iterator[None]:
        """Keep snapshots, there already or still to come, from being removed while the process lives.

        Whoever begins to work here removes what killed processes have left, so that it is never much.
        """
        path = os.path.join(self.root, "leases", os.urandom(8).hex())
        descriptor = -1
        try:
            with self.lock("gc"):
                self._remove_leases()
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                regain_file(descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                with open(descriptor, "wb", closefd=False) as file:
                    file.write("\n".join(names).encode())
            self._sweep_staging()
            yield
        finally:
            if descriptor >= 0:
                _let_go(path, descriptor)

    def leased(self) -> set[str]:
        """Give the names that living processes keep."""
        found: set[str] = set()
        for path in self._below("leases"):
            with suppress(FileNotFoundError):
                data = read_regular(path, DEFAULT.document_bytes, "document_bytes")
                found.update(data.decode("utf-8", "replace").split("\n"))  # what is damaged is nobody's name
        return found - {""}

    def _remove_leases(self) -> int:
        """Remove the leases of processes that have ended; the caller holds ``gc``, so none is in the making."""
        removed = 0
        for path in self._below("leases"):
            with (
                suppress(FileNotFoundError, BlockingIOError),
                open(path, "rb", buffering=0, opener=_open_no_link) as file,
            ):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
                removed += 1
        return removed


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _let_go(path: str, descriptor: int) -> None:
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
    finally:
        os.close(descriptor)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Give a descriptor of a directory."""
    descriptor = os.open(path, OPEN_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def replace_file(directory: int, name: str, data: bytes, *, sync: bool) -> None:
    """Put a file into a directory whole, and durably if that is wanted, in place of the one that is there.

    Only one at a time may do so, the holder of a lock: so what a killed one left is in nobody's way, and not for long.
    """
    temporary = f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with open(descriptor, "wb") as file:
            regain_file(descriptor)
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        remove_at(directory, temporary)
        raise
    if sync:
        os.fsync(directory)


def _hash(name: str) -> str:
    """Give a file name for any word: keys are the caller's, and never become a path."""
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _fault(name: str) -> str | None:
    """Say why something cannot be the name of a snapshot."""
    if not name:
        return "is empty"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "not Unicode text"
    return f"longer than {_LONGEST_NAME} bytes" if length > _LONGEST_NAME else None


def _parts(name: str) -> tuple[str, str]:
    """Give where a committed snapshot is, below ``snapshots``: under its chain_id, or the hash of another name."""
    try:
        return Digest.parse(name).path_parts
    except InvalidDigestError:
        return "name", _hash(name)
