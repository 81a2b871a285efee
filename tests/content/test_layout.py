"""Layouts: what is one, what is none, and what of one is read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layoutbuild import LayoutBuilder
from unpacker.content.layout import Layout
from unpacker.errors import (
    DigestMismatchError,
    DocumentError,
    LayoutNotFoundError,
    LimitError,
    SizeMismatchError,
    UnsupportedError,
)
from unpacker.limits import Limits
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest
from unpacker.spec.strictjson import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def built(tmp_path: Path) -> LayoutBuilder:
    return LayoutBuilder(tmp_path / "layout")


def test_a_layout_is_opened_by_its_path(built: LayoutBuilder) -> None:
    layout = Layout.open(built.path)
    assert layout.path == built.path
    assert layout.index().manifests == ()


def test_files_that_are_not_known_are_nobodys_business(built: LayoutBuilder) -> None:
    (built.path / "README").write_text("x")
    (built.path / "manifest.json").write_text("broken")
    (built.path / "blobs/unknown+alg").mkdir()
    (built.path / "blobs/sha256/.tmp").touch()
    (built.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0", "x": {"y": 1}}')
    assert Layout.open(built.path).index().manifests == ()


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_a_directory_without_the_files_of_a_layout_is_none(built: LayoutBuilder, name: str) -> None:
    (built.path / name).unlink()
    with pytest.raises(LayoutNotFoundError, match=f"layout: not an OCI image layout: no file {name}$"):
        Layout.open(built.path)
    (built.path / name).mkdir()
    with pytest.raises(LayoutNotFoundError, match=f"{name} is a directory"):
        Layout.open(built.path)


def test_a_layout_has_a_directory_blobs(built: LayoutBuilder) -> None:
    (built.path / "blobs/sha256").rmdir()
    (built.path / "blobs").rmdir()
    with pytest.raises(LayoutNotFoundError, match="no directory blobs"):
        Layout.open(built.path)


def test_a_path_that_leads_nowhere_is_no_layout(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", "", "a\0b"):
        with pytest.raises(LayoutNotFoundError, match="no such directory"):
            Layout.open(path)
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(LayoutNotFoundError, match="it is no directory"):
        Layout.open(tmp_path / "dangling")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO], ids=["EACCES", "EIO"])
@pytest.mark.parametrize("name", ["", "oci-layout", "index.json", "blobs"])
def test_what_cannot_be_looked_at_is_not_missing(
    built: LayoutBuilder, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To be told that there is no layout leads away from a broken disk, or from a mode that is too strict."""
    stat, broken = os.stat, os.path.join(built.path, name) if name else str(built.path)

    def failing(path: str, **options: Any) -> os.stat_result:
        if path == broken:
            raise OSError(number, os.strerror(number), path)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        Layout.open(os.fspath(built.path))
    assert (raised.value.errno, raised.value.filename) == (number, broken)


def test_an_archive_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(bytes(10240))
    with pytest.raises(LayoutNotFoundError, match="it is a file; an archive of a layout must be extracted first"):
        Layout.open(tmp_path / "image.tar")


def test_dockers_older_format_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(LayoutNotFoundError, match=r"no file oci-layout; manifest\.json alone is docker save's older"):
        Layout.open(tmp_path)


def test_a_layout_may_be_reached_by_a_link(built: LayoutBuilder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(built.path)
    assert Layout.open(tmp_path / "link").index().manifests == ()


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[]", ""),
        ("{}", "imageLayoutVersion"),
        ('{"imageLayoutVersion": null}', "imageLayoutVersion"),
        ('{"imageLayoutVersion": 1.0}', "imageLayoutVersion"),
        ('{"imageLayoutVersion": 1.0.0}', ""),
        ('{"imageLayoutVersion": "1.0', ""),
        ("", ""),
    ],
)
def test_a_damaged_oci_layout_is_named(built: LayoutBuilder, content: str, where: str) -> None:
    (built.path / "oci-layout").write_text(content)
    with pytest.raises(DocumentError) as raised:
        Layout.open(built.path)
    assert (raised.value.source, raised.value.where) == (str(built.path / "oci-layout"), where)


@pytest.mark.parametrize("version", ["2.0.0", "1.0.1", "1.0", "", "\x1b[2J\n"])
def test_another_version_is_unsupported(built: LayoutBuilder, version: str) -> None:
    (built.path / "oci-layout").write_text(json.dumps({"imageLayoutVersion": version}))
    with pytest.raises(UnsupportedError, match="oci-layout: unsupported imageLayoutVersion") as raised:
        Layout.open(built.path)
    assert str(raised.value).isprintable()


def test_an_index_is_read_as_it_is_now(built: LayoutBuilder) -> None:
    layout = Layout.open(built.path)
    built.name(built.image([b""]), "v1")
    assert len(layout.index().manifests) == 1


def test_every_flipped_byte_of_an_index_is_an_error_or_harmless(built: LayoutBuilder) -> None:
    """Whatever a byte becomes, the error is one of ours and names the file."""
    built.name(built.image([b""]), "v1")
    path = built.path / "index.json"
    data = path.read_bytes()
    layout = Layout.open(built.path)
    for offset in range(len(data)):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 0x80]) + data[offset + 1 :])
        with pytest.raises(DocumentError, match=r"index\.json"):
            layout.index()
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 0x01]) + data[offset + 1 :])
        with contextlib.suppress(DocumentError):
            layout.index()


def test_an_index_that_is_a_manifest_is_refused(built: LayoutBuilder) -> None:
    image = built.image([b""])
    (built.path / "index.json").write_text(json.dumps(image.manifest))
    with pytest.raises(DocumentError, match=r"index\.json: mediaType"):
        Layout.open(built.path).index()


def test_null_manifests_of_an_index_are_none(built: LayoutBuilder) -> None:
    (built.path / "index.json").write_text('{"schemaVersion": 2, "manifests": null}')
    assert Layout.open(built.path).index().manifests == ()


def test_an_index_has_a_limit(built: LayoutBuilder) -> None:
    with pytest.raises(LimitError, match=r"index\.json: bytes of the file"):
        Layout.open(built.path).index(Limits(document_bytes=10))


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_the_files_of_a_layout_are_files(built: LayoutBuilder, name: str) -> None:
    (built.path / name).rename(built.path / "other")
    (built.path / name).symlink_to("other")
    with pytest.raises(UnsupportedError, match="unsupported file type symbolic link"):
        Layout.open(built.path).index()


# -- blobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_blobs_are_found_by_digest(tmp_path: Path, algorithm: str) -> None:
    built = LayoutBuilder(tmp_path / "layout", algorithm=algorithm)
    descriptor = read(built.blob("a/b", b"content"))
    layout = Layout.open(built.path)

    assert layout.document(descriptor) == b"content"
    assert layout.blob_path(descriptor.digest) == built.blob_path(str(descriptor.digest))
    with layout.blob(descriptor) as blob:
        assert blob.read() == b"content"


def test_a_changed_document_is_not_given_out(built: LayoutBuilder) -> None:
    descriptor = read(built.blob("a/b", b"content"))
    built.flip(str(descriptor.digest))
    with pytest.raises(DigestMismatchError) as raised:
        Layout.open(built.path).document(descriptor)
    assert raised.value.expected == str(descriptor.digest)


@pytest.mark.parametrize("by", [-1, 1])
def test_a_document_of_another_size_is_not_given_out(built: LayoutBuilder, by: int) -> None:
    descriptor = read(built.blob("a/b", b"content"))
    built.truncate(str(descriptor.digest), -by)
    with pytest.raises(SizeMismatchError, match=f"expected 7 bytes, actual {7 + by} bytes"):
        Layout.open(built.path).document(descriptor)


def test_embedded_data_is_used_instead_of_the_blob(built: LayoutBuilder) -> None:
    descriptor = read(built.blob("a/b", b"content", embed=True))
    layout = Layout.open(built.path)
    assert layout.document(descriptor) == b"content"

    built.blob("a/b", b"content")
    built.flip(str(descriptor.digest))
    assert layout.document(descriptor) == b"content"


def test_embedded_data_is_verified(built: LayoutBuilder) -> None:
    good = built.blob("a/b", b"content")
    layout = Layout.open(built.path)
    with pytest.raises(DigestMismatchError):
        layout.document(read({**good, "data": "Q29udGVudA=="}))
    with pytest.raises(SizeMismatchError):
        layout.document(read({**good, "data": ""}))


def test_a_document_has_a_limit_whatever_its_size_claims(built: LayoutBuilder) -> None:
    descriptor = Descriptor(media_type="a/b", digest=Digest.of(b""), size=2**63 - 1)
    with pytest.raises(LimitError, match="bytes of a JSON document"):
        Layout.open(built.path).document(descriptor)


def test_a_blob_that_is_a_link_is_not_followed(built: LayoutBuilder, tmp_path: Path) -> None:
    descriptor = read(built.blob("a/b", b"content"))
    path = built.blob_path(str(descriptor.digest))
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(UnsupportedError, match="unsupported file type symbolic link"):
        Layout.open(built.path).document(descriptor)


def read(document: object) -> Descriptor:
    return Descriptor.from_json(load(json.dumps(document).encode(), "descriptor"))
