"""Sparse files in all four encodings: what comes out is the whole file, or an error, never a shorter one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.archive.reading import names, one, read, refusal
from tests.support.probes import needs_tool
from tests.support.tarbuild import (
    SECOND,
    Entry,
    base256,
    directory,
    encode,
    file,
    layer,
    octal,
    padded,
    sparse_old,
    sparse_pax,
    symlink,
)
from unpacker.archive import sparse
from unpacker.errors import CorruptLayerError, LimitError, UnsafeEntryError
from unpacker.limits import DEFAULT, Limits
from unpacker.spec.entry import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROPERTY = settings(max_examples=60, derandomize=True, database=None, deadline=None)
Encoding = Literal["old", "0.0", "0.1", "1.0"]
ENCODINGS: list[Encoding] = ["old", "0.0", "0.1", "1.0"]

SHAPES: dict[str, tuple[list[tuple[int, bytes]], int]] = {
    "data at the end": ([(0, b"start" * 100), (100_352, b"middle"), (200_000, b"end")], 200_003),
    "hole at the end": ([(512, b"data")], 100_000),
    "all hole": ([], 10_000),
    "no hole": ([(0, b"x" * 1000)], 1000),
    "nothing": ([], 0),
    "five segments, one block of extension": ([(at * 1024, b"%d" % at) for at in range(5)], 9000),
    "many": ([(at * 4096, b"%04d" % at * 128) for at in range(60)], 300_000),
    "segments that touch": ([(0, b"a" * 512), (512, b"b" * 512), (2048, b"c")], 2049),
}


def encoded(encoding: Encoding, segments: list[tuple[int, bytes]], size: int, name: str = "f", **said: Any) -> Entry:
    if encoding == "old":
        return sparse_old(name, segments, size, **said)
    return sparse_pax(name, segments, size, encoding, **said)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_sparse_file_is_whole(encoding: Encoding, shape: str) -> None:
    """The data at its places, zeros between them; and the entry behind it is found."""
    entry = encoded(encoding, *SHAPES[shape], "dir/f", mode=0o4711, uid=7, gid=8, mtime=9 * SECOND)
    found, after = read(layer(entry, file("after", b"after")))
    assert (found.name, found.kind) == (b"dir/f", Kind.FILE)
    assert found.data == entry.data
    assert (found.mode, found.uid, found.gid, found.mtime) == (0o4711, 7, 8, 9 * SECOND)
    assert (after.name, after.data) == (b"after", b"after")


@PROPERTY
@given(
    encoding=st.sampled_from(ENCODINGS),
    parts=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=700)), max_size=30),
    rest=st.integers(0, 3000),
)
def test_any_holes_and_data_come_back(encoding: Encoding, parts: list[tuple[int, bytes]], rest: int) -> None:
    segments, at = [], 0
    for hole, data in parts:
        segments.append((at + hole, data))
        at += hole + len(data)
    entry = encoded(encoding, segments, at + rest)
    found, after = read(layer(entry, file("after")))
    assert found.data == entry.data
    assert after.name == b"after"


@needs_tool("tar")
@pytest.mark.parametrize("arguments", [["gnu"], ["pax", "0.0"], ["pax", "0.1"], ["pax", "1.0"]], ids=" ".join)
def test_what_gnu_tar_writes_is_read(arguments: list[str], tmp_path: Path) -> None:
    """Sixty segments, so that every encoding needs more than its first block."""
    data = bytearray(60 << 16)
    for at in range(0, len(data), 1 << 16):
        data[at : at + 4096] = b"%04d" % (at >> 16) * 1024
    with open(tmp_path / "f", "wb") as target:
        for at in range(0, len(data), 1 << 16):
            target.seek(at)
            target.write(data[at : at + 4096])
        target.truncate(len(data))
    version = [f"--sparse-version={arguments[1]}"] if len(arguments) > 1 else []
    command = ["tar", "-c", "--sparse", f"--format={arguments[0]}", *version, "-C", str(tmp_path), "f"]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(archive) < len(data)
    found = one(archive)
    assert (found.name, found.data) == (b"f", bytes(data))


# -- broken maps -------------------------------------------------------------------------------------------------------


def pax_sparse(
    *records: tuple[str | bytes, str | bytes], stored: bytes = b"", name: str = "GNUSparseFile.0/f", **said: Any
) -> Entry:
    """Give a file with these records, whatever they say."""
    made = tuple(
        (key.encode() if isinstance(key, str) else key, value.encode() if isinstance(value, str) else value)
        for key, value in records
    )
    return file(name, stored, records=made, **said)


def map_0_0(pairs: Sequence[tuple[int, int]], size: int, stored: bytes, count: int | None = None) -> Entry:
    each = [(key, str(value)) for at, length in pairs for key, value in (("offset", at), ("numbytes", length))]
    return pax_sparse(
        ("GNU.sparse.size", str(size)),
        ("GNU.sparse.numblocks", str(len(pairs) if count is None else count)),
        *((f"GNU.sparse.{key}", value) for key, value in each),
        stored=stored,
    )


def map_0_1(pairs: Sequence[tuple[int, int]], size: int, stored: bytes, count: int | None = None) -> Entry:
    return pax_sparse(
        ("GNU.sparse.size", str(size)),
        ("GNU.sparse.numblocks", str(len(pairs) if count is None else count)),
        ("GNU.sparse.map", ",".join(f"{at},{length}" for at, length in pairs)),
        stored=stored,
    )


def map_1_0(pairs: Sequence[tuple[int, int]], size: int, stored: bytes, count: int | None = None) -> Entry:
    lines = b"".join(b"%d\n%d\n" % pair for pair in pairs)
    return raw_1_0(b"%d\n" % (len(pairs) if count is None else count) + lines, size, stored)


def raw_1_0(table: bytes, size: int, stored: bytes = b"") -> Entry:
    return pax_sparse(
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "f"),
        ("GNU.sparse.realsize", str(size)),
        stored=padded(table) + stored,
    )


def map_old(pairs: Sequence[tuple[int, int]], size: int, stored: bytes) -> Entry:
    table = b"".join(_field(at) + _field(length) for at, length in pairs)
    return raw_old(table, size, stored)


def raw_old(
    table: bytes, realsize: int | bytes, stored: bytes = b"", extensions: bytes = b"", **fields: int | bytes
) -> Entry:
    """Give an old GNU sparse file with up to four slots in its header."""
    said = {"typeflag": b"S", "sparse": table, "isextended": bytes([bool(extensions)]), "realsize": realsize, **fields}
    front = encode(file("f", fields={"size": len(stored), **said}), "gnu")
    return Entry(kind="file", name=b"f", encoded=front + extensions + padded(stored))


def _field(value: int) -> bytes:
    return octal(value, 12) if value >= 0 else base256(value, 12)


MAPS = {"old": map_old, "0.0": map_0_0, "0.1": map_0_1, "1.0": map_1_0}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("pairs", "size", "stored"),
    [
        pytest.param([(0, 4), (2, 4)], 100, 8, id="overlap"),
        pytest.param([(10, 4), (0, 4)], 100, 8, id="backwards"),
        pytest.param([(10, 4), (10, 4)], 100, 8, id="twice the same"),
        pytest.param([(98, 4)], 100, 4, id="over the end"),
        pytest.param([(200, 4)], 100, 4, id="behind the end"),
        pytest.param([(200, 0)], 100, 0, id="empty, behind the end"),
        pytest.param([(0, 4)], 100, 8, id="more data than the map says"),
        pytest.param([(0, 8)], 100, 4, id="less data than the map says"),
        pytest.param([], 100, 4, id="data without a map"),
        pytest.param([(0, 4)], 0, 4, id="no size"),
        pytest.param([(8**11 - 1, 8**11 - 1)], 8**11 - 1, 4, id="a sum beyond the size"),
    ],
)
def test_maps_that_describe_another_file_are_refused(
    encoding: Encoding, pairs: list[tuple[int, int]], size: int, stored: int
) -> None:
    error = refusal(layer(MAPS[encoding](pairs, size, b"d" * stored), file("after")))
    assert isinstance(error, CorruptLayerError)
    assert "sparse map: " in error.what
    assert error.entry in (b"f", b"GNUSparseFile.0/f")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_empty_segments_are_nothing(encoding: Encoding) -> None:
    """GNU tar ends the map of a file that ends in a hole with one."""
    found = one(layer(MAPS[encoding]([(5, 3), (8, 0), (8, 1), (100, 0)], 100, b"abcd")))
    assert found.data == bytes(5) + b"abcd" + bytes(91)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        pytest.param(map_0_0([(0, 4)], 9, b"data", count=2), "1 segments, and GNU.sparse.numblocks says 2", id="0.0"),
        pytest.param(map_0_1([(0, 4)], 9, b"data", count=2), "1 segments, and GNU.sparse.numblocks says 2", id="0.1"),
        pytest.param(map_1_0([(0, 4)], 9, b"data", count=0), "describes other than the 4 bytes", id="1.0, too few"),
        pytest.param(map_1_0([(0, 4)], 9, b"data", count=2), "without an end", id="1.0, too many"),
    ],
)
def test_a_wrong_count_is_refused(entry: Entry, why: str) -> None:
    error = refusal(layer(entry))
    assert isinstance(error, CorruptLayerError)
    assert why in error.what


def offset_of(*entries: Entry) -> int:
    """Give where the header of the last of these entries stands, behind its extension headers."""
    *before, last = entries
    return len(layer(*before, end=False)) + len(encode(last)) - len(padded(last.data)) - 512


HALF = "an offset without its size"


@pytest.mark.parametrize(
    ("records", "why"),
    [
        pytest.param([("GNU.sparse.numbytes", "4"), ("GNU.sparse.offset", "0")], HALF, id="0.0, size first"),
        pytest.param([("GNU.sparse.offset", "0"), ("GNU.sparse.offset", "4")], HALF, id="0.0, two offsets"),
        pytest.param([("GNU.sparse.offset", "0")], HALF, id="0.0, no size"),
        pytest.param([("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "-4")], "not a number", id="0.0, negative"),
        pytest.param([("GNU.sparse.offset", ""), ("GNU.sparse.numbytes", "4")], "not a number", id="0.0, empty"),
        pytest.param([("GNU.sparse.offset", "9" * 5000)], "not a number", id="0.0, a number that int() refuses"),
        pytest.param([("GNU.sparse.map", "0,4,8")], HALF, id="0.1, odd"),
        pytest.param([("GNU.sparse.map", "0,4,")], "not a number", id="0.1, comma at the end"),
        pytest.param([("GNU.sparse.map", "0;4")], "not a number", id="0.1, no commas"),
        pytest.param([("GNU.sparse.map", "0,-4")], "not a number", id="0.1, negative"),
        pytest.param([("GNU.sparse.map", " 0,4")], "not a number", id="0.1, blank"),
        pytest.param([("GNU.sparse.map", "0,4"), ("GNU.sparse.numblocks", "x")], "not a number", id="no count"),
        pytest.param(
            [("GNU.sparse.map", "0,4"), ("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "4")],
            "in two formats at once",
            id="0.0 and 0.1",
        ),
        pytest.param([("GNU.sparse.realsize", "12")], "that differ", id="two sizes"),
        pytest.param([("GNU.sparse.realsize", "-1")], "not a number", id="negative size"),
        pytest.param([("GNU.sparse.size", str(2**63)), ("GNU.sparse.map", "0,4")], "out of range", id="huge size"),
        pytest.param([("GNU.sparse.major", "2")], "unknown sparse format b'2.0'", id="2.0"),
        pytest.param([("GNU.sparse.major", "1"), ("GNU.sparse.minor", "1")], "format b'1.1'", id="1.1"),
        pytest.param([("GNU.sparse.minor", "2")], "unknown sparse format b'0.2'", id="0.2"),
        pytest.param([("GNU.sparse.major", ""), ("GNU.sparse.map", "0,4")], "format b'.0'", id="no version"),
    ],
)
def test_broken_pax_maps(records: list[tuple[str, str]], why: str) -> None:
    entry = pax_sparse(("GNU.sparse.size", "10"), *records, stored=b"data")
    error = refusal(layer(file("before"), entry))
    assert isinstance(error, CorruptLayerError)
    assert why in error.what
    assert error.entry == b"GNUSparseFile.0/f"
    assert error.offset == offset_of(file("before"), entry)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        pytest.param(b"", "without an end", id="empty"),
        pytest.param(b"-1\n", "is not a number", id="negative count"),
        pytest.param(b"1\n0\n-4\n", "is not a number", id="negative size"),
        pytest.param(b"1\n0 4\n", "is not a number", id="blanks, not lines"),
        pytest.param(b"1\r\n0\r\n4\r\n", "is not a number", id="carriage returns"),
        pytest.param(b"1\n\n0\n4\n", "is not a number", id="an empty line"),
        pytest.param(b"1\n0\n" + b"4" * 30 + b"\n", "is not a number", id="more digits than any number has"),
        pytest.param(b"1" * 512 + b"\n", "without an end", id="a block of digits"),
        pytest.param(b"1\n0\n4".ljust(512, b"4"), "without an end", id="no newline in the last block"),
        pytest.param(b"300\n" + b"0\n" * 254, "without an end", id="fewer lines than it says"),
    ],
)
def test_broken_1_0_maps(table: bytes, why: str) -> None:
    """The map is data of the entry, and may not take more than the entry has."""
    error = refusal(layer(raw_1_0(table, 10), file("after")))
    assert isinstance(error, CorruptLayerError)
    assert why in error.what
    assert (error.entry, error.offset) == (b"f", offset_of(raw_1_0(table, 10)))


def test_a_1_0_map_may_cross_blocks_anywhere() -> None:
    """A number, too."""
    pairs = [(at * 10, 1) for at in range(200)]
    found = one(layer(map_1_0(pairs, 2000, b"x" * 200)))
    assert found.data == (b"x" + bytes(9)) * 200


SLOT = octal(0, 12) + octal(4, 12)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        pytest.param(raw_old(bytes(12) + octal(4, 12), 4, b"data"), HALF, id="a size without an offset"),
        pytest.param(raw_old(octal(0, 12) + bytes(12), 4, b"data"), HALF, id="an offset without a size"),
        pytest.param(raw_old(b"junk".ljust(24, b"x"), 4, b"data"), "not an octal number", id="no numbers"),
        pytest.param(raw_old(_field(-4) + _field(4), 4, b"data"), "segment at -4", id="negative offset"),
        pytest.param(raw_old(_field(0) + _field(-4), 4, b"data"), "of -4 bytes", id="negative length"),
        pytest.param(raw_old(SLOT, -4, b"data"), "sparse size -4 is out of range", id="negative real size"),
        pytest.param(raw_old(SLOT, base256(2**63, 12), b"data"), "is out of range", id="huge real size"),
        pytest.param(raw_old(SLOT, b"junk", b"data"), "not an octal number", id="real size is no number"),
        pytest.param(raw_old(bytes(24) + SLOT, 9, b"data"), "describes other", id="behind an empty slot is nothing"),
        pytest.param(raw_old(SLOT, 9, b"data", size=-512), "size -512 is out of range", id="negative stored size"),
    ],
)
def test_broken_old_gnu_maps(entry: Entry, why: str) -> None:
    error = refusal(layer(entry, file("after")))
    assert isinstance(error, CorruptLayerError)
    assert why in error.what
    assert (error.entry, error.offset) == (b"f", 0)


def test_old_gnu_numbers_may_be_base_256() -> None:
    """As all files beyond 8 GiB have them; here it is small."""
    table = base256(7, 12) + base256(4, 12)
    assert one(layer(raw_old(table, base256(12, 12), b"data"))).data == bytes(7) + b"data" + b"\0"


def test_old_gnu_extension_blocks_are_no_part_of_the_size() -> None:
    """And empty ones add nothing."""
    blocks = bytes(504) + b"\x01" + bytes(7) + SLOT.ljust(504, b"\0") + bytes(8)
    found, after = read(layer(raw_old(b"", 9, b"data", blocks), file("after")))
    assert (found.data, after.name) == (b"data" + bytes(5), b"after")


def test_an_archive_that_ends_within_extension_blocks() -> None:
    whole = layer(raw_old(b"", 9, b"", bytes(504) + b"\x01" + bytes(7)), end=False)
    error = refusal(whole[:-100])
    assert error.what == "the archive ends within a header"
    assert (error.entry, error.offset) == (b"f", len(whole) - 100)


@pytest.mark.parametrize("magic", [{"magic": b"ustar\0", "version": b"00"}, {"magic": bytes(6), "version": bytes(2)}])
@pytest.mark.parametrize("trailer", [b"", b"tar\0"], ids=["", "star"])
def test_type_S_of_another_format_is_refused(magic: dict[str, bytes], trailer: bytes) -> None:  # noqa: N802
    """star has its map elsewhere, and a POSIX prefix would lie where GNU's map is."""
    error = refusal(layer(raw_old(SLOT, 9, b"data", **magic, **({"trailer": trailer} if trailer else {}))))
    assert isinstance(error, UnsafeEntryError)
    assert error.entry == b"f"


def test_type_S_with_a_pax_map_is_refused() -> None:  # noqa: N802
    """Two maps for one file."""
    entry = pax_sparse(
        ("GNU.sparse.map", "0,4"),
        ("GNU.sparse.size", "9"),
        stored=b"data",
        fields={"typeflag": b"S", "magic": b"ustar ", "version": b" \0", "sparse": SLOT, "realsize": 9},
    )
    assert refusal(layer(entry)).what == "sparse map: in two formats at once"


@pytest.mark.parametrize(
    "kind", [symlink("s", "t"), directory("d"), directory("d/", format="v7", fields={"typeflag": b"\0"})]
)
def test_only_files_are_sparse(kind: Entry) -> None:
    """Go refuses this, GNU tar takes the name out of it, others see no map at all."""
    records = ((b"GNU.sparse.major", b"0"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"other"))
    made = Entry(kind=kind.kind, name=kind.name, link=kind.link, fields=kind.fields, records=records)
    error = refusal(layer(made))
    assert isinstance(error, UnsafeEntryError)
    assert "with a sparse map" in error.what
    assert error.entry == kind.name


# -- names and sizes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["0.1", "1.0"])
def test_the_name_is_in_a_record_of_its_own(encoding: Encoding) -> None:
    """Whoever checks the name in the header checks another one; the caller gets this one, as it is."""
    assert names(layer(encoded(encoding, [(0, b"x")], 9, "../../evil"))) == [b"../../evil"]


def test_an_empty_sparse_name_is_none() -> None:
    """As an empty path is: Go's reading."""
    entry = pax_sparse(("GNU.sparse.name", ""), ("GNU.sparse.map", "0,4"), ("GNU.sparse.size", "9"), stored=b"data")
    assert names(layer(entry)) == [b"GNUSparseFile.0/f"]


def test_the_size_record_counts_stored_bytes() -> None:
    """A file with more than 8 GiB of data has it, beside its real size."""
    entry = pax_sparse(
        ("size", "4"), ("GNU.sparse.size", "9"), ("GNU.sparse.map", "5,4"), stored=b"data", fields={"size": 0}
    )
    found, after = read(layer(entry, file("after")))
    assert (found.data, after.name) == (bytes(5) + b"data", b"after")


def test_nothing_but_a_size_is_a_file_of_zeros() -> None:
    assert one(layer(pax_sparse(("GNU.sparse.realsize", "600")))).data == bytes(600)


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("most", [3, 30])
def test_the_number_of_segments_is_limited(encoding: Encoding, most: int) -> None:
    """Go had no limit: CVE-2025-58183 for 1.0, CVE-2026-32288 for the old format."""
    limits = Limits(sparse_segments=most)
    segments = [(at * 600, b"x") for at in range(most + 1)]
    (found,) = read(layer(encoded(encoding, segments[:most], segments[most - 1][0] + 1)), limits)
    assert found.data.count(b"x") == most
    error = refusal(layer(encoded(encoding, segments, segments[most][0] + 1)), limits)
    assert isinstance(error, LimitError)
    assert (error.limit, error.allowed) == ("sparse_segments", most)
    assert error.entry in (b"f", b"GNUSparseFile.0/f")


def test_a_1_0_map_says_its_length_first_and_is_refused_by_it() -> None:
    """Nothing is read, nothing is allocated for ten trillion segments."""

    def take(size: int) -> bytes:
        assert size == 512
        return b"10000000000000\n".ljust(512, b"0")

    with pytest.raises(LimitError) as caught:
        sparse.pax_1(take, 1 << 40, DEFAULT)
    assert caught.value.found == 10**13


def test_checked_gives_what_holds_data() -> None:
    assert sparse.checked([(0, 0), (4, 2), (6, 0), (8, 1), (9, 0)], 9, 3) == [(4, 2), (8, 1)]
