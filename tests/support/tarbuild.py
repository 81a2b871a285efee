r"""Builds tar layers byte by byte, independently of the package and of the standard library's tarfile.

Entries are values, which `tests.model.reference` applies as they are and `layer` turns into bytes::

    layer(directory("etc"), file("etc/motd", b"hi", mode=0o600, xattrs={"user.note": b"\0"}), whiteout("etc/issue"))

Times are integer nanoseconds (``5 * SECOND``), names are ``str`` or ``bytes``.  Whatever an entry cannot say is said a
step lower: `Entry.fields` replaces header fields, `Entry.records` adds pax records, `header`, `pax_header`, `gnu_long`
and `global_header` make single pieces of an archive, and `layer` takes raw ``bytes`` between entries.

Formats: v7, ustar, GNU (base-256 numbers, L and K), star, pax (the default: a ustar header, and pax records for what it
cannot hold).  Sparse files: `sparse_old`, `sparse_pax`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict, Unpack

Kind = Literal["file", "directory", "symlink", "hardlink", "char", "block", "fifo"]
Format = Literal["v7", "ustar", "gnu", "star", "pax"]
Name = str | bytes
Segments = Iterable[tuple[int, bytes]]

BLOCK = 512
SECOND = 10**9
MTIME = 1_000_000_000 * SECOND
"""When entries were changed, if nothing else is said: 2001-09-09."""

TYPEFLAGS: Mapping[Kind, bytes] = {
    "file": b"0",
    "hardlink": b"1",
    "symlink": b"2",
    "char": b"3",
    "block": b"4",
    "directory": b"5",
    "fifo": b"6",
}
FIELDS: Mapping[str, tuple[int, int]] = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "chksum": (148, 8),
    "typeflag": (156, 1),
    "link": (157, 100),
    "magic": (257, 6),
    "version": (263, 2),
    "uname": (265, 32),
    "gname": (297, 32),
    "major": (329, 8),
    "minor": (337, 8),
    "prefix": (345, 155),
    # In place of the prefix: GNU's times and sparse map, star's times and trailer.
    "gnu_atime": (345, 12),
    "gnu_ctime": (357, 12),
    "sparse": (386, 96),
    "isextended": (482, 1),
    "realsize": (483, 12),
    "star_prefix": (345, 131),
    "star_atime": (476, 12),
    "star_ctime": (488, 12),
    "trailer": (508, 4),
}
"""Where each field of a header block stands, and how many bytes it has."""

_MAGIC: Mapping[Format, dict[str, int | bytes]] = {
    "v7": {"magic": bytes(6), "version": bytes(2)},
    "ustar": {"magic": b"ustar\0", "version": b"00"},
    "pax": {"magic": b"ustar\0", "version": b"00"},
    "gnu": {"magic": b"ustar ", "version": b" \0"},
    "star": {"magic": b"ustar\0", "version": b"00", "trailer": b"tar\0"},
}
_HOLDS_OCTAL = {"uid": 8**7, "gid": 8**7, "size": 8**11, "mtime": 8**11}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a layer, before it is bytes."""

    kind: Kind
    name: bytes
    data: bytes = b""
    """A regular file's whole content, with its holes."""
    link: bytes = b""
    """The target of a symbolic or hard link."""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = MTIME
    """Nanoseconds since 1970."""
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""
    format: Format | None = None
    """None: that of the layer."""
    fields: Mapping[str, int | bytes] = field(default_factory=dict)
    """Header fields to be set as given, in the face of all else; see `header`."""
    records: tuple[tuple[bytes, bytes], ...] = ()
    """More pax records, written after those that the entry needs."""
    encoded: bytes | None = None
    """The bytes of the entry, in place of all that the rest would give."""

    def __repr__(self) -> str:
        """Show what was said, and nothing that was not."""
        plain = Entry(kind=self.kind, name=b"")
        said = [f"{key}={getattr(self, key)!r}" for key in self.__slots__ if getattr(self, key) != getattr(plain, key)]
        return f"Entry({self.kind}, {', '.join(said)})"


# -- entries -----------------------------------------------------------------------------------------------------------


def as_bytes(name: Name) -> bytes:
    """Give a name as the bytes that stand in the archive."""
    return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name


class Said(TypedDict, total=False):
    """What may be said of any entry, beside its name and its content; see `Entry`."""

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Mapping[str, bytes] | Mapping[bytes, bytes]
    format: Format
    fields: Mapping[str, int | bytes]
    records: Iterable[tuple[bytes, bytes]]


def _entry(
    kind: Kind,
    name: Name,
    said: Said,
    *,
    data: bytes = b"",
    link: Name = b"",
    device: tuple[int, int] = (0, 0),
    mode: int = 0o644,
) -> Entry:
    return Entry(
        kind=kind,
        name=as_bytes(name),
        data=data,
        link=as_bytes(link),
        device=device,
        mode=said.get("mode", mode),
        uid=said.get("uid", 0),
        gid=said.get("gid", 0),
        mtime=said.get("mtime", MTIME),
        xattrs={as_bytes(key): value for key, value in said.get("xattrs", {}).items()},
        format=said.get("format"),
        fields=dict(said.get("fields", {})),
        records=tuple(said.get("records", ())),
    )


def file(name: Name, data: bytes = b"", **said: Unpack[Said]) -> Entry:
    """Give a regular file."""
    return _entry("file", name, said, data=data)


def directory(name: Name, **said: Unpack[Said]) -> Entry:
    """Give a directory; its name is written as it is, with or without a slash at the end."""
    return _entry("directory", name, said, mode=0o755)


def symlink(name: Name, target: Name, **said: Unpack[Said]) -> Entry:
    """Give a symbolic link."""
    return _entry("symlink", name, said, link=target, mode=0o777)


def hardlink(name: Name, target: Name, **said: Unpack[Said]) -> Entry:
    """Give a hard link to an earlier entry (or to whatever ``target`` says)."""
    return _entry("hardlink", name, said, link=target)


def char(name: Name, major: int, minor: int, **said: Unpack[Said]) -> Entry:
    """Give a character device."""
    return _entry("char", name, said, device=(major, minor))


def block(name: Name, major: int, minor: int, **said: Unpack[Said]) -> Entry:
    """Give a block device."""
    return _entry("block", name, said, device=(major, minor))


def fifo(name: Name, **said: Unpack[Said]) -> Entry:
    """Give a fifo."""
    return _entry("fifo", name, said)


def whiteout(name: Name, **said: Unpack[Said]) -> Entry:
    """Give the whiteout of a path: ``etc/issue`` becomes an empty file ``etc/.wh.issue``."""
    before, slash, last = as_bytes(name).rpartition(b"/")
    return _entry("file", before + slash + b".wh." + last, said)


def opaque(name: Name, **said: Unpack[Said]) -> Entry:
    """Give the marker that hides all that lower layers have in a directory (the root: ``""`` or ``"."``)."""
    parent = as_bytes(name).rstrip(b"/")
    return _entry("file", (parent + b"/" if parent else b"") + b".wh..wh..opq", said)


# -- blocks ------------------------------------------------------------------------------------------------------------


def octal(number: int, width: int) -> bytes:
    """Give a number as octal digits with a NUL at the end."""
    digits = b"%0*o" % (width - 1, number)
    if number < 0 or len(digits) >= width:
        raise ValueError(f"{number} has no place in {width} octal bytes")
    return digits + b"\0"


def base256(number: int, width: int) -> bytes:
    """Give a number in GNU's binary form: big-endian two's complement with the first bit set."""
    first = b"\xff" if number < 0 else b"\x80"
    return first + number.to_bytes(width, "big", signed=True)[1:]


def padded(data: bytes) -> bytes:
    """Fill up to a whole number of blocks."""
    return data + bytes(-len(data) % BLOCK)


def checksum(block_: bytes) -> int:
    """Add up a header block, with its checksum field taken as spaces."""
    return sum(block_[:148]) + sum(block_[156:]) + 8 * ord(" ")


def header(**fields: int | bytes) -> bytes:
    """Give one header block with the fields given (see `FIELDS`), all others zero, and the right checksum.

    Numbers become octal, or base-256 where they do not fit; bytes are written as they are.  Give ``chksum`` to have a
    wrong one.  There is no magic unless it is given: a bare header is v7.
    """
    made = bytearray(BLOCK)
    for key, value in fields.items():
        offset, width = FIELDS[key]
        written = value if isinstance(value, bytes) else _number(value, width)
        if len(written) > width:
            raise ValueError(f"{key} {written!r} has no place in {width} bytes")
        made[offset : offset + len(written)] = written
    if "chksum" not in fields:
        made[148:156] = b"%06o\0 " % checksum(bytes(made))
    return bytes(made)


def _number(value: int, width: int) -> bytes:
    return octal(value, width) if 0 <= value < 8 ** (width - 1) else base256(value, width)


def pax_record(key: Name, value: Name) -> bytes:
    """Give one pax record; its length counts its own digits."""
    rest = b" " + as_bytes(key) + b"=" + as_bytes(value) + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


Records = bytes | Mapping[str, Name] | Iterable[tuple[Name, Name]]


def pax_records(records: Records) -> bytes:
    """Give the body of a pax header; ``bytes`` stay as they are, malformed or not."""
    if isinstance(records, bytes):
        return records
    pairs = records.items() if isinstance(records, Mapping) else records
    return b"".join(pax_record(key, value) for key, value in pairs)


def pax_header(records: Records, *, typeflag: bytes = b"x", **fields: int | bytes) -> bytes:
    """Give a pax extended header, for the entry that follows."""
    body = pax_records(records)
    said: dict[str, int | bytes] = {"name": b"PaxHeaders/x", "mode": 0o644, "size": len(body), "typeflag": typeflag}
    return header(**{**said, **_MAGIC["pax"], **fields}) + padded(body)


def global_header(records: Records, **fields: int | bytes) -> bytes:
    """Give a pax global header, for all entries that follow."""
    return pax_header(records, typeflag=b"g", **fields)


def gnu_long(name: Name, *, typeflag: bytes = b"L", **fields: int | bytes) -> bytes:
    """Give a GNU long name (``L``) or long link target (``K``), for the entry that follows."""
    body = as_bytes(name) + b"\0"
    said: dict[str, int | bytes] = {"name": b"././@LongLink", "size": len(body), "typeflag": typeflag}
    return header(**{**said, **_MAGIC["gnu"], **fields}) + padded(body)


# -- entries become bytes ----------------------------------------------------------------------------------------------


def encode(entry: Entry, format: Format = "pax") -> bytes:  # noqa: A002 -- the word of the tar manuals
    """Give the bytes of an entry: what must stand before its header, the header, and the data with its padding.

    Raises:
        ValueError: The format has no place for something; nothing is ever left out.
    """
    if entry.encoded is not None:
        return entry.encoded
    style = entry.format or format
    fields: dict[str, int | bytes] = {
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "size": len(entry.data),
        "mtime": entry.mtime // SECOND,
        "typeflag": TYPEFLAGS[entry.kind],
        **_MAGIC[style],
    }
    if style == "v7" and entry.kind in ("char", "block", "fifo"):
        raise ValueError(f"v7 has no place for {entry!r}")
    if entry.kind in ("char", "block"):
        fields.update(major=entry.device[0], minor=entry.device[1])
    before, names, records = _names(entry, style)
    if style == "pax":
        records += _records(entry, fields)
    elif entry.mtime % SECOND or entry.xattrs or entry.records:
        raise ValueError(f"{style} has no place for a time's fraction, xattrs or pax records: {entry!r}")
    elif style != "gnu":
        _check_octal(fields)
    records += entry.records
    if records:
        before += pax_header(records)
    return before + header(**{**fields, **names, **entry.fields}) + padded(entry.data)


def _names(entry: Entry, style: Format) -> tuple[bytes, dict[str, int | bytes], list[tuple[Name, Name]]]:
    """Give what carries the entry's two names: bytes before its header, header fields, pax records."""
    name, link = entry.name, entry.link
    if style == "gnu":
        before = gnu_long(link, typeflag=b"K") if len(link) > 100 else b""
        before += gnu_long(name) if len(name) > 100 else b""
        return before, {"name": name[:100], "link": link[:100]}, []
    if style == "pax":
        long = [(key, value) for key, value in (("path", name), ("linkpath", link)) if len(value) > 100]
        return b"", {"name": name[:100], "link": link[:100]}, [(key, value) for key, value in long]
    if len(link) > 100:
        raise ValueError(f"{style} has no place for the link target {link!r}")
    prefix_width = {"v7": 0, "ustar": 155, "star": 131}[style]
    prefix, last = _split(name, prefix_width)
    return b"", {"name": last, "link": link, "prefix": prefix} if prefix else {"name": last, "link": link}, []


def _split(name: bytes, prefix_width: int) -> tuple[bytes, bytes]:
    """Cut a name at a slash into a prefix and a rest of at most 100 bytes."""
    if len(name) <= 100:
        return b"", name
    for cut in range(len(name) - 1):
        if name[cut : cut + 1] == b"/" and 0 < cut <= prefix_width and len(name) - cut - 1 <= 100:
            return name[:cut], name[cut + 1 :]
    raise ValueError(f"no place for the name {name!r}")


def _records(entry: Entry, fields: dict[str, int | bytes]) -> list[tuple[Name, Name]]:
    """Give the pax records for numbers that a ustar header cannot hold, which are 0 there, and for xattrs."""
    records: list[tuple[Name, Name]] = []
    for key, limit in _HOLDS_OCTAL.items():
        value = fields[key]
        if isinstance(value, int) and not 0 <= value < limit:
            records.append((key, b"%d" % value))
            fields[key] = 0
    if entry.mtime % SECOND or entry.mtime < 0:
        records = [(key, value) for key, value in records if key != "mtime"]
        records.append(("mtime", decimal_time(entry.mtime)))
    records += [(b"SCHILY.xattr." + key, value) for key, value in entry.xattrs.items()]
    return records


def decimal_time(time: int) -> str:
    """Give nanoseconds as a pax time: seconds with a fraction, the sign before both."""
    seconds, fraction = divmod(abs(time), SECOND)
    return f"{'-' * (time < 0)}{seconds}" + (f".{fraction:09}".rstrip("0") if fraction else "")


def _check_octal(fields: Mapping[str, int | bytes]) -> None:
    for key, limit in _HOLDS_OCTAL.items():
        value = fields[key]
        if isinstance(value, int) and not 0 <= value < limit:
            raise ValueError(f"no place for {key} {value}")


# -- sparse files ------------------------------------------------------------------------------------------------------


def _expanded(segments: list[tuple[int, bytes]], size: int) -> bytes:
    data = bytearray(size)
    for offset, piece in segments:
        data[offset : offset + len(piece)] = piece
    return bytes(data)


def _sparse_map(segments: list[tuple[int, bytes]], size: int) -> list[tuple[int, int]]:
    """Give (offset, length) of the data; as GNU tar, with an empty segment at the end of a file that ends in a hole."""
    made = [(offset, len(piece)) for offset, piece in segments]
    if not made or sum(made[-1]) < size:
        made.append((size, 0))
    return made


def sparse_old(name: Name, segments: Segments, size: int, **said: Unpack[Said]) -> Entry:
    """Give a sparse file in the old GNU format: type ``S``, its map in the header and in extension blocks.

    GNU tar reads it back only if all segments but the last are whole blocks, as those that it writes are.
    """
    parts = list(segments)
    numbers = [octal(at, 12) + octal(length, 12) for at, length in _sparse_map(parts, size)]
    stored = b"".join(piece for _, piece in parts)
    here, rest = numbers[:4], numbers[4:]
    extensions = b""
    for start in range(0, len(rest), 21):
        more = start + 21 < len(rest)
        extensions += b"".join(rest[start : start + 21]).ljust(504, b"\0") + bytes([more]).ljust(8, b"\0")
    fields: dict[str, int | bytes] = {
        "typeflag": b"S",
        "size": len(stored),
        "sparse": b"".join(here),
        "isextended": bytes([bool(rest)]),
        "realsize": size,
        **said.get("fields", {}),
    }
    whole = file(name, _expanded(parts, size), **said)
    front = encode(replace(whole, data=b"", fields=fields), "gnu")
    return replace(whole, encoded=front + extensions + padded(stored))


def sparse_pax(
    name: Name, segments: Segments, size: int, version: Literal["0.0", "0.1", "1.0"] = "1.0", **said: Unpack[Said]
) -> Entry:
    """Give a sparse file in one of the pax formats."""
    parts = list(segments)
    positions = _sparse_map(parts, size)
    stored = b"".join(piece for _, piece in parts)
    count = b"%d" % len(positions)
    records: list[tuple[bytes, bytes]]
    if version == "0.0":
        records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", count)]
        for at, length in positions:
            records += [(b"GNU.sparse.offset", b"%d" % at), (b"GNU.sparse.numbytes", b"%d" % length)]
    elif version == "0.1":
        numbers = b",".join(b"%d,%d" % position for position in positions)
        records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", count)]
        records += [(b"GNU.sparse.name", as_bytes(name)), (b"GNU.sparse.map", numbers)]
    else:
        records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", as_bytes(name))]
        records.append((b"GNU.sparse.realsize", b"%d" % size))
        stored = padded(count + b"\n" + b"".join(b"%d\n%d\n" % position for position in positions)) + stored
    whole = file(name, _expanded(parts, size), **said)
    header_name = as_bytes(name) if version == "0.0" else b"GNUSparseFile.0/" + as_bytes(name)[-80:]
    packed = replace(whole, name=header_name, data=stored, records=(*records, *whole.records))
    return replace(whole, encoded=encode(packed, "pax"))


# -- archives ----------------------------------------------------------------------------------------------------------


def layer(
    *entries: Entry | bytes,
    end: bool = True,
    last_padding: bool = True,
    padding: int = 0,
    format: Format = "pax",  # noqa: A002 -- the word of the tar manuals
) -> bytes:
    """Give a whole archive; raw bytes stand where they are.

    Args:
        entries: Entries, or raw pieces of an archive.
        end: Whether the two zero blocks of the end follow.
        last_padding: Whether the last entry's data is filled up to a block (``umoci insert`` leaves that out).
        padding: How many zero bytes follow the end.
        format: The format of entries that name none.
    """
    made = b"".join(entry if isinstance(entry, bytes) else encode(entry, format) for entry in entries)
    if not last_padding and entries and isinstance(entries[-1], Entry):
        surplus = -len(entries[-1].data) % BLOCK
        made = made[: len(made) - surplus]
    return made + bytes(2 * BLOCK if end else 0) + bytes(padding)
