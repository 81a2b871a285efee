from __future__ import annotations

import gzip
import random
import time
import tracemalloc

import pytest

from tests.support.compressed import FEED_SIZES, deflated, feed, feed_pieces, gzip_member
from unpacker.archive.gzipstream import Backend, gunzip, header_size, isal_backend, zlib_backend
from unpacker.archive.pieces import CHUNK, Pieces
from unpacker.errors import CorruptLayerError

TEXT = b"".join(b"line %d of a file in a layer\n" % number for number in range(60))
NOISE = random.Random(59).randbytes(3000)  # noqa: S311
# A few bits for each 258 bytes: when a chunk is full, the decompressor has long taken all there is.
RUNS = bytes(range(4)) + b"\0" * (3 * CHUNK)

HEADERS = {
    "plain": gzip_member(TEXT),
    "text-flag": gzip_member(TEXT, flags=1),
    "extra": gzip_member(TEXT, extra=b"SG\x16\0" + b"0" * 22),
    "empty-extra": gzip_member(TEXT, extra=b""),
    "name": gzip_member(TEXT, name=b"layer.tar"),
    "comment": gzip_member(TEXT, comment=b"made by hand"),
    "name-comment": gzip_member(TEXT, name=b"layer.tar", comment=b"made by hand"),
    "checked": gzip_member(TEXT, checked=True),
    "all": gzip_member(TEXT, extra=b"XY\x03\0abc", name=b"layer.tar", comment=b"made by hand", checked=True),
}
BODIES = {
    "stored": gzip_member(NOISE, level=0),
    "noise": gzip_member(NOISE),
    "empty": gzip_member(b""),
    "empty-stored": gzip_member(b"", level=0),
    "one-byte": gzip_member(b"x"),
}
VARIANTS = HEADERS | BODIES


@pytest.fixture(params=["isal", "zlib"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Either library."""
    if request.param == "zlib":
        return zlib_backend()
    pytest.importorskip("isal", exc_type=ImportError)
    return isal_backend()


def read_all(blob: bytes, backend: Backend, size: int = 256 << 10) -> bytes:
    return b"".join(gunzip(Pieces(feed(blob, size)), backend))


@pytest.mark.parametrize("size", FEED_SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_header_and_body_in_pieces_of_every_size(variant: str, size: int, backend: Backend) -> None:
    """The bytes do not depend on how the blob arrives, for one member as for three."""
    blob = VARIANTS[variant]
    data = gzip.decompress(blob)
    assert read_all(blob, backend, size) == data
    assert read_all(blob * 3 + HEADERS["all"], backend, size) == data * 3 + TEXT


@pytest.mark.parametrize("variant", ["all", "name-comment", "checked", "empty"])
def test_a_cut_between_two_pieces_is_harmless_at_every_place(variant: str, backend: Backend) -> None:
    """ISA-L itself fails on some of these, when it is given headers."""
    blob = VARIANTS[variant] + VARIANTS["one-byte"]
    data = gzip.decompress(blob)
    for cut in range(1, len(blob)):
        assert b"".join(gunzip(Pieces(feed_pieces(blob[:cut], blob[cut:])), backend)) == data, cut


@pytest.mark.parametrize("size", [1, 1000, 256 << 10])
def test_a_cut_off_stream_is_an_error_at_every_place(size: int, backend: Backend) -> None:
    """Only where a member ends may the stream end."""
    first, second = HEADERS["all"], BODIES["one-byte"]
    blob = first + second
    for end in range(1, len(blob)):
        if end == len(first):
            assert read_all(blob[:end], backend, size) == TEXT
            continue
        with pytest.raises(CorruptLayerError, match="cut off"):
            read_all(blob[:end], backend, size)


def test_output_that_is_left_when_the_input_ends_is_given(backend: Backend) -> None:
    """A decompressor that was stopped by the size of a chunk may have the whole rest of the blob inside already."""
    for surplus in range(-300, 300, 7):
        data = RUNS[: CHUNK + surplus]
        assert read_all(gzip_member(data, level=9), backend) == data


def test_zeros_behind_the_last_member_are_padding(backend: Backend) -> None:
    for size in (1, 20, 5000):
        assert read_all(HEADERS["plain"] + bytes(9000), backend, size) == TEXT


@pytest.mark.parametrize(
    "junk",
    [b"x", b"\x1f", b"\x1f\x8c", b"\x1f\x8b\x07\0\0\0\0\0\0\0", b"\0\0x", bytes(9000) + HEADERS["plain"]],
    ids=["byte", "half-magic", "wrong-magic", "wrong-method", "zeros-junk", "zeros-member"],
)
def test_anything_else_behind_the_last_member_is_refused(junk: bytes, backend: Backend) -> None:
    for size in (1, 256 << 10):
        with pytest.raises(CorruptLayerError, match=r"behind the end|cut off"):
            read_all(HEADERS["plain"] + junk, backend, size)


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x80])
def test_reserved_flags_are_refused(flag: int, backend: Backend) -> None:
    """RFC 1952: they may stand for a field that moves the data."""
    with pytest.raises(CorruptLayerError, match="reserved flags"):
        read_all(gzip_member(TEXT, flags=flag), backend)


@pytest.mark.parametrize("size", [1, 256 << 10])
def test_any_flipped_byte_is_found_or_does_not_matter(size: int, backend: Backend) -> None:
    """Time, level and system in the header say nothing about the data; everything else is checked."""
    blob = gzip_member(TEXT[:200], checked=False, name=b"n")
    for place in range(len(blob)):
        broken = bytearray(blob)
        broken[place] ^= 0x55
        if 4 <= place < 11:
            assert read_all(bytes(broken), backend, size) == TEXT[:200]
            continue
        with pytest.raises(CorruptLayerError):
            read_all(bytes(broken), backend, size)


def test_a_wrong_header_checksum_is_refused(backend: Backend) -> None:
    blob = bytearray(HEADERS["checked"])
    blob[5] ^= 1
    with pytest.raises(CorruptLayerError, match="wrong checksum"):
        read_all(bytes(blob), backend)


@pytest.mark.parametrize("size", [7, 256 << 10])
def test_a_header_without_end_is_given_up(size: int, backend: Backend) -> None:
    """An unterminated name must not gather the whole blob in memory."""
    blob = gzip_member(TEXT, name=b"n" * (200 << 10))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptLayerError, match="header of more than"):
            read_all(blob, backend, size)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_the_longest_extra_field_is_read(backend: Backend) -> None:
    assert read_all(gzip_member(TEXT, extra=bytes(65535), name=b"n" * 1000), backend, 4096) == TEXT


def test_header_size_of_a_header_that_is_not_all_there() -> None:
    header = HEADERS["all"][: -len(deflated(TEXT)) - 8]
    assert [header_size(header[:end]) for end in range(len(header))] == [None] * len(header)
    assert header_size(b"..." + header + b"more", 3) == len(header)


def test_a_bomb_comes_out_in_bounded_chunks(backend: Backend) -> None:
    """1,000 times its size: 64 MiB of zeros, of which never more than two chunks are in memory."""
    blob = gzip_member(bytes(64 << 20), level=9) * 2
    tracemalloc.start()
    try:
        sizes = [len(chunk) for chunk in gunzip(Pieces(feed(blob)), backend)]
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 128 << 20
    assert max(sizes) <= CHUNK


@pytest.mark.parametrize(("times", "filler"), [(1_000_000, b""), (50_000, b"\x01\0\0\xff\xff")], ids=["same", "mixed"])
def test_empty_members_without_number_take_little_time_and_memory(times: int, filler: bytes, backend: Backend) -> None:
    """A million of them kept another unpacker busy for longer than anybody waited."""
    other = gzip_member(b"")[:10] + (filler + bytes(8) if filler else gzip_member(b"")[10:])
    blob = (gzip_member(b"") + other) * (times // 2) + HEADERS["plain"]
    tracemalloc.start()
    try:
        begin = time.process_time()
        assert read_all(blob, backend) == TEXT
        assert time.process_time() - begin < 4
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_empty_members_before_others_hide_nothing(backend: Backend) -> None:
    """The quick way over a row of empty members stops at the first that differs, whatever differs."""
    empty, late, full = gzip_member(b""), bytearray(gzip_member(b"")), gzip_member(b"data")
    late[4:8] = b"\1\2\3\4"
    blob = empty * 5 + bytes(late) * 3 + full + empty * 2 + gzip_member(b"", name=b"n") + full
    for size in (*FEED_SIZES, 19, 20, 21, 45):
        assert read_all(blob, backend, size) == b"datadata"
    with pytest.raises(CorruptLayerError, match="damaged"):
        read_all(empty * 5 + empty[:-1] + b"x" + full, backend)
