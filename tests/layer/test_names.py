"""Names of entries: one path for all its spellings, and whiteouts told by name alone."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpacker.errors import LimitError, UnsafeEntryError
from unpacker.layer.names import Role, check, climbs, components, role
from unpacker.limits import Limits

PROPERTY = settings(max_examples=200, derandomize=True, database=None, deadline=None)


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "above"),
    [
        (b"a", b"a", False),
        (b"./a", b"a", False),
        (b"/a", b"a", False),
        (b"//a", b"a", False),
        (b"a/", b"a", False),
        (b"a//b", b"a/b", False),
        (b"a/./b", b"a/b", False),
        (b"a/b/..", b"a", False),
        (b"a/../b", b"b", False),
        (b"a/b/../../c", b"c", False),
        (b"", b"", False),
        (b".", b"", False),
        (b"./", b"", False),
        (b"/", b"", False),
        (b"a/..", b"", False),
        (b"..", b"", True),
        (b"../a", b"a", True),
        (b"/../a", b"a", True),
        (b"a/../../b", b"b", True),
        (b"a/../../a/b", b"a/b", True),
        (b"../../../etc/passwd", b"etc/passwd", True),
        (b"./../a", b"a", True),
        (b"...", b"...", False),
        (b"..a", b"..a", False),
        (b"a..", b"a..", False),
        (b".a", b".a", False),
        (b" ", b" ", False),
        (b"a\\..\\b", b"a\\..\\b", False),
        (b"\xe9/\xff", b"\xe9/\xff", False),
        (b"a\n/b", b"a\n/b", False),
    ],
)
def test_spellings(name: bytes, path: bytes, above: bool) -> None:
    """What climbs above the root stays at it, as in a chroot, and is noticed."""
    assert b"/".join(components(name)) == path
    assert climbs(name) is above


@PROPERTY
@given(st.lists(st.sampled_from([b"a", b"b", b"..", b".", b"", b"..."]), max_size=12).map(b"/".join))
def test_any_spelling_is_the_path_that_the_standard_library_sees_from_the_root(name: bytes) -> None:
    normal = posixpath.normpath(b"/" + name).lstrip(b"/")
    assert b"/".join(components(name)) == normal
    # It climbs if and only if a root one level down would see another path.
    assert climbs(name) == (b"/".join(components(b"z/" + name)).partition(b"/")[0] != b"z")
    assert components(b"/".join(components(name))) == components(name)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ([b"n" * 255], ""),
        ([b"n" * 256], "a component of more than 255 bytes"),
        ([b"a", b"n" * 256, b"b"], "a component of more than 255 bytes"),
        ([b"n" * 63] * 64, ""),
        ([b"n" * 63] * 63 + [b"n" * 64], ""),
        ([b"n" * 63] * 63 + [b"n" * 65], "bytes of a path: 4097, more than the limit of 4096"),
        ([b"n"] * 2049, "bytes of a path: 4097, more than the limit of 4096"),
        ([b"n"] * 1025, ""),
        ([b"n"] * 1026, "directories in a path: 1025, more than the limit of 1024"),
        ([], ""),
    ],
    ids=["255", "256", "256 within", "4095", "4096", "4097", "many short ones", "deep", "too deep", "the root"],
)
def test_lengths(path: list[bytes], error: str) -> None:
    """Components of 255 bytes and paths of 4096, slashes counted, are what Linux has names for."""
    if not error:
        check(path)
    else:
        with pytest.raises((UnsafeEntryError, LimitError), match=error):
            check(path)


def test_lengths_that_are_allowed() -> None:
    check([b"n"] * 3000, Limits(path_bytes=8192, path_depth=2999))


# -- roles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a", Role.PLAIN),
        (b"a/b", Role.PLAIN),
        (b".wh", Role.PLAIN),
        (b".whatever", Role.PLAIN),
        (b"a.wh.b", Role.PLAIN),
        (b".WH.a", Role.PLAIN),
        (b"wh.a", Role.PLAIN),
        (b".wh.a", Role.WHITEOUT),
        (b"a/b/.wh.c", Role.WHITEOUT),
        (b".wh.a/", Role.WHITEOUT),
        (b"x/../.wh.a", Role.WHITEOUT),
        (b".wh..a", Role.WHITEOUT),
        (b".wh...a", Role.WHITEOUT),
        (b".wh....", Role.WHITEOUT),
        (b".wh. ", Role.WHITEOUT),
        (b".wh.\n", Role.WHITEOUT),
        (b".wh..w", Role.WHITEOUT),
        (b".wh..wh", Role.WHITEOUT),
        (b".wh.wh.a", Role.WHITEOUT),
        (b".wh..wh..opq", Role.OPAQUE),
        (b"a/.wh..wh..opq", Role.OPAQUE),
        (b"a/.wh..wh..opq/", Role.OPAQUE),
        (b".wh..wh.", Role.DROPPED),
        (b".wh..wh.a", Role.DROPPED),
        (b".wh..wh..op", Role.DROPPED),
        (b".wh..wh..opq2", Role.DROPPED),
        (b".wh..wh.aufs", Role.DROPPED),
        (b".wh..wh.orph", Role.DROPPED),
        (b".wh..wh.plnk", Role.DROPPED),
        (b".wh..wh.plnk/1.2", Role.LINK_STORE),
        (b".wh..wh.plnk/.wh.a", Role.LINK_STORE),
        (b".wh..wh.plnk/a/b", Role.DROPPED),
        (b"a/.wh..wh.plnk/1.2", Role.DROPPED),
        (b".wh..wh.orph/a", Role.DROPPED),
        (b".wh..wh..opq/a", Role.DROPPED),
    ],
    ids=lambda value: ascii(value)[2:-1] if isinstance(value, bytes) else "",
)
def test_roles(name: bytes, expected: Role) -> None:
    """The name decides, whatever the entry is: no tree may ever show a name that begins with ``.wh.``."""
    assert role(components(name)) is expected


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b".wh.", "a whiteout of nothing that has a name"),
        (b"a/.wh.", "a whiteout of nothing that has a name"),
        (b".wh..", "a whiteout of nothing that has a name"),
        (b".wh...", "a whiteout of nothing that has a name"),
        (b"a/b/.wh...", "a whiteout of nothing that has a name"),
        (b".wh.a/b", "'.wh.a' is a whiteout, and nothing can be below one"),
        (b"a/.wh.b/c", "'.wh.b' is a whiteout, and nothing can be below one"),
        (b".wh.a/.wh.b", "'.wh.a' is a whiteout, and nothing can be below one"),
        (b".wh.a/.wh..wh.b", "'.wh.a' is a whiteout, and nothing can be below one"),
        (b".wh.\xe9\n/b", r"'.wh.\xe9\n' is a whiteout, and nothing can be below one"),
    ],
    ids=lambda value: ascii(value)[2:-1] if isinstance(value, bytes) else "",
)
def test_refused(name: bytes, why: str) -> None:
    """umoci 0.4.7 removes the parent of its root filesystem for ``.wh...``."""
    with pytest.raises(UnsafeEntryError) as caught:
        role(components(name))
    assert caught.value.what == why


@PROPERTY
@given(st.lists(st.sampled_from([b"a", b".wh.a", b".wh.", b".wh..wh.x", b".wh..wh..opq", b".wh..wh.plnk"]), min_size=1))
def test_what_is_plain_shows_no_whiteout(path: list[bytes]) -> None:
    try:
        found = role(path)
    except UnsafeEntryError:
        return
    assert (found is Role.PLAIN) == (not any(component.startswith(b".wh.") for component in path))
