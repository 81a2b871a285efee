"""Reads the entries of a tar archive from a stream: v7, ustar, GNU and pax, strictly, in one pass, in flat memory.

The standard library's reader is not used, since a broken header ends an archive *silently* for it, negative sizes pass,
and times lose their nanoseconds.  This one ends in one of three ways: the end marker (two zero blocks), the end of the
stream at an entry's boundary (``umoci insert`` and others leave out the marker, and even the last padding), or an error
that names the offset.

What is refused although some reader takes it: a second long name or pax header for one entry, a name given by both pax
and GNU headers that differs, anything else between these headers and their entry, global pax headers that rename or
resize, data behind links, directories and devices, sparse maps of what is no file, unknown types.  Each of them is read
in two ways by two programs, which is how an entry hides from a scanner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import adler32

from unpacker.archive import pax, sparse
from unpacker.archive.header import (
    BLOCK,
    FIELDS,
    GNU_MAGIC,
    POSIX_MAGIC,
    PREFIX,
    SUM,
    ZERO_BLOCK,
    checksum_matches,
    number,
    prefix,
    text,
)
from unpacker.errors import CorruptLayerError, InLayerError, LimitError, UnsafeEntryError
from unpacker.limits import DEFAULT, Limits
from unpacker.spec.entry import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous: a regular file on every system there is
    b"S": Kind.FILE,  # old GNU sparse
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_EXTENSIONS = (b"x", b"g", b"L", b"K", b"X")
_VOLUME_LABEL = b"V"
_PLAIN = (POSIX_MAGIC + b"00", GNU_MAGIC)
_MODE_BITS = 0o7777
_SECOND = 10**9
_LITTLE = 4096
_ID_MAX = 2**32 - 2  # 2^32-1 means "leave it" to chown(2)
_DEVICE_MAX = 2**32 - 1
_SIZE_MAX = 2**63 - 1
_GLOBAL_REFUSED = (b"path", b"linkpath", b"size")
_CACHE_MOST = 4096


class _Pending:
    """What extension headers have said about the entry to come."""

    __slots__ = ("link", "name", "records")

    def __init__(self) -> None:
        self.records: pax.Records | None = None
        self.name: bytes | None = None
        self.link: bytes | None = None


class TarReader:
    """Iterates over the entries of a tar stream; between two of them, `data` gives the stored data of the first.

    Data that is not asked for is skipped.  Entries are values: they stay valid when the reader goes on.

    Args:
        chunks: The archive's bytes in order, in pieces of any size but zero.
        limits: Bounds on headers, entries and sparse maps.

    Raises (while iterating):
        CorruptLayerError: The archive is broken; the error has the offset, and the entry if its name is known.
        UnsafeEntryError: An entry that no two readers would agree about.
        LimitError: More than ``limits`` allows.
    """

    def __init__(self, chunks: Iterator[bytes], limits: Limits = DEFAULT) -> None:
        self._chunks = chunks
        self._limits = limits
        self._chunk = b""
        self._position = 0
        self._base = 0  # offset of the chunk in the stream
        self._left = 0  # stored data of the current entry that nobody took
        self._padding = 0
        self._numbers: dict[bytes, int] = {}
        self._sums: dict[bytes, int] = {}
        self._pending: _Pending | None = None
        self._entry: Entry | None = None  # what an error is about, once that has a name
        self.count = 0
        self.marked_end = False
        """Whether the archive had its end marker (two zero blocks)."""

    @property
    def offset(self) -> int:
        """Decompressed bytes taken from the stream so far."""
        return self._base + self._position

    def __iter__(self) -> Iterator[Entry]:
        most = self._limits.entries
        while True:
            if self._left:
                self._skip(self._left)
                self._left = 0
            if self._padding:
                self._skip_padding()
            offset = self._base + self._position
            self._entry = None
            try:
                block = self._block()
                if block is None:
                    if self._pending is not None:
                        raise CorruptLayerError("the archive ends behind an extension header, before its entry")
                    return
                entry = self._header(block, offset)
            except InLayerError as error:
                if error.offset is None:
                    error.offset = offset
                if error.entry is None:
                    error.entry = self._name()
                raise
            if entry is not None:
                self._pending = None
                self.count += 1
                if self.count > most:
                    raise LimitError(
                        "entries", most, self.count, "tar entries in a layer", entry=entry.name, offset=offset
                    )
                yield entry

    def data(self) -> Iterator[memoryview]:
        """Give the stored data of the current entry, in pieces; once only.

        Raises:
            CorruptLayerError: The archive ends before the data does.
        """
        while self._left:
            here = len(self._chunk) - self._position
            if not here:
                self._next_chunk("an entry's data")
                continue
            size = min(here, self._left)
            piece = memoryview(self._chunk)[self._position : self._position + size]
            self._position += size
            self._left -= size
            yield piece

    def whole(self) -> bytes | memoryview | None:
        """Give the stored data of the current entry in one piece, if it lies in one: for small files it mostly does."""
        size, start = self._left, self._position
        end = start + size
        if end > len(self._chunk):
            return None
        self._position = end
        self._left = 0
        # To copy a little costs less than to make a view of it.
        return self._chunk[start:end] if size < _LITTLE else memoryview(self._chunk)[start:end]

    # -- taking bytes ------------------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Put the next chunk in the place of the one that is used up; False at the end of the stream."""
        self._base += len(self._chunk)
        self._position = 0
        self._chunk = next(self._chunks, b"")
        return bool(self._chunk)

    def _next_chunk(self, what: str) -> None:
        if not self._advance():
            raise CorruptLayerError(f"the archive ends within {what}", entry=self._name(), offset=self.offset)

    def _name(self) -> bytes | None:
        return None if self._entry is None else self._entry.name

    def _take(self, size: int) -> bytes:
        """Take exactly ``size`` bytes."""
        start = self._position
        if start + size <= len(self._chunk):
            self._position = start + size
            return self._chunk[start : start + size]
        parts = []
        while size:
            here = self._chunk[self._position : self._position + size]
            self._position += len(here)
            size -= len(here)
            parts.append(here)
            if size:
                self._next_chunk("a header")
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size:
            here = min(len(self._chunk) - self._position, size)
            self._position += here
            size -= here
            if size:
                self._next_chunk("an entry's data")

    def _skip_padding(self) -> None:
        """Skip to the next block; the stream may end here, as some writers leave the last padding out."""
        size, self._padding = self._padding, 0
        if self._position + size <= len(self._chunk):
            self._position += size
            return
        while size:
            here = min(len(self._chunk) - self._position, size)
            self._position += here
            size -= here
            if size and not self._advance():
                return

    def _block(self) -> bytes | None:
        """Take the next header block; None at the end of the archive."""
        start = self._position
        if start + BLOCK <= len(self._chunk):
            self._position = start + BLOCK
            block = self._chunk[start : start + BLOCK]
        else:
            if start == len(self._chunk) and not self._advance():
                return None
            block = self._take(BLOCK)
        if block != ZERO_BLOCK:
            return block
        # One zero block may be the whole end marker, if the stream ends with it.
        if self._position == len(self._chunk) and not self._advance():
            return None
        if self._take(BLOCK) != ZERO_BLOCK:
            raise CorruptLayerError("a single zero block in the middle of the archive")
        self.marked_end = True
        return None

    # -- reading headers ---------------------------------------------------------------------------------------------

    def _header(self, block: bytes, offset: int) -> Entry | None:
        """Read one header block; None if it only says something about the entry to come."""
        name, mode, uid, gid, size, mtime, checksum, flag, link, magic = FIELDS.unpack_from(block)
        # For checksums that have been met before, this is all that `checksum_matches` comes to.
        if self._sums.get(checksum) != adler32(block) & SUM or not block.isascii():
            self._check_sum(block, checksum)
        numbers = self._numbers  # sizes, owners, modes and times repeat from file to file
        length = numbers.get(size)
        if length is None:
            length = self._number(size, "size")
        kind = _KINDS.get(flag)
        if kind is None and flag in _EXTENSIONS:
            self._extension(flag, length)
            return None
        end = name.find(0)
        if end >= 0:
            name = name[:end]
        if block[PREFIX] and (before := prefix(block, magic)):
            name = before + b"/" + name
        if kind is None:
            self._unknown(flag, name, length)
            return None
        entry = self._entry = Entry(kind, name, offset)
        try:
            entry.mode, entry.uid, entry.gid = numbers[mode] & _MODE_BITS, numbers[uid], numbers[gid]
            entry.mtime = numbers[mtime] * _SECOND
        except KeyError:
            entry.mode, entry.uid = self._number(mode, "mode") & _MODE_BITS, self._number(uid, "uid")
            entry.gid, entry.mtime = self._number(gid, "gid"), self._number(mtime, "mtime") * _SECOND
        if link[0]:
            entry.link = text(link)
        if self._pending is None and flag == b"0" and magic in _PLAIN and 0 <= length <= _SIZE_MAX:  # as nearly all are
            entry.size = entry.stored = self._left = length
            self._padding = -length % BLOCK
        else:
            self._rest(entry, block, flag, magic, length)
        if not entry.name:
            raise UnsafeEntryError("entry with an empty name")
        if not (0 <= entry.uid <= _ID_MAX and 0 <= entry.gid <= _ID_MAX):
            raise UnsafeEntryError(f"owner {entry.uid}:{entry.gid} is out of range")
        return entry

    def _check_sum(self, block: bytes, checksum: bytes) -> None:
        """Check a header's checksum, and keep what is needed to check others of the same sum fast."""
        stored = number(checksum, "not a tar header: its checksum")
        if not checksum_matches(block, stored):
            raise CorruptLayerError("not a tar header: its checksum is wrong")
        if block.isascii():
            if len(self._sums) > _CACHE_MOST:
                self._sums.clear()
            self._sums[checksum] = adler32(block) & SUM

    def _number(self, field: bytes, what: str) -> int:
        """Read a numeric field, and keep what it says."""
        if len(self._numbers) > _CACHE_MOST:
            self._numbers.clear()
        found = self._numbers[field] = number(field, what)
        return found

    def _rest(self, entry: Entry, block: bytes, flag: bytes, magic: bytes, length: int) -> None:
        """Read what a header says of anything but a plain file, and what extension headers have said."""
        kind = entry.kind
        pending = self._pending
        if kind in _DEVICES:
            entry.device = (number(block[329:337], "device major"), number(block[337:345], "device minor"))
        segments: sparse.Segments | None = None
        real_size: int | None = None
        if flag == b"S":
            if magic != GNU_MAGIC:  # star has the same type, and its map elsewhere
                raise UnsafeEntryError("a sparse file in the format of star")
            segments, real_size = sparse.old_gnu(block, self._take, self._limits)
        if pending is not None:
            length = self._extended(entry, length, pending)
        if not 0 <= length <= _SIZE_MAX:
            raise CorruptLayerError(f"size {length} is out of range")
        entry.stored = length
        if kind is Kind.FILE:
            entry.size = length
            self._left, self._padding = length, -length % BLOCK
            self._as_file(entry, flag, magic, segments, real_size, None if pending is None else pending.records)
        elif length:
            raise UnsafeEntryError(f"{kind.value} with {length} bytes of data, which readers disagree about")
        if pending is not None and entry.kind is not Kind.FILE and _is_sparse(pending.records):
            raise UnsafeEntryError(f"{kind.value} with a sparse map")
        major, minor = entry.device
        if not (0 <= major <= _DEVICE_MAX and 0 <= minor <= _DEVICE_MAX):
            raise UnsafeEntryError(f"device number {major}:{minor} is out of range")

    def _unknown(self, flag: bytes, name: bytes, length: int) -> None:
        """Skip a volume label, which names the archive and no file; refuse every other type."""
        pending = self._pending
        if pending is not None:
            name = pending.name or name
        if flag != _VOLUME_LABEL:
            raise UnsafeEntryError(f"unsupported entry type {flag!r}", entry=name)
        if pending is not None:
            raise CorruptLayerError("a volume label between an extension header and its entry")
        # Of what is skipped the size counts as well: a negative one would lead back to this header, for ever.
        if not 0 <= length <= _SIZE_MAX:
            raise CorruptLayerError(f"size {length} is out of range", entry=name)
        self._left, self._padding = length, -length % BLOCK

    def _as_file(
        self,
        entry: Entry,
        flag: bytes,
        magic: bytes,
        segments: sparse.Segments | None,
        real_size: int | None,
        records: pax.Records | None,
    ) -> None:
        """Finish an entry that has data: a directory in v7 disguise, a sparse file, or a plain one."""
        old = flag == b"\0" or magic[:6] not in (POSIX_MAGIC, GNU_MAGIC[:6])
        if old and entry.name.endswith(b"/"):
            entry.kind, entry.size = Kind.DIRECTORY, 0
            if entry.stored:
                raise UnsafeEntryError(f"directory with {entry.stored} bytes of data")
            return
        if records is not None and _is_sparse(records):
            if segments is not None:
                raise CorruptLayerError("sparse map: in two formats at once")
            segments, real_size = self._pax_sparse(entry, records)
        if segments is not None:
            entry.size = entry.stored if real_size is None else real_size
            if not 0 <= entry.size <= _SIZE_MAX:
                raise CorruptLayerError(f"sparse size {entry.size} is out of range")
            entry.stored = self._left
            entry.segments = sparse.checked(segments, entry.size, entry.stored)

    def _pax_sparse(self, entry: Entry, records: pax.Records) -> tuple[sparse.Segments, int | None]:
        """Read the map of a sparse file in one of the pax formats; the real name stands in its own record, too."""
        named = dict(records)
        entry.name = named.get(b"GNU.sparse.name") or entry.name
        sizes = {
            pax.decimal(named[key], key.decode())
            for key in (b"GNU.sparse.realsize", b"GNU.sparse.size")
            if key in named
        }
        if len(sizes) > 1:
            raise CorruptLayerError("GNU.sparse.realsize and GNU.sparse.size that differ")
        real_size = sizes.pop() if sizes else None
        version = named.get(b"GNU.sparse.major", b"0"), named.get(b"GNU.sparse.minor", b"0")
        if version in ((b"0", b"0"), (b"0", b"1")):
            return sparse.pax_0(records, self._limits), real_size
        if version != (b"1", b"0"):
            raise CorruptLayerError(f"unknown sparse format {b'.'.join(version)!r}")
        segments, taken = sparse.pax_1(self._take, self._left, self._limits)
        self._left -= taken
        return segments, real_size

    def _extension(self, flag: bytes, length: int) -> None:
        """Read a header that speaks of the entry to come (x, X, L, K) or of all of them (g)."""
        if length < 0:
            raise CorruptLayerError(f"size {length} is out of range")
        if length > self._limits.header_bytes:
            raise LimitError("header_bytes", self._limits.header_bytes, length, "bytes of an extension header")
        data = self._take(length)
        self._padding = -length % BLOCK
        if flag == b"g":
            self._global(data)
            return
        pending = self._pending = self._pending or _Pending()
        if flag in (b"L", b"K"):
            value = text(data)
            already = pending.name if flag == b"L" else pending.link
            if already is not None:
                raise CorruptLayerError("two GNU long names for one entry")
            if flag == b"L":
                pending.name = value
            else:
                pending.link = value
        elif pending.records is not None:
            raise CorruptLayerError("two pax headers for one entry")
        else:
            pending.records = pax.parse(data)

    def _global(self, data: bytes) -> None:
        """Check a pax header that speaks of all entries to come.

        As Go and so containerd and Docker do, such defaults are not applied; those that would give entries another name
        or length are refused, since other readers do apply them.
        """
        if self._pending is not None:  # which Go drops here, and others keep
            raise CorruptLayerError("a global pax header between an extension header and its entry")
        for key, _ in pax.parse(data):
            if key in _GLOBAL_REFUSED or key.startswith((b"GNU.sparse.", pax.SCHILY_XATTR, pax.LIBARCHIVE_XATTR)):
                raise UnsafeEntryError(f"global pax header that sets {key.decode('ascii', 'replace')!r}")

    def _extended(self, entry: Entry, length: int, pending: _Pending) -> int:
        """Apply the extension headers to their entry; gives the length of its data, which pax may override."""
        if pending.name is not None:
            entry.name = pending.name
        if pending.link is not None:
            entry.link = pending.link
        for key, value in pending.records or ():
            if key == b"path":
                if value:
                    entry.name = self._same(pending.name, value)
            elif key == b"linkpath":
                if value:
                    entry.link = self._same(pending.link, value)
            elif key == b"size":
                length = pax.decimal(value, "size") if value else length
            elif key == b"mtime":
                entry.mtime = pax.nanoseconds(value) if value else entry.mtime
            elif key == b"uid":
                entry.uid = pax.decimal(value, "uid") if value else entry.uid
            elif key == b"gid":
                entry.gid = pax.decimal(value, "gid") if value else entry.gid
            elif (attribute := pax.xattr(key, value)) is not None:
                self._add_xattr(entry, *attribute)
        return length

    def _add_xattr(self, entry: Entry, name: bytes, value: bytes) -> None:
        if len(value) > self._limits.xattr_bytes:
            raise LimitError("xattr_bytes", self._limits.xattr_bytes, len(value), "bytes of an extended attribute")
        if entry.xattrs is None:
            entry.xattrs = {}
        entry.xattrs[name] = value
        if len(entry.xattrs) > self._limits.xattrs:
            raise LimitError("xattrs", self._limits.xattrs, len(entry.xattrs), "extended attributes of a file")

    @staticmethod
    def _same(gnu: bytes | None, value: bytes) -> bytes:
        if gnu is not None and gnu != value:
            raise CorruptLayerError("a GNU long name and a pax name that differ")
        return value


def _is_sparse(records: pax.Records | None) -> bool:
    return records is not None and any(key.startswith(b"GNU.sparse.") for key, _ in records)
