"""One name, many things, one after the other: whoever remembers where a path led is sent elsewhere by the next entry.

containerd remembered paths (CVE-2025-47290), node-tar directories that it had made (CVE-2021-32803, CVE-2021-37701).
Everything here ends as the reference model says, which looks every path up anew.
"""

from __future__ import annotations

import errno
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.tarbuild import Entry, directory, fifo, file, hardlink, opaque, symlink, whiteout
from unpacker.errors import UnpackError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.attacks.arena import Arena

OUT = "../outside"
THINGS: dict[str, Entry] = {
    "file": file("a", b"a file", mode=0o4755),
    "directory": directory("a", mode=0o700),
    "link-in": symlink("a", "b"),
    "link-out": symlink("a", OUT),
    "fifo": fifo("a"),
    "hardlink": hardlink("a", "own"),
    "hardlink-of-link": hardlink("a", "out"),
}
BELOW = [file("own", b"own"), symlink("out", OUT), directory("b"), file("b/secret", b"the image's")]


@pytest.mark.parametrize(
    ("apart", "by_store"), [(False, False), (True, False), (True, True)], ids=["one-layer", "two-layers", "store"]
)
@pytest.mark.parametrize(("first", "then"), list(itertools.product(THINGS, THINGS)))
def test_what_a_path_led_to_is_forgotten_when_something_on_it_is_replaced(
    first: str, then: str, apart: bool, by_store: bool, arena: Arena
) -> None:
    """Each of them is used as a parent before it is replaced, and after it."""
    used = [file("a/secret", b"before"), directory("a/deep/er"), file("a/deep/er/file", b"before")]
    made = [*BELOW, THINGS[first], *used]
    again = [THINGS[then], file("a/secret", b"after"), file("a/deep/er/file", b"after"), hardlink("mine", "a/secret")]
    arena.agrees([made, again] if apart else [[*made, *again]], by_store=by_store)


@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_a_directory_in_the_middle_of_a_path_is_replaced(apart: bool, arena: Arena) -> None:
    made = [file("a/b/c/d/secret", b"before"), file("a/b/c/d/e/x")]
    swapped = [symlink("a/b", OUT), file("a/b/c/d/secret", b"after"), file("a/b/secret", b"after")]
    back = [file("a/b"), directory("a/b"), file("a/b/c/d/secret", b"last")]
    arena.agrees([made, swapped, back] if apart else [[*made, *swapped, *back]])


def test_a_link_that_others_lead_through_is_replaced(arena: Arena) -> None:
    """What was remembered is not under the replaced name, but behind it."""
    arena.agrees(
        [
            [
                *BELOW,
                symlink("one", "two"),
                symlink("two", "b"),
                file("one/x", b"in b"),
                symlink("two", OUT),
                file("one/secret", b"inside"),
                file("two"),
                directory("two"),
                file("one/secret", b"in two"),
            ]
        ]
    )


def test_a_way_that_was_missing_appears(arena: Arena) -> None:
    """A link to nothing: what is made through it makes the directory that it leads to."""
    arena.agrees([[symlink("l", "d/e"), file("l/x"), symlink("d", OUT), file("l/y"), file("d/e/z")]])


def test_a_name_that_is_a_directory_of_itself(arena: Arena) -> None:
    below = [symlink("self", "."), symlink("up", ".."), directory("d"), symlink("d/up", "..")]
    arena.agrees([below, [file("self/self/x"), file("up/up/y"), file("d/up/d/up/z"), whiteout("self/self/up")]])


@pytest.mark.parametrize("known", [False, True], ids=["as-it-comes", "with-the-view"])
def test_a_hard_link_in_place_of_its_own_target(known: bool, arena: Arena) -> None:
    """rename(2) does nothing if both names are of one file, and to unlink the name could unlink the file."""
    first = [file("f", b"x"), hardlink("g", "f"), symlink("lib", "usr"), directory("usr")]
    # An entry through a link of the layer below has the whole layer staged again, with the view of what is below.
    again = [file("lib/x")] if known else []
    arena.agrees([first, [hardlink("g", "f"), hardlink("f", "g"), hardlink("h", "f"), hardlink("h", "g"), *again]])


def test_a_name_of_a_file_is_overwritten_and_the_other_keeps_the_old(arena: Arena) -> None:
    arena.agrees([[file("f", b"old"), hardlink("g", "f")], [file("g", b"new", mode=0o4755), hardlink("h", "f")]])


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_inode_that_is_used_again_is_another_file(times: int, arena: Arena) -> None:
    """Links wait for their targets by the inode of what stands in for them; replaced, it may become another file's."""
    entries = []
    for number in range(times):
        entries += [hardlink("a", "later"), file("a", b"%d" % number), hardlink("b", "later"), hardlink("b", "a")]
    arena.agrees([[*entries, hardlink("c", "b"), hardlink("d", "later"), file("e"), file("later", b"later")]])


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_links_to_links_to_what_comes_later(order: tuple[int, ...], arena: Arena) -> None:
    links = [hardlink("a", "b"), hardlink("b", "c"), hardlink("c", "d"), file("d", b"x")]
    arena.agrees([[file("f")], [links[number] for number in order]])


@pytest.mark.parametrize("call", range(2, 8))
def test_a_file_with_as_many_names_as_it_can_have_is_copied_whole(
    call: int, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ext4 ends at 65,000.  What only stands in for a file that is yet to come must not be copied in its stead."""
    link, calls = os.link, itertools.count(1)

    def limited(*arguments: Any, **options: Any) -> None:
        if next(calls) == call:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(*arguments, **options)

    monkeypatch.setattr(os, "link", limited)
    found = arena.unpack(
        [[hardlink("a", "later"), hardlink("b", "a"), hardlink("c", "b"), file("later", b"x", mode=0o640)]]
    )
    assert not isinstance(found, Exception), found
    assert [(node.content, node.mode) for path, node in found.items() if path != b"."] == [(b"x", 0o640)] * 4


@pytest.mark.parametrize(
    "links",
    [
        [hardlink("a", "a")],
        [hardlink("a", "b"), hardlink("b", "a")],
        [hardlink("a", "b/x"), hardlink("b", "a")],
        [hardlink("a/x", "a")],
        [hardlink("a", "a/x")],
        [file("a/x"), hardlink("a", "a/x")],
    ],
    ids=["itself", "each-other", "through", "below", "above", "what-it-removes"],
)
def test_links_in_a_circle_are_refused(links: Sequence[Entry], arena: Arena) -> None:
    assert isinstance(arena.unpack([list(links)]), UnpackError)


# -- whiteouts and what stands in their way ----------------------------------------------------------------------------


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize(
    "marker",
    [whiteout("a/secret"), opaque("a"), whiteout("a"), opaque("a/deep")],
    ids=["one", "all", "itself", "deep"],
)
def test_a_whiteout_below_what_its_layer_made_of_the_path(thing: str, marker: Entry, arena: Arena) -> None:
    """umoci goes through the link that the same layer made, and removes what is behind it."""
    below = [*BELOW, file("a/secret", b"old"), file("a/deep/x")]
    arena.agrees([below, [marker, THINGS[thing]]])
    arena.check()


@pytest.mark.parametrize("target", ["b", "/b", "../b", "b/../b", OUT])
@pytest.mark.parametrize(
    "marker", [whiteout("l/secret"), opaque("l"), whiteout("l/deep/er")], ids=["one", "all", "deep"]
)
def test_a_whiteout_through_a_link_of_the_layer_below(target: str, marker: Entry, arena: Arena) -> None:
    below = [*BELOW, file("b/deep/er/x"), symlink("l", target)]
    arena.agrees([below, [marker, file("l/new"), file("b/own")], [marker, directory("l")]])


# -- what lies deep ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [directory(".x.deep-1", mode=0o700), file(".x.deep-1/kept"), file(".x.deep-1", b"kept"), symlink(".x.deep-1", OUT)],
    ids=["empty", "full", "file", "link"],
)
@pytest.mark.parametrize("gone", [whiteout("x"), file("x"), symlink("x", OUT)], ids=["hidden", "file", "link"])
def test_what_is_beside_a_deep_directory_stays_when_that_goes(beside: Entry, gone: Entry, arena: Arena) -> None:
    """Directories that lie deep are renamed upwards to be removed; that name may be the image's own."""
    arena.agrees([[beside, file("/".join(["x", *["a"] * 150, "file"]))], [gone]])


def test_a_deep_directory_without_permissions_goes(arena: Arena) -> None:
    below = [directory("/".join(["x"] * depth), mode=0) for depth in range(1, 150)]
    arena.agrees([below, [whiteout("x/x")], [file("x/x/x")]])
