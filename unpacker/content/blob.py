"""Blobs, verified while they are read (descriptor.md, Verification).

A blob is read once, front to back.  Whoever reads it to its end knows that every byte was right; whoever stops earlier
knows nothing.  Its file may be anything that a hostile layout puts there, so only a regular file is opened, no link is
followed, and not more than one byte beyond its declared size is ever read: no fifo hangs it, and no device feeds it
for ever.  Links in the directories above it are the caller's own business.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING

from unpacker.content.hashing import Hashing
from unpacker.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    LimitError,
    SizeMismatchError,
    UnsupportedError,
)
from unpacker.tree.whereabouts import at

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from unpacker.spec.descriptor import Descriptor

CHUNK = 256 << 10
# Windows has none of the first three, and needs the last.
_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}

_WITHOUT_LINKS = "no link is followed: of a layout made of links, as Bazel leaves them, unpack what cp -RL makes of it"


class VerifiedBlob:
    """The bytes of a descriptor, from a file or embedded in it; a context manager that closes the file.

    Attributes:
        digest: What the bytes must hash to.
        size: How many there must be.
        done: How many have been read.
        hashing: Their digest so far.
        lazy: Whether others go on with the digest, when they have time; else it is done when something has been read.
    """

    def __init__(self, descriptor: Descriptor, file: io.FileIO | io.BytesIO) -> None:
        self.digest = descriptor.digest
        self.size = descriptor.size
        self.done = 0
        self.hashing = Hashing(descriptor.digest)
        self.lazy = False
        self._file = file

    @classmethod
    def open(cls, path: str, descriptor: Descriptor) -> Self:
        """Open the file of a blob.

        Raises:
            BlobNotFoundError: There is none.
            SizeMismatchError: It has another size, which is known before a byte of it is read.
            UnsupportedError: It is no regular file, or its digest's algorithm is unknown.
        """
        digest = descriptor.digest
        digest.require_supported()
        try:
            fd, actual = open_regular(path)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobNotFoundError(digest=str(digest), path=path, urls=descriptor.urls) from None
        except OSError as error:
            error.add_note(f"opening blob {digest}")
            raise
        if actual != descriptor.size:
            os.close(fd)
            raise SizeMismatchError(digest=str(digest), expected=descriptor.size, actual=actual)
        return cls(descriptor, io.FileIO(fd))

    @classmethod
    def embedded(cls, descriptor: Descriptor, data: bytes) -> Self:
        """Read a blob from its descriptor's ``data``, which is no more trusted than a file.

        Raises:
            SizeMismatchError: It has another size.
            UnsupportedError: Its digest's algorithm is unknown.
        """
        if len(data) != descriptor.size:
            raise SizeMismatchError(digest=str(descriptor.digest), expected=descriptor.size, actual=len(data))
        return cls(descriptor, io.BytesIO(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing more can be read."""
        self._file.close()

    def read(self, n: int = CHUNK) -> bytes:
        """Read at most ``n`` bytes; ``b""`` only at the end, and only if all that was read is what it should be.

        Raises:
            SizeMismatchError: There are less or more bytes than there should be.
            DigestMismatchError: They are others.
        """
        try:
            # One byte more than there should be shows a file that grew since it was opened.
            chunk = self._file.read(min(max(n, 1), self.size - self.done + 1))
        except OSError as error:
            error.add_note(f"reading blob {self.digest}")
            raise
        if not chunk:
            self._verify()
            return b""
        self.done += len(chunk)
        if self.done > self.size:
            raise SizeMismatchError(digest=str(self.digest), expected=self.size, actual=self.done, more=True)
        self.hashing.add(chunk)
        if not self.lazy:
            self.hashing.go_on(wait=True)
        return chunk

    def drain(self) -> None:
        """Read to the end, and so verify what has not been read yet."""
        while self.read():
            pass

    def _verify(self) -> None:
        if self.done != self.size:
            raise SizeMismatchError(digest=str(self.digest), expected=self.size, actual=self.done)
        actual = self.hashing.hexdigest()
        if actual != self.digest.encoded:
            actual = f"{self.digest.algorithm}:{actual}"
            raise DigestMismatchError(expected=str(self.digest), actual=actual)


def open_regular(path: str) -> tuple[int, int]:
    """Open a regular file for reading; give its descriptor, which the caller closes, and its size.

    Raises:
        UnsupportedError: It is something else, such as a symbolic link.
        OSError: It is not there, or may not be read.
    """
    # Asked before it is opened, since opening a device may do something; and again after, since it may be another now.
    _require_regular(path, os.lstat(path).st_mode)
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        _require_regular(path, status.st_mode)
    except BaseException:
        os.close(fd)
        raise
    return fd, status.st_size


def _require_regular(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        found = _KINDS.get(stat.S_IFMT(mode), "special file")
        raise UnsupportedError(
            subject=path,
            kind="file type",
            found=found,
            supported=("regular file",),
            advice=_WITHOUT_LINKS if stat.S_ISLNK(mode) else None,
        )


def read_regular(path: str, most: int, limit: str) -> bytes:
    """Read a whole regular file that has no descriptor.

    Args:
        path: Where it is.
        most: How many bytes it may have.
        limit: The limit's name, for the error.

    Raises:
        LimitError: It has more.
        UnsupportedError: It is no regular file.
        OSError: It is not there, or may not be read.
    """
    with at(f"reading {path}"):
        fd, size = open_regular(path)
        with io.FileIO(fd) as file:
            chunks, left = [], most + 1
            while left > 0 and (chunk := file.read(min(left, CHUNK))):
                chunks.append(chunk)
                left -= len(chunk)
    if left <= 0:
        raise LimitError(limit=limit, allowed=most, found=max(size, most + 1), what=f"{path}: bytes of the file")
    return b"".join(chunks)
