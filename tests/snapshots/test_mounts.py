"""Mounts as values: containerd's shape, the kernel's escapes, and everything that is refused before it is tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpacker.errors import UnsupportedError, UsageError
from unpacker.snapshots.mounts import STRICT, Mount, bind_mount, idmapped, overlay_mount
from unpacker.snapshots.options import escaped, read
from unpacker.tree.owners import IdMap

NAMES = st.text(st.characters(exclude_characters="\0"), min_size=1).map(lambda text: "/" + text)
"""Paths, lone surrogates in them too, as `os.fsdecode` makes of bytes that are not UTF-8."""


# -- making ------------------------------------------------------------------------------------------------------------


def test_a_stack_is_an_overlay_with_the_nearest_first() -> None:
    mount = overlay_mount(["/s/3/fs", "/s/2/fs", "/s/1/fs"])

    assert (mount.type, mount.source, mount.target) == ("overlay", "overlay", "")
    assert mount.options == ("lowerdir=/s/3/fs:/s/2/fs:/s/1/fs",)


def test_a_writable_one_has_upper_and_work() -> None:
    mount = overlay_mount(["/s/1/fs"], "/a/fs", Path("/a/work"))

    assert mount.options == (*STRICT, "workdir=/a/work", "upperdir=/a/fs", "lowerdir=/s/1/fs")


def test_markers_of_users_need_the_option_for_them() -> None:
    assert overlay_mount(["/b", "/a"], userxattr=True).options[0] == "userxattr"


def test_what_the_caller_wants_comes_after_what_is_always_set() -> None:
    """The kernel takes the last of two."""
    options = overlay_mount(["/b", "/a"], "/u", "/w", extra=["index=on", "volatile"]).options

    assert options.index("index=on") > options.index("index=off")
    assert "volatile" in options


def test_one_layer_alone_is_bound_readonly() -> None:
    """Overlayfs takes no single lower directory."""
    assert overlay_mount(["/s/1/fs"]) == Mount(type="bind", source="/s/1/fs", options=("ro", "rbind"))


def test_an_upper_directory_alone_is_bound_writable() -> None:
    """As for a container from scratch."""
    assert overlay_mount([], "/a/fs", "/a/work") == Mount(type="bind", source="/a/fs", options=("rw", "rbind"))


@pytest.mark.parametrize("count", [0, 501])
def test_a_number_of_layers_that_no_overlay_has(count: int) -> None:
    with pytest.raises(UnsupportedError) as raised:
        overlay_mount([f"/{number}" for number in range(count)])

    assert str(raised.value) == f"overlay mount: unsupported number of layers {count}"
    assert raised.value.hint == "supported: 1 to 500, which is the kernel's own limit (OVL_MAX_STACK)"


def test_500_layers_are_taken() -> None:
    assert len(read(overlay_mount([f"/{number}" for number in range(500)])).lowers) == 500


def test_a_relative_name_means_the_same_to_who_mounts_it() -> None:
    """Joined, not normalized: what ``..`` leads to is the kernel's to say, where there are symlinks."""
    here = os.getcwd()

    assert overlay_mount(["a", "../b"]).options[-1] == f"lowerdir={escaped(here)}/a:{escaped(here)}/../b"
    assert bind_mount("a", readonly=True).source == f"{here}/a"


@pytest.mark.parametrize(
    ("lowers", "upper", "work"),
    [
        pytest.param(["/a"], "/u", None, id="upper without work"),
        pytest.param(["/a"], None, "/w", id="work without upper"),
        pytest.param(["/a\0b", "/c"], None, None, id="NUL, at which the kernel would stop reading"),
        pytest.param(["", "/c"], None, None, id="empty name"),
    ],
)
def test_callers_mistakes(lowers: list[str], upper: str | None, work: str | None) -> None:
    with pytest.raises(ValueError, match=r"together|no path"):
        overlay_mount(lowers, upper, work)


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_the_json_shape_is_containerds() -> None:
    assert overlay_mount(["/b", "/a"]).as_dict() == {
        "type": "overlay",
        "source": "overlay",
        "options": ["lowerdir=/b:/a"],
    }
    assert Mount(type="bind", source="/a", target="x").as_dict()["target"] == "x"


def test_names_that_are_no_text_survive_json() -> None:
    mount = bind_mount(os.fsdecode(b"/s/\xff\n"), readonly=True)

    found = json.loads(json.dumps([mount.as_dict()]))[0]

    assert os.fsencode(found["source"]) == b"/s/\xff\n"


# -- reading -----------------------------------------------------------------------------------------------------------


@given(st.lists(NAMES, min_size=2, max_size=5), NAMES, NAMES)
def test_any_names_come_out_of_the_options_as_they_went_in(lowers: list[str], upper: str, work: str) -> None:
    found = read(overlay_mount(lowers, upper, work))

    assert (found.lowers, found.upper, found.work) == (tuple(lowers), upper, work)


@given(NAMES)
def test_no_name_ends_an_option_early(name: str) -> None:
    """Read as the kernel reads: each backslash takes the next character with it, what is bare then separates."""
    bare = escaped(name).replace("\\\\", "").replace("\\:", "").replace("\\,", "")

    assert not set(bare) & set(":,\\")


def test_options_as_containerd_gives_them() -> None:
    found = read(
        Mount(
            type="overlay",
            source="overlay",
            options=(
                *("index=off", "ro", "nodev", "workdir=/w", "upperdir=/u", "lowerdir=/b:/a"),
                *("uidmap=0:9:1,1:20:5", "gidmap=0:9:1", "volatile", "rw"),
            ),
        )
    )

    assert found.flags == {"nodev"}
    assert (found.lowers, found.upper, found.work) == (("/b", "/a"), "/u", "/w")
    assert found.data == (("index", "off"), ("volatile", None))
    assert found.uid_map == (IdMap(0, 9, 1), IdMap(1, 20, 5))
    assert found.gid_map == (IdMap(0, 9, 1),)


@pytest.mark.parametrize("options", [("rbind", "ro"), ("ro", "rbind"), ("bind", "ro", "rbind", "relatime", "defaults")])
def test_bind_options(options: tuple[str, ...]) -> None:
    found = read(Mount(type="bind", source="/a", options=options))

    assert (sorted(found.flags), found.recursive, found.source) == (["ro"], True, "/a")


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (Mount(type="ext4", source="/dev/sda"), "mount: unsupported type 'ext4'"),
        (Mount(type="overlay", source="overlay", options=("lowerdir=/a::/b",)), "an empty name in lowerdir"),
        (Mount(type="overlay", source="overlay", options=("index=off",)), "an empty name in lowerdir"),
        (
            Mount(type="overlay", source="x", options=("lowerdir=/a", "upperdir=/u")),
            "upperdir and workdir come together",
        ),
        (Mount(type="overlay", source="x", options=("lowerdir=" + ":".join(["/a"] * 501),)), "number of layers 501"),
        (Mount(type="bind", source="/a", options=("lowerdir=/b",)), "unknown option 'lowerdir=/b'"),
        (Mount(type="bind", source="/a", options=("uidmap=0:1:1",)), "uidmap and gidmap come together"),
        (Mount(type="bind", source="/a", options=("uidmap=0:1:1,x", "gidmap=0:1:1")), "id map 'x' is not"),
        (Mount(type="bind", source="/a\0"), "NUL in its options"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mounts_that_cannot_be_read(mount: Mount, message: str) -> None:
    with pytest.raises((UsageError, UnsupportedError), match=message):
        read(mount)


# -- owners ------------------------------------------------------------------------------------------------------------


def test_mapped_owners_are_options_as_containerd_has_them() -> None:
    mapped = idmapped(overlay_mount(["/b", "/a"]), [IdMap(0, 100000, 1000), IdMap(1000, 5)], [IdMap(0, 7, 2)])

    assert mapped.options[-2:] == ("uidmap=0:100000:1000,1000:5:1", "gidmap=0:7:2")
    assert idmapped(mapped, [IdMap(0, 1)], [IdMap(0, 2)]).options[-2:] == ("uidmap=0:1:1", "gidmap=0:2:1")


def test_owners_are_mapped_by_two_maps() -> None:
    with pytest.raises(ValueError, match="one of gids"):
        idmapped(bind_mount("/a", readonly=True), [IdMap(0, 1)], [])


def test_saying_how_to_mount_needs_nothing_that_mounts() -> None:
    """``unpacker mounts`` shall answer at once: no ctypes, no threads, no processes are loaded for it."""
    program = (
        "import sys, unpacker.snapshots.mounts as m; print({'ctypes', 'subprocess', 'threading'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
