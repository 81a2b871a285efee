"""Blobs to be read in any order: from a file, or from memory."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from unpacker.content.blob import open_regular
from unpacker.errors import BlobNotFoundError, SizeMismatchError
from unpacker.spec.descriptor import Descriptor

if TYPE_CHECKING:
    from unpacker.spec.digest import Digest


class FileReader(io.FileIO):
    """A blob in a file (see `unpacker.content.store.Reader`): a raw file, so anything that takes files takes it.

    Attributes:
        size: Its size when it was opened.
    """

    def __init__(self, path: str, blob: Digest | Descriptor) -> None:
        """Open it.

        Raises:
            BlobNotFoundError: There is no such file.
            SizeMismatchError: It has another size than the descriptor says.
            UnsupportedError: It is no regular file.
        """
        digest = blob.digest if isinstance(blob, Descriptor) else blob
        try:
            fd, self.size = open_regular(path)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobNotFoundError(digest=str(digest), path=path) from None
        except OSError as error:
            error.add_note(f"opening blob {digest}")
            raise
        if isinstance(blob, Descriptor) and blob.size != self.size:
            os.close(fd)
            raise SizeMismatchError(digest=str(digest), expected=blob.size, actual=self.size)
        super().__init__(fd)

    def pread(self, size: int, offset: int, /) -> bytes:
        """Read at most so many bytes at an offset; the position stays."""
        return os.pread(self.fileno(), size, offset)


class BytesReader(io.BytesIO):
    """A blob in memory, see `unpacker.content.store.Reader`.

    Attributes:
        size: How many bytes there are.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = len(data)

    def pread(self, size: int, offset: int, /) -> bytes:
        """Read at most so many bytes at an offset; the position stays."""
        with self.getbuffer() as data:
            return bytes(data[offset : offset + size])
