"""The blob's rest: taken, looked at and given back in any order, it stays the same bytes."""

from __future__ import annotations

import bz2
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.compressed import FEED_SIZES, feed, feed_pieces
from unpacker.archive.pieces import CHUNK, Pieces, member
from unpacker.errors import CorruptLayerError

if TYPE_CHECKING:
    from collections.abc import Callable

PROPERTY = settings(max_examples=150, derandomize=True, database=None, deadline=None)
BLOB = bytes(range(256)) * 40


def counted(read: Callable[[], bytes]) -> tuple[Callable[[], bytes], list[int]]:
    """Give the same function, and the sizes of what it gave."""
    sizes: list[int] = []

    def reading() -> bytes:
        piece = read()
        sizes.append(len(piece))
        return piece

    return reading, sizes


def rest(pieces: Pieces) -> bytes:
    return b"".join(iter(pieces.next, b""))


# -- taking ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", FEED_SIZES)
@pytest.mark.parametrize("most", [1, 5, 4096, 1 << 20])
def test_take_gives_all_in_order(size: int, most: int) -> None:
    pieces = Pieces(feed(BLOB, size))
    taken = [bytes(piece) for piece in iter(lambda: pieces.take(most), b"")]
    assert b"".join(taken) == BLOB
    assert max(map(len, taken)) == min(size, most, len(BLOB))
    assert pieces.read == len(BLOB)


def test_take_copies_nothing() -> None:
    """A whole piece is that very piece, a part of it a view."""
    piece = bytes(BLOB)
    assert Pieces(feed_pieces(piece)).take(1 << 20) is piece
    part = Pieces(feed_pieces(piece)).take(10)
    assert isinstance(part, memoryview)
    assert part.obj is piece


def test_next_gives_what_is_at_hand_and_then_whole_pieces() -> None:
    pieces = Pieces(feed_pieces(b"abcd", b"ef"))
    pieces.take(3)
    assert [pieces.next(), pieces.next(), pieces.next(), pieces.next()] == [b"d", b"ef", b"", b""]


def test_the_end_is_read_once() -> None:
    """A reader that verifies at its end is not asked again, however often the end is met."""
    read, sizes = counted(feed(b"abc"))
    pieces = Pieces(read)
    assert rest(pieces) == b"abc"
    assert (pieces.next(), pieces.take(5), pieces.look(5)) == (b"", b"", 0)
    assert sizes == [3, 0]


def test_nothing_is_read_before_it_is_wanted() -> None:
    read, sizes = counted(feed(BLOB, 100))
    pieces = Pieces(read)
    assert (sizes, pieces.read) == ([], 0)
    pieces.take(10)
    pieces.take(90)
    assert (sizes, pieces.read) == ([100], 100)


# -- looking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", FEED_SIZES)
def test_look_gathers_and_takes_nothing(size: int) -> None:
    pieces = Pieces(feed(BLOB, size))
    assert pieces.look(300) >= 300
    assert pieces.data[pieces.at :][:300] == BLOB[:300]
    pieces.take(7)
    assert pieces.look(300) >= 300
    assert pieces.data[pieces.at :][:300] == BLOB[7:307]
    assert rest(pieces) == BLOB[7:]


@pytest.mark.parametrize("size", FEED_SIZES)
def test_look_says_how_much_there_is_at_the_end(size: int) -> None:
    pieces = Pieces(feed(b"short", size))
    assert (pieces.look(10), pieces.data[pieces.at :]) == (5, b"short")
    assert rest(pieces) == b"short"


# -- giving back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "back"),
    [([4], 1), ([4], 4), ([4, 4], 3), ([4, 4], 4), ([4, 2], 2), ([4, 4, 4], 12), ([6, 2], 0), ([3], 3)],
    ids=str,
)
def test_give_back_puts_in_front(taken: list[int], back: int) -> None:
    """Also bytes of pieces that are gone."""
    pieces = Pieces(feed_pieces(b"abcd", b"efgh", b"ijkl", b"mn"))
    got = b"".join(bytes(pieces.take(size)) for size in taken)
    pieces.give_back(got[len(got) - back :])
    assert rest(pieces) == b"abcdefghijklmn"[len(got) - back :]


@PROPERTY
@given(
    blob=st.binary(min_size=1, max_size=300),
    size=st.integers(1, 50),
    steps=st.lists(st.tuples(st.sampled_from(["take", "look", "back", "next"]), st.integers(0, 60)), max_size=30),
)
def test_any_steps_lose_nothing(blob: bytes, size: int, steps: list[tuple[str, int]]) -> None:
    """Everything that was taken and not given back, with the rest behind it, is the blob."""
    pieces = Pieces(feed(blob, size))
    taken = b""
    for step, number in steps:
        if step == "take":
            taken += pieces.take(number + 1)
        elif step == "next":
            taken += pieces.next()
        elif step == "look":
            assert pieces.look(number) >= min(number, len(blob) - len(taken))
        else:
            back = min(number, len(taken))
            pieces.give_back(taken[len(taken) - back :])
            taken = taken[: len(taken) - back]
        assert blob.startswith(taken)
    assert taken + rest(pieces) == blob


# -- members -----------------------------------------------------------------------------------------------------------

PARTS = [b"one" * 3000, b"", b"three" * 50_000, b"4"]
MEMBERS = [bz2.compress(part) for part in PARTS]


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_members_in_a_row_are_told_apart(size: int) -> None:
    """With any decompressor that has the standard library's interface: each stops where its member does."""
    pieces = Pieces(feed(b"".join(MEMBERS) + b"behind", size))
    for part in PARTS:
        assert b"".join(member(pieces, bz2.BZ2Decompressor(), "bzip2")) == part
    assert rest(pieces) == b"behind"


def test_what_comes_out_at_once_is_bounded() -> None:
    """However much one byte of input may hold."""
    sizes = [len(out) for out in member(Pieces(feed(bz2.compress(bytes(5 * CHUNK)))), bz2.BZ2Decompressor(), "bzip2")]
    assert sum(sizes) == 5 * CHUNK
    assert max(sizes) <= CHUNK


@pytest.mark.parametrize("size", [1, 4096])
def test_a_member_that_is_cut_off_is_an_error_at_every_place(size: int) -> None:
    for end in itertools.chain(range(len(MEMBERS[0])), [len(MEMBERS[1]) - 1]):
        with pytest.raises(CorruptLayerError, match="the bzip2 stream is cut off"):
            list(member(Pieces(feed(MEMBERS[0][:end], size)), bz2.BZ2Decompressor(), "bzip2"))
    assert list(member(Pieces(feed(MEMBERS[1])), bz2.BZ2Decompressor(), "bzip2")) == []


def test_small_members_of_a_large_piece_cost_little() -> None:
    """A decompressor copies what it is given too much: the slices begin small and grow."""
    given_sizes = []

    class Watching:
        """Says what it was given."""

        def __init__(self) -> None:
            self._real = bz2.BZ2Decompressor()

        eof = property(lambda self: self._real.eof)
        needs_input = property(lambda self: self._real.needs_input)
        unused_data = property(lambda self: self._real.unused_data)

        def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
            given_sizes.append(len(data))
            return self._real.decompress(data, max_length)

    pieces = Pieces(feed_pieces(MEMBERS[3] * 20_000))
    for _ in range(3):
        assert b"".join(member(pieces, Watching(), "bzip2")) == b"4"
    assert max(given_sizes) <= 64 << 10
