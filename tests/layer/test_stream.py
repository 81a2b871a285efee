"""The bytes of a layer: verified to their very end, errors passed on, threads ended however it goes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.support.compressed import gzip_member, skippable
from tests.support.tarbuild import file, layer
from unpacker.archive.reader import TarReader
from unpacker.content.blob import VerifiedBlob
from unpacker.content.hashing import Hashing
from unpacker.errors import (
    CorruptLayerError,
    DiffIdMismatchError,
    DigestMismatchError,
    LimitError,
    SizeMismatchError,
    UnpackError,
    UnsafeEntryError,
    UnsupportedError,
)
from unpacker.layer.stream import LayerStream
from unpacker.limits import DEFAULT, Limits
from unpacker.resolve import Layer
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
TAR = layer(file("etc/motd", b"hello\n" * 5000), file("b", os.urandom(300_000)))
BLOBS = {
    "none": TAR,
    "gzip": gzip.compress(TAR, 1),
    "gzip of members": b"".join(gzip_member(TAR[at : at + 50_000]) for at in range(0, len(TAR), 50_000))
    + gzip_member(b""),
    "zstd": zstandard.compress(TAR),
    "zstd with skippable frames": skippable(b"index") + zstandard.compress(TAR) + skippable(b"footer"),
}


def described(blob: bytes, tar: bytes = TAR, *, algorithm: str = "sha256") -> Layer:
    """Give a layer as a manifest and a config describe it, rightly or wrongly."""
    diff_id = Digest.of(tar, algorithm)
    descriptor = Descriptor(media_type="a/b", digest=Digest.of(blob, algorithm), size=len(blob))
    return Layer(index=3, descriptor=descriptor, diff_id=diff_id, chain_id=diff_id)


class Flawed(io.BytesIO):
    """A file whose medium gives out at some byte."""

    def __init__(self, data: bytes, end: int) -> None:
        super().__init__(data)
        self._end = end

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._end:
            raise OSError(5, "Input/output error")
        return super().read(min(size or 0, self._end - self.tell()))


@contextmanager
def opened(
    blob: bytes,
    wanted: Layer,
    limits: Limits = DEFAULT,
    on_progress: Callable[[int], None] = lambda _: None,
    source: io.BytesIO | None = None,
) -> Iterator[LayerStream]:
    """Open a stream, and insist that no thread is left of it."""
    before = threading.active_count()
    with (
        VerifiedBlob(wanted.descriptor, source or io.BytesIO(blob)) as verified,
        LayerStream(verified, wanted, limits, on_progress) as stream,
    ):
        yield stream
    assert threading.active_count() == before


# -- all is right ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BLOBS)
def test_the_chunks_are_the_archive(name: str) -> None:
    blob = BLOBS[name]
    seen: list[int] = []
    with opened(blob, described(blob), on_progress=seen.append) as stream:
        chunks = list(stream)
        assert list(stream) == [], "and stays at its end"
        stream.finish()
        assert stream.compression == name.split(" ", maxsplit=1)[0]
        assert stream.size == len(TAR)
    assert b"".join(chunks) == TAR
    assert all(0 < len(chunk) <= MIB for chunk in chunks)
    assert seen == sorted(seen), "progress never goes back"
    assert seen[-1] == len(blob)


def test_another_algorithm() -> None:
    with opened(TAR, described(TAR, algorithm="sha512")) as stream:
        stream.finish()
        assert stream.size == len(TAR)


def test_finish_reads_what_nobody_took() -> None:
    with opened(TAR, described(TAR)) as stream:
        next(stream)
        stream.finish()
        assert stream.size == len(TAR)


def test_an_empty_layer() -> None:
    with opened(b"", described(b"", b"")) as stream:
        stream.finish()
        assert (stream.size, stream.compression) == (0, "none")


# -- bytes behind the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behind", [bytes(10_240), b"junk" * 1000, layer(file("smuggled"))], ids=["zeros", "junk", "archive"]
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["none", "gzip", "zstd"])
def test_what_is_behind_the_end_marker_counts(behind: bytes, compress: Callable[[bytes], bytes]) -> None:
    """It is no entry, but it is part of the diff_id: two layers that differ there are two layers."""
    blob = compress(TAR + behind)
    with opened(blob, described(blob, TAR + behind)) as stream:
        assert len(list(TarReader(stream))) == 2
        stream.finish()
        assert stream.size == len(TAR + behind)
    with opened(blob, described(blob, TAR)) as stream:
        assert len(list(TarReader(stream))) == 2
        with pytest.raises(DiffIdMismatchError):
            stream.finish()


def test_zeros_behind_the_last_gzip_member_count_in_the_blob() -> None:
    """They decompress to nothing; the blob's digest and size are over them all the same."""
    blob = BLOBS["gzip"] + bytes(512)
    with opened(blob, described(blob)) as stream:
        stream.finish()
    with opened(blob, described(BLOBS["gzip"])) as stream, pytest.raises(SizeMismatchError):
        stream.finish()


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("behind", [b"junk", BLOBS["none"][:600]], ids=["junk", "archive"])
def test_anything_else_behind_the_last_member_is_an_error(name: str, behind: bytes) -> None:
    blob = BLOBS[name] + behind
    with opened(blob, described(blob)) as stream, pytest.raises(CorruptLayerError):
        stream.finish()


# -- something is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BLOBS)
def test_a_wrong_diff_id(name: str) -> None:
    blob, wanted = BLOBS[name], described(BLOBS[name], b"other")
    with opened(blob, wanted) as stream:
        assert b"".join(stream) == TAR
        with pytest.raises(DiffIdMismatchError) as caught:
            stream.finish()
    error = caught.value
    assert (error.index, error.layer, error.expected) == (3, str(wanted.descriptor.digest), str(wanted.diff_id))
    assert error.actual == f"sha256:{hashlib.sha256(TAR).hexdigest()}"


@pytest.mark.parametrize("name", BLOBS)
def test_a_wrong_digest(name: str) -> None:
    blob = BLOBS[name]
    descriptor = Descriptor(media_type="a/b", digest=Digest.of(b"other"), size=len(blob))
    right = described(blob)
    wanted = Layer(index=0, descriptor=descriptor, diff_id=right.diff_id, chain_id=right.chain_id)
    with opened(blob, wanted) as stream, pytest.raises(DigestMismatchError):
        stream.finish()


@pytest.mark.parametrize("away", [-1, 1])
def test_a_wrong_size(away: int) -> None:
    right = described(TAR)
    descriptor = Descriptor(media_type="a/b", digest=right.descriptor.digest, size=len(TAR) + away)
    wanted = Layer(index=0, descriptor=descriptor, diff_id=right.diff_id, chain_id=right.chain_id)
    with opened(TAR, wanted) as stream, pytest.raises(SizeMismatchError):
        stream.finish()


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("end", [5, 1000, -1])
def test_a_blob_that_is_cut_off(name: str, end: int) -> None:
    blob = BLOBS[name][:end]
    with opened(blob, described(blob)) as stream, pytest.raises(CorruptLayerError):
        stream.finish()


@pytest.mark.parametrize(
    ("blob", "limits", "kind"),
    [
        (BLOBS["gzip"], Limits(layer_bytes=1000), LimitError),
        (b"\xfd7zXZ\0" + bytes(20), DEFAULT, UnsupportedError),
    ],
    ids=["limit", "xz"],
)
def test_errors_of_decompressing_pass_through(blob: bytes, limits: Limits, kind: type[UnpackError]) -> None:
    with opened(blob, described(blob), limits) as stream, pytest.raises(kind):
        list(stream)


def test_errors_of_reading_pass_through_behind_what_was_read() -> None:
    data = bytes(3 * MIB)
    with opened(data, described(data, data), source=Flawed(data, 2 * MIB + 5)) as stream:
        with pytest.raises(OSError, match="Input/output error") as caught:
            list(stream)
        assert stream.size <= 2 * MIB + 5
        assert any("reading blob sha256:" in note for note in caught.value.__notes__)
        assert list(stream) == [], "an error ends it"


# -- the end of its threads --------------------------------------------------------------------------------------------

LONG = bytes(64 * MIB)


@pytest.mark.parametrize("chunks", [0, 1, 5, 40])
def test_closing_early_ends_the_threads(chunks: int) -> None:
    """At any moment: before the first chunk, while the reader waits for room, near the end."""
    before = threading.active_count()
    with VerifiedBlob(described(LONG, LONG).descriptor, io.BytesIO(LONG)) as blob:
        with LayerStream(blob, described(LONG, LONG), DEFAULT) as stream:
            for _ in range(chunks):
                next(stream)
            assert threading.active_count() > before
        assert threading.active_count() == before
        assert blob.done < len(LONG)


def test_closing_ends_the_reading_of_what_decompresses_to_nothing() -> None:
    """Ctrl-C would have to wait for the end of the blob."""
    empty = (gzip_member(b"") + gzip_member(b"", extra=b"x")) * 100_000
    wanted = described(empty, b"")
    with VerifiedBlob(wanted.descriptor, io.BytesIO(empty)) as blob:
        with LayerStream(blob, wanted, DEFAULT):
            pass
        assert blob.done < len(empty)


def test_an_error_of_the_caller_ends_the_threads() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), opened(LONG, described(LONG, LONG)) as stream:
        _ = next(stream)[0] // 0
    assert threading.active_count() == before


def test_a_signal_when_the_thread_has_begun_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has the stream yet who could end it, and the thread would wait for ever with its chunks."""
    tar = layer(file("zeros", bytes(40 * MIB)))
    blob = gzip.compress(tar, 1)
    stream = LayerStream(VerifiedBlob.embedded(described(blob, tar).descriptor, blob), described(blob, tar), DEFAULT)
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), stream:
        pass
    stream._reader.join(10)
    assert not stream._reader.is_alive()


def test_an_error_of_the_progress_ends_the_threads() -> None:
    """A callback that raises stops the unpack."""
    before = threading.active_count()
    with (
        pytest.raises(KeyboardInterrupt),
        opened(LONG, described(LONG, LONG), on_progress=_interrupt) as stream,
    ):
        list(stream)
    assert threading.active_count() == before


def _interrupt(_done: int) -> None:
    raise KeyboardInterrupt


def test_progress_comes_in_the_callers_thread() -> None:
    threads = set()
    with opened(TAR, described(TAR), on_progress=lambda _: threads.add(threading.current_thread())) as stream:
        stream.finish()
    assert threads == {threading.current_thread()}


def test_the_reader_is_never_far_ahead() -> None:
    """Memory stays flat, however slow the caller is."""
    wanted = described(LONG, LONG)
    with VerifiedBlob(wanted.descriptor, io.BytesIO(LONG)) as blob, LayerStream(blob, wanted, DEFAULT) as stream:
        next(stream)
        deadline = time.monotonic() + 5
        done = -1
        while done != blob.done and time.monotonic() < deadline:
            done = blob.done
            time.sleep(0.05)
        assert 0 < blob.done <= 20 * MIB


def test_many_streams_in_turn_leave_nothing() -> None:
    before = threading.active_count()
    for _ in range(50):
        with opened(TAR, described(TAR)) as stream:
            next(stream)
    assert threading.active_count() == before


# -- who is to blame ---------------------------------------------------------------------------------------------------


def test_a_damaged_blob_is_blamed_for_what_it_leads_to() -> None:
    """What a tar reader makes of damaged bytes leads nobody to the cause."""
    tar = layer(file("large", LONG[: 8 * MIB]))
    wanted = described(tar, tar)
    damaged = bytearray(tar)
    damaged[5] ^= 1
    with opened(bytes(damaged), wanted) as stream:
        with pytest.raises(CorruptLayerError) as caught:
            list(TarReader(stream))
        blamed = stream.blame(caught.value)
    assert isinstance(blamed, DigestMismatchError)
    assert blamed.__cause__ is caught.value


def test_a_whole_blob_leaves_the_blame_where_it_is() -> None:
    bad = layer(file("a"), b"x" * 512)
    wanted = described(bad, bad)
    with opened(bad, wanted) as stream:
        with pytest.raises(CorruptLayerError) as caught:
            list(TarReader(stream))
        blamed = stream.blame(caught.value)
    assert blamed is caught.value
    assert caught.value.layer == str(wanted.descriptor.digest)
    assert str(blamed).startswith(f"layer {wanted.descriptor.digest} at offset 512: ")


def test_blame_does_not_name_another_layer() -> None:
    """Nor does it read to the end of what cannot be read."""
    with opened(TAR, described(TAR), source=Flawed(TAR, 1000)) as stream:
        error = UnsafeEntryError("why", layer="sha256:other")
        assert stream.blame(error) is error
        assert error.layer == "sha256:other"


def test_blame_reads_the_rest_in_the_callers_thread() -> None:
    before = threading.active_count()
    with opened(LONG, described(LONG, LONG)) as stream:
        next(stream)
        error = UnsafeEntryError("why")
        assert stream.blame(error) is error
        assert threading.active_count() == before


@pytest.mark.parametrize("kind", BLOBS)
def test_a_plain_layer_is_hashed_once_and_any_other_twice(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a plain layer the digest of the blob is the diff_id: the same bytes, and the same expectation."""
    blob = BLOBS[kind]
    hashed = []
    add = Hashing.add

    def counted(self: Hashing, chunk: bytes) -> None:
        hashed.append(len(chunk))
        add(self, chunk)

    monkeypatch.setattr(Hashing, "add", counted)
    wanted = described(blob)
    with (
        VerifiedBlob(wanted.descriptor, io.BytesIO(blob)) as verified,
        LayerStream(verified, wanted, DEFAULT) as stream,
    ):
        assert b"".join(stream) == TAR
        stream.finish()

    assert sum(hashed) == (len(TAR) if kind == "none" else len(blob) + len(TAR))


def test_a_plain_layer_of_another_diff_id_is_refused() -> None:
    wanted = described(TAR, TAR[1:])
    with (
        VerifiedBlob(wanted.descriptor, io.BytesIO(TAR)) as verified,
        LayerStream(verified, wanted, DEFAULT) as stream,
        pytest.raises(DiffIdMismatchError),
    ):
        stream.finish()
