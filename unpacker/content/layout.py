"""An OCI image layout: a directory with ``oci-layout``, ``index.json`` and ``blobs/<algorithm>/<encoded>``.

Implements image-layout.md.  Files that it does not know are nobody's business, and blobs may be missing until they are
wanted.  Archives of layouts are not read.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from unpacker.content.blob import VerifiedBlob, read_regular
from unpacker.content.labels import LabelStore
from unpacker.errors import LayoutNotFoundError, LimitError, UnsupportedError
from unpacker.limits import DEFAULT, Limits
from unpacker.spec.documents import Index
from unpacker.spec.strictjson import load
from unpacker.tree.paths import overlap

if TYPE_CHECKING:
    from pathlib import Path

    from unpacker.spec.descriptor import Descriptor
    from unpacker.spec.digest import Digest

_VERSION = "1.0.0"


class Layout:
    """A layout that is there; what its files hold is read, and checked, when it is asked for.

    Attributes:
        labels: What is known of its blobs, kept beside them.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.labels = LabelStore(root)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Layout:
        """Find a layout.

        Raises:
            LayoutNotFoundError: There is none at this path.
            DocumentError: ``oci-layout`` is damaged.
            UnsupportedError: It is of another version.
            OSError: It cannot be looked at.
        """
        root = os.fspath(path)
        why = _what_is_missing(root)
        if why is not None:
            raise LayoutNotFoundError(path=root, why=why)
        layout = cls(root)
        layout._check_version()
        return layout

    def __repr__(self) -> str:
        return f"<Layout {self._root}>"

    def __fspath__(self) -> str:
        return self._root

    @property
    def path(self) -> Path:
        """Where it is."""
        from pathlib import Path  # noqa: PLC0415 - not needed to unpack, and slow to import

        return Path(self._root)

    def index(self, limits: Limits = DEFAULT) -> Index:
        """Read ``index.json``, as it is now.

        Raises:
            DocumentError: It is damaged.
            LimitError: It is too large.
        """
        path = os.path.join(self._root, "index.json")
        data = read_regular(path, limits.document_bytes, "document_bytes")
        return Index.parse(data, path, limits, null_is_empty=True)

    def blob(self, descriptor: Descriptor) -> VerifiedBlob:
        """Open a blob, which the caller closes; what is embedded in its descriptor is used instead of a file.

        Raises:
            BlobNotFoundError: It is not in the layout.
            SizeMismatchError: It has another size.
            UnsupportedError: It is no regular file, or its digest's algorithm is unknown.
        """
        if descriptor.data is not None:
            return VerifiedBlob.embedded(descriptor, descriptor.data)
        return VerifiedBlob.open(self._blob_path(descriptor.digest), descriptor)

    def document(self, descriptor: Descriptor, limits: Limits = DEFAULT) -> bytes:
        """Read a whole blob, verified: for documents, which fit into memory.

        Raises:
            LimitError: It is too large for a document.
            BlobNotFoundError, SizeMismatchError, DigestMismatchError, UnsupportedError: See `blob`.
        """
        if descriptor.size > limits.document_bytes:
            what = f"{descriptor.digest}: bytes of a JSON document"
            raise LimitError(limit="document_bytes", allowed=limits.document_bytes, found=descriptor.size, what=what)
        with self.blob(descriptor) as blob:
            return b"".join(iter(blob.read, b""))

    def clashes(self, path: str | os.PathLike[str]) -> bool:
        """Whether a tree at a path would lie among the layout's own files, or replace the layout."""
        parts = ("blobs", "blobs/sha256", "blobs/sha512", "labels")  # each of them may be a link to elsewhere
        return any(overlap(path, os.path.join(self._root, part)) for part in parts)

    def blob_path(self, digest: Digest) -> Path:
        """Give the place of a blob, there or not."""
        return self.path.joinpath("blobs", *digest.path_parts)

    def _blob_path(self, digest: Digest) -> str:
        return os.path.join(self._root, "blobs", *digest.path_parts)

    def _check_version(self) -> None:
        path = os.path.join(self._root, "oci-layout")
        document = load(read_regular(path, DEFAULT.document_bytes, "document_bytes"), path)
        version = document.required("imageLayoutVersion")
        if version.text() != _VERSION:
            raise UnsupportedError(subject=path, kind="imageLayoutVersion", found=version.word(), supported=(_VERSION,))


def _what_is_missing(root: str) -> str | None:
    """Say why a path is no layout; None if it is one.

    Raises:
        OSError: It cannot be looked at: what may not be seen, or not be read, is not missing.
    """
    mode = _mode(root)
    if mode is None:
        return "no such directory" if _mode(root, follow=False) is None else "it is no directory"
    if stat.S_ISREG(mode):
        return "it is a file; an archive of a layout must be extracted first"
    if not stat.S_ISDIR(mode):
        return "it is no directory"
    for name in ("oci-layout", "index.json"):
        mode = _mode(os.path.join(root, name), follow=False)
        if mode is None:
            docker = name == "oci-layout" and _mode(os.path.join(root, "manifest.json"), follow=False) is not None
            return f"no file {name}" + ("; manifest.json alone is docker save's older format" if docker else "")
        if stat.S_ISDIR(mode):
            return f"{name} is a directory"
    mode = _mode(os.path.join(root, "blobs"))
    return None if mode is not None and stat.S_ISDIR(mode) else "no directory blobs"


def _mode(path: str, *, follow: bool = True) -> int | None:
    """Give the mode of what has a path; None if nothing has, or nothing can have."""
    try:
        return os.stat(path, follow_symlinks=follow).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG):
            raise
        return None
