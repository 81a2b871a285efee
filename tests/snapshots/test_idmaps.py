"""Mounts that show other owners: of a directory, of the layers of an overlay, and of neither where the kernel cannot."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.namespaces import (
    MOUNT_SETATTR,
    as_always,
    before_6_13,
    before_6_15,
    in_own_mounts,
    mounted_below,
    refuse,
)
from tests.support.probes import needs_chown, needs_overlay
from unpacker.errors import MountError
from unpacker.snapshots.idmaps import user_namespace
from unpacker.snapshots.mounting import mount, temporary
from unpacker.snapshots.mounts import Mount, bind_mount, idmapped, overlay_mount
from unpacker.snapshots.probe import idmap_works
from unpacker.tree.owners import IdMap

if TYPE_CHECKING:
    from collections.abc import Callable

UIDS = [IdMap(0, 100000, 1000), IdMap(1000, 5, 1)]
GIDS = [IdMap(0, 200000, 65536)]
NOBODY = 65534
"""Who owns, for the kernel, what no map speaks of."""


@pytest.fixture
def stack(tmp_path: Path) -> list[Path]:
    """Give two layers with files of several owners; skip where their owners cannot be mapped."""
    if not idmap_works(tmp_path):
        pytest.skip("missing: mapped owners on the filesystem of temporary files")
    for name, uid, gid in (("base/root", 0, 0), ("base/user", 1000, 100), ("top/high", 2000, 65535), ("top/all", 7, 7)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
        os.chown(tmp_path / name, uid, gid)
    (tmp_path / "at").mkdir()
    return [tmp_path / "top", tmp_path / "base"]


def owners(place: str | Path) -> dict[str, tuple[int, int]]:
    found = {name: os.stat(os.path.join(place, name)) for name in sorted(os.listdir(place))}
    return {name: (status.st_uid, status.st_gid) for name, status in found.items()}


pytestmark = [needs_overlay, needs_chown]
SEEN = {"high": (NOBODY, 265535), "root": (100000, 200000), "user": (5, 200100), "all": (100007, 200007)}


@in_own_mounts
def test_a_bound_directory(stack: list[Path], tmp_path: Path) -> None:
    mount([idmapped(bind_mount(stack[1], readonly=False), UIDS, GIDS)], tmp_path / "at")

    assert owners(tmp_path / "at") == {name: SEEN[name] for name in ("root", "user")}
    assert owners(stack[1]) == {"root": (0, 0), "user": (1000, 100)}


@in_own_mounts
def test_a_readonly_one(stack: list[Path], tmp_path: Path) -> None:
    """Both at once: containerd forgets the map where it makes a bind read-only."""
    mount([idmapped(bind_mount(stack[1], readonly=True), UIDS, GIDS)], tmp_path / "at")

    assert owners(tmp_path / "at") == {name: SEEN[name] for name in ("root", "user")}
    with pytest.raises(OSError, match="Read-only"):
        (tmp_path / "at" / "root").write_text("")


KERNELS = pytest.mark.parametrize("kernel", [as_always, before_6_13, before_6_15], ids=lambda kernel: kernel.__name__)


@KERNELS
@in_own_mounts
def test_the_layers_of_an_overlay(stack: list[Path], tmp_path: Path, kernel: Callable[[], None]) -> None:
    kernel()

    mount([idmapped(overlay_mount(stack), UIDS, GIDS)], tmp_path / "at")

    assert owners(tmp_path / "at") == SEEN
    assert (tmp_path / "at" / "root").read_text() == "base/root"
    assert len(mounted_below(tmp_path)) == 1
    assert not [line for line in mounted_below(tmp_path.root) if "unpacker-mount-" in line]


@KERNELS
@in_own_mounts
def test_what_is_written_has_the_owner_that_it_is_seen_with(
    stack: list[Path], tmp_path: Path, kernel: Callable[[], None]
) -> None:
    """The upper directory is not mapped, as in containerd: so it works for whoever mounts it next without a map."""
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    kernel()

    with temporary([idmapped(overlay_mount(stack, tmp_path / "upper", tmp_path / "work"), UIDS, GIDS)]) as place:
        with open(os.path.join(place, "user"), "a") as changed:
            changed.write(" and more")
        with open(os.path.join(place, "new"), "w"):
            pass
        assert owners(place) == {**SEEN, "new": (0, 0)}

    assert owners(tmp_path / "upper") == {"user": SEEN["user"], "new": (0, 0)}
    assert (stack[1] / "user").read_text() == "base/user"


@in_own_mounts
def test_100_layers_on_a_kernel_that_wants_them_mounted(stack: list[Path], tmp_path: Path) -> None:
    many = []
    for number in range(98):
        many.append(tmp_path / str(number))
        many[-1].mkdir()
    before_6_15()

    mount([idmapped(overlay_mount([*many, *stack]), UIDS, GIDS)], tmp_path / "at")

    assert owners(tmp_path / "at") == SEEN


# -- where it cannot be ------------------------------------------------------------------------------------------------


@in_own_mounts
def test_a_filesystem_that_cannot(stack: list[Path], tmp_path: Path) -> None:
    """An overlay itself, for one."""
    mount([overlay_mount(stack)], tmp_path / "at")

    with pytest.raises(MountError, match=r"binding '.*/at': kernel or filesystem cannot map owners"):
        mount([idmapped(bind_mount(tmp_path / "at", readonly=True), UIDS, GIDS)], tmp_path / "at")

    assert not idmap_works(tmp_path / "at")
    assert len(mounted_below(tmp_path)) == 1


@in_own_mounts
def test_a_kernel_that_cannot(stack: list[Path], tmp_path: Path) -> None:
    """Before Linux 5.12 nothing is mounted with the wrong owners instead."""
    refuse(38, MOUNT_SETATTR)

    for one in (bind_mount(stack[0], readonly=True), overlay_mount(stack)):
        with pytest.raises(MountError):
            mount([idmapped(one, UIDS, GIDS)], tmp_path / "at")

    assert not idmap_works(tmp_path)
    assert mounted_below(tmp_path) == []


@pytest.mark.parametrize(
    ("ranges", "text"),
    [
        ([IdMap(0, 1, 10), IdMap(5, 100, 10)], "uid_map 0:1:10,5:100:10: Invalid argument"),
        ([IdMap(number, number) for number in range(400)], "Invalid argument"),
    ],
    ids=["overlapping", "more than 340 ranges"],
)
@in_own_mounts
def test_a_map_that_the_kernel_refuses(stack: list[Path], tmp_path: Path, ranges: list[IdMap], text: str) -> None:
    with pytest.raises(MountError) as raised:
        mount([idmapped(bind_mount(stack[0], readonly=True), ranges, GIDS)], tmp_path / "at")

    assert text in str(raised.value)
    assert mounted_below(tmp_path) == []


def children() -> list[str]:
    """List this thread's children, among whom may be some of other tests."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def test_the_child_that_makes_a_user_namespace_is_gone(stack: list[Path]) -> None:
    before = children()
    with user_namespace(UIDS, GIDS) as namespace:
        assert os.readlink(f"/proc/self/fd/{namespace}").startswith("user:")
        assert os.readlink(f"/proc/self/fd/{namespace}") != os.readlink("/proc/self/ns/user")
        assert set(children()) <= set(before)


def test_a_mount_without_a_map_starts_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unpacker.snapshots.idmaps.sys.executable", "/nonexistent")
    (tmp_path / "at").mkdir()

    @in_own_mounts
    def plain() -> None:
        mount([Mount(type="bind", source=str(tmp_path))], tmp_path / "at")

    plain()
