"""What every content store does: containerd's suite (core/content/testsuite), its local store's cases, and ours.

An implementation runs it by a class with a fixture ``store``, and ``again``, which opens the same store as another
process would::

    class TestMine(ContentContract):
        @pytest.fixture
        def store(self) -> Store: ...
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from unpacker.content.reader import BytesReader
from unpacker.errors import (
    AlreadyExistsError,
    AmbiguousReferenceError,
    BlobNotFoundError,
    DigestMismatchError,
    IngestNotFoundError,
    LockedError,
    ReferenceNotFoundError,
    SizeMismatchError,
    UnsupportedError,
    UsageError,
)
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unpacker.content.store import Status, Store, Writer

Again = Callable[[], "Store"]

ROOT = {"containerd.io/gc.root": "2026-11-24T21:00:00Z"}
COARSE = 20_000_000
"""Nanoseconds by which the clock of a filesystem may be behind that of the program."""
_seeds = iter(range(10**9))


def content(size: int, algorithm: str = "sha256") -> tuple[bytes, Digest]:
    """Make bytes that no other call makes, and their digest."""
    data = random.Random(next(_seeds)).randbytes(size)  # noqa: S311 - the same ones each run
    return data, Digest.of(data, algorithm)


def put(store: Store, data: bytes, labels: Mapping[str, str] | None = None, algorithm: str = "sha256") -> Digest:
    """Bring a blob into a store."""
    digest = Digest.of(data, algorithm)
    with store.writer(f"put {digest}", len(data), digest) as writer:
        writer.write(data)
        writer.commit(labels=labels)
    return digest


def read(store: Store, digest: Digest) -> bytes:
    with store.reader(digest) as reader:
        return reader.read()


@contextmanager
def happening() -> Iterator[Callable[[int], bool]]:
    """Say whether a time (once it is over) was during the block."""
    began = time.time_ns() - COARSE
    ended: list[int] = []
    yield lambda when: began <= when <= ended[0]
    ended.append(time.time_ns())


def in_use(store: Store, ref: str) -> None:
    with pytest.raises(LockedError, match=f"ingest '{ref}' is held by"):
        store.writer(ref)


class ContentContract:
    """The cases."""

    @pytest.fixture
    def store(self) -> Store:
        """Give an empty store."""
        raise NotImplementedError

    @pytest.fixture
    def again(self, store: Store) -> Again:
        """Open the same store once more."""
        return lambda: store

    # -- writers -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("announced", ["nothing", "size", "digest", "both"])
    def test_a_writer_makes_a_blob(self, store: Store, again: Again, announced: str, algorithm: str) -> None:
        data, digest = content(256, algorithm)
        size = len(data) if announced in {"size", "both"} else None
        expected = digest if announced in {"digest", "both"} else None
        with store.writer("c", size, expected) as writer:
            for at in range(0, len(data), 32):
                assert writer.write(data[at : at + 32]) == 32
            with happening() as during:
                info = writer.commit(None, None if expected or algorithm == "sha256" else digest, labels=ROOT)
            assert writer.digest() == digest

        for found in (info, again().info(digest)):
            assert (found.digest, found.size, found.labels) == (digest, 256, ROOT)
            assert during(found.created)
            assert during(found.updated)
        assert read(again(), digest) == data
        assert store.list_statuses() == []

    def test_a_blob_is_created_when_it_is_committed(self, store: Store) -> None:
        with store.writer("c") as writer:
            writer.write(b"x")
            time.sleep(2 * COARSE / 1e9)
            with happening() as during:
                info = writer.commit()
        assert during(info.created)

    def test_a_large_blob(self, store: Store, again: Again) -> None:
        data = b"".join(number.to_bytes(4, "big") for number in range(1 << 21)) * 4
        digest = put(store, data)
        assert again().info(digest).size == 32 << 20
        assert read(again(), digest) == data

    def test_an_empty_blob(self, store: Store, again: Again) -> None:
        digest = put(store, b"")
        assert again().info(digest).size == 0
        assert read(again(), digest) == b""

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_whatever_holds_bytes_can_be_written(self, store: Store, kind: type) -> None:
        with store.writer("c") as writer:
            assert writer.write(kind(b"abc")) == 3
            assert writer.write(kind(b"")) == 0
            assert writer.commit().digest == Digest.of(b"abc")

    def test_the_status_of_a_writer_follows_what_is_written(self, store: Store, again: Again) -> None:
        data, digest = content(256)
        with happening() as starting:
            writer = store.writer("c1", 256, digest)
        with writer:
            status = writer.status()
            assert (status.ref, status.offset, status.total, status.expected) == ("c1", 0, 256, digest)
            assert starting(status.started)
            assert starting(status.updated)
            assert writer.digest() == Digest.of(b"")
            for begin, end in ((0, 64), (64, 192), (192, 256)):
                with happening() as writing:
                    writer.write(data[begin:end])
                status = writer.status()
                assert (status.offset, status.total, writer.digest()) == (end, 256, Digest.of(data[:end]))
                assert starting(status.started)
                assert writing(status.updated)
                assert again().status("c1") == status
                assert again().list_statuses() == [status]
            writer.commit(labels=ROOT)
        with pytest.raises(IngestNotFoundError, match="no ingest 'c1'"):
            again().status("c1")

    def test_a_digest_is_that_of_the_algorithm_that_was_announced(self, store: Store) -> None:
        data, digest = content(100, "sha512")
        with store.writer("c", None, digest) as writer:
            writer.write(data)
            assert writer.digest() == digest

    def test_a_blob_can_be_committed_under_another_algorithm_than_was_announced(self, store: Store) -> None:
        data, digest = content(100)
        longer = Digest.of(data, "sha512")
        with store.writer("c", None, digest) as writer:
            writer.write(data)
            assert writer.commit(digest=longer).digest == longer
        assert [info.digest for info in store.walk()] == [longer]

    @pytest.mark.parametrize("given", [True, False], ids=["with its digest", "without"])
    def test_a_blob_that_is_there_is_not_committed_again(self, store: Store, given: bool) -> None:
        data, digest = content(256)
        put(store, data)
        with store.writer("again") as writer:
            writer.write(data)
            with pytest.raises(AlreadyExistsError, match=str(digest)):
                writer.commit(len(data), digest if given else None)
        assert store.list_statuses() == []

    def test_nobody_needs_to_begin_what_is_there(self, store: Store) -> None:
        digest = put(store, b"there")
        with pytest.raises(AlreadyExistsError, match=f"blob {digest} exists already"):
            store.writer("c", None, digest)
        assert store.list_statuses() == []

    def test_a_failed_commit_lets_go_of_the_reference_and_keeps_what_was_written(self, store: Store) -> None:
        """containerd's CommitErrorState: there already, wrong digest, wrong size, success, there already."""
        data, digest = content(256)
        _, other = content(256)
        put(store, data)
        ref = "c"

        def begin() -> Writer:
            writer = store.writer(ref)
            in_use(store, ref)
            return writer

        for given in (digest, None):
            with begin() as writer:
                writer.write(data)
                with pytest.raises(AlreadyExistsError):
                    writer.commit(len(data), given)
        longer = data + b"more"
        with begin() as writer:
            writer.write(longer)
            with pytest.raises(DigestMismatchError) as wrong:
                writer.commit(len(longer), other)
        assert (wrong.value.expected, wrong.value.actual) == (str(other), str(Digest.of(longer)))
        with begin() as writer, pytest.raises(SizeMismatchError) as short:
            writer.commit(len(data))
        assert (short.value.expected, short.value.actual) == (len(data), len(longer))
        with begin() as writer:
            assert writer.commit(len(longer)).digest == Digest.of(longer)
        with begin() as writer:
            assert writer.status().offset == 0
            writer.write(data)
            with pytest.raises(AlreadyExistsError):
                writer.commit(len(data), digest)
        with begin():
            pass
        with begin():
            pass

    @pytest.mark.parametrize("size", [0, 3, 5])
    def test_as_many_bytes_as_were_announced_must_have_come(self, store: Store, size: int) -> None:
        with store.writer("c", size) as writer:
            writer.write(b"four")
            with pytest.raises(SizeMismatchError):
                writer.commit()
        assert list(store.walk()) == []

    def test_the_digest_that_was_announced_must_have_come(self, store: Store) -> None:
        with store.writer("c", 4, Digest.of(b"four")) as writer:
            writer.write(b"five")
            with pytest.raises(DigestMismatchError):
                writer.commit()
        assert store.status("c").offset == 4
        assert list(store.walk()) == []

    def test_after_its_end_a_writer_does_nothing(self, store: Store) -> None:
        writer = store.writer("c")
        writer.close()
        writer.close()
        for act in (
            lambda: writer.write(b"x"),
            lambda: writer.write_from(BytesReader(b"x")),
            writer.commit,
            writer.status,
            writer.truncate,
        ):
            with pytest.raises(ValueError, match="the writer of ingest 'c' is closed"):
                act()
        with store.writer("c") as writer:
            writer.commit()
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"x")

    @pytest.mark.parametrize("ref", ["", "x" * 4097, "\udc80"], ids=["empty", "too long", "no text"])
    def test_a_reference_is_a_text(self, store: Store, ref: str) -> None:
        with pytest.raises(UsageError, match="1 to 4096 bytes"):
            store.writer(ref)

    @pytest.mark.parametrize("ref", ["../../etc", "a/b", "\0", "\n", "ü" * 2048, "manifest-sha256:abc"])
    def test_a_reference_is_any_text(self, store: Store, again: Again, ref: str) -> None:
        with store.writer(ref) as writer:
            writer.write(b"x")
        assert again().status(ref).ref == ref
        assert [status.ref for status in again().list_statuses()] == [ref]

    def test_what_cannot_be_verified_is_not_begun(self, store: Store) -> None:
        odd = Digest.parse("blake3:" + "a" * 64)
        with pytest.raises(UnsupportedError, match="digest algorithm blake3"):
            store.writer("c", None, odd)
        with pytest.raises(UsageError, match="size of -1"):
            store.writer("c", -1)
        with store.writer("c") as writer:
            with pytest.raises(UnsupportedError):
                writer.commit(digest=odd)
            writer.commit()

    def test_a_label_that_cannot_be_kept_does_not_end_the_writer(self, store: Store) -> None:
        with store.writer("c") as writer:
            with pytest.raises(UsageError, match="longer than 4096 bytes"):
                writer.commit(labels={"k": "x" * 5000})
            writer.commit(labels={"k": "x" * 4095})

    # -- going on ------------------------------------------------------------------------------------------------------

    def test_an_ingest_is_gone_on_with(self, store: Store, again: Again) -> None:
        data, digest = content(256)
        with happening() as starting:
            writer = store.writer("cb", 256, digest)
        with writer:
            with happening() as writing:
                writer.write(data[:128])
            before = writer.status()
        with again().writer("cb", 256, digest) as writer:
            status = writer.status()
            assert status == before
            assert (status.offset, writer.digest()) == (128, Digest.of(data[:128]))
            assert starting(status.started)
            assert writing(status.updated)
            writer.write(data[128:])
            assert (writer.status().offset, writer.digest()) == (256, digest)
            with happening() as committing:
                info = writer.commit()
            assert committing(info.created)
        assert read(again(), digest) == data

    @pytest.mark.parametrize("how", ["truncate", "rest", "reader", "stream of a reader"])
    @pytest.mark.parametrize("size", [500, 5_000, 50_000])
    def test_an_ingest_is_gone_on_with_from_wherever_it_ended(
        self, store: Store, again: Again, size: int, how: str
    ) -> None:
        for part in (0.0, 0.1, 0.5, 0.9, 1.0):
            data, digest = content(size)
            cut = int(size * part)
            ref = f"{part}"
            with store.writer(ref, size, digest) as writer:
                writer.write(data[:cut])
            with again().writer(ref, size, digest) as writer:
                assert writer.status().offset == cut
                if how == "truncate":
                    writer.truncate()
                    for at in range(0, size, 1024):
                        writer.write(data[at : at + 1024])
                elif how == "rest":
                    for at in range(cut, size, 1024):
                        writer.write(data[at : at + 1024])
                else:
                    reader = BytesReader(data)
                    if how == "stream of a reader":
                        reader.seek(size // 3)
                    writer.write_from(reader)
                with happening() as committing:
                    info = writer.commit(size, digest)
            assert committing(info.created)
            assert read(again(), digest) == data

    @pytest.mark.parametrize(
        ("size", "digest", "kept"),
        [
            (10, Digest.of(b"x"), True),
            (None, None, True),
            (10, None, True),
            (11, None, False),
            (None, Digest.of(b"y"), False),
            (10, Digest.of(b"x", "sha512"), False),
            (3, None, False),
        ],
    )
    def test_what_contradicts_what_was_announced_starts_over(
        self, store: Store, again: Again, size: int | None, digest: Digest | None, kept: bool
    ) -> None:
        with store.writer("c", 10, Digest.of(b"x")) as writer:
            writer.write(b"12345")
        with again().writer("c", size, digest) as writer:
            status = writer.status()
            assert status.offset == (5 if kept else 0)
            assert status.total == (10 if size is None else size)
            assert status.expected == (digest or Digest.of(b"x"))

    def test_what_is_longer_than_it_should_become_starts_over(self, store: Store, again: Again) -> None:
        with store.writer("c") as writer:
            writer.write(b"12345")
        with again().writer("c", 4) as writer:
            assert writer.status().offset == 0

    def test_an_incomplete_write_is_recovered_from_by_starting_over(self, store: Store, again: Again) -> None:
        data, digest = content(1000)
        with store.writer("c", 1000, digest) as writer:
            writer.write(data[:400] + b"torn" * 50)
        with again().writer("c", 1000, digest) as writer:
            writer.write(data[600:])
            with pytest.raises(DigestMismatchError):
                writer.commit()
        with again().writer("c", 1000, digest) as writer:
            assert writer.status().offset == 1000
            writer.truncate(0)
            assert (writer.status().offset, writer.digest()) == (0, Digest.of(b""))
            writer.write(data)
            writer.commit()
        assert read(again(), digest) == data

    def test_an_ingest_is_cut_to_nothing_or_not_at_all(self, store: Store) -> None:
        with store.writer("c") as writer:
            writer.write(b"12345")
            with pytest.raises(UsageError, match="truncated to 0, not to 3"):
                writer.truncate(3)
            assert writer.status().offset == 5

    def test_progress_is_told(self, store: Store) -> None:
        told: list[int] = []
        data = bytes(3 << 20)
        with store.writer("c") as writer:
            writer.write(data[: 1 << 20])
            writer.write_from(BytesReader(data), told.append)
        assert told == sorted(told)
        assert told[-1] == len(data)

    # -- one writer a reference ----------------------------------------------------------------------------------------

    def test_a_second_writer_is_refused(self, store: Store, again: Again) -> None:
        with store.writer("c") as writer:
            in_use(store, "c")
            in_use(again(), "c")
            with pytest.raises(LockedError):
                again().abort("c")
            with again().writer("other"):
                pass
            writer.write(b"x")
        with again().writer("c") as writer:
            assert writer.status().offset == 1

    @pytest.mark.parametrize("end", ["close", "commit", "abort"])
    def test_a_second_writer_waits_for_the_first(self, store: Store, again: Again, end: str) -> None:
        first = store.writer("c")
        first.write(b"x")
        told = threading.Event()
        found: list[int] = []

        def second() -> None:
            with again().writer("c", wait=30, on_wait=lambda _holder: told.set()) as writer:
                found.append(writer.status().offset)

        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(30)
        if end == "commit":
            first.commit()
        first.close()
        if end == "abort":
            thread.join(30)
            again().abort("c")
        thread.join(30)
        assert found == [0 if end == "commit" else 1]

    def test_who_waited_for_the_same_blob_finds_it(self, store: Store, again: Again) -> None:
        data, digest = content(10)
        first = store.writer("c", 10, digest)
        told = threading.Event()
        failures: list[Exception] = []

        def second() -> None:
            try:
                again().writer("c", 10, digest, wait=30, on_wait=lambda _holder: told.set())
            except AlreadyExistsError as error:
                failures.append(error)

        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(30)
        first.write(data)
        first.commit()
        thread.join(30)
        assert [type(error) for error in failures] == [AlreadyExistsError]
        assert store.list_statuses() == []

    def test_who_has_waited_long_enough_is_refused(self, store: Store, again: Again) -> None:
        with store.writer("c"):
            began = time.monotonic()
            with pytest.raises(LockedError):
                again().writer("c", wait=0.1)
            assert time.monotonic() - began >= 0.1

    def test_many_write_at_once(self, store: Store, again: Again) -> None:
        blobs = [content(10_000) for _ in range(16)]

        def write(at: int) -> None:
            data, digest = blobs[at // 2]
            try:
                with again().writer(f"c{at // 2}", len(data), digest, wait=60) as writer:
                    writer.write(data[writer.status().offset :])
                    writer.commit()
            except AlreadyExistsError:
                pass

        threads = [threading.Thread(target=write, args=(at,)) for at in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert {info.digest for info in store.walk()} == {digest for _, digest in blobs}
        assert store.list_statuses() == []

    # -- statuses ------------------------------------------------------------------------------------------------------

    def test_ingests_are_listed_by_reference(self, store: Store, again: Again) -> None:
        for ref in ("b-2", "a", "b-1"):
            with store.writer(ref) as writer:
                writer.write(ref.encode())

        def refs(*selection: str) -> list[str]:
            return [status.ref for status in again().list_statuses(*selection)]

        assert refs() == ["a", "b-1", "b-2"]
        assert refs("ref==a") == ["a"]
        assert refs("ref~=^b-") == ["b-1", "b-2"]
        assert refs("ref==a", "ref==b-2") == ["a", "b-2"]
        with pytest.raises(UsageError, match="no field 'name'"):
            refs("name==a")

    def test_an_ingest_is_thrown_away(self, store: Store, again: Again) -> None:
        with store.writer("c", 10, Digest.of(b"x")) as writer:
            writer.write(b"12345")
        again().abort("c")
        assert store.list_statuses() == []
        for act in (store.abort, store.status):
            with pytest.raises(IngestNotFoundError, match="no ingest 'c'"):
                act("c")
        with store.writer("c") as writer:
            found: Status = writer.status()
            assert (found.offset, found.total, found.expected) == (0, None, None)

    # -- blobs ---------------------------------------------------------------------------------------------------------

    def test_a_blob_is_read_in_any_order(self, store: Store) -> None:
        digest = put(store, b"foobar")
        with store.reader(digest) as reader:
            assert reader.size == 6
            assert (reader.read(3), reader.read(100), reader.read(1)) == (b"foo", b"bar", b"")
            assert reader.seek(1) == 1
            assert reader.read(2) == b"oo"
            assert reader.pread(3, 3) == b"bar"
            assert reader.pread(100, 4) == b"ar"
            assert reader.pread(1, 6) == b""
            assert reader.tell() == 3
            assert reader.seek(-1, io.SEEK_END) == 5
            assert reader.read() == b"r"
        with pytest.raises(ValueError, match="closed"):
            reader.read()

    def test_a_reader_compares_the_size_with_the_descriptor(self, store: Store) -> None:
        digest = put(store, b"foobar")
        with store.reader(Descriptor(media_type="a/b", digest=digest, size=6)) as reader:
            assert reader.read() == b"foobar"
        with pytest.raises(SizeMismatchError, match="expected 7 bytes, actual 6 bytes"):
            store.reader(Descriptor(media_type="a/b", digest=digest, size=7))

    def test_what_is_embedded_in_a_descriptor_is_verified_and_used(self, store: Store) -> None:
        descriptor = Descriptor(media_type="a/b", digest=Digest.of(b"here"), size=4, data=b"here")
        with store.reader(descriptor) as reader:
            assert reader.read() == b"here"
        assert store.document(descriptor) == b"here"
        with pytest.raises(DigestMismatchError):
            store.reader(descriptor.changed(data=b"fake"))

    def test_a_verified_read(self, store: Store) -> None:
        descriptor = Descriptor(media_type="a/b", digest=put(store, b"foobar"), size=6)
        assert store.document(descriptor) == b"foobar"
        with store.blob(descriptor) as blob:
            blob.drain()
            assert blob.done == 6

    def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        _, digest = content(10)
        for act in (
            lambda: store.info(digest),
            lambda: store.reader(digest),
            lambda: store.delete(digest),
            lambda: store.blob(Descriptor(media_type="a/b", digest=digest, size=10)),
        ):
            with pytest.raises(BlobNotFoundError, match=f"blob {digest} is not in the") as raised:
                act()
            assert raised.value.digest == str(digest)

    def test_a_deleted_blob_is_gone_with_its_labels(self, store: Store, again: Again) -> None:
        digest = put(store, b"gone", {"k": "v"})
        other = put(store, b"stays", {"k": "v"})
        again().delete(digest)
        with pytest.raises(BlobNotFoundError):
            store.info(digest)
        assert [info.digest for info in store.walk()] == [other]
        put(store, b"gone")
        assert store.info(digest).labels == {}

    def test_blobs_are_walked_in_the_order_of_their_digests(self, store: Store, again: Again) -> None:
        assert list(store.walk()) == []
        digests = [put(store, content(size)[0]) for size in range(1, 80)]
        digests.append(put(store, b"longer", algorithm="sha512"))
        found = list(again().walk())
        assert [info.digest for info in found] == sorted(digests, key=str)
        assert sum(info.size for info in found) == sum(range(80)) + 6
        assert found == [store.info(info.digest) for info in found]

    def test_a_walk_selects_by_digest_size_and_labels(self, store: Store) -> None:
        one = put(store, b"1", {"color": "red", "containerd.io/uncompressed": "sha256:x", "a.b": "dotted"})
        two = put(store, b"22", {"color": "blue"})
        three = put(store, b"333", {})

        def digests(*selection: str) -> set[Digest]:
            return {info.digest for info in store.walk(*selection)}

        assert digests("") == {one, two, three}
        assert digests(f"digest=={two}") == {two}
        assert digests(f"digest!={two}") == {one, three}
        assert digests("digest~=^sha512:") == set()
        assert digests("size==2") == {two}
        assert digests("size>1") == {two, three}
        assert digests("size>=1,size<3") == {one, two}
        assert digests("labels.color") == {one, two}
        assert digests("labels.color==red") == {one}
        assert digests("labels.color!=red") == {two, three}
        assert digests("labels.color~=^b") == {two}
        assert digests("labels.a.b==dotted") == {one}
        assert digests('labels."containerd.io/uncompressed"==sha256:x') == {one}
        assert digests("labels.color,size==2") == {two}
        assert digests("labels.color==red", "size==3") == {one, three}

    @pytest.mark.parametrize("selection", ["name==x", "size>x", "labels", "digest=="])
    def test_a_selection_that_cannot_be_read_is_refused_at_once(self, store: Store, selection: str) -> None:
        with pytest.raises(UsageError, match=r"^filter"):
            store.walk(selection)

    # -- labels --------------------------------------------------------------------------------------------------------

    def test_labels_are_replaced_and_changed(self, store: Store, again: Again) -> None:
        digest = put(store, b"x", {"k1": "v1", "k2": "v2", **ROOT})
        created = store.info(digest).created
        time.sleep(0.02)

        info = store.info(digest)
        with happening() as updating:
            updated = store.update(info.changed(labels={"k1": "new", "k3": "v3", **ROOT}))
        assert updated == again().info(digest)
        assert updated.labels == {"k1": "new", "k3": "v3", **ROOT}
        assert updated.created == created
        assert updating(updated.updated)

        info = info.changed(labels={"k1": "v1", "unmentioned": "x"})
        assert store.update(info, "labels.k3", "labels.k1").labels == {"k1": "v1", **ROOT}
        assert store.update(info.changed(labels={"k1": ""}), "labels.k1").labels == ROOT
        assert store.update(info.changed(labels={"k": "v"}), "labels").labels == {"k": "v"}
        assert again().update(info.changed(labels={})).labels == {}
        assert store.info(digest).labels == {}

    @pytest.mark.parametrize("path", ["size", "digest", "created", "labels.", "Labels", ""])
    def test_nothing_else_of_a_blob_can_be_updated(self, store: Store, path: str) -> None:
        info = store.info(put(store, b"x", {"k": "v"}))
        with pytest.raises(UsageError, match=f"field path '{path}' cannot be updated"):
            store.update(info.changed(labels={"k": "new"}), "labels.k", path)
        assert store.info(info.digest).labels == {"k": "v"}

    def test_labels_have_a_longest_length(self, store: Store) -> None:
        info = store.info(put(store, b"x", {"k": "v"}))
        with pytest.raises(UsageError, match="longer than 4096 bytes"):
            store.update(info.changed(labels={"a": "x" * 4096}))
        assert store.update(info.changed(labels={"a": "x" * 4095})).labels == {"a": "x" * 4095}

    def test_only_a_blob_has_labels(self, store: Store) -> None:
        info = store.info(put(store, b"x"))
        store.delete(info.digest)
        with pytest.raises(BlobNotFoundError):
            store.update(info.changed(labels={"k": "v"}))

    # -- names ---------------------------------------------------------------------------------------------------------

    def test_images_have_names(self, store: Store, again: Again) -> None:
        assert store.names.all() == {}
        one, two = (described(put(store, data)) for data in (b"1", b"2"))
        store.names.add("v1", one)
        store.names.add("library/debian:12", two.changed(annotations={"x": "y"}))
        store.names.add("latest", one)

        found = again().names.all()
        assert {name: [each.digest for each in them] for name, them in found.items()} == {
            "v1": [one.digest],
            "library/debian:12": [two.digest],
            "latest": [one.digest],
        }
        assert found["library/debian:12"][0].annotations["x"] == "y"
        assert [each.digest for each in again().index().manifests] == [one.digest, two.digest, one.digest]

    def test_a_name_that_is_taken_is_replaced_on_request_only(self, store: Store) -> None:
        one, two = (described(put(store, data)) for data in (b"1", b"2"))
        store.names.add("v1", one)
        store.names.add("v2", two)
        store.names.add("v1", one)
        with pytest.raises(AlreadyExistsError, match="the name 'v1' exists already"):
            store.names.add("v1", two)
        store.names.add("v1", two, replace=True)
        assert [each.digest for each in store.index().manifests] == [two.digest, two.digest]

    def test_one_name_may_stand_for_several_platforms(self, store: Store) -> None:
        one, two, three = (described(put(store, data)) for data in (b"1", b"2", b"3"))
        store.names.add("v1", one, two)
        store.names.add("v1", two, one)
        assert [each.digest for each in store.names.all()["v1"]] == [one.digest, two.digest]
        with pytest.raises(AlreadyExistsError):
            store.names.add("v1", one)
        store.names.add("v1", three, replace=True)
        assert [each.digest for each in store.index().manifests] == [three.digest]

    def test_an_image_may_have_no_name(self, store: Store) -> None:
        one = described(put(store, b"1"))
        store.names.add(None, one)
        store.names.add(None, one)
        assert [each.digest for each in store.index().manifests] == [one.digest]
        assert store.names.all() == {}

    def test_a_name_is_taken_away_and_the_blob_stays(self, store: Store, again: Again) -> None:
        one = described(put(store, b"1"))
        store.names.add("v1", one)
        store.names.add("v2", one)
        assert [each.digest for each in again().names.remove("v1")] == [one.digest]
        assert set(store.names.all()) == {"v2"}
        assert store.info(one.digest).size == 1
        with pytest.raises(ReferenceNotFoundError, match="no image 'v1'") as raised:
            store.names.remove("v1")
        assert raised.value.available == ("v2",)

    def test_the_whole_name_is_a_name_and_a_short_one_may_mean_several_images(self, store: Store) -> None:
        """``docker save`` writes ref.name ``latest`` for a:latest and for b:latest."""
        for data, whole in ((b"1", "docker.io/a:latest"), (b"2", "docker.io/b:latest")):
            annotations = {"io.containerd.image.name": whole, "org.opencontainers.image.ref.name": "latest"}
            store.names.add(None, described(put(store, data)).changed(annotations=annotations))
        with pytest.raises(AmbiguousReferenceError) as raised:
            store.names.remove("latest")
        assert raised.value.available == ("docker.io/a:latest", "docker.io/b:latest")
        with pytest.raises(AmbiguousReferenceError):
            store.names.add("latest", described(put(store, b"3")), replace=True)
        store.names.remove("docker.io/a:latest")
        assert [each.digest for each in store.names.remove("latest")] == [Digest.of(b"2")]

    @pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "-a", "a-", "x" * 4097, "ü", "a@"])
    def test_what_is_no_name_is_refused(self, store: Store, name: str) -> None:
        with pytest.raises(UsageError, match="is no name for an image"):
            store.names.add(name, described(Digest.of(b"1")))

    def test_an_image_keeps_an_odd_name_that_it_has(self, store: Store) -> None:
        odd = described(Digest.of(b"1")).changed(annotations={"org.opencontainers.image.ref.name": "a b"})
        store.names.add("a b", odd)
        assert set(store.names.all()) == {"a b"}

    @pytest.mark.parametrize("name", ["a", "v1.0--rc+1", "docker.io/library/a__b:latest@sha256:abc", "A/B/c"])
    def test_names(self, store: Store, name: str) -> None:
        store.names.add(name, described(Digest.of(b"1")))
        assert set(store.names.all()) == {name}


def described(digest: Digest) -> Descriptor:
    return Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=digest, size=1)
