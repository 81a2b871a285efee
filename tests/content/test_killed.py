"""A process that is killed at any moment leaves a store that the next one uses without help."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.contracts.content import read
from unpacker.content.disk import ContentStore
from unpacker.errors import AlreadyExistsError
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest

KILLS = int(os.environ.get("UNPACK_TEST_KILLS", "30"))
REFS = ("a", "b", "c")


def content_of(ref: str, turn: int) -> bytes:
    return random.Random(f"{ref} {turn}").randbytes(200_000)  # noqa: S311 - the same in both processes


PROGRAM = """
import sys
from itertools import count
from tests.content.test_killed import REFS, content_of, described
from unpacker.content.disk import ContentStore
from unpacker.errors import AlreadyExistsError
from unpacker.spec.digest import Digest

store = ContentStore(sys.argv[1])
contents = {(ref, turn): content_of(ref, turn) for ref in REFS for turn in range(3)}
print("ready", flush=True)
for turn in count():
    for ref in REFS:
        data = contents[ref, turn % 3]
        digest = Digest.of(data)
        try:
            with store.writer(ref, len(data), digest) as writer:
                for at in range(writer.status().offset, len(data), 20_000):
                    writer.write(data[at : at + 20_000])
                writer.commit(labels={"ref": ref})
        except AlreadyExistsError:
            store.delete(digest)
            continue
        store.names.add(ref, described(digest, len(data)), replace=True)
"""


def described(digest: Digest, size: int) -> Descriptor:
    return Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=digest, size=size)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """What is there afterwards is whole, and what is not can be brought to its end."""
    root = tmp_path / "layout"
    ContentStore(root, create=True)
    moments = random.Random(4)  # noqa: S311
    resumed = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, root], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.08))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        resumed += check(root)
    assert resumed, "no kill hit an ingest, which would show nothing"


def check(root: Path) -> int:
    """Look at everything, and go on with everything; give how many ingests were found half done."""
    store = ContentStore(root)
    for info in store.walk():
        assert info.fault is None
        assert Digest.of(read(store, info.digest)) == info.digest
    for name, entries in store.names.all().items():
        assert name in REFS
        assert len(entries) == 1
    statuses = store.list_statuses()
    for status in statuses:
        [data] = [data for turn in range(3) if Digest.of(data := content_of(status.ref, turn)) == status.expected] or [
            content_of(status.ref, 0)
        ]
        digest = Digest.of(data)
        try:
            with store.writer(status.ref, len(data), digest) as writer:
                assert writer.status().offset == (status.offset if status.expected else 0)
                writer.write(data[writer.status().offset :])
                assert writer.commit(labels={"k": "v"}).labels["k"] == "v"
        except AlreadyExistsError:
            assert not status.offset, "its data was renamed, and nothing else was missing"
            store.update(store.info(digest).changed(labels={"k": "v"}), "labels.k")
        store.names.add(status.ref, described(digest, len(data)), replace=True)
    assert store.list_statuses() == []
    store.cleanup()
    assert store.cleanup() == 0
    assert list((root / "ingest").iterdir()) == []
    assert list(root.rglob("*.new")) == []
    json.loads((root / "index.json").read_bytes())
    return sum(status.offset > 0 for status in statuses)
