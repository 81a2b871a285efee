"""Whole images, which are too large for the project: all layouts in the directory that ``UNPACK_TEST_IMAGES`` names.

Every image in it is compared with what umoci makes of it.  ``debian-min``, a Debian of one layer, is run, and rewritten
in every way that an image can be stored in, which must change nothing.  ``edge-umoci`` has whiteouts below what became a
symbolic link or a file.  Both are made by umoci alone, see README.md beside this file.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.interop.peers import GnuTar, RefusedError, Umoci
from tests.interop.rows import Lines, differences, rows
from tests.interop.running import needs_chroot, run_inside
from tests.support.layoutbuild import REF_NAME, BuiltImage, Compression, Document, LayoutBuilder, write_layout
from tests.support.probes import needs_chown, needs_mknod
from tests.support.tarbuild import file, layer
from tests.support.treesum import manifest
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = os.environ.get("UNPACK_TEST_IMAGES", "")
pytestmark = [needs_chown, needs_mknod]


def _images() -> list[tuple[str, str]]:
    """Give all names of layouts in the folder, and of images in them."""
    found = []
    for index in sorted(Path(FOLDER).glob("*/index.json")) if FOLDER else ():
        for descriptor in json.loads(index.read_bytes())["manifests"]:
            tag = descriptor.get("annotations", {}).get(REF_NAME)
            if tag is not None:
                found.append((index.parent.name, tag))
    return found


IMAGES = _images()
needs_images = pytest.mark.skipif(not IMAGES, reason="missing: a directory of layouts, UNPACK_TEST_IMAGES")


def needs_image(name: str) -> pytest.MarkDecorator:
    missing = not any(layout == name for layout, _ in IMAGES)
    return pytest.mark.skipif(missing, reason=f"missing: a layout {name} in the directory UNPACK_TEST_IMAGES")


class Place:
    """A directory for all that is unpacked here: too much to be kept by pytest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = count()

    def new(self) -> Path:
        """Give a path that nothing has.  Nothing is removed meanwhile: ext4 is slow for a while after that."""
        return self._path / str(next(self._numbers))

    def directory(self) -> Path:
        """Give an empty directory."""
        path = self.new()
        path.mkdir()
        return path

    def unpacked(self, source: str | Path) -> Lines:
        """Unpack; give the lines of the tree."""
        dest = self.new()
        unpack(source, dest, platform="linux/amd64", labels=False)
        return manifest(os.fsencode(dest))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="images-") as path:
        yield Place(Path(path))


@pytest.fixture(scope="module")
def images(place: Place) -> Path:
    """Give a copy of the folder: umoci writes to the layouts that it reads."""
    copy = place.directory()
    for name in {name for name, _ in IMAGES}:
        shutil.copytree(Path(FOLDER, name), copy / name, ignore=shutil.ignore_patterns("labels"))
    return copy


# -- any image ---------------------------------------------------------------------------------------------------------

WRONG = {"edge-umoci": "it follows a link of an upper layer and deletes t/lower/b"}


@pytest.mark.skipif(bool(Umoci.missing()), reason=f"missing: {Umoci.missing()}")
@pytest.mark.parametrize(("name", "tag"), IMAGES or [pytest.param("", "", marks=needs_images)])
def test_umoci_makes_the_same(name: str, tag: str, images: Path, place: Place) -> None:
    """Names, types, bytes, modes, owners, links, devices, xattrs and times are the same, those of directories too."""
    if name in WRONG:
        pytest.skip(f"umoci is wrong about this one: {WRONG[name]}")
    try:
        theirs = Umoci().tree(images / name, place.directory(), tag)
    except RefusedError as error:
        pytest.skip(f"umoci refuses this one: {error}")

    assert not differences(place.unpacked(f"{images / name}:{tag}"), theirs)


# -- a whole Debian ----------------------------------------------------------------------------------------------------


@needs_image("debian-min")
@needs_chroot
def test_debian_is_alive(images: Path, place: Place) -> None:
    """Its package manager finds all packages in order, and a program with libraries starts."""
    root = place.new()
    unpack(images / "debian-min", root, labels=False)

    assert run_inside(root, "dpkg --audit && perl -e 'print 6*7'") == "42"


@dataclass(frozen=True, slots=True)
class Debian:
    """The image as it is, taken apart."""

    tar: bytes
    lines: Lines

    def cut(self, pieces: int) -> list[bytes]:
        """Give the layer as several, cut between entries: hard links then lead to layers below, and directories have
        their entries there."""
        with tarfile.open(fileobj=io.BytesIO(self.tar)) as archive:
            starts = [member.offset for member in archive]
        ends = [starts[len(starts) * number // pieces] for number in range(1, pieces)]
        bounds = [0, *ends, len(self.tar)]
        return [self.tar[begin:end] + bytes(1024) for begin, end in pairwise(bounds)]


@pytest.fixture(scope="module")
def debian(images: Path, place: Place) -> Debian:
    layout = images / "debian-min"

    def read(descriptor: Document) -> bytes:
        return layout.joinpath("blobs", *descriptor["digest"].split(":")).read_bytes()

    top = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    (only,) = json.loads(read(top))["layers"]
    return Debian(gzip.decompress(read(only)), place.unpacked(layout))


def _whole(
    debian: Debian,
    path: Path,
    *,
    compression: Compression = "gzip",
    docker: bool = False,
    algorithm: str = "sha256",
) -> None:
    write_layout(path, [debian.tar], compression=compression, docker=docker, algorithm=algorithm)


def _mixed(debian: Debian, path: Path) -> None:
    write_layout(path, debian.cut(3), compression=("none", "gzip", "zstd"))


def _one_among_platforms(debian: Debian, path: Path) -> None:
    """An index in an index, as BuildKit writes it: other platforms first, and an attestation for each."""
    built = LayoutBuilder(path)

    def other(platform: str) -> BuiltImage:
        return built.image([layer(file(platform.replace("/", "-")))], platform=platform)

    found = [other("linux/arm64/v8"), other("linux/arm/v7"), built.image([debian.tar], "zstd"), other("linux/386")]
    attestations = [_attestation(built, image) for image in found]
    built.name(built.index(built.index(*found, *attestations)))


def _attestation(built: LayoutBuilder, image: BuiltImage) -> Document:
    statement = built.blob("application/vnd.in-toto+json", b'{"_type":"https://in-toto.io/Statement/v0.1"}')
    attested = built.image([], platform="unknown/unknown")
    content = {**attested.manifest, "layers": [statement]}
    return {
        **built.document("manifest", built.types["manifest"], content),
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image.digest,
        },
    }


WAYS: dict[str, Callable[[Debian, Path], None]] = {
    "plain tar": partial(_whole, compression="none"),
    "zstd": partial(_whole, compression="zstd"),
    "Docker, schema 2": partial(_whole, docker=True),
    "Docker, zstd": partial(_whole, docker=True, compression="zstd"),
    "sha512": partial(_whole, algorithm="sha512", compression="none"),
    "three layers, each compressed in another way": _mixed,
    "one platform of several in an index in an index": _one_among_platforms,
}


@needs_image("debian-min")
@pytest.mark.parametrize("write", [pytest.param(write, id=way) for way, write in WAYS.items()])
def test_however_it_is_stored_it_is_the_same(
    write: Callable[[Debian, Path], None], debian: Debian, place: Place
) -> None:
    layout = place.new()
    write(debian, layout)

    assert not differences(debian.lines, place.unpacked(layout))


# -- whiteouts that hide nothing ---------------------------------------------------------------------------------------


@needs_image("edge-umoci")
class TestWhiteoutsBelowWhatWasReplaced:
    """``umoci repack`` writes whiteouts for what was in a directory that became a link; they must not follow it."""

    def test_the_file_behind_the_link_stays(self, images: Path, tmp_path: Path) -> None:
        unpack(images / "edge-umoci", tmp_path / "root", labels=False)

        assert (tmp_path / "root/t/lower/b").read_text() == "must stay\n"

    def test_the_whole_tree(self, images: Path, place: Place) -> None:
        found = rows(place.unpacked(images / "edge-umoci"))

        assert {path: row["type"] for path, row in found.items()} == {
            ".": "dir",
            "t": "dir",
            "t/dir2file": "file",
            "t/dir2link": "dir",
            "t/dir2link/new": "file",
            "t/lower": "dir",
            "t/lower/b": "file",
        }

    @pytest.mark.skipif(bool(GnuTar.missing()), reason=f"missing: {GnuTar.missing()}")
    def test_gnu_tar_makes_the_same(self, images: Path, place: Place) -> None:
        theirs = GnuTar().tree(images / "edge-umoci", place.directory())

        assert not differences(place.unpacked(images / "edge-umoci"), theirs)
