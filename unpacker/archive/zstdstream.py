"""Reads zstd (RFC 8878): frames in a row, skippable ones anywhere among them (zstd:chunked keeps its index there).

Through zstandard where it is installed, else through the standard library (Python 3.14) or pyzstd; all of them wrap the
same libzstd.  `unpacker.archive.zstdframes` looks at every byte before they do, so that the errors are the same, too.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, cast

from unpacker.archive.pieces import CHUNK, Pieces, member
from unpacker.archive.zstdframes import FrameWalk
from unpacker.errors import CorruptLayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.archive.pieces import Decompressor
    from unpacker.limits import Limits

    Backend = Callable[[Pieces, int], Iterator[bytes]]

# What libzstd takes as a limit; FrameWalk has refused what is above the caller's own.
_WINDOW_LOGS = range(10, 32)


def unzstd(pieces: Pieces, limits: Limits, backend: Backend | None = None) -> Iterator[bytes]:
    """Yield what the frames hold, to the end of the blob.

    Raises:
        CorruptLayerError: Damage, a cut-off end, anything but frames, or a frame that needs a dictionary.
        LimitError: A frame whose window is larger than ``limits.zstd_window_log`` allows.
    """
    window_log = min(max(limits.zstd_window_log, _WINDOW_LOGS[0]), _WINDOW_LOGS[-1])
    return (backend or _backend())(_walked(pieces, limits), window_log)


def _walked(pieces: Pieces, limits: Limits) -> Pieces:
    """Give the same pieces, looked at before anyone gets them."""
    walk = FrameWalk(limits)

    def read() -> bytes:
        piece = pieces.next()
        if piece:
            walk.feed(piece)
        else:
            walk.finish()
        return piece

    return Pieces(read)


def _backend() -> Backend:
    try:
        import zstandard  # noqa: F401, PLC0415
    except ImportError:
        return by_frame
    return by_zstandard


def by_zstandard(pieces: Pieces, window_log: int) -> Iterator[bytes]:
    """Read all frames with zstandard, the fastest on many small ones.

    Of its many interfaces only this one has bounded output and goes on after a frame; at a cut-off end it says nothing.
    """
    import zstandard  # noqa: PLC0415

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << window_log)
    with decompressor.stream_reader(cast("IO[bytes]", _File(pieces)), read_across_frames=True, closefd=False) as reader:
        try:
            while out := reader.read(CHUNK):
                yield out
        except zstandard.ZstdError as error:
            raise CorruptLayerError(f"damaged zstd stream: {error}") from error


class _File:
    """As much of a file as zstandard's reader asks for; it takes pieces of any size."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    def read(self, _size: int) -> bytes:
        return self._pieces.next()


def by_frame(pieces: Pieces, window_log: int) -> Iterator[bytes]:
    """Read frame by frame with the standard library or pyzstd.

    Not with pyzstd's ``EndlessZstdDecompressor``: its ``max_length`` does not hold beyond the first frame.
    """
    start, damage = _frame_decompressor(window_log)
    try:
        while pieces.look(1):
            yield from member(pieces, start(), "zstd")
    except damage as error:
        raise CorruptLayerError(f"damaged zstd stream: {error}") from error


def _frame_decompressor(window_log: int) -> tuple[Callable[[], Decompressor], type[Exception]]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        import pyzstd  # noqa: PLC0415

        option = {int(pyzstd.DParameter.windowLogMax): window_log}
        return lambda: pyzstd.ZstdDecompressor(None, option), pyzstd.ZstdError
    options = {zstd.DecompressionParameter.window_log_max: window_log}
    return lambda: zstd.ZstdDecompressor(None, options), zstd.ZstdError
