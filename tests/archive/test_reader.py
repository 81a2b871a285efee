"""Whole archives: what entries come out, where an archive ends, and what is refused with which offset.

Each row of the tar format that readers have got wrong is a test here; the sparse formats have their own module.
"""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.archive.reading import Read, cut, names, one, read, read_pieces, refusal
from tests.support.tarbuild import (
    BLOCK,
    MTIME,
    SECOND,
    Entry,
    Format,
    base256,
    block,
    char,
    directory,
    encode,
    fifo,
    file,
    global_header,
    gnu_long,
    hardlink,
    header,
    layer,
    padded,
    pax_header,
    pax_record,
    symlink,
)
from unpacker.archive.reader import TarReader
from unpacker.errors import CorruptLayerError, LimitError, UnsafeEntryError
from unpacker.limits import Limits
from unpacker.spec.entry import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

PROPERTY = settings(max_examples=60, derandomize=True, database=None, deadline=None)
FORMATS: list[Format] = ["v7", "ustar", "gnu", "star", "pax"]
USTAR = {"magic": b"ustar\0", "version": b"00"}
GNU = {"magic": b"ustar ", "version": b" \0"}

ORDINARY = [
    directory("d/", mode=0o1777, uid=1, gid=2, mtime=0),
    file("d/f", b"content", mode=0o4755, uid=1000, gid=1001, mtime=1234 * SECOND),
    file("d/block", b"x" * 512),
    file("d/empty"),
    symlink("s", "../d/f"),
    hardlink("h", "d/f"),
    char("null", 1, 3, mode=0o666),
    block("loop", 7, 300),
    fifo("p", mode=0o600),
    file("two", b"y" * 1025),
]
KINDS = {
    "file": Kind.FILE,
    "directory": Kind.DIRECTORY,
    "symlink": Kind.SYMLINK,
    "hardlink": Kind.HARDLINK,
    "char": Kind.CHARACTER,
    "block": Kind.BLOCK,
    "fifo": Kind.FIFO,
}


def expected(entry: Entry, offset: int) -> Read:
    """Give what the reader must make of an entry whose last header is at this offset."""
    return Read(
        kind=KINDS[entry.kind],
        name=entry.name,
        link=entry.link,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        device=entry.device,
        xattrs=entry.xattrs,
        data=entry.data,
        offset=offset,
    )


def all_expected(entries: list[Entry], style: Format) -> list[Read]:
    found, at = [], 0
    for entry in entries:
        size = len(encode(entry, style))
        found.append(expected(entry, at + size - len(padded(entry.data)) - BLOCK))
        at += size
    return found


# -- ordinary archives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", FORMATS)
def test_every_format_says_the_same(style: Format) -> None:
    entries = [each for each in ORDINARY if style != "v7" or each.kind not in ("char", "block", "fifo")]
    assert read(layer(*entries, format=style)) == all_expected(entries, style)


LONG = b"/".join([b"n" * 60] * 5)
HIGHEST = b"c" * 255


@pytest.mark.parametrize(
    ("style", "name", "target"),
    [
        pytest.param("v7", b"n" * 100, b"t" * 100, id="v7: full fields have no NUL"),
        pytest.param("ustar", b"p" * 155 + b"/" + b"n" * 100, b"t" * 100, id="ustar: full prefix"),
        pytest.param("star", b"p" * 131 + b"/" + b"n" * 100, b"t" * 100, id="star: shorter prefix"),
        pytest.param("gnu", LONG, LONG, id="GNU: L and K"),
        pytest.param("pax", LONG, LONG, id="pax: path and linkpath"),
        pytest.param("gnu", HIGHEST, HIGHEST, id="GNU: a component of 255 bytes"),
        pytest.param("pax", HIGHEST, HIGHEST, id="pax: a component of 255 bytes"),
        pytest.param("gnu", b"/".join([b"d" * 63] * 64), b"t" * 4095, id="GNU: a path of 4095 bytes"),
        pytest.param("pax", b"/".join([b"d" * 63] * 64), b"t" * 4095, id="pax: a path of 4095 bytes"),
        pytest.param("pax", b"x" * 100_000, b"y" * 100_000, id="longer than Linux takes, which is not decided here"),
    ],
)
def test_long_names(style: Format, name: bytes, target: bytes) -> None:
    found, after = read(layer(symlink(name, target), file(b"after"), format=style))
    assert (found.name, found.link) == (name, target)
    assert after.name == b"after"


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize(
    "name",
    [b"caf\xc3\xa9", b"cafe\xcc\x81", b"latin-\xe9", b"\xff\xfe", b"new\nline", b"back\\slash", b"-rf", b" ", b"a=b"],
    ids=lambda name: ascii(name)[2:-1],
)
def test_names_are_bytes(style: Format, name: bytes) -> None:
    """Of any encoding; NFC and NFD are two names."""
    found = one(layer(symlink(name, name), format=style))
    assert (found.name, found.link) == (name, name)


@pytest.mark.parametrize("name", [b"./a", b"/a", b"a//b", b"a/./b", b"../a", b"a/..", b".", b"./", b"/"])
def test_names_stay_as_they_are_written(name: bytes) -> None:
    """What they lead to is decided once, in the layer."""
    assert names(layer(directory(name))) == [name]


def test_uname_and_gname_are_never_looked_at() -> None:
    """Ids are what counts: the image's /etc/passwd is not the host's."""
    found = one(layer(file("f", uid=5, gid=6, fields={"uname": b"root", "gname": b"root"})))
    assert (found.uid, found.gid) == (5, 6)


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "records", "ids"),
    [
        pytest.param({"uid": 0o7777777, "gid": 0o7777777}, (), (2097151, 2097151), id="seven octal digits"),
        pytest.param({"uid": b"7777777", "gid": b"77777777"}, (), (2097151, 16777215), id="eight, with no end"),
        pytest.param({"uid": 2**31, "gid": 2**32 - 2}, (), (2**31, 2**32 - 2), id="base-256"),
        pytest.param({}, [(b"uid", b"4294967294"), (b"gid", b"0")], (2**32 - 2, 0), id="pax"),
        pytest.param({"uid": 7, "gid": 8}, [(b"uid", b"9"), (b"gid", b"")], (9, 8), id="an empty record is none"),
    ],
)
def test_owners(fields: dict[str, int | bytes], records: list[tuple[bytes, bytes]], ids: tuple[int, int]) -> None:
    found = one(layer(file("f", fields=fields, records=records)))
    assert (found.uid, found.gid) == ids


@pytest.mark.parametrize(
    ("fields", "records"),
    [
        pytest.param({"uid": -1}, (), id="negative uid"),
        pytest.param({"gid": -1}, (), id="negative gid"),
        pytest.param({"uid": 2**32 - 1}, (), id="the uid that means leave it to chown(2)"),
        pytest.param({"gid": 2**32}, (), id="a gid of 33 bits"),
        pytest.param({}, [(b"uid", b"4294967295")], id="pax uid"),
        pytest.param({}, [(b"gid", b"4294967296")], id="pax gid"),
    ],
)
def test_impossible_owners(fields: dict[str, int | bytes], records: list[tuple[bytes, bytes]]) -> None:
    error = refusal(layer(file("f", fields=fields, records=records)))
    assert isinstance(error, UnsafeEntryError)
    assert "owner" in error.what
    assert error.entry == b"f"


def test_a_negative_pax_owner_is_no_number() -> None:
    error = refusal(layer(file("f", records=[(b"uid", b"-1")])))
    assert (error.what, error.entry) == ("pax uid b'-1' is not a number", b"f")


@pytest.mark.parametrize(
    ("entry", "mtime"),
    [
        pytest.param(file("f", mtime=0), 0, id="1970"),
        pytest.param(file("f", fields={"mtime": b"77777777777\0"}), (8**11 - 1) * SECOND, id="2242"),
        pytest.param(file("f", fields={"mtime": base256(2**40, 12)}), 2**40 * SECOND, id="base-256, far ahead"),
        pytest.param(file("f", fields={"mtime": base256(-2, 12)}), -2 * SECOND, id="base-256, before 1970"),
        pytest.param(file("f", fields={"mtime": bytes(12)}), 0, id="no time"),
        pytest.param(file("f", mtime=-3 * SECOND // 2), -1_500_000_000, id="pax, before 1970, with a fraction"),
        pytest.param(file("f", mtime=SECOND + 1), 1_000_000_001, id="pax, to the nanosecond"),
        pytest.param(file("f", records=[(b"mtime", b"")]), MTIME, id="an empty record is none"),
        pytest.param(file("f", records=[(b"mtime", b"1"), (b"mtime", b"2.5")]), 2_500_000_000, id="the last counts"),
        pytest.param(file("f", records=[(b"atime", b"1"), (b"ctime", b"2")]), MTIME, id="other times are ignored"),
    ],
)
def test_times(entry: Entry, mtime: int) -> None:
    assert one(layer(entry)).mtime == mtime


@pytest.mark.parametrize("mode", [b"0100644\0", b"0177777\0", base256(-1, 8)], ids=["file type", "all", "negative"])
def test_only_permission_bits_of_a_mode_count(mode: bytes) -> None:
    """Some writers put all of st_mode there."""
    assert one(layer(file("f", fields={"mode": mode}))).mode == (0o644 if mode.startswith(b"0100") else 0o7777)


@pytest.mark.parametrize(
    ("fields", "device"),
    [
        ({"major": 1, "minor": 3}, (1, 3)),
        ({"major": 259, "minor": 300}, (259, 300)),
        ({"major": 4095, "minor": 2**20 - 1}, (4095, 2**20 - 1)),
        ({"major": 2**32 - 1, "minor": 2**32 - 1}, (2**32 - 1, 2**32 - 1)),
        ({"major": b"", "minor": b""}, (0, 0)),
    ],
)
def test_device_numbers_beyond_eight_bits(fields: dict[str, int | bytes], device: tuple[int, int]) -> None:
    assert one(layer(char("c", 0, 0, fields=fields))).device == device
    assert one(layer(block("b", 0, 0, fields=fields))).device == device


@pytest.mark.parametrize("number", [-1, 2**32])
@pytest.mark.parametrize("field", ["major", "minor"])
def test_impossible_device_numbers(field: str, number: int) -> None:
    error = refusal(layer(char("c", 1, 3, fields={field: number})))
    assert isinstance(error, UnsafeEntryError)
    assert "device number" in error.what
    assert error.entry == b"c"


@pytest.mark.parametrize("entry", [file("f"), directory("f"), symlink("f", "g"), fifo("f")])
def test_device_numbers_of_what_is_no_device_are_ignored(entry: Entry) -> None:
    """Some writers leave junk there."""
    made = Entry(kind=entry.kind, name=b"f", link=entry.link, fields={"major": b"junk", "minor": b"junk"})
    assert one(layer(made)).device == (0, 0)


@pytest.mark.parametrize("field", ["mode", "uid", "gid", "size", "mtime"])
def test_a_field_that_is_no_number_is_named(field: str) -> None:
    error = refusal(layer(file("before"), file("f", fields={field: b"12345x"})))
    assert isinstance(error, CorruptLayerError)
    assert error.what.startswith(f"{field} field b'12345x")
    assert error.offset == BLOCK


# -- sizes, and what is smuggled with them -----------------------------------------------------------------------------

SMUGGLED = layer(file("smuggled", b"evil"), end=False)


def test_the_pax_size_counts_for_the_data_and_for_the_next_header() -> None:
    """TARmageddon (CVE-2025-62518): tokio-tar took the header's 0, and so the data for entries."""
    found, after = read(
        layer(file("f", SMUGGLED, fields={"size": 0}, records=[(b"size", b"%d" % len(SMUGGLED))]), file("after"))
    )
    assert (found.name, found.data) == (b"f", SMUGGLED)
    assert after.name == b"after"


def test_a_pax_size_of_zero_counts_as_well() -> None:
    """The other way round: what the header takes for data are entries."""
    hidden = layer(file("f", records=[(b"size", b"0")], fields={"size": len(SMUGGLED)}), SMUGGLED, file("after"))
    assert names(hidden) == [b"f", b"smuggled", b"after"]


def test_an_empty_pax_size_is_none() -> None:
    found, after = read(layer(file("f", b"data", records=[(b"size", b"")]), file("after")))
    assert (found.data, after.name) == (b"data", b"after")


def test_the_last_pax_size_counts() -> None:
    found, after = read(layer(file("f", b"data", records=[(b"size", b"512"), (b"size", b"4")]), file("after")))
    assert (found.data, after.name) == (b"data", b"after")


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(gnu_long("n" * 200), id="L"),
        pytest.param(gnu_long("n" * 200, typeflag=b"K"), id="K"),
    ],
)
def test_a_pax_size_is_not_for_headers_in_between(between: bytes) -> None:
    """node-tar and tar-rs applied it to the long name (GHSA-vmf3-w455-68vh), and read on in the middle of it."""
    records = {"size": b"4"}
    archive = layer(
        pax_header(records),
        between,
        symlink("s", "t", fields={"typeflag": b"0", "size": 4}),
        padded(b"data"),
        file("after"),
    )
    found, after = read(archive)
    assert found.data == b"data"
    assert after.name == b"after"


@pytest.mark.parametrize("typeflag", [b"0", b"S", b"V", b"x", b"g", b"L", b"K", b"X", b"5", b"2"])
@pytest.mark.parametrize("size", [-1, -512, -1024, -(2**62)])
def test_a_negative_size_is_an_error_whatever_has_it(typeflag: bytes, size: int) -> None:
    """It led CPython's tarfile back to the same header, for ever (CVE-2025-8194)."""
    magic = GNU if typeflag in b"SLKV" else USTAR
    bad = header(name=b"f", size=size, typeflag=typeflag, **magic)
    error = refusal(layer(file("before", b"x" * 2000), bad))
    assert isinstance(error, CorruptLayerError)
    assert error.what == f"size {size} is out of range"
    assert error.offset == 5 * BLOCK


@pytest.mark.parametrize("size", [2**63, 2**80])
def test_a_size_that_no_file_can_have_is_an_error(size: int) -> None:
    error = refusal(layer(file("f", fields={"size": base256(size, 12)})))
    assert (error.what, error.entry) == (f"size {size} is out of range", b"f")


def test_a_pax_size_that_no_file_can_have_is_an_error() -> None:
    error = refusal(layer(file("f", records=[(b"size", b"9223372036854775808")])))
    assert (error.what, error.entry) == ("size 9223372036854775808 is out of range", b"f")


@pytest.mark.parametrize("value", [b"-1", b"1.5", b"0x10", b"abc", b"1 "])
def test_a_pax_size_that_is_no_number_is_an_error(value: bytes) -> None:
    error = refusal(layer(file("f", records=[(b"size", value)])))
    assert (error.what, error.entry) == (f"pax size {value!r} is not a number", b"f")


def test_a_size_beyond_eight_gibibytes_is_believed() -> None:
    """Nothing is allocated for it; the archive just ends too early."""
    for entry in (
        file("f", fields={"size": base256(2**40, 12)}),
        file("f", records=[(b"size", b"1099511627776")]),
    ):
        error = refusal(layer(entry, end=False))
        assert (error.what, error.entry) == ("the archive ends within an entry's data", b"f")


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(hardlink("f", "t", fields={"size": 512}), id="hard link"),
        pytest.param(symlink("f", "t", fields={"size": 512}), id="symbolic link"),
        pytest.param(char("f", 1, 3, fields={"size": 512}), id="character device"),
        pytest.param(block("f", 1, 3, fields={"size": 512}), id="block device"),
        pytest.param(directory("f", fields={"size": 512}), id="directory"),
        pytest.param(fifo("f", fields={"size": 512}), id="fifo"),
        pytest.param(symlink("f", "t", records=[(b"size", b"512")]), id="symbolic link, by pax"),
        pytest.param(hardlink("f", "t", records=[(b"size", b"512")]), id="hard link, by pax"),
    ],
)
def test_data_behind_what_has_none_is_refused(entry: Entry) -> None:
    """GNU tar skips it behind a symbolic link, CPython and bsdtar do not: what is an entry to one is data to another."""
    error = refusal(layer(entry, SMUGGLED))
    assert isinstance(error, UnsafeEntryError)
    assert "with 512 bytes of data" in error.what
    assert error.entry == b"f"


# -- types -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typeflag", "magic", "name", "kind"),
    [
        pytest.param(b"0", USTAR, b"f", Kind.FILE, id="0"),
        pytest.param(b"\0", USTAR, b"f", Kind.FILE, id="NUL is v7's regular file, in every format"),
        pytest.param(b"7", USTAR, b"f", Kind.FILE, id="7, contiguous"),
        pytest.param(b"\0", {}, b"d/", Kind.DIRECTORY, id="v7 has no type for directories, but a slash"),
        pytest.param(b"0", {}, b"d/", Kind.DIRECTORY, id="v7 with 0"),
        pytest.param(b"\0", USTAR, b"d/", Kind.DIRECTORY, id="NUL and a slash, in every format"),
        pytest.param(b"\0", GNU, b"d/", Kind.DIRECTORY, id="NUL and a slash, in GNU's"),
        pytest.param(b"0", USTAR, b"f/", Kind.FILE, id="0 and a slash: a file, to Go and CPython"),
        pytest.param(b"5", USTAR, b"d", Kind.DIRECTORY, id="5 without a slash"),
        pytest.param(b"5", {}, b"d", Kind.DIRECTORY, id="5 without a magic"),
    ],
)
def test_typeflags(typeflag: bytes, magic: dict[str, bytes], name: bytes, kind: Kind) -> None:
    found = one(header(name=name, typeflag=typeflag, **magic) + bytes(1024))
    assert (found.kind, found.name) == (kind, name)


def test_a_v7_directory_may_get_its_slash_from_a_long_name() -> None:
    archive = gnu_long("long/") + header(name=b"cut", typeflag=b"\0", **GNU)
    assert one(archive).kind is Kind.DIRECTORY


def test_a_v7_directory_with_data_is_refused() -> None:
    error = refusal(header(name=b"d/", typeflag=b"\0", size=512) + SMUGGLED)
    assert isinstance(error, UnsafeEntryError)
    assert (error.what, error.entry) == ("directory with 512 bytes of data", b"d/")


@pytest.mark.parametrize("typeflag", [b"D", b"M", b"N", b"A", b"I", b"E", b"8", b"9", b"a", b"Z", b" ", b"\xff"])
@pytest.mark.parametrize("magic", [USTAR, GNU], ids=["ustar", "gnu"])
def test_other_types_are_refused(typeflag: bytes, magic: dict[str, bytes]) -> None:
    """POSIX would have them be files, GNU and Solaris have meanings for some; Go's users refuse them, as we do."""
    error = refusal(layer(file("before"), header(name=b"f", typeflag=typeflag, **magic)))
    assert isinstance(error, UnsafeEntryError)
    assert (error.what, error.entry, error.offset) == (f"unsupported entry type {typeflag!r}", b"f", BLOCK)


def test_a_refused_type_is_named_by_its_long_name() -> None:
    error = refusal(gnu_long("n" * 200) + header(name=b"n" * 100, typeflag=b"D", **GNU))
    assert error.entry == b"n" * 200


@pytest.mark.parametrize("size", [0, 512, 700])
def test_a_volume_label_is_no_entry(size: int) -> None:
    """GNU tar's ``--label``; nobody makes a file of it."""
    label = header(name=b"My backup", typeflag=b"V", size=size, **GNU) + padded(bytes(size))
    assert names(layer(label, file("f", b"x"))) == [b"f"]


def test_the_type_X_of_solaris_is_an_x() -> None:  # noqa: N802
    archive = layer(pax_header({"path": "renamed"}, typeflag=b"X"), file("f", b"x"))
    assert names(archive) == [b"renamed"]


# -- headers before headers --------------------------------------------------------------------------------------------


def test_a_pax_record_goes_before_the_field() -> None:
    records = [(b"path", b"p"), (b"linkpath", b"l"), (b"uid", b"1"), (b"gid", b"2"), (b"mtime", b"3.5")]
    found = one(layer(symlink("s", "t", uid=8, gid=9, records=records)))
    assert (found.name, found.link, found.uid, found.gid, found.mtime) == (b"p", b"l", 1, 2, 3_500_000_000)


def test_a_pax_path_replaces_prefix_and_name() -> None:
    assert names(layer(file("f", fields={"prefix": b"some/where"}, records=[(b"path", b"p")]))) == [b"p"]


def test_a_gnu_long_name_replaces_prefix_and_name() -> None:
    assert names(layer(gnu_long("long"), file("f", fields={"prefix": b"some/where"}))) == [b"long"]


def test_pax_records_are_for_one_entry() -> None:
    first, second = read(
        layer(file("f", records=[(b"path", b"p"), (b"uid", b"5"), (b"SCHILY.xattr.user.a", b"1")]), file("g"))
    )
    assert (first.name, first.uid, first.xattrs) == (b"p", 5, {b"user.a": b"1"})
    assert (second.name, second.uid, second.xattrs) == (b"g", 0, {})


def test_the_last_of_two_records_counts() -> None:
    records = [(b"path", b"one"), (b"uid", b"1"), (b"path", b"two"), (b"uid", b"2")]
    found = one(layer(file("f", records=records)))
    assert (found.name, found.uid) == (b"two", 2)


@pytest.mark.parametrize("key", [b"path", b"linkpath", b"size", b"mtime", b"uid", b"gid"])
def test_an_empty_value_leaves_the_field_as_it_is(key: bytes) -> None:
    """POSIX would take the field away, CPython makes the name empty; Go's reading is the one that layers were made for."""
    plain = symlink("s", "t", uid=8, gid=9)
    empty = one(layer(Entry(kind="symlink", name=b"s", link=b"t", uid=8, gid=9, mode=0o777, records=((key, b""),))))
    assert (empty.name, empty.link, empty.uid, empty.gid, empty.mtime) == (b"s", b"t", 8, 9, plain.mtime)


@pytest.mark.parametrize("charset", [b"BINARY", b"ISO-IR 10646 2000 UTF-8", b"", b"EBCDIC"])
def test_hdrcharset_changes_nothing(charset: bytes) -> None:
    """Names are bytes, and were bytes to begin with."""
    found = one(
        layer(symlink("s", "t", records=[(b"hdrcharset", charset), (b"path", b"\xe9"), (b"linkpath", b"\xff")]))
    )
    assert (found.name, found.link) == (b"\xe9", b"\xff")


@pytest.mark.parametrize(
    "key",
    [
        *("comment", "charset", "uname", "gname", "atime", "ctime", "LIBARCHIVE.creationtime", "RHT.security.selinux"),
        *("SCHILY.dev", "SCHILY.ino", "SCHILY.nlink", "SCHILY.realsize", "SCHILY.acl.access", "SCHILY.fflags"),
        *(
            "SCHILY.devmajor",
            "SCHILY.devminor",
            "MSWINDOWS.rawsd",
            "MSWINDOWS.fileattr",
            "anything=at all",
            "GNU.volume",
        ),
    ],
)
def test_other_records_say_nothing(key: str) -> None:
    """Whatever stands in them."""
    body = pax_header([(key, b"\xff\0junk")]) if key not in ("uname", "gname") else pax_header([(key, b"junk")])
    plain = one(layer(file("f", b"data")))
    assert read(layer(body, file("f", b"data"))) == [Read(**{**vars(plain), "offset": 2 * BLOCK})]


def test_xattrs_of_both_encodings() -> None:
    """bsdtar writes each attribute in both."""
    records = [
        (b"LIBARCHIVE.xattr.user.a", b"AP8"),
        (b"SCHILY.xattr.user.a", b"\0\xff"),
        (b"SCHILY.xattr.user.b", b"=\n"),
    ]
    assert one(layer(file("f", records=records))).xattrs == {b"user.a": b"\0\xff", b"user.b": b"=\n"}


def test_entries_without_xattrs_share_nothing() -> None:
    reader = TarReader(iter([layer(file("f", xattrs={"user.a": b"1"}), file("g"))]))
    assert [entry.xattrs for entry in reader] == [{b"user.a": b"1"}, None]


@pytest.mark.parametrize("key", [b"SCHILY.xattr.", b"LIBARCHIVE.xattr.user.%00"])
def test_a_broken_xattr_is_an_error_of_its_entry(key: bytes) -> None:
    error = refusal(layer(file("f", records=[(key, b"MQ==")])))
    assert isinstance(error, CorruptLayerError)
    assert (error.entry, error.offset) == (b"f", 1024)


@pytest.mark.parametrize("typeflag", [b"x", b"X"])
def test_two_pax_headers_for_one_entry_are_refused(typeflag: bytes) -> None:
    """The second replaces the first, or adds to it, or is an entry: every reader has its own way."""
    error = refusal(layer(pax_header({"path": "a"}), pax_header({"uid": "1"}, typeflag=typeflag), file("f")))
    assert (error.what, error.offset) == ("two pax headers for one entry", 2 * BLOCK)


@pytest.mark.parametrize("typeflag", [b"L", b"K"])
def test_two_gnu_long_names_for_one_entry_are_refused(typeflag: bytes) -> None:
    twice = gnu_long("a" * 120, typeflag=typeflag) + gnu_long("a" * 120, typeflag=typeflag)
    assert refusal(layer(twice, file("f"))).what == "two GNU long names for one entry"


@pytest.mark.parametrize("first", ["x", "L"])
@pytest.mark.parametrize(("key", "typeflag"), [("path", b"L"), ("linkpath", b"K")])
def test_gnu_and_pax_names_that_differ_are_refused(first: str, key: str, typeflag: bytes) -> None:
    """GNU's wins for Go, pax's for GNU tar itself."""
    pieces = [pax_header({key: "one"}), gnu_long("two", typeflag=typeflag)]
    ordered = pieces if first == "x" else pieces[::-1]
    assert refusal(layer(*ordered, symlink("s", "t"))).what == "a GNU long name and a pax name that differ"
    same = [pax_header({key: "one", "uid": "5"}), gnu_long("one", typeflag=typeflag)]
    found = one(layer(*(same if first == "x" else same[::-1]), symlink("s", "t")))
    assert b"one" in (found.name, found.link)
    assert found.uid == 5


def test_long_name_and_long_link_in_either_order() -> None:
    """GNU tar writes K first, Go L."""
    pieces = [gnu_long("name" * 50), gnu_long("link" * 50, typeflag=b"K")]
    for ordered in (pieces, pieces[::-1]):
        found = one(layer(*ordered, symlink("s", "t")))
        assert (found.name, found.link) == (b"name" * 50, b"link" * 50)


@pytest.mark.parametrize(
    ("body", "name"),
    [(b"long\0", b"long"), (b"long", b"long"), (b"long\0junk", b"long"), (b"l\xe9ng\0\0\0", b"l\xe9ng")],
    ids=["a NUL at the end", "no NUL", "behind the NUL is nothing", "several NULs"],
)
def test_gnu_long_names_end_in_a_nul(body: bytes, name: bytes) -> None:
    long = header(name=b"././@LongLink", size=len(body), typeflag=b"L", **GNU) + padded(body)
    assert names(layer(long, file("f"))) == [name]


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(file(""), id="in the header"),
        pytest.param(gnu_long("") + encode(file("f")), id="GNU"),
        pytest.param(header(typeflag=b"0", prefix=b"", **USTAR), id="neither name nor prefix"),
    ],
)
def test_an_empty_name_is_refused(entry: Entry | bytes) -> None:
    error = refusal(layer(entry))
    assert (error.what, type(error)) == ("entry with an empty name", UnsafeEntryError)


@pytest.mark.parametrize("key", [b"path", b"linkpath", b"uname"])
def test_a_name_with_NUL_is_refused(key: bytes) -> None:  # noqa: N802
    """C would see another name than Python."""
    error = refusal(layer(symlink("s", "t", records=[(key, b"a\0b")])))
    assert isinstance(error, CorruptLayerError)
    assert "NUL" in error.what
    assert error.offset == 0, "the pax header's own"


# -- global headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "records", [{"comment": "x"}, {}, {"uid": "5", "mtime": "1", "uname": "x"}, {"hdrcharset": "BINARY"}]
)
def test_global_headers_are_read_and_not_applied(records: dict[str, str]) -> None:
    """As in Go, and so in containerd and Docker: ``git archive`` puts its commit there."""
    plain = one(layer(file("f", b"x", uid=1)))
    found, after = read(layer(global_header(records), file("f", b"x", uid=1), global_header({}), file("after")))
    assert found == Read(**{**vars(plain), "offset": found.offset})
    assert after.name == b"after"


@pytest.mark.parametrize(
    "key",
    ["path", "linkpath", "size", "GNU.sparse.map", "GNU.sparse.name", "SCHILY.xattr.user.a", "LIBARCHIVE.xattr.user.a"],
)
@pytest.mark.parametrize("value", ["1", ""])
def test_global_headers_that_rename_or_resize_are_refused(key: str, value: str) -> None:
    """CPython calls every file by the name that stands there."""
    error = refusal(layer(file("before"), global_header({"comment": "x", key: value}), file("f")))
    assert isinstance(error, UnsafeEntryError)
    assert (error.what, error.offset) == (f"global pax header that sets {key!r}", BLOCK)


def test_a_malformed_global_header_is_an_error() -> None:
    error = refusal(layer(global_header(b"12 path=a/bc"), file("f")))
    assert isinstance(error, CorruptLayerError)
    assert error.offset == 0


@pytest.mark.parametrize("before", [pax_header({"path": "p"}), gnu_long("p")], ids=["x", "L"])
@pytest.mark.parametrize(
    ("between", "what"),
    [
        (global_header({"comment": "x"}), "a global pax header between an extension header and its entry"),
        (header(name=b"label", typeflag=b"V", **GNU), "a volume label between an extension header and its entry"),
    ],
    ids=["g", "V"],
)
def test_nothing_comes_between_an_extension_header_and_its_entry(before: bytes, between: bytes, what: str) -> None:
    """Go forgets the extension there, CPython keeps it, or gives it to the label."""
    error = refusal(layer(before, between, file("f")))
    assert isinstance(error, CorruptLayerError)
    assert error.what == what
    assert error.offset == 2 * BLOCK


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typeflag", [b"x", b"X", b"g", b"L", b"K"])
def test_the_size_of_extension_headers_is_limited(typeflag: bytes) -> None:
    """Go's CVE-2022-2879 was to read any number of bytes; the size alone decides, before a byte is read."""
    limits = Limits(header_bytes=1000)
    body = 2 * pax_record("comment", b"x" * 487) if typeflag in b"xXg" else b"n" * 1000
    assert len(body) == 1000
    fits = header(name=b"x", size=1000, typeflag=typeflag, **GNU) + padded(body)
    assert len(read(layer(fits, file("f")), limits)) == 1
    for size in (1001, 2**40, 2**80):
        error = refusal(layer(file("before"), header(name=b"x", size=size, typeflag=typeflag, **GNU)), limits)
        assert isinstance(error, LimitError)
        assert (error.limit, error.allowed, error.found, error.offset) == ("header_bytes", 1000, size, BLOCK)


def test_the_number_of_entries_is_limited() -> None:
    archive = layer(*[file(f"f{number}") for number in range(4)])
    assert len(read(archive, Limits(entries=4))) == 4
    error = refusal(archive, Limits(entries=3))
    assert isinstance(error, LimitError)
    assert (error.limit, error.found, error.entry, error.offset) == ("entries", 4, b"f3", 3 * BLOCK)


@pytest.mark.parametrize("key", [b"SCHILY.xattr.user.a", b"LIBARCHIVE.xattr.user.a"])
def test_the_size_of_an_xattr_is_limited(key: bytes) -> None:
    def archive(size: int) -> bytes:
        return layer(file("f", records=[(key, b"A" * (size if key.startswith(b"S") else size * 4 // 3))]))

    assert len(read(archive(300), Limits(xattr_bytes=300))[0].xattrs[b"user.a"]) == 300
    error = refusal(archive(303), Limits(xattr_bytes=300))
    assert isinstance(error, LimitError)
    assert (error.limit, error.found, error.entry) == ("xattr_bytes", 303, b"f")


# -- the end -----------------------------------------------------------------------------------------------------------

TWO = layer(file("a", b"x" * 600), file("b", b"y"), end=False)
LAST = 4 * BLOCK + 1
"""Where the last byte of data in it ends."""


@pytest.mark.parametrize(
    ("archive", "marked"),
    [
        pytest.param(TWO + bytes(1024), True, id="two zero blocks"),
        pytest.param(TWO + bytes(10240), True, id="more of them, to a record's size"),
        pytest.param(TWO + bytes(1024 + 100), True, id="and half a block"),
        pytest.param(TWO + bytes(512), False, id="one zero block, and the end"),
        pytest.param(TWO, False, id="none"),
        pytest.param(TWO[:LAST], False, id="nor the last padding, as umoci insert leaves it out"),
        pytest.param(TWO[: LAST + 200], False, id="nor all of the last padding"),
        pytest.param(TWO + bytes(1024) + b"garbage" * 300, True, id="garbage behind the end"),
        pytest.param(TWO + bytes(1024) + layer(file("c")), True, id="an archive behind the end"),
    ],
)
def test_ends(archive: bytes, marked: bool) -> None:
    """What is behind the end marker is no entry; it counts in the diff_id all the same."""
    assert names(archive) == [b"a", b"b"]
    reader = TarReader(iter([archive]))
    assert len(list(reader)) == 2
    assert reader.marked_end is marked


@pytest.mark.parametrize("size", [0, 512, 1024, 5000])
def test_an_archive_of_nothing(size: int) -> None:
    """Docker's empty layer is two zero blocks; zero bytes are an archive as well."""
    assert read(bytes(size)) == []


@pytest.mark.parametrize(
    ("archive", "what", "offset", "entry"),
    [
        pytest.param(
            TWO + bytes(512) + TWO,
            "a single zero block in the middle",
            5 * BLOCK,
            None,
            id="one zero block, then entries",
        ),
        pytest.param(
            TWO + bytes(512) + b"\1" * 512,
            "a single zero block in the middle",
            5 * BLOCK,
            None,
            id="one zero block, then junk",
        ),
        pytest.param(
            TWO + bytes(700), "the archive ends within a header", 5 * BLOCK + 700, None, id="one and a half zero blocks"
        ),
        pytest.param(TWO + b"\1" * 512, "not a tar header", 5 * BLOCK, None, id="junk in place of a header"),
        pytest.param(
            TWO + b"junk", "the archive ends within a header", 5 * BLOCK + 4, None, id="junk, less than a header"
        ),
        pytest.param(TWO[:100], "the archive ends within a header", 100, None, id="cut in the first header"),
        pytest.param(
            TWO[: 3 * BLOCK + 100],
            "the archive ends within a header",
            3 * BLOCK + 100,
            None,
            id="cut in a later header",
        ),
        pytest.param(TWO[:700], "the archive ends within an entry's data", 700, b"a", id="cut in the data"),
        pytest.param(TWO[:512], "the archive ends within an entry's data", 512, b"a", id="cut before the data"),
        pytest.param(
            TWO[: LAST - 1], "the archive ends within an entry's data", LAST - 1, b"b", id="cut before the last byte"
        ),
        pytest.param(
            pax_header({"path": "p"})[:515], "the archive ends within a header", 515, None, id="cut in a pax header"
        ),
        pytest.param(
            pax_header({"path": "p"}), "the archive ends behind an extension header", 1024, None, id="x, and the end"
        ),
        pytest.param(gnu_long("p"), "the archive ends behind an extension header", 1024, None, id="L, and the end"),
        pytest.param(
            gnu_long("p", typeflag=b"K"), "the archive ends behind an extension header", 1024, None, id="K, and the end"
        ),
        pytest.param(
            layer(pax_header({})),
            "the archive ends behind an extension header",
            512,
            None,
            id="x of nothing, and the end marker",
        ),
    ],
)
def test_broken_ends(archive: bytes, what: str, offset: int, entry: bytes | None) -> None:
    """None of them is silent, as they are for CPython and GNU tar."""
    error = refusal(archive)
    assert isinstance(error, CorruptLayerError)
    assert error.what.startswith(what)
    assert (error.offset, error.entry) == (offset, entry)


def test_damage_in_the_middle_is_an_error_and_no_end() -> None:
    """CPython's tarfile stops in silence, with half of the files."""
    archive = bytearray(layer(file("a"), file("b"), file("c")))
    archive[BLOCK + 5] ^= 1
    error = refusal(bytes(archive))
    assert (error.what, error.offset) == ("not a tar header: its checksum is wrong", BLOCK)


@pytest.mark.parametrize("blob", [b"{}".ljust(600), b"#!/bin/sh\n" * 100, b"\x7fELF".ljust(2000, b"\1")])
def test_what_is_no_archive_at_all_is_called_so(blob: bytes) -> None:
    error = refusal(blob)
    assert error.what.startswith("not a tar header: ")
    assert error.offset == 0


def test_every_bit_of_a_header_counts() -> None:
    """One flipped bit is found, wherever it is."""
    archive = layer(file("some/name", b"x", uid=3), symlink("s", "target"))
    for at in [*range(BLOCK), *range(2 * BLOCK, 3 * BLOCK)]:
        damaged = bytearray(archive)
        damaged[at] ^= 0x04
        try:
            found = read_pieces([bytes(damaged)])
        except (CorruptLayerError, UnsafeEntryError):
            continue
        # The checksum field has bytes that say nothing: its blanks.
        assert 148 <= at % BLOCK < 156
        assert found == read_pieces([archive])


@pytest.mark.parametrize("end", sorted({*range(0, len(TWO), 61), 512, 1112, 1536, 2048, LAST - 1, LAST, len(TWO)}))
def test_an_archive_that_is_cut_anywhere_is_never_taken_for_another(end: int) -> None:
    """All that was whole is there, and then the end is right or an error at the cut."""
    reader = TarReader(iter([TWO[:end]]))
    found: list[tuple[bytes, bytes]] = []
    in_data = 512 <= end < 512 + 600 or 2048 <= end < LAST
    in_header = 0 < end < 512 or 1536 < end < 2048
    if in_data or in_header:
        with pytest.raises(CorruptLayerError) as caught:
            found.extend((entry.name, b"".join(reader.data())) for entry in reader)
        assert caught.value.offset == end
        assert ("data" in caught.value.what) == in_data
    else:
        found.extend((entry.name, b"".join(reader.data())) for entry in reader)
    assert found == [(b"a", b"x" * 600), (b"b", b"y")][: (end >= 1112) + (end >= LAST)]


# -- how the bytes come, and are taken ---------------------------------------------------------------------------------

MIXED = layer(
    *ORDINARY,
    file(LONG, b"z" * 3000, xattrs={"user.a": b"1"}, mtime=1),
    gnu_long("g" * 300),
    file("g", b"g" * 511),
    global_header({"comment": "x"}),
    symlink("long", LONG, format="gnu"),
    file("last", b"l" * 512),
)


@PROPERTY
@given(st.lists(st.integers(1, len(MIXED) - 1), max_size=40, unique=True).map(sorted))
def test_cuts_anywhere_change_nothing(cuts: list[int]) -> None:
    pieces = [MIXED[start:end] for start, end in zip([0, *cuts], [*cuts, len(MIXED)], strict=True)]
    assert read_pieces(pieces) == read_pieces([MIXED])


def test_single_bytes_change_nothing() -> None:
    assert read_pieces(cut(MIXED, 1)) == read_pieces([MIXED])


@pytest.mark.parametrize("size", [100, 512, 1 << 20])
@pytest.mark.parametrize(
    "take",
    [
        pytest.param(lambda reader: None, id="nothing"),
        pytest.param(lambda reader: next(reader.data(), None), id="the first piece"),
        pytest.param(lambda reader: list(reader.data()), id="all"),
        pytest.param(lambda reader: reader.whole(), id="whole"),
    ],
)
def test_data_may_be_left(size: int, take: Callable[[TarReader], object]) -> None:
    """Whiteouts may have data, which nobody asks for."""
    reader = TarReader(cut(MIXED, size))
    found = []
    for entry in reader:
        found.append(entry.name)
        take(reader)
    assert found == names(MIXED)


def test_whole_gives_data_that_lies_in_one_piece() -> None:
    archive = layer(file("a", b"abc"), file("b"), file("c", b"x" * 600))
    reader = TarReader(iter([archive]))
    assert [bytes(reader.whole() or b"none") for _ in reader] == [b"abc", b"none", b"x" * 600]
    reader = TarReader(cut(archive, 514))
    given = [(reader.whole(), b"".join(reader.data())) for _ in reader]
    assert given == [(None, b"abc"), (b"", b""), (None, b"x" * 600)]


def test_data_is_given_once() -> None:
    reader = TarReader(iter([layer(file("a", b"abc"))]))
    next(iter(reader))
    assert b"".join(reader.data()) == b"abc"
    assert b"".join(reader.data()) == b""


def test_entries_stay_what_they_are() -> None:
    """They are values: the caller may keep them."""
    kept = list(TarReader(cut(MIXED, 700)))
    assert [entry.name for entry in kept] == names(MIXED)
    assert all(entry.offset == each.offset for entry, each in zip(kept, read(MIXED), strict=True))


def test_the_offset_counts_what_was_taken() -> None:
    reader = TarReader(cut(MIXED, 700))
    for entry in reader:
        assert reader.offset == entry.offset + BLOCK
    assert reader.offset == len(MIXED)


def test_memory_is_flat() -> None:
    """Data passes through, whatever its size; so do entries."""
    piece = bytes(1 << 16)

    def pieces() -> list[bytes]:
        return [header(name=b"big", size=len(piece) * 1000, typeflag=b"0", **USTAR), *[piece] * 1000]

    reader = TarReader(iter([*pieces(), layer(*[file(f"f{number}") for number in range(1000)])]))
    tracemalloc.start()
    try:
        assert sum(sum(map(len, reader.data())) for _ in reader) == len(piece) * 1000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_error_of_the_stream_passes_through() -> None:
    def broken() -> object:
        yield MIXED[:1000]
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(TarReader(broken()))  # type: ignore[arg-type]
