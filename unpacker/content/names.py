"""Names of images: the entries of ``index.json``, added and removed while nobody else does.

The file is the only one of a layout that is written again when something changes.  Every byte of it stays as it was,
but for the entries that come and go: what stands there that nobody here knows is somebody else's.  Editors that know
nothing of the lock (most tools do not) can still lose an entry, to us as to each other.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unpacker.content.blob import read_regular
from unpacker.content.files import directory, replace, sweep
from unpacker.errors import AlreadyExistsError, AmbiguousReferenceError, ReferenceNotFoundError, UsageError, quoted
from unpacker.limits import DEFAULT
from unpacker.spec.documents import Index
from unpacker.tree.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unpacker.spec.descriptor import Descriptor

REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"
"""Where containerd and ``docker save`` put the whole name; their ref.name is the tag alone."""
_PATIENCE = 30.0
"""Seconds to wait for other editors, of whom each needs milliseconds."""
# annotations.md, with any number of separators: names such as a__b are in use.
_NAME = re.compile(r"[A-Za-z0-9]+(?:[-._:@+/]+[A-Za-z0-9]+)*")
_LONGEST = 4096
_BLANK = re.compile(r"[ \t\n\r]*")


class IndexFile:
    """The names in the ``index.json`` of a layout, see `unpacker.content.store.Names`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = os.path.join(root, "index.json")

    def all(self) -> dict[str, tuple[Descriptor, ...]]:
        """Give every name, and what it stands for."""
        return by_name(self._parse(self._read()))

    def add(self, name: str | None, *descriptors: Descriptor, replace: bool = False) -> None:
        """Give a manifest or an index a name, or enter it without one."""
        check_name(name, descriptors)
        with self._edited() as (document, found):
            gone = replaced(self._root, found, name, descriptors, force=replace)
            if gone is not None:
                place = min(gone, default=len(found))
                document.remove(gone)
                document.insert(place, [json.dumps(to_json(named(each, name))) for each in descriptors])

    def remove(self, name: str) -> tuple[Descriptor, ...]:
        """Take a name away, and give what it stood for."""
        with self._edited() as (document, descriptors):
            gone = find(self._root, descriptors, name)
            document.remove(gone)
            return tuple(descriptors[at] for at in gone)

    def sweep(self) -> int:
        """Remove what killed editors left; give how many files that were."""
        with directory(self._root) as root, lock_index(self._root):
            return sweep(root, r"index\.json|oci-layout")

    @contextmanager
    def _edited(self) -> Iterator[tuple[_Text, Sequence[Descriptor]]]:
        """Give the document, and what its entries say; what is done to the former is written, if nothing fails."""
        try:
            with directory(self._root) as root, lock_index(self._root):
                data = self._read()
                descriptors = self._parse(data)
                document = _Text(data.decode())
                yield document, descriptors
                changed = str(document).encode()
                if changed != data:
                    replace(root, "index.json", changed)
                    os.fsync(root)
        except OSError as error:
            error.add_note("editing index.json")
            raise

    def _read(self) -> bytes:
        return read_regular(self._path, DEFAULT.document_bytes, "document_bytes")

    def _parse(self, data: bytes) -> Sequence[Descriptor]:
        return Index.parse(data, self._path, null_is_empty=True).manifests


def lock_index(root: str) -> Lock:
    """Take the lock of a layout's ``index.json``; the caller releases it."""
    path = os.path.join(root, ".index.json.lock")
    return Lock(path, where=root, what="the lock of index.json").acquire(_PATIENCE)


class _Text:
    """A document that was read and found to be an index, taken apart into its entries and what stands around them.

    Attributes:
        entries: The text of each, with the blanks before it.
    """

    def __init__(self, text: str) -> None:
        self._decode = json.JSONDecoder().raw_decode
        self._before, self._after, self._blank, self._end = text, "", "", ""
        self.entries: list[str] = []
        at = _skip(text, 0) + 1
        while text[at := _skip(text, at)] != "}":
            name, at = self._decode(text, at)
            at = begin = _skip(text, _skip(text, at) + 1)
            _, at = self._decode(text, at)
            if name == "manifests":
                self._before, self._after = text[:begin], text[at:]
                self._take_apart(text, begin)
            at = _skip(text, at)
            at += text[at] == ","

    def _take_apart(self, text: str, begin: int) -> None:
        if text[begin] != "[":
            return  # Null: Docker 25.0 writes that for no entries.
        begin += 1
        at = _skip(text, begin)
        self._blank = text[begin:at]
        while text[at] != "]":
            _, end = self._decode(text, at)
            at = _skip(text, end)
            more = text[at] == ","
            self.entries.append(text[begin : at if more else end])
            self._end = text[end:at]
            begin = at + 1
            at = _skip(text, begin) if more else at

    def remove(self, places: Sequence[int]) -> None:
        """Take entries out."""
        self.entries = [entry for at, entry in enumerate(self.entries) if at not in places]

    def insert(self, place: int, entries: Sequence[str]) -> None:
        """Put entries in, each on a line of its own if the others are."""
        last = self.entries[-1] if self.entries else self._blank
        blank = last[: _skip(last, 0)]
        self.entries[place:place] = [blank + entry for entry in entries]

    def __str__(self) -> str:
        inner = ",".join(self.entries) + self._end if self.entries else self._blank
        return f"{self._before}[{inner}]{self._after}"


def _skip(text: str, at: int) -> int:
    """Give where the blanks end that begin here."""
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


# -- what a change means -----------------------------------------------------------------------------------------------


def check_name(name: str | None, descriptors: Sequence[Descriptor]) -> None:
    """Refuse what is no name of an image, unless these are called so already: then another program has taken it.

    Raises:
        UsageError: It has other characters than names have, or is too long.
    """
    if name is None or all(name in names_of(descriptor) for descriptor in descriptors):
        return
    if _NAME.fullmatch(name) is None or len(name) > _LONGEST:
        advice = "letters and digits, with - . _ : @ + / between them (annotations.md of the image specification)"
        raise UsageError(f"{quoted(name[:80])} is no name for an image", advice)


def names_of(descriptor: Descriptor) -> tuple[str, ...]:
    """Give what a descriptor is called: its name and, where containerd wrote it, the whole name."""
    found = (descriptor.annotations.get(REF_NAME), descriptor.annotations.get(FULL_NAME))
    return tuple(dict.fromkeys(name for name in found if name))


def by_name(descriptors: Sequence[Descriptor]) -> dict[str, tuple[Descriptor, ...]]:
    """Sort descriptors by their names."""
    found: dict[str, tuple[Descriptor, ...]] = {}
    for descriptor in descriptors:
        for name in names_of(descriptor):
            found[name] = (*found.get(name, ()), descriptor)
    return found


def find(where: str, descriptors: Sequence[Descriptor], name: str) -> list[int]:
    """Find the entries that are called by a name.

    Raises:
        ReferenceNotFoundError: There is none.
        AmbiguousReferenceError: It is the short name of several images: ``docker save`` gives that of a:latest to
            b:latest as well.
    """
    found = [at for at, descriptor in enumerate(descriptors) if name in names_of(descriptor)]
    if not found:
        available = tuple(dict.fromkeys(known for descriptor in descriptors for known in names_of(descriptor)))
        raise ReferenceNotFoundError(layout=where, reference=name, available=available)
    whole = {descriptors[at].annotations.get(FULL_NAME, name) for at in found} - {name}
    if len(whole) > 1:
        raise AmbiguousReferenceError(layout=where, reference=name, available=tuple(sorted(whole)))
    return found


def replaced(
    where: str, descriptors: Sequence[Descriptor], name: str | None, new: Sequence[Descriptor], *, force: bool
) -> list[int] | None:
    """Say which entries new ones replace; None if they are there already.

    Raises:
        AlreadyExistsError: The name stands for something else, and nobody wants that replaced.
        AmbiguousReferenceError: See `find`.
    """
    digests = {each.digest for each in new}
    if name is None:
        return None if digests <= {each.digest for each in descriptors} else []
    try:
        found = find(where, descriptors, name)
    except ReferenceNotFoundError:
        return []
    if digests == {descriptors[at].digest for at in found}:
        return None
    if not force:
        advice = "choose another name, or replace it"
        raise AlreadyExistsError(where=where, what=f"the name {quoted(name)}", advice=advice)
    return found


def named(descriptor: Descriptor, name: str | None) -> Descriptor:
    """Give a descriptor under a name; without one, or if it has it already, it is called all that it was."""
    if name is None or name in names_of(descriptor):
        return descriptor
    others = {key: value for key, value in descriptor.annotations.items() if key not in {REF_NAME, FULL_NAME}}
    return descriptor.changed(annotations={**others, REF_NAME: name})


def to_json(descriptor: Descriptor) -> dict[str, Any]:
    """Give a descriptor as the JSON object that it was read from, without what was not known of it."""
    found: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.urls:
        found["urls"] = list(descriptor.urls)
    if descriptor.annotations:
        found["annotations"] = dict(descriptor.annotations)
    if descriptor.data is not None:
        found["data"] = b64encode(descriptor.data).decode()
    if descriptor.artifact_type is not None:
        found["artifactType"] = descriptor.artifact_type
    if descriptor.platform is not None:
        platform = descriptor.platform
        parts = {
            "os": platform.os,
            "architecture": platform.architecture,
            "variant": platform.variant,
            "os.version": platform.os_version,
            "os.features": list(platform.os_features),
        }
        found["platform"] = {key: value for key, value in parts.items() if value}
    return found
