"""Descriptors: what a document says of a blob before anybody reads it (descriptor.md)."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from unpacker.record import Record
from unpacker.spec import mediatypes
from unpacker.spec.digest import Digest, InvalidDigestError
from unpacker.spec.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unpacker.spec.strictjson import Value

_INT64 = 2**63 - 1


class Descriptor(Record):
    """Media type, digest and size of a blob, and what else is known of it."""

    media_type: str
    digest: Digest
    size: int
    data: bytes | None = None
    """The blob itself, where it is embedded; as untrusted as the file would be."""
    urls: tuple[str, ...] = ()
    """Where else it could be had; never fetched."""
    annotations: Mapping[str, str] = {}
    platform: Platform | None = None
    """What it is for; None also where os or architecture is left out."""
    artifact_type: str | None = None

    @classmethod
    def from_json(cls, value: Value) -> Descriptor:
        """Read a descriptor; properties that are not known are passed over.

        Raises:
            DocumentError: A property is missing, or of another form than the specification has it.
        """
        data, urls, annotations, platform, artifact_type = (
            value.optional(name) for name in ("data", "urls", "annotations", "platform", "artifactType")
        )
        return cls(
            media_type=read_media_type(value.required("mediaType")),
            digest=read_digest(value.required("digest")),
            size=value.required("size").integer(0, _INT64),
            data=None if data is None else _base64(data),
            urls=() if urls is None else urls.strings(),
            annotations={} if annotations is None else annotations.string_map(),
            platform=None if platform is None else _platform(platform),
            artifact_type=None if artifact_type is None else read_media_type(artifact_type),
        )


def read_digest(value: Value) -> Digest:
    """Read a digest.

    Raises:
        DocumentError: It is none.
    """
    text = value.text()
    try:
        return Digest.parse(text)
    except InvalidDigestError as error:
        raise value.error("a digest", f"{value.found} ({error.reason})") from None


def read_media_type(value: Value) -> str:
    """Read a media type, which may be of any kind.

    Raises:
        DocumentError: It is none.
    """
    text = value.text()
    if not mediatypes.is_valid(text):
        raise value.error("a media type")
    return text


def _base64(value: Value) -> bytes:
    try:
        return binascii.a2b_base64(value.text().encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise value.error("padded base64 (RFC 4648, section 4)", f"{value.found} ({error})") from None


def _platform(value: Value) -> Platform | None:
    """Read a platform; one that leaves out what it must have says nothing, and the image's config is asked instead."""
    name, architecture, variant, version = (
        "" if field is None else field.text()
        for field in (value.optional(key) for key in ("os", "architecture", "variant", "os.version"))
    )
    features = value.optional("os.features")
    if not name or not architecture:
        return None
    return Platform(name, architecture, variant, version, () if features is None else features.strings())
