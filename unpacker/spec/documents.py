"""The three documents of an image: index, manifest and config (image-index.md, manifest.md, config.md).

The same bytes must never pass as an index here and as a manifest there (CVE-2021-41190), so each refuses what belongs
to the other, and a ``mediaType`` inside that is not the one its descriptor gave.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from unpacker.errors import LimitError, UnsupportedError
from unpacker.limits import DEFAULT, Limits
from unpacker.record import Record
from unpacker.spec.descriptor import Descriptor, read_digest, read_media_type
from unpacker.spec.mediatypes import INDEXES, MANIFESTS
from unpacker.spec.platforms import Platform
from unpacker.spec.strictjson import Value, load

if TYPE_CHECKING:
    from unpacker.spec.digest import Digest


class Index(Record):
    """An image index or manifest list: descriptors of manifests, of other indexes, or of anything."""

    media_type: str | None
    """What the document says of itself, if it does."""
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str]

    @classmethod
    def parse(
        cls,
        data: bytes,
        source: str,
        limits: Limits = DEFAULT,
        *,
        media_type: str | None = None,
        null_is_empty: bool = False,
    ) -> Index:
        """Read an index.

        Args:
            data: Its bytes, verified.
            source: What errors call it.
            limits: How much of it is read.
            media_type: What its descriptor says it is.
            null_is_empty: Take ``"manifests": null`` for an empty array, as Docker 25.0 wrote it to ``index.json``.

        Raises:
            DocumentError: It breaks the specification.
            LimitError: It is too large.
        """
        document = load(data, source, limits)
        own = _media_type(document, INDEXES, media_type)
        _refuse(document, ("config", "layers", "fsLayers"), "an index")
        document.required("schemaVersion").integer(2, 2)
        manifests = document.required("manifests")
        return cls(
            media_type=own,
            manifests=() if null_is_empty and manifests.is_null else _descriptors(manifests, limits, "index_manifests"),
            annotations=_annotations(document),
        )


class Manifest(Record):
    """A config and layers: a container image, or any artifact in its clothes."""

    media_type: str | None
    """What the document says of itself, if it does."""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    """Base first."""
    annotations: dict[str, str]
    artifact_type: str | None = None
    subject: Descriptor | None = None

    @classmethod
    def parse(cls, data: bytes, source: str, limits: Limits = DEFAULT, *, media_type: str | None = None) -> Manifest:
        """Read a manifest; ``"layers": null`` is how Docker writes that an image has none.

        Args:
            data: Its bytes, verified.
            source: What errors call it.
            limits: How much of it is read.
            media_type: What its descriptor says it is.

        Raises:
            DocumentError: It breaks the specification.
            UnsupportedError: It is a manifest of Docker's schema 1.
            LimitError: It is too large.
        """
        document = load(data, source, limits)
        if document.optional("fsLayers") is not None:
            raise UnsupportedError(subject=source, kind="document", found="Docker schema 1", supported=MANIFESTS)
        own = _media_type(document, MANIFESTS, media_type)
        _refuse(document, ("manifests",), "a manifest")
        document.required("schemaVersion").integer(2, 2)
        layers, artifact_type, subject = (
            document.required("layers"),
            document.optional("artifactType"),
            document.optional("subject"),
        )
        return cls(
            media_type=own,
            config=Descriptor.from_json(document.required("config")),
            layers=() if layers.is_null else _descriptors(layers, limits, "layers"),
            annotations=_annotations(document),
            artifact_type=None if artifact_type is None else read_media_type(artifact_type),
            subject=None if subject is None else Descriptor.from_json(subject),
        )


class Config(Record):
    """What an image is for and what its layers are; how to run it (``raw["config"]``) is not looked at here."""

    os: str
    """Empty if it does not say."""
    architecture: str
    """Empty if it does not say."""
    variant: str
    os_version: str
    os_features: tuple[str, ...]
    diff_ids: tuple[Digest, ...]
    """Digests of the uncompressed layers, base first."""
    data: bytes
    """The document, as it is stored."""

    @classmethod
    def parse(cls, data: bytes, source: str, limits: Limits = DEFAULT) -> Config:
        """Read a config.

        Absent or null ``diff_ids`` are those of an image without layers, as Docker writes them.

        Args:
            data: Its bytes, verified.
            source: What errors call it.
            limits: How much of it is read.

        Raises:
            DocumentError: It breaks the specification where it matters to the files of the image.
            UnsupportedError: Its ``rootfs.type`` is not ``layers``.
            LimitError: It is too large.
        """
        document = load(data, source, limits)
        name, architecture, variant, version = (
            "" if field is None else field.text()
            for field in (document.optional(key) for key in ("os", "architecture", "variant", "os.version"))
        )
        features = document.optional("os.features")
        return cls(
            os=name,
            architecture=architecture,
            variant=variant,
            os_version=version,
            os_features=() if features is None else features.strings(),
            diff_ids=_diff_ids(document.required("rootfs"), limits),
            data=data,
        )

    @property
    def raw(self) -> dict[str, Any]:
        """The whole document.

        Read again for whoever asks: what 8 MiB of it say takes a hundred in memory, which an unpack has other use for.
        """
        return Value(json.loads(self.data), "config").object()

    @property
    def platform(self) -> Platform | None:
        """What the image is for; None if the config leaves out the os or the architecture."""
        if not self.os or not self.architecture:
            return None
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)


def _media_type(document: Value, kinds: tuple[str, ...], descriptors: str | None) -> str | None:
    """Read what the document says it is, which must be one of its kind and, if that is known, its descriptor's."""
    value = document.optional("mediaType")
    if value is None:
        return None
    allowed = kinds if descriptors is None else (descriptors,)
    if value.text() not in allowed:
        raise value.error(" or ".join(allowed))
    return value.text()


def _refuse(document: Value, names: tuple[str, ...], kind: str) -> None:
    for name in names:
        value = document.optional(name)
        if value is not None:
            raise value.error(f"no such field in {kind}")


def _descriptors(value: Value, limits: Limits, limit: str) -> tuple[Descriptor, ...]:
    allowed, found = getattr(limits, limit), value.length()
    if found > allowed:
        raise LimitError(limit=limit, allowed=allowed, found=found, what=f"{value.source}: entries of {value.where}")
    return tuple(Descriptor.from_json(item) for item in value.array())


def _annotations(document: Value) -> dict[str, str]:
    value = document.optional("annotations")
    return {} if value is None else value.string_map()


def _diff_ids(rootfs: Value, limits: Limits) -> tuple[Digest, ...]:
    kind = rootfs.required("type")
    if kind.text() != "layers":
        subject = f"config {rootfs.source}"
        raise UnsupportedError(subject=subject, kind="rootfs.type", found=kind.word(), supported=("layers",))
    diff_ids = rootfs.optional("diff_ids")
    if diff_ids is None:
        return ()
    if diff_ids.length() > limits.layers:
        what = f"{rootfs.source}: entries of {diff_ids.where}"
        raise LimitError(limit="layers", allowed=limits.layers, found=diff_ids.length(), what=what)
    return tuple(read_digest(item) for item in diff_ids.array())
