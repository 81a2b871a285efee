"""The tar builder against readers that are not ours: the standard library's tarfile, GNU tar, bsdtar."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.model.reference import apply
from tests.support.probes import needs_chown, needs_mknod, needs_tool, needs_user_xattr
from tests.support.tarbuild import (
    BLOCK,
    SECOND,
    Entry,
    Format,
    base256,
    block,
    char,
    checksum,
    decimal_time,
    directory,
    encode,
    fifo,
    file,
    global_header,
    gnu_long,
    hardlink,
    header,
    layer,
    octal,
    opaque,
    pax_header,
    pax_record,
    sparse_old,
    sparse_pax,
    symlink,
    whiteout,
)
from tests.support.tree import diff, read

if TYPE_CHECKING:
    from pathlib import Path

FORMATS: list[Format] = ["v7", "ustar", "gnu", "star", "pax"]
ORDINARY = [
    directory("d/", mode=0o1777, uid=1, gid=2),
    file("d/f", b"content", mode=0o4755, uid=1000, gid=1000, mtime=1234 * SECOND),
    file("d/empty"),
    file("d/block", b"x" * 512),
    symlink("s", "d/f"),
    hardlink("h", "d/f"),
    char("null", 1, 3, mode=0o666),
    block("loop", 7, 300),
    fifo("p", mode=0o600),
]
PORTABLE = [entry for entry in ORDINARY if entry.kind not in ("char", "block", "fifo")]
BY_FORMAT: list[tuple[Format, list[Entry]]] = [(style, PORTABLE if style == "v7" else ORDINARY) for style in FORMATS]
TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def members(archive: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive), errorlevel=2) as opened:
        return opened.getmembers()


def content(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        stored = opened.extractfile(name)
        assert stored is not None
        return stored.read()


@pytest.mark.parametrize(("style", "entries"), BY_FORMAT, ids=FORMATS)
def test_tarfile_reads_ordinary_entries(style: Format, entries: list[Entry]) -> None:
    """Every field arrives, in every format."""
    archive = layer(*entries, format=style)
    for entry, member in zip(entries, members(archive), strict=True):
        assert member.name.encode() == entry.name.rstrip(b"/")
        assert member.type == TYPES[entry.kind]
        assert (member.mode, member.uid, member.gid) == (entry.mode, entry.uid, entry.gid)
        assert member.mtime == entry.mtime // SECOND
        assert member.linkname.encode() == entry.link
        assert (member.devmajor, member.devminor) == entry.device
        assert member.size == len(entry.data)
    assert content(archive, "d/f") == b"content"


@needs_tool("tar")
@needs_chown
@needs_mknod
@pytest.mark.parametrize(("style", "entries"), BY_FORMAT, ids=FORMATS)
@pytest.mark.parametrize("program", ["tar", pytest.param("bsdtar", marks=needs_tool("bsdtar"))])
def test_tar_extracts_ordinary_entries(style: Format, entries: list[Entry], program: str, tmp_path: Path) -> None:
    """The tree that tar makes is the one that the reference model makes of the entries."""
    extract(program, layer(*entries, format=style), tmp_path)
    expected, made = apply([entries]), read(tmp_path)
    del expected[b"."], made[b"."]
    assert diff(expected, made) == []


def extract(program: str, archive: bytes, place: Path) -> None:
    command = [program, "-x", "-p", "-f", "-", "-C", str(place)]
    if program == "tar":
        command += ["--xattrs", "--xattrs-include=*", "--warning=no-timestamp"]
    done = subprocess.run(command, input=archive, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


LONG = "/".join(["n" * 60] * 4)
MEDIUM = "n" * 60 + "/" + "m" * 60


@pytest.mark.parametrize(
    ("style", "name"), [("ustar", MEDIUM), ("star", MEDIUM), ("gnu", MEDIUM), ("gnu", LONG), ("pax", LONG)]
)
def test_long_names(style: Format, name: str) -> None:
    """A prefix, GNU's L and K, or pax records, as the format has it."""
    linked = "t" * (90 if style in ("ustar", "star") else 150)
    (plain, link) = members(layer(file(name, b"x"), symlink(name + "s", linked), format=style))
    assert (plain.name, link.name, link.linkname) == (name, name + "s", linked)


@pytest.mark.parametrize(
    ("style", "entry"),
    [
        ("v7", file(MEDIUM)),
        ("v7", fifo("p")),
        ("ustar", file("x" * 101)),
        ("ustar", symlink("s", "x" * 101)),
        ("ustar", file("f", uid=2**22)),
        ("gnu", file("f", mtime=1)),
        ("star", file("f", xattrs={"user.a": b""})),
    ],
)
def test_what_a_format_cannot_say_is_an_error(style: Format, entry: Entry) -> None:
    """Nothing is left out in silence."""
    with pytest.raises(ValueError, match="no place"):
        encode(entry, style)


@pytest.mark.parametrize("style", ["gnu", "pax"])
def test_large_and_negative_numbers(style: Format) -> None:
    """Base-256 or pax records."""
    (member,) = members(layer(file("f", uid=2**31, gid=2**22, mtime=-5 * SECOND), format=style))
    assert (member.uid, member.gid, member.mtime) == (2**31, 2**22, -5)


def test_pax_times_and_xattrs() -> None:
    """Fractions to the nanosecond, values of any bytes."""
    value = b"\0=\n\xff"
    (member,) = members(layer(file("f", mtime=SECOND + 1, xattrs={"user.a": value})))
    assert member.pax_headers["mtime"] == "1.000000001"
    assert member.pax_headers["SCHILY.xattr.user.a"].encode("utf-8", "surrogateescape") == value


@needs_tool("tar")
@needs_user_xattr
def test_gnu_tar_takes_xattrs_and_fractions(tmp_path: Path) -> None:
    """What tarfile shows as a record arrives on disk."""
    entry = file("f", mtime=-SECOND // 2, xattrs={"user.a": b"\0=\n"})
    extract("tar", layer(entry, symlink("s", "f", mtime=SECOND + 5)), tmp_path)
    tree = read(tmp_path)
    assert tree[b"f"].xattrs == {b"user.a": b"\0=\n"}
    assert tree[b"f"].mtime_ns == -SECOND // 2
    assert tree[b"s"].mtime_ns == SECOND + 5


def test_decimal_time() -> None:
    """The sign stands before both parts."""
    times = [0, 1, SECOND, -SECOND // 2, -3 * SECOND // 2, 5 * SECOND + 10]
    assert [decimal_time(time) for time in times] == ["0", "0.000000001", "1", "-0.5", "-1.5", "5.00000001"]


# -- pieces ------------------------------------------------------------------------------------------------------------


def test_whiteouts_and_opaques_are_names() -> None:
    """Empty files with the names that the specification gives them."""
    made = [whiteout("x"), whiteout("a/b"), opaque(""), opaque("a/b"), opaque("a/")]
    assert [entry.name for entry in made] == [
        b".wh.x",
        b"a/.wh.b",
        b".wh..wh..opq",
        b"a/b/.wh..wh..opq",
        b"a/.wh..wh..opq",
    ]
    assert all(entry.kind == "file" and entry.data == b"" for entry in made)


def test_numbers() -> None:
    """Octal ends in NUL; base-256 says its sign in the first byte."""
    assert octal(8, 8) == b"0000010\0"
    assert base256(1, 12) == b"\x80" + bytes(10) + b"\x01"
    assert base256(-2, 12) == b"\xff" * 11 + b"\xfe"
    with pytest.raises(ValueError, match="no place"):
        octal(8**7, 8)


def test_header_takes_any_field() -> None:
    """Numbers, raw bytes, a wrong checksum."""
    made = header(name=b"x", size=-1, typeflag=b"Z", magic=b"ustar\0", mode=b"junk", chksum=1)
    assert len(made) == BLOCK
    assert made[100:108] == b"junk\0\0\0\0"
    assert made[124] == 0xFF
    assert made[148:156] == b"0000001\0"
    right = header(name=b"x")
    assert int(right[148:154], 8) == checksum(right)
    with pytest.raises(ValueError, match="no place"):
        header(name=b"x" * 101)


def test_entry_fields_and_records_win() -> None:
    """What is said of the header replaces what the entry would give."""
    (member,) = members(layer(file("f", b"abc", fields={"uid": 7, "name": b"g"}, records=[(b"gid", b"9")])))
    assert (member.name, member.uid, member.gid) == ("g", 7, 9)


@pytest.mark.parametrize("value", ["", "x", "x" * 5, "x" * 89, "x" * 90, "x" * 91, "x" * 992])
def test_pax_record_counts_itself(value: str) -> None:
    """Also where one more digit makes it longer."""
    record = pax_record("key", value)
    assert int(record.split(b" ")[0]) == len(record)
    assert record.endswith(b" key=" + value.encode() + b"\n")


def test_raw_pieces() -> None:
    """Pax bodies may be malformed, long names may stand anywhere, a global header comes through."""
    assert pax_header(b"junk")[BLOCK : BLOCK + 4] == b"junk"
    archive = layer(global_header({"comment": "hello"}), gnu_long("renamed"), file("f", b"x"))
    (member,) = members(archive)
    assert member.name == "renamed"
    assert member.pax_headers["comment"] == "hello"


def test_ends() -> None:
    """With and without the end's two blocks, with more zeros behind it, without the last padding."""
    entry = file("f", b"x")
    assert len(layer(entry)) == 4 * BLOCK
    assert len(layer(entry, end=False)) == 2 * BLOCK
    assert len(layer(entry, end=False, last_padding=False)) == BLOCK + 1
    assert len(layer(entry, padding=10)) == 4 * BLOCK + 10
    assert layer() == bytes(2 * BLOCK)


# -- sparse files ------------------------------------------------------------------------------------------------------

# GNU tar takes whole blocks for each segment but the last.
SEGMENTS = [(0, b"start" + bytes(507)), (100_352, b"middle56" * 128), (2_000_000, b"end")]
MANY = [(number * 8192, b"%04d" % number * 128) for number in range(60)]


def sparse(kind: str, segments: list[tuple[int, bytes]], size: int) -> Entry:
    if kind == "old":
        return sparse_old("dir/f", segments, size)
    return sparse_pax("dir/f", segments, size, "0.0" if kind == "0.0" else "0.1" if kind == "0.1" else "1.0")


@pytest.mark.parametrize("kind", ["old", "0.0", "0.1", "1.0"])
@pytest.mark.parametrize(
    ("segments", "size"),
    [(SEGMENTS, 2_000_003), (SEGMENTS, 3_000_000), (MANY, 500_000), ([], 10_000), ([(512, b"x" * 512)], 1024)],
    ids=["data at the end", "hole at the end", "many", "nothing but hole", "hole at the start"],
)
@pytest.mark.parametrize("program", [None, pytest.param("tar", marks=needs_tool("tar"))])
def test_sparse_files(
    kind: str, segments: list[tuple[int, bytes]], size: int, program: str | None, tmp_path: Path
) -> None:
    """The file that comes out is the entry's data, and the entry after it is found."""
    entry = sparse(kind, segments, size)
    archive = layer(entry, file("after", b"after"))
    assert len(entry.data) == size
    if program is None:
        assert content(archive, "dir/f") == entry.data
        assert content(archive, "after") == b"after"
    else:
        extract(program, archive, tmp_path)
        assert (tmp_path / "dir/f").read_bytes() == entry.data
        assert (tmp_path / "after").read_bytes() == b"after"
