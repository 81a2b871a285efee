"""Without privilege: the same command does the same work, and says in a line a kind what could not be applied."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.probes import (
    NOBODY,
    has_tool,
    needs_chown,
    needs_mknod,
    needs_nobody,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from tests.support.tarbuild import block, char, directory, fifo, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff, read
from tests.unpack.command import Outcome, command, hints, listing, refused, run, succeeded, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARS = (
    layer(
        directory("./", mode=0o555),
        directory("etc", mode=0o500),
        file("etc/shadow", b"secret", mode=0o000),
        directory("etc/closed", mode=0o000),
        file("etc/closed/in", b"in", mode=0o400),
        directory("bin", mode=0o2755, uid=0, gid=50),
        file("bin/su", b"setuid", mode=0o4755),
        file("bin/at", b"setgid", mode=0o2755, uid=1, gid=1),
        hardlink("bin/sudo", "bin/su"),
        directory("home/user", mode=0o1700, uid=1000, gid=1000),
        symlink("home/user/link", "/etc", uid=1000, gid=1000),
        directory("dev"),
        char("dev/null", 1, 3, mode=0o666),
        block("dev/sda", 8, 0),
        hardlink("dev/zero", "dev/null"),
        fifo("dev/pipe", mode=0o600),
    ),
    # A second layer works in the directories of the first, whatever their modes.
    layer(whiteout("etc/closed/in"), file("etc/closed/new", b"new", mode=0o600), opaque("home"), file("etc/x", b"")),
)
LOST = {"owner": 3, "device": 3}
"""What uid 0 loses that may neither give files away nor make devices: bin, bin/at and a link; a hard link to a device."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """What root gets."""
    place = tmp_path_factory.mktemp("good")
    succeeded(unpack(write_layout(place / "layout", TARS).path, place / "dest"))
    return read(place / "dest")


def possible(tree: Tree) -> Tree:
    """Give what of a tree a caller without privilege gets."""
    return {path: node for path, node in tree.items() if node.kind not in ("char", "block")}


@contextmanager
def place() -> Iterator[Path]:
    """Give a directory of nobody's with a layout of its own in it."""
    with nobodys_directory() as path:
        write_layout(path / "layout", TARS)
        for one in (path / "layout", *(path / "layout").rglob("*")):
            os.chown(one, NOBODY, NOBODY)
        yield path


def as_nobody(*words: str | os.PathLike[str], cwd: Path | None = None) -> Outcome:
    python = nobodys_python()
    assert python is not None
    done = run_as_nobody(command(*words, python=python), check=False, cwd=cwd)
    return Outcome(done.returncode, done.stdout, done.stderr.splitlines())


def losses(outcome: Outcome) -> list[str]:
    return [line for line in outcome.lines if line.startswith("not applied: ")]


# -- nobody ------------------------------------------------------------------------------------------------------------


@needs_nobody
@needs_chown
@needs_mknod
def test_nobody_gets_all_but_owners_and_devices(good: Tree) -> None:
    """Modes of 0000 and 0500, setuid bits, times and links are as root gets them."""
    with place() as path:
        outcome = as_nobody("--progress=none", path / "layout", path / "dest")

        assert outcome.status == 0, outcome.lines
        assert diff(possible(good), read(path / "dest"), ignore=["uid", "gid"]) == []
        assert {(node.uid, node.gid) for node in read(path / "dest").values()} == {(NOBODY, NOBODY)}
        assert listing(path) == ["dest", "layout"]


@needs_nobody
@pytest.mark.parametrize("mask", ["777", "700", "300", "077"])
def test_a_umask_takes_no_right_that_the_work_needs(mask: str) -> None:
    """Root has it all the same.  Whatever the mask, the tree is one; what is made for it is closed to others."""
    with place() as path:
        trees = []
        for name, before in (("a/b/dest", ["sh", "-c", f'umask {mask} && exec "$@"', "sh"]), ("usual", [])):
            python = nobodys_python()
            assert python is not None
            words = command("-q", f"--store={path}/{name[0]}-store", path / "layout", path / name, python=python)
            done = run_as_nobody([*before, *words], check=False)

            assert (done.returncode, done.stderr) == (0, "")
            trees.append(read(path / name))
        assert diff(*trees) == []
        assert (path / "a/b").stat().st_mode & 0o777 == 0o777 & ~(int(mask, 8) & 0o077)


@needs_nobody
def test_losses_are_said_by_kind_in_one_line_each() -> None:
    """With their number and an example; in JSON as well, and not at all if nobody wants to hear of them."""
    with place() as path:
        plain = as_nobody("--progress=none", path / "layout", path / "plain")
        as_json = as_nobody("--progress=none", "--format=json", path / "layout", path / "json")
        quiet = as_nobody("-q", path / "layout", path / "quiet")

    owners = json.loads(as_json.out)["losses"]["owner"]
    assert losses(plain) == [
        f"not applied: owner of {owners} entries ('etc/shadow': owner 0:0 not set)",
        "not applied: 3 device nodes ('dev/null': character device not made: Operation not permitted)",
    ]
    assert len(plain.lines) == 3, "they, and the summary"
    assert json.loads(as_json.out)["losses"] == {"owner": owners, "device": 3}
    assert set(json.loads(as_json.out)["loss_samples"]) == {"owner", "device"}
    assert quiet.lines == []


@needs_nobody
@pytest.mark.parametrize(
    ("closed", "named"),
    [
        ("layout", "layout/oci-layout"),
        ("layout/oci-layout", "layout/oci-layout"),
        ("layout/index.json", "layout/index.json"),
        ("layout/blobs", "layout/blobs/sha256/"),
        (".", "layout"),
    ],
)
def test_a_layout_that_may_not_be_read(closed: str, named: str) -> None:
    """It is there, and the first file of it that is closed to the caller is named."""
    with place() as path:
        mode = (path / closed).stat().st_mode
        (path / closed).chmod(0)
        for source in (path / "layout", f"{path}/layout:latest"):
            line = refused(as_nobody("-q", source, path / "dest"), 6)

            assert line.startswith(f"{path}/{named}")
            assert line.endswith(": Permission denied")
        (path / closed).chmod(mode)


@needs_nobody
def test_strict_refuses_a_loss_and_leaves_nothing() -> None:
    """Nor does it touch what is there."""
    with place() as path:
        (path / "there/mine").mkdir(parents=True)
        before = read(path / "there")
        for words in (["dest"], ["a/b/dest"], ["--force", "there"]):
            outcome = as_nobody("-q", "--strict", "layout", *words, cwd=path)

            line = refused(outcome, 5)
            assert line.startswith("not everything could be applied (")
            assert "device 3" in line
            assert hints(outcome) == ["without --strict, losses are counted and reported"]
            assert listing(path) == ["layout", "there"]
            assert read(path / "there") == before


@needs_nobody
def test_owner_self_is_no_loss() -> None:
    """Who asks for it gets it; with no device in the image, strictly too."""
    with place() as path:
        layout = write_layout(path / "mine", [layer(file("a", b"1", uid=5, gid=7), directory("d", uid=8))]).path

        succeeded(as_nobody("-q", "--strict", "--owner=self", layout, path / "dest"))

        assert {(node.uid, node.gid) for node in read(path / "dest").values()} == {(NOBODY, NOBODY)}


@needs_nobody
def test_owner_keep_is_refused_at_the_first_owner() -> None:
    """The line says which entry, and of which layer."""
    with place() as path:
        layout = write_layout(path / "mine", [layer(file("a", b"1", uid=5, gid=7))])
        digest = layout.images[0].layers[0].digest

        line = refused(as_nobody("-q", "--owner=keep", layout.path, path / "dest"), 6)

        assert line == f"owner 5:7: entry 'a': layer {digest}: Operation not permitted"
        assert listing(path) == ["layout", "mine"]


@needs_nobody
def test_owner_keep_of_a_directory_says_which() -> None:
    """Directories get their owners when all else is done."""
    with place() as path:
        layout = write_layout(path / "mine", [layer(directory("./", uid=NOBODY, gid=NOBODY), directory("d", uid=5))])

        line = refused(as_nobody("-q", "--owner=keep", layout.path, path / "dest"), 6)

        assert line == "owner 5:0: entry 'd': Operation not permitted"
        assert listing(path) == ["layout", "mine"]


@needs_nobody
def test_ids_that_are_mapped_to_the_caller_are_no_loss() -> None:
    """``--uid-map 0:$(id -u)``: the usual image of root's files, unpacked by a user."""
    maps = (f"--uid-map=0:{NOBODY}", f"--gid-map=0:{NOBODY}")
    with place() as path:
        layout = write_layout(path / "mine", [layer(file("a", b"1"), directory("d"))]).path

        succeeded(as_nobody("-q", "--strict", "--owner=keep", *maps, layout, path / "dest"))

        assert {(node.uid, node.gid) for node in read(path / "dest").values()} == {(NOBODY, NOBODY)}


@needs_nobody
@pytest.mark.parametrize("mode", [0o755, 0o555, 0o500, 0o000], ids=oct)
def test_nobody_replaces_a_tree_of_its_own_whatever_its_modes(good: Tree, mode: int) -> None:
    """The root of an image may be 0555, so the second run meets what the first has made."""
    with place() as path:
        assert as_nobody("-q", path / "layout", path / "dest").status == 0
        (path / "dest").chmod(mode)

        succeeded(as_nobody("-q", "--force", path / "layout", path / "dest"))

        assert diff(possible(good), read(path / "dest"), ignore=["uid", "gid"]) == []
        assert listing(path) == ["dest", "layout"]


@needs_nobody
def test_nobody_fills_the_directory_that_it_stands_in(good: Tree) -> None:
    """Directories of mode 0500 move up into it; it takes write permission on them to rename them."""
    with place() as path:
        (path / "here").mkdir()
        os.chown(path / "here", NOBODY, NOBODY)

        succeeded(as_nobody("-q", path / "layout", ".", cwd=path / "here"))

        assert diff(possible(good), read(path / "here"), ignore=["uid", "gid"]) == []


@needs_nobody
@pytest.mark.parametrize(("above", "sticky"), [(0o755, ""), (0o1777, "-sticky")], ids=["closed", "sticky"])
def test_nobody_fills_a_directory_that_it_may_not_rename(good: Tree, above: int, sticky: str) -> None:
    """An administrator made it for the purpose; in a sticky directory like /tmp it belongs to somebody else, too."""
    with place() as path:
        (path / "above/dest").mkdir(parents=True)
        (path / "above/dest").chmod(0o777)
        os.chown(path / "above", 0, 0)
        (path / "above").chmod(above)

        outcome = as_nobody("--progress=none", path / "layout", path / "above/dest")

        assert outcome.status == 0, outcome.lines
        found = read(path / "above/dest")
        assert diff(possible(good), {**found, b".": good[b"."]}, ignore=["uid", "gid"]) == []
        assert (found[b"."].mode, found[b"."].uid) == (0o777, 0), "it is not nobody's to change"
        assert "not applied: mode bits of 1 entry ('.': mode 0555 and time not set: it is not yours)" in outcome.lines
        assert listing(path / "above") == ["dest"]


@needs_nobody
def test_a_strict_run_that_cannot_finish_the_root_takes_its_files_out_again() -> None:
    """The root is finished last, when all else has been moved into it."""
    with place() as path:
        layout = write_layout(path / "mine", [layer(directory("d", mode=0o500), file("d/f"), file("g"))]).path
        (path / "above/dest").mkdir(parents=True)
        (path / "above/dest").chmod(0o777)
        before = read(path / "above/dest")

        line = refused(as_nobody("-q", "--strict", "--owner=self", layout, path / "above/dest"), 5)

        assert line.endswith("'.': mode 0755 and time not set: it is not yours")
        assert diff(before, read(path / "above/dest"), ignore=["mtime_ns"]) == []


@needs_nobody
def test_nobody_is_told_what_it_may_not_do() -> None:
    """The path, and why."""
    with place() as path:
        (path / "roots").mkdir(mode=0o755)
        (path / "roots/full").mkdir(mode=0o755)
        (path / "roots/full/file").touch()
        (path / "closed").mkdir(mode=0o700)
        (path / "closed/empty").mkdir()
        for name, why in (
            ("roots/new", "{}/roots: Permission denied"),
            ("roots/full", "{}/roots/full: exists and is not empty"),
            ("closed/new", "{}/closed/new: Permission denied"),
            ("closed", "{}/closed: Permission denied"),
        ):
            outcome = as_nobody("-q", path / "layout", path / name)
            assert refused(outcome, 6) == why.format(path)
        assert listing(path) == ["closed", "layout", "roots"]


@needs_nobody
def test_a_layout_of_somebody_else_is_unpacked_without_labels() -> None:
    """And without a word of them."""
    with place() as path:
        os.chown(path / "layout", 0, 0)
        (path / "layout").chmod(0o555)

        succeeded(as_nobody("-q", path / "layout", path / "dest"))

        assert "labels" not in listing(path / "layout")


@needs_nobody
def test_a_layout_that_cannot_be_read_is_an_error_that_says_so() -> None:
    """One blob of it is enough."""
    with place() as path:
        blob = min((path / "layout/blobs/sha256").iterdir())
        blob.chmod(0o000)

        line = refused(as_nobody("-q", path / "layout", path / "dest"), 6)

        assert line == f"{path}/layout/blobs/sha256/{blob.name}: opening blob sha256:{blob.name}: Permission denied"
        assert listing(path) == ["layout"]


@needs_nobody
def test_what_a_killed_run_of_nobody_has_left_is_removed_whatever_its_modes() -> None:
    """``rm -rf`` fails at a directory of mode 0500."""
    with place() as path:
        left = path / ".dest.unpack-0123abcd"
        (left / "merged/closed/deep/deeper").mkdir(parents=True)
        (left / "merged/closed/deep/file").touch()
        left.chmod(0o700)
        for one in (left, *left.rglob("*")):
            os.chown(one, NOBODY, NOBODY)
        for name in ("closed/deep/deeper", "closed/deep", "closed"):
            (left / "merged" / name).chmod(0o000)

        assert as_nobody("-q", path / "layout", path / "dest").status == 0

        assert listing(path) == ["dest", "layout"]


@needs_nobody
def test_what_somebody_else_has_left_is_theirs() -> None:
    """In /tmp anybody can make a directory of such a name."""
    with place() as path:
        (path / ".dest.unpack-0123abcd/file").mkdir(parents=True)
        (path / ".dest.unpack-0123abcd").chmod(0o777)

        assert as_nobody("-q", path / "layout", path / "dest").status == 0

        assert listing(path) == [".dest.unpack-0123abcd", "dest", "layout"]


# -- root with less than all rights ------------------------------------------------------------------------------------

LESSER = {
    "without-chown-and-mknod": ["setpriv", "--bounding-set=-chown,-mknod", "--inh-caps=-chown,-mknod"],
    "without-any": ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
    "user-namespace": ["unshare", "--user", "--map-root-user"],
}


@pytest.mark.parametrize("how", LESSER)
@needs_chown
@needs_mknod
def test_uid_0_is_no_proof(good: Tree, how: str, tmp_path: Path) -> None:
    """A container's root may neither give files away nor make devices; it succeeds, with counted losses."""
    if not has_tool(LESSER[how][0]) or run([*LESSER[how], "true"]).status:
        pytest.skip(f"missing: {' '.join(LESSER[how])}")
    layout = write_layout(tmp_path / "layout", TARS).path

    outcome = run([*LESSER[how], *command("--progress=none", "--format=json", layout, tmp_path / "dest")])

    assert outcome.status == 0, outcome.lines
    assert json.loads(outcome.out)["losses"] == LOST
    assert diff(possible(good), read(tmp_path / "dest"), ignore=["uid", "gid"]) == []
    assert listing(tmp_path) == ["dest", "layout"]

    strict = run([*LESSER[how], *command("-q", "--strict", layout, tmp_path / "strict")])
    assert refused(strict, 5).startswith("not everything could be applied (")
    succeeded(run([*LESSER[how], *command("-q", "--force", layout, tmp_path / "dest")]))
    assert listing(tmp_path) == ["dest", "layout"]


# -- maps --------------------------------------------------------------------------------------------------------------


@needs_chown
def test_ids_are_mapped_wherever_they_stand(tmp_path: Path) -> None:
    """On files, links, directories, those that no entry speaks of, and the root."""
    tar = layer(file("a/b", uid=0, gid=5), symlink("l", "a", uid=7, gid=5), directory("d", uid=7, gid=0))
    layout = write_layout(tmp_path / "layout", [tar]).path

    succeeded(unpack("--uid-map=0:100000:10", "--gid-map=0:200000:5", "--gid-map=5:300000", layout, tmp_path / "dest"))

    owners = {path: (node.uid, node.gid) for path, node in read(tmp_path / "dest").items()}
    assert owners == {
        b".": (100000, 200000),
        b"a": (100000, 200000),
        b"a/b": (100000, 300000),
        b"d": (100007, 200000),
        b"l": (100007, 300000),
    }


@needs_chown
@pytest.mark.parametrize(
    ("tar", "entry"),
    [
        (layer(file("a", uid=5)), "'a'"),
        (layer(directory("d", uid=5)), "'d'"),
        (layer(directory("./", uid=5)), "'.'"),
    ],
    ids=["file", "directory", "root"],
)
def test_an_id_in_no_map_is_refused_by_its_entry(tmp_path: Path, tar: bytes, entry: str) -> None:
    """It would be somebody's on the host."""
    layout = write_layout(tmp_path / "layout", [tar]).path

    line = refused(unpack("--uid-map=0:100000:5", layout, tmp_path / "dest"), 5)

    assert f"entry {entry}" in line
    assert line.endswith("uid 5 is in no range of --uid-map")
    assert listing(tmp_path) == ["layout"]
