"""Digests: grammar, registered algorithms, hashing."""

from __future__ import annotations

import hashlib
import pickle

import pytest

from unpacker.errors import UnsupportedError
from unpacker.spec.digest import Digest, InvalidDigestError

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        f"sha256:{HEX}",
        f"sha512:{HEX * 2}",
        f"blake3:{HEX}",
        "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
        "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564=",
        "a.b_c-d+e0:x",
    ],
)
def test_a_digest_that_keeps_to_the_grammar_is_read_and_written_alike(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        f":{HEX}",
        f"SHA256:{HEX}",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX}0",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}\n",
        f"\nsha256:{HEX}",
        f"sha256:{HEX[:-1]}\0",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX[:-1]}\u0663",
        f"sha512:{HEX}",
        f"blake3:{HEX}{HEX}",
        "sha256:../../etc/passwd",
        "sha256:a/b",
        "../sha256:ab",
        "sha256+foo+-b:ab",
        "+sha256:ab",
        "other:a:b",
        "other:a b",
    ],
)
def test_anything_else_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidDigestError, match="invalid digest '") as raised:
        Digest.parse(text)
    assert raised.value.text == text
    assert raised.value.reason in str(raised.value)


def test_an_endless_digest_is_refused_quickly() -> None:
    """The grammar gives a matcher no way to backtrack for long."""
    with pytest.raises(InvalidDigestError):
        Digest.parse("a" * 100_000 + "+" + "-a" * 100_000)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_of_bytes_is_their_hash(algorithm: str) -> None:
    found = Digest.of(b"some bytes", algorithm)

    assert str(found) == f"{algorithm}:{hashlib.new(algorithm, b'some bytes').hexdigest()}"
    assert found == Digest.parse(str(found))
    assert found.supported
    assert found.path_parts == (algorithm, found.encoded)


def test_a_digest_that_cannot_be_computed_is_valid_but_unsupported() -> None:
    digest = Digest.parse(f"blake3:{HEX}")

    assert not digest.supported
    with pytest.raises(UnsupportedError, match=f"digest blake3:{HEX}: unsupported digest algorithm blake3") as raised:
        digest.hasher()
    assert raised.value.hint == "supported: sha256, sha512"


def test_digests_are_values() -> None:
    """They sort, hash and pickle."""
    first, second = Digest("sha256", "a"), Digest("sha256", "b")

    assert sorted([second, first]) == [first, second]
    assert len({first, Digest("sha256", "a")}) == 1
    assert pickle.loads(pickle.dumps(first)) == first  # noqa: S301
