"""The content store in memory: for tests of what uses stores, and for images that never touch a disk.

It does what `unpacker.content.disk.ContentStore` does, for the threads of one process, as long as it lives.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from unpacker.content.blob import VerifiedBlob
from unpacker.content.names import by_name, check_name, find, named, replaced
from unpacker.content.reader import BytesReader
from unpacker.content.store import (
    CHUNK,
    Info,
    Status,
    check_announced,
    digest_of,
    infos_that_match,
    statuses_that_match,
)
from unpacker.errors import (
    AlreadyExistsError,
    BlobNotFoundError,
    DigestMismatchError,
    IngestNotFoundError,
    LimitError,
    LockedError,
    SizeMismatchError,
    UsageError,
    quoted,
)
from unpacker.limits import DEFAULT, Limits
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest
from unpacker.spec.documents import Index
from unpacker.spec.labels import check, merged, updated
from unpacker.tree.lock import Holder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from unpacker.content.store import OnProgress, OnWait, Reader

_WHERE = "memory"
"""What errors call the store."""


class _Ingest:
    """Bytes on their way."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.total: int | None = None
        self.expected: Digest | None = None
        self.started = self.updated = time.time_ns()
        self.lock = threading.Lock()


class MemoryStore:
    """A content store in memory; see `unpacker.content.store.Store` for what its methods promise.

    Attributes:
        names: What the images in it are called.
    """

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        self._infos: dict[Digest, Info] = {}
        self._ingests: dict[str, _Ingest] = {}
        self._lock = threading.RLock()
        self.names = MemoryNames(self._lock)

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._blobs)} blobs>"

    # -- blobs ---------------------------------------------------------------------------------------------------------

    def info(self, digest: Digest) -> Info:
        """Give what is known of a blob."""
        try:
            return self._infos[digest]
        except KeyError:
            raise BlobNotFoundError(digest=str(digest), path=None) from None

    def update(self, info: Info, *fieldpaths: str) -> Info:
        """Change the labels of a blob."""
        with self._lock:
            old = self.info(info.digest)
            labels = updated(old.labels, info.labels, fieldpaths)
            new = self._infos[info.digest] = old.changed(labels=labels, updated=time.time_ns())
            return new

    def walk(self, *selection: str) -> Iterator[Info]:
        """Give all blobs, or those that match."""
        matches = infos_that_match(selection)
        return (info for digest in sorted(self._infos) if (info := self._infos.get(digest)) and matches(info))

    def delete(self, digest: Digest) -> None:
        """Remove a blob and its labels."""
        with self._lock:
            self.info(digest)
            del self._blobs[digest], self._infos[digest]

    def reader(self, blob: Digest | Descriptor) -> Reader:
        """Open a blob to be read in any order."""
        if isinstance(blob, Descriptor) and blob.data is not None:
            with self.blob(blob) as embedded:
                return BytesReader(b"".join(iter(embedded.read, b"")))
        digest = digest_of(blob)
        self.info(digest)
        data = self._blobs[digest]
        if isinstance(blob, Descriptor) and blob.size != len(data):
            raise SizeMismatchError(digest=str(digest), expected=blob.size, actual=len(data))
        return BytesReader(data)

    def blob(self, descriptor: Descriptor) -> VerifiedBlob:
        """Open a blob to be read once, and verified."""
        data = descriptor.data
        if data is None:
            self.info(descriptor.digest)
            data = self._blobs[descriptor.digest]
        return VerifiedBlob.embedded(descriptor, data)

    def document(self, descriptor: Descriptor, limits: Limits = DEFAULT, /) -> bytes:
        """Read a whole blob, verified."""
        if descriptor.size > limits.document_bytes:
            what = f"{descriptor.digest}: bytes of a JSON document"
            raise LimitError(limit="document_bytes", allowed=limits.document_bytes, found=descriptor.size, what=what)
        with self.blob(descriptor) as blob:
            return b"".join(iter(blob.read, b""))

    def index(self, limits: Limits = DEFAULT, /) -> Index:  # noqa: ARG002 - there is nothing to read
        """Give the index of the images in it."""
        return Index(media_type=None, manifests=tuple(self.names.entries), annotations={})

    # -- ingests -------------------------------------------------------------------------------------------------------

    def writer(
        self,
        ref: str,
        size: int | None = None,
        digest: Digest | None = None,
        *,
        wait: float = 0.0,
        on_wait: OnWait | None = None,
    ) -> MemoryWriter:
        """Begin an ingest, or go on with one; the caller closes it."""
        check_announced(ref, size, digest)
        while True:
            self._refuse_what_is_there(digest)
            with self._lock:
                ingest = self._ingests.setdefault(ref, _Ingest())
            if not ingest.lock.acquire(blocking=False):
                if not wait:
                    raise LockedError(where=_WHERE, what=f"ingest {quoted(ref)}")
                if on_wait is not None:
                    on_wait(Holder())
                if not ingest.lock.acquire(timeout=wait):
                    raise LockedError(where=_WHERE, what=f"ingest {quoted(ref)}")
            with self._lock:
                if self._ingests.get(ref) is ingest:
                    break
            ingest.lock.release()  # Whom we waited for has committed it.
        try:
            self._refuse_what_is_there(digest)
            return MemoryWriter(self, ref, ingest, size, digest)
        except BaseException:
            ingest.lock.release()
            raise

    def _refuse_what_is_there(self, digest: Digest | None) -> None:
        if digest in self._infos:
            raise AlreadyExistsError(where=_WHERE, what=f"blob {digest}")

    def status(self, ref: str) -> Status:
        """Give how far an ingest is, whoever may be writing."""
        with self._lock:
            if ref not in self._ingests:
                raise IngestNotFoundError(store=_WHERE, ref=ref)
            return _status(ref, self._ingests[ref])

    def list_statuses(self, *selection: str) -> list[Status]:
        """Give all ingests, or those that match, in the order of their references."""
        matches = statuses_that_match(selection)
        with self._lock:
            statuses = [_status(ref, ingest) for ref, ingest in sorted(self._ingests.items())]
        return [status for status in statuses if matches(status)]

    def abort(self, ref: str) -> None:
        """Throw an ingest away."""
        with self._lock:
            if ref not in self._ingests:
                raise IngestNotFoundError(store=_WHERE, ref=ref)
            if self._ingests[ref].lock.locked():
                raise LockedError(where=_WHERE, what=f"ingest {quoted(ref)}")
            del self._ingests[ref]

    def commit(self, ref: str, digest: Digest, data: bytes, labels: Mapping[str, str]) -> Info:
        """Take a blob from its writer, which has verified it."""
        with self._lock:
            del self._ingests[ref]
            if digest in self._infos:
                raise AlreadyExistsError(where=_WHERE, what=f"blob {digest}")
            now = time.time_ns()
            info = Info(digest=digest, size=len(data), created=now, updated=now, labels=merged(labels, {}))
            self._blobs[digest], self._infos[digest] = data, info
            return info


class MemoryWriter:
    """One ingest in memory, see `unpacker.content.store.Writer`."""

    def __init__(
        self, store: MemoryStore, ref: str, ingest: _Ingest, total: int | None, expected: Digest | None
    ) -> None:
        self._store = store
        self._ref = ref
        self._ingest: _Ingest | None = ingest
        fresh = False
        for name, new in (("total", total), ("expected", expected)):
            old = getattr(ingest, name)
            fresh = fresh or (old is not None and new is not None and old != new)
            setattr(ingest, name, old if new is None else new)
        if fresh or (ingest.total is not None and len(ingest.data) > ingest.total):
            ingest.data.clear()
        algorithm = "sha256" if ingest.expected is None else ingest.expected.algorithm
        self._digest = Digest.of(bytes(ingest.data), algorithm)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append bytes."""
        ingest = self._require_open()
        with memoryview(data).cast("B") as view:
            ingest.data += view
            ingest.updated = time.time_ns()
            return len(view)

    def write_from(self, reader: Reader, on_progress: OnProgress | None = None) -> None:
        """Append the rest of a reader."""
        reader.seek(len(self._require_open().data))
        while chunk := reader.read(CHUNK):
            self.write(chunk)
            if on_progress is not None:
                on_progress(len(self._require_open().data))

    def truncate(self, size: int = 0, /) -> None:
        """Start over."""
        ingest = self._require_open()
        if size:
            raise UsageError(f"an ingest is truncated to 0, not to {size}")
        ingest.data.clear()
        ingest.updated = time.time_ns()

    def status(self) -> Status:
        """Give how far it is."""
        return _status(self._ref, self._require_open())

    def digest(self) -> Digest:
        """Give the digest of what was written; after `commit`, of the blob."""
        if self._ingest is not None:
            self._digest = Digest.of(bytes(self._ingest.data), self._digest.algorithm)
        return self._digest

    def commit(
        self, size: int | None = None, digest: Digest | None = None, labels: Mapping[str, str] | None = None
    ) -> Info:
        """Verify what was written, and make it a blob."""
        ingest = self._require_open()
        labels = labels or {}
        check(labels)
        expected = digest or ingest.expected
        size = ingest.total if size is None else size
        data = bytes(ingest.data)
        actual = self._digest = Digest.of(data, (expected or self._digest).algorithm)
        try:
            if size is not None and size != len(data):
                raise SizeMismatchError(digest=str(expected or actual), expected=size, actual=len(data))
            if expected is not None and expected != actual:
                raise DigestMismatchError(expected=str(expected), actual=str(actual))
            return self._store.commit(self._ref, actual, data, labels)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the ingest."""
        if self._ingest is not None:
            self.digest()
            ingest, self._ingest = self._ingest, None
            ingest.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> _Ingest:
        if self._ingest is None:
            raise ValueError(f"the writer of ingest {quoted(self._ref)} is closed")
        return self._ingest


class MemoryNames:
    """What images in memory are called, see `unpacker.content.store.Names`."""

    def __init__(self, lock: threading.RLock) -> None:
        self.entries: list[Descriptor] = []
        self._lock = lock

    def all(self) -> dict[str, tuple[Descriptor, ...]]:
        """Give every name, and what it stands for."""
        with self._lock:
            return by_name(self.entries)

    def add(self, name: str | None, *descriptors: Descriptor, replace: bool = False) -> None:
        """Give a manifest or an index a name, or enter it without one."""
        check_name(name, descriptors)
        with self._lock:
            gone = replaced(_WHERE, self.entries, name, descriptors, force=replace)
            if gone is None:
                return
            place = min(gone, default=len(self.entries))
            self.entries = [entry for at, entry in enumerate(self.entries) if at not in gone]
            self.entries[place:place] = [named(each, name) for each in descriptors]

    def remove(self, name: str) -> tuple[Descriptor, ...]:
        """Take a name away, and give what it stood for."""
        with self._lock:
            gone = find(_WHERE, self.entries, name)
            removed = tuple(self.entries[at] for at in gone)
            self.entries = [entry for at, entry in enumerate(self.entries) if at not in gone]
            return removed


def _status(ref: str, ingest: _Ingest) -> Status:
    return Status(
        ref=ref,
        offset=len(ingest.data),
        total=ingest.total,
        expected=ingest.expected,
        started=ingest.started,
        updated=ingest.updated,
    )
