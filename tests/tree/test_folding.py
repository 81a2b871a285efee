"""Where a filesystem takes two names for one, neither of them is lost without a word; nor are modes, where it has none."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.layer.bench import Bench
from tests.support.layoutbuild import write_layout
from tests.support.probes import has_tool
from tests.support.tarbuild import Entry, directory, fifo, file, hardlink, layer, symlink, whiteout
from tests.unpack.command import Outcome, command, listing, refused
from tests.unpack.namespace import Namespace, needs_mount
from unpacker.errors import DestinationError
from unpacker.tree.directory import OPEN_DIRECTORY
from unpacker.tree.folding import FoldingTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = needs_mount

EXFAT = ["mkfs.exfat image", "mount -t exfat-fuse -o loop image there"]
EXT4 = ["mkfs.ext4 -q -F -O casefold image", "mount -o loop image there", "mkdir there/in", "chattr +F there/in"]
LOWER = ["mkntfs -q -F image", "lowntfs-3g -o ignore_case image there"]
"""It shows all names in lower case."""


def only(*steps: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("folding", [pytest.param(list(steps), id="")], indirect=True)


@pytest.fixture(params=[pytest.param(EXFAT, id="exFAT"), pytest.param(EXT4, id="ext4 with casefold")])
def folding(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folding]:
    """Give a directory on such a filesystem."""
    (tmp_path / "there").mkdir()
    (tmp_path / "image").touch()
    os.truncate(tmp_path / "image", 32 << 20)
    with Namespace() as namespace:
        try:
            for step in request.param:
                tool = step.split()[0]
                if not has_tool(tool) or namespace.run(["env", "-C", str(tmp_path), *step.split()]).status:
                    pytest.skip(f"missing: {tool}, or a kernel that takes what it makes")
            yield Folding(namespace, tmp_path)
        finally:
            # A filesystem of the FUSE kind is a process in the namespace, which that would live as long as.
            namespace.run(["umount", str(tmp_path / "there")])
    (tmp_path / "image").unlink()


class Folding:
    """A directory on a filesystem that takes upper and lower case for one, in a mount namespace."""

    def __init__(self, namespace: Namespace, place: Path) -> None:
        self._namespace = namespace
        self._place = place
        inside = namespace.path(place / "there/in")
        self.path = place / ("there/in" if inside.exists() else "there")
        self.seen = namespace.path(self.path)
        """The same for this process."""

    def unpack(self, *words: str, layers: Sequence[Sequence[Entry]]) -> Outcome:
        layout = write_layout(self._place / "layout", [layer(*entries) for entries in layers])
        options = ["-q", "--no-labels", "--platform=linux/amd64"]
        return self._namespace.run(command(*options, *words, layout.path, self.path / "dest"))


class FoldingBench(Bench):
    """A workbench on such a filesystem."""

    def tree(self, name: bytes) -> FoldingTree:
        """See `Bench`."""
        os.mkdir(name, 0o700, dir_fd=self._holder)
        return FoldingTree(os.open(name, OPEN_DIRECTORY, dir_fd=self._holder), "DEST")


TWINS = [
    pytest.param([[file("a"), file("A")]], {"'a'", "'A'"}, id="files"),
    pytest.param([[file("a"), hardlink("A", "a")]], {"'a'", "'A'"}, id="a hard link to the other"),
    pytest.param([[hardlink("A", "a"), file("a")]], {"'a'", "'A'"}, id="a hard link to what comes later"),
    pytest.param([[file("d/x"), file("D/y")]], {"'d'", "'D'"}, id="directories"),
    pytest.param([[directory("d/e"), file("d/E")]], {"'d/e'", "'d/E'"}, id="a file and a directory"),
    pytest.param([[file("d/e"), directory("d/E")]], {"'d/e'", "'d/E'"}, id="a directory and a file"),
    pytest.param([[file("d/a")], [file("d/A")]], {"'d/a'", "'d/A'"}, id="in two layers"),
    pytest.param([[file("d/x")], [file("D/y")]], {"'d'", "'D'"}, id="directories in two layers"),
]


@pytest.mark.parametrize(("layers", "names"), TWINS)
@pytest.mark.parametrize("store", [False, True], ids=["", "from a store"])
def test_two_names_that_are_one_are_refused(
    layers: list[list[Entry]], names: set[str], store: bool, folding: Folding, tmp_path: Path
) -> None:
    """The later one would take the place of the other."""
    before = listing(folding.seen)
    line = refused(folding.unpack(*([f"--store={tmp_path}/store"] if store else []), layers=layers), 6)
    found = re.fullmatch(r".*/there(?:/in)?/dest: is on a filesystem that takes (.*) and (.*) for one name", line)

    assert found is not None, line
    assert set(found.groups()) == names
    assert listing(folding.seen) == before


def test_one_name_is_one(folding: Folding) -> None:
    """What has it is replaced, and hidden, as anywhere; what is hidden under another name stays."""
    layers = [
        [file("a", b"1"), file("a", b"2"), file("b", b"1"), file("gone/x"), file("Stays"), file("d")],
        [file("b", b"2"), whiteout("gone/x"), whiteout("STAYS"), directory("gone"), directory("d")],
    ]
    assert folding.unpack(layers=layers).status == 0
    dest = folding.seen / "dest"
    assert listing(dest) == ["Stays", "a", "b", "d", "gone"]
    assert [(dest / name).read_bytes() for name in ("Stays", "a", "b")] == [b"", b"2", b"2"]
    assert listing(dest / "d") == listing(dest / "gone") == []


@only(*LOWER)
@pytest.mark.parametrize(
    "entries",
    [
        [file("a"), symlink("A", "a")],
        [symlink("a", "nowhere"), file("A")],
        [symlink("a", "d"), directory("d"), file("A/x")],
        [symlink("a", "d"), directory("A")],
        [file("a"), fifo("A")],
        [file("a"), hardlink("A", "a")],
        [file("a"), file("b"), hardlink("A", "b")],
        [file("a"), hardlink("b", "c"), hardlink("A", "b"), file("c")],
        [hardlink("a", "later"), file("A"), file("later")],
    ],
    ids=lambda entries: ", ".join(f"{entry.kind} {os.fsdecode(entry.name)}" for entry in entries),
)
def test_links_of_two_names_that_are_one(entries: list[Entry], folding: Folding) -> None:
    """exFAT has no links; so they are tried where the first name stays what it is."""
    with FoldingBench(folding.seen) as bench:
        with pytest.raises(DestinationError, match="DEST: is on a filesystem that takes 'A' and 'a' for one name"):
            bench.stage(*entries, known=True)
        bench.discard(b"staged")


@only(*LOWER)
def test_a_filesystem_that_changes_names_is_refused(folding: Folding) -> None:
    line = refused(folding.unpack(layers=[[file("a")]]), 6)

    assert line == f"{folding.path}/dest: is on a filesystem that changes the case of names"
    assert listing(folding.seen) == []


def test_a_store_is_refused(folding: Folding, tmp_path: Path) -> None:
    """Its layers would need the same care, and overlayfs takes none from there."""
    outcome = folding.unpack(f"--store={folding.path}/store", layers=[[file("a")]])

    assert "upper and lower case for one" in refused(outcome, 5)
    assert not (folding.seen / "dest").exists()
    assert not (tmp_path / "dest").exists()


@only(*EXFAT)
@pytest.mark.parametrize("owner", ["auto", "self"])
def test_modes_that_do_not_stay_are_counted(owner: str, folding: Folding) -> None:
    """exFAT says yes to every mode and every owner, and keeps none."""
    entries: list[Entry] = [
        file("exact", mode=0o777, uid=1000),
        file("other", mode=0o640),
        file("x", mode=0o4755),
        directory("d", mode=0o700),
    ]
    outcome = folding.unpack(f"--owner={owner}", "--format=json", layers=[entries])
    said = json.loads(outcome.out)

    assert said["losses"] == {"mode": 4, **({"owner": 1} if owner == "auto" else {})}, "the root's mode as well"
    assert "mode 0640 became 0777" in said["loss_samples"]["mode"]


@only(*EXFAT)
def test_a_mode_that_does_not_stay_is_a_loss_for_strict(folding: Folding) -> None:
    line = refused(folding.unpack("--strict", layers=[[file("a", mode=0o640)]]), 5)

    assert line.startswith("not everything could be applied (mode 2): 'a': mode 0640 became 0777")
