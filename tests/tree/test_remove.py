"""Removal: any tree, of any depth and any modes, and nothing beside it."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.namespaces import in_own_mounts
from tests.support.mounted import mounted_btrfs
from tests.support.probes import (
    NOBODY,
    PROJECT,
    has_tool,
    needs_btrfs,
    needs_mknod,
    needs_nobody,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from tests.tree.support import Watch, descriptors, opened
from unpacker.tree import subvolume
from unpacker.tree.remove import remove_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def remove(path: Path) -> None:
    with opened(path.parent) as parent:
        remove_at(parent, os.fsencode(path.name))


def make_deep(top: Path, depth: int, *, mode: int = 0o700, width: int = 0) -> None:
    """Make directories in each other, deeper than any path can name; in each of them some files and directories."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for number in range(depth):
        for other in range(width):
            os.close(os.open(f"file{other}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
            os.mkdir(f"directory{other}", dir_fd=here)
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.fchmod(here, mode if number else 0o700)
        os.close(here)
        here = deeper
    os.close(here)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Give a directory outside with a file in it, and insist that both stay."""
    outside = tmp_path / "outside"
    outside.mkdir(0o750)
    (outside / "file").write_bytes(b"untouched")
    before = outside.stat()
    yield outside
    assert (outside / "file").read_bytes() == b"untouched"
    assert os.listdir(outside) == ["file"]
    assert (outside.stat().st_mode, outside.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


# -- what is removed ---------------------------------------------------------------------------------------------------


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


THINGS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_bytes(b"data"),
    "file without permissions": lambda path: path.touch(0o000),
    "empty directory": lambda path: path.mkdir(),
    "directory without permissions": lambda path: path.mkdir(0o000),
    "full directory": lambda path: make_deep(path, 3, width=2),
    "fifo": os.mkfifo,
    "socket": _socket,
    "link": lambda path: path.symlink_to("outside"),
    "absolute link": lambda path: path.symlink_to(path.parent / "outside"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("thing", THINGS)
def test_anything_goes(thing: str, tmp_path: Path, canary: Path) -> None:
    """And nothing else does."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "beside").touch()
    (place / "outside").symlink_to(canary)
    THINGS[thing](place / "gone")
    remove(place / "gone")
    assert sorted(os.listdir(place)) == ["beside", "outside"]


@pytest.mark.parametrize("name", [b"\xe9", b"-rf", b" ", b"x" * 255, b"new\nline", b"*"], ids=ascii)
@pytest.mark.parametrize("thing", ["file", "full directory", "link"])
def test_any_name_goes(thing: str, name: bytes, tmp_path: Path) -> None:
    (tmp_path / "outside").touch()
    THINGS[thing](tmp_path / os.fsdecode(name))
    remove(tmp_path / os.fsdecode(name))
    assert os.listdir(tmp_path) == ["outside"]


def test_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove(tmp_path / "nothing")


def test_a_name_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "caf\u00e9").mkdir()
    with opened(tmp_path) as parent:
        remove_at(parent, "caf\u00e9")
    assert os.listdir(tmp_path) == []


@needs_mknod
def test_devices_go_unopened(tmp_path: Path) -> None:
    """There is no driver for this one: to open it would be ENXIO."""
    (tmp_path / "d").mkdir()
    os.mknod(tmp_path / "d" / "node", 0o020666, os.makedev(4000, 77))
    remove(tmp_path / "d")
    assert os.listdir(tmp_path) == []


def test_links_in_a_tree_are_not_followed(tmp_path: Path, canary: Path) -> None:
    tree = tmp_path / "tree"
    make_deep(tree, 2, width=1)
    for where in (tree, tree / "d", tree / "d" / "d"):
        (where / "relative").symlink_to(os.path.relpath(canary, where))
        (where / "absolute").symlink_to(canary)
        (where / "up").symlink_to("../..")
    remove(tree)
    assert os.listdir(tmp_path) == ["outside"]


def test_other_names_of_a_file_stay(tmp_path: Path, canary: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "name").hardlink_to(canary / "file")
    remove(tmp_path / "tree")
    assert (canary / "file").stat().st_nlink == 1


# -- depth and width ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "width"), [(63, 1), (64, 1), (65, 1), (130, 2), (300, 2), (1100, 0)])
def test_depth_is_no_matter(depth: int, width: int, quick_path: Path) -> None:
    """``shutil.rmtree`` fails at a thousand levels, a path at some 2,000."""
    make_deep(quick_path / "deep", depth, width=width)
    before = descriptors()
    with Watch() as watch:
        remove(quick_path / "deep")
    assert os.listdir(quick_path) == []
    assert descriptors() == before
    assert watch.most < before + 80


def test_few_descriptors_are_enough(quick_path: Path) -> None:
    """The usual limit is 1024; a fraction of it must do."""
    make_deep(quick_path / "deep", 300)
    program = textwrap.dedent("""
        import os, resource, sys
        from unpacker.tree.remove import remove_at
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        remove_at(os.open(sys.argv[1], os.O_RDONLY), b"deep")
    """)
    subprocess.run([sys.executable, "-c", program, quick_path], check=True)
    assert os.listdir(quick_path) == []


def test_what_lies_deep_is_not_put_beside_the_tree(quick_path: Path) -> None:
    """Where a run that is killed would leave it for ever: whatever there is in the meantime, it is in the tree."""
    make_deep(quick_path / "deep", 1000)
    seen = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.update(os.listdir(quick_path))

    thread = threading.Thread(target=watch)
    thread.start()
    remove(quick_path / "deep")
    ended.set()
    thread.join()
    assert seen <= {"deep"}


@pytest.mark.parametrize("beside", [".deep.deep-1", ".deep-1", "d", "deep.deep-1"])
def test_names_that_the_removal_might_use_stay(beside: str, quick_path: Path) -> None:
    """What lies deep gets another name for a moment; one of the image's own must not be lost for it."""
    make_deep(quick_path / "deep", 200)
    (quick_path / "deep" / beside).mkdir(exist_ok=True)
    (quick_path / beside).mkdir()
    remove(quick_path / "deep")
    assert os.listdir(quick_path) == [beside]


def test_a_wide_directory(quick_path: Path) -> None:
    (quick_path / "wide").mkdir()
    with opened(quick_path / "wide") as wide:
        for number in range(300):
            os.close(os.open(f"file{number}", os.O_CREAT | os.O_WRONLY, dir_fd=wide))
            os.mkdir(f"directory{number}", dir_fd=wide)
    remove(quick_path / "wide")
    assert os.listdir(quick_path) == []


# -- without privilege -------------------------------------------------------------------------------------------------

AS_NOBODY = textwrap.dedent("""
    import os, stat
    from unpacker.tree.remove import remove_at
    here = os.open(".", os.O_RDONLY)
    for mode in (0o000, 0o500, 0o300, 0o400, 0o100):
        os.makedirs("t/a/b/c")
        for path in ("t/a/b/c/f", "t/a/b/f", "t/a/f", "t/f"):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0))
        for path in ("t/a/b/c", "t/a/b", "t/a", "t"):
            os.chmod(path, mode)
        remove_at(here, b"t")
        assert os.listdir(".") == [], mode
    # The same, so deep that directories are renamed on their way.
    down = [here]
    for number in range(150):
        os.mkdir("d", dir_fd=down[-1])
        down.append(os.open("d", os.O_RDONLY, dir_fd=down[-1]))
    for descriptor in reversed(down[1:]):
        os.fchmod(descriptor, 0)
        os.close(descriptor)
    remove_at(here, b"d")
    print(os.listdir("."))
""")


@needs_nobody
def test_directories_without_permissions_go_for_their_owner() -> None:
    """An image may ask for 0000 directories, and an unprivileged user could not remove what it has unpacked."""
    with nobodys_directory() as place:
        assert run_as_nobody([nobodys_python() or "", "-c", AS_NOBODY], cwd=place).stdout == "[]\n"


REFUSED = textwrap.dedent("""
    import os, sys
    from unpacker.tree.remove import remove_at
    try:
        remove_at(os.open(sys.argv[1], os.O_RDONLY), sys.argv[2])
    except OSError as error:
        print(type(error).__name__)
""")


@needs_nobody
@pytest.mark.parametrize("name", ["file", "directory", "link"])
def test_what_may_not_be_removed_is_an_error(name: str, canary: Path) -> None:
    """And it stays as it is."""
    with nobodys_directory() as place:
        theirs = place / "theirs"
        theirs.mkdir(0o755)
        (theirs / "file").write_bytes(b"data")
        (theirs / "directory").mkdir(0o755)
        (theirs / "directory" / "inner").touch()
        (theirs / "link").symlink_to(canary)
        done = run_as_nobody([nobodys_python() or "", "-c", REFUSED, theirs, name])
        assert done.stdout == "PermissionError\n"
        assert sorted(os.listdir(theirs)) == ["directory", "file", "link"]
        assert os.listdir(theirs / "directory") == ["inner"]


def test_an_immutable_file_is_an_error(tmp_path: Path) -> None:
    """``chattr +i`` binds root as well."""
    path = tmp_path / "tree" / "file"
    path.parent.mkdir()
    path.touch()
    if not has_tool("chattr") or subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode:
        pytest.skip("missing: chattr, and a filesystem that knows it")
    before = descriptors()
    try:
        with pytest.raises(PermissionError) as caught:
            remove(path.parent)
        assert caught.value.errno == errno.EPERM
        assert descriptors() == before
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


# -- races -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["outside", "outside/file"])
def test_a_directory_that_becomes_a_link_meanwhile(target: str, tmp_path: Path, canary: Path) -> None:
    """Another thread lets directories and links to the outside trade places, as fast as it can.

    The removal may fail over it; what the links lead to stays (CVE-2018-15664 was such a race, in ``docker cp``).
    """
    at_work = tmp_path / "tree"
    ended = threading.Event()

    def swap() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            for path in (at_work / "a", at_work / "a" / "b"):
                with suppress(OSError):
                    os.rename(path, tmp_path / f"away{number}")
                    path.symlink_to(tmp_path / target)
                    path.unlink()
                    os.rename(tmp_path / f"away{number}", path)

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes: set[str] = set()
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end or not (outcomes - {"removed"} and "removed" in outcomes):
            fresh = tmp_path / "fresh"
            make_deep(fresh, 1, width=1)
            os.rename(fresh / "d", fresh / "a")
            make_deep(fresh / "a" / "b", 2, width=1)
            with suppress(OSError):
                os.rename(fresh, at_work)
            try:
                remove(at_work)
                outcomes.add("removed")
            except OSError as error:
                outcomes.add(errno.errorcode[error.errno or 0])
            for left in (fresh, at_work):
                with suppress(OSError):
                    remove(left)
            assert time.monotonic() < end + 20, outcomes
    finally:
        ended.set()
        thread.join()


# -- subvolumes of btrfs -----------------------------------------------------------------------------------------------


def make_subvolumes(top: Path) -> None:
    """Make a directory with a read-only subvolume in it, which has another one in it, and files that are elsewhere, too."""
    (top / "d").mkdir(parents=True)
    for parent, name in ((top / "d", "a"), (top / "d/a", "b")):
        with opened(parent) as directory:
            assert subvolume.create(directory, name.encode())
        (parent / name / "x/y").mkdir(parents=True)
        (parent / name / "x/file").write_bytes(b"data")
        (parent / name / "x").chmod(0o500)
    for name in ("a/b", "a"):
        with opened(top / "d" / name) as tree:
            assert subvolume.set_writable(tree, writable=False)


@needs_btrfs
@in_own_mounts
def test_subvolumes_go_like_directories_the_read_only_ones_too(tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    make_subvolumes(place / "top")

    remove(place / "top")

    assert os.listdir(place) == []


@needs_btrfs
@needs_nobody
@in_own_mounts
def test_subvolumes_of_a_user_without_privilege_are_emptied() -> None:
    """Only the mount option user_subvol_rm_allowed would let such a user destroy one with what is in it."""
    python = nobodys_python()
    assert python is not None
    program = (
        "import os, sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from tests.tree.test_remove import make_subvolumes, remove\n"
        "make_subvolumes(pathlib.Path('top')); assert os.stat('top/d/a').st_ino == 256; remove(pathlib.Path('top'))"
    )
    with nobodys_directory() as directory:
        place = mounted_btrfs(directory)
        os.chown(place, NOBODY, NOBODY)

        run_as_nobody([python, "-c", program, str(PROJECT)], cwd=place)

        assert os.listdir(place) == []
        subprocess.run(["umount", place], check=True)
