"""Races: while an image is unpacked, another process goes on exchanging directories for links that lead outside.

In the workspace only the same user can, for nobody else may enter it.  Beside DEST it can be anybody, if DEST's parent
is everybody's.  Paths that are checked and then used lose such races sooner or later (CVE-2018-15664, CVE-2021-30465,
CVE-2025-47290); directory descriptors and names in them do not.  Whether a run that is disturbed so succeeds is nobody's
promise: it ends, and nothing outside is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.probes import NOBODY, needs_nobody, nobodys_python
from tests.support.tarbuild import Entry, directory, fifo, file, hardlink, layer, opaque, symlink, whiteout
from unpacker.errors import UnpackError
from unpacker.events import LayerStarted
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.attacks.arena import Arena
    from unpacker.events import Event

SECONDS = 1.5
"""How long a race goes on."""

# Puts a link to the outside in the place of each directory that it finds, and the directory back.
EXCHANGE = """
import os, sys
place, outside, depth, spared = sys.argv[1], sys.argv[2], int(sys.argv[3]), {*sys.argv[4:]}
def directories(path, depth):
    try:
        with os.scandir(path) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False) and entry.path not in spared:
                    yield entry.path
                    if depth:
                        yield from directories(entry.path, depth - 1)
    except OSError:
        pass
print("ready", flush=True)
while True:
    for path in directories(place, depth):
        aside = path + ".aside"
        try:
            os.rename(path, aside)
            os.symlink(outside, path)
            os.unlink(path)
            os.rename(aside, path)
        except OSError:
            pass
"""

LAYERS: list[list[Entry]] = [
    [entry for number in range(12) for entry in [directory(f"d{number}/deep/er", mode=0o777)]]
    + [file(f"d{number}/deep/er/file", b"overwritten", mode=0o777) for number in range(12)]
    + [file(f"d{number}/secret", b"overwritten", mode=0o4777) for number in range(12)],
    [whiteout(f"d{number}/secret") for number in range(6)]
    + [opaque(f"d{number}/deep") for number in range(6)]
    + [symlink(f"d{number}/link", "x") for number in range(12)]
    + [fifo(f"d{number}/empty", mode=0o666, xattrs={"user.x": b"x"}) for number in range(12)]
    + [directory(f"d{number}", mode=0o777, xattrs={"user.x": b"x"}) for number in range(12)],
    [symlink("way", "d1")],
    [file("way/x"), *[hardlink(f"d{number}/h", "way/x") for number in range(12)]],
]


@contextmanager
def exchanging(
    place: Path,
    arena: Arena,
    depth: int,
    *,
    spared: Sequence[Path] = (),
    python: str = sys.executable,
    user: int | None = None,
) -> Iterator[None]:
    process = subprocess.Popen(
        [python, "-c", EXCHANGE, str(place), str(arena.outside), str(depth), *map(str, spared)],
        stdout=subprocess.PIPE,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def unpack_again_and_again(arena: Arena, dest: Path) -> list[str]:
    """Unpack for a while; give what came of each run."""
    came = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            unpack(arena.layout, dest, force=True, labels=False)
        except (UnpackError, OSError) as error:
            came.append(type(error).__name__)
        else:
            came.append("done")
    return came


def test_directories_of_the_workspace_become_links(arena: Arena) -> None:
    """By the same user, who could do worse: who makes DEST a link says that the tree shall be where it leads."""
    write_layout(arena.layout, [layer(*one) for one in LAYERS], compression="none")
    place = arena.path / "place"
    place.mkdir()
    with exchanging(place, arena, depth=3, spared=[place / "dest"]):
        came = unpack_again_and_again(arena, place / "dest")
    assert came
    shutil.rmtree(place)
    arena.check()


@needs_nobody
@pytest.mark.parametrize("mode", [0o1777, 0o777], ids=["sticky", "not-sticky"])
def test_directories_beside_dest_become_links(mode: int, arena: Arena) -> None:
    """By another user, in a directory that is everybody's; in a sticky one only owners may rename."""
    for above in (arena.path, *arena.path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o755)
    write_layout(arena.layout, [layer(*one) for one in LAYERS], compression="none")
    place = arena.path / "place"
    place.mkdir()
    place.chmod(mode)
    python = nobodys_python()
    assert python is not None
    with exchanging(place, arena, depth=0, python=python, user=NOBODY):
        came = unpack_again_and_again(arena, place / "dest")
    assert came
    if mode == 0o1777:
        assert set(came) == {"done"}
    shutil.rmtree(place)
    arena.check()


@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
def test_the_parent_of_dest_becomes_a_link(force: bool, arena: Arena) -> None:
    """It is opened once; where its name leads to later does not matter."""
    write_layout(arena.layout, [layer(*one) for one in LAYERS])
    parent = arena.path / "place"
    (parent / "dest").mkdir(parents=True)
    if force:
        (parent / "dest" / "old").touch()

    def exchange(event: Event) -> None:
        if isinstance(event, LayerStarted) and event.index == 0:
            parent.rename(arena.path / "aside")
            parent.symlink_to(arena.outside)

    unpack(arena.layout, parent / "dest", force=force, on_event=exchange)

    assert sorted(os.listdir(arena.path / "aside")) == ["dest"]
    assert (arena.path / "aside/dest/d1/h").exists()
    parent.unlink()
    shutil.rmtree(arena.path / "aside")
    arena.check()
