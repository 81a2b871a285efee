"""``unpacker labels LAYOUT DIGEST [KEY=VALUE ...]``, or ``NAME [KEY=VALUE ...]`` for a snapshot: show and set labels.

A digest as the second word says that a blob is meant; nothing else can be taken for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.cli import streams
from unpacker.cli.jsontext import to_json
from unpacker.cli.store.opening import open_store
from unpacker.cli.text import printable
from unpacker.content.disk import ContentStore
from unpacker.errors import UsageError, quoted
from unpacker.spec.digest import Digest, InvalidDigestError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence


def run(arguments: Namespace) -> int:
    """Set what is to be set, show what there is then."""
    digest = _digest(arguments.words[0]) if arguments.words else None
    if digest is not None:
        labels = _of_blob(arguments.name, digest, read(arguments.words[1:]))
    else:
        labels = _of_snapshot(arguments, read(arguments.words))
    if arguments.format == "json":
        streams.emit(to_json({"code": "ok", "exit_status": 0, "labels": dict(labels)}))
    else:
        streams.emit("".join(f"{printable(key)}={printable(value)}\n" for key, value in sorted(labels.items())))
    return 0


def _digest(word: str) -> Digest | None:
    try:
        return Digest.parse(word)
    except InvalidDigestError:
        return None


def read(words: Sequence[str]) -> dict[str, str]:
    """Read what is to be set.

    Raises:
        UsageError: There is no equals sign, or no key.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            advice = "KEY=VALUE sets a label, KEY= takes it away; the DIGEST of a blob comes right after its LAYOUT"
            raise UsageError(f"label {quoted(word)}: not KEY=VALUE", advice)
        found[key] = value
    return found


def _of_blob(layout: str, digest: Digest, changes: Mapping[str, str]) -> Mapping[str, str]:
    store = ContentStore(layout)
    info = store.info(digest)
    if not changes:
        return info.labels
    return store.update(info.changed(labels=changes), *(f"labels.{key}" for key in changes)).labels


def _of_snapshot(arguments: Namespace, changes: Mapping[str, str]) -> Mapping[str, str]:
    with open_store(arguments) as snapshotter:
        info = snapshotter.stat(arguments.name)
        if not changes:
            return info.labels
        return snapshotter.update(info.changed(labels=changes), *(f"labels.{key}" for key in changes)).labels
