"""Records say the same when they are read again, and say what is wrong with them when they are damaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from unpacker.errors import DocumentError
from unpacker.snapshots.record import SnapshotRecord
from unpacker.snapshots.snapshotter import Kind, Usage

if TYPE_CHECKING:
    from typing import Any

FULL = SnapshotRecord(
    name="sha256:" + "0" * 64,
    kind=Kind.COMMITTED,
    parent="sha256:" + "1" * 64,
    created=1_700_000_000_000_000_001,
    updated=1_800_000_000_999_999_999,
    labels={"containerd.io/gc.root": "x", "\N{SNOWMAN}": "\n"},
    usage=Usage(inodes=3, size=4096),
    encoding="sidecar",
    whiteouts=(b"%2F", b"a/\xff", b"b c\n"),
    opaque=(b"\xe2\x98\x83",),
    skipped=(b"dev/null",),
    diff_id="sha256:" + "2" * 64,
    blob="sha256:" + "3" * 64,
    entries=7,
    tar_bytes=10240,
    made_by="owners kept",
    losses={"owner": 2, "mtime": 1},
)
LEAST = SnapshotRecord(name="key", kind=Kind.ACTIVE, parent=None, created=0, updated=0)
EARLY = LEAST.changed(created=-31_000_000_000 * 10**9)
"""Of the year 987."""


@pytest.mark.parametrize("record", [FULL, LEAST, EARLY], ids=["full", "least", "early"])
def test_what_is_written_is_read_again(record: SnapshotRecord) -> None:
    assert SnapshotRecord.parse(record.as_json(), "here") == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"format: expected the integer 1, found 2"),
        ({"format": "1"}, r"format: expected .*, found"),
        ({"name": None}, r"name: expected a string, found null"),
        ({"kind": "frozen"}, r"kind: expected active or view or committed, found 'frozen'"),
        ({"parent": 5}, r"parent: expected a string, found 5"),
        ({"created": "yesterday"}, r"created: expected a time as 2026-01-31T12:00:00\.000000000Z, found 'yesterday'"),
        ({"created": "2026-01-31T12:00:00Z"}, "created: expected a time as"),
        ({"updated": "2026-13-31T12:00:00.000000000Z"}, "updated: expected a time as"),
        ({"updated": "2026-01-31T12:00:00.00000000\N{ARABIC-INDIC DIGIT ONE}Z"}, "updated: expected a time as"),
        ({"labels": {"a": 1}}, r"labels\.a: expected a string, found 1"),
        ({"usage": {"inodes": 1}}, r"usage\.size"),
        ({"usage": {"inodes": -1, "size": 1}}, r"usage\.inodes: expected .*, found -1"),
        ({"encoding": "aufs"}, r"encoding: expected device or user or sidecar, found 'aufs'"),
        ({"whiteouts": "a"}, r"whiteouts: expected .*, found 'a'"),
        ({"entries": True}, r"entries: expected .*, found true"),
        ({"losses": {"love": 1}}, r"losses: expected losses of the kinds owner, .*"),
        ({"losses": {"owner": -1}}, r"losses\.owner: expected .*, found -1"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_is_damaged_is_named(change: dict[str, Any], message: str) -> None:
    data = json.dumps({**json.loads(FULL.as_json()), **change}).encode()
    with pytest.raises(DocumentError, match=rf"^here: {message}"):
        SnapshotRecord.parse(data, "here")


@pytest.mark.parametrize("field", sorted(json.loads(FULL.as_json())))
def test_every_field_is_needed(field: str) -> None:
    """One that is not there was lost, whatever its value might be; only what may be null may be absent."""
    document = json.loads(FULL.as_json())
    del document[field]
    data = json.dumps(document).encode()
    if field in ("parent", "usage", "encoding", "diffID", "blob", "madeBy"):
        SnapshotRecord.parse(data, "here")
    else:
        with pytest.raises(DocumentError, match=f"^here: .*{field}"):
            SnapshotRecord.parse(data, "here")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", FULL.as_json()[:-20], b'{"format": 1, "format": 1}'])
def test_what_is_no_record_at_all(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^here: "):
        SnapshotRecord.parse(data, "here")
