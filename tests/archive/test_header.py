"""The fields of a header block, as v7, ustar, GNU and star write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tarbuild import base256, checksum, header, octal
from unpacker.archive.header import FIELDS, GNU_MAGIC, POSIX_MAGIC, checksum_matches, number, prefix, text
from unpacker.errors import CorruptLayerError

PROPERTY = settings(max_examples=100, derandomize=True, database=None, deadline=None)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        pytest.param(b"name\0\0\0\0", b"name", id="NUL ends it"),
        pytest.param(b"name\0more", b"name", id="behind the NUL is nothing"),
        pytest.param(b"namename", b"namename", id="a full field has no NUL"),
        pytest.param(b"\0name\0\0\0", b"", id="empty"),
        pytest.param(b" na\xe9me \0", b" na\xe9me ", id="bytes, blanks too"),
    ],
)
def test_strings(field: bytes, expected: bytes) -> None:
    assert text(field) == expected


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        pytest.param(b"0000644\0", 0o644, id="POSIX: zeros, and a NUL"),
        pytest.param(b"000644 \0", 0o644, id="v7: a space and a NUL"),
        pytest.param(b"   644 \0", 0o644, id="leading spaces"),
        pytest.param(b"644     ", 0o644, id="spaces only"),
        pytest.param(b"00000644", 0o644, id="full, with no end"),
        pytest.param(b"77777777777\0", 8**11 - 1, id="the most that eleven digits hold"),
        pytest.param(b"777777777777", 8**12 - 1, id="the most that twelve digits hold"),
        pytest.param(bytes(8), 0, id="NULs"),
        pytest.param(b"        ", 0, id="spaces"),
        pytest.param(b"  \0\0  \0\0", 0, id="both"),
        pytest.param(b"644\0junk", 0o644, id="behind the NUL is nothing"),
        pytest.param(b"\x80" + bytes(6) + b"\x05", 5, id="base-256"),
        pytest.param(b"\x80\0\0\0\x80\0\0\0", 2**31, id="base-256, beyond 21 bits"),
        pytest.param(b"\x80" + bytes(3) + b"\x02" + bytes(7), 2**57, id="base-256, a size beyond 8 GiB"),
        pytest.param(b"\x80" + b"\xff" * 11, 2**88 - 1, id="base-256, positive though all other bits are set"),
        pytest.param(b"\xff" * 11 + b"\xfe", -2, id="base-256, negative"),
        pytest.param(b"\xff" * 8, -1, id="base-256, minus one"),
        pytest.param(b"\xff\x7f" + bytes(6), -(2**48) - 2**55, id="base-256, far below zero"),
    ],
)
def test_numbers(field: bytes, expected: int) -> None:
    assert number(field, "size") == expected


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(b"0000648\0", id="eight is no octal digit"),
        pytest.param(b"-000644\0", id="a sign"),
        pytest.param(b"+000644\0", id="a plus"),
        pytest.param(b"0o00644\0", id="Python's prefix"),
        pytest.param(b"0x00644\0", id="C's prefix"),
        pytest.param(b"00_0644\0", id="Python's underscore"),
        pytest.param(b"00 0644\0", id="a blank within"),
        pytest.param(b"\t000644\0", id="a tab"),
        pytest.param(b"644\n\0\0\0\0", id="a newline"),
        pytest.param(b"junk\0\0\0\0", id="letters"),
        pytest.param("٦٤٤".encode() + b"\0\0", id="digits of another script"),
        # Go's reader takes these for 0644, GNU tar some of them, Python's and bsdtar for 0: the length of an entry, for
        # one reader, of the entries in it, for the other.
        pytest.param(b"\x000000644", id="digits behind a NUL"),
        pytest.param(b" \0 644\0\0", id="digits behind a space and a NUL"),
        pytest.param(b"\x81" + bytes(7), id="base-256 of no known sign"),
        pytest.param(b"\xc0" + bytes(7), id="base-256 of another encoding"),
        pytest.param(b"\xfe" + b"\xff" * 7, id="base-256, almost negative"),
    ],
)
def test_what_only_some_readers_take_for_a_number_is_none(field: bytes) -> None:
    with pytest.raises(CorruptLayerError, match=r"^size field b.*is n"):
        number(field, "size")


@PROPERTY
@given(st.integers(0, 8**11 - 1), st.integers(-(2**87), 2**87))
def test_numbers_come_back(small: int, large: int) -> None:
    assert number(octal(small, 12), "size") == small
    assert number(base256(large, 12), "size") == large


# -- the checksum ------------------------------------------------------------------------------------------------------

ASCII = header(name=b"etc/passwd", mode=0o644, size=1234, mtime=10**9, typeflag=b"0", magic=b"ustar\0", version=b"00")
LATIN = header(name=b"\xe9t\xe9" * 30, mode=0o644, size=2**40, typeflag=b"0", magic=b"ustar\0", version=b"00")
HEAVY = header(name=b"\xff" * 100, link=b"\xff" * 100, prefix=b"\xff" * 155, uname=b"\xff" * 32, gname=b"\xff" * 32)
BLOCKS = [pytest.param(ASCII, id="ascii"), pytest.param(LATIN, id="latin"), pytest.param(HEAVY, id="over 16 bits")]


def signed(block: bytes) -> int:
    """Add up a block as tars did whose compilers had signed characters."""
    blanked = block[:148] + b" " * 8 + block[156:]
    return sum(byte - 256 * (byte > 127) for byte in blanked)


@pytest.mark.parametrize("block", BLOCKS)
def test_checksum_counts_unsigned_bytes(block: bytes) -> None:
    assert checksum_matches(block, checksum(block))


@pytest.mark.parametrize("block", BLOCKS)
def test_checksum_may_count_signed_bytes(block: bytes) -> None:
    """Old Sun and SCO tars wrote it so, and every reader takes both."""
    assert checksum_matches(block, signed(block))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("away", [-256, -1, 1, 256, 65521, -65521, 65536, 2 * 65521])
def test_every_other_checksum_is_wrong(block: bytes, away: int) -> None:
    """Those, too, that are the same modulo what Adler-32 counts in."""
    assert checksum(HEAVY) > 65521
    stored = checksum(block) + away
    assert checksum_matches(block, stored) == (stored == signed(block))


@pytest.mark.parametrize("written", [b"%06o\0 ", b"%07o\0", b"%06o \0", b"%6o\0 ", b"%08o", b"%o\0"])
def test_the_checksum_field_counts_as_spaces_however_it_is_written(written: bytes) -> None:
    block = ASCII[:148] + (written % checksum(ASCII)).ljust(8, b"\0") + ASCII[156:]
    assert checksum_matches(block, number(FIELDS.unpack_from(block)[6], "checksum"))


@PROPERTY
@given(st.binary(min_size=512, max_size=512) | st.text(min_size=512, max_size=512, alphabet="\0 ~").map(str.encode))
def test_any_block_has_its_checksums_and_no_other(block: bytes) -> None:
    sums = {checksum(block), signed(block)}
    assert all(checksum_matches(block, total) for total in sums)
    near = {total + away for total in sums for away in (-65521, -1, 1, 65521)} - sums
    assert not any(checksum_matches(block, total) for total in near)


# -- the prefix --------------------------------------------------------------------------------------------------------

POSIX = {"magic": b"ustar\0", "version": b"00"}
GNU = {"magic": b"ustar ", "version": b" \0"}


def prefix_of(**fields: int | bytes) -> bytes:
    block = header(name=b"name", **fields)
    return prefix(block, FIELDS.unpack_from(block)[9])


def test_ustar_has_a_prefix() -> None:
    assert prefix_of(prefix=b"some/where", **POSIX) == b"some/where"
    assert prefix_of(**POSIX) == b""


def test_a_full_prefix_has_no_NUL_at_its_end() -> None:  # noqa: N802 -- the byte's name
    assert prefix_of(prefix=b"p" * 155, **POSIX) == b"p" * 155


def test_a_prefix_of_star_is_shorter_as_its_times_stand_behind() -> None:
    times = {"star_atime": b"14000000000\0", "star_ctime": b"14000000001\0", "trailer": b"tar\0"}
    assert prefix_of(star_prefix=b"p" * 131, **times, **POSIX) == b"p" * 131
    assert prefix_of(star_prefix=b"", **times, **POSIX) == b""


@pytest.mark.parametrize(
    "times",
    [
        pytest.param({"gnu_atime": b"14000000000\0", "gnu_ctime": b"14000000001\0"}, id="octal"),
        pytest.param({"gnu_atime": b"14000000000\0"}, id="atime alone"),
        pytest.param({"gnu_atime": base256(-5, 12), "gnu_ctime": base256(2**40, 12)}, id="base-256"),
        pytest.param({"gnu_atime": b" 1400000000 "}, id="spaces"),
    ],
)
def test_gnu_times_are_no_prefix(times: dict[str, bytes]) -> None:
    """GNU tar keeps access times there with --incremental; CPython's tarfile calls the file ``14000000000/name``."""
    assert prefix_of(**times, **GNU) == b""


def test_a_prefix_under_the_GNU_magic_is_from_Go_before_1_8() -> None:  # noqa: N802 -- their names
    """Such layers are in registries, and Go's reader takes them so, too."""
    assert prefix_of(prefix=b"usr/share/doc", **GNU) == b"usr/share/doc"
    assert prefix_of(prefix=b"usr/\xe9t\xe9", **GNU) == b""


def test_v7_has_no_prefix() -> None:
    """Whatever else stands there."""
    assert prefix_of(prefix=b"junk") == b""
    assert prefix_of(prefix=b"junk", magic=b"ustar\0"[:5] + b"x") == b""


def test_magics_are_those_of_the_builder() -> None:
    """The rest of the tests stands on them."""
    assert (POSIX["magic"], GNU["magic"] + GNU["version"]) == (POSIX_MAGIC, GNU_MAGIC)
