"""Label files: any bytes beside a blob.  They are labels or damage, and what is set is there afterwards."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.mutators import json_document
from fuzz.scratch import scratch
from fuzz.target import Target
from unpacker.content.labels import LabelStore
from unpacker.errors import DocumentError, LimitError
from unpacker.spec.digest import Digest
from unpacker.spec.labels import from_image

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIGEST = Digest("sha256", "0" * 64)


def check(data: bytes) -> None:
    """Read, change and remove the labels of one blob."""
    root = scratch("labels")
    path = root / "labels" / "sha256" / f"{_DIGEST.encoded}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    store = LabelStore(root)
    try:
        found = store.get(_DIGEST)
    except (DocumentError, LimitError) as error:
        check_refusal(error)
        _check_damaged(store, data, path)
        return
    assert found == {key: value for key, value in json.loads(data).items() if value}
    assert all(not key.startswith("containerd.io/") for key in from_image(found))
    store.set(_DIGEST, {"k": "v", "gone": ""})
    expected = {key: value for key, value in {**found, "k": "v"}.items() if key != "gone"}
    assert store.get(_DIGEST) == LabelStore(root).get(_DIGEST) == expected
    _check_clean(store)


def _check_damaged(store: LabelStore, data: bytes, path: os.PathLike[str]) -> None:
    """Damaged labels stay as they are until they are removed."""
    try:
        store.set(_DIGEST, {"k": "v"})
    except (DocumentError, LimitError):
        pass
    else:
        raise AssertionError("damaged labels were set")
    with open(path, "rb") as file:
        assert file.read() == data
    _check_clean(store)


def _check_clean(store: LabelStore) -> None:
    store.remove(_DIGEST)
    assert store.get(_DIGEST) == {}
    assert set(os.listdir(scratch("labels") / "labels" / "sha256")) == set()
    assert store.sweep() == 0


def seeds() -> Iterator[bytes]:
    """Give label files, right and wrong."""
    yield b"{}"
    yield json.dumps({"containerd.io/uncompressed": f"sha256:{'0' * 64}", "gone": "x"}, indent=1).encode()
    yield b'{"k": "other", "empty": "", "\\u00e9": "\\ud83d\\ude00"}'
    yield b'{"a": 1}'
    yield b"[]"
    yield b'{"a": "1", "a": "2"}'


TARGET = Target(check=check, seeds=seeds, mutate=json_document, longest=2000, words=(b"containerd.io/", b'""', b'"k":'))
