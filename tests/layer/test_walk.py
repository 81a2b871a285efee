"""Lookups: trees as text, and tables of what each path leads to, checked against the kernel's own RESOLVE_IN_ROOT.

In the manner of filepath-securejoin's tests.  Every table is walked twice, in a tree of the layer's own and in a view
of the layers below, and a third time with what the layer has laid over what is below.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.tree import read, sketch
from tests.tree.support import new_tree
from unpacker.errors import LimitError
from unpacker.layer.below import Merged
from unpacker.layer.walk import LoopError, NoNameError, Place, UnknownError, Walk
from unpacker.tree.directory import OTHER, Directory, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST = 4096


# -- trees as text -----------------------------------------------------------------------------------------------------


def build(tree: Tree, *lines: str) -> None:
    """Make what the lines say: ``dir a/b``, ``file a/f``, ``fifo a/p``, ``symlink a/link /target``."""
    for line in lines:
        kind, path, *target = line.split(" ")
        *parents, name = path.encode().split(b"/")
        node = tree.root
        for parent in parents:
            node = node.children.get(parent) or tree.make(node, parent)
        at = tree.descriptor(node)
        if kind == "dir":
            tree.make(node, name)
        elif kind == "file":
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=at))
        elif kind == "fifo":
            os.mkfifo(name, dir_fd=at)
        else:
            os.symlink(target[0], name, dir_fd=at)


def own_walk(tree: Tree, below: Merged | None = None, *, known: bool = True) -> tuple[Walk, list[Directory]]:
    assumed: list[Directory] = []
    return Walk(tree, below, known=known, assumed=assumed, most=MOST), assumed


def view_of(tree: Tree) -> Merged:
    return Merged(tree, tree.root, set())


def parts(path: str | bytes) -> list[bytes]:
    return (path.encode() if isinstance(path, str) else path).split(b"/")


TREE = [
    "dir a",
    "dir b/c/d/e/f",
    "file b/c/file",
    "fifo b/pipe",
    "symlink b-file b/c/file",
    "symlink e /b/c/d/e",
    "symlink a-link ../a",
    # Targets that are out of the root, for whoever does not stay in it.
    "symlink escape ../../../../b",
    "symlink escape-abs /../../../b/c",
    "symlink rooted /",
    "symlink up ..",
    "symlink here .",
    # Links to links.
    "symlink link1/target_abs /target",
    "symlink link1/target_rel ../target",
    "symlink link2/link1_abs /link1",
    "symlink link2/link1_rel ../link1",
    "symlink link3/target_abs /link2/link1_rel/target_rel",
    "symlink link3/target_rel ../link2/link1_rel/target_rel",
    "dir target/inner",
    # Links to nothing.
    "symlink dangling /missing",
    "symlink dangling-deep a/missing/more",
    "symlink to-dangling dangling",
    # Loops.
    "symlink loop/a loop/a",
    "symlink loop/self self",
    "symlink loop/one /loop/two",
    "symlink loop/two /loop/one",
    "symlink loop/deeper /loop/deeper/x",
    # Odd targets.
    "symlink odd/slashes ///b//c///",
    "symlink odd/dots ./.././b/./c/.",
    "symlink odd/file-below ../b/c/file/x",
    "symlink odd/through-file ../b/c/file/../d",
    "symlink odd/trailing /b/c/",
    "symlink odd/into-pipe ../b/pipe",
]
LOOPS: Literal["loops"] = "loops"
LOOKUPS: list[tuple[str, str | None]] = [
    # Complete.
    ("", ""),
    (".", ""),
    ("/", ""),
    ("..", ""),
    ("../..", ""),
    ("a", "a"),
    ("b/c/d", "b/c/d"),
    ("/b/c/d/", "b/c/d"),
    ("b//c/./d", "b/c/d"),
    ("b/c/../..", ""),
    ("b/c/../../../../a", "a"),
    ("b/c/../c/d", "b/c/d"),
    # Through links.
    ("e", "b/c/d/e"),
    ("e/f", "b/c/d/e/f"),
    ("e/..", "b/c/d"),
    ("e/../../../..", ""),
    ("a-link", "a"),
    ("b/c/d/../../../a-link", "a"),
    ("escape", "b"),
    ("escape/c", "b/c"),
    ("escape-abs", "b/c"),
    ("escape-abs/d", "b/c/d"),
    ("rooted", ""),
    ("rooted/b", "b"),
    ("up", ""),
    ("up/up/up/b", "b"),
    ("here/here/b", "b"),
    ("link1/target_abs", "target"),
    ("link1/target_rel", "target"),
    ("link2/link1_abs/target_abs", "target"),
    ("link2/link1_abs/target_rel/inner", "target/inner"),
    ("link2/link1_rel/target_rel", "target"),
    ("link2/link1_rel/target_rel/..", ""),
    ("link3/target_abs", "target"),
    ("link3/target_rel/inner", "target/inner"),
    ("odd/slashes/d", "b/c/d"),
    ("odd/dots", "b/c"),
    ("odd/trailing/d", "b/c/d"),
    # Not there.
    ("missing", None),
    ("a/missing", None),
    ("a/missing/..", None),
    ("b/c/d/missing/more", None),
    ("dangling", None),
    ("dangling/x", None),
    ("dangling/..", None),
    ("dangling-deep", None),
    ("to-dangling", None),
    # No directory.
    ("b/c/file", None),
    ("b/c/file/", None),
    ("b/c/file/x", None),
    ("b/c/file/..", None),
    ("b-file", None),
    ("b-file/..", None),
    ("b/pipe", None),
    ("odd/file-below", None),
    ("odd/through-file", None),
    ("odd/into-pipe", None),
    # Loops.
    ("loop/self", LOOPS),
    ("loop/self/x", LOOPS),
    ("loop/one", LOOPS),
    ("loop/two/x/y", LOOPS),
    ("loop/deeper", LOOPS),
    ("loop/a", None),
]


@pytest.fixture
def tree(quick_path: Path) -> Iterator[Tree]:
    with new_tree(quick_path / "own") as made:
        build(made, *TREE)
        yield made


@pytest.fixture
def empty(quick_path: Path) -> Iterator[Tree]:
    with new_tree(quick_path / "empty") as made:
        yield made


def own_path(place: Place | None) -> str | None:
    """Give where in the own tree a place is."""
    if place is None:
        return None
    assert place.own is not None
    return place.own.path().decode()


def below_path(place: Place | None) -> str | None:
    """Give where below a place is, which the layer itself has nothing of."""
    if place is None:
        return None
    assert isinstance(place.below, Merged)
    return place.below.node.path().decode()


@pytest.mark.parametrize(("path", "expected"), LOOKUPS, ids=[path or "(root)" for path, _ in LOOKUPS])
class TestLookups:
    """Every path of the table, in each way that a layer can have it."""

    def test_in_the_own_tree(self, path: str, expected: str | None, tree: Tree) -> None:
        walk, _ = own_walk(tree)
        before = read_names(tree)
        if expected is LOOPS:
            with pytest.raises(LoopError):
                walk.to(parts(path), make=False)
        else:
            assert own_path(walk.to(parts(path), make=False)) == expected
        assert read_names(tree) == before, "nothing was made"

    def test_in_the_view(self, path: str, expected: str | None, tree: Tree, empty: Tree) -> None:
        walk, _ = own_walk(empty, view_of(tree))
        if expected is LOOPS:
            with pytest.raises(LoopError):
                walk.to(parts(path), make=False)
        else:
            assert below_path(walk.to(parts(path), make=False)) == expected
            found = walk.below(parts(path))
            assert (found.node.path().decode() if isinstance(found, Merged) else found) == expected
        assert empty.root.children == {}

    def test_as_the_kernel_does(self, path: str, expected: str | None, tree: Tree) -> None:
        if not has_openat2():
            pytest.skip("missing: openat2(2)")
        if not path:
            return
        root = tree.descriptor(tree.root)
        assert kernel_lookup(root, path.encode()) == (None if expected == "" and path == "" else expected)

    def test_made_in_the_view(self, path: str, expected: str | None, tree: Tree, empty: Tree) -> None:
        """What the layers below have gets its directories in the layer, where their paths really lead."""
        walk, _ = own_walk(empty, view_of(tree))
        if expected is LOOPS:
            with pytest.raises(LoopError):
                walk.to(parts(path), make=True)
            return
        found = walk.to(parts(path), make=True)
        assert found is not None
        if expected is not None:
            assert (own_path(found), below_path(found)) == (expected, expected)
        elif ".." not in path and path != "odd/through-file":
            assert found.below is None, "it replaces whatever was there"
        # Whatever it was: now it is there, and the same path leads to it again.
        again = walk.to(parts(path), make=False)
        assert again is not None
        assert again.own is found.own


def read_names(tree: Tree) -> set[str]:
    return set(shown(tree))


def shown(tree: Tree) -> dict[str, str]:
    """Give a tree as text."""
    return sketch(read(os.readlink(f"/proc/self/fd/{tree.descriptor(tree.root)}")))


# -- what the kernel says ----------------------------------------------------------------------------------------------

_OPENAT2, _RESOLVE_IN_ROOT = 437, 0x10


def _openat2(root: int, path: bytes) -> int:
    how = ctypes.create_string_buffer(
        struct.pack("<QQQ", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    )
    libc = ctypes.CDLL(None, use_errno=True)
    while (descriptor := libc.syscall(_OPENAT2, root, path, how, len(how) - 1)) < 0:
        if ctypes.get_errno() != errno.EAGAIN:  # a rename or a mount anywhere, while it went over ".."
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    assert isinstance(descriptor, int)
    return descriptor


@cache
def has_openat2() -> bool:
    root = os.open("/", os.O_PATH)
    try:
        os.close(_openat2(root, b"."))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


def kernel_lookup(root: int, path: bytes) -> str | None:
    """Give where a path leads in a root, relative to it; None if to no directory."""
    try:
        found = _openat2(root, path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return LOOPS
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    try:
        top, there = os.readlink(f"/proc/self/fd/{root}"), os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)
    assert there == top or there.startswith(top + "/")
    return there[len(top) + 1 :]


NAMES = st.sampled_from(["a", "b", "c", "..", ".", ""])
TARGETS = st.tuples(
    st.sampled_from(["", "", "/", "../", "/../"]), st.lists(NAMES, min_size=1, max_size=4).map("/".join)
).map("".join)
LINES = st.lists(
    st.tuples(
        st.sampled_from(["dir", "dir", "file", "link", "link"]),
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join),
        TARGETS,
    ),
    max_size=9,
)


@settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(lines=LINES, paths=st.lists(st.lists(NAMES, min_size=1, max_size=6).map("/".join), min_size=5, max_size=5))
def test_any_tree_is_walked_as_the_kernel_does(
    lines: list[tuple[str, str, str]], paths: list[str], quick_path: Path
) -> None:
    """Links to anything, loops among them; the view and the own tree alike."""
    if not has_openat2():
        pytest.skip("missing: openat2(2)")
    made: dict[str, str] = {}
    for kind, path, target in lines:
        parents = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        if path not in made and all(made.get(parent, "dir") == "dir" for parent in parents):
            made.update(dict.fromkeys(parents, "dir"))
            made[path] = f"symlink {target or '.'}" if kind == "link" else kind
    with (
        tempfile.TemporaryDirectory(dir=quick_path) as place,
        new_tree(Path(place, "own")) as own,
        new_tree(Path(place, "empty")) as empty,
    ):
        for path, what in sorted(made.items(), key=lambda item: item[0].count("/")):
            kind, _, target = what.partition(" ")
            build(own, f"{kind} {path} {target}".rstrip(" "))
        for path in paths:
            expected = kernel_lookup(own.descriptor(own.root), path.encode() or b".")
            assert walked(own_walk(own)[0], path) == expected
            assert walked(own_walk(empty, view_of(own))[0], path) == expected


def walked(walk: Walk, path: str) -> str | None:
    try:
        found = walk.to(parts(path), make=False)
    except LoopError:
        return LOOPS
    return own_path(found) if found is None or found.own is not None else below_path(found)


# -- hops --------------------------------------------------------------------------------------------------------------


def chain(links: int) -> Iterable[str]:
    yield "dir end"
    yield "symlink l1 end"
    yield from (f"symlink l{number} l{number - 1}" for number in range(2, links + 1))


@pytest.mark.parametrize("below", [False, True], ids=["own", "below"])
def test_forty_links_are_followed_and_no_more(below: bool, empty: Tree, quick_path: Path) -> None:
    """The kernel's own limit; a chain longer than that could be read by no program."""
    with new_tree(quick_path / "chain") as made:
        build(made, *chain(41))
        walk = own_walk(empty, view_of(made))[0] if below else own_walk(made)[0]
        assert walked(walk, "l40") == "end"
        assert walked(walk, "l20/../l20") == "end", "the links of one path count together"
        with pytest.raises(LoopError):
            walk.to([b"l41"], make=False)
        with pytest.raises(LoopError):
            walk.to([b"l20", b"..", b"l21"], make=False)
        if has_openat2():
            root = made.descriptor(made.root)
            assert [kernel_lookup(root, b"l40"), kernel_lookup(root, b"l41")] == ["end", LOOPS]


def test_a_bomb_of_links_ends(empty: Tree) -> None:
    """Each link names the one before it twice: without a limit, 2^30 steps."""
    build(empty, "dir d0", *(f"symlink d{number} d{number - 1}/../d{number - 1}" for number in range(1, 31)))
    with pytest.raises(LoopError):
        own_walk(empty)[0].to([b"d30"], make=False)


# -- the layer over what is below --------------------------------------------------------------------------------------


@pytest.fixture
def lower(quick_path: Path) -> Iterator[Tree]:
    with new_tree(quick_path / "lower") as made:
        build(made, "dir usr/lib/deep", "symlink lib usr/lib", "file etc/conf", "symlink old /usr", "file data")
        yield made


def test_the_layers_own_goes_before_what_is_below(empty: Tree, lower: Tree) -> None:
    """A directory of its own in place of a link below, a link of its own in place of a directory below."""
    build(empty, "dir lib", "symlink usr lib", "dir data")
    walk, _ = own_walk(empty, view_of(lower))
    lib = walk.to([b"lib"], make=False)
    assert lib is not None
    assert (own_path(lib), lib.below) == ("lib", None), "the link below is gone"
    through = walk.to([b"usr"], make=False)
    assert through is not None
    assert through.own is lib.own
    data = walk.to([b"data"], make=False)
    assert data is not None
    assert data.below is None


def test_what_both_have_is_seen_in_both(empty: Tree, lower: Tree) -> None:
    build(empty, "dir usr/bin", "dir etc")
    walk, _ = own_walk(empty, view_of(lower))
    usr = walk.to([b"usr"], make=False)
    assert usr is not None
    assert (own_path(usr), below_path(usr)) == ("usr", "usr")
    deep = walk.to(parts("usr/lib/deep"), make=False)
    assert deep is not None
    assert (deep.own, below_path(deep)) == (None, "usr/lib/deep")
    with pytest.raises(LookupError):
        _ = deep.node


def test_an_opaque_directory_shows_nothing_from_below(empty: Tree, lower: Tree) -> None:
    build(empty, "dir usr")
    empty.root.children[b"usr"].opaque = True
    walk, _ = own_walk(empty, view_of(lower))
    assert walk.to(parts("usr/lib"), make=False) is None
    made = walk.to(parts("usr/lib/deep"), make=True)
    assert made is not None
    assert (own_path(made), made.below) == ("usr/lib/deep", None)


def test_look_tells_whose_it_is(empty: Tree, lower: Tree) -> None:
    build(empty, "file data", "symlink etc usr", "dir usr")
    walk, _ = own_walk(empty, view_of(lower))
    assert walk.look(walk.root, b"data") is OTHER
    assert walk.look(walk.root, b"etc") == b"usr"
    assert walk.look(walk.root, b"lib") == b"usr/lib", "of below"
    assert walk.look(walk.root, b"nothing") is None
    usr = walk.look(walk.root, b"usr")
    assert isinstance(usr, Place)
    assert isinstance(usr.own, Directory)


# -- without a view ----------------------------------------------------------------------------------------------------


def test_without_a_view_what_is_missing_is_assumed(empty: Tree) -> None:
    """Each directory that is made for want of a view is noted, in order: settling looks whether it is one."""
    walk, assumed = own_walk(empty, known=False)
    found = walk.to(parts("usr/share/doc"), make=True)
    assert own_path(found) == "usr/share/doc"
    assert [node.path() for node in assumed] == [b"usr", b"usr/share", b"usr/share/doc"]
    walk.to(parts("usr/share/../lib"), make=True)
    assert [node.path() for node in assumed[3:]] == [b"usr/lib"], "and each of them once"


def test_without_a_view_what_may_be_below_is_unknown(empty: Tree) -> None:
    build(empty, "dir a/b", "symlink link a", "symlink away elsewhere")
    walk, assumed = own_walk(empty, known=False)
    assert own_path(walk.to(parts("link/b"), make=False)) == "a/b"
    for path in ("missing", "a/missing", "away", "link/b/missing"):
        with pytest.raises(UnknownError):
            walk.to(parts(path), make=False)
    with pytest.raises(UnknownError):
        walk.look(walk.root, b"missing")
    assert assumed == []


def test_without_a_view_nothing_is_below_what_the_layer_replaced(empty: Tree) -> None:
    """There it is known: a directory that took the place of a file of the layer has nothing from below."""
    build(empty, "dir a/b")
    empty.root.children[b"a"].opaque = True
    walk, assumed = own_walk(empty, known=False)
    assert walk.to(parts("a/missing"), make=False) is None
    assert walk.to(parts("a/b/missing"), make=False) is None
    walk.to(parts("a/new"), make=True)
    assert assumed == []


# -- making ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        pytest.param(["file a"], "a/b", {"a": "directory", "a/b": "directory"}, id="a file in the way is replaced"),
        pytest.param(["fifo a"], "a", {"a": "directory"}, id="a fifo, too"),
        pytest.param(
            ["symlink a b"],
            "a/c",
            {"a": "symlink b", "b": "directory", "b/c": "directory"},
            id="a dangling link is filled",
        ),
        pytest.param(
            ["symlink a ../../x/y"], "a", {"a": "symlink ../../x/y", "x": "directory", "x/y": "directory"}, id="inside"
        ),
        pytest.param(
            ["file f", "symlink a f"],
            "a/b",
            {"a": "symlink f", "f": "directory", "f/b": "directory"},
            id="a link to a file",
        ),
    ],
)
def test_what_is_in_the_way_is_replaced(before: list[str], path: str, after: dict[str, str], empty: Tree) -> None:
    build(empty, *before)
    walk, _ = own_walk(empty)
    found = walk.to(parts(path), make=True)
    assert found is not None
    assert shown(empty) == after
    assert own_path(walk.to(parts(path), make=False)) == own_path(found)


def test_what_replaced_a_file_of_the_layer_hides_all_below(empty: Tree) -> None:
    build(empty, "file a")
    walk, _ = own_walk(empty, known=False)
    found = walk.to(parts("a/b"), make=True)
    assert found is not None
    assert empty.root.children[b"a"].opaque


def test_what_stands_in_for_a_file_below_is_not_opaque(empty: Tree, lower: Tree) -> None:
    """Merging replaces the file there; and no marker for it is needed in a layer by itself."""
    walk, _ = own_walk(empty, view_of(lower))
    found = walk.to(parts("data/x"), make=True)
    assert found is not None
    assert not empty.root.children[b"data"].opaque


@pytest.mark.parametrize("length", [100, 101])
def test_no_path_is_longer_than_allowed(length: int, empty: Tree) -> None:
    """Symbolic links lengthen a path; the name of the entry is not what counts."""
    build(empty, "symlink a " + "n" * 60)
    walk = Walk(empty, None, known=True, assumed=[], most=100)
    path = [b"a", b"m" * (length - 61)]
    if length <= 100:
        walk.to(path, make=True)
    else:
        with pytest.raises(LimitError) as caught:
            walk.to(path, make=True)
        assert (caught.value.limit, caught.value.found) == ("path_bytes", length)


@pytest.mark.parametrize(
    "target",
    ["n" * 256, "a/" + "n" * 256, ".wh.x", "../.wh..wh..opq", ".wh."],
    ids=["256 bytes", "256 bytes, deeper", "whiteout", "opaque", "whiteout of nothing"],
)
def test_a_link_to_what_may_have_no_name_is_not_filled(target: str, empty: Tree) -> None:
    """Names of entries are refused before; a link may lead anywhere."""
    build(empty, f"symlink l {target}")
    walk, _ = own_walk(empty)
    assert walk.to(parts("l/x"), make=False) is None
    with pytest.raises(NoNameError):
        walk.to(parts("l/x"), make=True)


def test_a_link_to_the_longest_name_is_filled(empty: Tree) -> None:
    build(empty, "symlink l " + "n" * 255)
    assert own_path(own_walk(empty)[0].to([b"l"], make=True)) == "n" * 255
