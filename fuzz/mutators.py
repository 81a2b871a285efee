"""Changes that keep a form: a JSON document stays JSON, a tar archive has right checksums, a gzip member a right CRC.

Bytes that are changed blindly nearly always break those, and then a fuzzer only ever sees the first refusal.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from tests.support.tarbuild import (
    BLOCK,
    FIELDS,
    TYPEFLAGS,
    base256,
    checksum,
    gnu_long,
    header,
    octal,
    pax_header,
)

if TYPE_CHECKING:
    from random import Random

    Node = tuple[Any, Any]
    """A container, and the key or place of something in it."""

# -- JSON --------------------------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 2**31, 2**63 - 1, 2**63, 1.0, 2.0, 1e300, 10**400),
    *("", "a", "\0", "\u00e9", "\ud800", "../..", "sha256:", "sha256:" + "0" * 64, "layers", "x" * 300),
    *([], {}, [[]], [None], [{}], {"": ""}),
)


def json_document(data: bytes, chance: Random) -> bytes:
    """Change some values of a document; what is no document stays as it is."""
    try:
        document = [json.loads(data)]  # a list around it: so the whole of it has a place, too
    except (ValueError, RecursionError):
        return data
    for _ in range(chance.choice((1, 1, 2, 3))):
        _change(document, chance)
    text = json.dumps(document[0])
    if chance.random() < 0.1:
        text = _with_a_name_twice(text, chance)
    return text.encode()


def _change(document: list[Any], chance: Random) -> None:
    nodes = list(_nodes(document))
    container, key = chance.choice(nodes)
    other, where = chance.choice(nodes)
    how = chance.randrange(8)
    if how == 0 and container is not document:
        del container[key]
    elif how == 1:
        container[key] = _copy(other[where])  # it may be what we stand in
    elif how == 2:
        container[key] = [container[key]]
    elif how == 3:
        container[key] = {chance.choice(("a", "", "size", "digest")): container[key]}
    elif how == 4 and isinstance(container, list) and container is not document:
        container.append(_copy(container[key]))
    elif how == 5 and isinstance(container, dict):
        container[chance.choice(("", "data", "urls", "platform", "annotations", "subject", "x"))] = _copy(
            container[key]
        )
    elif isinstance(container[key], str) and how == 6:
        container[key] = _text(container[key], chance)
    elif isinstance(container[key], int) and how == 6:
        container[key] += chance.choice((-1, 1, 256, 2**32))
    else:
        container[key] = _copy(chance.choice(_VALUES))


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _nodes(document: list[Any]) -> Any:
    waiting: list[Any] = [document]
    while waiting:
        container = waiting.pop()
        for key in container if isinstance(container, dict) else range(len(container)):
            yield container, key
            if isinstance(container[key], dict | list):
                waiting.append(container[key])


def _text(text: str, chance: Random) -> str:
    at = chance.randrange(len(text) + 1)
    return chance.choice((text[:at], text[at:], text + text, text[:at] + chance.choice("\0/:.@+%é \n") + text[at:]))


def _with_a_name_twice(text: str, chance: Random) -> str:
    places = [at for at, char in enumerate(text) if char == "{"]
    if not places:
        return text
    at = chance.choice(places) + 1
    return text[:at] + '"size": 1, "size": 2, ' * (text[at : at + 1] == '"') + text[at:]


# -- tar ---------------------------------------------------------------------------------------------------------------

_NUMBERS = (0, 1, 7, 511, 512, 513, 4096, 8**7 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, -1, -512)
_NAMES = (
    b"a",
    b"a/",
    b"./",
    b"../a",
    b"/",
    b"a//b",
    b".wh.a",
    b"d/.wh..wh..opq",
    b".wh..wh.plnk/1",
    b"\xff",
    b"n" * 99,
)
_RECORDS: tuple[tuple[bytes, tuple[bytes, ...]], ...] = (
    (b"path", (b"a/b", b"p" * 200, b"", b"../x", b".wh.a")),
    (b"linkpath", (b"a", b"l" * 200, b"", b"/etc")),
    (b"size", (b"0", b"1", b"512", b"99999999999", b"", b"-1")),
    (b"mtime", (b"0", b"1.5", b"-0.000000001", b"99999999999999999999", b"1e3", b"")),
    (b"uid", (b"0", b"4294967294", b"4294967295", b"")),
    (b"gid", (b"0", b"65534", b"99999999999999999999")),
    (b"SCHILY.xattr.user.a", (b"1", b"\0\n=", b"")),
    (b"SCHILY.xattr.security.capability", (b"\1\0\0\2" + bytes(16),)),
    (b"LIBARCHIVE.xattr.user.%41", (b"MQ", b"MQ==", b"!")),
    (b"GNU.sparse.major", (b"1", b"0", b"2")),
    (b"GNU.sparse.minor", (b"0", b"1")),
    (b"GNU.sparse.name", (b"sparse", b"")),
    (b"GNU.sparse.realsize", (b"1024", b"0", b"9223372036854775808")),
    (b"GNU.sparse.size", (b"1024",)),
    (b"GNU.sparse.map", (b"0,512", b"0,0", b"1", b"512,512", b"")),
    (b"GNU.sparse.offset", (b"0", b"512")),
    (b"GNU.sparse.numbytes", (b"512", b"0")),
    (b"GNU.sparse.numblocks", (b"1", b"2")),
    (b"comment", (b"x",)),
)
_TYPES = (*TYPEFLAGS.values(), b"\0", b"7", b"S", b"x", b"g", b"X", b"L", b"K", b"V", b"A")
_MAGICS = (b"ustar\x0000", b"ustar  \0", bytes(8))


def tar_archive(data: bytes, chance: Random) -> bytes:
    """Change fields and whole headers of an archive, and mend its checksums; a few stay broken."""
    starts = header_offsets(data)
    made = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2))):
        at = chance.choice(starts) if starts else 0
        if at + BLOCK > len(made) or chance.random() < 0.3:
            made[at:at] = _piece(chance)
        elif chance.random() < 0.2:
            block = bytes(made[at : at + BLOCK])
            made[at : at + BLOCK] = chance.choice((b"", block + block, bytes(BLOCK)))
        else:
            _set_field(made, at, chance)
    return mended(bytes(made)) if chance.random() < 0.95 else bytes(made)


def _piece(chance: Random) -> bytes:
    """Give something to be put before a header."""
    how = chance.randrange(4)
    if how == 0:
        return gnu_long(chance.choice(_NAMES) * chance.choice((1, 3)), typeflag=chance.choice((b"L", b"K")))
    if how == 1:
        return header(name=chance.choice(_NAMES), typeflag=chance.choice(_TYPES), mode=0o644)
    records = [
        (key, chance.choice(values)) for key, values in (chance.choice(_RECORDS) for _ in range(chance.randrange(1, 4)))
    ]
    return pax_header(records, typeflag=chance.choice((b"x", b"x", b"x", b"g")))


def _set_field(made: bytearray, at: int, chance: Random) -> None:
    key = chance.choice(tuple(FIELDS))
    offset, width = FIELDS[key]
    if key == "typeflag":
        value = chance.choice(_TYPES)
    elif key == "magic":
        value, width = chance.choice(_MAGICS), 8
    elif key in ("name", "link", "prefix"):
        value = chance.choice(_NAMES)
    elif width < 8 or width > 12:
        value = chance.randbytes(width)
    else:
        number = chance.choice(_NUMBERS)
        fits = 0 <= number < 8 ** (width - 1)
        value = octal(number, width) if fits else base256(number, max(width, 12))
    made[at + offset : at + offset + width] = value[:width].ljust(width, b"\0")


def header_offsets(data: bytes) -> list[int]:
    """Find where headers are if all that is there is read in good faith."""
    starts, at = [], 0
    while at + BLOCK <= len(data):
        block = data[at : at + BLOCK]
        at += BLOCK
        if block.strip(b"\0"):
            starts.append(at - BLOCK)
            if block[156:157] not in (b"1", b"2", b"3", b"4", b"5", b"6"):
                at += -(-_size(block) // BLOCK) * BLOCK
    return starts


def _size(block: bytes) -> int:
    field = block[124:136]
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else 0


def mended(data: bytes) -> bytes:
    """Set the checksum of every header."""
    made = bytearray(data)
    for at in header_offsets(data):
        made[at + 148 : at + 156] = b"%06o\0 " % checksum(bytes(made[at : at + BLOCK]))
    return bytes(made)


# -- gzip --------------------------------------------------------------------------------------------------------------


def gzip_stream(data: bytes) -> bytes:
    """Put the right CRC and length behind the first member, if its data can be read to an end."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    head = 10
    if len(data) <= head or data[3]:
        return data
    try:
        out = inflate.decompress(data[head:], 1 << 20)
    except zlib.error:
        return data
    if not inflate.eof:
        return data
    end = len(data) - len(inflate.unused_data)
    trailer = zlib.crc32(out).to_bytes(4, "little") + len(out).to_bytes(4, "little")
    return data[:end] + trailer + data[end + 8 :]
