"""``index.json``: a name comes into it and goes again, and every byte that is somebody else's stays."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from fuzz.checks import check_refusal
from fuzz.mutators import json_document
from fuzz.scratch import scratch
from fuzz.target import Target
from tests.support.layoutbuild import OCI, REF_NAME, digest_of
from unpacker.content.names import IndexFile
from unpacker.errors import UnpackError
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest
from unpacker.spec.documents import Index

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "fuzzed"
_NEW = Descriptor(media_type=OCI["manifest"], digest=Digest.of(b"fuzzed"), size=6)


def check(data: bytes) -> None:
    """Add and remove a name."""
    root = scratch("index")
    path = root / "index.json"
    path.write_bytes(data)
    index = IndexFile(str(root))
    try:
        before = Index.parse(data, "index.json", null_is_empty=True)
        names = index.all()
    except UnpackError as error:
        check_refusal(error)
        return
    for name in names:
        assert names[name]
    try:
        index.add(_NAME, _NEW)
    except UnpackError as error:
        check_refusal(error)
        assert _NAME in names, "a name that is free cannot be taken"
        assert path.read_bytes() == data
        return
    added = json.loads(path.read_bytes())
    _check_rest(json.loads(data), added)
    assert index.all()[_NAME][-1].digest == _NEW.digest
    assert len(added["manifests"]) == len(before.manifests) + 1
    if _NAME in names:
        return
    assert [one.digest for one in index.remove(_NAME)] == [_NEW.digest]
    assert index.all() == names
    # Null for no entries becomes an empty array, the one thing that is written anew.
    assert path.read_bytes() == data or not before.manifests
    assert set(os.listdir(root)) == {"index.json"} | ({".index.json.lock"} & set(os.listdir(root)))


def _check_rest(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert {**old, "manifests": None} == {**new, "manifests": None}
    assert [one for one in new["manifests"] if one in (old["manifests"] or ())] == (old["manifests"] or [])


def seeds() -> Iterator[bytes]:
    """Give index files as tools write them."""
    digest = digest_of(b"")
    one = {"mediaType": OCI["manifest"], "digest": digest, "size": 1, "annotations": {REF_NAME: "v1"}}
    two = {"mediaType": OCI["index"], "digest": digest, "size": 2, "unknown": [{"manifests": []}]}
    for manifests in ([], [one], [one, two], [{**one, "annotations": {REF_NAME: _NAME}}], None):
        document = {"schemaVersion": 2, "manifests": manifests, "annotations": {"a": "b"}}
        yield json.dumps(document).encode()
        yield json.dumps(document, indent=3).encode() + b"\n"
    yield b'{"manifests" : [ ] ,"schemaVersion":2}'


TARGET = Target(
    check=check, seeds=seeds, mutate=json_document, longest=3000, words=(b'"manifests":', b" ", b"\n", b"[]")
)
