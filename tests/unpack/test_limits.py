"""Limits of a whole run: what all layers together ask for, and what stays free for others."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import directory, file, hardlink, layer
from tests.unpack.command import command, hints, listing, refused, succeeded, unpack
from tests.unpack.namespace import Namespace, needs_mount
from unpacker.archive.pieces import CHUNK
from unpacker.errors import LimitError
from unpacker.events import LossKind
from unpacker.layer import ahead
from unpacker.limits import DEFAULT, Limits
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.unpacking import unpack as unpack_image

if TYPE_CHECKING:
    from pathlib import Path

    from unpacker.snapshots.base import StoreSnapshotter

FORMS = pytest.mark.parametrize("words", [(), ("--store", "store")], ids=["directory", "store"])


def words_in(place: Path, words: tuple[str, ...]) -> list[str]:
    return [str(place / word) if word == "store" else word for word in words]


@needs_mount
@FORMS
def test_some_of_a_filesystem_stays_free(words: tuple[str, ...], tmp_path: Path) -> None:
    """Whoever else writes there would be hit by a bomb; what the default is too much for, an option lowers."""
    built = write_layout(tmp_path / "layout", [layer(file("f", os.urandom(22 << 20)))], compression="none")
    small = tmp_path / "small"
    small.mkdir()
    with Namespace() as namespace:
        namespace.mount("-t", "tmpfs", "-o", "size=32m", "tmpfs", small)

        outcome = namespace.run(command("-q", *words_in(small, words), built.path, small / "dest"))

        found = re.fullmatch(r"the filesystem is nearly full: (\d+) bytes are free, .*16777216 .*", refused(outcome, 6))
        assert found is not None
        assert int(found[1]) > 14 << 20
        assert "--limit free_bytes=" in hints(outcome)[0]
        assert not (namespace.path(small) / "dest").exists()
        if not words:
            assert listing(namespace.path(small)) == []
            succeeded(namespace.run(command("-q", "--limit=free_bytes=1M", built.path, small / "dest")))


@needs_mount
@pytest.mark.parametrize("kind", [NativeSnapshotter, OverlaySnapshotter])
def test_some_stays_free_of_a_copy_out_of_a_store(kind: type[StoreSnapshotter], tmp_path: Path) -> None:
    """Nothing is read from the image then; the store is elsewhere."""
    tars = [layer(file("f", os.urandom(11 << 20))), layer(file("g", os.urandom(11 << 20)))]
    built = write_layout(tmp_path / "layout", tars, compression="none")
    small, store = tmp_path / "small", f"--store={tmp_path / 'store'}"
    with kind(tmp_path / "store"):
        small.mkdir()
    succeeded(unpack(store, built.path, tmp_path / "large"))
    with Namespace() as namespace:
        namespace.mount("-t", "tmpfs", "-o", "size=32m", "tmpfs", small)

        outcome = namespace.run(command("-q", store, built.path, small / "dest"))

        assert refused(outcome, 6).startswith("the filesystem is nearly full: ")
        assert "--limit free_bytes=" in hints(outcome)[0]
        assert listing(namespace.path(small)) == []
        succeeded(namespace.run(command("-q", "--limit=free_bytes=1M", store, built.path, small / "dest")))


def no_hard_links(*_words: object, **_given: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def limited(image_bytes: int) -> Limits:
    return DEFAULT.changed(image_bytes=image_bytes)


LINKS = [hardlink("b", "a"), hardlink("c", "a"), hardlink("d", "a")]


@FORMS
@pytest.mark.parametrize("jobs", [1, 2])
def test_copies_in_place_of_hard_links_count(
    jobs: int, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a filesystem has no hard links, an entry without data is as large as the largest file."""
    monkeypatch.setattr(ahead, "WORTH", 0)
    monkeypatch.setattr(os, "link", no_hard_links)
    data = os.urandom(1 << 20)
    built = write_layout(tmp_path / "layout", [layer(file("x", data)), layer(file("a", data), *LINKS)])
    store = tmp_path / "store" if words else None

    with pytest.raises(LimitError, match="bytes of all layers") as caught:
        unpack_image(*(built.path, tmp_path / "dest"), store=store, jobs=jobs, limits=limited(4_500_000))
    assert caught.value.limit == "image_bytes"
    if jobs == 1:
        assert (caught.value.entry, caught.value.layer) == (b"d", built.images[0].layers[1].digest)
    assert not (tmp_path / "dest").exists()


def test_copies_of_all_layers_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_hard_links)
    tars = [layer(file(f"{one}/a", os.urandom(1 << 20)), hardlink(f"{one}/b", f"{one}/a")) for one in range(3)]
    built = write_layout(tmp_path / "layout", tars)

    with pytest.raises(LimitError, match="bytes of all layers"):
        unpack_image(built.path, tmp_path / "dest", owner="self", jobs=1, limits=limited(5_500_000))
    report = unpack_image(built.path, tmp_path / "dest", owner="self", jobs=1, limits=limited(6_500_000))
    assert report.losses == {LossKind.LINK: 3}
    sample = report.loss_samples[LossKind.LINK]
    assert sample == "'0/b': copied (1048576 B), not linked: Operation not permitted"


@FORMS
def test_the_layers_of_an_image_have_a_limit_together(words: tuple[str, ...], tmp_path: Path) -> None:
    built = write_layout(tmp_path / "layout", [layer(file(f"{number}", bytes(30_000))) for number in range(4)])

    outcome = unpack("--limit=image_bytes=100000", *words_in(tmp_path, words), built.path, tmp_path / "dest")

    assert re.fullmatch(
        r"layer sha256:[0-9a-f]{64} at offset 0: decompressed bytes of all layers: 1\d{5}, .*", refused(outcome, 5)
    )
    assert hints(outcome) == ["if you trust the image, raise the limit: --limit image_bytes=200000"]
    assert not (tmp_path / "dest").exists()


@FORMS
def test_no_layer_goes_on_when_there_are_too_many_bytes(words: tuple[str, ...], tmp_path: Path) -> None:
    """It would else be written as a whole, be it a thousand times what is left."""
    tars = [layer(file("a", bytes(1 << 20))), layer(file("b", bytes(64 << 20))), layer(file("c"))]
    built = write_layout(tmp_path / "layout", tars)
    store = tmp_path / "store" if words else None
    most = 3 << 20

    with pytest.raises(LimitError) as caught:
        unpack_image(built.path, tmp_path / "dest", store=store, limits=limited(most))

    assert caught.value.limit == "image_bytes"
    assert caught.value.layer == built.images[0].layers[1].digest
    assert most < caught.value.found <= most + CHUNK


@pytest.mark.parametrize("stored", [False, True], ids=["directory", "store"])
def test_the_directories_of_all_layers_count(stored: bool, tmp_path: Path) -> None:
    """Each layer for itself has few enough.  In a store, where they stay apart, the copy has them all."""
    built = write_layout(
        tmp_path / "layout", [layer(*(directory(f"{one}/{each}") for each in range(30))) for one in range(4)]
    )
    words = ["--store", str(tmp_path / "store")] if stored else []

    outcome = unpack("--limit=memory_bytes=40K", *words, built.path, tmp_path / "dest")

    assert "bytes of memory for directories" in refused(outcome, 5)
    assert not (tmp_path / "dest").exists()


def test_directories_that_are_in_every_layer_count_once(tmp_path: Path) -> None:
    """As they are in images: forty layers, each of which speaks of the same directories."""
    built = write_layout(tmp_path / "layout", [layer(*(directory(f"{each}") for each in range(30)))] * 40)

    succeeded(unpack("--limit=memory_bytes=40K", built.path, tmp_path / "dest"))


@pytest.mark.parametrize(
    ("limit", "found", "advised"),
    [("path_bytes", 5000, 5000), ("zstd_window_log", 31, 31), ("entries", 101, 200), ("ratio", 900, 900)],
)
def test_what_is_advised_is_enough(limit: str, found: int, advised: int) -> None:
    """A count that was broken off says nothing of how far it would have gone; one more would not do."""
    error = LimitError(limit=limit, allowed=100, found=found, what="x")

    assert error.hint == f"if you trust the image, raise the limit: --limit {limit}={advised}"
