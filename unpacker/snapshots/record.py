"""``snapshot.json``: what a snapshot store keeps of each snapshot beside its files (docs/formats.md)."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from unpacker.events import LossKind
from unpacker.layer.markers import ENCODINGS
from unpacker.record import Record
from unpacker.snapshots.snapshotter import Info, Kind, Usage
from unpacker.spec.strictjson import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unpacker.spec.strictjson import Value

_SECOND = 10**9
_INT64 = 2**63 - 1
_FORMAT = 1
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z")


class SnapshotRecord(Record):
    """The record of one snapshot."""

    name: str
    kind: Kind
    parent: str | None
    created: int
    updated: int
    labels: Mapping[str, str] = {}
    usage: Usage | None = None
    """None while it is not committed."""
    encoding: str | None = None
    """How it says what it hides (`unpacker.layer.markers`); None if it is a whole tree."""
    whiteouts: tuple[bytes, ...] = ()
    """With the encoding ``sidecar``."""
    opaque: tuple[bytes, ...] = ()
    """With the encoding ``sidecar``."""
    skipped: tuple[bytes, ...] = ()
    """Paths of devices that could not be made."""
    diff_id: str | None = None
    blob: str | None = None
    """Digest of the layer's blob."""
    entries: int = 0
    """Tar entries of the layer."""
    tar_bytes: int = 0
    """Bytes of the layer decompressed."""
    made_by: str | None = None
    """By which rules a layer was applied (`unpacker.layer.rules.Rules.name`)."""
    losses: Mapping[str, int] = {}
    """What could not be applied, by kind."""

    @property
    def info(self) -> Info:
        """What a snapshotter says of it."""
        return Info(
            name=self.name,
            kind=self.kind,
            parent=self.parent,
            created=self.created,
            updated=self.updated,
            labels=dict(self.labels),
        )

    def as_json(self) -> bytes:
        """Give the file's content."""
        usage = None if self.usage is None else {"inodes": self.usage.inodes, "size": self.usage.size}
        document = {
            "name": self.name,
            "kind": self.kind.value,
            "parent": self.parent,
            "created": to_text(self.created),
            "updated": to_text(self.updated),
            "labels": dict(self.labels),
            "usage": usage,
            "encoding": self.encoding,
            "whiteouts": [*map(path_to_text, sorted(self.whiteouts))],
            "opaque": [*map(path_to_text, sorted(self.opaque))],
            "skipped": [*map(path_to_text, sorted(self.skipped))],
            "diffID": self.diff_id,
            "blob": self.blob,
            "entries": self.entries,
            "tarBytes": self.tar_bytes,
            "madeBy": self.made_by,
            "losses": dict(self.losses),
        }
        return to_file(document)

    @classmethod
    def parse(cls, data: bytes, source: str) -> SnapshotRecord:
        """Read the file's content.

        Raises:
            DocumentError: It is damaged.
        """
        document = from_file(data, source)
        usage = document.optional("usage")
        return cls(
            name=document.required("name").text(),
            kind=_kind(document.required("kind")),
            parent=_optional_text(document, "parent"),
            created=from_text(document.required("created")),
            updated=from_text(document.required("updated")),
            labels=document.required("labels").string_map(),
            usage=None if usage is None else Usage(inodes=_count(usage, "inodes"), size=_count(usage, "size")),
            encoding=_encoding(document),
            whiteouts=_paths(document, "whiteouts"),
            opaque=_paths(document, "opaque"),
            skipped=_paths(document, "skipped"),
            diff_id=_optional_text(document, "diffID"),
            blob=_optional_text(document, "blob"),
            entries=_count(document, "entries"),
            tar_bytes=_count(document, "tarBytes"),
            made_by=_optional_text(document, "madeBy"),
            losses=losses_of(document.required("losses")),
        )


def to_file(document: Mapping[str, object]) -> bytes:
    """Give the content of a file that a store keeps."""
    return json.dumps({"format": _FORMAT, **document}, indent=1).encode() + b"\n"


def from_file(data: bytes, source: str) -> Value:
    """Read one.

    Raises:
        DocumentError: It is no document, or one of another format.
    """
    document = load(data, source)
    document.required("format").integer(_FORMAT, _FORMAT)
    return document


def to_text(time: int) -> str:
    """Give a time (nanoseconds since 1970) as RFC 3339 has it, in UTC."""
    seconds, nanoseconds = divmod(time, _SECOND)
    # Not by strftime, whose years before 1000 have fewer than four digits on Linux.
    return f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()}.{nanoseconds:09d}Z"


def from_text(value: Value) -> int:
    """Read such a time.

    Raises:
        DocumentError: It is none.
    """
    seconds, _, rest = value.text().partition(".")
    try:
        if _TIME.fullmatch(value.text()):  # fromisoformat takes much else; strptime takes ten times as long
            return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * _SECOND + int(rest[:-1])
    except ValueError:
        pass
    raise value.error("a time as 2026-01-31T12:00:00.000000000Z")


def _kind(value: Value) -> Kind:
    try:
        return Kind(value.text())
    except ValueError:
        raise value.error(" or ".join(Kind)) from None


def _optional_text(document: Value, name: str) -> str | None:
    value = document.optional(name)
    return None if value is None else value.text()


def _encoding(document: Value) -> str | None:
    text = _optional_text(document, "encoding")
    if text not in (None, *ENCODINGS):
        raise document.required("encoding").error(" or ".join(ENCODINGS))
    return text


def losses_of(value: Value) -> dict[str, int]:
    """Read counts of losses by kind.

    Raises:
        DocumentError: They are none.
    """
    return {_loss(value, name): _count(value, name) for name in value.object()}


def _loss(losses: Value, name: str) -> str:
    if name not in list(LossKind):
        raise losses.error("losses of the kinds " + ", ".join(LossKind))
    return name


def _count(value: Value, name: str) -> int:
    return value.required(name).integer(0, _INT64)


def _paths(document: Value, name: str) -> tuple[bytes, ...]:
    return tuple(map(path_from_text, document.required(name).strings()))


def path_to_text(path: bytes) -> str:
    """Give a path, which is bytes, in percent-encoding: JSON holds no bytes."""
    from urllib.parse import quote  # noqa: PLC0415 -- slow to import, and rarely needed

    return quote(path)


def path_from_text(text: str) -> bytes:
    """Read such a path."""
    from urllib.parse import unquote_to_bytes  # noqa: PLC0415 -- as above

    return unquote_to_bytes(text)
