"""zstd: any bytes through both libraries, and streams that are put together so that what must come out is known."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import zstandard

from fuzz.choices import Choices
from fuzz.target import Target
from fuzz.targets.gz import LIMITS as OUTPUT
from fuzz.targets.gz import Outcome, check_limits, collected, content
from tests.support.compressed import feed, raw_block, rle_block, skippable, zstd_frame
from unpacker.archive.pieces import Pieces
from unpacker.archive.zstdstream import by_frame, by_zstandard, unzstd
from unpacker.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = OUTPUT.changed(zstd_window_log=20)
_SIZES = (1 << 20, 997, 3, 1)
_SHORT = 300
"""Bytes of an input up to which it is read in small pieces, too."""
_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + low]) + b"\x2a\x4d\x18" for low in range(16)))


def check(data: bytes) -> None:
    """Read bytes as they are, or let them say how a stream is made; the first one says which."""
    if not data or data[0] % 2 == 0:
        _check_stream(data[1:])
    else:
        expected, stream = _made(Choices(data[1:]))
        assert _check_stream(stream) == expected, "a stream is not what it was made of"


def _check_stream(data: bytes) -> Outcome | LimitError:
    """Read the same in many ways, and fail if they differ."""
    outcomes: list[Outcome | LimitError] = []
    for backend in (by_zstandard, by_frame):
        for size in _SIZES if len(data) < _SHORT else _SIZES[:2]:
            try:
                outcomes.append(collected(unzstd(Pieces(feed(data, size)), LIMITS, backend)))
            except LimitError as error:
                outcomes.append(error)
    # Of two faults, a window too large behind a damaged frame, it depends on the pieces which is met first.
    told = {None if isinstance(one, LimitError) else one for one in outcomes}
    assert len(told) == 1, f"{len(told)} outcomes: {[repr(one)[:80] for one in outcomes]}"
    first = outcomes[0]
    if data[:4] in _MAGICS and not isinstance(first, LimitError):
        check_limits(data, first)
    return first


def _made(choices: Choices) -> tuple[Outcome, bytes]:
    """Put frames together, right ones or such with one fault; give what must come out, too."""
    expected = stream = b""
    for _ in range(choices.below(6)):
        payload, frame = _frame(choices)
        if choices.once_in(12):
            return None, stream + frame[:-1]  # nothing behind it, which could be its last byte
        stream += frame
        expected += payload
    if choices.once_in(12) and stream:
        return None, stream + choices.pick((b"\0", b"x", b"\x28\xb5"))
    return expected, stream


def _frame(choices: Choices) -> tuple[bytes, bytes]:
    how = choices.below(4)
    if how == 0:
        return b"", skippable(choices.take(choices.byte()), choices.below(16))
    if how == 1:
        piece = choices.take(choices.byte())
        length = choices.below(1000)
        return piece + b"z" * length, zstd_frame(raw_block(piece), rle_block(b"z", length))
    payload = content(choices)
    flags = choices.byte()
    parameters = zstandard.ZstdCompressionParameters.from_level(
        choices.pick((1, 3, -5)),
        window_log=choices.pick((10, 17, 20)),
        write_checksum=flags & 1,
        write_content_size=flags >> 1 & 1,
    )
    return payload, zstandard.ZstdCompressor(compression_params=parameters).compress(payload)


def seeds() -> Iterator[bytes]:
    """Give streams as they are, and decisions for others."""
    plain = zstandard.ZstdCompressor(write_checksum=True).compress(b"hello " * 30)
    yield b"\0" + plain
    yield b"\0" + skippable(b"index") + plain + zstd_frame() + zstd_frame(rle_block(b"a", 100_000))
    yield b"\0" + zstd_frame(raw_block(b"abc"), window_log=27)
    yield b"\0" + zstd_frame(raw_block(b"abc"), dictionary=7)
    yield b"\0" + plain[:-2]
    chance = Random(3)
    for length in (4, 10, 30, 60, 100):
        yield b"\1" + chance.randbytes(length)


TARGET = Target(check=check, seeds=seeds, words=(*_MAGICS[:2], b"\1\0\0", b"\x20", b"\x24"))
