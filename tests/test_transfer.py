"""Images from store to store: whole, verified, named last, and nothing twice."""

from __future__ import annotations

import json
import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import LayoutBuilder, write_layout
from tests.support.tarbuild import file, layer
from unpacker.content.disk import ContentStore
from unpacker.content.memory import MemoryStore
from unpacker.errors import (
    AlreadyExistsError,
    AmbiguousReferenceError,
    BlobNotFoundError,
    DigestMismatchError,
    DocumentError,
    LimitError,
    PlatformNotFoundError,
    ReferenceNotFoundError,
    SizeMismatchError,
    UsageError,
)
from unpacker.events import BlobDone, BlobProgress, BlobStarted, CopyPlanned, CopyReport
from unpacker.limits import Limits
from unpacker.resolve import Reference, resolve
from unpacker.spec.digest import Digest
from unpacker.spec.platforms import Platform
from unpacker.transfer import copy_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unpacker.content.store import Store
    from unpacker.events import CopyEvent

SMALL = layer(file("a", b"small"))
MIDDLE = layer(file("b", bytes(range(256)) * 40))
LARGE = layer(file("c", b"".join(number.to_bytes(4, "big") for number in range(1 << 19))))
AMD64, ARM64 = (Platform.parse(name) for name in ("linux/amd64", "linux/arm64"))


@pytest.fixture
def built(tmp_path: Path) -> LayoutBuilder:
    return LayoutBuilder(tmp_path / "source")


@pytest.fixture
def source(built: LayoutBuilder) -> ContentStore:
    return ContentStore(built.path)


@pytest.fixture(params=["disk", "memory"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else ContentStore(tmp_path / "target", create=True)


def digests(store: Store) -> set[str]:
    return {str(info.digest) for info in store.walk()}


def listening(kind: type, heard: list[CopyEvent]) -> Callable[[CopyEvent], None]:
    return lambda event: heard.append(event) if isinstance(event, kind) else None


# -- what is copied ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("docker", [True, False], ids=["docker", "oci"])
def test_an_image_arrives_whole(tmp_path: Path, target: Store, algorithm: str, docker: bool) -> None:
    built = write_layout(tmp_path / "source", [SMALL, MIDDLE], docker=docker, algorithm=algorithm, tag="v1")
    source = ContentStore(built.path)

    report = copy_image(source, target, "v1")

    assert digests(target) == digests(source)
    there = resolve(target, Reference("", tag="v1"), AMD64)
    assert there == resolve(source, Reference("", tag="v1"), AMD64)
    for info in source.walk():
        with source.reader(info.digest) as ours, target.reader(info.digest) as theirs:
            assert theirs.read() == ours.read()
    size = sum(info.size for info in source.walk())
    assert report == CopyReport(
        name="v1",
        targets=(built.images[0].digest,),
        copied=4,
        copied_bytes=size,
        seconds=report.seconds,
    )
    assert report.seconds > 0


def test_what_the_target_has_is_not_copied_again(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    base = built.layer(MIDDLE)
    built.name(built.image([base]), "v1")
    built.name(built.image([base, SMALL]), "v2")
    copy_image(source, target, "v1")

    heard: list[CopyEvent] = []
    report = copy_image(source, target, "v2", on_event=listening(BlobDone, heard))

    assert (report.copied, report.shared, report.shared_bytes) == (3, 1, len(base.blob))
    assert [event for event in heard if isinstance(event, BlobDone) and event.shared] == [
        BlobDone(digest=base.digest, size=len(base.blob), shared=True)
    ]
    again = copy_image(source, target, "v2")
    assert (again.copied, again.copied_bytes, again.shared) == (0, 0, 4)
    assert set(target.names.all()) == {"v1", "v2"}


def test_the_name_comes_last(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    """Whoever finds a name in the target finds the whole image."""
    image = built.image([SMALL, MIDDLE])
    built.name(image, "v1")

    order: list[str] = []

    def done(event: CopyEvent) -> None:
        assert target.names.all() == {}
        if isinstance(event, BlobDone):
            order.append(event.digest)

    copy_image(source, target, "v1", on_event=done)
    assert order == [*(each.digest for each in image.layers), image.config_digest, image.digest]


def test_what_is_going_to_happen_is_told(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    built.name(built.image([SMALL, LARGE], "none"), "v1")
    heard: list[CopyEvent] = []

    report = copy_image(source, target, "v1", on_event=heard.append)

    planned = heard[0]
    assert isinstance(planned, CopyPlanned)
    assert (planned.name, planned.blobs, planned.size) == ("v1", report.copied, report.copied_bytes)
    started = [event.digest for event in heard if isinstance(event, BlobStarted)]
    assert started == [event.digest for event in heard if isinstance(event, BlobDone)]
    for event in heard:
        if isinstance(event, BlobDone):
            progress = [each.done for each in heard if isinstance(each, BlobProgress) and each.digest == event.digest]
            assert progress[-1] == event.size
            assert progress == sorted(progress)


def test_layers_named_twice_are_copied_once(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    twice = built.layer(SMALL)
    built.name(built.image([twice, twice]))
    assert copy_image(source, target).copied == 3


def test_what_is_embedded_becomes_a_blob(tmp_path: Path, target: Store) -> None:
    built = write_layout(tmp_path / "source", [SMALL], embed=("config", "manifest", "layers"))
    source = ContentStore(built.path)
    assert digests(source) == set()

    copy_image(source, target)

    image = built.images[0]
    assert digests(target) == {image.digest, image.config_digest, image.layers[0].digest}


def test_labels_stay_where_they_are(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    """The target must not believe what somebody wrote into a directory that came along."""
    image = built.image([SMALL])
    built.name(image)
    digest = Digest.parse(image.layers[0].digest)
    source.labels.set(digest, {"containerd.io/uncompressed": "sha256:" + "0" * 64, "containerd.io/gc.root": "x"})

    copy_image(source, target)

    assert target.info(digest).labels == {}


# -- platforms ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(built: LayoutBuilder) -> LayoutBuilder:
    """Make an index of two platforms, one of them in an index of its own, with an attestation and an odd blob."""
    amd64 = built.image([SMALL])
    arm64 = built.image([MIDDLE], platform="linux/arm64")
    attestation = built.image([layer(file("statement"))], platform="unknown/unknown")
    note = built.blob("text/plain", b"note")
    built.name(built.index(amd64, built.index(arm64), attestation, note), "v1")
    return built


def index_of(built: LayoutBuilder) -> str:
    return str(built.top["manifests"][0]["digest"])


def test_one_platform_comes_with_the_whole_index(many: LayoutBuilder, source: ContentStore, target: Store) -> None:
    arm64 = many.images[1]

    report = copy_image(source, target, "v1", "linux/arm64")

    indexes = {index_of(many), str(json.loads(many.blob_path(index_of(many)).read_bytes())["manifests"][1]["digest"])}
    assert digests(target) == {arm64.digest, arm64.config_digest, arm64.layers[0].digest, *indexes}
    assert report.targets == (index_of(many),)
    there = resolve(target, Reference("", tag="v1"), ARM64)
    assert str(there.manifest_descriptor.digest) == arm64.digest
    with pytest.raises(BlobNotFoundError):
        resolve(target, Reference("", tag="v1"), AMD64)


def test_a_second_platform_completes_the_first(many: LayoutBuilder, source: ContentStore, target: Store) -> None:
    copy_image(source, target, "v1", ARM64)
    report = copy_image(source, target, "v1", AMD64)
    assert (report.copied, report.shared) == (3, 2)
    assert resolve(target, Reference("", tag="v1"), AMD64).platform == AMD64
    assert resolve(target, Reference("", tag="v1"), ARM64).platform == ARM64
    assert len(target.index().manifests) == 1


def test_all_platforms_come_with_all_that_is_in_the_index(
    many: LayoutBuilder, source: ContentStore, target: Store
) -> None:
    report = copy_image(source, target, "v1", "all")
    assert digests(target) == digests(source)
    assert report.absent == ()


@pytest.mark.parametrize("missing", ["manifest", "nested index", "odd blob"])
def test_what_is_missing_is_skipped_on_request_only(
    many: LayoutBuilder, source: ContentStore, target: Store, missing: str
) -> None:
    index = json.loads(many.blob_path(index_of(many)).read_bytes())
    gone = index["manifests"][{"manifest": 0, "nested index": 1, "odd blob": 3}[missing]]["digest"]
    many.remove(gone)

    with pytest.raises(BlobNotFoundError, match=gone):
        copy_image(source, target, "v1", "all")
    assert digests(target) == set()
    report = copy_image(source, target, "v1", "all", skip_missing=True)
    assert report.absent == (gone,)
    assert digests(target) < digests(source) | {gone}


def test_what_is_missing_of_other_platforms_is_no_matter(
    many: LayoutBuilder, source: ContentStore, target: Store
) -> None:
    many.remove(many.images[0].layers[0].digest)
    many.remove(many.images[0].digest)
    copy_image(source, target, "v1", "linux/arm64")
    assert resolve(target, Reference("", tag="v1"), ARM64).platform == ARM64


def test_the_layers_of_a_manifest_that_is_there_must_be_there(
    many: LayoutBuilder, source: ContentStore, target: Store
) -> None:
    many.remove(many.images[0].layers[0].digest)
    with pytest.raises(BlobNotFoundError, match=many.images[0].layers[0].digest):
        copy_image(source, target, "v1", "all", skip_missing=True)
    assert target.names.all() == {}
    assert target.list_statuses() == []


def test_a_name_of_several_platforms_comes_whole_or_in_part(
    built: LayoutBuilder, source: ContentStore, target: Store
) -> None:
    """index.json itself may list the platforms of one name."""
    built.name(built.image([SMALL]), "v1")
    built.name(built.image([MIDDLE], platform="linux/arm64"), "v1")
    copy_image(source, target, "v1", "linux/arm64", "arm")
    assert [each.platform for each in target.names.all()["arm"]] == [ARM64]
    report = copy_image(source, target, "v1", "all")
    assert len(report.targets) == 2
    assert resolve(target, Reference("", tag="v1"), AMD64).platform == AMD64


def test_a_platform_that_is_not_there(many: LayoutBuilder, source: ContentStore, target: Store) -> None:
    with pytest.raises(PlatformNotFoundError):
        copy_image(source, target, "v1", "linux/s390x")
    assert digests(target) == set()


# -- names -------------------------------------------------------------------------------------------------------------


def test_an_image_is_called_as_it_was_or_as_asked_for(
    built: LayoutBuilder, source: ContentStore, target: Store
) -> None:
    image = built.image([SMALL])
    built.name(image, "v1")
    assert copy_image(source, target).name == "v1"
    assert copy_image(source, target, name="v2").name == "v2"
    assert copy_image(source, target, f"@{image.digest}").name is None
    assert copy_image(source, target, f"@{image.digest}", name="v3").name == "v3"
    assert copy_image(source, target, f"v1@{image.digest}", name="v4").name == "v4"
    assert copy_image(source, target, Reference("ignored", tag="v1"), name="v5").name == "v5"
    assert set(target.names.all()) == {"v1", "v2", "v3", "v4", "v5"}


def test_an_image_without_a_name_comes_without_a_name(
    built: LayoutBuilder, source: ContentStore, target: Store
) -> None:
    built.name(built.image([SMALL]), None)
    assert copy_image(source, target).name is None
    assert copy_image(source, target).shared == 3
    assert len(target.index().manifests) == 1


def test_the_whole_name_that_containerd_wrote_stays(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    descriptor = dict(built.image([SMALL]).descriptor)
    descriptor["annotations"] = {"io.containerd.image.name": "docker.io/library/a:latest", "x": "y"}
    built.name(descriptor, "latest")
    copy_image(source, target, "docker.io/library/a:latest")
    assert set(target.names.all()) == {"docker.io/library/a:latest", "latest"}
    copy_image(source, target, "latest", name="mine")
    assert [each.annotations for each in target.names.all()["mine"]] == [
        {"x": "y", "org.opencontainers.image.ref.name": "mine"}
    ]


def test_a_name_that_is_taken_stops_it_before_anything_is_copied(
    built: LayoutBuilder, source: ContentStore, target: Store
) -> None:
    one, two = built.image([SMALL]), built.image([MIDDLE])
    built.name(one, "v1")
    built.name(two, "v2")
    copy_image(source, target, "v1")
    before = digests(target)

    with pytest.raises(AlreadyExistsError, match="the name 'v1' exists already"):
        copy_image(source, target, "v2", name="v1")
    assert digests(target) == before
    copy_image(source, target, "v2", name="v1", replace=True)
    assert [str(each.digest) for each in target.names.all()["v1"]] == [two.digest]


@pytest.mark.parametrize("name", ["a b", "-a"])
def test_what_is_no_name_stops_it_before_anything_is_copied(
    built: LayoutBuilder, source: ContentStore, target: Store, name: str
) -> None:
    built.name(built.image([SMALL]))
    with pytest.raises(UsageError, match="is no name"):
        copy_image(source, target, name=name)
    assert digests(target) == set()


def test_a_copy_within_one_store_is_another_name(built: LayoutBuilder, source: ContentStore) -> None:
    built.name(built.image([SMALL]), "v1")
    report = copy_image(source, source, "v1", name="v2")
    assert (report.copied, report.shared) == (0, 3)
    assert set(source.names.all()) == {"v1", "v2"}


def test_no_image_and_too_many(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    with pytest.raises(ReferenceNotFoundError):
        copy_image(source, target)
    built.name(built.image([SMALL]), "v1")
    built.name(built.image([MIDDLE]), "v2")
    with pytest.raises(AmbiguousReferenceError):
        copy_image(source, target)
    with pytest.raises(ReferenceNotFoundError):
        copy_image(source, target, "v3")


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "truncate", "extend"])
@pytest.mark.parametrize("which", ["layer", "config", "manifest"])
def test_a_damaged_blob_never_arrives(
    built: LayoutBuilder, source: ContentStore, target: Store, which: str, damage: str
) -> None:
    image = built.image([SMALL, MIDDLE])
    built.name(image)
    digest = {"layer": image.layers[0].digest, "config": image.config_digest, "manifest": image.digest}[which]
    getattr(built, damage)(digest)

    with pytest.raises((DigestMismatchError, SizeMismatchError), match=digest):
        copy_image(source, target, platform="all")

    assert digest not in digests(target)
    assert target.names.all() == {}
    assert target.list_statuses() == []


def test_an_index_that_is_a_manifest_is_refused(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    image = built.image([SMALL])
    built.name({**image.descriptor, "mediaType": built.types["index"]})
    with pytest.raises(DocumentError, match="mediaType"):
        copy_image(source, target, platform="all")


def test_indexes_have_limits(built: LayoutBuilder, source: ContentStore, target: Store) -> None:
    inner = built.index(built.image([SMALL]))
    for _ in range(3):
        inner = built.index(inner)
    built.name(inner)
    copy_image(source, target, platform="all", limits=Limits(index_depth=4))
    with pytest.raises(LimitError, match="indexes inside indexes"):
        copy_image(source, target, platform="all", limits=Limits(index_depth=3))
    built.name(built.index(*built.images * 20), "wide")
    with pytest.raises(LimitError, match="descriptors"):
        copy_image(source, target, "wide", "all", limits=Limits(index_manifests=20))


# -- interrupted, and side by side -------------------------------------------------------------------------------------


class StopError(Exception):
    """Stops a copy somewhere."""


def test_an_interrupted_copy_is_gone_on_with(tmp_path: Path, target: Store) -> None:
    built = write_layout(tmp_path / "source", [LARGE], compression="none")
    source = ContentStore(built.path)

    def stop(event: CopyEvent) -> None:
        if isinstance(event, BlobProgress) and event.done >= 1 << 20:
            raise StopError

    with pytest.raises(StopError):
        copy_image(source, target, on_event=stop)
    digest = built.images[0].layers[0].digest
    [status] = target.list_statuses()
    assert (status.ref, str(status.expected)) == (f"copy {digest}", digest)
    assert status.offset >= 1 << 20

    heard: list[CopyEvent] = []
    copy_image(source, target, on_event=listening(BlobProgress, heard))
    assert not any(
        event.done <= 1 << 20 for event in heard if isinstance(event, BlobProgress) and event.digest == digest
    )
    assert digests(target) == digests(source)
    assert target.list_statuses() == []


def test_what_a_power_cut_spoilt_is_copied_from_the_start(tmp_path: Path, target: Store) -> None:
    """After one, the end of what was written may read as zeros, at its full length."""
    built = write_layout(tmp_path / "source", [LARGE], compression="none")
    layer = built.images[0].layers[0]
    with target.writer(f"copy {layer.digest}", len(layer.blob), Digest.parse(layer.digest)) as writer:
        writer.write(layer.blob[:1000] + bytes(1000))

    copy_image(ContentStore(built.path), target)

    assert layer.digest in digests(target)
    with target.reader(Digest.parse(layer.digest)) as reader:
        assert reader.read() == layer.blob


def copy_and_count(source: Path, target: Path, counts: multiprocessing.queues.Queue[tuple[int, int]]) -> None:
    report = copy_image(ContentStore(source), ContentStore(target, create=True), platform="all")
    counts.put((report.copied, report.shared))


def test_side_by_side_each_blob_is_copied_once(tmp_path: Path) -> None:
    built = write_layout(tmp_path / "source", [LARGE, MIDDLE, SMALL], compression="none")
    context = multiprocessing.get_context("spawn")
    counts = context.Queue()
    processes = [
        context.Process(target=copy_and_count, args=(built.path, tmp_path / "target", counts)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    found = [counts.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sum(copied for copied, _ in found) == 5
    assert sum(shared for _, shared in found) == 15
    target = ContentStore(tmp_path / "target")
    assert digests(target) == digests(ContentStore(built.path))
    assert len(target.index().manifests) == 1
    assert target.list_statuses() == []
    assert os.listdir(tmp_path / "target/ingest") == []
