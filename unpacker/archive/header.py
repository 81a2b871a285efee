"""The fields of one 512-byte tar header block: POSIX.1-1988 ustar, GNU, star and v7.

Strict, because every reader that was lenient here disagreed with another one, and what two readers see differently can
be smuggled past one of them: numbers are octal digits or base-256, never signs, underscores or prefixes that ``int()``
would take; sizes are never negative (CPython's tarfile looped on them, CVE-2025-8194).
"""

from __future__ import annotations

from struct import Struct
from zlib import adler32

from unpacker.errors import CorruptLayerError

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

# name, mode, uid, gid, size, mtime, chksum, typeflag, linkname, magic with version
FIELDS = Struct("100s8s8s8s12s12s8sc100s8s")

POSIX_MAGIC = b"ustar\x00"
GNU_MAGIC = b"ustar  \x00"
STAR_TRAILER = b"tar\x00"

PREFIX = 345
"""Where the prefix of a name begins."""

SUM = 0xFFFF
"""What of an Adler-32 is the sum of all bytes, plus one, unless that is more than `_ADLER_MODULUS`."""
_ADLER_MODULUS = 65521
_BASE256_POSITIVE, _BASE256_NEGATIVE = 0x80, 0xFF


def text(field: bytes) -> bytes:
    """Give a string field: up to its first NUL, or whole, as a full field has none."""
    end = field.find(0)
    return field if end < 0 else field[:end]


def number(field: bytes, name: str) -> int:
    """Give a numeric field: octal digits between spaces and NULs, or base-256 two's complement (GNU, star).

    Raises:
        CorruptLayerError: It is neither.
    """
    digits = field.rstrip(b"\0 ")
    if digits.isdigit():  # nearly always; int() alone would also take signs, underscores, inner blanks and 0o
        try:
            return int(digits, 8)
        except ValueError:
            pass
    return _unusual_number(field, name)


def _unusual_number(field: bytes, name: str) -> int:
    first = field[0]
    if first & 0x80:
        if first == _BASE256_NEGATIVE:
            return int.from_bytes(field, "big", signed=True)
        if first == _BASE256_POSITIVE:
            return int.from_bytes(field[1:], "big")
        raise CorruptLayerError(f"{name} field {field!r} is neither octal nor a base-256 number of this size")
    digits = text(field).strip(b" ")
    if not digits:
        # Behind a leading NUL, Go's reader finds digits, GNU tar's sometimes, Python's and bsdtar's never.
        if field.strip(b" \0"):
            raise CorruptLayerError(f"{name} field {field!r} is not an octal number")
        return 0
    if not digits.isdigit():
        raise CorruptLayerError(f"{name} field {field!r} is not an octal number")
    try:
        return int(digits, 8)
    except ValueError:
        raise CorruptLayerError(f"{name} field {field!r} is not an octal number") from None


def checksum_matches(block: bytes, stored: int) -> bool:
    """Compare the header's checksum: the sum of its bytes with the checksum field itself as spaces.

    Adler-32 holds that sum in its low half, modulo 65521, and is ten times as fast as `sum`; ASCII bytes cannot add up
    to more than that.  Historic tars summed signed bytes, which only the slow way finds.
    """
    if block.isascii() and 0 <= stored < _ADLER_MODULUS:
        return ((adler32(block) & SUM) - 1 - sum(block[148:156]) + 8 * 32 - stored) % _ADLER_MODULUS == 0
    blanked = block[:148] + b" " * 8 + block[156:]
    total = sum(blanked)
    return stored in (total, total - 256 * sum(byte > 0x7F for byte in blanked))  # noqa: PLR2004


def prefix(block: bytes, magic: bytes) -> bytes:
    """Give the ustar ``prefix`` that stands before the name, where this header has one.

    GNU headers keep atime and ctime at this place, not a prefix; CPython's tarfile glues them to the name.  But Go
    before 1.8 wrote a prefix under the GNU magic, and such layers are in registries: what does not read as two times
    there is a prefix, if it is ASCII (as in Go's own reader since).
    """
    if not block[PREFIX]:
        return b""
    if magic[:6] == POSIX_MAGIC:
        return text(block[345:476] if block[508:512] == STAR_TRAILER else block[345:500])
    if magic == GNU_MAGIC and not (_is_time(block[345:357]) and _is_time(block[357:369])):
        found = text(block[345:500])
        return found if found.isascii() else b""
    return b""


def _is_time(field: bytes) -> bool:
    try:
        number(field, "time")
    except CorruptLayerError:
        return False
    return True
