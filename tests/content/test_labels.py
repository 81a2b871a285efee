"""Labels: kept beside the blobs, lost by nobody, and in nobody's way."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unpacker.content.labels import UNCOMPRESSED, LabelStore
from unpacker.errors import DocumentError, LockedError, UnsupportedError, UsageError
from unpacker.spec.digest import Digest
from unpacker.tree.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOB = Digest.of(b"blob")
DIFF_ID = str(Digest.of(b"layer"))


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path)


def file_of(root: Path, digest: Digest = BLOB) -> Path:
    return root / "labels" / digest.algorithm / f"{digest.encoded}.json"


def test_a_blob_has_no_labels_at_first(store: LabelStore, tmp_path: Path) -> None:
    assert store.get(BLOB) == {}
    assert not (tmp_path / "labels").exists()


def test_labels_are_small_json_files_addressed_like_their_blobs(store: LabelStore, tmp_path: Path) -> None:
    store.set(BLOB, {UNCOMPRESSED: DIFF_ID})

    assert json.loads(file_of(tmp_path).read_text()) == {"containerd.io/uncompressed": DIFF_ID}
    assert LabelStore(tmp_path).get(BLOB) == {UNCOMPRESSED: DIFF_ID}
    assert LabelStore(tmp_path).get(Digest.of(b"blob", "sha512")) == {}


def test_labels_are_merged_and_an_empty_value_takes_one_away(store: LabelStore) -> None:
    store.set(BLOB, {"a": "1", "b": "2"})
    store.set(BLOB, {"b": "3", "c": "ü\n"})
    assert store.get(BLOB) == {"a": "1", "b": "3", "c": "ü\n"}
    store.set(BLOB, {"a": "", "never": ""})
    assert store.get(BLOB) == {"b": "3", "c": "ü\n"}


def test_nothing_but_labels_and_the_lock_stays_behind(store: LabelStore, tmp_path: Path) -> None:
    store.set(BLOB, {"a": "1"})
    store.set(BLOB, {"a": "2"})
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"labels/.lock", str(file_of(tmp_path).relative_to(tmp_path))}


def test_a_label_that_is_set_already_costs_neither_a_write_nor_the_import_of_the_lock(tmp_path: Path) -> None:
    LabelStore(tmp_path).set(BLOB, {"a": "1", "b": "2"})
    inode = file_of(tmp_path).stat().st_ino
    program = (
        "import sys; from unpacker.content.labels import LabelStore; from unpacker.spec.digest import Digest\n"
        "store = LabelStore(sys.argv[1]); store.set(Digest.of(b'blob'), {'a': '1', 'c': ''})\n"
        "assert 'filelock' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    assert file_of(tmp_path).stat().st_ino == inode


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": "1", "a": "2"}', "\0" * 60])
def test_a_damaged_file_is_reported_and_left_as_it_is(store: LabelStore, tmp_path: Path, content: str) -> None:
    file_of(tmp_path).parent.mkdir(parents=True)
    file_of(tmp_path).write_text(content)
    for act in (lambda: store.get(BLOB), lambda: store.set(BLOB, {"a": "1"})):
        with pytest.raises(DocumentError) as raised:
            act()
        assert raised.value.source == str(file_of(tmp_path))
    assert file_of(tmp_path).read_text() == content


def test_a_file_that_is_no_file_is_reported(store: LabelStore, tmp_path: Path) -> None:
    file_of(tmp_path).mkdir(parents=True)
    with pytest.raises(UnsupportedError, match="unsupported file type directory"):
        store.get(BLOB)


def test_a_label_has_a_longest_length_in_bytes(store: LabelStore) -> None:
    store.set(BLOB, {"k": "v" * 4095})
    with pytest.raises(UsageError, match="longer than 4096 bytes") as raised:
        store.set(BLOB, {"k" * 3000: "ü" * 549})
    assert len(str(raised.value)) < 200
    assert store.get(BLOB) == {"k": "v" * 4095}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC])
def test_a_layout_that_cannot_be_written_keeps_its_labels_for_the_process(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store.set(BLOB, {"a": "1", "b": "2"})

    def refuse(*args: object, **kwargs: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("os.mkdir", refuse)
        store.set(BLOB, {"a": "", "c": "3"})
    assert store.get(BLOB) == {"b": "2", "c": "3"}
    assert LabelStore(tmp_path).get(BLOB) == {"a": "1", "b": "2"}


def test_any_other_failure_is_told(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.mkdir", refuse)
    with pytest.raises(OSError, match="Input/output error") as raised:
        store.set(BLOB, {"a": "1"})
    assert raised.value.__notes__ == [f"labelling blob {BLOB}"]


@pytest.mark.parametrize("name", ["labels", "labels/sha256", "labels/.lock"])
def test_a_link_planted_in_a_layout_is_not_written_through(store: LabelStore, tmp_path: Path, name: str) -> None:
    """Who made the layout may want our write to land somewhere else."""
    outside = tmp_path / "outside"
    if name.endswith(".lock"):
        outside.write_text("canary")
    else:
        outside.mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(outside)

    store.set(BLOB, {"a": "1"})

    assert store.get(BLOB) == {"a": "1"}
    assert outside.read_text() == "canary" if outside.is_file() else list(outside.iterdir()) == []


@pytest.mark.parametrize("act", ["change", "remove", "sweep"])
def test_a_link_that_takes_the_place_of_the_directory_leads_the_lock_nowhere(
    act: str, store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write to the layout can put one there at any moment, such as when the directory has just been opened."""
    store.set(BLOB, {"a": "1"})
    (tmp_path / "outside").mkdir()
    acquire = Lock.acquire

    def late(self: Lock, wait: float = 0.0) -> Lock:
        (tmp_path / "labels").rename(tmp_path / "before")
        (tmp_path / "labels").symlink_to("outside")
        return acquire(self, wait)

    with monkeypatch.context() as patched:
        patched.setattr(Lock, "acquire", late)
        if act == "change":
            store.change(BLOB, lambda _: {"a": "2"})
        elif act == "remove":
            store.remove(BLOB)
        else:
            store.sweep()

    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "before/.lock").read_bytes().strip() == b""


def test_a_file_left_by_a_killed_writer_is_replaced(store: LabelStore, tmp_path: Path) -> None:
    store.set(BLOB, {"first": "1"})
    (tmp_path / "outside").write_text("canary")
    temporary = file_of(tmp_path).with_name(f".{file_of(tmp_path).name}.new")
    temporary.symlink_to(tmp_path / "outside")

    store.set(BLOB, {"a": "1"})

    assert not temporary.is_symlink()
    assert (tmp_path / "outside").read_text() == "canary"
    assert store.get(BLOB) == {"first": "1", "a": "1"}


def test_the_first_label_takes_no_lock(store: LabelStore, tmp_path: Path) -> None:
    """The lock's library takes longer to import than most layers to unpack."""
    store.set(BLOB, {"a": "1"})

    assert store.get(BLOB) == {"a": "1"}
    assert not (tmp_path / "labels/.lock").exists()


def test_a_first_label_that_comes_while_another_is_made_is_not_lost(store: LabelStore, tmp_path: Path) -> None:
    """Who holds the lock has seen no labels, and would write over those that somebody creates without it."""
    other = LabelStore(tmp_path)

    def change(found: dict[str, str]) -> dict[str, str]:
        if not found:
            other.set(BLOB, {"theirs": "1"})
        return {**found, "ours": "1"}

    assert store.change(BLOB, change) == {"theirs": "1", "ours": "1"}
    assert other.get(BLOB) == {"theirs": "1", "ours": "1"}


def test_a_filesystem_without_nameless_files_gets_labels_under_the_lock(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unpacker.content.labels.create", lambda *_values: False)

    store.set(BLOB, {"a": "1"})

    assert store.get(BLOB) == {"a": "1"}
    assert (tmp_path / "labels/.lock").exists()


def test_a_failed_write_leaves_the_old_labels(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set(BLOB, {"a": "1"})

    def fail(fd: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            store.set(BLOB, {"a": "2"})
    assert store.get(BLOB) == {"a": "1"}
    assert [path.name for path in file_of(tmp_path).parent.iterdir()] == [file_of(tmp_path).name]


BLOBS = tuple(Digest.of(bytes([number])) for number in range(4))


def update_many(root: Path, writer: int, turns: int) -> None:
    """Count in a label of one's own, and in one that all share; whatever anybody loses shows at once."""
    store = LabelStore(root)
    mine = dict.fromkeys(BLOBS, 0)

    def count(labels: dict[str, str]) -> dict[str, str]:
        assert int(labels.get(f"w{writer}", "0")) == mine[blob], "somebody wrote over it"
        return {**labels, "all": str(int(labels.get("all", "0")) + 1), f"w{writer}": str(mine[blob] + 1)}

    for turn in range(turns):
        blob = BLOBS[(turn + writer) % len(BLOBS)]
        store.change(blob, count)
        mine[blob] += 1


def run_writers(root: Path, writers: int, turns: int) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=update_many, args=(root, number, turns)) for number in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * writers


def test_8_processes_of_500_updates_lose_nothing(in_memory: Path) -> None:
    run_writers(in_memory, 8, 500)
    store = LabelStore(in_memory)
    assert sum(int(store.get(blob)["all"]) for blob in BLOBS) == 8 * 500
    assert all(sum(int(store.get(blob).get(f"w{writer}", "0")) for blob in BLOBS) == 500 for writer in range(8))


def test_on_a_slow_disk_they_lose_nothing_either(tmp_path: Path) -> None:
    run_writers(tmp_path, 4, 20)
    store = LabelStore(tmp_path)
    assert sum(int(store.get(blob)["all"]) for blob in BLOBS) == 4 * 20


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """Give a directory whose syncing costs nothing, where there is one: this is not about the disk."""
    memory = Path("/dev/shm")
    place = memory if memory.is_mount() and os.access(memory, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=place) as path:
        yield Path(path)


# -- changes that must be on the disk ----------------------------------------------------------------------------------


def test_a_change_is_written_or_an_error(store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike `set`, which may keep labels for the process only."""
    store.set(BLOB, {"a": "1"})

    def refuse(*_args: object, **_kwargs: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr("os.mkdir", refuse)
        with pytest.raises(OSError, match="Read-only file system") as raised:
            store.change(BLOB, lambda labels: {**labels, "b": "2"})
    assert raised.value.__notes__ == [f"labelling blob {BLOB}"]
    assert store.get(BLOB) == LabelStore(tmp_path).get(BLOB) == {"a": "1"}


def test_a_change_takes_along_what_could_not_be_written(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set(BLOB, {"a": "1", "b": "2"})

    def refuse(*_args: object, **_kwargs: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.mkdir", refuse)
        store.set(BLOB, {"a": "", "c": "3"})
    assert store.change(BLOB, lambda labels: {**labels, "d": "4"}) == {"b": "2", "c": "3", "d": "4"}
    assert LabelStore(tmp_path).get(BLOB) == {"b": "2", "c": "3", "d": "4"}
    LabelStore(tmp_path).set(BLOB, {"c": ""})
    assert store.get(BLOB) == {"b": "2", "d": "4"}, "and does not keep it any longer"


def test_a_change_that_fails_writes_nothing_and_lets_go(store: LabelStore) -> None:
    store.set(BLOB, {"a": "1"})

    def fail(_labels: dict[str, str]) -> dict[str, str]:
        raise UsageError("no")

    with pytest.raises(UsageError):
        store.change(BLOB, fail)
    store.set(BLOB, {"b": "2"})
    assert store.get(BLOB) == {"a": "1", "b": "2"}


def test_labels_know_when_they_were_changed(store: LabelStore, tmp_path: Path) -> None:
    assert store.changed(BLOB) is None
    store.set(BLOB, {"a": "1"})
    assert store.changed(BLOB) == file_of(tmp_path).stat().st_mtime_ns


def test_labels_are_removed(store: LabelStore, tmp_path: Path) -> None:
    store.remove(BLOB)
    assert not (tmp_path / "labels").exists(), "there is nothing to remove"
    store.set(BLOB, {"a": "1"})
    store.remove(BLOB)
    assert store.get(BLOB) == {}
    assert not file_of(tmp_path).exists()


def test_who_cannot_get_the_lock_is_told_who_has_it(
    store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set(BLOB, {"a": "1"})
    monkeypatch.setattr("unpacker.content.labels._PATIENCE", 0.05)
    with Lock(str(tmp_path / "labels/.lock"), where="x", what="y").acquire():
        for act in (
            lambda: store.set(BLOB, {"a": "2"}),
            lambda: store.change(BLOB, lambda labels: {**labels, "a": "2"}),
            lambda: store.remove(BLOB),
        ):
            with pytest.raises(LockedError, match=f"the lock of the labels is held by process {os.getpid()}"):
                act()
        store.set(BLOB, {"a": "1"})
    assert store.get(BLOB) == {"a": "1"}
