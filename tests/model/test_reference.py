"""The reference model against expectations written by hand: the specification's examples, and where unpackers differ."""

from __future__ import annotations

import pytest

from tests.model.reference import Layer, Refused, apply
from tests.support.tarbuild import (
    SECOND,
    Entry,
    block,
    char,
    directory,
    fifo,
    file,
    hardlink,
    opaque,
    symlink,
    whiteout,
)
from tests.support.tree import Node, sketch


def tree(*layers: Layer, keep_dirlinks: bool = False) -> dict[str, str]:
    """Give the tree of some layers as text."""
    return sketch(apply(layers, keep_dirlinks=keep_dirlinks))


def test_nothing_gives_a_bare_root() -> None:
    """No layers, or an empty one: a root of 0755, root's, of 1970."""
    root = Node(kind="directory", mode=0o755)
    assert apply([]) == apply([[]]) == {b".": root}


# -- the specification's examples (layer.md) ---------------------------------------------------------------------------


def test_example_of_changesets() -> None:
    """rootfs-c9d-v1: a directory and a file are added, a file is changed, one is deleted."""
    first = [
        directory("./"),
        directory("./etc/"),
        file("./etc/my-app-config", b"v1"),
        directory("./bin/"),
        file("./bin/my-app-binary", b"binary"),
        file("./bin/my-app-tools", b"tools"),
    ]
    second = [
        directory("./etc/my-app.d/"),
        file("./etc/my-app.d/default.cfg", b"v2"),
        file("./bin/my-app-tools", b"new tools"),
        whiteout("./etc/my-app-config"),
    ]
    assert tree(first, second) == {
        "bin": "directory",
        "bin/my-app-binary": "file binary",
        "bin/my-app-tools": "file new tools",
        "etc": "directory",
        "etc/my-app.d": "directory",
        "etc/my-app.d/default.cfg": "file v2",
    }


def test_example_of_whiteouts() -> None:
    """Files and a whole directory are hidden, the rest stays."""
    first = [file("file1"), file("a/file2"), file("b/x/y"), file("c/file3"), file("c/file4")]
    second = [whiteout("file1"), whiteout("a/file2"), whiteout("b")]
    assert tree(first, second) == {"a": "directory", "c": "directory", "c/file3": "file", "c/file4": "file"}


@pytest.mark.parametrize("marker_at", [0, 1, 4])
def test_example_of_opaque(marker_at: int) -> None:
    """What a layer puts into an opaque directory stays, wherever the marker stands."""
    second = [directory("a"), directory("a/b"), directory("a/b/c"), file("a/b/c/foo")]
    second.insert(marker_at, opaque("a"))
    assert tree([file("a/b/c/bar"), file("a/other")], second) == {
        "a": "directory",
        "a/b": "directory",
        "a/b/c": "directory",
        "a/b/c/foo": "file",
    }


def test_the_two_forms_of_hiding_everything_agree() -> None:
    """An opaque marker and one whiteout a child are the same."""
    first = [file("a/x"), file("a/y/z")]
    assert tree(first, [opaque("a")]) == tree(first, [whiteout("a/x"), whiteout("a/y")]) == {"a": "directory"}


# -- whiteouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1])
def test_whiteout_hides_lower_layers_only(order: int) -> None:
    """A file and its whiteout in one layer: the file stays, in either order."""
    assert tree([file("x", b"old")], [file("x", b"new"), whiteout("x")][::order]) == {"x": "file new"}
    assert tree([file("d/old")], [file("d/new"), whiteout("d")][::order]) == {"d": "directory", "d/new": "file"}
    assert tree([file("d/old")], [file("d/x/new"), opaque("d")][::order]) == {
        "d": "directory",
        "d/x": "directory",
        "d/x/new": "file",
    }


def test_whiteout_in_the_base_layer_is_hidden_itself() -> None:
    """Images of one layer have whiteouts, too."""
    assert tree([whiteout("x"), opaque("d"), file("y")]) == {"y": "file"}


@pytest.mark.parametrize("marker", [whiteout("no/x"), whiteout("no"), opaque("no"), opaque("f"), whiteout("f/x")])
def test_whiteout_of_nothing_makes_nothing(marker: Entry) -> None:
    """No parents come of it, and no error."""
    assert tree([file("f")], [marker]) == {"f": "file"}


def test_root_opaque_clears_everything() -> None:
    """The marker at the top hides all lower layers, but not the root's attributes."""
    done = apply([[directory(".", mode=0o700), file("a/b")], [opaque(""), file("new")]])
    assert sketch(done) == {"new": "file"}
    assert done[b"."].mode == 0o700


def test_opaque_keeps_the_directory_as_it_was() -> None:
    """Only what is in it goes."""
    done = apply([[directory("d", mode=0o700, uid=5), file("d/x")], [opaque("d")]])
    assert done[b"d"].mode == 0o700
    assert done[b"d"].uid == 5


def test_directory_hidden_and_made_again_is_new() -> None:
    """Neither the lower content nor the lower attributes shine through, even if it is implied."""
    lower = [directory("d", mode=0o700, uid=5), file("d/old")]
    for upper in ([whiteout("d"), directory("d")], [directory("d"), whiteout("d")], [whiteout("d"), file("d/new")]):
        done = apply([lower, upper])
        assert b"d/old" not in done
        assert (done[b"d"].mode, done[b"d"].uid) == (0o755, 0)


def test_whiteout_goes_through_lower_symlinks_inside_the_root() -> None:
    """As an entry at the same place would."""
    lower = [file("d/x"), file("d/y"), symlink("s", "d"), symlink("far", "../../../d")]
    assert tree(lower, [whiteout("s/x"), whiteout("far/y")]) == {
        "d": "directory",
        "far": "symlink ../../../d",
        "s": "symlink d",
    }
    assert "d/x" not in tree(lower, [opaque("/s")])


@pytest.mark.parametrize("order", [1, -1])
def test_whiteout_hides_the_symlink_and_not_its_target(order: int) -> None:
    """A parent that another whiteout hides is no parent, in either order."""
    lower = [file("d/x"), symlink("s", "d")]
    assert tree(lower, [whiteout("s"), whiteout("s/x")][::order]) == {"d": "directory", "d/x": "file"}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("marker", [whiteout("s/x"), opaque("s")])
def test_whiteout_below_what_its_layer_made_a_file_or_symlink(marker: Entry, order: int) -> None:
    """umoci repack writes these; they hide nothing, not even through the new symlink."""
    for made, shown in ((symlink("s", "d"), "symlink d"), (file("s"), "file")):
        done = tree([file("s/x"), file("d/x")], [made, marker][::order])
        assert done == {"d": "directory", "d/x": "file", "s": shown}


@pytest.mark.parametrize("order", [1, -1])
def test_opaque_directory_in_place_of_a_lower_symlink(order: int) -> None:
    """A symlink replaced by a directory (overlayfs makes that opaque): what it led to stays."""
    lower = [file("run/pid"), symlink("var/run", "../run")]
    assert tree(lower, [directory("var/run"), opaque("var/run")][::order]) == {
        "run": "directory",
        "run/pid": "file",
        "var": "directory",
        "var/run": "directory",
    }


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh...", ".wh.x/y", "d/.wh.x/y/z"])
def test_whiteouts_that_mean_nothing_are_refused(name: str) -> None:
    """Also `.wh.` as a part of a path."""
    with pytest.raises(Refused):
        apply([[file("d/f")], [file(name)]])


def test_whiteouts_count_by_name() -> None:
    """Whatever type they have, and whatever is in them."""
    lower = [file(name) for name in "abcd"]
    markers = [directory(".wh.a/"), symlink(".wh.b", "c"), file(".wh.c", b"x"), hardlink(".wh.d", "nothing")]
    assert tree(lower, markers) == {}


def test_names_of_aufs_are_dropped() -> None:
    """Links into its link store still find their file, within the layer."""
    layer = [
        directory(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", b"linked", mode=0o600),
        file(".wh..wh.aufs"),
        file("d/.wh..wh.orph/x"),
        file("d/.wh..wh..opq/x"),
        hardlink("one", ".wh..wh.plnk/1.2"),
        hardlink("two", "/.wh..wh.plnk/1.2"),
    ]
    assert tree(layer) == {"one": "file linked = one", "two": "file linked = one"}
    with pytest.raises(Refused):
        apply([layer, [hardlink("three", ".wh..wh.plnk/1.2")]])


def test_of_two_files_in_the_link_store_a_link_means_the_one_before_it() -> None:
    """As of any two files of one name; Docker and Podman, too, take them as they come."""
    first, second = (file(".wh..wh.plnk/1", data) for data in (b"first", b"second"))
    early, link, late = (hardlink(name, ".wh..wh.plnk/1") for name in ("early", "link", "late"))
    layer = [early, first, link, second, late]
    assert tree(layer) == {"early": "file second = early", "late": "file second = early", "link": "file first"}


def test_only_a_file_in_the_link_store_can_be_linked_to() -> None:
    for entry in (symlink(".wh..wh.plnk/1", "x"), fifo(".wh..wh.plnk/1"), directory(".wh..wh.plnk/1")):
        with pytest.raises(Refused):
            apply([[entry, hardlink("a", ".wh..wh.plnk/1")]])


# -- names and parents -------------------------------------------------------------------------------------------------


def test_spellings_of_one_path() -> None:
    """All of these are a/b, the last one wins, and nothing climbs out."""
    names = ["a/b", "./a/b", "/a/b", "a//b", "a/./b", "../a/b", "a/../../a/b", "c/../a/b"]
    assert tree([file(name, name.encode()) for name in names]) == {"a": "directory", "a/b": "file c/../a/b"}


def test_root_entry() -> None:
    """It applies its attributes, in every spelling, and must be a directory."""
    done = apply([[directory("./", mode=0o700, uid=1, gid=2, mtime=3, xattrs={"user.a": b"1"})]])
    assert done[b"."] == Node(kind="directory", mode=0o700, uid=1, gid=2, mtime_ns=3, xattrs={b"user.a": b"1"})
    assert apply([[directory("a/..", mode=0o711)]])[b"."].mode == 0o711
    for entry in (symlink(".", "/tmp"), file("/"), file("a/.."), hardlink("./", "x")):
        with pytest.raises(Refused):
            apply([[entry]])


@pytest.mark.parametrize("name", [b"", b"a\0b", b"x" * 256, b"d/" * 2049])
def test_names_without_a_place(name: bytes) -> None:
    """Nothing, NUL, a component over 255 bytes, a path over 4096."""
    with pytest.raises(Refused):
        apply([[directory(name)]])


def test_implied_parents() -> None:
    """0755, root's, of 1970; but one that is there keeps what it has."""
    done = apply([[directory("a", mode=0o700, uid=1)], [file("a/b/c", mode=0o600)]])
    assert done[b"a"].mode == 0o700
    assert done[b"a/b"] == Node(kind="directory", mode=0o755)


@pytest.mark.parametrize("layers", [1, 2])
def test_parent_that_is_no_directory_is_replaced(layers: int) -> None:
    """A file, a fifo, a device: one becomes a directory, in its own layer or in a later one."""
    blocking = [file("a"), fifo("b"), char("c", 1, 3)]
    below = [file("a/x"), file("b/x"), file("c/x/y")]
    assert tree(*([blocking + below] if layers == 1 else [blocking, below])) == {
        "a": "directory",
        "a/x": "file",
        "b": "directory",
        "b/x": "file",
        "c": "directory",
        "c/x": "directory",
        "c/x/y": "file",
    }


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "../../usr/lib", "./usr/../usr/./lib/"])
def test_parents_follow_symlinks_as_in_a_chroot(target: str) -> None:
    """`lib -> usr/lib` below, `lib/x` above: usr/lib/x."""
    done = tree([directory("usr/lib"), symlink("lib", target)], [file("lib/x")])
    assert done == {"lib": f"symlink {target}", "usr": "directory", "usr/lib": "directory", "usr/lib/x": "file"}


def test_dangling_symlink_as_a_parent() -> None:
    """What it points to is made."""
    assert tree([symlink("s", "no/thing"), file("s/x")]) == {
        "no": "directory",
        "no/thing": "directory",
        "no/thing/x": "file",
        "s": "symlink no/thing",
    }


def test_too_many_symlinks() -> None:
    """Forty are followed, not forty-one, and no loop."""
    chain = [directory("end"), symlink("0", "end"), *(symlink(f"{n}", f"{n - 1}") for n in range(1, 41))]
    assert tree([*chain, file("39/x")])["end/x"] == "file"
    for bad in ([*chain, file("40/x")], [symlink("a", "a"), file("a/x")], [symlink("a", "a"), hardlink("b", "a/x")]):
        with pytest.raises(Refused):
            apply([bad])


def test_whiteout_through_a_loop_hides_nothing() -> None:
    """There is no directory at its end."""
    assert tree([symlink("a", "a")], [whiteout("a/x"), opaque("a")]) == {"a": "symlink a"}


# -- replacing ---------------------------------------------------------------------------------------------------------

KINDS = [
    file("x", b"1"),
    directory("x"),
    symlink("x", "d"),
    hardlink("x", "f"),
    char("x", 1, 3),
    block("x", 7, 0),
    fifo("x"),
]
SHOWN = ["file 1", "directory", "symlink d", "file f = f", "char 1:3", "block 7:0", "fifo"]


@pytest.mark.parametrize("old", KINDS, ids=lambda entry: entry.kind)
@pytest.mark.parametrize(("new", "shown"), list(zip(KINDS, SHOWN, strict=True)), ids=lambda it: getattr(it, "kind", ""))
@pytest.mark.parametrize("layers", [1, 2])
def test_the_last_entry_of_a_path_wins(old: Entry, new: Entry, shown: str, layers: int) -> None:
    """In one layer or in two, whatever the types; nothing is written through a link."""
    first, second = [file("f", b"f"), directory("d"), old], [new]
    done = tree(*([first + second] if layers == 1 else [first, second]))
    assert done["x"] == shown
    assert done["d"] == "directory"
    assert done["f"].startswith("file f")


def test_directory_over_directory() -> None:
    """It keeps what is in it and replaces all attributes, the xattrs among them."""
    lower = [directory("d", mode=0o700, uid=1, gid=1, mtime=SECOND, xattrs={"user.a": b"1"}), file("d/x")]
    done = apply([lower, [directory("d", mode=0o711, uid=2, gid=3, mtime=5, xattrs={"user.b": b"2"})]])
    assert done[b"d"] == Node(kind="directory", mode=0o711, uid=2, gid=3, mtime_ns=5, xattrs={b"user.b": b"2"})
    assert b"d/x" in done


def test_times_of_directories_are_their_own() -> None:
    """What happens in a directory never shows in its time."""
    lower = [directory("d", mtime=7), file("d/x"), file("d/y")]
    assert apply([lower, [whiteout("d/x"), file("d/z"), directory("d/e")]])[b"d"].mtime_ns == 7


def test_a_file_in_between_hides_the_lower_directory() -> None:
    """Directory below; file, then directory above: only the new one is there."""
    assert tree([file("d/old")], [file("d"), directory("d"), file("d/new")]) == {"d": "directory", "d/new": "file"}
    assert tree([file("d/old")], [file("d"), file("d/new")]) == {"d": "directory", "d/new": "file"}


def test_symlink_poisons_no_parent() -> None:
    """Directory, symlink in its place, file below: through the symlink, as at that moment."""
    assert tree([directory("a"), file("a/1"), symlink("a", "b"), file("a/2")]) == {
        "a": "symlink b",
        "b": "directory",
        "b/2": "file",
    }


def test_directory_entry_over_a_symlink() -> None:
    """It replaces the link; with keep_dirlinks, a link to a directory stays and that directory gets the attributes."""
    lower = [directory("d"), file("d/x"), symlink("s", "d"), symlink("loop", "loop"), symlink("no", "thing")]
    upper = [directory("s", mode=0o700), file("s/y"), directory("loop"), directory("no")]
    replaced = tree(lower, upper)
    assert replaced["s"] == "directory"
    assert replaced["s/y"] == "file"
    kept = apply([lower, upper], keep_dirlinks=True)
    assert sketch(kept)["s"] == "symlink d"
    assert b"d/y" in kept
    assert kept[b"d"].mode == 0o700
    assert sketch(kept)["loop"] == sketch(kept)["no"] == "directory"


# -- hard links --------------------------------------------------------------------------------------------------------


def test_hard_links_within_and_across_layers() -> None:
    """To files, to symlinks themselves, to other links, through symlinks, in every spelling."""
    lower = [file("f", b"f"), directory("d"), symlink("s", "d"), fifo("p")]
    upper = [
        hardlink("h1", "/f", mode=0, uid=9),
        hardlink("d/h2", "../../h1"),
        hardlink("t", "s"),
        hardlink("q", "./p"),
        hardlink("h3", "s/h2"),
    ]
    done = apply([lower, upper])
    assert sketch(done) == {
        "d": "directory",
        "d/h2": "file f = d/h2",
        "f": "file f = d/h2",
        "h1": "file f = d/h2",
        "h3": "file f = d/h2",
        "p": "fifo = p",
        "q": "fifo = p",
        "s": "symlink d = s",
        "t": "symlink d = s",
    }
    assert (done[b"h1"].mode, done[b"h1"].uid) == (0o644, 0)


def test_replacing_one_name_leaves_the_other() -> None:
    """A new file at one name of a pair: the other name keeps the old content."""
    assert tree([file("a", b"old"), hardlink("b", "a")], [file("a", b"new")]) == {"a": "file new", "b": "file old"}
    assert tree([file("a", b"old")], [hardlink("b", "a"), file("a", b"new")]) == {"a": "file new", "b": "file old"}


def test_forward_links() -> None:
    """Within a layer the target may come later, also for links to such links; later entries win as ever."""
    linked = {"a": "file x = a", "b": "file x = a", "c": "file x = a"}
    assert tree([hardlink("a", "b"), hardlink("b", "c"), file("c", b"x")]) == linked
    assert tree([hardlink("a", "c"), hardlink("b", "a"), file("c", b"x")]) == linked
    assert tree([hardlink("a", "c"), file("c", b"x"), file("a", b"own")]) == {"a": "file own", "c": "file x"}


def test_link_means_the_target_of_that_moment() -> None:
    """Below it is the old file, above the new one comes later: the link is to the old one."""
    done = tree([file("f", b"old")], [hardlink("h", "f"), file("f", b"new")])
    assert done == {"f": "file new", "h": "file old"}


def test_link_to_itself_changes_nothing() -> None:
    """If there is something."""
    assert tree([file("f", b"x"), hardlink("f", "./f")]) == {"f": "file x"}
    assert tree([file("f", b"x"), hardlink("g", "f"), hardlink("f", "g")]) == {"f": "file x = f", "g": "file x = f"}
    with pytest.raises(Refused):
        apply([[hardlink("f", "f")]])


@pytest.mark.parametrize(
    "bad",
    [
        [hardlink("h", "d")],
        [hardlink("h", "/")],
        [hardlink("h", "..")],
        [hardlink("h", "nothing")],
        [hardlink("h", "f/x")],
        [hardlink("h", ".wh.f")],
        [hardlink("h", "later"), directory("later")],
        [whiteout("f"), hardlink("h", "f")],
        [hardlink("h", "f"), whiteout("f")],
        [hardlink("d", "d/x")],
        [hardlink("f/x", "f")],
    ],
    ids=repr,
)
def test_links_that_are_refused(bad: Layer) -> None:
    """To a directory, to nothing, to what is hidden, or to what goes as the link comes."""
    with pytest.raises(Refused):
        apply([[file("f"), file("d/x")], bad])


def test_link_to_a_later_layer_is_refused() -> None:
    """A layer must stand on those below it alone."""
    with pytest.raises(Refused):
        apply([[hardlink("h", "f")], [file("f")]])


# -- attributes --------------------------------------------------------------------------------------------------------


def test_attributes() -> None:
    """All of them as they are, mode bits beyond 07777 cut off, symbolic links always 0777."""
    done = apply(
        [
            [
                file("f", b"x" * 600, mode=0o104755, uid=2**31, gid=65534, mtime=-1, xattrs={"user.a": b"\0"}),
                symlink("s", "f", mode=0o600, uid=1, mtime=2),
                char("c", 1, 3, mode=0o666),
            ]
        ]
    )
    assert done[b"f"].mode == 0o4755
    assert (done[b"f"].uid, done[b"f"].gid, done[b"f"].mtime_ns) == (2**31, 65534, -1)
    assert done[b"f"].xattrs == {b"user.a": b"\0"}
    assert done[b"f"].content.startswith(b"sha256:")
    assert done[b"s"] == Node(kind="symlink", mode=0o777, uid=1, target=b"f", mtime_ns=2)
    assert done[b"c"] == Node(kind="char", mode=0o666, rdev=(1, 3), mtime_ns=10**9 * SECOND)
