"""Blobs: nothing is believed before the end, and nothing but a regular file is opened."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from unpacker.content.blob import VerifiedBlob, read_regular
from unpacker.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    LimitError,
    SizeMismatchError,
    UnsupportedError,
)
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest

DATA = bytes(range(256)) * 10


def described(data: bytes = DATA, algorithm: str = "sha256", **changes: Any) -> Descriptor:
    facts: dict[str, Any] = {"media_type": "a/b", "digest": Digest.of(data, algorithm), "size": len(data)}
    return Descriptor(**{**facts, **changes})


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "blob").write_bytes(DATA)
    return str(tmp_path / "blob")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_is_read_in_pieces_and_ends_when_it_is_right(path: str, algorithm: str) -> None:
    with VerifiedBlob.open(path, described(algorithm=algorithm)) as blob:
        pieces = list(iter(lambda: blob.read(1000), b""))
        assert [len(piece) for piece in pieces] == [1000, 1000, 560]
        assert b"".join(pieces) == DATA
        assert (blob.done, blob.size) == (len(DATA), len(DATA))
        assert blob.read() == b"", "and stays at its end"


def test_an_embedded_blob_is_read_like_a_file() -> None:
    with VerifiedBlob.embedded(described(), DATA) as blob:
        assert b"".join(iter(lambda: blob.read(7), b"")) == DATA


def test_an_empty_blob_is_a_blob(tmp_path: Path) -> None:
    (tmp_path / "blob").touch()
    with VerifiedBlob.open(str(tmp_path / "blob"), described(b"")) as blob:
        assert blob.read() == b""


def test_drain_verifies_what_was_not_read(path: str) -> None:
    with VerifiedBlob.open(path, described(digest=Digest.of(b"other"))) as blob:
        assert blob.read(5) == DATA[:5]
        with pytest.raises(DigestMismatchError) as raised:
            blob.drain()
    assert raised.value.expected == str(Digest.of(b"other"))
    assert raised.value.actual == str(Digest.of(DATA))


def test_a_failed_blob_never_ends_well(path: str) -> None:
    with VerifiedBlob.open(path, described(digest=Digest.of(b"other"))) as blob:
        for _ in range(2):
            with pytest.raises(DigestMismatchError):
                blob.drain()


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 0, 2**63 - 1])
def test_a_file_of_another_size_is_not_read_at_all(path: str, size: int) -> None:
    with pytest.raises(SizeMismatchError) as raised:
        VerifiedBlob.open(path, described(size=size))
    assert (raised.value.expected, raised.value.actual) == (size, len(DATA))


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_embedded_data_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(SizeMismatchError):
        VerifiedBlob.embedded(described(size=size), DATA)


def test_embedded_data_of_another_digest_is_refused() -> None:
    with VerifiedBlob.embedded(described(), DATA[::-1]) as blob, pytest.raises(DigestMismatchError):
        blob.drain()


def test_a_file_that_grows_is_read_one_byte_too_far_and_no_more(path: str) -> None:
    with VerifiedBlob.open(path, described()) as blob:
        blob.read(10)
        with Path(path).open("ab") as file:
            file.write(bytes(1_000_000))
        with pytest.raises(SizeMismatchError, match="actual at least 2561 bytes"):
            blob.drain()
        assert blob.done == len(DATA) + 1


def test_a_file_that_shrinks_is_too_short(path: str) -> None:
    with VerifiedBlob.open(path, described()) as blob:
        blob.read(10)
        os.truncate(path, 20)
        with pytest.raises(SizeMismatchError, match="expected 2560 bytes, actual 20 bytes"):
            blob.drain()


def test_a_missing_blob_is_not_found_and_no_corruption(tmp_path: Path) -> None:
    missing = str(tmp_path / "no" / "blob")
    with pytest.raises(BlobNotFoundError) as raised:
        VerifiedBlob.open(missing, described(urls=("https://example.com/layer",)))
    assert raised.value.path == missing
    assert raised.value.digest == str(Digest.of(DATA))
    assert raised.value.hint is not None
    assert "never fetched" in raised.value.hint


def test_a_digest_that_cannot_be_checked_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    descriptor = described(digest=Digest.parse("blake3:" + "a" * 64))
    with pytest.raises(UnsupportedError, match="unsupported digest algorithm blake3"):
        VerifiedBlob.open(str(tmp_path / "missing"), descriptor)
    with pytest.raises(UnsupportedError):
        VerifiedBlob.embedded(descriptor, DATA)


@pytest.mark.parametrize("kind", ["symbolic link", "fifo", "directory", "socket", "dangling"])
def test_only_a_regular_file_is_opened(tmp_path: Path, path: str, kind: str) -> None:
    """A fifo would hang it, and a link lead it out of the layout."""
    odd = tmp_path / "odd"
    if kind == "symbolic link":
        odd.symlink_to(path)
    elif kind == "dangling":
        odd.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(odd)
    elif kind == "directory":
        odd.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            here = Path.cwd()
            os.chdir(tmp_path)  # The path of a socket is short.
            try:
                listener.bind("odd")
            finally:
                os.chdir(here)
    expected = "symbolic link" if kind == "dangling" else kind
    with pytest.raises(UnsupportedError, match=f"odd: unsupported file type {expected}"):
        VerifiedBlob.open(str(odd), described())


def test_a_file_that_becomes_a_fifo_while_it_is_opened_does_not_hang(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    regular = os.lstat(path)
    monkeypatch.setattr("os.lstat", lambda path: regular)
    with pytest.raises(UnsupportedError, match="unsupported file type fifo"):
        VerifiedBlob.open(str(tmp_path / "fifo"), described())


def test_a_failing_read_says_what_it_was_reading(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    blob = VerifiedBlob(described(), Failing())
    with pytest.raises(OSError, match="Input/output error") as raised:
        blob.read()
    assert raised.value.__notes__ == [f"reading blob {Digest.of(DATA)}"]


def test_a_closed_blob_is_not_read(path: str) -> None:
    blob = VerifiedBlob.open(path, described())
    blob.close()
    with pytest.raises(ValueError, match="closed"):
        blob.read()


def test_a_whole_file_has_a_limit(path: str) -> None:
    assert read_regular(path, len(DATA), "document_bytes") == DATA
    with pytest.raises(LimitError, match=f"{path}: bytes of the file: 2560, more than the limit of 2559"):
        read_regular(path, len(DATA) - 1, "document_bytes")
