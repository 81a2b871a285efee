"""Sizes, labels and filters are those of a real containerd, which gets the same images and the same commands."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.containerd import Containerd
from benchmarks.timing import FailedError
from tests.support.probes import has_tool
from unpacker.content.disk import ContentStore
from unpacker.image import Image
from unpacker.spec.digest import Digest
from unpacker.transfer import copy_image

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = Path(__file__).parents[2] / "fixtures"
NAMES = ("hello", "docker", "zstd", "plain", "multi", "edge", "replaced")
LONG = "x" * 4000


@cache
def runs() -> bool:
    """Whether containerd can be run here: it wants root, and more than some sandboxes give to root."""
    if not (has_tool("containerd") and has_tool("ctr")):
        return False
    with suppress(FailedError, OSError), tempfile.TemporaryDirectory(prefix="ctd-") as place, Containerd(Path(place)):
        return True
    return False


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    if not runs():
        pytest.skip("missing: a containerd that runs (it wants root)")
    with tempfile.TemporaryDirectory(prefix="ctd-") as place:
        tar = os.path.join(place, "image.tar")
        with Containerd(Path(place)) as server:
            for name in NAMES:
                subprocess.run(["tar", "--exclude=./labels", "-C", FIXTURES / name, "-cf", tar, "."], check=True)
                ctr(server, "images", "import", "--no-unpack", "--all-platforms", "--base-name", name, tar)
            yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ContentStore:
    """Import the same images."""
    store = ContentStore(tmp_path_factory.mktemp("store"), create=True)
    for name in NAMES:
        copy_image(ContentStore(FIXTURES / name), store, platform="all", name=f"{name}:latest")
    return store


def ctr(server: Containerd, *command: str | Path) -> str:
    return subprocess.run(
        ["ctr", "--address", server.socket, *command], capture_output=True, text=True, check=True
    ).stdout


def shown(size: int) -> str:
    """Write a size as go-units does: four digits that matter, in powers of 1000."""
    number, units = float(size), iter(("B", "kB", "MB"))
    unit = next(units)
    while number >= 1000:
        number, unit = number / 1000, next(units)
    return f"{number:.4g}{unit}"


def listed(server: Containerd, *selection: str) -> dict[str, dict[str, str]]:
    """Give the labels of what containerd has, by digest; without those that it sets for its own garbage collection."""
    found = {}
    for line in ctr(server, "content", "ls", *selection).splitlines()[1:]:
        digest, *_, labels = line.split("\t")
        pairs = (pair.split("=", 1) for pair in labels.strip().split(",") if "=" in pair)
        found[digest.strip()] = {key: value for key, value in pairs if not key.startswith("containerd.io/gc.ref.")}
    return found


def test_the_same_images_are_the_same_blobs(containerd: Containerd, store: ContentStore) -> None:
    assert {str(info.digest) for info in store.walk()} == set(listed(containerd))
    rows = (line.split("\t") for line in ctr(containerd, "content", "ls").splitlines()[1:])
    assert {digest: size.strip() for digest, size, *_ in rows} == {
        str(info.digest): shown(info.size) for info in store.walk()
    }


def test_the_size_of_an_image_is_what_containerd_says(containerd: Containerd) -> None:
    """To the precision in which it says it: in powers of 1024, with one digit behind the point."""
    rows = [line.split() for line in ctr(containerd, "images", "ls").splitlines()[1:]]
    theirs = {row[0].partition(":")[0]: " ".join(row[3:5]) for row in rows}
    ours = {name: Image.open(FIXTURES / name, "linux/amd64").size() for name in NAMES}
    assert {name: f"{size / 1024:.1f} KiB" for name, size in ours.items()} == theirs


STEPS = [
    {"a": "1", "b": "2", "containerd.io/gc.root": "2026"},
    {"a": "", "c": "x.y/z"},
    {"b": "2"},
    {"never": ""},
    {"long": LONG},
    {"a": "again", "long": ""},
]


def test_labels_change_as_containerds_do(containerd: Containerd, store: ContentStore) -> None:
    blob = Digest.parse(min(listed(containerd)))
    for step in STEPS:
        ctr(containerd, "content", "label", str(blob), *(f"{key}={value}" for key, value in step.items()))
        info = store.info(blob)
        store.update(info.changed(labels=step), *(f"labels.{key}" for key in step))
        ours = {str(info.digest): info.labels for info in store.walk()}
        theirs = listed(containerd)
        assert ours[str(blob)].items() <= theirs[str(blob)].items()
        assert theirs[str(blob)].keys() - ours[str(blob)].keys() <= {"containerd.io/distribution.source"}


def test_containerd_refuses_the_same_labels(containerd: Containerd, store: ContentStore) -> None:
    blob = min(listed(containerd))
    for key, size in (("k", 4095), ("k", 4096)):
        refused = subprocess.run(
            ["ctr", "--address", containerd.socket, "content", "label", blob, f"{key}={'v' * size}"],
            capture_output=True,
            check=False,
        ).returncode
        ours = None
        try:
            store.update(store.info(Digest.parse(blob)).changed(labels={key: "v" * size}), f"labels.{key}")
        except Exception as error:  # noqa: BLE001 - whatever it is
            ours = error
        assert bool(refused) is (ours is not None)
    for each in (store.update(store.info(Digest.parse(blob)).changed(labels={}), "labels.k"),):
        assert "k" not in each.labels
    ctr(containerd, "content", "label", blob, "k=")


@pytest.fixture
def labelled(containerd: Containerd, store: ContentStore) -> list[str]:
    """Give some blobs labels, here and there, and their digests."""
    digests = sorted(listed(containerd))[:6]
    for number, digest in enumerate(digests):
        labels = {
            "number": str(number),
            "parity": "odd" if number % 2 else "even",
            "a.b/c": "x,y",
            "sp ace": f"q{number}",
        }
        ctr(containerd, "content", "label", digest, *(f"{key}={value}" for key, value in labels.items()))
        info = store.info(Digest.parse(digest))
        store.update(info.changed(labels=labels), *(f"labels.{key}" for key in labels))
    return digests


FILTERS = [
    "labels.number==3",
    "labels.number",
    "labels.parity!=odd",
    "labels.parity==even,labels.number!=2",
    "labels.number~=[135]",
    "labels.number~=/[1-3]/",
    "labels.number~=|^[45]$|",
    'labels."number"=="4"',
    'labels."a.b/c"=="x,y"',
    'labels.a."b/c"',
    'labels."sp ace"~="^q[12]"',
    r'labels."sp\x20ace"==q1',
    "labels.parity == odd,labels.number == 1",
    "labels.absent",
    "labels.absent==x",
    "labels.absent!=x,labels.parity==odd",
    "labels.absent~=^$,labels.parity==odd",
    "digest~=^sha256:0",
    "digest!=sha256:0",
]


@pytest.mark.parametrize("selection", FILTERS)
def test_filters_find_what_containerds_find(
    containerd: Containerd, store: ContentStore, labelled: list[str], selection: str
) -> None:
    assert len(labelled) == 6
    theirs = set(listed(containerd, selection))
    assert {str(info.digest) for info in store.walk(selection)} == theirs
