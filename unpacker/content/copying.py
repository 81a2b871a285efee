"""One blob from a store into another, verified on its way in."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.errors import AlreadyExistsError, DigestMismatchError, IngestNotFoundError, LockedError, UnpackError
from unpacker.tree.lock import FOREVER

if TYPE_CHECKING:
    from unpacker.content.store import OnProgress, OnWait, Store
    from unpacker.spec.descriptor import Descriptor


def copy_blob(
    source: Store,
    target: Store,
    descriptor: Descriptor,
    *,
    wait: float = FOREVER,
    on_wait: OnWait | None = None,
    on_progress: OnProgress | None = None,
) -> bool:
    """Copy a blob, unless it is there; whether it was copied.

    Between two stores on one filesystem that shares blocks it takes no space and no time but that of hashing.  A copy
    that was interrupted is gone on with, by whoever comes next; what another process is just copying is waited for.

    Args:
        source: Where it is, or embedded in its descriptor.
        target: Where it should be.
        descriptor: Which blob, and what it must be.
        wait: Seconds to wait for another process that copies it.
        on_wait: Told for whom.
        on_progress: Told how many bytes there are so far.

    Raises:
        BlobNotFoundError: The source does not have it.
        SizeMismatchError, DigestMismatchError: It is not what it is said to be; nothing of it is left.
        LockedError: Somebody else is still copying it.
        OSError: There is no room, or a disk fails; what was copied can be gone on with.
    """
    ref = f"copy {descriptor.digest}"
    while True:
        try:
            writer = target.writer(ref, descriptor.size, descriptor.digest, wait=wait, on_wait=on_wait)
        except AlreadyExistsError:
            return False
        resumed = writer.status().offset > 0
        try:
            with writer, source.reader(descriptor) as reader:
                writer.write_from(reader, on_progress)
                writer.commit()
        except AlreadyExistsError:
            return False
        except UnpackError as error:
            with suppress(IngestNotFoundError, LockedError):  # Somebody else is at it by now.
                target.abort(ref)
            if resumed and isinstance(error, DigestMismatchError):
                continue  # A power cut may have spoilt what was there; alone the source may be right.
            raise
        return True
