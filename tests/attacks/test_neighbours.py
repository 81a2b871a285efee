"""Other users of the same machine, who see where an image is unpacked, and may make and rename files beside it.

What is made is neither verified yet nor meant for them, and may be setuid: it lies in a directory that only its owner
may enter, until it is complete (umoci's and Docker's were open, CVE-2021-41091, CVE-2021-41103, CVE-2024-25621).
"""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.attacks.arena import traces
from tests.support.layoutbuild import write_layout
from tests.support.probes import NOBODY, can_chown, needs_chown, needs_nobody, run_as_nobody
from tests.support.tarbuild import directory, file, hardlink, layer, symlink
from tests.support.tree import read, sketch
from tests.unpack.command import command, environment, refused, succeeded
from tests.unpack.command import unpack as run_unpack
from unpacker.errors import DestinationError
from unpacker.events import LayerProgress, LayerStarted
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.arena import Arena
    from unpacker.events import Event

SETUID = [
    [directory(".", mode=0o777), file("bin/su", b"#!/bin/sh\n", mode=0o6755), hardlink("bin/sudo", "bin/su")],
    [symlink("sbin", "bin"), directory("tmp", mode=0o1777), file("sbin/gone", mode=0o4711)],
    # Staged twice, as it goes through a link of the layer below.
    [file("sbin/third", b"#!/bin/sh\n", mode=0o6755), directory("bin", mode=0o777), hardlink("su", "bin/su")],
]


def workspaces(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if ".unpack-" in path.name]


# -- what others can see -----------------------------------------------------------------------------------------------


def default_acl() -> bytes:
    """Give an ACL that hands everything to everybody who comes, in the kernel's form."""
    entries = [(0x01, 7, 0xFFFFFFFF), (0x02, 7, NOBODY), (0x04, 7, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF)]
    entries.append((0x20, 7, 0xFFFFFFFF))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def prepare(place: Path, how: str) -> None:
    if how == "setgid":
        if not can_chown():
            pytest.skip("missing: the right to give files away (CAP_CHOWN)")
        os.chown(place, -1, NOBODY)
        place.chmod(0o2777)
    elif how == "default ACL":
        try:
            os.setxattr(place, "system.posix_acl_default", default_acl())
        except OSError as error:
            pytest.skip(f"missing: POSIX ACLs ({error.strerror})")
    else:
        place.chmod(int(how, 8))


@pytest.mark.parametrize("how", ["0755", "0777", "1777", "setgid", "default ACL"])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_nobody_else_can_enter_before_all_is_verified(how: str, umask: int, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", [layer(*one) for one in SETUID])
    place = tmp_path / "place"
    place.mkdir()
    prepare(place, how)
    seen = 0

    def look(_event: Event) -> None:
        nonlocal seen
        for path in workspaces(place):
            seen += 1
            status = path.lstat()
            assert stat.S_IMODE(status.st_mode) == 0o700
            assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
            assert not {"system.posix_acl_access", "system.posix_acl_default"} & set(os.listxattr(path))
        assert not (place / "dest").exists()

    before = os.umask(umask)
    try:
        unpack(tmp_path / "layout", place / "dest", on_event=look)
    finally:
        os.umask(before)

    assert seen > 5
    assert not workspaces(place)
    modes = {path: node.mode for path, node in read(place / "dest").items()}
    assert (modes[b"bin/su"], modes[b"bin/third"], modes[b"tmp"], modes[b"."]) == (0o6755, 0o6755, 0o1777, 0o777)


@needs_nobody
def test_a_setuid_program_cannot_be_run_before_it_is_verified(tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o711)
    write_layout(tmp_path / "layout", [layer(*one) for one in SETUID])
    tried: list[int] = []

    def attempt(_event: Event) -> None:
        tried.extend(map(_status, tmp_path.glob(".dest.unpack-*/*/bin/su")))

    unpack(tmp_path / "layout", tmp_path / "dest", on_event=attempt)

    assert tried
    assert all(tried), "permission denied, every time"
    assert _status(tmp_path / "dest/bin/su") == 0, "as soon as it is complete, it can be"


def _status(program: Path) -> int:
    return run_as_nobody(["sh", "-c", 'exec "$0"', str(program)], check=False).returncode


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_what_a_killed_run_leaves_is_private_and_goes_with_the_next(umask: int, tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", [layer(*one) for one in SETUID])
    killing = (
        "import os, signal, sys; from unpacker.unpacking import unpack; from unpacker.events import LayerApplied\n"
        "def kill(event):\n"
        "    if isinstance(event, LayerApplied) and event.index == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"os.umask({umask}); unpack(sys.argv[1], sys.argv[2], on_event=kill)"
    )
    words = [sys.executable, "-c", killing, str(tmp_path / "layout"), str(tmp_path / "dest")]
    assert subprocess.run(words, env=environment(), check=False).returncode == -9
    (left,) = workspaces(tmp_path)
    assert stat.S_IMODE(left.lstat().st_mode) == 0o700

    succeeded(run_unpack(tmp_path / "layout", tmp_path / "dest"))

    assert not workspaces(tmp_path)


# -- what others have put there ----------------------------------------------------------------------------------------


def test_a_directory_that_was_given_the_name_of_a_workspace_stays(arena: Arena) -> None:
    """In a directory that others may write to, they may rename what is ours; removed it can be only by us."""
    ours = arena.path / "ours"
    ours.mkdir(mode=0o755)
    (ours / "precious").write_text("precious")
    before = traces(ours)
    renamed = arena.path / ".dest.unpack-0123abcd"
    ours.rename(renamed)
    write_layout(arena.layout, [layer(*SETUID[0])])

    unpack(arena.layout, arena.dest)

    assert traces(renamed)["precious"] == before["precious"]


@pytest.mark.parametrize("thing", ["file", "link", "fifo"])
def test_what_only_looks_like_a_workspace_is_left(thing: str, arena: Arena) -> None:
    place = arena.path / ".dest.unpack-0123abcd"
    if thing == "file":
        place.write_text("kept")
    elif thing == "link":
        place.symlink_to(arena.outside)
    else:
        os.mkfifo(place)
    write_layout(arena.layout, [layer(*SETUID[0])])

    unpack(arena.layout, arena.dest)

    assert place.lstat()
    place.unlink()
    arena.check()


@needs_chown
@pytest.mark.parametrize("target", ["outside/empty", "outside/new", "outside"])
@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
@pytest.mark.parametrize("mode", [0o1777, 0o777], ids=["sticky", "not-sticky"])
def test_a_link_that_somebody_has_put_in_the_place_of_dest_is_not_followed(
    mode: int, target: str, force: bool, arena: Arena
) -> None:
    """Where all may make files, whoever guesses DEST would choose where the image goes: to /root/.ssh, for one."""
    write_layout(arena.layout, [layer(*SETUID[0])])
    arena.path.chmod(mode)
    arena.dest.symlink_to(arena.path / target)
    os.chown(arena.dest, NOBODY, NOBODY, follow_symlinks=False)

    with pytest.raises(DestinationError, match="is a symbolic link of another user"):
        unpack(arena.layout, arena.dest, force=force)

    arena.check()


@needs_chown
@pytest.mark.parametrize(("mode", "owner"), [(0o755, NOBODY), (0o777, 0), (0o1777, 0), (0o1755, NOBODY)])
def test_a_link_in_the_place_of_dest_that_is_ours_is_followed(mode: int, owner: int, arena: Arena) -> None:
    """Where everybody may make links our own, elsewhere any."""
    write_layout(arena.layout, [layer(file("a", b"x"))])
    arena.path.chmod(mode)
    (arena.path / "real").mkdir()
    arena.dest.symlink_to("real")
    os.chown(arena.dest, owner, owner, follow_symlinks=False)

    unpack(arena.layout, arena.dest)

    assert sketch(read(arena.path / "real")) == {"a": "file x"}


@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
@pytest.mark.parametrize("thing", ["link", "dangling", "file", "full", "fifo"])
def test_what_comes_to_dest_meanwhile_is_neither_followed_nor_filled(thing: str, force: bool, arena: Arena) -> None:
    write_layout(arena.layout, [layer(*SETUID[0])])

    def plant(event: Event) -> None:
        if not isinstance(event, LayerStarted):
            return
        if thing == "link":
            arena.dest.symlink_to(arena.outside / "empty")
        elif thing == "dangling":
            arena.dest.symlink_to(arena.outside / "new")
        elif thing == "file":
            arena.dest.write_text("mine")
        elif thing == "fifo":
            os.mkfifo(arena.dest)
        else:
            arena.dest.mkdir()
            (arena.dest / "mine").touch()

    if force and thing == "full":  # a directory, which is what --force replaces
        unpack(arena.layout, arena.dest, force=True, on_event=plant)
        assert not (arena.dest / "mine").exists()
    else:
        with pytest.raises(DestinationError, match="in the meantime"):
            unpack(arena.layout, arena.dest, force=force, on_event=plant)

    assert os.path.lexists(arena.dest)
    assert not workspaces(arena.path)
    arena.check()


def test_the_layout_is_read_by_a_descriptor_of_the_blob_not_by_its_name_again(arena: Arena) -> None:
    """A blob that is exchanged while it is read goes on to be the one that was opened; the next run sees the other."""
    built = write_layout(arena.layout, [layer(file("big", os.urandom(3 << 20)))], compression="none")
    path = built.blob_path(built.images[0].layers[0].digest)

    def exchange(event: Event) -> None:
        if isinstance(event, LayerProgress):
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/zero")

    unpack(arena.layout, arena.dest, on_event=exchange)

    assert (arena.dest / "big").stat().st_size == 3 << 20
    assert refused(run_unpack(arena.layout, arena.path / "again"), 5).endswith("unsupported file type symbolic link")
    arena.check()


def test_a_stopped_run_leaves_nothing_for_others(tmp_path: Path) -> None:
    """SIGTERM in the middle: neither DEST nor the workspace, whose content nobody has verified."""
    write_layout(tmp_path / "layout", [layer(file(str(number), b"x" * 5000)) for number in range(20)])
    process = subprocess.Popen(command(tmp_path / "layout", tmp_path / "dest"), env=environment())
    try:
        while process.poll() is None and not workspaces(tmp_path):
            pass
        process.terminate()
    finally:
        assert process.wait(timeout=20) in (0, 143)
    assert not workspaces(tmp_path)
    assert process.returncode == 0 or not (tmp_path / "dest").exists()
