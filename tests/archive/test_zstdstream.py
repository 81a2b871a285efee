from __future__ import annotations

import random
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.support.compressed import FEED_SIZES, feed, feed_pieces, raw_block, rle_block, skippable, zstd_frame
from unpacker.archive import zstdstream
from unpacker.archive.pieces import CHUNK, Pieces
from unpacker.archive.zstdframes import FrameWalk
from unpacker.errors import CorruptLayerError, LimitError
from unpacker.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from unpacker.archive.zstdstream import Backend

TEXT = b"".join(b"line %d of a file in a layer\n" % number for number in range(60))
NOISE = random.Random(59).randbytes(20_000)  # noqa: S311


def compressed(data: bytes, *, known: bool = True, checked: bool = False, window_log: int = 0) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, write_content_size=known, write_checksum=checked, **({"window_log": window_log} if window_log else {})
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


VARIANTS = {
    "text": (compressed(TEXT), TEXT),
    "text-checked": (compressed(TEXT, checked=True), TEXT),
    "unknown-size": (compressed(TEXT, known=False, checked=True), TEXT),
    "noise": (compressed(NOISE, checked=True), NOISE),
    "long": (compressed(TEXT * 900, known=False), TEXT * 900),
    "empty": (compressed(b""), b""),
    "empty-checked": (compressed(b"", checked=True), b""),
    "blocks": (zstd_frame(raw_block(b"ab"), rle_block(b"c", 5), raw_block(b""), rle_block(b"d", 1)), b"abcccccd"),
    "empty-block": (zstd_frame(), b""),
}


@pytest.fixture(params=["by_zstandard", "by_frame"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Either way to libzstd."""
    chosen: Backend = getattr(zstdstream, request.param)
    return chosen


def read_all(blob: bytes, backend: Backend, size: int = 256 << 10, limits: Limits = DEFAULT) -> bytes:
    return b"".join(zstdstream.unzstd(Pieces(feed(blob, size)), limits, backend))


@pytest.mark.parametrize("size", FEED_SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_frame_in_pieces_of_every_size(variant: str, size: int, backend: Backend) -> None:
    """The bytes do not depend on how the blob arrives, for one frame as for three."""
    blob, data = VARIANTS[variant]
    assert read_all(blob, backend, size) == data
    assert read_all(blob * 3 + VARIANTS["text"][0], backend, size) == data * 3 + TEXT


@pytest.mark.parametrize("size", [1, 11, 256 << 10])
@pytest.mark.parametrize("number", [0, 3, 15])
def test_skippable_frames_may_stand_anywhere(number: int, size: int, backend: Backend) -> None:
    """zstd:chunked has three of them at the end; as the first thing they hide the usual magic."""
    skip = skippable(b"index" * 1000, number) + skippable(b"")
    blob = skip + VARIANTS["text"][0] + skip + VARIANTS["blocks"][0] + skip
    assert read_all(blob, backend, size) == TEXT + b"abcccccd"
    assert read_all(skip, backend, size) == b""


@pytest.mark.parametrize("size", [1, 256 << 10])
def test_a_cut_off_stream_is_an_error_at_every_place(size: int, backend: Backend) -> None:
    """Only where a frame ends may the stream end."""
    frames = (VARIANTS["text-checked"][0], skippable(b"index"), VARIANTS["blocks"][0])
    blob = b"".join(frames)
    ends = [len(frames[0]), len(frames[0]) + len(frames[1])]
    for end in range(1, len(blob)):
        if end in ends:
            assert read_all(blob[:end], backend, size) == TEXT
            continue
        with pytest.raises(CorruptLayerError, match="cut off"):
            read_all(blob[:end], backend, size)


def test_a_cut_between_two_pieces_is_harmless_at_every_place(backend: Backend) -> None:
    blob = VARIANTS["text-checked"][0] + skippable(b"index") + VARIANTS["blocks"][0]
    for cut in range(1, len(blob)):
        pieces = Pieces(feed_pieces(blob[:cut], blob[cut:]))
        assert b"".join(zstdstream.unzstd(pieces, DEFAULT, backend)) == TEXT + b"abcccccd", cut


@pytest.mark.parametrize("junk", [b"\0" * 4, b"junk", b"\x1f\x8b\x08\0\0"], ids=["zeros", "text", "gzip"])
def test_anything_but_frames_behind_the_last_one_is_refused(junk: bytes, backend: Backend) -> None:
    for size in (1, 256 << 10):
        with pytest.raises(CorruptLayerError, match="no zstd frame"):
            read_all(VARIANTS["text"][0] + junk, backend, size)


def test_damage_inside_a_block_is_found_by_the_checksum(backend: Backend) -> None:
    blob = zstd_frame(raw_block(b"data"), checksum=b"\0\0\0\0")
    with pytest.raises(CorruptLayerError, match="damaged zstd stream"):
        read_all(blob, backend)


def test_any_flipped_byte_means_the_same_to_both_ways() -> None:
    """Either both refuse, or both give the same bytes."""
    blob = VARIANTS["text-checked"][0] + skippable(b"abc") + VARIANTS["blocks"][0]

    def outcome(broken: bytes, backend: Backend) -> bytes | type[Exception]:
        try:
            return read_all(broken, backend)
        except (CorruptLayerError, LimitError) as error:
            return type(error)

    for place in range(len(blob)):
        for flip in (0x01, 0x55, 0x80):
            broken = bytearray(blob)
            broken[place] ^= flip
            one, other = (outcome(bytes(broken), way) for way in (zstdstream.by_zstandard, zstdstream.by_frame))
            assert one == other, (place, flip)


def test_a_block_of_a_reserved_type_is_refused(backend: Backend) -> None:
    with pytest.raises(CorruptLayerError, match="reserved type"):
        read_all(zstd_frame(b"\x07\0\0"), backend)


def test_a_frame_that_needs_a_dictionary_is_refused(backend: Backend) -> None:
    with pytest.raises(CorruptLayerError, match="needs dictionary 4711"):
        read_all(zstd_frame(raw_block(b"data"), dictionary=4711), backend)


@pytest.mark.parametrize("window_log", [28, 31, 41])
def test_a_window_above_the_limit_is_refused(window_log: int, backend: Backend) -> None:
    """It is memory that a blob of twenty bytes may claim; the error says how far to raise the limit."""
    with pytest.raises(LimitError) as caught:
        read_all(zstd_frame(raw_block(b"data"), window_log=window_log), backend)
    assert (caught.value.limit, caught.value.allowed, caught.value.found) == ("zstd_window_log", 27, window_log)


def test_the_window_limit_can_be_moved(backend: Backend) -> None:
    """Both ways, whatever the library's own limit is."""
    large, medium = (zstd_frame(raw_block(b"data"), window_log=log) for log in (28, 23))
    assert read_all(large, backend, limits=Limits(zstd_window_log=28)) == b"data"
    assert read_all(medium, backend, limits=Limits(zstd_window_log=23)) == b"data"
    assert read_all(medium, backend, limits=Limits(zstd_window_log=99)) == b"data"
    with pytest.raises(LimitError):
        read_all(medium, backend, limits=Limits(zstd_window_log=22))


def test_the_content_is_the_window_of_a_frame_in_one_segment() -> None:
    """Such a frame has no window descriptor, and claims the memory all the same."""
    flags, size = 0xE0, (1 << 27) + 1
    header = b"\x28\xb5\x2f\xfd" + bytes([flags]) + struct.pack("<Q", size)
    with pytest.raises(LimitError) as caught:
        FrameWalk().feed(header)
    assert caught.value.found == 28
    FrameWalk().feed(header[:5] + struct.pack("<Q", 1 << 27))


@pytest.mark.parametrize("frames", [1, 64])
def test_a_bomb_comes_out_in_bounded_chunks(frames: int, backend: Backend) -> None:
    """32,000 times its size, in one frame or over many: never more than a few chunks are in memory."""
    blob = zstd_frame(*[rle_block(b"\0", 128 << 10)] * (1024 // frames)) * frames
    tracemalloc.start()
    try:
        sizes = [len(chunk) for chunk in zstdstream.unzstd(Pieces(feed(blob)), DEFAULT, backend)]
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 128 << 20
    assert max(sizes) <= CHUNK


@pytest.mark.parametrize("frame", [skippable(b""), zstd_frame()], ids=["skippable", "empty"])
def test_empty_frames_without_number_take_little_time_and_memory(frame: bytes, backend: Backend) -> None:
    times = 100_000 if backend is zstdstream.by_zstandard else 20_000
    blob = frame * times + VARIANTS["text"][0]
    tracemalloc.start()
    try:
        begin = time.process_time()
        assert read_all(blob, backend) == TEXT
        assert time.process_time() - begin < 4
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_an_error_of_reading_passes_through(backend: Backend) -> None:
    """The reader verifies the blob; what it finds is not to be taken for a damaged stream."""
    pieces = iter([VARIANTS["noise"][0][:1000]])

    def read() -> bytes:
        for piece in pieces:
            return piece
        raise BlockingIOError("the reader's own")

    with pytest.raises(BlockingIOError, match="the reader's own"):
        list(zstdstream.unzstd(Pieces(read), DEFAULT, backend))
