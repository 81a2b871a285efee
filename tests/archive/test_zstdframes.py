"""The walk over zstd frames: what it sees in headers and blocks, and that it sees it in pieces of any size.

That the decoders agree with it is tested with them (`tests.archive.test_zstdstream`).
"""

from __future__ import annotations

import itertools
import random
import struct

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.compressed import raw_block, rle_block, skippable, zstd_frame
from unpacker.archive.zstdframes import MAGIC, FrameWalk, is_skippable
from unpacker.errors import CorruptLayerError, LimitError
from unpacker.limits import DEFAULT, Limits

PROPERTY = settings(max_examples=100, derandomize=True, database=None, deadline=None)


def walk(*pieces: bytes, limits: Limits = DEFAULT) -> None:
    """Walk to the end."""
    walker = FrameWalk(limits)
    for piece in pieces:
        walker.feed(piece)
    walker.finish()


def frame(flags: int, fields: bytes, *blocks: bytes) -> bytes:
    """Give a frame with this descriptor byte and these header fields."""
    *before, last = blocks or (raw_block(b""),)
    return MAGIC + bytes([flags]) + fields + b"".join(before) + bytes([last[0] | 1]) + last[1:]


def compressed(data: bytes, *, size: bool = True, checksum: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_content_size=size, write_checksum=checksum).compress(data)


NOISE = random.Random(7).randbytes(300_000)  # noqa: S311
STREAMS = {
    "empty": zstd_frame(),
    "raw": zstd_frame(raw_block(b"data"), raw_block(b"more")),
    "rle": zstd_frame(rle_block(b"x", 131072), rle_block(b"y", 1)),
    "checksum": zstd_frame(raw_block(b"data"), checksum=b"abcd"),
    "skippable": skippable(b"data", 15) + skippable(b"") + zstd_frame() + skippable(b"x" * 100),
    "only skippable": skippable(b"data"),
    "blocks of noise": compressed(NOISE, checksum=True),
    "text, no size": compressed(b"text" * 100_000, size=False),
    "text, no checksum": compressed(b"text" * 100_000, checksum=False),
}


# -- pieces ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1 << 20])
def test_streams_in_pieces_of_every_size(name: str, size: int) -> None:
    stream = STREAMS[name] if size > 2 else STREAMS[name][:2000]
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    if len(stream) == len(STREAMS[name]):
        walk(*pieces)
    else:
        with pytest.raises(CorruptLayerError, match="the zstd stream is cut off"):
            walk(*pieces)


@PROPERTY
@given(
    names=st.lists(st.sampled_from(sorted(set(STREAMS) - {"blocks of noise"})), max_size=5),
    cuts=st.lists(st.floats(0, 1, exclude_max=True), max_size=10),
)
def test_any_frames_in_a_row_cut_anywhere(names: list[str], cuts: list[float]) -> None:
    stream = b"".join(STREAMS[name] for name in names)
    places = sorted({int(cut * len(stream)) for cut in cuts} | {0, len(stream)})
    walk(*[stream[start:end] for start, end in itertools.pairwise(places)])


@pytest.mark.parametrize("name", ["raw", "rle", "checksum", "skippable"])
def test_every_end_within_a_frame_is_one(name: str) -> None:
    """zstandard's own reader takes some of them for the end."""
    stream = STREAMS[name]
    whole = {len(part) for part in (b"", skippable(b"data", 15), skippable(b"data", 15) + skippable(b""))}
    whole.add(len(skippable(b"data", 15) + skippable(b"") + zstd_frame()))
    for end in range(1, len(stream)):
        if name == "skippable" and end in whole:
            walk(stream[:end])
            continue
        for pieces in ([stream[:end]], [stream[at : at + 1] for at in range(end)]):
            with pytest.raises(CorruptLayerError, match=r"^the zstd stream is cut off$"):
                walk(*pieces)


def test_nothing_is_a_stream() -> None:
    walk()
    walk(b"")


# -- frame headers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        pytest.param(0x00, b"\x38", id="window only"),
        pytest.param(0x20, b"\x05", id="one segment, size of 1 byte"),
        pytest.param(0x40, b"\x38" + bytes(2), id="size of 2 bytes"),
        pytest.param(0x60, bytes(2), id="one segment, size of 2 bytes"),
        pytest.param(0x80, b"\x38" + bytes(4), id="size of 4 bytes"),
        pytest.param(0xC0, b"\x38" + bytes(8), id="size of 8 bytes"),
        pytest.param(0x01, b"\x38\0", id="dictionary 0 in 1 byte is none"),
        pytest.param(0x02, b"\x38\0\0", id="dictionary 0 in 2 bytes"),
        pytest.param(0xE3, bytes(4) + bytes(8), id="all fields at their longest"),
        pytest.param(0x10, b"\x38", id="an unused bit, which decoders must ignore"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_header_fields_end_where_they_say(flags: int, fields: bytes, size: int) -> None:
    stream = frame(flags, fields, raw_block(b"data"), raw_block(b"more")) + zstd_frame()
    walk(*[stream[start : start + size] for start in range(0, len(stream), size)])


@pytest.mark.parametrize(
    ("flags", "fields", "dictionary"),
    [
        (0x01, b"\x38\x07", 7),
        (0x02, b"\x38\x01\x02", 0x0201),
        (0x03, b"\x38\x01\x02\x03\x04", 0x04030201),
        (0x21, b"\x09\x05", 9),
    ],
)
def test_a_dictionary_is_refused(flags: int, fields: bytes, dictionary: int) -> None:
    with pytest.raises(CorruptLayerError, match=f"needs dictionary {dictionary}, "):
        walk(frame(flags, fields))


@pytest.mark.parametrize(
    ("flags", "fields", "log"),
    [
        pytest.param(0x00, bytes([18 << 3]), 28, id="256 MiB"),
        pytest.param(0x00, bytes([17 << 3 | 1]), 28, id="a little more than 128 MiB"),
        pytest.param(0x00, b"\xff", 42, id="the largest there is"),
        pytest.param(0xA0, struct.pack("<I", (1 << 27) + 1), 28, id="one segment of a little more than 128 MiB"),
        pytest.param(0xE0, struct.pack("<Q", 2**64 - 1), 64, id="one segment of the largest size there is"),
    ],
)
def test_a_window_over_the_limit_is_refused(flags: int, fields: bytes, log: int) -> None:
    with pytest.raises(LimitError) as caught:
        walk(frame(flags, fields))
    assert (caught.value.limit, caught.value.allowed, caught.value.found) == ("zstd_window_log", 27, log)
    walk(frame(flags, fields), limits=Limits(zstd_window_log=log))
    with pytest.raises(LimitError):
        walk(frame(flags, fields), limits=Limits(zstd_window_log=log - 1))


@pytest.mark.parametrize(
    ("flags", "fields"), [(0x00, bytes([17 << 3])), (0xA0, struct.pack("<I", 1 << 27)), (0x20, b"\xff")]
)
def test_a_window_at_the_limit_is_none_too_many(flags: int, fields: bytes) -> None:
    walk(frame(flags, fields))


# -- blocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_reserved_block_is_refused(size: int) -> None:
    stream = frame(0, b"\x38", raw_block(b"data"), bytes([3 << 1, 0, 0]))
    with pytest.raises(CorruptLayerError, match="a block of a reserved type"):
        walk(*[stream[start : start + size] for start in range(0, len(stream), size)])


def test_an_rle_block_has_one_byte_whatever_its_size() -> None:
    walk(zstd_frame(rle_block(b"x", (1 << 21) - 1)) + zstd_frame())


# -- what is no frame --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junk", [b"\0", b"\0\0\0\0", b"junk", b"\x1f\x8b\x08\0", b"\x28", b"\x28\xb5\x2f", b"\x60\x2a\x4d\x18"]
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_anything_else_behind_a_frame_is_refused(junk: bytes, size: int) -> None:
    """The beginning of a magic is a cut-off frame; all else is told at its first wrong byte."""
    what = "the zstd stream is cut off" if MAGIC.startswith(junk) else "that are no zstd frame"
    stream = zstd_frame() + junk
    with pytest.raises(CorruptLayerError, match=what):
        walk(*[stream[start : start + size] for start in range(0, len(stream), size)])


@pytest.mark.parametrize("number", range(16))
def test_skippable_frames_have_sixteen_magics(number: int) -> None:
    stream = skippable(b"data", number)
    assert is_skippable(stream)
    walk(stream, zstd_frame())
    walk(*[stream[at : at + 1] for at in range(len(stream))])


@pytest.mark.parametrize("head", [b"", b"\x50\x2a\x4d", b"\x4f\x2a\x4d\x18", b"\x60\x2a\x4d\x18", MAGIC, bytes(4)])
def test_others_are_not_skippable(head: bytes) -> None:
    assert not is_skippable(head)


def test_a_skippable_frame_of_four_gigabytes_is_walked_without_memory() -> None:
    """Its size is only counted down."""
    walker = FrameWalk()
    walker.feed(struct.pack("<II", 0x184D2A50, 2**32 - 1))
    piece = bytes(1 << 20)
    for _ in range(2**12 - 1):
        walker.feed(piece)
    walker.feed(piece[:-1])
    walker.finish()
    walker.feed(zstd_frame())
    walker.finish()
