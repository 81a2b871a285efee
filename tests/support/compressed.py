"""Builds gzip members and zstd frames byte by byte, also those that no compressor writes, and feeds them in pieces."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FEED_SIZES = (1, 3, 7, 11, 4096, 128 << 10)


def gzip_member(
    data: bytes,
    *,
    extra: bytes | None = None,
    name: bytes | None = None,
    comment: bytes | None = None,
    checked: bool = False,
    flags: int = 0,
    level: int = 6,
) -> bytes:
    """Give one gzip member with the optional fields of RFC 1952; ``checked`` adds the header's checksum."""
    flags |= (checked << 1) | ((extra is not None) << 2) | ((name is not None) << 3) | ((comment is not None) << 4)
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\x12\x34\x56\x78\x00\xff"
    if extra is not None:
        header += struct.pack("<H", len(extra)) + extra
    for text in (name, comment):
        if text is not None:
            header += text + b"\0"
    if checked:
        header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    return header + deflated(data, level) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def deflated(data: bytes, level: int = 6) -> bytes:
    """Give a raw deflate stream."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def zstd_frame(
    *blocks: bytes, window: int = 0x38, checksum: bytes = b"", dictionary: int = 0, window_log: int | None = None
) -> bytes:
    """Give one zstd frame of these blocks (see `raw_block`, `rle_block`), the last of which is marked so.

    ``window`` is the window descriptor, by default for 128 KiB; ``window_log`` sets it to a power of two.
    """
    if window_log is not None:
        window = (window_log - 10) << 3
    flags = (4 if checksum else 0) | (3 if dictionary else 0)
    header = b"\x28\xb5\x2f\xfd" + bytes([flags, window]) + (struct.pack("<I", dictionary) if dictionary else b"")
    *before, last = blocks or (raw_block(b""),)
    return header + b"".join(before) + bytes([last[0] | 1]) + last[1:] + checksum


def raw_block(data: bytes) -> bytes:
    """Give a block that holds its bytes as they are."""
    return (len(data) << 3).to_bytes(3, "little") + data


def rle_block(byte: bytes, size: int) -> bytes:
    """Give a block of one byte, many times: four bytes for up to 128 KiB."""
    return (size << 3 | 2).to_bytes(3, "little") + byte


def skippable(data: bytes, number: int = 0) -> bytes:
    """Give a skippable frame."""
    return struct.pack("<II", 0x184D2A50 + number, len(data)) + data


def feed(blob: bytes, size: int = 256 << 10) -> Callable[[], bytes]:
    """Give a function that reads a blob in pieces of this size."""
    starts = iter(range(0, len(blob), size))

    def read() -> bytes:
        start = next(starts, len(blob))
        return blob[start : start + size]

    return read


def feed_pieces(*pieces: bytes) -> Callable[[], bytes]:
    """Give a function that reads these pieces, and the end after them."""
    rest = iter([piece for piece in pieces if piece])
    return lambda: next(rest, b"")
