"""Records of pax extended headers: lengths that count themselves, names, numbers, times, extended attributes."""

from __future__ import annotations

import base64
from decimal import ROUND_FLOOR, Decimal
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tarbuild import decimal_time, pax_record, pax_records
from unpacker.archive.pax import decimal, nanoseconds, parse, xattr
from unpacker.errors import CorruptLayerError

PROPERTY = settings(max_examples=150, derandomize=True, database=None, deadline=None)


# -- records -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"", [], id="none"),
        pytest.param(b"12 path=a/b\n", [(b"path", b"a/b")], id="one"),
        pytest.param(b"8 k=one\n8 k=two\n8 j=xyz\n", [(b"k", b"one"), (b"k", b"two"), (b"j", b"xyz")], id="in order"),
        pytest.param(b"9 k=a=b=\n", [(b"k", b"a=b=")], id="equals signs in the value"),
        pytest.param(b"12 k=a\n9 b\n\n", [(b"k", b"a\n9 b\n")], id="newlines in the value"),
        pytest.param(b"6 k=\0\n", [(b"k", b"\0")], id="NUL in a value"),
        pytest.param(b"5 k=\n", [(b"k", b"")], id="empty value"),
        pytest.param(b"11 path=\xff\xfe\n", [(b"path", b"\xff\xfe")], id="not UTF-8"),
        pytest.param(
            b"28 hdrcharset=BINARY0123456\n", [(b"hdrcharset", b"BINARY0123456")], id="hdrcharset is a record"
        ),
        pytest.param(b"0014 path=a/b\n", [(b"path", b"a/b")], id="zeros before the length"),
        pytest.param(b"11 k e=val\n", [(b"k e", b"val")], id="a blank in the key"),
    ],
)
def test_records(body: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert parse(body) == expected


LENGTH, WRONG, KEY, NUL = "without a length", "of a wrong length", "without a key", "with a NUL in its name"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(b"0 path=a/b\n", WRONG, id="length zero, which hung CPython (CVE-2019-20907)"),
        pytest.param(b"11 path=a/b\n", WRONG, id="too short"),
        pytest.param(b"13 path=a/b\n", WRONG, id="too long"),
        pytest.param(b"13 path=a/b\nx", WRONG, id="too long, and there is more"),
        pytest.param(b"9999999999 path=a/b\n", WRONG, id="a length beyond all"),
        pytest.param(b"99999999999 path=a/b\n", LENGTH, id="a length without end"),
        pytest.param(b"9" * 5000 + b" path=a/b\n", LENGTH, id="a length that int() refuses"),
        pytest.param(b"-12 path=a/b\n", LENGTH, id="negative"),
        pytest.param(b"+12 path=a/b\n", LENGTH, id="with a sign"),
        pytest.param(b" 12 path=a/b\n", LENGTH, id="a blank before"),
        pytest.param(b"1_2 path=a/b\n", LENGTH, id="Python's underscore"),
        pytest.param(b"0xc path=a/b\n", LENGTH, id="hexadecimal"),
        pytest.param(b"12\tpath=a/b\n", LENGTH, id="a tab behind the length"),
        pytest.param(b"12", LENGTH, id="only a length"),
        pytest.param(b"12 path=a/bc", WRONG, id="no newline"),
        pytest.param(b"2 ", WRONG, id="the length of itself alone"),
        pytest.param(b"3 \n", KEY, id="no key, no value"),
        pytest.param(b"9 pathab\n", KEY, id="no equals sign"),
        pytest.param(b"5 =a\n", KEY, id="no key"),
        pytest.param(b"12 path=a/b\n\0\0\0\0", LENGTH, id="padding that counts as records, which CPython skips"),
        pytest.param(b"12 path=a/b\n\n", LENGTH, id="a newline too many"),
        pytest.param(b"12 path=a\0b\n", NUL, id="NUL in path"),
        pytest.param(b"16 linkpath=a\0b\n", NUL, id="NUL in linkpath"),
        pytest.param(b"11 uname=\0\n", NUL, id="NUL in uname"),
        pytest.param(b"11 gname=\0\n", NUL, id="NUL in gname"),
        pytest.param(b"22 GNU.sparse.name=a\0\n", NUL, id="NUL in a sparse file's name"),
        pytest.param(b"8 k\0k=a\n", NUL, id="NUL in a key"),
    ],
)
def test_malformed_records_are_refused_and_never_skipped(body: bytes, why: str) -> None:
    """Skipping is how entries were smuggled past tokio-tar and node-tar."""
    with pytest.raises(CorruptLayerError, match=f"^pax record {why}: "):
        parse(body)
    with pytest.raises(CorruptLayerError, match=f"^pax record {why}: "):
        parse(b"11 mtime=1\n" + body)


KEYS = st.binary(min_size=1, max_size=8).filter(lambda key: b"=" not in key and b"\0" not in key)
NAMES = {b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"}
RECORDS = st.tuples(KEYS, st.binary(max_size=120)).filter(lambda one: not (one[0] in NAMES and b"\0" in one[1]))


@PROPERTY
@given(st.lists(RECORDS))
def test_records_come_back(records: list[tuple[bytes, bytes]]) -> None:
    """Also where one more byte makes the length one digit longer."""
    assert parse(pax_records(records)) == records


@PROPERTY
@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"12 ", b"path=", b"a/b", b"\n", b"9", b" ", b"=", b"\0"])).map(b"".join)
)
def test_any_bytes_are_records_altogether_or_an_error(body: bytes) -> None:
    try:
        records = parse(body)
    except CorruptLayerError:
        return
    assert b"".join(pax_record(key, value) for key, value in records) == body


# -- numbers and times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"0", 0), (b"0012", 12), (b"4294967294", 4294967294), (b"9223372036854775808", 2**63), (b"9" * 20, 10**20 - 1)],
)
def test_decimal(value: bytes, expected: int) -> None:
    assert decimal(value, "size") == expected


@pytest.mark.parametrize(
    "value",
    [b"", b"-1", b"+1", b" 1", b"1 ", b"1_0", b"0x1", b"1.0", b"1e3", b"\xd9\xa1", b"1\0", b"9" * 21, b"9" * 5000],
)
def test_not_decimal(value: bytes) -> None:
    with pytest.raises(CorruptLayerError, match=r"^pax size .* is not a number$"):
        decimal(value, "size")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"1", 10**9),
        (b"1.", 10**9),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.5", -500_000_000),
        (b"1.000000001", 1_000_000_001),
        (b"1.0000000019", 1_000_000_001),
        (b"-1.0000000019", -1_000_000_002),
        (b"-1.0000000000", -(10**9)),
        (b"-0.0000000001", -1),
        (b"1350244992.023960108", 1_350_244_992_023_960_108),
        (b"99999999999999999999", (10**20 - 1) * 10**9),
        (b"1." + b"0" * 5000 + b"1", 10**9),
    ],
    ids=lambda value: f"{value[:24]!r}" if isinstance(value, bytes) else "",
)
def test_times_are_whole_nanoseconds(value: bytes, expected: int) -> None:
    """Never a float, which holds only microseconds of today; of more digits the nanosecond that has begun is taken."""
    assert nanoseconds(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"-", b".", b".5", b"-.5", b"+1", b" 1", b"1 ", b"--1", b"1.-5", b"1.5.5", b"1,5", b"1e9", b"0x10"),
        *(b"1_0", b"inf", b"nan", b"1.x", b"1.1_0", b"9" * 21, b"9" * 5000),
    ],
)
def test_what_is_no_time(value: bytes) -> None:
    with pytest.raises(CorruptLayerError, match=r"^pax mtime .* is not a time$"):
        nanoseconds(value)


@PROPERTY
@given(st.decimals(-(10**12), 10**12, places=12) | st.decimals(-2, 2, places=11))
def test_times_are_cut_towards_minus_infinity(time: Decimal) -> None:
    assert nanoseconds(f"{time:f}".encode()) == int((time * 10**9).to_integral_value(ROUND_FLOOR))


@PROPERTY
@given(st.integers(-(10**20), 10**20))
def test_times_come_back(time: int) -> None:
    assert nanoseconds(decimal_time(time).encode()) == time


# -- extended attributes -----------------------------------------------------------------------------------------------

ALL_BYTES = bytes(range(256))
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        pytest.param(b"SCHILY.xattr.user.a", ALL_BYTES, (b"user.a", ALL_BYTES), id="any bytes"),
        pytest.param(b"SCHILY.xattr.user.a", b"", (b"user.a", b""), id="empty"),
        pytest.param(b"SCHILY.xattr.user.%41\xe9", b"1", (b"user.%41\xe9", b"1"), id="the name as it is"),
        pytest.param(b"LIBARCHIVE.xattr.user.%41%3d%c3%A9", b"MQ==", ("user.A=é".encode(), b"1"), id="percent-encoded"),
        pytest.param(b"LIBARCHIVE.xattr.user.a", b"MQ", (b"user.a", b"1"), id="bsdtar leaves out the padding"),
        pytest.param(b"LIBARCHIVE.xattr.user.a", b"", (b"user.a", b""), id="empty in base64"),
        pytest.param(
            b"LIBARCHIVE.xattr.security.capability",
            base64.b64encode(CAPABILITY),
            (b"security.capability", CAPABILITY),
            id="capability",
        ),
        pytest.param(b"LIBARCHIVE.symlinktype", b"dir", None, id="another word of libarchive's"),
        pytest.param(b"SCHILY.acl.access", b"user::rw-", None, id="star's own ACLs"),
        pytest.param(b"SCHILY.fflags", b"nodump", None, id="star's file flags"),
        pytest.param(b"SCHILY.xattr", b"1", None, id="no dot behind the prefix"),
        pytest.param(b"mtime", b"1", None, id="something else"),
    ],
)
def test_xattrs(key: bytes, value: bytes, expected: tuple[bytes, bytes] | None) -> None:
    assert xattr(key, value) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(b"SCHILY.xattr.", b"1", id="no name"),
        pytest.param(b"LIBARCHIVE.xattr.", b"MQ==", id="no name for libarchive"),
        pytest.param(b"LIBARCHIVE.xattr.user.%00a", b"MQ==", id="NUL in the name"),
        pytest.param(b"LIBARCHIVE.xattr.user.a", b"M", id="a single digit of base64"),
        pytest.param(b"LIBARCHIVE.xattr.user.a", b"M!Q=", id="not base64"),
        pytest.param(b"LIBARCHIVE.xattr.user.a", b"MQ==MQ==", id="padding in the middle"),
        pytest.param(b"LIBARCHIVE.xattr.user.a", b"MQ\n==", id="a newline in base64"),
        pytest.param(b"LIBARCHIVE.xattr.user.a", b"M-__", id="base64 for URLs"),
    ],
)
def test_broken_xattrs(key: bytes, value: bytes) -> None:
    with pytest.raises(CorruptLayerError, match=r"^pax record b'(SCHILY|LIBARCHIVE)\.xattr"):
        xattr(key, value)


@PROPERTY
@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name), st.binary(max_size=60), st.booleans())
def test_xattrs_come_back(name: bytes, value: bytes, padded: bool) -> None:
    encoded = base64.b64encode(value)
    key = b"LIBARCHIVE.xattr." + quote_from_bytes(name, safe="").encode()
    assert xattr(key, encoded if padded else encoded.rstrip(b"=")) == (name, value)
    assert xattr(b"SCHILY.xattr." + name, value) == (name, value)
