"""What filesystems have no room for: never silent, never a reason to stop, and just what docs/fidelity.md says."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.interop.rows import COLUMNS, Lines, differences, rows
from tests.support.layoutbuild import write_layout
from tests.support.probes import PROJECT, has_tool, needs_chown, needs_mknod
from tests.support.tarbuild import SECOND, Entry, directory, fifo, file, hardlink, layer, symlink
from tests.support.treesum import manifest
from tests.unpack.command import Outcome, command, refused, run
from tests.unpack.namespace import Namespace, needs_mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = [needs_mount, needs_chown, needs_mknod]

FIXTURES = PROJECT / "fixtures"
NANOSECONDS = 1_234_567_890_987_654_321
TIMES = {
    "nanoseconds": NANOSECONDS,
    "before 1970": -SECOND // 4,
    "1901": -(2**31) * SECOND,
    "earlier": (-(2**31) - 1) * SECOND,
    "2038": 2**31 * SECOND,
    "2100": 4_102_444_800 * SECOND,
    "2446": 15_032_385_535 * SECOND,
    "2486": 16_299_260_424 * SECOND,
    "2514": 2**34 * SECOND,
    "in 35 million years": 2**50 * SECOND,
}
VALUES = {"small": b"1", "empty": b"", "3000": bytes(3000), "4096": bytes(4096), "65536": bytes(65536)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """A filesystem, and what it holds."""

    kind: str
    make: tuple[str, ...] = ()
    """The command that makes one in a file; none for those that live in memory."""
    first: int = -(2**62)
    last: int = 2**62
    """The times that it has, in seconds."""
    step: int = 1
    """How fine its times are, in nanoseconds."""
    value: int = -1
    """How long an extended attribute may be; -1: it has none."""
    links: int | None = None
    """How many names one file may have; None: more than we try."""
    target: int = 4095
    """How long a symbolic link's target may be."""

    def time(self, wanted: int) -> int:
        """Give the time that a file can have here."""
        clamped = max(self.first * SECOND, min(wanted, self.last * SECOND))
        return clamped // self.step * self.step


FILESYSTEMS = {
    "ext4": Filesystem(
        kind="ext4",
        make=("mkfs.ext4", "-q", "-F", "-N", "150000"),
        first=-(2**31),
        last=15_032_385_535,
        value=4000,
        links=65_000,
    ),
    "ext4 with inodes of 128 bytes": Filesystem(
        kind="ext4",
        make=("mkfs.ext4", "-q", "-F", "-I", "128"),
        first=-(2**31),
        last=2**31 - 1,
        step=SECOND,
        value=4000,
        links=65_000,
    ),
    "xfs": Filesystem(
        kind="xfs",
        make=("mkfs.xfs", "-q", "-m", "bigtime=1"),
        first=-(2**31),
        last=16_299_260_424,
        value=65536,
        target=1023,
    ),
    "xfs without bigtime": Filesystem(
        kind="xfs", make=("mkfs.xfs", "-q", "-m", "bigtime=0"), first=-(2**31), last=2**31 - 1, value=65536, target=1023
    ),
    "btrfs": Filesystem(kind="btrfs", make=("mkfs.btrfs", "-q"), value=16000, links=65_535),
    "tmpfs": Filesystem(kind="tmpfs", value=65536),
    "ramfs": Filesystem(kind="ramfs"),
}


class Mounted:
    """A filesystem in a mount namespace of its own, and a layout."""

    def __init__(self, namespace: Namespace, at: Path, layout: Path) -> None:
        self.layout = layout
        self.at = at
        self._namespace = namespace

    def run(self, dest: Path, *more: str, layout: Path | None = None) -> Outcome:
        """Unpack there."""
        words = ("-v", "--progress=none", "--no-labels", "--platform=linux/amd64", *more)
        return self._namespace.run(command(*words, layout or self.layout, dest))

    def unpack(self, *layers: Sequence[Entry]) -> dict[str, str]:
        """Unpack an image there, to ``root``; give, for each path, why something is not as it should be."""
        write_layout(self.layout, [layer(*entries) for entries in layers])
        outcome = self.run(self.at / "root")
        assert outcome.status == 0, outcome.lines
        losses = [re.fullmatch(r"not applied: [a-z]+ of '([^']*)': (.*)", line) for line in outcome.lines]
        return {found[1]: found[2] for found in losses if found}

    def there(self, path: Path) -> Path:
        """Give the path by which this process reaches something in it."""
        return self._namespace.path(path)

    @property
    def root(self) -> Path:
        """What was unpacked."""
        return self.there(self.at / "root")


def mount(namespace: Namespace, filesystem: Filesystem, place: Path) -> Path:
    """Make a filesystem of 512 MiB at most, and mount it; skip the test where that cannot be."""
    at, image = place / "mounted", place / "image"
    at.mkdir()
    what = [filesystem.kind]
    if filesystem.make:
        image.touch()
        os.truncate(image, 512 << 20)
        if not has_tool(filesystem.make[0]) or run([*filesystem.make, str(image)]).status:
            pytest.skip(f"missing: a way to make {filesystem.kind}")
        what = ["-o", "loop", str(image)]
    if namespace.run(["mount", "-t", filesystem.kind, *what, str(at)]).status:
        pytest.skip(f"missing: a kernel that mounts {filesystem.kind}")
    return at


@pytest.fixture(params=[pytest.param(one, id=name) for name, one in FILESYSTEMS.items()])
def filesystem(request: pytest.FixtureRequest) -> Filesystem:
    made: Filesystem = request.param
    return made


@pytest.fixture
def mounted(filesystem: Filesystem, tmp_path: Path) -> Iterator[Mounted]:
    with Namespace() as namespace:
        yield Mounted(namespace, mount(namespace, filesystem, tmp_path), tmp_path / "layout")
    (tmp_path / "image").unlink(missing_ok=True)  # pytest keeps the rest, which is small


# -- what all of them hold ---------------------------------------------------------------------------------------------


def expected_of(fixture: str, filesystem: Filesystem) -> Lines:
    """Give what is expected of a fixture, with the times that the filesystem has."""
    lines = [line.split("\t") for line in (FIXTURES / "expected" / f"{fixture}.txt").read_text().splitlines()]
    at = COLUMNS.index("mtime")
    return ["\t".join([*line[:at], str(filesystem.time(int(line[at]))), *line[at + 1 :]]) for line in lines]


@pytest.mark.parametrize("inside", [False, True], ids=["beside", "the mount point"])
@pytest.mark.parametrize("fixture", ["edge", "replaced"])
def test_an_image_of_many_layers(fixture: str, inside: bool, filesystem: Filesystem, mounted: Mounted) -> None:
    """All layers arrive: btrfs lists only what was in a directory when it was opened, and once they did not."""
    dest = mounted.at if inside else mounted.at / "root"
    outcome = mounted.run(dest, layout=FIXTURES / fixture)
    assert outcome.status == 0, outcome.lines
    if inside and (mounted.there(dest) / "lost+found").exists():
        (mounted.there(dest) / "lost+found").rmdir()
        os.utime(mounted.there(dest), ns=(0, rows_time(fixture)))
    found = differences(
        expected_of(fixture, filesystem),
        manifest(os.fsencode(mounted.there(dest))),
        lambda _path, column: column == "xattrs" and filesystem.value < 0,
    )

    assert not found


def rows_time(fixture: str) -> int:
    """Give the time of a fixture's root."""
    return int(rows((FIXTURES / "expected" / f"{fixture}.txt").read_text().splitlines())["."]["mtime"])


def test_a_refusal_leaves_nothing(mounted: Mounted) -> None:
    """The workspace is emptied, whatever is in it, and DEST was never there."""
    damaged = write_layout(mounted.layout, [layer(file("d/a")), layer(file("d/b"), file("e/f/g"))])
    damaged.flip(damaged.images[0].layers[1].digest)
    before = os.listdir(mounted.there(mounted.at))
    outcome = mounted.run(mounted.at / "root")

    assert outcome.status == 4
    assert os.listdir(mounted.there(mounted.at)) == before


# -- what some have no room for ----------------------------------------------------------------------------------------


def test_times(filesystem: Filesystem, mounted: Mounted) -> None:
    """A file gets the time that is nearest, and the one that it should have is said; a directory, too."""
    entries = [directory("d", mtime=TIMES["2514"])] + [file(name, mtime=time) for name, time in TIMES.items()]
    expected = {"d": TIMES["2514"], **TIMES}
    losses = mounted.unpack(entries)

    assert {name: os.stat(mounted.root / name).st_mtime_ns for name in expected} == {
        name: filesystem.time(time) for name, time in expected.items()
    }
    assert set(losses) == {name for name, time in expected.items() if filesystem.time(time) != time}
    assert all(why.startswith("time ") for why in losses.values())


def test_extended_attributes(filesystem: Filesystem, mounted: Mounted) -> None:
    """What has no room is left out and said, and so is what no filesystem has on Linux."""
    entries: list[Entry] = [file(name, xattrs={"user.x": value}) for name, value in VALUES.items()]
    nowhere = [
        symlink("link", "x", xattrs={"user.x": b"1"}),
        fifo("fifo", xattrs={"user.x": b"1"}),
        file("unknown", xattrs={"unknown.x": b"1"}),
        file("malformed", xattrs={"security.capability": b"x"}),
    ]
    losses = mounted.unpack([*entries, *nowhere])

    kept = {name for name, value in VALUES.items() if len(value) <= filesystem.value}
    assert {name for name in VALUES if "user.x" in os.listxattr(mounted.root / name)} == kept
    assert set(losses) == (set(VALUES) - kept) | {"link", "fifo", "unknown", "malformed"}


@pytest.mark.parametrize("filesystem", [FILESYSTEMS["ext4"]], ids=["ext4"], indirect=True)
def test_many_names_of_one_file(filesystem: Filesystem, mounted: Mounted) -> None:
    """Where no more links are possible there is a copy, and the names to come are its own."""
    most = filesystem.links
    assert most is not None
    losses = mounted.unpack([file("a", b"x"), *(hardlink(f"{number:06}", "a") for number in range(1, most + 3))])

    assert os.stat(mounted.root / "a").st_nlink == most
    assert list(losses) == [f"{number:06}" for number in range(most, most + 3)]
    assert (mounted.root / f"{most + 2:06}").read_bytes() == b"x"
    assert (mounted.root / f"{most:06}").stat().st_nlink == 3


def test_a_long_symbolic_link(filesystem: Filesystem, mounted: Mounted, tmp_path: Path) -> None:
    """It is there, or the whole is not: a link cannot be half of itself.  That is said without the whole target."""
    mounted.unpack([symlink("a", "x" * filesystem.target)])
    assert os.readlink(mounted.root / "a") == "x" * filesystem.target

    shutil.rmtree(mounted.root)
    shutil.rmtree(mounted.layout)
    write_layout(mounted.layout, [layer(symlink("a", "x" * (filesystem.target + 1)))])
    for words in ([], [f"--store={tmp_path}/store"]):
        _too_long(mounted.run(mounted.at / "root", *words), filesystem)
        assert not mounted.root.exists()


def _too_long(outcome: Outcome, filesystem: Filesystem) -> None:
    line = refused(outcome, 5 if filesystem.target == 4095 else 6)
    assert "entry 'a'" in line
    assert f"a symbolic link with a target of {filesystem.target + 1} bytes" in line
    assert "xxx" not in line
