"""From what the user asked for to one image: reference and platform to manifest, config and layers.

::

    LAYOUT[:TAG][@DIGEST]  ─▶  descriptors of index.json  ─▶  manifests, through indexes in indexes
                                                                    │ platform
                                            layers  ◀─  config  ◀─  one manifest

Names belong to the descriptors of ``index.json`` and to no others (annotations.md).  Whatever could mean two different
images is an error that lists them; nothing is chosen silently, ``latest`` least of all.  What is not needed for the
answer may be missing from the layout, or be of a kind that nobody here knows.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from unpacker.errors import (
    AmbiguousReferenceError,
    BlobNotFoundError,
    LayerCountError,
    LimitError,
    PlatformNotFoundError,
    ReferenceNotFoundError,
    UnpackError,
    UnsupportedError,
    UsageError,
    quoted,
    word,
)
from unpacker.events import OnEvent, Warned, ignore
from unpacker.limits import DEFAULT, Limits
from unpacker.record import Record
from unpacker.spec.chain import chain_ids
from unpacker.spec.digest import Digest, InvalidDigestError
from unpacker.spec.documents import Config, Index, Manifest
from unpacker.spec.mediatypes import (
    CONFIGS,
    INDEXES,
    MANIFESTS,
    NAMES_SUPPORTED_LAYERS,
    is_config,
    is_index,
    is_layer,
    is_manifest,
)
from unpacker.spec.platforms import Platform, rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from unpacker.content.store import Images
    from unpacker.spec.descriptor import Descriptor

REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"
"""Where containerd and ``docker save`` put the whole name; their ref.name is the tag alone."""
_LIKE_DIGEST = re.compile(r"@[^@/]+:[^@/]*$")
_ABOUT_IMAGES = frozenset(
    {
        ("vnd.docker.reference.type", "attestation-manifest"),
        ("kind", "dev.cosignproject.cosign/sigs"),
        ("kind", "dev.cosignproject.cosign/atts"),
        ("kind", "dev.cosignproject.cosign/sboms"),
    }
)
"""How Docker, and what saves with cosign, annotate what looks like an image and is none."""


# -- what was asked for ------------------------------------------------------------------------------------------------


class Reference(Record, kw_only=False):
    """Which image of which layout."""

    layout: str
    """Path of the layout."""
    tag: str | None = None
    """A name in ``index.json``, compared byte by byte."""
    digest: Digest | None = None
    """Digest of a manifest or an index."""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``LAYOUT[:TAG][@DIGEST]``, with or without ``oci:`` before it.

        Paths may hold colons, and names as well.  So a path that exists is the layout; else it is the longest beginning
        that is a directory (or else any file) and has a colon or an at sign after it.

        Raises:
            UsageError: It cannot be read.
        """
        for path in (text, text.removeprefix("oci:")):
            if os.path.lexists(path):
                return cls(path)
            for there in (os.path.isdir, os.path.lexists):
                cut = next((cut for cut in _cuts(path) if there(path[:cut])), None)
                if cut is not None:
                    return cls._split(path, cut)
        if not path:
            raise UsageError("no layout given", "write LAYOUT[:TAG|@DIGEST]")
        # Nothing is there, which opening the layout will find; so this is but the path to name in that error.
        path = _LIKE_DIGEST.sub("", path)
        return cls(path.rpartition(":")[0] or path)

    @classmethod
    def _split(cls, text: str, cut: int) -> Reference:
        layout, kind, name = text[:cut], text[cut], text[cut + 1 :]
        if not name:
            raise UsageError(f"reference {quoted(text)} ends in {quoted(kind)}", "write LAYOUT[:TAG|@DIGEST]")
        if kind == "@":
            try:
                return cls(layout, digest=Digest.parse(name))
            except InvalidDigestError as error:
                raise UsageError(f"reference {quoted(text)}: {error}", "write LAYOUT@sha256:…") from None
        tag, at, encoded = name.rpartition("@")
        if at and tag:
            try:
                return cls(layout, tag, Digest.parse(encoded))
            except InvalidDigestError:
                pass  # A name may hold an at sign.
        return cls(layout, name)

    @property
    def name(self) -> str | None:
        """What was asked for, without the layout."""
        if self.digest is None:
            return self.tag
        return f"{self.tag}@{self.digest}" if self.tag is not None else str(self.digest)


def _cuts(text: str) -> Iterator[int]:
    """Yield where a path may end, longest first."""
    return (cut for cut in range(len(text) - 1, 0, -1) if text[cut] in ":@")


# -- what was found ----------------------------------------------------------------------------------------------------


class Layer(Record):
    """A stored blob and what it is in the image."""

    index: int
    """0 is the base."""
    descriptor: Descriptor
    diff_id: Digest
    chain_id: Digest


class Resolution(Record):
    """One image, its documents verified and checked against each other; its layers have not been looked at."""

    name: str
    """What it is called: its reference, or its digest."""
    target: Descriptor
    """What the name stands for: an index or a manifest."""
    manifest_descriptor: Descriptor
    manifest: Manifest
    config_descriptor: Descriptor
    config: Config
    layers: tuple[Layer, ...]
    platform: Platform
    """What it is for, as its config says."""


def resolve(
    layout: Images,
    reference: Reference,
    platform: Platform | None = None,
    limits: Limits = DEFAULT,
    on_event: OnEvent = ignore,
) -> Resolution:
    """Find the image.

    Args:
        layout: Where to look.
        reference: Which image; its own path is not used.
        platform: Which platform's; None is this host's, and then an image that is the only one is used anyway.
        limits: How much of the layout is read.
        on_event: Gets `unpacker.events.Warned`.

    Raises:
        ReferenceNotFoundError: There is no such image.
        AmbiguousReferenceError: There are several.
        PlatformNotFoundError: There is none for this platform.
        BlobNotFoundError: A document of the image is not in the layout.
        IntegrityError: A document is damaged, or they do not fit together.
        UnsupportedError: It is no container image, or of a kind that is not known here.
        LimitError: It is too large.
    """
    return _Resolver(layout, platform, limits, on_event).resolve(reference)


def find(layout: Images, reference: Reference, limits: Limits = DEFAULT) -> tuple[str | None, list[Descriptor]]:
    """Find what a reference stands for, whatever it is for: the name, if there is one, and an index or a manifest.

    Several are one image, each for other platforms.  Raises as `resolve`.
    """
    return _Resolver(layout, None, limits, ignore).find(reference)


class _Resolver:
    """One resolution."""

    def __init__(self, layout: Images, platform: Platform | None, limits: Limits, on_event: OnEvent) -> None:
        self._layout = layout
        self._path = os.fspath(layout) if isinstance(layout, os.PathLike) else str(layout)
        self._asked = platform
        self._wanted = Platform.host() if platform is None else platform.normalized()
        self._limits = limits
        self._on_event = on_event
        self._platforms: dict[tuple[Digest, str], Platform | None] = {}

    def resolve(self, reference: Reference) -> Resolution:
        """Go all the way."""
        name, targets = self.find(reference)
        chosen, target = self._for_platform(targets)
        if name is None and reference.digest is None:
            name = _name(target)
        return self._read_image(name or str(reference.digest or target.digest), target, chosen)

    def find(self, reference: Reference) -> tuple[str | None, list[Descriptor]]:
        """Go as far as no platform matters."""
        top = self._layout.index(self._limits).manifests
        tag, digest = reference.tag, reference.digest
        if tag is not None and digest is not None and any(reference.name in _names(each) for each in top):
            tag, digest = reference.name, None  # containerd's names may end in a digest.
        if digest is None:
            return tag, self._named(top, tag)
        roots = top if tag is None else self._named(top, tag)
        return tag, [self._by_digest(roots, digest, reference)]

    # -- by name -------------------------------------------------------------------------------------------------------

    def _named(self, top: tuple[Descriptor, ...], tag: str | None) -> list[Descriptor]:
        """Give the descriptors of ``index.json`` that are meant: several only if they are one image."""
        if tag is None:
            # If nothing looks like an image, what there is will say best why it is none.
            named = [each for each in top if _may_be_image(each)] or list(top)
        else:
            named = [each for each in top if tag in _names(each)]
        found = [each for each in named if _is_known(each)]
        if named and not found:
            raise _unsupported(named[0])
        if not found:
            available = _call([each for each in top if _may_be_image(each)])
            raise ReferenceNotFoundError(layout=self._path, reference=tag, available=available)
        if tag is None and not _is_one_image(found, tag):
            found = self._roots(found)
        if not _is_one_image(found, tag):
            raise AmbiguousReferenceError(layout=self._path, reference=tag, available=_call(found))
        return found

    def _roots(self, found: list[Descriptor]) -> list[Descriptor]:
        """Leave out what has no name, and what another one leads to: oras lists all manifests of an index beside it."""
        try:
            inner = {each.digest for each, root in self._walk(found, []) if each.digest != root.digest}
        except UnpackError:  # of an image that may not be the one that is meant
            return found
        return [each for each in found if each.digest not in inner or _name(each)]

    def _by_digest(self, roots: Sequence[Descriptor], digest: Digest, reference: Reference) -> Descriptor:
        """Find a manifest or an index among descriptors and all that they lead to."""
        found = next((each for each in roots if each.digest == digest), None)
        found = found or next((each for each, _ in self._walk(roots, []) if each.digest == digest), None)
        if found is None:
            available = _unique(str(each.digest) for each in roots if _may_be_image(each))
            raise ReferenceNotFoundError(layout=self._path, reference=reference.name, available=available)
        if not _is_known(found):
            raise _unsupported(found)
        return found

    # -- by platform ---------------------------------------------------------------------------------------------------

    def _for_platform(self, targets: list[Descriptor]) -> tuple[Descriptor, Descriptor]:
        """Choose one manifest among all that the targets lead to; give it, and which target led there."""
        missing: list[BlobNotFoundError] = []
        leaves = [(each, root) for each, root in self._walk(targets, missing) if not is_index(each.media_type)]
        # A manifest that was asked for by name is looked at whatever it is.
        found = [each for each, _ in leaves if _may_be_image(each) or targets == [each]]
        alone = len({each.digest for each in found}) == 1
        best = self._best((each, each.platform) for each in found)
        if best is None and not alone:
            best = self._best((each, self._platform_in_config(each)) for each in found if each.platform is None)
        if best is None and alone:
            best = next((each for each in found if self._asked is None or each.platform is None), None)
        if best is not None:
            return best, next(root for each, root in leaves if each is best)
        if missing:
            raise missing[0]
        if leaves and not any(_is_known(each) for each, _ in leaves):
            raise _unsupported(leaves[0][0])
        raise self._no_platform(targets, (each.platform or self._platform_in_config(each) for each in found))

    def _best(self, offers: Iterable[tuple[Descriptor, Platform | None]]) -> Descriptor | None:
        """Give the best match, the first of equal ones."""
        best: tuple[int, Descriptor] | None = None
        for descriptor, platform in offers:
            found = None if platform is None else rank(self._wanted, platform)
            if found is not None and (best is None or found < best[0]):
                best = found, descriptor
        return None if best is None else best[1]

    def _platform_in_config(self, descriptor: Descriptor) -> Platform | None:
        """Ask the config of a manifest whose descriptor does not say; None where there is no answer.

        Each is asked once: an index may name the same two manifests, of megabytes, ten thousand times.
        """
        key = descriptor.digest, descriptor.media_type
        if key not in self._platforms:
            self._platforms[key] = self._read_platform(descriptor)
        return self._platforms[key]

    def _read_platform(self, descriptor: Descriptor) -> Platform | None:
        try:
            manifest = self._manifest(descriptor)
            return self._config(manifest).platform if is_config(manifest.config.media_type) else None
        except (BlobNotFoundError, UnsupportedError):
            return None

    def _no_platform(self, targets: list[Descriptor], offers: Iterable[Platform | None]) -> PlatformNotFoundError:
        one = len(targets) == 1 and is_index(targets[0].media_type)
        index = str(targets[0].digest) if one else os.path.join(self._path, "index.json")
        available = _unique(str(each) for each in offers if each is not None)
        return PlatformNotFoundError(index=index, platform=str(self._wanted), available=available)

    def _walk(
        self, roots: Iterable[Descriptor], missing: list[BlobNotFoundError]
    ) -> Iterator[tuple[Descriptor, Descriptor]]:
        """Yield descriptors and the root that led there, an index before what it holds, in the order of the documents.

        An index is opened once, however often it is met: a few of them could otherwise make any number of paths.  One
        that is not in the layout is passed over, and added to ``missing``.
        """
        pending = [(each, each, 1) for each in roots][::-1]
        met = len(pending)
        visited = set()
        while pending:
            descriptor, root, depth = pending.pop()
            yield descriptor, root
            if not is_index(descriptor.media_type) or descriptor.digest in visited:
                continue
            visited.add(descriptor.digest)
            _check("index_depth", self._limits.index_depth, depth, f"{descriptor.digest}: indexes inside indexes")
            try:
                manifests = self._index(descriptor).manifests
            except BlobNotFoundError as error:
                missing.append(error)
                continue
            met += len(manifests)
            _check("index_manifests", self._limits.index_manifests, met, f"{descriptor.digest}: descriptors so far")
            pending += [(each, root, depth + 1) for each in reversed(manifests)]

    # -- the image -----------------------------------------------------------------------------------------------------

    def _index(self, descriptor: Descriptor) -> Index:
        data = self._layout.document(descriptor, self._limits)
        return Index.parse(data, str(descriptor.digest), self._limits, media_type=descriptor.media_type)

    def _manifest(self, descriptor: Descriptor) -> Manifest:
        data = self._layout.document(descriptor, self._limits)
        return Manifest.parse(data, str(descriptor.digest), self._limits, media_type=descriptor.media_type)

    def _config(self, manifest: Manifest) -> Config:
        data = self._layout.document(manifest.config, self._limits)
        return Config.parse(data, str(manifest.config.digest), self._limits)

    def _read_image(self, name: str, target: Descriptor, descriptor: Descriptor) -> Resolution:
        manifest = self._manifest(descriptor)
        if not is_config(manifest.config.media_type):
            raise UnsupportedError(
                subject=f"manifest {descriptor.digest} is not a container image",
                kind="config media type",
                found=manifest.config.media_type,
                supported=CONFIGS,
            )
        config = self._config(manifest)
        return Resolution(
            name=name,
            target=target,
            manifest_descriptor=descriptor,
            manifest=manifest,
            config_descriptor=manifest.config,
            config=config,
            layers=_layers(descriptor.digest, manifest, config),
            platform=self._settle_platform(target, descriptor, config),
        )

    def _settle_platform(self, target: Descriptor, descriptor: Descriptor, config: Config) -> Platform:
        """Compare what was asked for, what the index says and what the config says."""
        said, own = descriptor.platform, config.platform
        if said is not None and own is not None and not _agree(said, own):
            self._warn(
                f"manifest {descriptor.digest}: the index says {word(str(said))}, its config says {word(str(own))}"
            )
        actual = own or said
        if actual is None:
            self._warn(f"config of manifest {descriptor.digest} does not say what platform the image is for")
            return Platform(config.os or "unknown", config.architecture or "unknown", config.variant)
        # An index is believed when it chooses, so its word counts here too.
        offered = (said or actual).normalized()
        if rank(self._wanted, offered) is None:
            if self._asked is not None:
                raise self._no_platform([target], [offered])
            self._warn(f"the image is for {word(str(offered))}, this host is {self._wanted}")
        elif offered.architecture != self._wanted.architecture:
            self._warn(f"there is no image for {self._wanted}, so the one for {word(str(offered))} is used")
        return actual

    def _warn(self, message: str) -> None:
        self._on_event(Warned(message=message))


def _layers(manifest_digest: Digest, manifest: Manifest, config: Config) -> tuple[Layer, ...]:
    """Pair the layers of the manifest with the diff_ids of the config."""
    for index, descriptor in enumerate(manifest.layers):
        if not is_layer(descriptor.media_type):
            raise UnsupportedError(
                subject=f"layer {index} ({descriptor.digest})",
                kind="media type",
                found=descriptor.media_type,
                supported=NAMES_SUPPORTED_LAYERS,
            )
        descriptor.digest.require_supported()
    layers, diff_ids = len(manifest.layers), len(config.diff_ids)
    if layers != diff_ids:
        raise LayerCountError(manifest=str(manifest_digest), layers=layers, diff_ids=diff_ids)
    for diff_id in config.diff_ids:
        diff_id.require_supported()
    chain = chain_ids(config.diff_ids)
    return tuple(
        Layer(index=index, descriptor=descriptor, diff_id=diff_id, chain_id=chain_id)
        for index, (descriptor, diff_id, chain_id) in enumerate(
            zip(manifest.layers, config.diff_ids, chain, strict=True)
        )
    )


# -- what a descriptor says --------------------------------------------------------------------------------------------


def _names(descriptor: Descriptor) -> tuple[str | None, ...]:
    return descriptor.annotations.get(REF_NAME), descriptor.annotations.get(FULL_NAME)


def _name(descriptor: Descriptor) -> str | None:
    short, full = _names(descriptor)
    return short or full


def _identity(descriptor: Descriptor) -> str:
    """Give the name that means one image: ``docker save`` writes the same ref.name for a:latest and b:latest."""
    short, full = _names(descriptor)
    return full or short or ""


def _call(descriptors: list[Descriptor]) -> tuple[str, ...]:
    """Give what a user can write for each: short names, unless they mean several images."""
    short = _unique(_name(each) or str(each.digest) for each in descriptors)
    full = _unique(_identity(each) or str(each.digest) for each in descriptors)
    return short if len(short) == len(full) else full


def _is_one_image(found: list[Descriptor], tag: str | None) -> bool:
    """Whether several descriptors are one image: the same digest, or one name for several platforms."""
    if len({each.digest for each in found}) == 1:
        return True
    identities = _unique(_identity(each) for each in found)
    if len(identities) > 1:
        # The tag itself may stand alone beside the full name that ends in it.
        return tag is not None and len(set(identities) - {tag}) == 1
    platforms = [each.platform for each in found]
    return bool(identities[0]) or (None not in platforms and len(set(platforms)) == len(platforms))


def _is_known(descriptor: Descriptor) -> bool:
    return is_index(descriptor.media_type) or is_manifest(descriptor.media_type)


def _may_be_image(descriptor: Descriptor) -> bool:
    """Whether it may be meant by somebody who does not say: attestations, signatures and the like are not."""
    if not _is_known(descriptor):
        return False
    if not _ABOUT_IMAGES.isdisjoint(descriptor.annotations.items()):
        return False
    if descriptor.platform is not None and descriptor.platform.is_unknown:
        return False
    return not descriptor.artifact_type or is_config(descriptor.artifact_type)


def _agree(one: Platform, other: Platform) -> bool:
    """Whether two platforms are the same as far as both say."""
    one, other = one.normalized(), other.normalized()
    return (one.os, one.architecture) == (other.os, other.architecture)


def _unsupported(descriptor: Descriptor) -> UnsupportedError:
    return UnsupportedError(
        subject=f"image {descriptor.digest}",
        kind="media type",
        found=descriptor.media_type,
        supported=INDEXES + MANIFESTS,
    )


def _check(limit: str, allowed: int, found: int, what: str) -> None:
    if found > allowed:
        raise LimitError(limit=limit, allowed=allowed, found=found, what=what)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
