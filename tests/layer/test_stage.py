"""Staging: what entries make without a view of the layers below, with one, and what the record says of it."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from tests.layer.bench import Bench
from tests.model.strategies import Stack, fit_for, stacks
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr, needs_mknod
from tests.support.tarbuild import (
    Entry,
    char,
    directory,
    fifo,
    file,
    hardlink,
    layer,
    opaque,
    symlink,
    whiteout,
)
from tests.support.tree import diff, read
from unpacker.archive.reader import TarReader
from unpacker.errors import CorruptLayerError, InLayerError, LimitError, UnpackError, UnsafeEntryError
from unpacker.layer.below import Covered, Hidden, Merged
from unpacker.layer.stage import Stager
from unpacker.limits import Limits
from unpacker.tree.directory import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bench(quick_path: Path) -> Iterator[Bench]:
    with Bench(quick_path) as made:
        yield made


def view(bench: Bench) -> Covered:
    return Covered(Merged(bench.merged, bench.merged.root, set()), Hidden())


# -- without a view ----------------------------------------------------------------------------------------------------


def test_implied_parents_are_noted_in_order(bench: Bench) -> None:
    """Each is taken for a directory of the layers below; settling looks whether it is one."""
    stager = bench.stage(
        file("usr/share/doc/a"), file("usr/share/b"), directory("etc"), file("etc/c"), file("usr/bin/d")
    )
    assert [node.path() for node in stager.changes.assumed] == [b"usr", b"usr/share", b"usr/share/doc", b"usr/bin"]
    assert stager.changes.unresolved is None
    assert bench.staged() == {
        **dict.fromkeys(["usr", "usr/share", "usr/share/doc", "usr/bin", "etc"], "directory"),
        **dict.fromkeys(["usr/share/doc/a", "usr/share/b", "etc/c", "usr/bin/d"], "file"),
    }


def test_a_directory_with_an_entry_is_not_taken_for_granted(bench: Bench) -> None:
    """It replaces a link below, or merges with a directory: no matter which."""
    stager = bench.stage(directory("a"), directory("a/b"), file("a/b/c"))
    assert stager.changes.assumed == []


def test_an_entry_that_comes_late_does_not_undo_the_assumption(bench: Bench) -> None:
    """When ``a/b`` came, ``a`` may have been a link below."""
    assert [node.path() for node in bench.stage(file("a/b"), directory("a")).changes.assumed] == [b"a"]


def test_whiteouts_are_noted_and_make_nothing(bench: Bench) -> None:
    """Wherever they stand; what is in them is no matter."""
    stager = bench.stage(
        whiteout("a"),
        file("d/.wh.b", b"content", xattrs={"user.x": b"1"}),
        directory(".wh.c"),
        symlink(".wh.l", "/etc"),
        opaque("d/e"),
        opaque(""),
        file("./d//../.wh.f"),
    )
    assert stager.changes.whiteouts == [b"a", b"d/b", b"c", b"l", b"f"]
    assert stager.changes.opaque == [b"d/e", b""]
    assert stager.changes.assumed == [], "nor does a marker make its parents"
    assert stager.changes.entries == 7
    assert bench.staged() == {}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        pytest.param([hardlink("a", "below")], "a hard link to what may be in a layer below", id="to a lower file"),
        pytest.param(
            [directory("d"), hardlink("a", "d/below")],
            "a hard link to what may be in a layer below",
            id="in a merged one",
        ),
        pytest.param([hardlink("a", "b"), file("b")], "a hard link to what may be in a layer below", id="forward"),
        pytest.param([hardlink("a", "a")], "a hard link to what may be in a layer below", id="to itself"),
        pytest.param(
            [symlink("l", "l"), file("l/x")], "more symbolic links in its path than the kernel follows", id="loop"
        ),
        pytest.param(
            [directory("d"), hardlink("a", "d")], "a hard link to 'd', which is a directory", id="to a directory"
        ),
        pytest.param([hardlink("a", "/")], "a hard link to '/', which is a directory", id="to the root"),
    ],
)
def test_what_only_the_layers_below_can_say_is_left_to_them(entries: list[Entry], why: str, bench: Bench) -> None:
    """Without a view nothing of this is refused: a link below may make something else of it."""
    assert bench.stage(*entries).changes.unresolved == why


def test_the_first_reason_is_kept(bench: Bench) -> None:
    stager = bench.stage(hardlink("a", "below"), symlink("l", "l"), file("l/x"))
    assert stager.changes.unresolved == "a hard link to what may be in a layer below"


def test_a_hard_link_within_the_layer_needs_nobody(bench: Bench) -> None:
    stager = bench.stage(file("a", b"x"), hardlink("b", "a"), hardlink("d/c", "./b"))
    assert stager.changes.unresolved is None
    assert bench.staged() == {"a": "file x = a", "b": "file x = a", "d": "directory", "d/c": "file x = a"}


# -- the base layer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param(
            [file("a", b"1"), file("./a", b"2")], {"a": "file 2"}, id="the last of a name wins, however it is spelled"
        ),
        pytest.param([file("a", b"1"), directory("a")], {"a": "directory"}, id="a directory over a file"),
        pytest.param(
            [directory("a"), file("a/b"), file("a", b"1")], {"a": "file 1"}, id="a file over a full directory"
        ),
        pytest.param(
            [symlink("a", "b"), file("a", b"1"), file("b", b"2")], {"a": "file 1", "b": "file 2"}, id="file, link"
        ),
        pytest.param(
            [file("b", b"2"), symlink("a", "b"), file("a", b"1")],
            {"a": "file 1", "b": "file 2"},
            id="nothing is written through a link",
        ),
        pytest.param(
            [directory("b"), symlink("a", "b"), directory("a")],
            {"a": "directory", "b": "directory"},
            id="a directory replaces a link to one",
        ),
        pytest.param(
            [directory("b"), symlink("a", "b"), file("a/f")],
            {"a": "symlink b", "b": "directory", "b/f": "file"},
            id="what is below a link is behind it",
        ),
        pytest.param(
            [symlink("a", "/b"), file("a/f")],
            {"a": "symlink /b", "b": "directory", "b/f": "file"},
            id="a dangling link is filled",
        ),
        pytest.param([file("a"), file("a/b")], {"a": "directory", "a/b": "file"}, id="a file in the way is replaced"),
        pytest.param([fifo("a"), symlink("a", "x"), fifo("a")], {"a": "fifo"}, id="nodes and links"),
        pytest.param(
            [file("a", b"1"), hardlink("b", "a"), file("a", b"2")],
            {"a": "file 2", "b": "file 1"},
            id="the other name keeps the old content",
        ),
        pytest.param(
            [directory("a"), file("a/b"), directory("a")], {"a": "directory", "a/b": "file"}, id="directory twice"
        ),
        pytest.param(
            [symlink("l", "a"), file("l/x"), symlink("l", "b"), file("l/y")],
            {"l": "symlink b", "a": "directory", "a/x": "file", "b": "directory", "b/y": "file"},
            id="a link that is replaced leads elsewhere from then on",
        ),
        pytest.param(
            [directory("a"), symlink("a/up", ".."), file("a/up/b")],
            {"a": "directory", "a/up": "symlink ..", "b": "file"},
            id="through a link upwards",
        ),
        pytest.param([file("../../etc/x")], {"etc": "directory", "etc/x": "file"}, id="a name that climbs"),
        pytest.param([file("a/../b")], {"b": "file"}, id="dots are lexical"),
        pytest.param([whiteout("a"), file("a")], {"a": "file"}, id="whiteouts of the base hide nothing"),
    ],
)
def test_entries_in_order(entries: list[Entry], expected: dict[str, str], bench: Bench) -> None:
    stager = bench.stage(*entries, known=True)
    assert bench.staged() == dict(sorted(expected.items()))
    assert stager.changes.assumed == []


def test_the_first_climbing_name_is_noted(bench: Bench) -> None:
    stager = bench.stage(file("a/../b"), file("x/../../c"), file("../d"), known=True)
    assert stager.climbed == b"x/../../c"


@pytest.mark.parametrize("name", ["./", ".", "/", "a/.."])
def test_the_root_gets_attributes(name: str, bench: Bench) -> None:
    with bench.tree(b"own") as tree, bench.tree(b"links") as store:
        stager = Stager(tree, store, bench.rules, known=True)
        stager.run(TarReader(iter([layer(directory(name, mode=0o1777, uid=5))])))
        assert tree.root.attributes is not None
        assert (tree.root.attributes.mode, tree.root.attributes.uid) == (0o1777, 5)
        assert tree.root.children == {}


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (symlink(".", "/"), "the root must be a directory, not a symlink"),
        (file("/"), "the root must be a directory, not a file"),
        (hardlink("a/..", "x"), "the root must be a directory, not a hardlink"),
        (file(".wh."), "a whiteout of nothing that has a name"),
        (file("a/.wh..."), "a whiteout of nothing that has a name"),
        (file(".wh.a/b"), "'.wh.a' is a whiteout, and nothing can be below one"),
        (file("n" * 256), "a component of more than 255 bytes in the name"),
        (file("n" * 256 + "/b"), "a component of more than 255 bytes in the name"),
        (symlink("a", ""), "a symbolic link with a target of 0 bytes"),
        (symlink("a", "t" * 4096), "a symbolic link with a target of 4096 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("known", [False, True], ids=["apart", "known"])
def test_refused_at_once(entry: Entry, what: str, known: bool, bench: Bench) -> None:
    """No view could make it right; the error says which entry, and where."""
    with pytest.raises(UnsafeEntryError) as caught:
        bench.stage(file("before"), entry, known=known)
    assert (caught.value.what, caught.value.entry) == (what, entry.name)
    assert caught.value.offset is not None
    assert caught.value.offset >= 512


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ([hardlink("a", "nothing")], "a hard link to 'nothing', which is nothing"),
        ([hardlink("a", "a")], "a hard link to 'a', which is nothing"),
        ([hardlink("a", "b"), hardlink("b", "a")], "a hard link to 'b', which is nothing"),
        ([directory("d"), hardlink("a", "d")], "a hard link to 'd', which is a directory"),
        ([hardlink("a", "d"), directory("d")], "a hard link to 'd', which is a directory"),
        ([hardlink("a", "..")], "a hard link to '..', which is a directory"),
        ([hardlink("a", "")], "a hard link to '', which is a directory"),
        ([hardlink("a", "f/x"), file("f")], "a hard link to 'f/x', which is nothing"),
        ([symlink("l", "l"), hardlink("a", "l/x")], "more symbolic links to its target than the kernel follows"),
        ([symlink("l", "l"), file("l/x")], "more symbolic links in its path than the kernel follows"),
        (
            [directory("d"), file("d/a"), symlink("l", "d"), hardlink("l", "l/a")],
            "a hard link to 'l/a', which is nothing",
        ),
        ([hardlink("a", ".wh..wh.plnk/9")], "a hard link to '.wh..wh.plnk/9', which is nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_when_all_is_known(entries: list[Entry], what: str, bench: Bench) -> None:
    with pytest.raises(UnsafeEntryError) as caught:
        bench.stage(*entries, known=True)
    assert caught.value.what == what
    assert caught.value.entry in [entry.name for entry in entries]
    assert caught.value.offset is not None


@pytest.mark.parametrize("known", [False, True], ids=["apart", "known"])
@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([symlink("l", "/".join(["n" * 200] * 15)), file("l/" + "m" * 200 + "/x")], id="directory"),
        pytest.param([symlink("l", "/".join(["n" * 200] * 15)), directory("l"), file("m")], id="fits"),
        pytest.param([symlink("l", "/".join(["n" * 200] * 15)), file("l/" + "m" * 200)], id="file"),
    ],
)
def test_a_path_that_links_make_too_long_says_where(entries: list[Entry], known: bool, quick_path: Path) -> None:
    """The limit is on what the path leads to, which no name in the archive shows."""
    with Bench(quick_path, limits=Limits(path_bytes=3100)) as bench:
        if entries[-1].name == b"m":
            bench.stage(*entries, known=known)
            return
        with pytest.raises(InLayerError) as caught:
            bench.stage(*entries, known=known)
    assert isinstance(caught.value, UnsafeEntryError | LimitError)
    assert caught.value.entry == entries[-1].name
    assert caught.value.offset is not None


def test_a_broken_archive_is_not_blamed_on_the_entry_before(bench: Bench) -> None:
    with pytest.raises(CorruptLayerError) as caught:
        bench.stage(file("fine"), b"x" * 512)
    assert (caught.value.entry, caught.value.offset) == (None, 512)


def test_an_entry_that_ends_too_early_is_named(bench: Bench) -> None:
    with pytest.raises(CorruptLayerError) as caught:
        bench.stage(file("fine"), layer(file("short", b"x" * 2000), end=False)[:1024].ljust(1024), known=True)
    assert caught.value.entry == b"short"


def test_an_error_of_the_host_says_at_which_entry(bench: Bench) -> None:
    with bench.tree(b"own") as tree, bench.tree(b"links") as store:
        stager = Stager(tree, store, bench.rules, known=True)
        bench.discard(b"own")
        with pytest.raises(FileNotFoundError) as caught:
            stager.run(TarReader(iter([layer(file("d/\xe9\n"))])))
    assert caught.value.__notes__ == [r"entry 'd/é\n'"]


# -- with a view -------------------------------------------------------------------------------------------------------


@pytest.fixture
def over(bench: Bench) -> Bench:
    """Give a bench with a small root filesystem below."""
    bench.add(
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        file("usr/lib/libc", b"old"),
        file("etc/conf", b"conf"),
        symlink("var/run", "/run"),
        directory("run"),
        symlink("broken", "nowhere/at/all"),
    )
    return bench


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param(
            [file("lib/new")], {"usr": "directory", "usr/lib": "directory", "usr/lib/new": "file"}, id="usr-merge"
        ),
        pytest.param(
            [file("lib/new"), directory("lib"), file("lib/more")],
            {"usr": "directory", "usr/lib": "directory", "usr/lib/new": "file", "lib": "directory", "lib/more": "file"},
            id="each entry acts on the tree as it is at that moment",
        ),
        pytest.param([file("var/run/pid")], {"run": "directory", "run/pid": "file", "var": "directory"}, id="absolute"),
        pytest.param(
            [file("broken/x")],
            {
                "nowhere": "directory",
                "nowhere/at": "directory",
                "nowhere/at/all": "directory",
                "nowhere/at/all/x": "file",
            },
            id="a dangling link is filled",
        ),
        pytest.param(
            [file("etc/conf/x")],
            {"etc": "directory", "etc/conf": "directory", "etc/conf/x": "file"},
            id="a file in the way is replaced",
        ),
        pytest.param([hardlink("a", "etc/conf")], {"a": "file conf"}, id="a hard link to a lower file"),
        pytest.param([hardlink("a", "lib/libc")], {"a": "file old"}, id="behind a link"),
        pytest.param([hardlink("a", "lib")], {"a": "symlink usr/lib"}, id="to a link itself"),
        pytest.param(
            [file("etc/conf", b"new"), hardlink("a", "etc/conf")],
            {"etc": "directory", "etc/conf": "file new = a", "a": "file new = a"},
            id="the layer's own file goes before the lower one",
        ),
        pytest.param(
            [hardlink("a", "etc/conf"), file("etc/conf", b"new")],
            {"etc": "directory", "etc/conf": "file new", "a": "file conf"},
            id="it means what is there at that moment",
        ),
    ],
)
def test_entries_over_what_is_below(entries: list[Entry], expected: dict[str, str], over: Bench) -> None:
    stager = over.stage(*entries, below=view(over), known=True)
    found = {path: line.partition(" = ")[0] for path, line in over.staged().items()}
    expected = {path: line.partition(" = ")[0] for path, line in expected.items()}
    assert found == dict(sorted(expected.items()))
    assert (stager.changes.assumed, stager.changes.unresolved) == ([], None)


def test_a_hard_link_to_a_lower_file_is_that_file(over: Bench) -> None:
    over.stage(hardlink("a", "etc/conf"), below=view(over), known=True)
    assert os.stat(over.path / "staged" / "a").st_ino == os.stat(over.path / "merged" / "etc" / "conf").st_ino


# -- races -------------------------------------------------------------------------------------------------------------


def test_a_directory_that_becomes_a_link_while_it_is_staged(quick_path: Path) -> None:
    """Another thread lets staged directories and links to the outside trade places, as fast as it can.

    Staging may fail over it; nothing is ever written behind the links (CVE-2018-15664 was such a race).
    """
    outside = quick_path / "outside"
    outside.mkdir()
    (outside / "canary").write_bytes(b"untouched")
    before = outside.stat()
    names = [f"d{number % 5}" for number in range(200)]
    archive = layer(
        *[file(f"{name}/e/f{number}", b"x") for number, name in enumerate(names)],
        *[directory(f"{name}/e", mode=0o777) for name in set(names)],
        *[hardlink(f"{name}/h", f"{name}/e/f0") for name in ["d0"]],
    )
    ended = threading.Event()

    at_work = [quick_path]

    def swap() -> None:
        for number in itertools.cycle(range(5)):
            if ended.is_set():
                return
            path = at_work[0] / "own" / f"d{number}"
            with suppress(OSError):
                os.rename(path, away := at_work[0] / f"away{number}")
                path.symlink_to(outside)
                path.unlink()
                os.rename(away, path)

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    try:
        end = time.monotonic() + 0.7
        for number in itertools.count():
            place = quick_path / f"round{number}"
            place.mkdir()
            at_work[0] = place
            with Bench(place) as bench, bench.tree(b"links") as links:
                (place / "own").mkdir()
                # So few descriptors that directories are opened again and again.
                with Tree(os.open(place / "own", os.O_RDONLY), most_open=1) as own:
                    try:
                        Stager(own, links, bench.rules, known=True).run(TarReader(iter([archive])))
                        outcomes.add("staged")
                    except (OSError, UnsafeEntryError) as error:
                        outcomes.add(type(error).__name__)
            if time.monotonic() > end:
                break
    finally:
        ended.set()
        thread.join()
    assert outcomes
    assert os.listdir(outside) == ["canary"]
    assert (outside / "canary").read_bytes() == b"untouched"
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


# -- without and with --------------------------------------------------------------------------------------------------


@settings(
    max_examples=80,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
@given(stack=stacks(most_layers=3, most_entries=6))
def test_a_layer_that_agrees_means_the_same_with_the_view(stack: Stack, quick_path: Path) -> None:
    """Staging apart is an optimization: to stage every layer with the view of those below it gives the same tree."""
    stack = fit_for(stack, owners=can_chown(), devices=can_mknod(), xattrs=can_set_user_xattr())
    results = []
    for apart in (True, False):
        with tempfile.TemporaryDirectory(dir=quick_path) as place, Bench(Path(place)) as bench:
            try:
                for entries in stack:
                    bench.add(*entries, apart=apart)
                found = bench.finish()
                del found[b"."]  # which is finished when it is published
            except UnpackError:
                found = {}
            results.append(found)
    assert diff(*results) == []


# -- devices that cannot be made ---------------------------------------------------------------------------------------


@needs_mknod
def test_devices_are_made(bench: Bench) -> None:
    bench.stage(char("null", 1, 3), known=True)
    assert bench.staged() == {"null": "char 1:3"}


@pytest.mark.parametrize("device", [(2**32 - 1, 0), (0, 2**32 - 1), (2**32 - 1, 2**32 - 1), (2**12, 2**20)])
def test_a_device_number_that_the_kernel_has_no_place_for_is_a_loss(device: tuple[int, int], bench: Bench) -> None:
    """Twelve bits and twenty are what it has."""
    stager = bench.stage(char("node", *device), known=True)
    assert (bench.staged(), stager.changes.skipped) in (
        ({}, {b"node"}),
        ({"node": f"char {device[0]}:{device[1]}"}, set()),
    )
    assert len(bench.losses) == len(stager.changes.skipped)
    assert read(bench.path / "staged")[b"."].kind == "directory"
