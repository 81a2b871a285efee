"""Digests and media types: texts that become paths, and that other programs compare."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

from fuzz.target import Target
from tests.support.layoutbuild import DOCKER, OCI, digest_of
from unpacker.errors import UnsupportedError
from unpacker.spec import mediatypes
from unpacker.spec.digest import Digest, InvalidDigestError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTHS = {"sha256": 64, "sha512": 128, "blake3": 64}
_ALGORITHM = frozenset(string.ascii_lowercase + string.digits)
_ENCODED = frozenset(string.ascii_letters + string.digits + "=_-")


def check(data: bytes) -> None:
    """Read a text as a digest, and as a media type."""
    text = data.decode("utf-8", "surrogateescape")
    _check_digest(text)
    _check_media_type(text)


def _check_digest(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidDigestError as error:
        assert str(error).isprintable()
        assert not _is_digest(text), error
        return
    assert _is_digest(text), digest
    assert str(digest) == text
    assert all(part not in ("", ".", "..") and "/" not in part and part.isascii() for part in digest.path_parts)
    assert digest == Digest.parse(str(digest))
    assert hash(digest) == hash(Digest(*digest.path_parts))
    try:
        digest.hasher()
    except UnsupportedError:
        assert digest.algorithm not in ("sha256", "sha512")


def _is_digest(text: str) -> bool:
    """Say whether a text is a digest, in descriptor.md's words and without a regular expression."""
    algorithm, colon, encoded = text.partition(":")
    parts = re.split("[+._-]", algorithm)
    if not (colon and encoded and set(encoded) <= _ENCODED and all(part and set(part) <= _ALGORITHM for part in parts)):
        return False
    length = _LENGTHS.get(algorithm)
    return length is None or (len(encoded) == length and set(encoded) <= frozenset("0123456789abcdef"))


def _check_media_type(text: str) -> None:
    if mediatypes.is_valid(text):
        assert text.isascii()
        assert text.isprintable()
        assert all(0 < len(part) <= 127 for part in text.split("/", 1))
    if mediatypes.is_layer(text):
        assert mediatypes.layer_compression(text) in ("none", "gzip", "zstd")
        assert mediatypes.layer_compression(mediatypes.uncompressed(text)) == "none"
    roles = (mediatypes.is_layer, mediatypes.is_config, mediatypes.is_manifest, mediatypes.is_index)
    assert sum(role(text) for role in roles) <= 1, text


def seeds() -> Iterator[bytes]:
    """Give digests and media types, right and nearly right."""
    for text in (
        *(
            digest_of(b""),
            digest_of(b"", "sha512"),
            "blake3:" + "0" * 64,
            "sha256:ABC",
            "a+b.c_d-e:F=_-",
            "sha256:",
            ":a",
        ),
        *("../../x:y", "sha256:" + "0" * 64 + "\n", "sha256:" + "\u0660" * 64),
        *OCI.values(),
        *DOCKER.values(),
    ):
        yield text.encode()


TARGET = Target(check=check, seeds=seeds, longest=300, words=(b"sha256:", b"sha512:", b"+gzip", b"+zstd"))
