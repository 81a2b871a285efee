"""One file, link or node at a time: its content in any pieces, what it replaces, and what cannot be made."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Literal

import pytest

from tests.layer.bench import Bench
from tests.support.probes import (
    PROJECT,
    needs_mknod,
    needs_nobody,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from tests.support.tarbuild import (
    Entry,
    block,
    char,
    directory,
    fifo,
    file,
    layer,
    sparse_old,
    sparse_pax,
    symlink,
)
from tests.support.tree import read
from unpacker.archive.reader import TarReader
from unpacker.errors import UnpackError
from unpacker.events import LossKind
from unpacker.layer.markers import markers
from unpacker.layer.stage import Stager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Version = Literal["0.0", "0.1", "1.0"]


@pytest.fixture
def bench(quick_path: Path) -> Iterator[Bench]:
    with Bench(quick_path) as made:
        yield made


def stage_in_pieces(bench: Bench, size: int, *entries: Entry) -> None:
    archive = layer(*entries)
    with bench.tree(b"staged") as tree, bench.tree(b"store") as store:
        pieces = (archive[start : start + size] for start in range(0, len(archive), size))
        Stager(tree, store, bench.rules, known=True).run(TarReader(pieces))
    bench.discard(b"store")


# -- content -----------------------------------------------------------------------------------------------------------

CONTENTS = {
    "empty": b"",
    "a byte": b"x",
    "less than a page": b"x" * 4095,
    "a page": b"x" * 4096,
    "a page of zeros": bytes(4096),
    "more than a page": b"x" * 4097,
    "zeros in the middle": b"a" * 5000 + bytes(50_000) + b"z",
    "zeros at the end": b"a" + bytes(100_000),
    "zeros": bytes(300_000),
    "bytes": os.urandom(100_000),
}


@pytest.mark.parametrize("size", [511, 4096, 65_536, 1 << 20])
def test_contents_in_pieces_of_every_size(size: int, bench: Bench) -> None:
    stage_in_pieces(bench, size, *[file(name, data) for name, data in CONTENTS.items()])
    for name, data in CONTENTS.items():
        assert (bench.path / "staged" / name).read_bytes() == data, name


def test_zeros_take_no_space(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.stage(file("zeros", bytes(8 << 20)), known=True)
    status = (tmp_path / "staged" / "zeros").stat()
    (tmp_path / "probe").touch()
    os.truncate(tmp_path / "probe", 8 << 20)
    if (tmp_path / "probe").stat().st_blocks:
        pytest.skip("missing: a filesystem with holes")
    assert (status.st_size, status.st_blocks) == (8 << 20, 0)


SEGMENTS = [(0, b"start" * 200), (70_001, b"middle"), (1_000_000, b"end" * 3000)]


@pytest.mark.parametrize("size", [777, 1 << 20])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda name, length: sparse_old(name, SEGMENTS, length), id="old"),
        *[
            pytest.param(lambda name, length, v=version: sparse_pax(name, SEGMENTS, length, v), id=version)
            for version in ("0.0", "0.1", "1.0")
        ],
    ],
)
def test_sparse_files_are_whole(make: Callable[[str, int], Entry], size: int, bench: Bench) -> None:
    """Data at its places, whatever the pieces; holes between them, and at the end."""
    ends_in_data, ends_in_hole = make("data", 1_009_000), make("hole", 3_000_000)
    stage_in_pieces(bench, size, ends_in_data, ends_in_hole, file("after", b"after"))
    assert (bench.path / "staged" / "data").read_bytes() == ends_in_data.data
    assert (bench.path / "staged" / "hole").read_bytes() == ends_in_hole.data
    assert (bench.path / "staged" / "after").read_bytes() == b"after"


# -- what is replaced --------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[str], list[Entry]]] = {
    "file": lambda name: [file(name, b"new", mode=0o000)],
    "full directory": lambda name: [directory(name, mode=0o000), file(f"{name}/x"), directory(f"{name}/y/z")],
    "link": lambda name: [symlink(name, "../canary")],
    "fifo": lambda name: [fifo(name)],
}


@pytest.mark.parametrize("new", MAKERS)
@pytest.mark.parametrize("old", MAKERS)
def test_the_last_entry_of_a_name_wins(old: str, new: str, bench: Bench) -> None:
    """By unlink and O_EXCL: nothing is written to, or through, what was there."""
    canary = bench.path / "canary"
    canary.write_bytes(b"untouched")
    bench.stage(*MAKERS[old]("a"), *MAKERS[new]("a"), known=True)
    with_only_new = read(bench.path / "staged")
    bench.stage(*MAKERS[new]("a"), known=True)
    assert {path: node.kind for path, node in with_only_new.items()} == {
        path: node.kind for path, node in read(bench.path / "staged").items()
    }
    assert canary.read_bytes() == b"untouched"


def test_what_somebody_planted_is_not_written_to(bench: Bench) -> None:
    """Another process of the caller may do that in the private directory: it is replaced like any other name."""
    canary = bench.path / "canary"
    canary.write_bytes(b"untouched")
    with bench.tree(b"own") as own, bench.tree(b"links") as links:
        stager = Stager(own, links, bench.rules, known=True)
        (bench.path / "own" / "a").symlink_to("../canary")
        (bench.path / "own" / "b").hardlink_to(canary)
        (bench.path / "own" / "c").symlink_to("../nothing")
        stager.run(TarReader(iter([layer(*[file(name, b"new") for name in "abc"])])))
    assert canary.read_bytes() == b"untouched"
    assert [(bench.path / "own" / name).read_bytes() for name in "abc"] == [b"new"] * 3
    assert not (bench.path / "nothing").exists()


# -- what cannot be made -----------------------------------------------------------------------------------------------

AS_NOBODY = textwrap.dedent("""
    from pathlib import Path
    from tests.layer.bench import Bench
    from tests.support.tarbuild import *

    def show():
        print(sorted(bench.changes.skipped), bench.sketch())
        print(bench.changes.losses.counts["device"], *bench.changes.losses.samples["device"])

    with Bench(Path(".")) as bench:
        bench.add(file("old", b"1"), file("null", b"a file"), char("dev/null", 1, 3), block("dev/sda", 8, 0), fifo("p"))
        show()
        bench.add(char("old", 1, 3), hardlink("zero", "dev/null"), hardlink("x", "zero"))
        show()
""")


@needs_nobody
def test_devices_that_may_not_be_made_are_losses_and_gone() -> None:
    """What they would have replaced is gone as well, and hard links to them are no links to nothing."""
    with nobodys_directory() as place:
        done = run_as_nobody([nobodys_python() or "", "-c", AS_NOBODY], cwd=place)
    assert done.stdout.splitlines() == [
        "[b'dev/null', b'dev/sda'] {'dev': 'directory', 'null': 'file a file', 'old': 'file 1', 'p': 'fifo'}",
        "2 b'dev/null' character device not made: Operation not permitted",
        "[b'old', b'x', b'zero'] {'dev': 'directory', 'null': 'file a file', 'p': 'fifo'}",
        "3 b'old' character device not made: Operation not permitted",
    ]


@needs_mknod
@pytest.mark.parametrize("device", [(0, 0), (1, 3), (4095, 1048575)])
def test_devices_of_every_number(device: tuple[int, int], bench: Bench) -> None:
    """A device 0:0 is no whiteout but where layers stay apart."""
    bench.stage(char("node", *device, mode=0o4640), known=True)
    node = read(bench.path / "staged")[b"node"]
    assert (node.kind, node.rdev, node.mode) == ("char", device, 0o4640)


@needs_mknod
def test_a_device_that_would_be_a_whiteout_is_a_loss_where_layers_stay_apart(quick_path: Path) -> None:
    """Overlayfs would hide a name of the layers below for it."""
    with Bench(quick_path, markers=markers("device")) as bench:
        stager = bench.stage(char("hidden", 0, 0), char("null", 1, 3), block("zero", 0, 0), known=True)
    assert bench.staged() == {"null": "char 1:3", "zero": "block 0:0"}
    assert stager.changes.skipped == {b"hidden"}
    assert [(kind, path) for kind, path, _ in bench.losses] == [(LossKind.DEVICE, b"hidden")]


FULL_DISK = textwrap.dedent("""
    import resource, signal, sys
    from pathlib import Path
    from tests.layer.bench import Bench
    from tests.support.tarbuild import file, whiteout

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with Bench(Path(sys.argv[1])) as bench:
        try:
            bench.stage(file("small", b"x" * 50_000), file("large", b"x" * 200_000), known=True)
        except OSError as error:
            print(error.errno, error.__notes__)
""")


def test_a_full_disk_says_at_which_entry(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "27 [\"entry 'large'\"]\n"


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(layer(file("d/a", b"x" * 5000), end=False)[:2000], id="cut off"),
        pytest.param(layer(file("d/a"), symlink("b", ""), end=False), id="refused"),
        pytest.param(layer(file("d/a"), file(".wh."), end=False), id="refused by name"),
    ],
)
def test_descriptors_are_closed_whatever_happens(archive: bytes, bench: Bench) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnpackError), bench.tree(b"own") as own, bench.tree(b"links") as links:
        Stager(own, links, bench.rules, known=True).run(TarReader(iter([archive])))
    assert len(os.listdir("/proc/self/fd")) == before
