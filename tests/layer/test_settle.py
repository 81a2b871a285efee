"""Settling, rule by rule: what a layer hides, whether it means the same over what is below, and how the two become one.

Each case is a stack of layers, the tree that comes out, and whether the last layer could be merged as it was staged by
itself; the property that all stacks obey is in `tests.test_model_agrees`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.layer.bench import Bench
from tests.support.probes import needs_chown, needs_user_xattr
from tests.support.tarbuild import (
    SECOND,
    Entry,
    directory,
    fifo,
    file,
    hardlink,
    opaque,
    symlink,
    whiteout,
)
from unpacker.errors import UnsafeEntryError
from unpacker.layer import settle
from unpacker.layer.below import Hidden, Merged
from unpacker.layer.changes import Changes
from unpacker.tree.directory import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Case(NamedTuple):
    """Layers, base first, and what becomes of them."""

    layers: list[list[Entry]]
    expected: str
    """The tree: ``path kind``, one a line."""
    again: bool = False
    """Whether the last layer had to be staged once more, with the view."""
    keep_dirlinks: bool = False


LINKED = [directory("usr/lib"), file("usr/lib/libc", b"1"), symlink("lib", "usr/lib")]
"""The usr-merge of every distribution."""

PARENTS = {
    "implied parent over a lower link (usr-merge)": Case(
        [LINKED, [file("lib/x")]],
        """
        lib symlink usr/lib
        usr directory
        usr/lib directory
        usr/lib/libc file 1
        usr/lib/x file
        """,
        again=True,
    ),
    "explicit directory over a lower link": Case(
        [LINKED, [directory("lib"), file("lib/x")]],
        """
        lib directory
        lib/x file
        usr directory
        usr/lib directory
        usr/lib/libc file 1
        """,
    ),
    "implied first, explicit later: as if applied one by one": Case(
        [LINKED, [file("lib/x"), directory("lib"), file("lib/y")]],
        """
        lib directory
        lib/y file
        usr directory
        usr/lib directory
        usr/lib/libc file 1
        usr/lib/x file
        """,
        again=True,
    ),
    "a link below that an entry of the layer turns": Case(
        [[directory("a"), directory("b"), symlink("l", "a")], [file("l/x"), symlink("l", "b"), file("l/y")]],
        """
        a directory
        a/x file
        b directory
        b/y file
        l symlink b
        """,
        again=True,
    ),
    "implied parent over a lower file": Case(
        [[file("a", b"1"), file("b")], [file("a/x/y")]],
        """
        a directory
        a/x directory
        a/x/y file
        b file
        """,
    ),
    "implied parent over a lower fifo": Case(
        [[fifo("a")], [file("a/x")]],
        """
        a directory
        a/x file
        """,
    ),
    "implied parent over a lower directory": Case(
        [[file("a/b/old")], [file("a/b/new")]],
        """
        a directory
        a/b directory
        a/b/new file
        a/b/old file
        """,
    ),
    "implied parent over a dangling link": Case(
        [[symlink("a", "/nowhere/deep")], [file("a/x")]],
        """
        a symlink /nowhere/deep
        nowhere directory
        nowhere/deep directory
        nowhere/deep/x file
        """,
        again=True,
    ),
    "implied parent over a link to a file": Case(
        [[file("f", b"1"), symlink("a", "f")], [file("a/x")]],
        """
        a symlink f
        f directory
        f/x file
        """,
        again=True,
    ),
    "implied parent deep below a lower link": Case(
        [[directory("usr/share"), symlink("usr/doc", "share")], [file("usr/doc/a/b/x")]],
        """
        usr directory
        usr/doc symlink share
        usr/share directory
        usr/share/a directory
        usr/share/a/b directory
        usr/share/a/b/x file
        """,
        again=True,
    ),
    "links of the layers below lead out of the root, and are kept inside": Case(
        [[symlink("a", "../../../../tmp")], [file("a/x")]],
        """
        a symlink ../../../../tmp
        tmp directory
        tmp/x file
        """,
        again=True,
    ),
    "a link of the layer itself needs no view": Case(
        [[file("a/old")], [directory("a"), symlink("l", "a"), file("l/x")]],
        """
        a directory
        a/old file
        a/x file
        l symlink a
        """,
    ),
    "a link of the layer into what is below": Case(
        [[symlink("to", "real")], [symlink("l", "to"), file("l/x")]],
        """
        l symlink to
        real directory
        real/x file
        to symlink real
        """,
        again=True,
    ),
}

REPLACED = {
    "file over directory": Case([[file("a/b/c")], [file("a", b"1")]], "a file 1"),
    "directory over file": Case([[file("a", b"1")], [directory("a")]], "a directory"),
    "link over directory": Case([[file("a/b")], [symlink("a", "b")]], "a symlink b"),
    "file over link: never written through": Case(
        [[file("b", b"1"), symlink("a", "b")], [file("a", b"2")]],
        """
        a file 2
        b file 1
        """,
    ),
    "directory over directory keeps what is in it": Case(
        [[file("a/b")], [directory("a"), file("a/c")]],
        """
        a directory
        a/b file
        a/c file
        """,
    ),
    "one name of a pair": Case(
        [[file("a", b"1"), hardlink("b", "a")], [file("a", b"2")]],
        """
        a file 2
        b file 1
        """,
    ),
    "directory over file of the layer itself hides nothing more": Case(
        [[file("a/old")], [file("a", b"1"), directory("a"), file("a/new")]],
        """
        a directory
        a/new file
        """,
    ),
    "file, then a path through it": Case(
        [[file("a/old")], [file("a", b"1"), file("a/new")]],
        """
        a directory
        a/new file
        """,
    ),
    "one name, many types": Case(
        [[file("a/old")], [symlink("a", "x"), fifo("a"), directory("./a"), file("a", b"1"), directory("/a/")]],
        "a directory",
    ),
    "names that climb": Case(
        [[file("etc/a", b"1")], [file("../../etc/a", b"2"), file("../b"), directory("etc/../../../c")]],
        """
        b file
        c directory
        etc directory
        etc/a file 2
        """,
    ),
}

WHITEOUTS = {
    "of a file": Case([[file("a/b"), file("a/c")], [whiteout("a/b")]], "a directory\na/c file"),
    "of a directory with all in it": Case([[file("a/b/c"), file("d")], [whiteout("a")]], "d file"),
    "of a link, not of what it leads to": Case(
        [[file("d/x"), symlink("l", "d")], [whiteout("l")]], "d directory\nd/x file"
    ),
    "of nothing": Case([[file("a")], [whiteout("b"), whiteout("c/d/e"), whiteout("a/f")]], "a file"),
    "and the same name made again": Case([[file("a", b"1")], [whiteout("a"), file("a", b"2")]], "a file 2"),
    "the same, the whiteout last": Case([[file("a", b"1")], [file("a", b"2"), whiteout("a")]], "a file 2"),
    "of a directory that is made again": Case(
        [[file("d/old")], [whiteout("d"), directory("d"), file("d/new")]], "d directory\nd/new file"
    ),
    "of a directory that is implied again": Case(
        [[file("d/old")], [whiteout("d"), file("d/new")]], "d directory\nd/new file"
    ),
    "the same, the whiteout last, and implied": Case(
        [[file("d/old")], [file("d/new"), whiteout("d")]], "d directory\nd/new file"
    ),
    "of a link that is implied as a directory": Case(
        [[file("t/x"), symlink("d", "t")], [whiteout("d"), file("d/new")]],
        """
        d directory
        d/new file
        t directory
        t/x file
        """,
    ),
    "through a lower link": Case(
        [LINKED, [whiteout("lib/libc")]],
        """
        lib symlink usr/lib
        usr directory
        usr/lib directory
        """,
    ),
    "through a lower link out of the root, and inside": Case(
        [[file("etc/x"), symlink("l", "../../..")], [whiteout("l/etc/x")]],
        """
        etc directory
        l symlink ../../..
        """,
    ),
    "through a loop": Case([[symlink("l", "l")], [whiteout("l/x")]], "l symlink l"),
    "through a file": Case([[file("a")], [whiteout("a/b")]], "a file"),
    "below a path that its layer makes a file": Case([[file("d/x")], [file("d", b"1"), whiteout("d/x")]], "d file 1"),
    "below a path that its layer makes a link": Case(
        [[file("a/x"), file("d/x")], [symlink("d", "a"), whiteout("d/x")]],
        """
        a directory
        a/x file
        d symlink a
        """,
    ),
    "below a directory that its layer puts in the place of a lower link": Case(
        [[file("t/x"), symlink("d", "t")], [directory("d"), whiteout("d/x")]],
        """
        d directory
        t directory
        t/x file
        """,
    ),
    "the same, where links to directories are kept": Case(
        [[file("t/x"), symlink("d", "t")], [directory("d"), whiteout("d/x")]],
        """
        d symlink t
        t directory
        """,
        again=True,
        keep_dirlinks=True,
    ),
    "shallow ones first, whatever their order": Case(
        [[file("a/b/c"), file("a/d")], [whiteout("a/b/c"), whiteout("a"), whiteout("a/d")]], ""
    ),
    "by a link or a directory that is named so": Case(
        [[file("a"), file("b"), file("c")], [symlink(".wh.a", "c"), directory(".wh.b")]], "c file"
    ),
    "of a name that begins with dots": Case([[file("..a"), file(".b")], [whiteout("..a"), whiteout(".b")]], ""),
    "over several layers": Case(
        [[file("a", b"1")], [whiteout("a")], [file("a", b"3")], [whiteout("a"), file("b")]], "b file"
    ),
}

OPAQUES = {
    "first": Case([[file("d/a"), file("e")], [opaque("d"), file("d/b")]], "d directory\nd/b file\ne file"),
    "last": Case([[file("d/a"), file("e")], [file("d/b"), opaque("d")]], "d directory\nd/b file\ne file"),
    "in the middle": Case([[file("d/a")], [file("d/b"), opaque("d"), file("d/c")]], "d directory\nd/b file\nd/c file"),
    "without an entry of the directory": Case([[file("d/a/x")], [opaque("d")]], "d directory"),
    "of a directory that is not there": Case(
        [[file("a")], [opaque("d"), file("d/b")]], "a file\nd directory\nd/b file"
    ),
    "of the root": Case([[file("a/b"), file("c")], [opaque(""), file("d")]], "d file"),
    "of the root, spelled otherwise": Case([[file("a/b")], [file("d"), opaque(".")]], "d file"),
    "nested": Case(
        [[file("d/e/f"), file("d/g")], [opaque("d"), opaque("d/e"), file("d/e/h")]],
        "d directory\nd/e directory\nd/e/h file",
    ),
    "with whiteouts besides": Case(
        [[file("d/a"), file("d/b")], [whiteout("d/a"), opaque("d"), file("d/a", b"2")]], "d directory\nd/a file 2"
    ),
    "through a lower link": Case(
        [LINKED, [opaque("lib"), file("usr/lib/new")]],
        """
        lib symlink usr/lib
        usr directory
        usr/lib directory
        usr/lib/new file
        """,
    ),
    "below what its layer makes a link": Case(
        [[file("a/x"), file("d/x")], [opaque("d"), symlink("d", "a")]],
        """
        a directory
        a/x file
        d symlink a
        """,
    ),
    "of a file": Case([[file("a", b"1")], [opaque("a")]], "a file 1"),
}

HARD_LINKS = {
    "to a lower file": Case([[file("a", b"1")], [hardlink("b", "a")]], "a file 1 = a\nb file 1 = a", again=True),
    "to a lower file behind a link": Case(
        [LINKED, [hardlink("b", "lib/libc")]],
        """
        b file 1 = b
        lib symlink usr/lib
        usr directory
        usr/lib directory
        usr/lib/libc file 1 = b
        """,
        again=True,
    ),
    "to a lower link itself": Case(
        [LINKED, [hardlink("b", "lib")]],
        """
        b symlink usr/lib = b
        lib symlink usr/lib = b
        usr directory
        usr/lib directory
        usr/lib/libc file 1
        """,
        again=True,
    ),
    "to what comes later": Case([[], [hardlink("b", "a"), file("a", b"1")]], "a file 1 = a\nb file 1 = a", again=True),
    "to what comes later, in the base": Case([[hardlink("b", "a"), file("a", b"1")]], "a file 1 = a\nb file 1 = a"),
    "to what is there, though another comes later": Case(
        [[file("a", b"1")], [hardlink("b", "a"), file("a", b"2")]], "a file 2\nb file 1", again=True
    ),
    "to a link that waits itself": Case(
        [[hardlink("c", "b"), hardlink("b", "a"), file("a", b"1")]], "a file 1 = a\nb file 1 = a\nc file 1 = a"
    ),
    "to itself": Case([[file("a", b"1")], [hardlink("a", "a")]], "a file 1", again=True),
    "to itself, in the same layer": Case([[file("a", b"1"), hardlink("./a", "/a")]], "a file 1"),
    "to the same file once more": Case(
        [[file("a", b"1"), hardlink("b", "a"), hardlink("b", "a")]], "a file 1 = a\nb file 1 = a"
    ),
    "in place of another file": Case(
        [[file("a", b"1"), file("b", b"2"), hardlink("b", "a")]], "a file 1 = a\nb file 1 = a"
    ),
    "in place of a link": Case(
        [[file("a", b"1"), symlink("b", "a"), hardlink("b", "a")]], "a file 1 = a\nb file 1 = a"
    ),
    "in place of another lower file": Case(
        [[file("a", b"1"), file("b", b"2"), hardlink("c", "b")], [hardlink("b", "a")]],
        "a file 1 = a\nb file 1 = a\nc file 2",
        again=True,
    ),
    "in place of a directory with its target": Case(
        [[file("d/a", b"1"), file("d/b", b"2"), hardlink("c", "d/a"), hardlink("d", "c")]], "c file 1 = c\nd file 1 = c"
    ),
    "absolute, and climbing": Case(
        [[file("a", b"1"), hardlink("b", "/a"), hardlink("c", "../../a")]],
        "a file 1 = a\nb file 1 = a\nc file 1 = a",
    ),
    "into AUFS's store": Case(
        [[file(".wh..wh.plnk/1.2", b"1"), hardlink("a", ".wh..wh.plnk/1.2"), hardlink("b", "/.wh..wh.plnk/1.2")]],
        "a file 1 = a\nb file 1 = a",
    ),
    "into AUFS's store, which comes later": Case(
        [[hardlink("a", ".wh..wh.plnk/1.2"), file(".wh..wh.plnk/1.2", b"1")]], "a file 1"
    ),
    "into AUFS's store, which has two files of one name": Case(
        [
            [
                *(hardlink("a", ".wh..wh.plnk/1"), file(".wh..wh.plnk/1", b"1"), hardlink("b", ".wh..wh.plnk/1")),
                *(file(".wh..wh.plnk/1", b"2"), hardlink("c", ".wh..wh.plnk/1")),
            ]
        ],
        "a file 2 = a\nb file 1\nc file 2 = a",
    ),
    "AUFS's own files are nothing": Case(
        [[file("a")], [file(".wh..wh.aufs"), directory(".wh..wh.orph"), file(".wh..wh.plnk/9", b"1")]], "a file"
    ),
    "of two names, one of which is hidden": Case(
        [[file("a", b"1"), hardlink("b", "a")], [whiteout("a"), hardlink("c", "b")]],
        "b file 1 = b\nc file 1 = b",
        again=True,
    ),
}

DIRLINKS = {
    "a directory's entry leaves the link": Case(
        [LINKED, [directory("lib"), file("lib/x")]],
        """
        lib symlink usr/lib
        usr directory
        usr/lib directory
        usr/lib/libc file 1
        usr/lib/x file
        """,
        again=True,
        keep_dirlinks=True,
    ),
    "a link to nothing is replaced": Case(
        [[symlink("l", "nowhere")], [directory("l")]], "l directory", again=True, keep_dirlinks=True
    ),
    "a link to a file is replaced": Case(
        [[file("f"), symlink("l", "f")], [directory("l")]], "f file\nl directory", again=True, keep_dirlinks=True
    ),
    "a loop is replaced": Case([[symlink("l", "l")], [directory("l")]], "l directory", again=True, keep_dirlinks=True),
    "a link of the layer itself, too": Case(
        [[directory("t"), symlink("l", "t"), directory("l"), file("l/x")]],
        "l symlink t\nt directory\nt/x file",
        keep_dirlinks=True,
    ),
    "all else replaces the link": Case(
        [[directory("t"), symlink("l", "t")], [file("l", b"1")]], "l file 1\nt directory", keep_dirlinks=True
    ),
}


def cases() -> Iterator[object]:
    groups = {
        "parents": PARENTS,
        "replaced": REPLACED,
        "whiteout": WHITEOUTS,
        "opaque": OPAQUES,
        "hard link": HARD_LINKS,
        "dirlinks": DIRLINKS,
    }
    for group, members in groups.items():
        for name, case in members.items():
            yield pytest.param(case, id=f"{group}: {name}")


@pytest.fixture
def bench(quick_path: Path) -> Iterator[Bench]:
    with Bench(quick_path) as made:
        yield made


@pytest.mark.parametrize("case", list(cases()))
def test_rule(case: Case, quick_path: Path) -> None:
    with Bench(quick_path, keep_dirlinks=case.keep_dirlinks) as bench:
        for entries in case.layers:
            bench.add(*entries)
        assert [f"{path} {line}" for path, line in bench.sketch().items()] == [
            line.strip() for line in case.expected.strip().splitlines()
        ]
        assert bench.times == 1 + case.again
        assert sorted(os.listdir(quick_path)) == ["merged"], "nothing else is left"


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ([[file("a")], [whiteout("a"), hardlink("b", "a")]], "a hard link to 'a', which is nothing"),
        ([[file("d/a")], [opaque("d"), hardlink("b", "d/a")]], "a hard link to 'd/a', which is nothing"),
        ([[directory("d")], [hardlink("b", "d")]], "a hard link to 'd', which is a directory"),
        ([[symlink("l", "l")], [file("l/x")]], "more symbolic links in its path than the kernel follows"),
        ([[symlink("l", "l")], [hardlink("b", "l/x")]], "more symbolic links to its target than the kernel follows"),
        ([[], [hardlink("b", "c")]], "a hard link to 'c', which is nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_layers_below_make_wrong_is_refused(layers: list[list[Entry]], what: str, bench: Bench) -> None:
    *before, last = layers
    for entries in before:
        bench.add(*entries)
    with pytest.raises(UnsafeEntryError) as caught:
        bench.add(*last)
    assert (caught.value.what, caught.value.entry) == (what, last[-1].name)
    assert caught.value.offset is not None
    assert bench.times == 2, "only with the view it is known to be wrong"


# -- attributes --------------------------------------------------------------------------------------------------------


@needs_user_xattr
@needs_chown
def test_a_directorys_attributes_are_replaced_altogether(bench: Bench) -> None:
    """Its extended attributes, too: those that the new entry does not have are gone (layer.md: "MUST be replaced")."""
    bench.add(
        directory("a", mode=0o1777, uid=1, gid=2, mtime=3 * SECOND, xattrs={"user.old": b"1"}),
        directory("b", mode=0o1777, uid=1, gid=2, mtime=3 * SECOND, xattrs={"user.old": b"1"}),
    )
    bench.add(directory("a", mode=0o700, mtime=5 * SECOND, xattrs={"user.new": b"2"}), file("b/x"))
    tree = bench.finish()
    a, b = tree[b"a"], tree[b"b"]
    assert (a.mode, a.uid, a.mtime_ns, a.xattrs) == (0o700, 0, 5 * SECOND, {b"user.new": b"2"})
    assert (b.mode, b.uid, b.mtime_ns, b.xattrs) == (0o1777, 1, 3 * SECOND, {b"user.old": b"1"}), (
        "implied: as it was below"
    )


def test_the_root_takes_the_last_entry(bench: Bench) -> None:
    bench.add(directory("./", mode=0o700))
    bench.add(file("a"))
    assert bench.merged.root.attributes is not None
    assert bench.merged.root.attributes.mode == 0o700
    bench.add(directory("./", mode=0o755, mtime=SECOND))
    assert (bench.merged.root.attributes.mode, bench.merged.root.attributes.mtime) == (0o755, SECOND)


def test_a_directory_that_is_hidden_and_implied_again_has_nothing_of_the_old(bench: Bench) -> None:
    bench.add(directory("d", mode=0o1777, mtime=3 * SECOND))
    bench.add(whiteout("d"), file("d/x"))
    tree = bench.finish()
    assert (tree[b"d"].mode, tree[b"d"].mtime_ns) == (0o755, 0)


# -- merging -----------------------------------------------------------------------------------------------------------


def test_new_subtrees_move_whole(bench: Bench) -> None:
    """By one rename: the very directories that were staged are those of the tree afterwards."""
    bench.add(directory("usr"))
    staged = bench.stage(*[file(f"usr/share/doc/{number}/a") for number in range(20)])
    assert staged.changes.unresolved is None
    inode = os.stat(bench.path / "staged" / "usr" / "share" / "doc" / "7").st_ino
    with bench.tree(b"again") as own, bench.tree(b"links"):
        parent = own.make(own.root, b"usr")
        share = own.make(parent, b"share")
        deep = own.make(share, b"deep")
        inode = os.fstat(own.descriptor(deep)).st_ino
        settle.merge(own, bench.merged)
        assert not own.root.children
    assert os.stat(bench.path / "merged" / "usr" / "share" / "deep").st_ino == inode
    assert bench.merged.root.children[b"usr"].children[b"share"].children[b"deep"] is deep


def test_a_layer_of_nothing_changes_nothing(bench: Bench) -> None:
    bench.add(file("a", b"1"), directory("d", mode=0o700, mtime=5))
    before = bench.sketch()
    bench.add()
    assert bench.sketch() == before
    assert bench.changes.entries == 0


# -- hidden ------------------------------------------------------------------------------------------------------------


def hidden(bench: Bench, *entries: Entry) -> Hidden:
    stager = bench.stage(*entries)
    with bench.tree(b"own") as own:
        return settle.hidden(own, stager.changes, Merged(bench.merged, bench.merged.root, set()))


def test_hidden_gives_real_paths_of_what_is_there(bench: Bench) -> None:
    """Links on the way are followed, what finds nothing is left out, and nothing is named twice."""
    bench.add(*LINKED, file("d/a"), file("d/b"))
    found = hidden(
        bench,
        whiteout("lib/libc"),
        whiteout("usr/lib/libc"),
        whiteout("lib/missing"),
        whiteout("missing/x"),
        whiteout("d/a"),
        opaque("d"),
        whiteout("usr/lib/libc/x"),
    )
    assert (found.names, found.all) == ({(b"usr", b"lib"): {b"libc"}}, {(b"d",)})
    assert found.covers((b"d",), b"b")
    assert not found.covers((b"usr", b"lib"), b"other")
    assert bool(found) is True


def test_hidden_is_empty_where_nothing_is_asked(bench: Bench) -> None:
    bench.add(file("a"))
    assert not hidden(bench, file("b"))


# -- agrees ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assumed", "agrees"),
    [
        ([], True),
        ([b"usr"], True),
        ([b"usr/lib"], True),
        ([b"lib"], False),
        ([b"usr", b"lib"], False),
        ([b"lib/x"], True),
        ([b"usr/lib/libc"], True),
        ([b"usr/lib/libc/x"], True),
        ([b"new/deep"], True),
        ([b"usr/share"], True),
    ],
    ids=str,
)
def test_agrees(assumed: list[bytes], agrees: bool, bench: Bench) -> None:
    """Only a link in the place of an assumed directory is a disagreement; behind another link nobody looks."""
    bench.add(*LINKED)
    changes = Changes()
    for path in assumed:
        node = Directory(None, b"")
        for name in path.split(b"/"):
            node = Directory(node, name)
        changes.assumed.append(node)
    view = Merged(bench.merged, bench.merged.root, set())
    assert settle.agrees(changes, view) is agrees
    changes.unresolved = "a hard link"
    assert settle.agrees(changes, view) is False


@pytest.mark.parametrize("some", [1, 2, 3, 7, 40])
def test_a_directory_of_more_names_than_are_read_at_a_time(
    some: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged and hidden: files that move away, directories that stay, in one that is read in parts."""
    monkeypatch.setattr(settle, "_SOME", some)
    names = [f"d/{kind}{number}" for kind in "fx" for number in range(20)]
    both = [f"d/s{number}" for number in range(10)]

    bench.add(*map(file, names), *map(directory, both))
    bench.add(*(file(name, b"new") for name in names[::2]), *(file(f"{name}/f", b"new") for name in both))

    kept = dict.fromkeys(names[1::2], "file")
    new = dict.fromkeys([*names[::2], *(f"{name}/f" for name in both)], "file new")
    assert bench.sketch().items() >= {**kept, **new}.items()
    bench.add(opaque("d"), file("d/only"))
    assert [name for name in bench.sketch() if name.startswith("d/")] == ["d/only"]
