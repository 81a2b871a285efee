"""The store on disk keeps the contract, whatever is on the disk already, and whoever else is at it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contracts.content import Again, ContentContract, content, described, put, read
from tests.support.layoutbuild import write_layout
from tests.support.mounted import run_on_btrfs, run_on_tmpfs
from tests.support.probes import needs_btrfs, needs_nobody, needs_tmpfs, needs_tool, nobodys_python, run_as_nobody
from tests.support.tarbuild import file, layer
from unpacker.content.disk import ContentStore
from unpacker.errors import (
    BlobNotFoundError,
    DestinationError,
    DocumentError,
    LayoutNotFoundError,
    UnsupportedError,
)
from unpacker.spec.digest import Digest
from unpacker.spec.documents import Index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpacker.content.store import Store


class TestContentStore(ContentContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return ContentStore(tmp_path / "layout", create=True)

    @pytest.fixture
    def again(self, tmp_path: Path) -> Again:
        return lambda: ContentStore(tmp_path / "layout")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "layout"


@pytest.fixture
def store(root: Path) -> ContentStore:
    return ContentStore(root, create=True)


# -- making one --------------------------------------------------------------------------------------------------------


def test_a_new_store_is_an_empty_layout(root: Path) -> None:
    store = ContentStore(root, create=True)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == [
        ".index.json.lock",
        "blobs",
        "blobs/sha256",
        "index.json",
        "oci-layout",
    ]
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert store.index() == Index(media_type=None, manifests=(), annotations={})
    assert list(store.walk()) == []
    assert repr(store) == f"<ContentStore {root}>"
    assert os.fspath(store) == str(root)


def test_a_layout_that_is_there_is_opened(tmp_path: Path) -> None:
    built = write_layout(tmp_path / "layout", [layer(file("a"))])
    before = {path: path.stat().st_mtime_ns for path in built.path.rglob("*")}
    for create in (True, False):
        assert len(ContentStore(built.path, create=create).index().manifests) == 1
    assert {path: path.stat().st_mtime_ns for path in built.path.rglob("*")} == before


def test_no_store_is_made_unless_asked_for(root: Path) -> None:
    with pytest.raises(LayoutNotFoundError, match="no such directory"):
        ContentStore(root)
    assert not root.exists()


@pytest.mark.parametrize("left", [[], ["blobs/sha256"], ["blobs/sha256", "index.json"], [".index.json.lock", "blobs"]])
def test_a_store_whose_making_was_interrupted_is_completed(root: Path, left: list[str]) -> None:
    root.mkdir()
    for name in left:
        if name == "index.json":
            (root / name).write_text('{"schemaVersion": 2, "manifests": [], "kept": true}')
        elif name.startswith("."):
            (root / name).touch()
        else:
            (root / name).mkdir(parents=True)
    put(ContentStore(root, create=True), b"x")
    assert ("kept" in (root / "index.json").read_text()) is ("index.json" in left)


def test_nothing_is_made_of_what_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "file").touch()
    with pytest.raises(DestinationError, match="is no layout, and not empty"):
        ContentStore(tmp_path / "full", create=True)
    with pytest.raises(DestinationError, match="is no directory"):
        ContentStore(tmp_path / "file", create=True)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


def test_a_layout_of_another_version_is_not_touched(root: Path) -> None:
    root.mkdir()
    (root / "oci-layout").write_text('{"imageLayoutVersion": "9"}')
    (root / "index.json").write_text("{}")
    (root / "blobs").mkdir()
    with pytest.raises(UnsupportedError, match="imageLayoutVersion 9"):
        ContentStore(root, create=True)


def make(root: Path, number: int) -> None:
    store = ContentStore(root, create=True)
    store.names.add(f"v{number}", described(put(store, str(number).encode())))


def test_several_processes_may_make_the_same_store(root: Path) -> None:
    """None of them may put an empty index over what another has entered already."""
    context = multiprocessing.get_context("spawn")
    makers = [context.Process(target=make, args=(root, number)) for number in range(6)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(60)
    assert [maker.exitcode for maker in makers] == [0] * 6
    store = ContentStore(root)
    assert set(store.names.all()) == {f"v{number}" for number in range(6)}
    assert len(list(store.walk())) == 6


@needs_tool("skopeo")
def test_other_tools_take_a_store_for_the_layout_that_it_is(tmp_path: Path) -> None:
    """What they do not know they pass over: labels, ingests, locks."""
    built = write_layout(tmp_path / "layout", [layer(file("a"))], tag="v1")
    store = ContentStore(built.path)
    store.names.add("v2", store.index().manifests[0])
    store.update(store.info(Digest.parse(built.images[0].digest)).changed(labels={"k": "v"}))
    with store.writer("c") as writer:
        writer.write(b"half of something")
    inspected = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{built.path}:v2"], capture_output=True, check=True
    ).stdout
    assert json.loads(inspected) == built.images[0].manifest
    subprocess.run(["skopeo", "copy", f"oci:{built.path}:v1", f"oci:{built.path}:v3"], capture_output=True, check=True)
    assert set(store.names.all()) == {"v1", "v2", "v3"}
    assert [status.ref for status in store.list_statuses()] == ["c"]


# -- what is in one ----------------------------------------------------------------------------------------------------


def test_a_store_without_blobs_has_none(store: ContentStore, root: Path) -> None:
    """containerd fails with ENOENT there."""
    (root / "blobs/sha256").rmdir()
    assert list(store.walk()) == []
    (root / "blobs").rmdir()
    assert list(store.walk()) == []
    put(store, b"x")
    assert len(list(store.walk())) == 1


def test_what_is_no_blob_is_passed_over(store: ContentStore, root: Path, tmp_path: Path) -> None:
    digest = put(store, b"x")
    place = root / "blobs/sha256"
    (tmp_path / "outside").write_text("canary")
    (place / ".tmp-123").write_text("x")
    (place / "short").write_text("x")
    (place / digest.encoded.upper()).write_text("x")
    (place / ("a" * 64)).symlink_to(tmp_path / "outside")
    (place / ("b" * 64)).mkdir()
    os.mkfifo(place / ("c" * 64))
    (root / "blobs/file").write_text("x")
    (root / "blobs/Upper").mkdir()
    (root / "blobs/unknown+alg").mkdir()
    (root / "blobs/unknown+alg/x").write_text("of an algorithm that nobody knows yet")
    assert [str(info.digest) for info in store.walk()] == [str(digest), "unknown+alg:x"]
    for name in "abc":
        odd = Digest("sha256", name * 64)
        for act in (store.info, store.delete):
            with pytest.raises(BlobNotFoundError):
                act(odd)
        with pytest.raises(UnsupportedError, match="unsupported file type"):
            store.reader(odd)
    assert (tmp_path / "outside").read_text() == "canary"


@pytest.mark.parametrize("content", [b"", b"{", b'{"k": 1}', b'{"k": "v", "k": "w"}', bytes(100)])
def test_damaged_labels_are_told_and_stop_nothing_else(store: ContentStore, root: Path, content: bytes) -> None:
    one, two, three = (put(store, data, {"k": "v"}) for data in (b"1", b"2", b"3"))
    damaged = root / "labels/sha256" / f"{two.encoded}.json"
    damaged.write_bytes(content)

    found = {info.digest: info for info in store.walk()}
    assert found.keys() == {one, two, three}
    assert (found[one].labels, found[one].fault) == ({"k": "v"}, None)
    fault = found[two].fault
    assert isinstance(fault, DocumentError)
    assert fault.source == str(damaged)
    assert (found[two].labels, found[two].size) == ({}, 1)
    assert {info.digest for info in store.walk("labels.k")} == {one, three}
    for act in (store.info, lambda digest: store.update(found[two].changed(labels={"k": "new"}), "labels.k")):
        with pytest.raises(DocumentError, match=str(damaged)):
            act(two)
    assert damaged.read_bytes() == content, "somebody may want to look at it"
    assert read(store, two) == b"2"


def test_a_blob_with_damaged_labels_can_be_deleted(store: ContentStore, root: Path) -> None:
    digest = put(store, b"x", {"k": "v"})
    (root / "labels/sha256" / f"{digest.encoded}.json").write_bytes(b"{")
    store.delete(digest)
    put(store, b"x")
    assert store.info(digest).labels == {}


def test_a_reader_keeps_what_is_deleted(store: ContentStore) -> None:
    data, digest = content(1000)
    put(store, data)
    with store.reader(digest) as reader:
        store.delete(digest)
        assert reader.read() == data


def test_rests_are_swept_and_nothing_else(store: ContentStore, root: Path) -> None:
    digest = put(store, b"x", {"k": "v"})
    with store.writer("c") as writer:
        writer.write(b"half")
    rests = [
        root / "labels/sha256" / f".{digest.encoded}.json.new",
        root / ".index.json.new",
        root / "ingest" / ("0" * 64) / "data",
    ]
    kept = [root / ".mine.new", root / "labels/note", root / "ingest/other", root / "blobs/sha256/.tmp"]
    for path in (*rests, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")

    assert store.cleanup() == 3
    assert not any(path.exists() for path in rests)
    assert all(path.exists() for path in kept)
    assert store.status("c").offset == 4
    assert store.info(digest).labels == {"k": "v"}
    with store.writer("c"):
        assert store.cleanup() == 0


# -- who may what ------------------------------------------------------------------------------------------------------

READ_ONLY = """
import sys
from unpacker.content.disk import ContentStore
from unpacker.spec.digest import Digest
store = ContentStore(sys.argv[1])
[info] = store.walk()
assert (info.size, info.labels) == (1, {"k": "v"})
with store.reader(info.digest) as reader:
    assert reader.read() == b"x"
assert store.list_statuses() == []
for act in (
    lambda: store.writer("c"),
    lambda: store.update(info.changed(labels={})),
    lambda: store.delete(info.digest),
    lambda: store.names.remove("v1"),
):
    try:
        act()
    except PermissionError as error:
        print(error.filename, *getattr(error, "__notes__", []))
    else:
        raise AssertionError
assert store.labels.set(info.digest, {"mine": "x"}) is None
assert store.info(info.digest).labels == {"k": "v", "mine": "x"}
"""


@contextmanager
def somebody_elses() -> Iterator[Path]:
    """Give a directory of the caller's that anybody may read, which ``tmp_path`` is not."""
    with tempfile.TemporaryDirectory(prefix="others-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@needs_nobody
def test_a_store_that_belongs_to_others_is_read() -> None:
    """And a write says what it could not do; labels that are a mere convenience are kept for the process."""
    with somebody_elses() as place:
        store = ContentStore(place / "layout", create=True)
        put(store, b"x", {"k": "v"})
        store.names.add("v1", described(Digest.of(b"x")))
        python = nobodys_python()
        assert python is not None
        done = run_as_nobody([python, "-c", READ_ONLY, store.path])
        assert store.info(Digest.of(b"x")).labels == {"k": "v"}
    digest = Digest.of(b"x")
    assert done.stdout.splitlines() == [
        f"{hashlib.sha256(b'c').hexdigest()} opening ingest 'c'",
        f"{place}/layout/labels/.lock labelling blob {digest}",
        f"{digest.encoded} deleting blob {digest}",
        f"{place}/layout/.index.json.lock editing index.json",
    ]


# -- a full disk -------------------------------------------------------------------------------------------------------


@needs_tmpfs
def test_a_full_disk_leaves_everything_as_it_was_and_can_be_gone_on_with(tmp_path: Path) -> None:
    run_on_tmpfs(
        tmp_path,
        "1m",
        """
        import errno, os
        from tests.contracts.content import described, put, read
        from unpacker.content.copying import copy_blob
        from unpacker.content.disk import ContentStore
        from unpacker.content.memory import MemoryStore
        from unpacker.spec.descriptor import Descriptor
        from unpacker.spec.digest import Digest

        def full(act):
            try:
                act()
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                return error.__notes__
            raise AssertionError("it had room")

        store = ContentStore(HERE / "layout", create=True)
        digest = put(store, b"x", {"k": "v"})
        store.names.add("v1", described(digest))
        filler = HERE / "filler"
        with filler.open("wb") as file:
            file.write(bytes(400 << 10))

        data = os.urandom(800 << 10)
        whole = Descriptor(media_type="a/b", digest=Digest.of(data), size=len(data))
        writer = store.writer("c", whole.size, whole.digest)
        assert full(lambda: writer.write(data)) == ["writing ingest 'c'"]
        offset = writer.status().offset
        assert 400 << 10 < offset < len(data)
        assert writer.digest() == Digest.of(data[:offset])
        writer.close()
        assert store.status("c").offset == offset

        index, info = (HERE / "layout/index.json").read_bytes(), store.info(digest)
        changed = info.changed(labels={"k": "new" * 1000, "l": "x" * 4000})
        assert full(lambda: store.update(changed)) == [f"labelling blob {digest}"]
        assert full(lambda: store.names.add("v2", described(digest))) == ["editing index.json"]
        assert store.info(digest) == info
        assert (HERE / "layout/index.json").read_bytes() == index
        assert not list((HERE / "layout").rglob("*.new"))
        assert full(lambda: put(store, b"another"))
        store.labels.set(digest, {"convenient": "x"})
        assert store.info(digest).labels == {"k": "v", "convenient": "x"}

        source = MemoryStore()
        put(source, data)
        store.abort("c")
        assert full(lambda: copy_blob(source, store, whole))
        [status] = store.list_statuses(f'ref=="copy {whole.digest}"')
        assert status.offset >= 400 << 10
        filler.unlink()
        assert copy_blob(source, store, whole)
        assert read(store, whole.digest) == data
        store.update(store.info(digest).changed(labels={"k": "new"}), "labels.k")
        assert ContentStore(HERE / "layout").info(digest).labels == {"k": "new", "convenient": "x"}
        """,
    )


# -- sharing blocks ----------------------------------------------------------------------------------------------------


@needs_btrfs
def test_a_copy_on_one_filesystem_shares_its_blocks(tmp_path: Path) -> None:
    """There is no room for a second one; and it is verified all the same."""
    run_on_btrfs(
        tmp_path,
        "128M",
        """
        import os
        from tests.contracts.content import put
        from unpacker.content.copying import copy_blob
        from unpacker.content.disk import ContentStore
        from unpacker.errors import DigestMismatchError
        from unpacker.spec.descriptor import Descriptor
        from unpacker.spec.digest import Digest

        data = os.urandom(60 << 20)
        blob = Descriptor(media_type="a/b", digest=Digest.of(data), size=len(data))
        stores = [ContentStore(HERE / name, create=True) for name in "abcd"]
        put(stores[0], data)
        told = []
        for source, target in zip(stores, stores[1:]):
            assert copy_blob(source, target, blob, on_progress=told.append)
        assert told == sorted(told[: len(told) // 3]) * 3
        assert all([info.digest for info in store.walk()] == [blob.digest] for store in stores)

        path = HERE / "a/blobs/sha256" / blob.digest.encoded
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.write(b"damaged")
        other = ContentStore(HERE / "e", create=True)
        try:
            copy_blob(stores[0], other, blob)
        except DigestMismatchError:
            assert not list(other.walk())
        else:
            raise AssertionError
        with stores[1].blob(blob) as copy:
            copy.drain()
        """,
    )
