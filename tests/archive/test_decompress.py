from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import tarfile
import types
import zipfile

import pytest
import zstandard

from tests.support.compressed import FEED_SIZES, feed, gzip_member, raw_block, rle_block, skippable, zstd_frame
from unpacker.archive import gzipstream, zstdstream
from unpacker.archive.decompress import Compression, coalesced, decompress, sniff
from unpacker.archive.pieces import CHUNK
from unpacker.errors import CorruptLayerError, LimitError, UnsupportedError
from unpacker.limits import Limits


def tar_of(name: str, data: bytes = b"data") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("name", data)
    return out.getvalue()


TAR = tar_of("etc/motd", b"hello\n" * 5000)
BLOBS: dict[Compression, bytes] = {
    "none": TAR,
    "gzip": gzip.compress(TAR),
    "zstd": skippable(b"x") + zstandard.compress(TAR),
}


@pytest.mark.parametrize("size", FEED_SIZES)
@pytest.mark.parametrize("compression", BLOBS)
def test_the_first_bytes_decide(compression: Compression, size: int) -> None:
    """Whatever the media type says, and however they arrive."""
    chunks = decompress(feed(BLOBS[compression], size))
    assert chunks.compression == compression
    assert b"".join(chunks) == TAR
    assert chunks.size == len(TAR)


@pytest.mark.parametrize(
    ("head", "compression"),
    [
        (b"", "none"),
        (b"\x1f\x8b", "none"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x50\x2a\x4d\x18", "zstd"),
        (b"\x5f\x2a\x4d\x18", "zstd"),
        (b"\x60\x2a\x4d\x18", "none"),
        (b"\x50\x2a\x4d", "none"),
        (bytes(10), "none"),
        (tar_of("BZh9 is a file")[:10], "none"),
        (tar_of("PK")[:10], "none"),
    ],
)
def test_sniff(head: bytes, compression: str) -> None:
    assert sniff(head) == compression


@pytest.mark.parametrize(
    ("name", "blob"),
    [
        ("xz", lzma.compress(TAR)),
        ("bzip2", bz2.compress(TAR)),
        ("zip", zip_of(TAR)),
        ("lz4", b"\x04\x22\x4d\x18\x64\x40\xa7" + bytes(20)),
        ("lzip", b"LZIP\x01\x0c" + bytes(20)),
        ("compress", b"\x1f\x9d\x90" + bytes(20)),
    ],
)
def test_other_compressions_are_named(name: str, blob: bytes) -> None:
    """ "Not a tar header" would be true, and no help."""
    with pytest.raises(UnsupportedError, match=f"unsupported compression {name}"):
        decompress(feed(blob, 1))


def test_an_empty_blob_is_an_empty_stream() -> None:
    assert list(decompress(feed(b""))) == []


@pytest.mark.parametrize("blob", [*BLOBS.values(), b"", skippable(b"")])
def test_the_blob_is_read_to_its_very_end(blob: bytes) -> None:
    """Reading the end is what makes the reader verify size and digest."""
    ends = 0
    read = feed(blob, 1000)

    def counting() -> bytes:
        nonlocal ends
        piece = read()
        ends += not piece
        return piece

    list(decompress(counting))
    assert ends == 1


@pytest.mark.parametrize("compression", BLOBS)
def test_small_members_and_pieces_become_large_chunks(compression: Compression) -> None:
    """Whoever takes them pays for each."""
    part = bytes(range(256)) * 100
    one = {"none": part, "gzip": gzip_member(part), "zstd": zstandard.compress(part)}[compression]
    sizes = [len(chunk) for chunk in decompress(feed(one * 200, 20_000))]
    assert sum(sizes) == 200 * len(part)
    assert max(sizes) <= CHUNK
    assert min(sizes[:-1]) > CHUNK * 0.9


def test_large_chunks_pass_without_a_copy() -> None:
    large = [bytes(CHUNK), bytes(CHUNK // 2), bytes(700_000)]
    assert all(given is taken for given, taken in zip(coalesced(iter(large)), large, strict=True))


def test_chunks_keep_their_order_when_some_are_joined() -> None:
    sizes = [10, CHUNK, 5, 5, CHUNK - 10, 1, CHUNK // 2, CHUNK // 2, 7, CHUNK - 7, 3]
    chunks = [bytes([number]) * size for number, size in enumerate(sizes)]
    given = list(coalesced(iter(chunks)))
    assert b"".join(given) == b"".join(chunks)
    assert max(map(len, given)) <= CHUNK
    assert len(given) == 7


@pytest.mark.parametrize("compression", BLOBS)
def test_more_than_the_allowed_bytes_is_an_error(compression: Compression) -> None:
    blob = BLOBS[compression]
    assert b"".join(decompress(feed(blob), Limits(layer_bytes=len(TAR)))) == TAR
    with pytest.raises(LimitError) as caught:
        list(decompress(feed(blob), Limits(layer_bytes=len(TAR) - 1)))
    assert caught.value.limit == "layer_bytes"
    assert caught.value.found == len(TAR)


def test_a_bomb_is_stopped_by_its_ratio() -> None:
    """zstd can expand 32,000 times; the blob is not read to its end for that."""
    bomb = zstd_frame(*[rle_block(b"\0", 128 << 10)] * 8000)
    limits = Limits(ratio_floor=16 << 20, ratio=2000)
    chunks = decompress(feed(bomb, 4096), limits)
    with pytest.raises(LimitError) as caught:
        for _ in chunks:
            pass
    assert caught.value.limit == "ratio"
    assert caught.value.found > 2000
    assert chunks.size < 64 << 20


def test_a_small_bomb_may_have_any_ratio() -> None:
    bomb = zstd_frame(*[rle_block(b"\0", 128 << 10)] * 64)
    assert sum(map(len, decompress(feed(bomb)))) == 8 << 20


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_cut_off_blob_is_an_error(compression: Compression) -> None:
    with pytest.raises(CorruptLayerError, match=f"the {compression} stream is cut off"):
        list(decompress(feed(BLOBS[compression][:-1])))


def test_gzip_without_isal_is_read_by_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal.igzip_lib", None)
    assert gzipstream._backend() == gzipstream.zlib_backend()
    assert b"".join(decompress(feed(BLOBS["gzip"]))) == TAR


def test_zstd_without_zstandard_is_read_frame_by_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert zstdstream._backend() is zstdstream.by_frame
    assert b"".join(decompress(feed(BLOBS["zstd"]))) == TAR
    with pytest.raises(CorruptLayerError, match="damaged zstd stream"):
        list(decompress(feed(zstd_frame(raw_block(b"data"), checksum=b"bad!"))))


def test_zstd_of_the_standard_library_is_used_where_it_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 has `compression.zstd`; its backport is the same module under another name."""
    zstd = pytest.importorskip("backports.zstd")
    package = types.ModuleType("compression")
    vars(package)["zstd"] = zstd
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", package)
    monkeypatch.setitem(sys.modules, "compression.zstd", zstd)
    assert zstdstream._frame_decompressor(27)[1] is zstd.ZstdError
    assert b"".join(decompress(feed(BLOBS["zstd"], 1000))) == TAR
    assert (
        sum(map(len, decompress(feed(zstd_frame(rle_block(b"x", 9), window_log=28)), Limits(zstd_window_log=28)))) == 9
    )


def test_only_the_codec_that_is_used_is_imported() -> None:
    """Start-up counts: a plain layer needs none of them."""
    program = (
        "import sys; from unpacker.archive.decompress import decompress\n"
        "def loaded(): return sorted({'isal', 'zstandard', 'pyzstd'} & {name.split('.')[0] for name in sys.modules})\n"
        "print(loaded())\n"
        f"pieces = iter([{gzip_member(b'x')!r}, b''])\n"
        "list(decompress(lambda: next(pieces))); print('zstandard' in loaded() or 'pyzstd' in loaded())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
