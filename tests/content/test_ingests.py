"""Ingests on disk: their files are as docs/formats.md says, and whatever is found in their place does no harm."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.content import content, put, read
from unpacker.content.disk import ContentStore
from unpacker.content.reader import BytesReader
from unpacker.errors import AlreadyExistsError, IngestNotFoundError, LockedError
from unpacker.spec.digest import Digest
from unpacker.tree.lock import Lock

DATA, DIGEST = content(1000)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "layout", create=True)


@pytest.fixture
def root(store: ContentStore) -> Path:
    return store.path


def place(root: Path, ref: str = "c") -> Path:
    return root / "ingest" / hashlib.sha256(ref.encode()).hexdigest()


def begun(store: ContentStore, ref: str = "c") -> Path:
    """Leave an ingest of half of the data."""
    with store.writer(ref, len(DATA), DIGEST) as writer:
        writer.write(DATA[:500])
    return place(store.path, ref)


def finish(store: ContentStore, ref: str = "c") -> int:
    """Go on with an ingest to its end, and give where it went on."""
    with store.writer(ref, len(DATA), DIGEST) as writer:
        offset = writer.status().offset
        writer.write(DATA[offset:])
        writer.commit()
    assert read(store, DIGEST) == DATA
    return offset


# -- files -------------------------------------------------------------------------------------------------------------


def test_an_ingest_is_a_directory_of_small_files(store: ContentStore) -> None:
    here = begun(store, "layer 3/ü")
    assert {path.name: path.read_bytes().strip() for path in here.iterdir()} == {
        "ref": "layer 3/ü".encode(),
        "total": b"1000",
        "expected": str(DIGEST).encode(),
        "data": DATA[:500].strip(),
        "lock": b"",
    }


def test_what_was_not_announced_has_no_file(store: ContentStore) -> None:
    with store.writer("c"):
        pass
    assert sorted(path.name for path in place(store.path).iterdir()) == ["data", "lock", "ref"]


def test_a_writer_says_in_the_lock_who_it_is(store: ContentStore) -> None:
    with store.writer("c"):
        pid, since = (place(store.path) / "lock").read_text().split()
        assert int(pid) == os.getpid()
        assert time.time() - time.mktime(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ")) + time.timezone < 60
        with pytest.raises(LockedError) as raised:
            store.writer("c")
    assert (raised.value.where, raised.value.what) == (os.fspath(store), "ingest 'c'")
    assert (raised.value.pid, raised.value.since) == (os.getpid(), since)


def test_a_committed_ingest_leaves_a_read_only_blob_and_nothing_else(store: ContentStore, root: Path) -> None:
    begun(store)
    finish(store)
    blob = root / "blobs/sha256" / DIGEST.encoded
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    assert list((root / "ingest").iterdir()) == []


def test_the_data_moves_and_is_not_copied(store: ContentStore, root: Path) -> None:
    here = begun(store)
    inode = (here / "data").stat().st_ino
    finish(store)
    assert (root / "blobs/sha256" / DIGEST.encoded).stat().st_ino == inode


def test_the_data_is_on_the_disk_before_it_is_a_blob(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order, or a power cut leaves a blob of zeros under the right name (containerd#5854)."""
    order: list[str] = []
    fsync, rename = os.fsync, os.rename

    def name_of(fd: int) -> str:
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))

    def noted_fsync(fd: int) -> None:
        order.append(f"fsync {name_of(fd)}")
        fsync(fd)

    def noted_rename(source: str, target: str, **directories: int) -> None:
        order.append(f"rename {source} {target}")
        rename(source, target, **directories)

    with store.writer("c") as writer:
        writer.write(DATA)
        monkeypatch.setattr("os.fsync", noted_fsync)
        monkeypatch.setattr("os.rename", noted_rename)
        writer.commit()
    assert order == ["fsync data", f"rename data {DIGEST.encoded}", "fsync sha256"]


def test_a_new_algorithm_gets_its_directory(store: ContentStore, root: Path) -> None:
    longer = put(store, DATA, algorithm="sha512")
    assert [path.name for path in (root / "blobs/sha512").iterdir()] == [longer.encoded]


# -- what may be found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["nothing", "a lock", "data", "half a ref", "a ref of zeros"])
def test_the_rest_of_a_killed_writer_is_passed_over_and_written_over(
    store: ContentStore, root: Path, left: str
) -> None:
    """containerd#3089: an empty directory was enough to make a reference unusable."""
    here = place(root)
    here.mkdir(parents=True)
    if left == "a lock":
        (here / "lock").write_text("1 2026-11-24T00:00:00Z\n")
    elif left == "data":
        (here / "data").write_bytes(b"of whom?")
        (here / "total").write_bytes(b"77")
    elif left == "half a ref":
        (here / ".ref.new").write_bytes(b"half a")
    elif left == "a ref of zeros":  # After a power cut.
        (here / "ref").write_bytes(bytes(1))
        (here / "data").write_bytes(b"of whom?")
    assert store.list_statuses() == []
    with pytest.raises(IngestNotFoundError):
        store.status("c")
    assert finish(store) == 0
    assert list((root / "ingest").iterdir()) == []


def test_what_a_rest_announced_is_forgotten(store: ContentStore, root: Path) -> None:
    place(root).mkdir(parents=True)
    (place(root) / "total").write_bytes(b"77")
    (place(root) / "expected").write_text(str(DIGEST))
    with store.writer("c") as writer:
        status = writer.status()
    assert (status.total, status.expected) == (None, None)


def test_who_waited_for_a_directory_that_was_removed_starts_over(
    store: ContentStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whom we waited for has committed, and a third one has begun the same ingest anew."""
    acquire, times = Lock.acquire, []

    def too_late(lock: Lock, *details: Any) -> Lock:
        times.append(1)
        if len(times) == 1:
            place(root).rmdir()
            (root / "ingest/other").mkdir()
            place(root).mkdir()
        return acquire(lock, *details)

    monkeypatch.setattr(Lock, "acquire", too_late)
    assert finish(store) == 0
    assert len(times) == 2


def test_the_rest_of_a_killed_writer_can_be_thrown_away(store: ContentStore, root: Path) -> None:
    place(root).mkdir(parents=True)
    (place(root) / "data").write_bytes(b"of whom?")
    store.abort("c")
    assert list((root / "ingest").iterdir()) == []


def test_an_ingest_whose_writer_was_killed_after_it_had_committed_is_swept(store: ContentStore, root: Path) -> None:
    put(store, DATA)
    here = begun_beside(store)
    assert here.exists()
    with pytest.raises(AlreadyExistsError):
        store.writer("c", len(DATA), DIGEST)
    assert list((root / "ingest").iterdir()) == []


def begun_beside(store: ContentStore) -> Path:
    """Leave an ingest of a blob that is there, without its data, which was renamed."""
    with store.writer("c"):
        pass
    (place(store.path) / "data").unlink()
    return place(store.path)


@pytest.mark.parametrize("name", ["total", "expected"])
@pytest.mark.parametrize("content", [b"", b"junk", b"-1", b"\xff", b"9" * 100, b"sha256:x", b"blake3:" + b"a" * 64])
def test_what_cannot_be_read_was_not_announced(store: ContentStore, name: str, content: bytes) -> None:
    here = begun(store)
    (here / name).write_bytes(content)
    [status] = store.list_statuses()
    assert {"total": status.total, "expected": status.expected}[name] is None
    with store.writer("c"):
        pass
    finish(store)


def test_foreign_things_among_ingests_are_nobodys_business(store: ContentStore, root: Path) -> None:
    begun(store)
    (root / "ingest/file").write_text("x")
    (root / "ingest/directory").mkdir()
    (root / "ingest/directory/ref").write_text("c")
    (root / "ingest/link").symlink_to(place(root).name)
    assert [status.ref for status in store.list_statuses()] == ["c"]
    finish(store)


@pytest.mark.parametrize("name", ["ingest", "of the reference", "data", "ref", "total"])
def test_a_link_planted_in_a_layout_is_not_written_through(
    store: ContentStore, root: Path, tmp_path: Path, name: str
) -> None:
    """Who made the layout may want our bytes to land somewhere else."""
    outside = tmp_path / "outside"
    if name in {"ingest", "of the reference"}:
        outside.mkdir()
        planted = root / "ingest" if name == "ingest" else place(root)
    else:
        outside.write_text("canary")
        planted = place(root) / name
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.symlink_to(outside)

    if outside.is_dir():
        with pytest.raises(NotADirectoryError) as raised:
            store.writer("c")
        assert raised.value.filename in {"ingest", place(root).name}
        assert list(outside.iterdir()) == []
    else:
        finish(store)
        assert outside.read_text() == "canary"


def test_a_file_with_another_name_elsewhere_is_not_written_to(store: ContentStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("canary")
    here = begun(store)
    (here / "data").unlink()
    (here / "data").hardlink_to(tmp_path / "outside")
    assert finish(store) == 0
    assert (tmp_path / "outside").read_text() == "canary"


@pytest.mark.parametrize("there", ["shorter", "a link", "another size"])
def test_what_cannot_be_the_blob_is_replaced(store: ContentStore, root: Path, tmp_path: Path, there: str) -> None:
    """An interrupted copy by another tool, say: nobody else will ever repair it."""
    blob = root / "blobs/sha256" / DIGEST.encoded
    (tmp_path / "outside").write_text("canary")
    if there == "a link":
        blob.symlink_to(tmp_path / "outside")
    else:
        blob.write_bytes(DATA[:10] if there == "shorter" else DATA + b"x")
    finish(store)
    assert blob.is_file()
    assert not blob.is_symlink()
    assert (tmp_path / "outside").read_text() == "canary"


def test_blobs_go_into_a_directory_and_not_through_a_link(store: ContentStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "blobs/sha512").symlink_to(tmp_path / "outside")
    with store.writer("c") as writer, pytest.raises(NotADirectoryError, match="sha512"):
        writer.commit(digest=Digest.of(b"", "sha512"))
    assert list((tmp_path / "outside").iterdir()) == []


# -- failing disks -----------------------------------------------------------------------------------------------------


def test_a_write_that_is_cut_short_is_gone_on_with(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """write(2) may take less than it was given, near a full disk and over a network."""
    pwrite = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda fd, data, offset: pwrite(fd, bytes(data)[:7], offset))
    with store.writer("c") as writer:
        assert writer.write(DATA) == len(DATA)
        assert writer.commit().digest == DIGEST


def test_after_a_failed_write_what_was_written_counts(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    left = [300]

    def failing(fd: int, data: memoryview, offset: int) -> int:
        if not left[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written = pwrite(fd, bytes(data)[: left[0]], offset)
        left[0] -= written
        return written

    with store.writer("c") as writer:
        with monkeypatch.context() as patch:
            patch.setattr("os.pwrite", failing)
            with pytest.raises(OSError, match="Input/output error") as raised:
                writer.write(DATA)
        assert raised.value.__notes__ == ["writing ingest 'c'"]
        assert writer.status().offset == 300
        assert writer.digest() == Digest.of(DATA[:300])
        writer.write(DATA[300:])
        assert writer.commit().digest == DIGEST


@pytest.mark.parametrize("call", ["fsync", "rename", "fchmod"])
def test_a_failed_commit_can_be_tried_again(
    store: ContentStore, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    begun(store)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = store.writer("c", len(DATA), DIGEST)
    writer.write(DATA[500:])
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{call}", fail)
        with pytest.raises(OSError, match="Input/output error") as raised:
            writer.commit()
    assert raised.value.__notes__ == ["committing ingest 'c'"]
    try:
        finish(store)
    except AlreadyExistsError:
        assert call == "fchmod"
    assert read(store, DIGEST) == DATA
    assert list((root / "ingest").iterdir()) == []


def test_a_copy_that_failed_half_way_leaves_no_more_than_was_hashed(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel may have copied more than was looked at when it failed."""
    (tmp_path / "source").mkdir()
    source = ContentStore(tmp_path / "source/layout", create=True)
    digest = put(source, DATA)
    pread = os.pread
    with source.reader(digest) as reader, store.writer("c") as writer:
        with monkeypatch.context() as patch:

            def failing(fd: int, size: int, offset: int) -> bytes:
                if offset:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return pread(fd, min(size, 100), offset)

            patch.setattr("os.pread", failing)
            with pytest.raises(OSError, match="Input/output error"):
                writer.write_from(reader)
        assert writer.status().offset == 100
        info = writer.commit()
    assert (info.digest, info.size) == (Digest.of(DATA[:100]), 100)
    assert read(store, info.digest) == DATA[:100]


def test_a_reader_that_became_shorter_is_told_by_the_size(store: ContentStore, tmp_path: Path) -> None:
    reader = BytesReader(DATA[:400])
    reader.size = 1000
    with store.writer("c", 1000, DIGEST) as writer:
        writer.write_from(reader)
        assert writer.status().offset == 400


# -- another process ---------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from unpacker.content.disk import ContentStore
with ContentStore(sys.argv[1]).writer("c") as writer:
    writer.write(b"x" * 500)
    print("written", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_named_and_its_end_lets_go(store: ContentStore, root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        with pytest.raises(LockedError, match=f"ingest 'c' is held by process {process.pid} since 20"):
            store.writer("c")
        with pytest.raises(LockedError):
            store.abort("c")
        assert store.status("c").offset == 500
        process.kill()
    with store.writer("c") as writer:
        assert writer.status().offset == 500
        assert writer.digest() == Digest.of(b"x" * 500)
