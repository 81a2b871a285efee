"""Files of a layout that are something else than files: links out of it, fifos that hang, devices that never end.

A blob that is a link is how ggcr read any file of the host, and endless ones filled umoci's memory.  The labels are the
one thing that is written into a layout: what is planted there is neither written through nor waited for.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.probes import needs_mknod
from tests.support.tarbuild import file, layer, symlink
from tests.support.tree import read, sketch
from tests.unpack.command import refused, succeeded, unpack
from unpacker.content.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.attacks.arena import Arena
    from tests.support.layoutbuild import LayoutBuilder
    from unpacker.content.blob import VerifiedBlob
    from unpacker.spec.descriptor import Descriptor

BASE, TOP = layer(file("etc/motd", b"hi")), layer(file("lib/x"), symlink("l", "lib"))
TREE = {"etc": "directory", "etc/motd": "file hi", "l": "symlink lib", "lib": "directory", "lib/x": "file"}


@pytest.fixture
def built(arena: Arena) -> LayoutBuilder:
    return write_layout(arena.layout, [BASE, TOP])


def link_to_secret(place: Path, arena: Arena) -> None:
    place.symlink_to(arena.outside / "secret")


def link_to_its_own_content(place: Path, arena: Arena) -> None:
    kept = place.with_name(place.name + ".kept")
    place.symlink_to(kept.name)


def link_to_zero(place: Path, arena: Arena) -> None:
    place.symlink_to("/dev/zero")


def link_to_itself(place: Path, arena: Arena) -> None:
    place.symlink_to(place.name)


def link_to_directory(place: Path, arena: Arena) -> None:
    place.symlink_to(arena.outside)


def fifo(place: Path, arena: Arena) -> None:
    os.mkfifo(place)


def listening_socket(place: Path, arena: Arena) -> None:
    here = os.getcwd()
    os.chdir(place.parent)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(place.name)
    os.chdir(here)


def device(place: Path, arena: Arena) -> None:
    os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def directory(place: Path, arena: Arena) -> None:
    place.mkdir()


def terabyte(place: Path, arena: Arena) -> None:
    place.touch()
    os.truncate(place, 1 << 40)


def nothing(place: Path, arena: Arena) -> None:
    pass


THINGS = [
    link_to_secret,
    link_to_its_own_content,
    link_to_zero,
    link_to_itself,
    link_to_directory,
    fifo,
    listening_socket,
    pytest.param(device, marks=needs_mknod),
    directory,
    terabyte,
    nothing,
]


def place_of(which: str, built: LayoutBuilder) -> Path:
    image = built.images[0]
    digests = {
        "manifest": image.digest,
        "config": image.config_digest,
        "base": image.layers[0].digest,
        "top": image.layers[1].digest,
    }
    return built.blob_path(digests[which]) if which in digests else built.path / which


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("which", ["oci-layout", "index.json", "manifest", "config", "base", "top"])
def test_what_is_no_file_is_refused(
    which: str, thing: Callable[[Path, Arena], None], built: LayoutBuilder, arena: Arena
) -> None:
    place = place_of(which, built)
    place.rename(place.with_name(place.name + ".kept"))
    thing(place, arena)

    outcome = unpack("--no-labels", built.path, arena.dest)

    assert outcome.status in (3, 4, 5), outcome
    assert place.name in refused(outcome, outcome.status)
    assert not arena.dest.exists()
    arena.check()


# -- labels ------------------------------------------------------------------------------------------------------------


def label_places(built: LayoutBuilder) -> dict[str, Path]:
    labels, encoded = built.path / "labels", built.images[0].layers[0].digest.partition(":")[2]
    return {
        "labels": labels,
        "labels/sha256": labels / "sha256",
        "the file": labels / "sha256" / f"{encoded}.json",
        "the new file": labels / "sha256" / f".{encoded}.json.new",
        "the lock": labels / ".lock",
    }


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("which", ["labels", "labels/sha256", "the file", "the new file", "the lock"])
def test_what_is_planted_among_the_labels_stops_nobody(
    which: str, thing: Callable[[Path, Arena], None], built: LayoutBuilder, arena: Arena
) -> None:
    """Labels are a convenience: the image is unpacked, and nothing is written anywhere else."""
    place = label_places(built)[which]
    place.parent.mkdir(parents=True, exist_ok=True)
    thing(place, arena)
    planted = place.lstat().st_mode if os.path.lexists(place) else None

    succeeded(unpack(built.path, arena.dest))

    assert sketch(read(arena.dest)) == TREE
    arena.check()
    if planted is not None and which != "the new file":
        assert stat.S_IFMT(place.lstat().st_mode) == stat.S_IFMT(planted), "left as it is"


def test_a_hard_link_planted_among_the_labels_is_not_written_to(built: LayoutBuilder, arena: Arena) -> None:
    """A file has no owner's mark of where its other names are: it is replaced, or left."""
    for which, place in label_places(built).items():
        if which.startswith("the"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.hardlink_to(arena.outside / "secret")
    links = (arena.outside / "secret").stat()

    succeeded(unpack(built.path, arena.dest))

    after = (arena.outside / "secret").stat()
    assert (arena.outside / "secret").read_text() == "secret"
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (links.st_mode, links.st_uid, links.st_mtime_ns)


@pytest.mark.parametrize("content", ['{"containerd.io/uncompressed": "sha256:%s"}' % ("0" * 64), "{", "[]", "\0"])
def test_nothing_is_believed_because_a_label_says_so(content: str, built: LayoutBuilder, arena: Arena) -> None:
    place = label_places(built)["the file"]
    place.parent.mkdir(parents=True)
    place.write_text(content)

    succeeded(unpack(built.path, arena.dest))

    assert sketch(read(arena.dest)) == TREE


# -- blobs that change -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["grows", "shrinks", "is-another"])
def test_a_blob_that_changes_between_two_readings_is_refused(
    change: str, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer may be read twice, the second time with the view of those below it: both times it is verified whole."""
    built = write_layout(arena.layout, [TOP, layer(file("l/y", b"y" * 2000))], compression="none")
    digest, opened = built.images[0].layers[1].digest, []
    changes: dict[str, Callable[[str], None]]
    changes = {"grows": built.extend, "shrinks": built.truncate, "is-another": built.flip}
    blob = Layout.blob

    def counted(self: Layout, descriptor: Descriptor) -> VerifiedBlob:
        if str(descriptor.digest) == digest:
            opened.append(digest)
            if len(opened) == 2:
                changes[change](digest)
        return blob(self, descriptor)

    monkeypatch.setattr(Layout, "blob", counted)

    line = refused(unpack(built.path, arena.dest), 4)

    assert digest in line
    assert len(opened) == 2
    arena.check()
    assert not arena.dest.exists()
