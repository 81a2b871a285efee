"""The content store on disk: an OCI image layout, readable and writable, shared by any number of processes.

Beside what image-layout.md knows it has ``labels`` and ``ingest``, and the locks ``labels/.lock`` and
``.index.json.lock``, which other programs pass over (docs/formats.md).  Reading needs no lock, and writes nothing.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.content.files import directory, replace
from unpacker.content.ingests import Ingests, name_of, remove
from unpacker.content.layout import Layout
from unpacker.content.names import IndexFile, lock_index
from unpacker.content.reader import BytesReader, FileReader
from unpacker.content.store import Info, check_announced, digest_of, infos_that_match, statuses_that_match
from unpacker.errors import (
    AlreadyExistsError,
    BlobNotFoundError,
    DestinationError,
    LockedError,
    UnpackError,
)
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest, InvalidDigestError
from unpacker.spec.labels import merged, updated
from unpacker.tree.rights import make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unpacker.content.store import OnWait, Reader, Status, Writer

_OWN = frozenset({"oci-layout", "index.json", "blobs", "ingest", "labels"})


class ContentStore(Layout):
    """A layout that can be written to as well; see `unpacker.content.store.Store` for what its methods promise.

    Args:
        path: Where it is.
        create: Make it if there is none: the path must lead nowhere, or to an empty directory.

    Attributes:
        labels: What is known of its blobs.
        names: What the images in it are called.

    Raises:
        LayoutNotFoundError, DocumentError, UnsupportedError: See `Layout.open`.
        DestinationError: There is something else at this path.
    """

    names: IndexFile

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False) -> None:
        root = os.fspath(path)
        if create:
            _create(root)
        Layout.open(root)
        super().__init__(root)
        self.names = IndexFile(root)
        self._ingests = Ingests(root, self._finish)

    def __repr__(self) -> str:
        return f"<ContentStore {self._root}>"

    # -- blobs ---------------------------------------------------------------------------------------------------------

    def info(self, digest: Digest) -> Info:
        """Give what is known of a blob."""
        size, created = self._stat(digest)
        labels = self.labels.get(digest)
        updated_at = self.labels.changed(digest) or created
        return Info(digest=digest, size=size, created=created, updated=updated_at, labels=labels)

    def update(self, info: Info, *fieldpaths: str) -> Info:
        """Change the labels of a blob."""
        self._stat(info.digest)
        self.labels.change(info.digest, lambda old: updated(old, info.labels, fieldpaths))
        return self.info(info.digest)

    def walk(self, *selection: str) -> Iterator[Info]:
        """Give all blobs, or those that match; damaged labels are told in the info of their blob, and stop nothing."""
        matches = infos_that_match(selection)
        return (info for info in self._walk() if matches(info))

    def _walk(self) -> Iterator[Info]:
        for digest in self._digests():
            try:
                yield self.info(digest)
            except BlobNotFoundError:
                continue  # It was deleted meanwhile, or is a directory or a link, and no blob.
            except UnpackError as fault:
                with suppress(BlobNotFoundError):
                    size, created = self._stat(digest)
                    updated_at = self.labels.changed(digest) or created
                    yield Info(digest=digest, size=size, created=created, updated=updated_at, fault=fault)

    def _digests(self) -> Iterator[Digest]:
        """Give the digests that are names of files, in their order."""
        top = os.path.join(self._root, "blobs")
        for algorithm in _listed(top):
            for encoded in _listed(os.path.join(top, algorithm)):
                with suppress(InvalidDigestError):
                    yield Digest.parse(f"{algorithm}:{encoded}")

    def delete(self, digest: Digest) -> None:
        """Remove a blob and its labels."""
        self._stat(digest)
        algorithm, encoded = digest.path_parts
        try:
            with directory(self._root) as root, directory("blobs", root) as blobs, directory(algorithm, blobs) as place:
                os.unlink(encoded, dir_fd=place)
        except FileNotFoundError:
            raise self._not_found(digest) from None
        except OSError as error:
            error.add_note(f"deleting blob {digest}")
            raise
        self.labels.remove(digest)

    def reader(self, blob: Digest | Descriptor) -> Reader:
        """Open a blob to be read in any order; what is embedded in its descriptor is verified, and used instead."""
        if isinstance(blob, Descriptor) and blob.data is not None:
            with self.blob(blob) as embedded:
                return BytesReader(b"".join(iter(embedded.read, b"")))
        return FileReader(self._blob_path(digest_of(blob)), blob)

    def _stat(self, digest: Digest) -> tuple[int, int]:
        """Give the size of a blob, and when it was written."""
        path = self._blob_path(digest)
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise self._not_found(digest) from None
        if not stat.S_ISREG(status.st_mode):
            raise self._not_found(digest)
        return status.st_size, status.st_mtime_ns

    def _not_found(self, digest: Digest) -> BlobNotFoundError:
        return BlobNotFoundError(digest=str(digest), path=self._blob_path(digest))

    # -- ingests -------------------------------------------------------------------------------------------------------

    def writer(
        self,
        ref: str,
        size: int | None = None,
        digest: Digest | None = None,
        *,
        wait: float = 0.0,
        on_wait: OnWait | None = None,
    ) -> Writer:
        """Begin an ingest, or go on with one; the caller closes it."""
        check_announced(ref, size, digest)
        self._refuse_what_is_there(ref, size, digest)
        writer = self._ingests.open(ref, size, digest, wait, on_wait)
        try:
            # Whom we waited for may have brought it.
            self._refuse_what_is_there(ref, size, digest, writer)
        except BaseException:
            writer.close()
            raise
        return writer

    def _refuse_what_is_there(
        self, ref: str, size: int | None, digest: Digest | None, writer: Writer | None = None
    ) -> None:
        try:
            found = None if digest is None else self._stat(digest)[0]
        except BlobNotFoundError:
            return
        if found is None or (size is not None and found != size):
            return  # It is damaged, and will be replaced.
        if writer is not None:
            writer.close()
        # A process that was killed after it had committed has left its ingest.
        with suppress(LockedError, OSError):
            if self._ingests.has(ref):
                self._ingests.abort(ref)
        raise AlreadyExistsError(where=self._root, what=f"blob {digest}")

    def status(self, ref: str) -> Status:
        """Give how far an ingest is, whoever may be writing."""
        return self._ingests.status(ref)

    def list_statuses(self, *selection: str) -> list[Status]:
        """Give all ingests, or those that match, in the order of their references."""
        matches = statuses_that_match(selection)
        return sorted((status for status in self._ingests.all() if matches(status)), key=lambda status: status.ref)

    def abort(self, ref: str) -> None:
        """Throw an ingest away."""
        self._ingests.abort(ref)

    def cleanup(self) -> int:
        """Remove what killed processes left and nothing can be made of, but no ingest; give how much it was.

        Raises:
            OSError: Something cannot be removed.
        """
        return self._ingests.sweep() + self.labels.sweep() + self.names.sweep()

    def _finish(self, here: int, ref: str, digest: Digest, labels: Mapping[str, str]) -> Info:
        with suppress(OSError):  # The blob is there, whatever becomes of what is left.
            remove(self._root, here, name_of(ref))
        if labels:
            self.labels.change(digest, lambda old: merged(old, labels))
        return self.info(digest)


def _listed(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _create(root: str) -> None:
    """Make a layout, or complete one whose making was interrupted."""
    try:
        make_directory(root, 0o777)
    except FileExistsError:
        if not os.path.isdir(root):
            raise DestinationError(path=root, why="is no directory") from None
    if _is_complete(root):
        return
    with directory(root) as top, lock_index(root):
        with directory("blobs", top, make=True) as blobs, directory("sha256", blobs, make=True):
            pass
        if not os.path.lexists(os.path.join(root, "index.json")):
            replace(top, "index.json", b'{"schemaVersion":2,"manifests":[]}\n')
        # Last: it makes the directory a layout.
        replace(top, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')
        os.fsync(top)


def _is_complete(root: str) -> bool:
    """Whether there is a layout, or the name of one at least; it may lack parts, but nothing else may be there."""
    found = set(os.listdir(root))
    if "oci-layout" in found:
        return True
    if not {name for name in found if not name.startswith(".")} <= _OWN:
        raise DestinationError(path=root, why="is no layout, and not empty")
    return False
