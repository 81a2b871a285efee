"""``snapshot.json``: what can be read can be written, and read to the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.mutators import json_document
from fuzz.target import Target
from unpacker.errors import DocumentError, LimitError
from unpacker.snapshots.record import SnapshotRecord
from unpacker.snapshots.snapshotter import Kind, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

_SORTED = ("whiteouts", "opaque", "skipped")
"""Paths, whose order says nothing."""


def check(data: bytes) -> None:
    """Read a record, write it and read it again."""
    try:
        record = SnapshotRecord.parse(data, "snapshot.json")
    except (DocumentError, LimitError) as error:
        check_refusal(error)
        return
    again = SnapshotRecord.parse(record.as_json(), "snapshot.json")
    assert again == record.changed(**{name: tuple(sorted(getattr(record, name))) for name in _SORTED})
    assert record.info.name == record.name


def seeds() -> Iterator[bytes]:
    """Give records of all kinds."""
    plain = SnapshotRecord(name="a", kind=Kind.ACTIVE, parent=None, created=0, updated=1_700_000_000_123_456_789)
    yield plain.as_json()
    yield plain.changed(
        kind=Kind.COMMITTED,
        parent="sha256:" + "0" * 64,
        labels={"a": "b"},
        usage=Usage(inodes=3, size=4096),
        encoding="sidecar",
        whiteouts=(b"a/b", b"\xff\0"),
        opaque=(b"c",),
        skipped=(b"dev/null",),
        diff_id="sha256:" + "1" * 64,
        blob="sha256:" + "2" * 64,
        entries=3,
        tar_bytes=2048,
        made_by="rules",
        losses={"owner": 2, "device": 1},
    ).as_json()
    yield plain.changed(kind=Kind.VIEW, encoding="device", created=-1).as_json()


WORDS = (b"0001-01-01T00:00:00.000000000Z", b"9999-12-31T23:59:59.999999999Z", b"24:00:00", b"%ff", b"%", b"null")

TARGET = Target(check=check, seeds=seeds, mutate=json_document, longest=2500, words=WORDS)
