"""What a content store is: the vocabulary, and the protocol that each of them keeps (containerd's ``content.Store``).

A store holds *blobs*, each under the digest of its bytes, and with it labels.  A blob does not change, and comes in as
an *ingest*: bytes that are written under a *reference*, which its writer chose, until they are committed::

    with store.writer("layer 3", size, digest) as writer:      # nobody else can write under this reference
        writer.write_from(reader)                               # or write(), as often as it takes
        writer.commit()                                         # size and digest are right, or it is refused

A writer that is closed, or whose process ends, leaves its ingest where it is.  Another writer of the same reference
goes on from there, at ``writer.status().offset``; `abort` throws it away.  Times are nanoseconds since 1970.
"""

from __future__ import annotations

from unpacker.errors import UsageError
from unpacker.record import Record
from unpacker.spec import filters
from unpacker.spec.descriptor import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Protocol, Self

    from unpacker.content.blob import VerifiedBlob
    from unpacker.errors import UnpackError
    from unpacker.limits import Limits
    from unpacker.spec.digest import Digest
    from unpacker.spec.documents import Index
    from unpacker.tree.lock import Holder

    OnProgress = Callable[[int], None]
    """Told how many bytes of the blob there are so far."""
    OnWait = Callable[[Holder], None]
    """Told once for whom a call has to wait."""
else:
    Protocol = object  # a word to type checkers only; importing typing takes longer than opening a store

CHUNK = 1 << 20
_LONGEST_REF = 4096


# -- values ------------------------------------------------------------------------------------------------------------


class Info(Record):
    """What is known of a blob."""

    digest: Digest
    size: int
    created: int
    """When it was committed."""
    updated: int
    """When its labels were last changed, or it was created."""
    labels: Mapping[str, str] = {}
    fault: UnpackError | None = None
    """Why its labels cannot be read: they are damaged, and ``labels`` is empty.  Only `Store.walk` tells so."""


class Status(Record):
    """How far an ingest is."""

    ref: str
    offset: int
    """Bytes that are there."""
    total: int | None
    """Bytes that there will be, if its writer said so."""
    expected: Digest | None
    """Digest that they will have, if its writer said so."""
    started: int
    updated: int
    """When bytes last came."""


# -- protocols ---------------------------------------------------------------------------------------------------------


class Reader(Protocol):
    """The bytes of a blob in any order, as they are: who reads in order, once, takes `VerifiedBlob` instead."""

    size: int

    def read(self, size: int = -1, /) -> bytes:
        """Read from the position on; ``b""`` at the end."""

    def pread(self, size: int, offset: int, /) -> bytes:
        """Read at most so many bytes at an offset; the position stays."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position, as files do."""

    def tell(self) -> int:
        """Give the position."""

    def close(self) -> None:
        """Let go of it."""

    def __enter__(self) -> Self:
        """Hold it open."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""


class Writer(Protocol):
    """One ingest, and the only one under its reference; a context manager that closes it.

    After `close` and `commit`, whatever came of it, only `close` may be called.
    """

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append all of these bytes; give how many.

        Raises:
            OSError: There is no room, or the disk fails; what was written before counts, and can be gone on with.
        """

    def write_from(self, reader: Reader, on_progress: OnProgress | None = None) -> None:
        """Append what a reader has beyond what is there: the ingest becomes all of it, and nothing is taken twice."""

    def status(self) -> Status:
        """Give how far it is."""

    def digest(self) -> Digest:
        """Give the digest of what was written, in the algorithm that was announced, else sha256."""

    def truncate(self, size: int = 0, /) -> None:
        """Start over.

        Raises:
            UsageError: The size is not 0.
        """

    def commit(
        self, size: int | None = None, digest: Digest | None = None, labels: Mapping[str, str] | None = None
    ) -> Info:
        """Make what was written a blob, which outlives a power cut from here on, and close the writer.

        Args:
            size: How many bytes it must have; by default, as many as were announced, if any were.
            digest: What they must hash to; by default, what was announced, else anything.
            labels: Labels of the blob.

        Raises:
            SizeMismatchError, DigestMismatchError: It is another; the ingest stays, and can be gone on with.
            AlreadyExistsError: The blob is in the store; the ingest is removed.
            UsageError: A label cannot be kept; the writer stays open.
        """

    def close(self) -> None:
        """Let go of the ingest, and leave it where it is; more than once does no harm."""

    def __enter__(self) -> Self:
        """Hold it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""


class Names(Protocol):
    """What images are called: entries of the layout's index, each a descriptor with a name among its annotations."""

    def all(self) -> dict[str, tuple[Descriptor, ...]]:
        """Give every name, and what it stands for: several descriptors are one image for several platforms."""

    def add(self, name: str | None, *descriptors: Descriptor, replace: bool = False) -> None:
        """Give a manifest or an index a name, or enter it without one; several are one image for several platforms.

        Raises:
            AlreadyExistsError: The name stands for something else, and ``replace`` was not asked for.
            UsageError: It is no name.
        """

    def remove(self, name: str) -> tuple[Descriptor, ...]:
        """Take a name away, and give what it stood for; the blobs stay.

        Raises:
            ReferenceNotFoundError: There is no such name.
            AmbiguousReferenceError: It is the short name of several images.
        """


class Images(Protocol):
    """Where images are found: their names, and their documents by digest."""

    def index(self, limits: Limits = ..., /) -> Index:
        """Give the index of the images in it."""

    def document(self, descriptor: Descriptor, limits: Limits = ..., /) -> bytes:
        """Read a whole blob, verified."""


class Store(Images, Protocol):
    """Bytes by digest."""

    @property
    def names(self) -> Names:
        """What images in it are called."""

    def info(self, digest: Digest) -> Info:
        """Give what is known of a blob.

        Raises:
            BlobNotFoundError: It is not in the store.
            DocumentError: Its labels are damaged.
        """

    def update(self, info: Info, *fieldpaths: str) -> Info:
        """Change the labels of a blob to those of ``info``, by containerd's rules.

        Args:
            info: Which blob, and its new labels.
            fieldpaths: ``labels.KEY`` changes only this one (an empty value, or none, deletes it); ``labels``, or no
                path at all, replaces all of them.

        Returns:
            What is known of it now.

        Raises:
            BlobNotFoundError: It is not in the store.
            UsageError: A field path names something else, or a label cannot be kept.
            DocumentError: Its labels are damaged, and left as they are.
            LockedError: Somebody else is writing labels.
        """

    def walk(self, *selection: str) -> Iterator[Info]:
        """Give all blobs, or those that match one of some filters, in the order of their digests.

        Args:
            selection: Filters (`unpacker.spec.filters`) on ``digest``, ``size`` and ``labels.KEY``.

        Raises:
            UsageError: A filter cannot be read.
        """

    def delete(self, digest: Digest) -> None:
        """Remove a blob and its labels, whoever may need it.

        Raises:
            BlobNotFoundError: It is not in the store.
        """

    def reader(self, blob: Digest | Descriptor) -> Reader:
        """Open a blob to be read in any order; the caller closes it.

        Raises:
            BlobNotFoundError: It is not in the store.
            SizeMismatchError: It has another size than its descriptor says.
        """

    def blob(self, descriptor: Descriptor) -> VerifiedBlob:
        """Open a blob to be read once, front to back, and verified; see `VerifiedBlob`."""

    def writer(
        self,
        ref: str,
        size: int | None = None,
        digest: Digest | None = None,
        *,
        wait: float = 0.0,
        on_wait: OnWait | None = None,
    ) -> Writer:
        """Begin an ingest, or go on with one; the caller closes it.

        Bytes are gone on with only if what was announced of them before does not contradict what is announced now.

        Args:
            ref: What the ingest is called.
            size: How many bytes there will be, if that is known.
            digest: What they will hash to, if that is known.
            wait: Seconds to wait for another writer of this reference, or `unpacker.tree.lock.FOREVER`.
            on_wait: Told for whom, if there is somebody.

        Raises:
            AlreadyExistsError: The blob of this digest is in the store.
            LockedError: Somebody else is still writing under this reference.
            UsageError: The reference is empty or too long.
            UnsupportedError: The digest's algorithm is unknown.
        """

    def status(self, ref: str) -> Status:
        """Give how far an ingest is, whoever may be writing.

        Raises:
            IngestNotFoundError: There is none.
        """

    def list_statuses(self, *selection: str) -> list[Status]:
        """Give all ingests, or those that match one of some filters on ``ref``, in the order of their references."""

    def abort(self, ref: str) -> None:
        """Throw an ingest away.

        Raises:
            IngestNotFoundError: There is none.
            LockedError: Somebody is writing.
        """


# -- what all stores do the same way -----------------------------------------------------------------------------------


def infos_that_match(selection: Iterable[str]) -> Callable[[Info], bool]:
    """Read filters of blobs.

    Raises:
        UsageError: One cannot be read.
    """
    matches = filters.parse(selection, ("digest", "size", "labels"), ("size",))

    def lookup(info: Info, path: tuple[str, ...]) -> str | None:
        if path[0] == "labels":
            return info.labels.get(".".join(path[1:]))
        return str(info.digest if path[0] == "digest" else info.size)

    return lambda info: matches(lambda path: lookup(info, path))


def statuses_that_match(selection: Iterable[str]) -> Callable[[Status], bool]:
    """Read filters of ingests; raises as `infos_that_match`."""
    matches = filters.parse(selection, ("ref",))
    return lambda status: matches(lambda _path: status.ref)


def check_announced(ref: str, size: int | None, digest: Digest | None) -> None:
    """Refuse what no ingest can be called, or become.

    Raises:
        UsageError: The reference is empty, too long or no text, or the size is negative.
        UnsupportedError: The digest's algorithm is unknown.
    """
    try:
        length = len(ref.encode())
    except UnicodeEncodeError:
        length = 0
    if not 0 < length <= _LONGEST_REF:
        raise UsageError(f"the reference of an ingest must be a text of 1 to {_LONGEST_REF} bytes")
    if size is not None and size < 0:
        raise UsageError(f"no blob has a size of {size}")
    if digest is not None:
        digest.require_supported()


def digest_of(blob: Digest | Descriptor) -> Digest:
    """Give the digest of what may be a descriptor."""
    return blob.digest if isinstance(blob, Descriptor) else blob
