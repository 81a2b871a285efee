"""Mounting by system calls: really, in mount namespaces that end with the test; and on kernels that can do less."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.namespaces import (
    FSOPEN,
    KERNELS,
    MOUNT_SETATTR,
    in_own_mounts,
    mounted_below,
    refuse,
)
from tests.support.probes import needs_overlay
from unpacker.errors import MountError, UnsupportedError, UsageError
from unpacker.snapshots.mounting import mount, temporary, unmount
from unpacker.snapshots.mounts import Mount, bind_mount, overlay_mount

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = needs_overlay


def layers(directory: Path, count: int, *, name: str = "layer-{}") -> list[Path]:
    """Make layers, nearest first, each with a file of its own and one that all have."""
    made = []
    for number in reversed(range(count)):
        layer = directory / name.format(number)
        layer.mkdir()
        (layer / f"only-{number}").touch()
        (layer / "all").write_text(str(number))
        made.append(layer)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    place = tmp_path / "mounted"
    place.mkdir()
    return place


# -- layers ------------------------------------------------------------------------------------------------------------


@KERNELS
@pytest.mark.parametrize("count", [1, 2, 128, 500])
@in_own_mounts
def test_any_number_of_layers_that_the_kernel_takes(
    tmp_path: Path, target: Path, count: int, kernel: Callable[[], None]
) -> None:
    """500 names of 120 bytes are 60 kB, 15 times what mount(2) takes as text."""
    stack = layers(tmp_path, count, name="l" * (116 - len(str(tmp_path))) + "{}")
    kernel()

    mount([overlay_mount(stack)], target)

    assert (target / "all").read_text() == str(count - 1)
    assert len(os.listdir(target)) == count + 1
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").touch()
    unmount(target)
    assert os.listdir(target) == []


@KERNELS
@in_own_mounts
def test_500_layers_and_what_is_written_over_them(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    """The upper directory does not count."""
    stack = layers(tmp_path, 500)
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    kernel()

    mount([overlay_mount(stack, upper, work)], target)
    (target / "all").write_text("written")

    assert (upper / "all").read_text() == "written"
    assert (stack[0] / "all").read_text() == "499"


def test_501_layers() -> None:
    """From wherever the mount comes."""
    options = "lowerdir=" + ":".join(f"/{number}" for number in range(501))

    with pytest.raises(UnsupportedError, match="number of layers 501"):
        mount([Mount(type="overlay", source="overlay", options=(options,))], "/nowhere")


ODD = [
    ":",
    ",",
    "\\",
    "a:b",
    "a,b",
    "a\\b",
    "a\\:b",
    "a\\,b",
    "a\\",
    '"',
    '"q"',
    "'",
    " ",
    "\n",
    "=",
    "-o",
    "\udcff",
    "é",
]


@KERNELS
@pytest.mark.parametrize("name", ODD, ids=ascii)
@in_own_mounts
def test_names_with_a_meaning_in_options(tmp_path: Path, target: Path, name: str, kernel: Callable[[], None]) -> None:
    lower, base, upper, work = (tmp_path / (prefix + name) for prefix in ("lower", "base", "upper", "work"))
    work.mkdir()
    for place in (lower, base, upper):
        place.mkdir()
        (place / f"in-{place.name}").touch()
    kernel()

    mount([overlay_mount([lower, base], upper, work)], target)

    assert sorted(os.listdir(target)) == sorted(f"in-{place.name}" for place in (lower, base, upper))


@in_own_mounts
def test_the_kernel_shows_where_the_layers_are(tmp_path: Path, target: Path) -> None:
    """However many there are, and whatever their names: for whoever looks at mountinfo."""
    mount([overlay_mount(layers(tmp_path, 3, name="a:b-{}"))], target)

    (line,) = mounted_below(target)
    shown = [option for option in line.split(" ")[-1].split(",") if option.startswith("lowerdir")]
    if shown[0].startswith("lowerdir+="):  # since Linux 6.13
        assert shown == [f"lowerdir+={tmp_path}/a:b-{number}" for number in (2, 1, 0)]


@KERNELS
@in_own_mounts
def test_nobodys_current_directory_changes(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    """A long list of layers is mounted relative to a directory: that of another thread, which lives no longer."""
    stack = layers(tmp_path, 200)
    seen = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.0005):
            seen.add(os.getcwd())

    os.chdir(tmp_path)
    kernel()
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(3):
        mount([overlay_mount(stack)], "mounted")
        unmount("mounted")
    done.set()
    watcher.join()

    assert seen == {str(tmp_path)}
    assert os.getcwd() == str(tmp_path)


# -- what is written through a mount -----------------------------------------------------------------------------------


@KERNELS
@in_own_mounts
def test_the_upper_directory_is_a_layer_of_its_own(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    """Whole files, and no directory that points elsewhere: whatever the kernel does when it is not told."""
    (tmp_path / "base" / "d").mkdir(parents=True)
    (tmp_path / "base" / "file").write_text("data")
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    kernel()
    mount([overlay_mount([tmp_path / "base"], tmp_path / "upper", tmp_path / "work")], target)

    (line,) = mounted_below(target)
    assert "redirect_dir=nofollow" in line.split(",")
    (target / "file").chmod(0o600)  # with metacopy, the upper file would be empty
    with pytest.raises(OSError, match="cross-device"):  # with redirect_dir, it would be done with an attribute
        (target / "d").rename(target / "e")
    unmount(target)

    assert (tmp_path / "upper" / "file").read_text() == "data"
    assert not [name for name in os.listxattr(tmp_path / "upper" / "file") if "metacopy" in name]
    assert (tmp_path / "base" / "file").stat().st_mode & 0o777 != 0o600


@KERNELS
@in_own_mounts
def test_flags_of_a_writable_overlay(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    stack = layers(tmp_path, 1)
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    kernel()
    extra = ["ro", "nosuid", "nodev", "noexec", "noatime"]

    mount([overlay_mount(stack, tmp_path / "upper", tmp_path / "work", extra=extra)], target)

    (line,) = mounted_below(target)
    assert set(extra) <= set(line.split(" ")[5].split(","))
    with pytest.raises(OSError, match="Read-only"):
        (target / "all").write_text("")


# -- binds -------------------------------------------------------------------------------------------------------------


@KERNELS
@in_own_mounts
def test_a_bind_is_readonly_or_not(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    (layer,) = layers(tmp_path, 1)
    kernel()

    mount([bind_mount(layer, readonly=True)], target)
    with pytest.raises(OSError, match="Read-only"):
        (target / "all").write_text("")
    unmount(target)
    mount([bind_mount(layer, readonly=False)], target)
    (target / "all").write_text("written")

    assert (layer / "all").read_text() == "written"


@in_own_mounts
def test_a_kernel_that_binds_but_cannot_change_a_mount_that_is_nowhere(tmp_path: Path, target: Path) -> None:
    """From Linux 5.2 to 5.11."""
    (layer,) = layers(tmp_path, 1)
    refuse(errno.ENOSYS, MOUNT_SETATTR)

    mount([Mount(type="bind", source=str(layer), options=("ro", "nosuid", "noatime"))], target)

    (line,) = mounted_below(target)
    assert {"ro", "nosuid", "noatime"} <= set(line.split(" ")[5].split(","))


@KERNELS
@in_own_mounts
def test_what_is_mounted_below_a_bound_directory(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    """Comes along with ``rbind`` only."""
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    mount([bind_mount(layers(tmp_path, 1)[0], readonly=False)], tmp_path / "outer" / "inner")
    kernel()

    mount([Mount(type="bind", source=f"{tmp_path}/outer")], target)
    assert os.listdir(target / "inner") == []
    unmount(target)
    mount([Mount(type="bind", source=f"{tmp_path}/outer", options=("rbind",))], target)
    assert sorted(os.listdir(target / "inner")) == ["all", "only-0"]


# -- more than one mount, and where ------------------------------------------------------------------------------------


@KERNELS
@in_own_mounts
def test_mounts_below_the_first_one(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    first, second = layers(tmp_path, 2)
    (first / "a" / "b").mkdir(parents=True)
    kernel()
    below = Mount(type="bind", source=str(second), target="/a/b/")

    mount([bind_mount(first, readonly=True), below], target)

    assert sorted(os.listdir(target / "a" / "b")) == ["all", "only-0"]


@KERNELS
@in_own_mounts
def test_all_are_mounted_or_none(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    first, second = layers(tmp_path, 2)
    kernel()

    with pytest.raises(MountError, match="binding '/nowhere': No such file or directory"):
        mount(
            [bind_mount(first, readonly=True), overlay_mount([first, second]), bind_mount("/nowhere", readonly=True)],
            target,
        )

    assert mounted_below(tmp_path) == []


@in_own_mounts
def test_nothing_is_mounted_when_one_cannot_be_read(tmp_path: Path, target: Path) -> None:
    (layer,) = layers(tmp_path, 1)

    with pytest.raises(UsageError):
        mount([bind_mount(layer, readonly=True), Mount(type="bind", source="/", options=("loop",))], target)

    assert mounted_below(tmp_path) == []


@pytest.mark.parametrize("inside", ["link", "d/link", "/link", "../outside", "d/../../outside"])
@in_own_mounts
def test_a_target_that_leads_out_of_the_tree(tmp_path: Path, target: Path, inside: str) -> None:
    """The directory below the first mount is an image's: a link in it would let the second one cover the host."""
    (layer,) = layers(tmp_path, 1)
    (layer / "d").mkdir()
    (tmp_path / "outside").mkdir()
    for name in ("link", "d/link"):
        (layer / name).symlink_to(tmp_path / "outside")

    with pytest.raises(MountError):
        mount([bind_mount(layer, readonly=True), Mount(type="bind", source="/", target=inside)], target)

    assert os.listdir(tmp_path / "outside") == []
    assert mounted_below(tmp_path) == []


@in_own_mounts
def test_a_symlink_to_the_target(tmp_path: Path, target: Path) -> None:
    """Is what the caller names, and followed, as by mount(8) and umount(8)."""
    (tmp_path / "link").symlink_to("mounted")
    mount([bind_mount(layers(tmp_path, 1)[0], readonly=True)], tmp_path / "link")
    assert (target / "all").exists()

    unmount(tmp_path / "link")

    assert not (target / "all").exists()


# -- for a time --------------------------------------------------------------------------------------------------------


@in_own_mounts
def test_a_temporary_mount_goes_away(tmp_path: Path) -> None:
    stack = layers(tmp_path, 2)

    with temporary([overlay_mount(stack)]) as place:
        assert (Path(place) / "only-0").exists()
        assert Path(place).parent.stat().st_dev != os.stat(place).st_dev

    assert not os.path.lexists(place)
    assert sorted(os.listdir(stack[1])) == ["all", "only-0"]


@in_own_mounts
def test_a_temporary_mount_of_several(tmp_path: Path) -> None:
    first, second = layers(tmp_path, 2)
    (first / "a").mkdir()

    with temporary([bind_mount(first, readonly=True), Mount(type="bind", source=str(second), target="a")]) as place:
        assert (Path(place) / "a" / "only-0").exists()

    assert not os.path.lexists(place)


@in_own_mounts
def test_a_temporary_mount_after_an_error_inside(tmp_path: Path) -> None:
    with pytest.raises(KeyError), temporary([overlay_mount(layers(tmp_path, 2))]) as place:
        raise KeyError

    assert not os.path.lexists(place)


@in_own_mounts
def test_a_temporary_mount_that_is_still_in_use(tmp_path: Path) -> None:
    """It goes, and who uses it keeps it."""
    with temporary([overlay_mount(layers(tmp_path, 2))]) as place:
        descriptor = os.open(f"{place}/all", os.O_RDONLY)

    assert not os.path.lexists(place)
    assert os.read(descriptor, 9) == b"1"
    os.close(descriptor)


@in_own_mounts
def test_a_temporary_mount_never_removes_files(tmp_path: Path) -> None:
    """Not even if somebody unmounts it meanwhile, binds something else, or leaves files in the directory."""
    (layer,) = layers(tmp_path, 1)
    manager = temporary([bind_mount(layer, readonly=False)])
    place = Path(manager.__enter__())
    unmount(place)
    (place / "precious").touch()
    mount([bind_mount(layer, readonly=False)], place)

    with pytest.raises(OSError, match="not empty"):
        manager.__exit__(None, None, None)

    assert os.listdir(place) == ["precious"]
    assert sorted(os.listdir(layer)) == ["all", "only-0"]
    (place / "precious").unlink()
    place.rmdir()


# -- unmounting --------------------------------------------------------------------------------------------------------


@in_own_mounts
def test_unmounting_takes_away_the_last_one(tmp_path: Path, target: Path) -> None:
    for layer in layers(tmp_path, 2):
        mount([bind_mount(layer, readonly=True)], target)

    unmount(target)
    assert (target / "only-1").exists()
    unmount(target)
    with pytest.raises(MountError, match="mounted: unmounting: nothing is mounted there that you may unmount"):
        unmount(target)


@in_own_mounts
def test_unmounting_what_is_in_use(tmp_path: Path, target: Path) -> None:
    mount([overlay_mount(layers(tmp_path, 2))], target)
    with (target / "all").open() as used:
        with pytest.raises(MountError, match="unmounting: it is in use") as raised:
            unmount(target)
        assert "unmount lazily" in str(raised.value.hint)
        assert raised.value.errno == errno.EBUSY
        unmount(target, lazy=True)
        assert used.read() == "1"

    assert mounted_below(target) == []


# -- what the kernel refuses -------------------------------------------------------------------------------------------


@KERNELS
@pytest.mark.parametrize(
    ("lowers", "written", "message"),
    [
        (["base", "nowhere"], [], "an overlay of 2 layers: '{}/nowhere': No such file or directory"),
        (["base", "base/file"], [], "an overlay of 2 layers: '{}/base/file': Not a directory"),
        (["base", "top"], ["nowhere", "work"], "'{}/nowhere': No such file or directory"),
        (["base", "base"], [], "two of the directories are one, or one lies inside another"),
        (["top", "base"], ["base", "work"], "two of the directories are one, or one lies inside another"),
        (["top"], ["base", "base/work"], "Invalid argument"),
    ],
    ids=["missing", "file", "missing upper", "twice", "upper is lower", "work in upper"],
)
@in_own_mounts
def test_one_line_says_why(
    tmp_path: Path, target: Path, lowers: list[str], written: list[str], message: str, kernel: Callable[[], None]
) -> None:
    """The same one on every kernel."""
    for name in ("base/work", "top", "work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "base" / "file").touch()
    kernel()
    upper, work = (str(tmp_path / name) for name in written) if written else (None, None)

    with pytest.raises(MountError) as raised:
        mount([overlay_mount([tmp_path / name for name in lowers], upper, work)], target)

    assert str(raised.value).startswith(f"{target}: mounting an overlay of ")
    assert message.format(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert mounted_below(tmp_path) == []


@KERNELS
@in_own_mounts
def test_an_upper_directory_on_an_overlay(tmp_path: Path, target: Path, kernel: Callable[[], None]) -> None:
    """As in a container whose own files are one: the kernel says no more than EINVAL, so the hint has its rules."""
    stack = layers(tmp_path, 2)
    for name in ("upper", "work", "again"):
        (tmp_path / name).mkdir()
    mount([overlay_mount(stack, tmp_path / "upper", tmp_path / "work")], target)
    for name in ("upper", "work"):
        (target / name).mkdir()
    kernel()

    with pytest.raises(MountError) as raised:
        mount([overlay_mount(stack, target / "upper", target / "work")], tmp_path / "again")

    assert "is no overlay itself" in str(raised.value.hint)
    assert raised.value.errno == errno.EINVAL


@in_own_mounts
def test_an_upper_directory_that_is_in_use(tmp_path: Path, target: Path) -> None:
    """Overlayfs itself only cares where it keeps an index."""
    stack = layers(tmp_path, 2)
    for name in ("upper", "work", "other"):
        (tmp_path / name).mkdir()
    mount([overlay_mount(stack, tmp_path / "upper", tmp_path / "work", extra=["index=on"])], target)

    with pytest.raises(MountError, match="the upper or the work directory is in use by another overlay"):
        mount([overlay_mount(stack, tmp_path / "upper", tmp_path / "work", extra=["index=on"])], tmp_path / "other")


@in_own_mounts
def test_a_kernel_without_overlayfs(tmp_path: Path, target: Path) -> None:
    """Says ENODEV, and a hint says what can be done."""
    refuse(errno.ENODEV, FSOPEN)

    with pytest.raises(MountError, match="this kernel has no overlayfs") as raised:
        mount([overlay_mount(layers(tmp_path, 2))], target)

    assert "modprobe overlay" in str(raised.value.hint)


@in_own_mounts
def test_an_option_that_the_kernel_does_not_know(tmp_path: Path, target: Path) -> None:
    """Is named, where there are calls that tell."""
    with pytest.raises(MountError, match="Unknown parameter 'bogus'") as raised:
        mount([overlay_mount(layers(tmp_path, 2), extra=["bogus=1"])], target)

    assert raised.value.errno == errno.EINVAL


@KERNELS
@in_own_mounts
def test_a_target_that_is_not_there(tmp_path: Path, kernel: Callable[[], None]) -> None:
    stack = layers(tmp_path, 2)
    kernel()

    with pytest.raises(MountError, match="/nowhere: mounting an overlay of 2 layers: No such file or directory"):
        mount([overlay_mount(stack)], tmp_path / "nowhere")
