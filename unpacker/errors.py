"""Every error of the package, in one tree.

::

    UnpackError
    ├── UsageError                 a reference, a platform or an option that cannot be read       exit 2
    ├── NotFoundError              what was asked for is not there                                exit 3
    │   ├── LayoutNotFoundError        no OCI layout at this path
    │   ├── ReferenceNotFoundError     no image of this name or digest in the layout
    │   ├── AmbiguousReferenceError    more than one image, and nothing says which
    │   ├── PlatformNotFoundError      no manifest for this platform
    │   ├── BlobNotFoundError          a blob that the image names is not in the layout
    │   ├── IngestNotFoundError        nothing is being written under this reference
    │   └── SnapshotNotFoundError      no snapshot of this name or key in the store
    ├── IntegrityError             the bytes are not what they are said to be                     exit 4
    │   ├── DocumentError              a JSON document that is damaged or breaks the specification
    │   ├── SizeMismatchError          a blob of another size than its descriptor says
    │   ├── DigestMismatchError        a blob whose bytes give another digest
    │   ├── DiffIdMismatchError        a layer that decompresses to something else
    │   ├── LayerCountError            as many layers as diff_ids, or it is no image
    │   └── CorruptLayerError          a broken compressed stream or tar archive
    ├── ContentError               the bytes are intact, and refused                              exit 5
    │   ├── UnsupportedError           a kind of thing that this program does not handle
    │   ├── UnsafeEntryError           a tar entry that no root filesystem can hold
    │   ├── LimitError                 more of something than was allowed
    │   └── LossError                  something could not be applied, and ``strict`` was asked for
    └── FilesystemError            the host's side of it                                          exit 6
        ├── DestinationError           DEST cannot be used as it is
        ├── RoomError                  less would stay free on the filesystem than is to be kept
        ├── AlreadyExistsError         what should be made is there
        ├── LockedError                somebody else is at it
        ├── SnapshotStateError         a snapshot is in another state than the call needs
        ├── StoreOwnerError            a snapshot store belongs to another user
        └── MountError                 the kernel does not mount, or unmount

Each class carries its facts as attributes and writes its own sentence from them, on one line.  ``code`` is a stable
word for programs; ``hint`` is what to try next, if there is something to try.  All of them pickle, since a layer may be
applied by another process.  A failing system call stays the ``OSError`` that it is, with a note that says what it was
doing (see `unpacker.tree`); the command line gives it exit status 6.
"""

from __future__ import annotations

from unpacker.record import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, dataclass_transform
else:
    from unpacker.record import dataclass_transform

_LONGEST_NAME = 400
"""Characters of a name that a message shows; nearly all paths of real images are shorter."""


def quoted(name: bytes | str) -> str:
    r"""Give a name from an image as one printable word in quotes: control and undecodable bytes read ``\xNN``.

    A name may be as long as a header or a document; of a long one only the beginning is given.
    """
    most = _LONGEST_NAME + 1
    text = name[: 4 * most].decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    shown = []
    for char in text[:most]:
        if "\udc80" <= char <= "\udcff":
            shown.append(f"\\x{ord(char) - 0xDC00:02x}")
        elif char in "\\'":
            shown.append("\\" + char)
        elif char.isprintable():
            shown.append(char)
        else:
            shown.append(ascii(char)[1:-1])
    if len(shown) == most:
        shown[-1] = "…"
    return "'" + "".join(shown) + "'"


def word(name: bytes | str) -> str:
    """Give a name as it is, if it is short and printable; else what `quoted` gives, without the quotes."""
    if isinstance(name, str) and len(name) <= _LONGEST_NAME and name.isprintable():
        return name
    return quoted(name)[1:-1]


def _listed(names: tuple[str, ...], most: int = 12) -> str:
    """Give names separated by commas, cut after ``most`` of them."""
    return ", ".join(map(word, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass_transform(kw_only_default=True)
class UnpackError(Exception):
    """What this package raises when an image cannot be unpacked; catch this one to catch them all.

    The facts of an error are the annotated names of its class, as in a `unpacker.record.Record`.
    """

    code: ClassVar[str] = "error"
    _fields: ClassVar[Fields] = Fields()

    def __init_subclass__(cls, *, kw_only: bool = True) -> None:
        cls._fields = cls._fields.extended(cls.__annotations__, kw_only=kw_only)

    def __init__(self, *values: Any, **given: Any) -> None:
        super().__init__(*values)
        if self._fields.names:  # a family by itself is an exception like any other
            self.__dict__.update(self._fields.bind(type(self), values, given))

    @property
    def hint(self) -> str | None:
        """What to try next, in one sentence; None where there is nothing to try."""
        return None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by facts: the classes below take keywords, which ``Exception`` alone would not restore."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[UnpackError], values: tuple[object, ...], facts: dict[str, object]) -> UnpackError:
    error = kind.__new__(kind, *values)
    error.__dict__.update(facts)
    return error


# -- 2: what was asked for cannot be read ------------------------------------------------------------------------------


class UsageError(UnpackError, kw_only=False):
    """A reference, a platform or an option that cannot be read."""

    code: ClassVar[str] = "usage"
    message: str
    advice: str | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def hint(self) -> str | None:
        """Say what can be read."""
        return self.advice


# -- 3: not there ------------------------------------------------------------------------------------------------------


class NotFoundError(UnpackError):
    """What was asked for is not there."""

    code: ClassVar[str] = "not-found"


class LayoutNotFoundError(NotFoundError):
    """No OCI image layout at this path (image-layout.md)."""

    code: ClassVar[str] = "layout-not-found"
    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}: not an OCI image layout: {self.why}"


class ReferenceNotFoundError(NotFoundError):
    """No image of this name or digest in the layout."""

    code: ClassVar[str] = "reference-not-found"
    layout: str
    reference: str | None
    """None: any would have done."""
    available: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.layout}: no image" + (f" {quoted(self.reference)}" if self.reference is not None else "")

    @property
    def hint(self) -> str:
        """Name the references that are there."""
        return f"the layout has: {_listed(self.available)}" if self.available else "the layout names no image"


class AmbiguousReferenceError(NotFoundError):
    """More than one image, and nothing says which."""

    code: ClassVar[str] = "reference-ambiguous"
    layout: str
    reference: str | None
    available: tuple[str, ...]

    def __str__(self) -> str:
        asked = "no reference given" if self.reference is None else f"reference {quoted(self.reference)}"
        return f"{self.layout}: {asked}, and {len(self.available)} images match"

    @property
    def hint(self) -> str:
        """Name the candidates."""
        return f"choose one of: {_listed(self.available)}"


class PlatformNotFoundError(NotFoundError):
    """No manifest for this platform in the index."""

    code: ClassVar[str] = "platform-not-found"
    index: str
    platform: str
    available: tuple[str, ...]

    def __str__(self) -> str:
        return f"index {self.index}: no manifest for platform {self.platform}"

    @property
    def hint(self) -> str:
        """Name the platforms that are there."""
        if not self.available:
            return "the index has no image for any platform"
        return f"the index has: {_listed(self.available)}; choose one with --platform"


class BlobNotFoundError(NotFoundError):
    """A blob that the image names is not in the layout, which a layout may leave out (image-layout.md, Blobs)."""

    code: ClassVar[str] = "blob-not-found"
    digest: str
    path: str | None
    """None: the store has no files."""
    urls: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.path is None:
            return f"blob {self.digest} is not in the store"
        return f"blob {self.digest} is not in the layout (looked for {self.path})"

    @property
    def hint(self) -> str | None:
        """Say that foreign layers are never fetched."""
        return "its descriptor names URLs, which are never fetched" if self.urls else None


class IngestNotFoundError(NotFoundError):
    """Nothing is being written to a store under this reference, nor was left unfinished."""

    code: ClassVar[str] = "ingest-not-found"
    store: str
    ref: str

    def __str__(self) -> str:
        return f"{self.store}: no ingest {quoted(self.ref)}"


class StoreNotFoundError(NotFoundError):
    """No snapshot store at this path."""

    code: ClassVar[str] = "store-not-found"
    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}: not a snapshot store: {self.why}"

    @property
    def hint(self) -> str:
        """Say what makes one."""
        return "unpacking an image into it makes one: unpack --store DIR, unpacker mounts --store DIR"


class SnapshotNotFoundError(NotFoundError):
    """No snapshot of this name or key in the store."""

    code: ClassVar[str] = "snapshot-not-found"
    store: str
    name: str

    def __str__(self) -> str:
        return f"{self.store}: no snapshot {quoted(self.name)}"


# -- 4: not what it is said to be --------------------------------------------------------------------------------------


class IntegrityError(UnpackError):
    """The bytes are not what they are said to be."""

    code: ClassVar[str] = "integrity"


class DocumentError(IntegrityError):
    """A JSON document that is damaged, or breaks the specification.

    ``source`` is a file name or a digest, ``where`` a JSON path such as ``layers[2].size`` (empty: the whole document).
    """

    code: ClassVar[str] = "document"
    source: str
    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        place = f"{self.source}: {self.where}" if self.where else self.source
        return f"{place}: expected {self.expected}, found {self.found}"


class SizeMismatchError(IntegrityError):
    """A blob of another size than its descriptor says; ``actual`` may be a lower bound, as reading stops at once."""

    code: ClassVar[str] = "size-mismatch"
    digest: str
    expected: int
    actual: int
    more: bool = False

    def __str__(self) -> str:
        least = "at least " if self.more else ""
        return f"blob {self.digest}: size mismatch: expected {self.expected} bytes, actual {least}{self.actual} bytes"


class DigestMismatchError(IntegrityError):
    """A blob whose bytes give another digest than its name."""

    code: ClassVar[str] = "digest-mismatch"
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"blob {self.expected}: digest mismatch: expected {self.expected}, actual {self.actual}"


class DiffIdMismatchError(IntegrityError):
    """A layer that decompresses to something else than the config's diff_id says (config.md, Layer DiffID)."""

    code: ClassVar[str] = "diff-id-mismatch"
    layer: str
    index: int
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"layer {self.index} ({self.layer}): diff_id mismatch: expected {self.expected}, actual {self.actual}"


class LayerCountError(IntegrityError):
    """The manifest has not as many layers as the config has diff_ids."""

    code: ClassVar[str] = "layer-count"
    manifest: str
    layers: int
    diff_ids: int

    def __str__(self) -> str:
        return f"manifest {self.manifest}: {self.layers} layers, but its config has {self.diff_ids} diff_ids"


class InLayerError(UnpackError):
    """An error with a place inside a layer: which one, where in its tar stream, which entry.  Never raised itself."""

    layer: str | None = None
    entry: bytes | None = None
    offset: int | None = None

    def place(self) -> str:
        """Give the place as the beginning of a sentence."""
        parts = [f"layer {self.layer}"] if self.layer is not None else []
        if self.entry is not None:
            parts.append(f"entry {quoted(self.entry)}")
        if self.offset is not None:
            parts.append(f"at offset {self.offset}")
        return " ".join(parts) + ": " if parts else ""


class CorruptLayerError(InLayerError, IntegrityError, kw_only=False):
    """A compressed stream or a tar archive that is broken; ``offset`` counts decompressed bytes."""

    code: ClassVar[str] = "corrupt-layer"
    what: str

    def __str__(self) -> str:
        return self.place() + self.what


# -- 5: intact, and refused --------------------------------------------------------------------------------------------


class ContentError(UnpackError):
    """The bytes are intact, and refused."""

    code: ClassVar[str] = "content"


class UnsupportedError(ContentError):
    """A kind of thing that this program does not handle: ``subject`` has a ``kind`` (media type …) of ``found``."""

    code: ClassVar[str] = "unsupported"
    subject: str
    kind: str
    found: str
    supported: tuple[str, ...] = ()
    advice: str | None = None

    def __str__(self) -> str:
        return f"{self.subject}: unsupported {self.kind} {self.found}"

    @property
    def hint(self) -> str | None:
        """Say what to do instead, or what is supported."""
        return self.advice or (f"supported: {_listed(self.supported)}" if self.supported else None)


class UnsafeEntryError(InLayerError, ContentError, kw_only=False):
    """A tar entry that no root filesystem can hold, or that would reach out of it."""

    code: ClassVar[str] = "unsafe-entry"
    what: str

    def __str__(self) -> str:
        return self.place() + self.what


# Limits that end a count, which would have gone on.
_COUNTED = frozenset({"entries", "image_bytes", "index_manifests", "layer_bytes", "memory_bytes", "ratio", "xattrs"})


class LimitError(InLayerError, ContentError, kw_only=False):
    """More of something than `unpacker.limits.Limits` allows; ``limit`` is the name of the field there."""

    code: ClassVar[str] = "limit"
    limit: str
    allowed: int
    found: int
    what: str

    def __str__(self) -> str:
        return f"{self.place()}{self.what}: {self.found}, more than the limit of {self.allowed}"

    @property
    def hint(self) -> str:
        """Name the limit, and how to raise it: to what was found, or further if there may be more behind that."""
        value = max(self.found, 2 * self.allowed) if self.limit in _COUNTED else self.found
        return f"if you trust the image, raise the limit: --limit {self.limit}={value}"


def name_layer(error: UnpackError, digest: str) -> None:
    """Say of which layer an error is, that comes from where only the layer's bytes are known."""
    if isinstance(error, InLayerError) and error.layer is None:
        error.layer = digest
    if isinstance(error, UnsupportedError) and error.subject == "layer":  # how it is compressed
        error.subject = f"layer {digest}"


class LossError(ContentError):
    """Something could not be applied, and ``strict`` was asked for; ``losses`` counts by kind."""

    code: ClassVar[str] = "loss"
    losses: dict[str, int]
    first: str

    def __str__(self) -> str:
        counts = ", ".join(f"{kind} {count}" for kind, count in self.losses.items())
        return f"not everything could be applied ({counts}): {self.first}"

    @property
    def hint(self) -> str:
        """Say that the loss is refused on request only."""
        return "without --strict, losses are counted and reported"


# -- 6: the host's side ------------------------------------------------------------------------------------------------


class FilesystemError(UnpackError):
    """The host's side of it: paths, permissions, space."""

    code: ClassVar[str] = "filesystem"


class DestinationError(FilesystemError):
    """DEST cannot be used as it is."""

    code: ClassVar[str] = "destination"
    path: str
    why: str
    advice: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"

    @property
    def hint(self) -> str | None:
        """Say what would make it usable."""
        return self.advice


class RoomError(FilesystemError):
    """Less would stay free on the filesystem than `unpacker.limits.Limits` say: ``free`` and ``kept`` are bytes."""

    code: ClassVar[str] = "room"
    free: int
    kept: int

    def __str__(self) -> str:
        return f"the filesystem is nearly full: {self.free} bytes are free, less than the {self.kept} that stay free"

    @property
    def hint(self) -> str:
        """Name the limit, and how to lower it."""
        return f"make room and try again, or let less stay free: --limit free_bytes={max(self.free // 2, 1)}"


class AlreadyExistsError(FilesystemError):
    """What should be made is there: a blob, a name; ``what`` says which, ``where`` in what."""

    code: ClassVar[str] = "already-exists"
    where: str
    what: str
    advice: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what} exists already"

    @property
    def hint(self) -> str | None:
        """Say how to replace it, where that can be."""
        return self.advice


class LockedError(FilesystemError):
    """Somebody else holds what this call needs, and did not let go in the time that was given."""

    code: ClassVar[str] = "locked"
    where: str
    what: str
    pid: int | None = None
    """The process that holds it, if it said so."""
    since: str | None = None
    """Since when, in RFC 3339."""

    def __str__(self) -> str:
        holder = "somebody" if self.pid is None else f"process {self.pid}"
        return f"{self.where}: {self.what} is held by {holder}" + ("" if self.since is None else f" since {self.since}")

    @property
    def hint(self) -> str:
        """Say what can be done about it."""
        return "try again when it is done; what a process holds is free at once when it ends"


class SnapshotStateError(FilesystemError):
    """A snapshot is in another state than the call needs: it has children, is not committed, is a view."""

    code: ClassVar[str] = "snapshot-state"
    name: str
    why: str

    def __str__(self) -> str:
        return f"snapshot {quoted(self.name)}: {self.why}"


class StoreOwnerError(FilesystemError):
    """A snapshot store of another user, whom what is setuid in it would be open to."""

    code: ClassVar[str] = "store-owner"
    path: str
    owner: int
    caller: int

    def __str__(self) -> str:
        return f"{self.path}: a snapshot store of uid {self.owner}, and you are uid {self.caller}"

    @property
    def hint(self) -> str:
        """Say what to do instead."""
        return "use a store of your own, or become the owner of this one"


class MountError(FilesystemError):
    """The kernel does not mount, or unmount, something at ``target``; ``what`` says what was tried."""

    code: ClassVar[str] = "mount"
    target: str
    what: str
    why: str
    advice: str | None = None
    errno: int | None = None
    """What the system call said, if it was one that failed."""

    def __str__(self) -> str:
        return f"{self.target}: {self.what}: {self.why}"

    @property
    def hint(self) -> str | None:
        """Say what would make it possible, as far as that can be told."""
        return self.advice
