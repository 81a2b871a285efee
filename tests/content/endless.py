"""A process that fills a store for ever, to be killed: ``python -m tests.content.endless LAYOUT``."""

from __future__ import annotations

import random
import sys
from itertools import count

from unpacker.content.disk import ContentStore
from unpacker.errors import AlreadyExistsError
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest

REFS = ("a", "b", "c")
TURNS = 3


def content_of(ref: str, turn: int) -> bytes:
    """Make what is written under a reference at a turn, the same in every process."""
    return random.Random(f"{ref} {turn}").randbytes(200_000)  # noqa: S311 - nobody is to be surprised


def described(data: bytes) -> Descriptor:
    """Give the descriptor of what may pass for a manifest."""
    return Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=Digest.of(data), size=len(data))


def fill(store: ContentStore) -> None:
    """Bring blobs in piece by piece, label and name them, and delete them when they come again."""
    contents = {(ref, turn): content_of(ref, turn) for ref in REFS for turn in range(TURNS)}
    with store.writer("imports"):
        store.list_statuses()
    store.abort("imports")  # Else most of the time until the kill would go by with the import of filelock.
    print("ready", flush=True)  # noqa: T201 - this is what the test waits for
    for turn in count():
        for ref in REFS:
            data = contents[ref, turn % TURNS]
            descriptor = described(data)
            try:
                with store.writer(ref, descriptor.size, descriptor.digest) as writer:
                    for at in range(writer.status().offset, len(data), 1000):
                        writer.write(data[at : at + 1000])
                    writer.commit(labels={"ref": ref})
            except AlreadyExistsError:
                store.delete(descriptor.digest)
                continue
            store.names.add(ref, descriptor, replace=True)


if __name__ == "__main__":
    fill(ContentStore(sys.argv[1]))
