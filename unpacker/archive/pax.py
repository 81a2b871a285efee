r"""Pax extended headers (POSIX.1-2001): records ``"LENGTH KEY=VALUE\n"`` that override a header's fields.

Values are bytes.  A malformed record is an error and never skipped: skipping is how entries were smuggled past
tokio-tar and node-tar, and a length of zero is how CPython's tarfile hung (CVE-2019-20907).
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error

from unpacker.errors import CorruptLayerError

SCHILY_XATTR = b"SCHILY.xattr."
LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."
_LENGTH_DIGITS = 10
_NAMES = (b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name")
_NANO_DIGITS = 9

Records = list[tuple[bytes, bytes]]


def parse(data: bytes) -> Records:
    """Give all records in order; the sparse formats need the order and the repetitions.

    Raises:
        CorruptLayerError: A length that is not its record's, a missing newline or key, a NUL in a name.
    """
    records: Records = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + _LENGTH_DIGITS + 1)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise CorruptLayerError(f"pax record without a length: {data[position : position + 20]!r}")
        end = position + int(digits)
        record = data[space + 1 : end]
        if end > len(data) or not record.endswith(b"\n"):
            raise CorruptLayerError(f"pax record of a wrong length: {data[position : position + 40]!r}")
        key, equals, value = record[:-1].partition(b"=")
        if not (key and equals):
            raise CorruptLayerError(f"pax record without a key: {record[:40]!r}")
        if b"\0" in key or (key in _NAMES and b"\0" in value):
            raise CorruptLayerError(f"pax record with a NUL in its name: {record[:40]!r}")
        records.append((key, value))
        position = end
    return records


def decimal(value: bytes, key: str) -> int:
    """Give a whole number, without sign.

    Raises:
        CorruptLayerError: It is not digits only, or has more than 20 of them.
    """
    if not value.isdigit() or len(value) > 20:  # noqa: PLR2004
        raise CorruptLayerError(f"pax {key} {value[:40]!r} is not a number")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """Give a pax time, decimal seconds with an optional fraction and sign, as whole nanoseconds.

    Further digits are cut towards minus infinity, as a time lies in the nanosecond that has begun.

    Raises:
        CorruptLayerError: It is not such a number.
    """
    negative = value.startswith(b"-")
    seconds, point, fraction = value[negative:].partition(b".")
    if not seconds.isdigit() or len(seconds) > 20 or (point and fraction and not fraction.isdigit()):  # noqa: PLR2004
        raise CorruptLayerError(f"pax mtime {value[:40]!r} is not a time")
    total = int(seconds) * 10**9 + int(fraction[:_NANO_DIGITS].ljust(_NANO_DIGITS, b"0"))
    if not negative:
        return total
    return -total - (1 if fraction[_NANO_DIGITS:].strip(b"0") else 0)


def xattr(key: bytes, value: bytes) -> tuple[bytes, bytes] | None:
    """Give the extended attribute that a record holds: its name and value; None if it holds none.

    ``SCHILY.xattr.NAME`` (star, GNU tar, Go) holds the bytes as they are; ``LIBARCHIVE.xattr.NAME`` (bsdtar) has the
    name percent-encoded and the value in base64, often without its padding.

    Raises:
        CorruptLayerError: An attribute without a name, or not base64.
    """
    if key.startswith(SCHILY_XATTR):
        name = key[len(SCHILY_XATTR) :]
    elif key.startswith(LIBARCHIVE_XATTR):
        from urllib.parse import unquote_to_bytes  # noqa: PLC0415 -- slow to import, and only bsdtar writes these

        name = unquote_to_bytes(key[len(LIBARCHIVE_XATTR) :])
        try:
            value = b64decode(value.rstrip(b"=") + b"=" * (-len(value.rstrip(b"=")) % 4), validate=True)
        except Base64Error:
            raise CorruptLayerError(f"pax record {key[:80]!r} is not base64") from None
    else:
        return None
    if not name or b"\0" in name:
        raise CorruptLayerError(f"pax record {key[:80]!r} names no extended attribute")
    return name, value
