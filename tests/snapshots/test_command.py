"""The command for people does what it says, whatever the names: run by sh(1), with the mount(8) that is installed."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.namespaces import in_own_mounts
from tests.snapshots.test_mounting import ODD, layers
from tests.support.probes import needs_overlay
from unpacker.errors import UnsupportedError
from unpacker.snapshots.command import command
from unpacker.snapshots.mounts import Mount, bind_mount, idmapped, overlay_mount
from unpacker.tree.owners import IdMap

if TYPE_CHECKING:
    from pathlib import Path

TWO = overlay_mount(["/b c", "/a"])


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([TWO], "mount -t overlay -o 'lowerdir=/b c:/a' overlay /mnt"),
        ([bind_mount("/a", readonly=True)], "mount --rbind -o ro /a /mnt"),
        ([Mount(type="bind", source="/a")], "mount --bind /a /mnt"),
        (
            [bind_mount("/a", readonly=False), Mount(type="bind", source="/b", options=("nodev", "ro"), target="x/y")],
            "mount --rbind /a /mnt && mount --bind -o nodev,ro /b /mnt/x/y",
        ),
    ],
    ids=["overlay", "readonly bind", "bind", "two mounts"],
)
def test_the_plain_forms(mounts: list[Mount], expected: str) -> None:
    assert command(mounts, "/mnt") == expected


def test_the_target_means_the_same_wherever_the_command_runs() -> None:
    assert shlex.split(command([TWO], "here"))[-1] == os.path.join(os.getcwd(), "here")


def test_what_mount_8_cannot_do() -> None:
    """It can map owners of a whole mount, but those of an overlay's layers it cannot."""
    with pytest.raises(UnsupportedError, match="unsupported option uidmap"):
        command([idmapped(TWO, [IdMap(0, 1)], [IdMap(0, 1)])], "/mnt")


def run(mounts: list[Mount], target: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        ["sh", "-c", os.fsencode(command(mounts, target))], cwd="/", env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@needs_overlay
@pytest.mark.parametrize("name", ODD, ids=ascii)
@in_own_mounts
def test_any_names(tmp_path: Path, name: str) -> None:
    lower, base, upper, work, target = (tmp_path / f"{kind}{name}" for kind in ("lower", "base", "upper", "work", "at"))
    for place in (work, target):
        place.mkdir()
    for place in (lower, base, upper):
        place.mkdir()
        (place / f"in-{place.name}").touch()

    run([overlay_mount([lower, base], upper, work), Mount(type="bind", source=f"{base}")], target)
    assert os.listdir(target) == [f"in-{base.name}"]
    subprocess.run(["umount", target], check=True)
    assert sorted(os.listdir(target)) == sorted(f"in-{place.name}" for place in (lower, base, upper))


@needs_overlay
@pytest.mark.parametrize(
    ("length", "count", "form"),
    [
        pytest.param(9, 2, "mount -t overlay", id="as it is"),
        pytest.param(64, 10, "LIBMOUNT_FORCE_MOUNT2=always mount -t overlay", id="too long for one value"),
        pytest.param(64, 60, "(cd ", id="too long for a page"),
        pytest.param(64, 128, "(d=$(mktemp -d)", id="too long even without the directory"),
        pytest.param(64, 500, "(d=$(mktemp -d)", id="as many as there can be"),
    ],
)
@in_own_mounts
def test_many_layers(tmp_path: Path, length: int, count: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories named by digest are 64 characters long: 60 of them fill a page, however short the rest."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    store = tmp_path / "it's a store"
    (tmp_path / "at").mkdir()
    store.mkdir()
    stack = layers(store, count, name=f"{{:0{length}d}}")

    line = command([overlay_mount(stack)], tmp_path / "at")
    assert line.startswith(form)
    run([overlay_mount(stack)], tmp_path / "at")

    assert len(os.listdir(tmp_path / "at")) == count + 1
    assert sorted(os.listdir(tmp_path)) == ["at", "it's a store"]


@needs_overlay
@in_own_mounts
def test_a_command_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And fails: the links for the moment are removed, the layers that they lead to are not."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    stack = layers(tmp_path, 2, name='quote"{}')
    line = command([overlay_mount(stack)], tmp_path / "nowhere")
    assert line.startswith("(d=$(mktemp -d)")

    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "nowhere" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ['quote"0', 'quote"1']
    assert sorted(os.listdir(stack[0])) == ["all", "only-1"]


def test_a_command_where_there_is_no_room_for_links(tmp_path: Path) -> None:
    """It ends there, and removes nothing of the directory that it was started in."""
    line = command([overlay_mount(['/a"', "/b"])], "/mnt")
    (tmp_path / "precious").touch()

    environment = {**os.environ, "TMPDIR": "/nonexistent"}
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, check=False)

    assert done.returncode != 0
    assert os.listdir(tmp_path) == ["precious"]
