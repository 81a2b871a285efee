"""A process that is killed at any moment leaves a store that the next one uses without help."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.content.endless import REFS, TURNS, content_of, described
from unpacker.content.disk import ContentStore
from unpacker.errors import AlreadyExistsError

KILLS = int(os.environ.get("UNPACK_TEST_KILLS", "30"))


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """What is there afterwards is whole, and what is not can be brought to its end."""
    root = tmp_path / "layout"
    ContentStore(root, create=True)
    moments = random.Random(4)  # noqa: S311
    resumed = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.content.endless", root], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.08))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        resumed += check(ContentStore(root))
    assert resumed, "no kill hit an ingest, which would show nothing"


def check(store: ContentStore) -> int:
    """Look at everything, and go on with everything; give how many ingests were found half done."""
    for info in store.walk():
        assert info.fault is None
        with store.blob(described(b"").changed(digest=info.digest, size=info.size)) as blob:
            blob.drain()
    for name, entries in store.names.all().items():
        assert name in REFS
        assert len(entries) == 1
    statuses = store.list_statuses()
    for status in statuses:
        contents = [content_of(status.ref, turn) for turn in range(TURNS)]
        data = next(data for data in contents if described(data).digest == status.expected)
        descriptor = described(data)
        try:
            with store.writer(status.ref, descriptor.size, descriptor.digest) as writer:
                assert writer.status().offset == status.offset
                writer.write(data[status.offset :])
                assert writer.commit(labels={"k": "v"}).labels["k"] == "v"
        except AlreadyExistsError:
            assert status.offset == 0, "its data was renamed, and nothing else was missing"
            store.update(store.info(descriptor.digest).changed(labels={"k": "v"}), "labels.k")
        store.names.add(status.ref, descriptor, replace=True)
    assert store.list_statuses() == []
    store.cleanup()
    assert store.cleanup() == 0
    assert list(store.path.rglob("*.new")) == []
    assert list(store.path.glob("ingest/*")) == []
    return sum(status.offset > 0 for status in statuses)
