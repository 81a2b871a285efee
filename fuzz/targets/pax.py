"""Pax records, and the numbers of tar headers: small functions, each against a second way to say the same."""

from __future__ import annotations

import re
from base64 import b64decode
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.target import Target
from tests.support.tarbuild import SECOND, base256, octal, pax_record
from unpacker.archive import header, pax
from unpacker.errors import CorruptLayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

_TIME = re.compile(rb"-?([0-9]{1,20})(?:\.[0-9]*)?")
_NAMES = (b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name")


def _attempt(call: Callable[[], T]) -> T | None:
    """Give what a call gives, or None if it refuses."""
    try:
        return call()
    except CorruptLayerError as error:
        check_refusal(error)
        return None


def check(data: bytes) -> None:
    """Let the first byte say which function gets the others."""
    _CHECKS[data[0] % len(_CHECKS) if data else 0](data[1:])


def _check_records(data: bytes) -> None:
    """What is read can be written again, and read to the same."""
    records = _attempt(lambda: pax.parse(data))
    if records is not None:
        assert pax.parse(b"".join(pax_record(*one) for one in records)) == records
        assert all(b"=" + value + b"\n" in data for _, value in records)


def _check_written_records(data: bytes) -> None:
    """What is written is read, if it is allowed."""
    pairs = [tuple(part.partition(b"\xfe")[::2]) for part in data.split(b"\xff")]
    allowed = all(
        key and b"=" not in key and b"\0" not in key and not (key in _NAMES and b"\0" in value) for key, value in pairs
    )
    written = b"".join(pax_record(*one) for one in pairs)
    if allowed:
        assert pax.parse(written) == pairs
    else:
        _attempt(lambda: pax.parse(written))  # not always refused: a key with an equals sign is another key


def _check_time(data: bytes) -> None:
    time = _attempt(lambda: pax.nanoseconds(data))
    assert (time is not None) == (_TIME.fullmatch(data) is not None), time
    if time is not None:
        with localcontext(prec=len(data) + 20):
            exact = Decimal(data.decode()) * SECOND
            assert time == int(exact.to_integral_value(ROUND_FLOOR)), time


def _check_decimal(data: bytes) -> None:
    number = _attempt(lambda: pax.decimal(data, "size"))
    assert (number is not None) == (re.fullmatch(rb"[0-9]{1,20}", data) is not None)
    assert number is None or number == int(data)


def _check_xattr(data: bytes) -> None:
    key, _, value = data.partition(b"\xff")
    schily = _attempt(lambda: pax.xattr(pax.SCHILY_XATTR + key, value))
    assert schily == ((key, value) if key and b"\0" not in key else None)
    libarchive = _attempt(lambda: pax.xattr(pax.LIBARCHIVE_XATTR + key, value))
    if libarchive is not None:
        name, decoded = libarchive
        assert name
        assert b"\0" not in name
        assert b64decode(value.rstrip(b"=") + b"==") == decoded
    assert pax.xattr(b"x" + key, value) is None


def _check_number(data: bytes) -> None:
    """Header fields of 8 and 12 bytes: octal as anybody reads it, or base-256."""
    for width in (8, 12):
        field = data[:width].ljust(width, b"\0")
        number = _attempt(lambda field=field: header.number(field, "size"))  # type: ignore[misc]
        if field[0] in (0x80, 0xFF):
            assert number == int.from_bytes(
                bytes([field[0] & 0x7F | (field[0] & 0x40) << 1]) + field[1:], "big", signed=True
            )
        elif re.fullmatch(rb" *[0-7]+[ \0]*", field):
            assert number == int(field.strip(b"\0 "), 8)
        elif not field.strip(b"\0 "):
            assert number == 0
        elif re.fullmatch(rb" *[0-7]+ *\0.*", field, re.DOTALL):  # what stands behind the NUL, no reader looks at
            assert number == int(field.partition(b"\0")[0], 8)
        else:
            assert number is None, (field, number)


def _check_checksum(data: bytes) -> None:
    block = data[:512].ljust(512, b"\0")
    unsigned = sum(block[:148]) + sum(block[156:]) + 256
    signed = unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    for stored in (unsigned, signed, unsigned + 1, unsigned - 65521, unsigned + 65521, 0, -1):
        assert header.checksum_matches(block, stored) == (stored in (unsigned, signed)), stored


_CHECKS = (
    _check_records,
    _check_written_records,
    _check_time,
    _check_decimal,
    _check_xattr,
    _check_number,
    _check_checksum,
)


def seeds() -> Iterator[bytes]:
    """Give an input for each function, right and wrong."""
    examples: tuple[tuple[bytes, ...], ...] = (
        (pax_record("path", "a") + pax_record("mtime", "1.5"), b"6 a=b\n", b"0 a=b\n"),
        (b"path\xfea\xffsize\xfe1", b"path\xfe\0", b"a=b\xfec"),
        (b"0", b"-1.5", b"1.0000000019", b"-0.0000000001", b"1.", b"1e5"),
        (b"0", b"1" * 20, b"1" * 21, b"-1"),
        (b"user.a\xff1", b"user.%41\xffMQ", b"user.a\xffMQ==", b"%00\xffMQ=="),
        (octal(420, 8), octal(2**30, 12), base256(-1, 12), base256(2**40, 12), b" 644 \0", b"\0007"),
        (b"a" * 512, b"\xff" * 512),
    )
    for number, inputs in enumerate(examples):
        for one in inputs:
            yield bytes([number]) + one


TARGET = Target(check=check, seeds=seeds, longest=600, words=(b"path", b"SCHILY.xattr.", b"GNU.sparse.name", b"\xfe"))
