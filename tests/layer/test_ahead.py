"""Layers staged side by side: the same tree, the same events and errors as one after the other, and nobody left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.model.strategies import Stack, fit_for, stacks
from tests.support.forks import counted_forks
from tests.support.layoutbuild import write_layout
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr
from tests.support.tarbuild import Entry, char, directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import diff, files_below, read
from tests.unpack.command import environment, listing
from unpacker import child
from unpacker.archive.pieces import CHUNK
from unpacker.errors import UnpackError
from unpacker.events import Event, LayerApplied, LayerProgress, LayerStarted, Lost, Warned
from unpacker.layer import ahead, apply, packed
from unpacker.layer.batch import Batch
from unpacker.limits import DEFAULT
from unpacker.resolve import Layer
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.layoutbuild import LayoutBuilder
    from unpacker.content.layout import Layout
    from unpacker.layer.changes import Changes

FIXTURES = Path(__file__).parents[2] / "fixtures"
PATIENCE = 20.0

LAYERS: list[list[Entry]] = [
    [directory("usr/lib", mode=0o750, xattrs={"user.a": b"1"}), symlink("lib", "usr/lib"), file("etc/a", b"0")]
    + [file(f"d{number}/f", b"%d" % number) for number in range(30)],
    [file("lib/x", b"1"), whiteout("d1/f"), opaque("d2"), file("d2/new", b"2"), hardlink("d2/link", "d2/new")],
    [hardlink("y", "lib/x"), directory("d3", mode=0o500), char("dev/null", 1, 3), file("etc", b"now a file")],
    [
        file("/".join(["deep"] * 300) + "/f", b"4"),
        directory("etc"),
        file("etc/b", b"5"),
        file("odd", xattrs={"x": b"y"}),
    ],
]


ALONE = 1_000_000


@pytest.fixture(autouse=True)
def small_layers_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a process of its own."""
    if not child.may_fork():
        pytest.skip("this process has more threads than one")
    monkeypatch.setattr(ahead, "WORTH", 0)
    monkeypatch.setattr(ahead, "SHARES", ALONE)


@pytest.fixture
def in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let several layers share a process."""
    monkeypatch.setattr(ahead, "SHARES", 1)


@pytest.fixture(autouse=True)
def forks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """All processes that were forked; none of them, and no descriptor, is there after a test."""
    with counted_forks(monkeypatch) as pids:
        yield pids


@pytest.fixture
def built(tmp_path: Path) -> LayoutBuilder:
    return write_layout(tmp_path / "layout", [layer(*entries) for entries in LAYERS])


def outcome(layout: Path, dest: Path, **options: Any) -> tuple[object, list[str]]:
    """Unpack; give the report or what was refused, and the events but for progress, which is as it happens to be."""
    events: list[Event] = []
    result: object
    try:
        report = unpack(layout, dest, labels=False, on_event=events.append, **options)
    except (UnpackError, OSError) as error:
        assert not os.path.lexists(dest)
        result = (type(error), str(error), getattr(error, "__notes__", []))
    else:
        result = {**vars(report), "seconds": 0, "dest": ""}
    kept = [str(event) for event in events if isinstance(event, Lost | Warned | LayerApplied)]
    return result, sorted(kept)


@pytest.mark.parametrize("jobs", [2, 3, 9])
def test_it_makes_the_same_and_says_the_same(jobs: int, built: LayoutBuilder, tmp_path: Path, forks: list[int]) -> None:
    """Layers that must be staged again with the view, links into lower layers and losses among them."""
    alone = outcome(built.path, tmp_path / "alone", jobs=1)
    assert not forks

    together = outcome(built.path, tmp_path / "together", jobs=jobs)

    assert 1 < len(forks) <= len(LAYERS), "the caller may be faster"
    assert together == alone
    assert diff(read(tmp_path / "alone"), read(tmp_path / "together")) == []
    assert listing(tmp_path) == ["alone", "layout", "together"]


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir() if (path / "index.json").exists()))
def test_every_fixture_is_the_same(name: str, tmp_path: Path) -> None:
    options = {"platform": "linux/amd64"}
    alone = outcome(FIXTURES / name, tmp_path / "alone", jobs=1, **options)

    together = outcome(FIXTURES / name, tmp_path / "together", jobs=3, **options)

    assert together == alone
    assert diff(read(tmp_path / "alone"), read(tmp_path / "together")) == []


@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
@given(stack=stacks())
def test_any_stack_of_layers_is_the_same(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("any")
    fitted = fit_for([list(one) for one in stack], owners=can_chown(), devices=can_mknod(), xattrs=can_set_user_xattr())
    write_layout(place / "layout", [layer(*entries) for entries in fitted], compression="none")

    alone = outcome(place / "layout", place / "alone", jobs=1)
    for shares in (1, ALONE):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ahead, "SHARES", shares)
            together = outcome(place / "layout", place / f"together-{shares}", jobs=2)

        assert together == alone
        if (place / "alone").exists():
            assert diff(read(place / "alone"), read(place / f"together-{shares}")) == []


def test_each_layer_starts_before_it_proceeds_and_ends_complete(built: LayoutBuilder, tmp_path: Path) -> None:
    events: list[Event] = []

    unpack(built.path, tmp_path / "dest", labels=False, jobs=2, on_event=events.append)

    for number, stored in enumerate(built.images[0].layers):
        mine = [event for event in events if getattr(event, "index", None) == number]
        assert isinstance(mine[0], LayerStarted)
        assert isinstance(mine[-1], LayerApplied)
        progress = [event.done for event in mine if isinstance(event, LayerProgress)]
        assert progress == sorted(progress)
        assert progress[-1] == len(stored.blob)
    applied = [event.index for event in events if isinstance(event, LayerApplied)]
    assert applied == sorted(applied)


# -- several layers in one process -------------------------------------------------------------------------------------


def sized(*sizes: int) -> list[Layer]:
    digest = Digest.parse("sha256:" + 64 * "0")
    blobs = [Descriptor(media_type="layer", digest=digest, size=size) for size in sizes]
    return [Layer(index=index, descriptor=blob, diff_id=digest, chain_id=digest) for index, blob in enumerate(blobs)]


@pytest.mark.parametrize(
    ("sizes", "shares"),
    [
        ([], []),
        ([5], []),
        ([50], [[0]]),
        ([5, 4], []),
        ([5, 5], [[0, 1]]),
        ([20, 20, 20], [[0], [1], [2]]),
        ([20, 90, 20], [[1], [0], [2]]),
        ([20, 30, 90, 20], [[2], [0], [1], [3]]),
        ([20, 4, 4, 20, 4, 4], [[0], [3], [1, 2, 4]]),
        ([4, 4, 4, 4, 4, 4, 4], [[0, 1, 2], [3, 4, 5]]),
        ([500, 4, 60, 4, 70, 400], [[0], [1, 2, 3, 4], [5]]),
    ],
    ids=str,
)
def test_how_layers_are_shared_out(sizes: list[int], shares: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is worth ten bytes here, and small layers have to come to an eighth of all."""
    monkeypatch.setattr(ahead, "WORTH", 10)
    monkeypatch.setattr(ahead, "SHARES", 4)

    found = [[layer.index for layer in share] for share in ahead.batches(sized(*sizes), 2)]

    assert found == shares


@pytest.mark.usefixtures("in_batches")
@pytest.mark.parametrize("jobs", [2, 3])
def test_layers_that_share_a_process_are_the_same(
    jobs: int, built: LayoutBuilder, tmp_path: Path, forks: list[int]
) -> None:
    alone = outcome(built.path, tmp_path / "alone", jobs=1)

    together = outcome(built.path, tmp_path / "together", jobs=jobs)

    assert 0 < len(forks) < len(LAYERS)
    assert together == alone
    assert diff(read(tmp_path / "alone"), read(tmp_path / "together")) == []
    assert listing(tmp_path) == ["alone", "layout", "together"]


@pytest.mark.usefixtures("in_batches")
def test_many_layers_take_few_descriptors(tmp_path: Path, forks: list[int]) -> None:
    """None is open of a layer that waits."""
    built = write_layout(tmp_path / "layout", [layer(file(f"f{number}", b"x")) for number in range(100)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    try:
        unpack(built.path, tmp_path / "dest", labels=False, jobs=2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert len(forks) == 2
    assert len(listing(tmp_path / "dest")) == 100


def test_what_a_process_had_ready_before_it_failed_is_taken(
    tmp_path: Path, forks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = write_layout(tmp_path / "layout", [layer(file(f"f{number}", b"x")) for number in range(8)])
    alone = outcome(built.path, tmp_path / "alone", jobs=1)
    pack, packing, staging = packed.pack, iter(range(100)), []
    stage = apply.stage_layer

    def killed(*words: Any) -> packed.Packed:
        if next(packing) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return pack(*words)

    def in_parent(layout: Layout, layer: Layer, *words: Any, **options: Any) -> Changes:
        staging.append(layer.index)
        return stage(layout, layer, *words, **options)

    monkeypatch.setattr(ahead, "SHARES", 1)
    monkeypatch.setattr(packed, "pack", killed)
    monkeypatch.setattr(apply, "stage_layer", in_parent)

    assert outcome(built.path, tmp_path / "together", jobs=2) == alone
    assert len(forks) == 2
    assert staging == [2, 3, 6, 7]
    assert diff(read(tmp_path / "alone"), read(tmp_path / "together")) == []


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [1, ALONE])
@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_a_damaged_layer_is_the_same_error(
    number: int, shares: int, built: LayoutBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "SHARES", shares)
    built.flip(built.images[0].layers[number].digest)
    alone, _ = outcome(built.path, tmp_path / "alone", jobs=1)

    together, _ = outcome(built.path, tmp_path / "together", jobs=3)

    assert isinstance(alone, tuple)
    assert together == alone
    assert listing(tmp_path) == ["layout"]


@pytest.mark.parametrize("shares", [1, ALONE])
@pytest.mark.parametrize("limit", [{"entries": 20}, {"image_bytes": 40_000}, {"layer_bytes": 5000}, {"path_bytes": 99}])
def test_a_limit_is_the_same_error(
    limit: dict[str, int], shares: int, built: LayoutBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "SHARES", shares)
    limits = DEFAULT.changed(**limit)
    alone, _ = outcome(built.path, tmp_path / "alone", jobs=1, limits=limits)

    together, _ = outcome(built.path, tmp_path / "together", jobs=3, limits=limits)

    assert isinstance(alone, tuple)
    assert together == alone
    assert listing(tmp_path) == ["layout"]


def test_a_layer_that_needs_much_memory_is_staged_by_the_parent(tmp_path: Path, forks: list[int]) -> None:
    """A child has only its part of what is allowed, so that all of them together take no more."""
    many = [layer(*(directory(f"l{number}/d{one}") for one in range(2000))) for number in range(2)]
    built = write_layout(tmp_path / "layout", many)
    limits = DEFAULT.changed(memory_bytes=3_000_000)
    alone, _ = outcome(built.path, tmp_path / "alone", jobs=1, limits=limits)
    assert isinstance(alone, dict)

    assert outcome(built.path, tmp_path / "together", jobs=8, limits=limits)[0] == alone
    assert len(forks) == 2


def test_no_more_layers_are_begun_when_there_are_too_many_bytes(tmp_path: Path, forks: list[int]) -> None:
    """Else all layers of an image would be on the disk before the first of them is counted."""
    built = write_layout(tmp_path / "layout", [layer(file(f"f{number}", bytes(50_000))) for number in range(20)])

    refused, _ = outcome(built.path, tmp_path / "dest", jobs=2, limits=DEFAULT.changed(image_bytes=120_000))

    assert isinstance(refused, tuple)
    assert len(forks) < 8


def test_layers_side_by_side_stop_at_the_limit_for_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone has room enough when it begins."""
    most, number = 6 << 20, 3
    built = write_layout(tmp_path / "layout", [layer(file(f"f{one}", bytes(5 << 20))) for one in range(number)])
    sizes: list[int] = []
    take = Batch.take

    def measured(*words: Any) -> object:
        if not sizes:
            sizes.append(sum(path.stat().st_size for path in files_below(tmp_path) if path.name.startswith("f")))
        return take(*words)

    monkeypatch.setattr(Batch, "take", measured)
    refused, _ = outcome(built.path, tmp_path / "dest", jobs=number, limits=DEFAULT.changed(image_bytes=most))

    assert isinstance(refused, tuple)
    assert sizes[0] <= most + number * CHUNK


def test_a_child_that_fails_is_replaced(
    built: LayoutBuilder, tmp_path: Path, forks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for want of memory, for one; its layer is staged by the parent then."""
    alone = outcome(built.path, tmp_path / "alone", jobs=1)
    pack = packed.pack

    def killed(*words: Any) -> packed.Packed:
        if len(forks) % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return pack(*words)

    monkeypatch.setattr(packed, "pack", killed)

    assert outcome(built.path, tmp_path / "together", jobs=2) == alone
    assert 1 < len(forks) <= len(LAYERS), "the caller may be faster"
    assert diff(read(tmp_path / "alone"), read(tmp_path / "together")) == []
    assert listing(tmp_path) == ["alone", "layout", "together"]


def test_what_a_child_that_fails_has_left_goes_at_once(built: LayoutBuilder, tmp_path: Path, forks: list[int]) -> None:
    """The caller stages its layer again when its turn comes, and may need the room before."""
    built.flip(built.images[0].layers[3].digest)
    places: list[list[str]] = []

    def listen(event: Event) -> None:
        if isinstance(event, LayerApplied):
            while not all(map(has_ended, forks)):
                time.sleep(0.001)
            places.append(listing(next(tmp_path.glob(".dest.unpack-*"))))

    with pytest.raises(UnpackError):
        unpack(built.path, tmp_path / "dest", labels=False, jobs=4, on_event=listen)

    assert len(places) == 3
    assert not any(name.endswith("-3") for name in places[-1]), "long before, but what it has told is heard first"


def has_ended(pid: int) -> bool:
    try:
        ended = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].startswith("Z")
        return ended and len(os.listdir(f"/proc/{pid}/task")) == 1
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("first", range(3))
def test_where_there_are_no_more_processes_the_parent_does_it(
    first: int, built: LayoutBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = outcome(built.path, tmp_path / "alone", jobs=1)
    fork, left = os.fork, iter(range(first))

    def refused() -> int:
        if next(left, None) is None:
            raise BlockingIOError
        return fork()

    monkeypatch.setattr(os, "fork", refused)

    assert outcome(built.path, tmp_path / "together", jobs=3) == alone
    assert listing(tmp_path) == ["alone", "layout", "together"]


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_signal_that_comes_upon_a_new_process_ends_all(
    moment: int, built: LayoutBuilder, tmp_path: Path, forks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = os.fork

    def interrupted() -> int:
        pid = fork()
        if pid and len(forks) == moment:
            signal.raise_signal(signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(built.path, tmp_path / "dest", labels=False, jobs=3)

    assert len(forks) == moment
    assert listing(tmp_path) == ["layout"]


def test_a_process_with_other_threads_is_not_forked(built: LayoutBuilder, tmp_path: Path, forks: list[int]) -> None:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        unpack(built.path, tmp_path / "dest", labels=False, jobs=3)
    finally:
        stop.set()
        other.join()

    assert not forks


@pytest.mark.parametrize("moment", range(0, 40, 3))
def test_a_listener_that_raises_ends_all(moment: int, built: LayoutBuilder, tmp_path: Path) -> None:
    left = iter(range(moment))

    def listen(_event: Event) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    try:
        unpack(built.path, tmp_path / "dest", labels=False, jobs=2, on_event=listen)
    except KeyboardInterrupt:
        assert listing(tmp_path) == ["layout"]
    else:
        assert moment > 10


PARENT = """
import sys
from unpacker.layer import ahead
from unpacker.unpacking import unpack
ahead.WORTH = 0
ahead.SHARES = 1_000_000
unpack(sys.argv[1], sys.argv[2], jobs=3)
"""


def children_of(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=["kill", "int", "term"])
def test_a_parent_that_is_stopped_leaves_no_child(number: signal.Signals, tmp_path: Path) -> None:
    """And the next run for the same DEST finds nothing in its way, and leaves nothing of the other."""
    layers = [layer(*(file(f"l{index}/{name}", os.urandom(3000)) for name in range(3000))) for index in range(3)]
    built = write_layout(tmp_path / "layout", layers, compression="none")
    words = ["python", "-c", PARENT, str(built.path), str(tmp_path / "dest")]
    with subprocess.Popen(words, executable=sys.executable, env=environment(), stderr=subprocess.DEVNULL) as parent:
        end = time.monotonic() + PATIENCE
        while len(children := children_of(parent.pid)) < 3 and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.02)
        parent.send_signal(number)
        assert parent.wait(PATIENCE)
    assert len(children) == 3
    while any(os.path.exists(f"/proc/{pid}") for pid in children) and time.monotonic() < end:
        time.sleep(0.001)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)

    unpack(built.path, tmp_path / "dest", labels=False, jobs=3)

    assert [name for name in listing(tmp_path) if name not in ("layout", "dest")] == []
