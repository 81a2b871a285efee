"""Digests: names of bytes by their hash (descriptor.md, Digests).

The grammar leaves no room for ``/`` or ``..``, so a digest that was parsed is safe as a path; one that was not must
never come near one (CVE-2024-3727 was a digest used unparsed).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from unpacker.errors import UnsupportedError, quoted
from unpacker.record import Record

if TYPE_CHECKING:
    from hashlib import _Hash

# Always with fullmatch: `$` would let a line end through.
_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
_HEX = re.compile(r"[0-9a-f]+")
_REGISTERED = {"sha256": 64, "sha512": 128, "blake3": 64}
"""Registered algorithms, and how many hex digits they have."""
SUPPORTED = ("sha256", "sha512")


class InvalidDigestError(ValueError):
    """A text that is no digest; ``reason`` says why not."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, reason)
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return f"invalid digest {quoted(self.text)}: {self.reason}"


class Digest(Record, kw_only=False):
    """The hash of some bytes, with the name of its algorithm; `parse` validates, the plain constructor trusts."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``algorithm:encoded``.

        An algorithm that is not registered passes, as the specification asks for: it matters only once the bytes do.

        Raises:
            InvalidDigestError: It breaks the grammar, or the rules of its registered algorithm.
        """
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise InvalidDigestError(text, "not algorithm:encoded in the characters that digests are made of")
        algorithm, encoded = match.groups()
        length = _REGISTERED.get(algorithm)
        if length is not None and (len(encoded) != length or _HEX.fullmatch(encoded) is None):
            raise InvalidDigestError(text, f"{algorithm} takes {length} lower-case hex digits")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Give the digest of some bytes."""
        hasher = cls(algorithm, "").hasher()
        hasher.update(data)
        return cls(algorithm, hasher.hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"

    def __lt__(self, other: Digest) -> bool:
        return (self.algorithm, self.encoded) < (other.algorithm, other.encoded)

    @property
    def supported(self) -> bool:
        """Whether bytes can be checked against it."""
        return self.algorithm in SUPPORTED

    @property
    def path_parts(self) -> tuple[str, str]:
        """Where a layout keeps the blob, below ``blobs``."""
        return self.algorithm, self.encoded

    def require_supported(self) -> None:
        """Refuse a digest that bytes cannot be checked against.

        Raises:
            UnsupportedError: Its algorithm is none of `SUPPORTED`.
        """
        if not self.supported:
            subject = f"digest {self}"
            raise UnsupportedError(subject=subject, kind="digest algorithm", found=self.algorithm, supported=SUPPORTED)

    def hasher(self) -> _Hash:
        """Give a new hash object of this algorithm.

        Raises:
            UnsupportedError: Its algorithm is none of `SUPPORTED`.
        """
        self.require_supported()
        return hashlib.new(self.algorithm, usedforsecurity=False)
