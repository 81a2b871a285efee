"""gzip: any bytes through both libraries, and streams that are put together so that what must come out is known.

zlib's own reading of headers, which is not used by the package, is the judge of what a stream is.
"""

from __future__ import annotations

import zlib
from random import Random
from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.choices import Choices
from fuzz.mutators import gzip_stream
from fuzz.target import Target
from tests.support.compressed import feed, gzip_member
from unpacker.archive.decompress import decompress
from unpacker.archive.gzipstream import gunzip, isal_backend, zlib_backend
from unpacker.archive.pieces import CHUNK, Pieces
from unpacker.archive.zstdframes import is_skippable
from unpacker.errors import CorruptLayerError, LimitError, UnpackError, UnsupportedError
from unpacker.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpacker.archive.gzipstream import Backend

MOST = 2 << 20
"""Bytes that are looked at of what comes out; inputs are kilobytes, so this is enough for a bomb."""
LIMITS = Limits(layer_bytes=MOST, ratio=500, ratio_floor=64 << 10)
_SIZES = (1 << 20, 997, 10, 1)
_SHORT = 300
"""Bytes of an input up to which it is read in small pieces, too."""
Outcome = bytes | None
"""What came out; None if it was refused."""


def check(data: bytes) -> None:
    """Read bytes as they are, or let them say how a stream is made; the first one says which."""
    if not data or data[0] % 2 == 0:
        _check_stream(data[1:])
    else:
        expected, stream = _made(Choices(data[1:]))
        assert _check_stream(stream) == expected, "a stream is not what it was made of"


def _check_stream(data: bytes) -> Outcome:
    expected = _reference(data)
    for backend in (isal_backend(), zlib_backend()):
        for size in _SIZES if len(data) < _SHORT else _SIZES[:2]:
            got = _gunzipped(data, backend, size)
            assert (got is None) == (expected is None), f"{backend.error} in pieces of {size}: {got!r:.80}"
            assert got == expected, f"{backend.error} in pieces of {size}: other bytes"
    if data[:3] == b"\x1f\x8b\x08":
        check_limits(data, expected)
    elif data[:1] != b"(" and not is_skippable(data):  # which zst looks at
        _check_other(data)
    return expected


def _check_other(data: bytes) -> None:
    """What is not compressed is passed as it is, and what is in a way that no layer is, refused."""
    try:
        found = b"".join(decompress(feed(data, 997), LIMITS))
    except UnsupportedError as error:
        check_refusal(error)
    else:
        assert found == data


def _gunzipped(data: bytes, backend: Backend, size: int) -> Outcome:
    return collected(gunzip(Pieces(feed(data, size)), backend))


def collected(chunks: Iterator[bytes]) -> Outcome:
    """Put together what comes out, up to a limit; None if it is refused."""
    found = bytearray()
    try:
        for chunk in chunks:
            assert 0 < len(chunk) <= CHUNK, f"a chunk of {len(chunk)} bytes"
            found += chunk
            if len(found) >= MOST:
                break
    except CorruptLayerError as error:
        check_refusal(error)
        return None
    return bytes(found[:MOST])


def check_limits(data: bytes, expected: Outcome) -> None:
    """Read the same with limits: no more comes out than they allow, and the same if it is less."""
    found = bytearray()
    try:
        stream = decompress(feed(data, 997), LIMITS)
        for chunk in stream:
            assert 0 < len(chunk) <= CHUNK
            found += chunk
            assert len(found) == stream.size <= MOST
    except LimitError as error:
        check_refusal(error)
        assert len(found) <= MOST
    except UnpackError as error:
        check_refusal(error)
        assert expected is None or len(expected) == MOST, error
    else:
        assert bytes(found) == expected


def _reference(data: bytes) -> Outcome:
    """Read members with zlib alone, all in memory."""
    found = b""
    rest = data
    while rest and rest[0]:
        inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            found += inflate.decompress(rest, MOST - len(found))
        except zlib.error:
            return None
        if len(found) >= MOST:
            return found
        if not inflate.eof:
            return None
        rest = inflate.unused_data
    return found if not rest.strip(b"\0") else None


def _made(choices: Choices) -> tuple[Outcome, bytes]:
    """Put members together, right ones or such with one fault; give what must come out, too."""
    expected: Outcome = b""
    stream = b""
    for _ in range(choices.below(5)):
        payload = content(choices)
        flags = choices.byte()
        member = gzip_member(
            payload,
            extra=choices.take(choices.byte()) if flags & 1 else None,
            name=choices.take(5).replace(b"\0", b"n") if flags & 2 else None,
            comment=choices.take(5).replace(b"\0", b"c") if flags & 4 else None,
            checked=bool(flags & 8),
            level=choices.pick((0, 1, 6, 9)),
        )
        if choices.once_in(16):
            return None, stream + member[:-1]  # nothing behind it, which could be its last byte
        if choices.once_in(16):
            expected = None
            member = member[:-8] + bytes([member[-8] ^ 1]) + member[-7:]
        elif expected is not None:
            expected += payload
        stream += member * (times := choices.pick((1, 1, 1, 1, 1, 1, 3, 200) if len(payload) < 100 else (1,)))
        if expected is not None:
            expected += payload * (times - 1)
    if choices.once_in(5):
        stream += bytes(choices.pick((1, 9, 600)))
    elif choices.once_in(10) and stream:
        stream += b"x"
        expected = None
    return expected, stream


def content(choices: Choices) -> bytes:
    """Give some bytes: few, many alike, or many of all kinds."""
    how = choices.below(4)
    if how == 0:
        return choices.take(choices.below(20))
    if how == 1:
        return choices.take(3) * choices.below(40_000)
    if how == 2:
        return Random(choices.byte()).randbytes(choices.below(5_000))
    return b""


def seeds() -> Iterator[bytes]:
    """Give streams as they are, and decisions for others."""
    plain = gzip_member(b"hello " * 20)
    yield b"\0" + plain
    yield b"\0" + plain + gzip_member(b"", extra=b"xyz", name=b"name", comment=b"comment", checked=True) + bytes(9)
    yield b"\0" + gzip_member(bytes(100_000)) + gzip_member(b"a", level=0) * 3
    yield b"\0" + plain[:-3]
    yield b"\0plain"
    yield b"\0BZh91AY&SY"
    chance = Random(2)
    for length in (4, 10, 30, 60, 100):
        yield b"\1" + chance.randbytes(length)


def mutate(data: bytes, chance: Random) -> bytes:
    """Mend the checksum of a stream that is read as it is."""
    return data[:1] + gzip_stream(data[1:]) if data[:1] == b"\0" and chance.random() < 0.7 else data


_WORDS = (b"\x1f\x8b\x08\0", b"\x1f\x8b\x08", bytes(8), b"BZh91AY&SY", b"\xfd7zXZ\0", b"PK\x03\x04", b"LZIP\x01")

TARGET = Target(check=check, seeds=seeds, mutate=mutate, words=_WORDS)
