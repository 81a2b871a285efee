"""DEST in every state that a user may have it in: made, filled, replaced or refused, and never half of that."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snapshots.namespaces import in_own_mounts
from tests.support.layoutbuild import write_layout
from tests.support.mounted import mounted_btrfs
from tests.support.probes import needs_btrfs, needs_chown, needs_tool
from tests.support.tarbuild import SECOND, directory, file, layer, symlink
from tests.support.tree import Tree, diff, read
from tests.unpack.command import command, hints, listing, refused, run, succeeded, unpack
from unpacker.errors import DestinationError
from unpacker.events import Event, LayerStarted
from unpacker.tree import subvolume
from unpacker.unpacking import unpack as unpack_image

TAR = layer(
    directory("./", mode=0o751, mtime=7 * SECOND),
    directory("etc", mode=0o555, mtime=8 * SECOND),
    file("etc/motd", b"welcome\n", mode=0o604),
    symlink("motd", "etc/motd"),
)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An image, in a directory with nothing else."""
    return write_layout(tmp_path / "layout", [TAR]).path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """What should come out of it."""
    place = tmp_path_factory.mktemp("good")
    succeeded(unpack(write_layout(place / "layout", [TAR]).path, place / "dest"))
    return read(place / "dest")


# -- what is not there yet ---------------------------------------------------------------------------------------------


def test_the_root_has_the_attributes_that_the_image_says(good: Tree) -> None:
    """Whatever the umask, the workspace and its parent say."""
    root = good[b"."]
    assert (root.kind, root.mode, root.uid, root.mtime_ns) == ("directory", 0o751, os.geteuid(), 7 * SECOND)


@pytest.mark.parametrize(
    "name",
    [
        "dest",
        "dest/",
        "./dest//",
        "a/b/c/dest",
        "a/../dest",
        "-dest",
        ".hidden",
        "with blank",
        "new\nline",
        "ümläut",
        os.fsdecode(b"not \xff utf-8 \x80"),
        "x" * 255,
        os.fsdecode(b"\xff" * 255),
        "layout/rootfs",
    ],
    ids=ascii,
)
def test_any_path_that_the_kernel_takes_will_do(layout: Path, good: Tree, name: str, tmp_path: Path) -> None:
    """Relative or absolute, with parents that are not there, in the layout itself; of any bytes and 255 of them."""
    for dest, cwd in ((name, tmp_path), (f"{tmp_path}/absolute/{name}", Path("/"))):
        outcome = run(command("-q", "--", layout, dest), cwd=cwd)

        succeeded(outcome)
        assert diff(good, read(Path(os.path.normpath(cwd / dest)))) == []
        assert not list(tmp_path.rglob(".*unpack-*"))


def test_a_name_that_is_too_long_is_refused_before_the_work(layout: Path, tmp_path: Path) -> None:
    """256 bytes; the workspace's own name would have fitted."""
    dest = tmp_path / ("x" * 256)

    assert refused(unpack(layout, dest), 6) == f"{dest}: File name too long"
    assert listing(tmp_path) == ["layout"]


def test_no_dest_is_not_the_current_directory(layout: Path, tmp_path: Path) -> None:
    """``unpack layout "$UNSET"``, with ``--force`` too."""
    for words in ([], ["--force"]):
        assert refused(run(command("-q", *words, layout, ""), cwd=tmp_path), 2) == "DEST is empty"
    assert listing(tmp_path) == ["layout"]


def test_a_parent_that_is_a_file_is_refused(layout: Path, tmp_path: Path) -> None:
    """It stays as it is."""
    (tmp_path / "file").write_text("mine")

    for dest in (tmp_path / "file/dest", tmp_path / "file/a/dest"):
        assert refused(unpack(layout, dest), 6) == f"{dest}: Not a directory"
    assert listing(tmp_path) == ["file", "layout"]


# -- what is there -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o1777, 0o2775, 0o500, 0o000], ids=oct)
def test_an_empty_directory_is_replaced(layout: Path, good: Tree, mode: int, tmp_path: Path) -> None:
    """Its mode is that of the image then."""
    dest = tmp_path / "dest"
    dest.mkdir()
    dest.chmod(mode)

    succeeded(unpack(layout, dest))

    assert diff(good, read(dest)) == []
    assert listing(tmp_path) == ["dest", "layout"]


@needs_chown
def test_an_empty_directory_of_somebody_else_is_replaced(layout: Path, good: Tree, tmp_path: Path) -> None:
    """Its owner is that of the image then."""
    dest = tmp_path / "dest"
    dest.mkdir()
    os.chown(dest, 1234, 1234)

    succeeded(unpack(layout, dest))

    assert diff(good, read(dest)) == []


def test_a_directory_that_is_not_empty_is_refused_with_a_hint(layout: Path, tmp_path: Path) -> None:
    """A hidden file is enough."""
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / ".mine").write_text("mine")
    before = read(dest)

    outcome = unpack(layout, dest)

    assert refused(outcome, 6) == f"{dest}: exists and is not empty"
    assert hints(outcome) == ["--force replaces it, once the new tree is ready"]
    assert read(dest) == before
    assert listing(tmp_path) == ["dest", "layout"]


@pytest.mark.parametrize("mode", [0o755, 0o555, 0o000], ids=oct)
def test_force_replaces_a_directory_and_all_that_is_in_it(layout: Path, good: Tree, mode: int, tmp_path: Path) -> None:
    """Nothing of the old tree shows through, and nothing of it stays beside the new one."""
    dest = tmp_path / "dest"
    (dest / "etc/old").mkdir(parents=True)
    (dest / "etc/motd").write_text("old")
    (dest / "etc").chmod(0o500)
    dest.chmod(mode)

    succeeded(unpack("--force", layout, dest))

    assert diff(good, read(dest)) == []
    assert listing(tmp_path) == ["dest", "layout"]


@pytest.mark.parametrize("words", [[], ["--force"]], ids=["plain", "force"])
def test_force_of_nothing_and_of_an_empty_directory_is_an_unpack(
    layout: Path, good: Tree, words: list[str], tmp_path: Path
) -> None:
    """Twice the same command gives twice the same tree."""
    (tmp_path / "empty").mkdir()

    for dest in (tmp_path / "new", tmp_path / "empty"):
        succeeded(unpack(*words, layout, dest))
        assert diff(good, read(dest)) == []


@pytest.mark.parametrize("words", [[], ["--force"]], ids=["plain", "force"])
def test_a_file_is_never_replaced(layout: Path, words: list[str], tmp_path: Path) -> None:
    """Nor is a fifo, which is not opened either."""
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "fifo")

    for name in ("file", "fifo", "file/", "file/."):
        line = refused(unpack(*words, layout, f"{tmp_path}/{name}"), 6)
        assert line == f"{tmp_path}/{name.split('/')[0]}: exists and is not a directory"
    assert (tmp_path / "file").read_text() == "mine"
    assert listing(tmp_path) == ["fifo", "file", "layout"]


@pytest.mark.parametrize("where", ["there", "not-there", "not/there/either"])
def test_a_symlink_stays_and_the_tree_is_where_it_leads(layout: Path, good: Tree, where: str, tmp_path: Path) -> None:
    """Be its target there or not."""
    dest = tmp_path / "dest"
    dest.symlink_to(where)
    (tmp_path / "there").mkdir()

    succeeded(unpack(layout, dest))

    assert os.readlink(dest) == where
    assert diff(good, read(tmp_path / where)) == []
    assert not list(tmp_path.rglob(".*unpack-*"))


def test_force_replaces_where_a_symlink_leads_and_not_the_link(layout: Path, good: Tree, tmp_path: Path) -> None:
    """``rootfs -> build/rootfs`` goes on to be one."""
    (tmp_path / "build/rootfs/old").mkdir(parents=True)
    (tmp_path / "rootfs").symlink_to("build/rootfs")

    succeeded(unpack("--force", layout, tmp_path / "rootfs"))

    assert os.readlink(tmp_path / "rootfs") == "build/rootfs"
    assert diff(good, read(tmp_path / "build/rootfs")) == []
    assert listing(tmp_path / "build") == ["rootfs"]


def test_a_symlink_to_itself_is_refused(layout: Path, tmp_path: Path) -> None:
    """It leads to no directory."""
    (tmp_path / "dest").symlink_to("dest")

    assert refused(unpack(layout, tmp_path / "dest"), 6) == f"{tmp_path}/dest: exists and is not a directory"


# -- the directory that the caller stands in ----------------------------------------------------------------------------


@pytest.mark.parametrize("dest", [".", "./", "../here", "{}"])
def test_the_current_directory_is_filled_and_stays_the_current_one(
    layout: Path, good: Tree, dest: str, tmp_path: Path
) -> None:
    """A shell in it must not be left in a directory that is gone."""
    here = tmp_path / "here"
    here.mkdir()
    inode = here.stat().st_ino

    succeeded(run(command("-q", layout, dest.format(here)), cwd=here))

    assert diff(good, read(here)) == []
    assert here.stat().st_ino == inode
    assert listing(tmp_path) == ["here", "layout"]


def test_the_current_directory_is_as_it_was_if_the_image_is_damaged(tmp_path: Path) -> None:
    """Empty, and its mode and time the same."""
    built = write_layout(tmp_path / "layout", [TAR, TAR])
    built.flip(built.images[0].layers[1].digest)
    here = tmp_path / "here"
    here.mkdir(mode=0o710)
    os.utime(here, ns=(3 * SECOND, 3 * SECOND))
    before = read(here)

    refused(run(command("-q", built.path, "."), cwd=here), 4)

    assert read(here) == before


def test_the_current_directory_is_not_replaced(layout: Path, tmp_path: Path) -> None:
    """Not even by force: a rename cannot put a new tree into the same directory."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "mine").touch()

    outcomes = [run(command("-q", *words, layout, "."), cwd=here) for words in ([], ["--force"])]

    assert refused(outcomes[0], 6) == f"{here}: exists and is not empty"
    assert refused(outcomes[1], 6) == f"{here}: is not empty, and cannot be replaced: it is the current directory"
    assert not hints(outcomes[0])
    assert listing(here) == ["mine"]


# -- the layout itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--force"]], ids=["plain", "force"])
@pytest.mark.parametrize("dest", ["layout", ".", "layout/blobs", "layout/blobs/sha256", "layout/blobs/new", "link"])
def test_the_layout_is_never_replaced_nor_filled(layout: Path, dest: str, words: list[str], tmp_path: Path) -> None:
    """Its blobs would go while they are needed, or be among the files of a tree."""
    (tmp_path / "link").symlink_to("layout")
    before = read(layout)

    line = refused(run(command("-q", *words, layout, dest), cwd=tmp_path), 6)

    assert line == f"{dest}: is the layout, or among its blobs, or has the layout in it"
    assert read(layout) == before


@pytest.mark.parametrize("force", [False, True], ids=["plain", "force"])
@pytest.mark.parametrize("dest", ["store", "above", "above/store/snapshots/x", "store/new"])
def test_a_store_is_never_replaced_nor_filled(layout: Path, dest: str, force: bool, tmp_path: Path) -> None:
    """It would go together with the old tree, or be swept with what is in it."""
    store = tmp_path / "above/store"
    (tmp_path / "store").symlink_to(store)
    (tmp_path / "above").mkdir()
    unpack_image(layout, tmp_path / "first", store=store)
    before = read(store)

    with pytest.raises(DestinationError, match="is the store, or in it, or has the store in it"):
        unpack_image(layout, tmp_path / dest, store=store, force=force)

    assert read(store) == before


# -- what a parent hands down ------------------------------------------------------------------------------------------


@needs_chown
def test_a_setgid_parent_hands_nothing_down(layout: Path, good: Tree, tmp_path: Path) -> None:
    """Neither its group nor its bit, as CI workspaces do."""
    (tmp_path / "shared").mkdir()
    os.chown(tmp_path / "shared", -1, 4321)
    (tmp_path / "shared").chmod(0o2775)

    for words in (["--owner=auto"], ["--owner=self"]):
        succeeded(unpack("--force", *words, layout, tmp_path / "shared/dest"))
        assert diff(good, read(tmp_path / "shared/dest")) == []


@needs_tool("setfacl")
@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_a_default_acl_of_the_parent_hands_nothing_down(layout: Path, good: Tree, there: bool, tmp_path: Path) -> None:
    """No file has an ACL that the image does not say, nor another mode for it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    acl = run(["setfacl", "-m", "default:user:12345:rwx,default:group::rwx,default:mask::rwx", os.fspath(shared)])
    if acl.status:
        pytest.skip(f"missing: ACLs on {shared}")
    if there:
        (shared / "dest").mkdir()

    succeeded(unpack(layout, shared / "dest"))

    assert diff(good, read(shared / "dest")) == []


@needs_chown
@needs_tool("setfacl")
@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_the_parent_of_a_store_hands_nothing_down(layout: Path, good: Tree, there: bool, tmp_path: Path) -> None:
    """Neither to the layers in it, which others would be let in to, nor to what is copied from there."""
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, 4321)
    shared.chmod(0o2775)
    acl = run(["setfacl", "-m", "default:user:12345:rwx,default:group::rwx,default:mask::rwx", os.fspath(shared)])
    if acl.status:
        pytest.skip(f"missing: ACLs on {shared}")

    for owner in ("auto", "self"):
        store = shared / f"store {owner}"
        if there:
            store.mkdir()
        succeeded(unpack(f"--store={store}", "--no-sync", f"--owner={owner}", layout, tmp_path / owner))
        assert diff(good, read(tmp_path / owner)) == []
        (files,) = store.glob("snapshots/*/*/fs")
        assert diff(good, read(files)) == []


@needs_tool("setfacl")
def test_a_default_acl_of_a_directory_that_is_filled_does_not_stay(layout: Path, good: Tree, tmp_path: Path) -> None:
    """The current directory becomes the root of the image, which has none."""
    here = tmp_path / "here"
    here.mkdir()
    if run(["setfacl", "-m", "default:user:12345:rwx,user:12345:rwx", os.fspath(here)]).status:
        pytest.skip(f"missing: ACLs on {here}")

    succeeded(run(command("-q", layout, "."), cwd=here))

    assert diff(good, read(here)) == []


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_the_umask_changes_nothing(layout: Path, good: Tree, mask: int, tmp_path: Path) -> None:
    """Modes are the image's, also of directories that no entry speaks of, and whoever may not use what he makes may."""
    before = os.umask(mask)
    try:
        outcome = unpack(layout, tmp_path / "dest")
        after = os.umask(0)
    finally:
        os.umask(before)

    assert after == mask
    succeeded(outcome)
    assert diff(good, read(tmp_path / "dest")) == []


# -- one step ----------------------------------------------------------------------------------------------------------


POLLER = """
import os, sys, time
dest, seen, polls = sys.argv[1], set(), 0
print("ready", flush=True)
while not os.path.exists(dest + ".stop"):
    for _ in range(1000):
        try:
            seen.add(str(os.stat(dest).st_ino))
        except FileNotFoundError:
            seen.add("absent")
        polls += 1
    time.sleep(0)
print(polls, *seen)
"""


def test_a_reader_never_sees_dest_absent_while_it_is_replaced(layout: Path, tmp_path: Path) -> None:
    """``renameat2`` lets the two trees trade places in one step."""
    dest = tmp_path / "dest"
    succeeded(unpack(layout, dest))
    inodes = {str(dest.stat().st_ino)}
    with subprocess.Popen([sys.executable, "-c", POLLER, dest], stdout=subprocess.PIPE, text=True) as poller:
        assert poller.stdout is not None
        assert poller.stdout.readline() == "ready\n"
        for _ in range(30):
            succeeded(unpack("--force", layout, dest))
            inodes.add(str(dest.stat().st_ino))
        (tmp_path / "dest.stop").touch()
        polls, *seen = poller.stdout.read().split()

    assert int(polls) > 10_000
    assert len(seen) > 1, "it has met more than one of the trees"
    assert set(seen) <= inodes


def test_a_tree_is_not_seen_before_it_is_whole(tmp_path: Path) -> None:
    """Whoever waits for DEST finds all of it."""
    many = [file(f"d/f{number}", b"x" * 100) for number in range(2000)]
    layout = write_layout(tmp_path / "layout", [layer(*many)]).path
    dest = tmp_path / "dest"
    script = 'while ! [ -e "$0" ]; do :; done; ls "$0/d" | wc -l; stat -c %a "$0"'
    with subprocess.Popen(["sh", "-c", script, dest], stdout=subprocess.PIPE, text=True) as waiter:
        succeeded(unpack(layout, dest))
        out, _ = waiter.communicate(timeout=60)

    assert out == "2000\n755\n"


def test_what_comes_to_dest_in_the_meantime_is_kept(layout: Path, tmp_path: Path) -> None:
    """Somebody else was faster; the finished tree goes, not theirs."""
    dest = tmp_path / "dest"

    def come(event: Event) -> None:
        if isinstance(event, LayerStarted):
            dest.mkdir()
            (dest / "theirs").touch()

    with pytest.raises(DestinationError, match="has been filled by somebody else in the meantime"):
        unpack_image(layout, dest, on_event=come)

    assert listing(dest) == ["theirs"]
    assert listing(tmp_path) == ["dest", "layout"]


def test_the_workspace_is_private_all_the_time(layout: Path, tmp_path: Path) -> None:
    """What is in it may be setuid, and is not verified yet."""
    modes: set[int] = set()

    def look(_event: Event) -> None:
        modes.update(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob(".dest.unpack-*"))

    unpack_image(layout, tmp_path / "dest", on_event=look)

    assert modes == {0o700}


# -- subvolumes of btrfs -----------------------------------------------------------------------------------------------


def made_subvolume(path: Path) -> int:
    """Make an empty subvolume; give its device, which is its own."""
    parent = os.open(path.parent, os.O_RDONLY)
    assert subvolume.create(parent, os.fsencode(path.name))
    os.close(parent)
    return path.stat().st_dev


@needs_btrfs
@in_own_mounts
def test_an_empty_subvolume_stays_and_is_filled(layout: Path, good: Tree, tmp_path: Path) -> None:
    """It may have limits of its own; and btrfs renames nothing over one."""
    place = mounted_btrfs(tmp_path)
    device = made_subvolume(place / "dest")

    unpack_image(layout, place / "dest", labels=False)

    assert (place / "dest").stat().st_dev == device
    assert diff(good, read(place / "dest")) == []
    with pytest.raises(DestinationError, match="exists and is not empty") as error:
        unpack_image(layout, place / "dest", labels=False)
    assert error.value.hint == "--force replaces it, once the new tree is ready"
    assert listing(place) == ["dest"]


@needs_btrfs
@in_own_mounts
@pytest.mark.parametrize("name", ["empty", "full"])
def test_a_subvolume_is_replaced_by_force(name: str, layout: Path, good: Tree, tmp_path: Path) -> None:
    """It is no mount point, though its device is another one than that of what it is in."""
    place = mounted_btrfs(tmp_path)
    device = made_subvolume(place / "dest")
    if name == "full":
        (place / "dest/d").mkdir()
        made_subvolume(place / "dest/d/inner")
        (place / "dest/d/inner/file").touch()

    unpack_image(layout, place / "dest", labels=False, force=True)

    assert (place / "dest").stat().st_dev == place.stat().st_dev != device
    assert diff(good, read(place / "dest")) == []
    assert listing(place) == ["dest"]


@needs_btrfs
@in_own_mounts
def test_a_subvolume_that_is_mounted_is_a_mount_point(layout: Path, tmp_path: Path) -> None:
    place = mounted_btrfs(tmp_path)
    made_subvolume(place / "dest")
    (place / "dest/file").touch()
    subprocess.run(["mount", "--bind", place / "dest", place / "dest"], check=True)

    with pytest.raises(DestinationError, match="cannot be replaced: it is a mount point"):
        unpack_image(layout, place / "dest", labels=False, force=True)

    assert listing(place / "dest") == ["file"]
