"""Which markers a layer gets: found out by trying, on real filesystems and as real users."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import pytest

from tests.snapshots.namespaces import (
    checked,
    in_own_mounts,
    in_user_namespace,
    libc,
    needs_user_namespace,
    unprivileged_directory,
)
from tests.support.probes import (
    needs_mknod,
    needs_nobody,
    needs_overlay,
    needs_trusted_xattr,
    needs_user_xattr,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from unpacker.layer.markers import markers
from unpacker.snapshots.encoding import choose_encoding
from unpacker.snapshots.mounting import mount
from unpacker.snapshots.mounts import overlay_mount
from unpacker.snapshots.probe import encoding_works, overlay_works, userxattr_supported
from unpacker.tree.directory import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from unpacker.snapshots.encoding import Encoding


def chosen(directory: Path) -> Encoding:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        return choose_encoding(descriptor)
    finally:
        os.close(descriptor)
        assert os.listdir(directory) == []


def mounted(kind: bytes, place: Path) -> Path:
    place.mkdir()
    checked(libc.mount(kind, os.fsencode(place), kind, ctypes.c_ulong(0), None))
    return place


@needs_mknod
@needs_trusted_xattr
def test_who_may_write_devices_and_trusted_attributes_does(tmp_path: Path) -> None:
    assert chosen(tmp_path) == "device"


@needs_user_xattr
@needs_nobody
def test_nobody_writes_attributes() -> None:
    """As far as the filesystem holds them and the kernel reads them."""
    said = _as_nobody("print(encoding.choose_encoding(os.open('.', os.O_RDONLY)), os.listdir('.'))")

    assert said == "user []\n"


@needs_overlay
@in_own_mounts
def test_a_filesystem_without_attributes(tmp_path: Path) -> None:
    """Device nodes alone are half of it: nothing could make a directory opaque."""
    place = mounted(b"ramfs", tmp_path / "ram")
    if not _refuses_attributes(place):
        pytest.skip("missing: a filesystem without extended attributes")

    assert chosen(place) == "sidecar"
    assert not encoding_works(place, "device")
    assert not encoding_works(place, "user")


def _refuses_attributes(place: Path) -> bool:
    try:
        os.setxattr(place, "user.probe", b"")
    except OSError:
        return True
    return False


@needs_overlay
@in_own_mounts
def test_in_a_container_whose_files_are_an_overlay(tmp_path: Path) -> None:
    """No whiteout can be made in there, it would be one of the overlay's own; an attribute can, as it is stored escaped."""
    for name in ("base", "upper", "work", "at"):
        (tmp_path / name).mkdir()
    mount([overlay_mount([tmp_path / "base"], tmp_path / "upper", tmp_path / "work")], tmp_path / "at")

    assert chosen(tmp_path / "at") == "user"
    assert encoding_works(tmp_path / "at", "user")
    assert not encoding_works(tmp_path / "at", "device")
    assert overlay_works(tmp_path / "at", writable=False)
    assert not overlay_works(tmp_path / "at")


@needs_overlay
@pytest.mark.parametrize("kind", ["here", "tmpfs"])
@in_own_mounts
def test_what_is_chosen_works_when_it_is_mounted(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "here"
    mounted(b"tmpfs", place) if kind == "tmpfs" else place.mkdir()

    encoding = chosen(place)

    assert encoding_works(place, encoding) == (encoding != "sidecar")
    assert os.listdir(place) == []


@needs_overlay
@needs_user_xattr
@in_own_mounts
def test_both_kinds_of_markers_work_for_root(tmp_path: Path) -> None:
    assert [encoding_works(tmp_path, kind) for kind in ("device", "user", "sidecar")] == [True, True, False]
    assert userxattr_supported()
    assert overlay_works(tmp_path)
    assert overlay_works(tmp_path, userxattr=True)
    assert os.listdir(tmp_path) == []


@needs_overlay
@needs_user_xattr
@pytest.mark.parametrize("encoding", ["device", "user"])
@in_own_mounts
def test_what_the_kernel_writes_is_read_as_it_means_it(tmp_path: Path, encoding: str) -> None:
    """A file removed and a directory made again through a mount: overlayfs writes devices, whatever its options are."""
    for name in ("base/d", "upper", "work", "at"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "base" / "gone").touch()
    (tmp_path / "base" / "kept").touch()
    userxattr = encoding == "user"
    mount(
        [overlay_mount([tmp_path / "base"], tmp_path / "upper", tmp_path / "work", userxattr=userxattr)],
        tmp_path / "at",
    )

    (tmp_path / "at" / "gone").unlink()
    (tmp_path / "at" / "d").rmdir()
    (tmp_path / "at" / "d").mkdir()
    (tmp_path / "at" / "kept").chmod(0o600)

    read, upper = markers(encoding), tmp_path / "upper"
    with Tree(os.open(upper, os.O_RDONLY)) as tree, Tree(os.open(upper / "d", os.O_RDONLY)) as again:
        hidden = [
            name
            for name in os.listdir(upper)
            if read.is_whiteout(tree, tree.root, os.fsencode(name), os.lstat(upper / name))
        ]
        assert read.is_opaque(again, again.root)
        assert not read.is_opaque(tree, tree.root)
    assert hidden == ["gone"]
    assert sorted(os.listdir(upper)) == ["d", "gone", "kept"]


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.8.0-31-generic", "user"),
        ("6.18.44", "user"),
        ("7.0", "user"),
        ("6.7.12", "sidecar"),
        ("5.15.0", "sidecar"),
        ("6.8-rc1", "sidecar"),
        ("odd", "sidecar"),
    ],
)
@needs_user_xattr
@needs_nobody
def test_a_kernel_that_would_show_whiteouts_as_empty_files(release: str, expected: str) -> None:
    """Is known by its version, the one thing that cannot be tried without mounting."""
    said = _as_nobody(
        f"os.uname = lambda: os.uname_result(('Linux', '', {release!r}, '', ''))\n"
        "print(encoding.choose_encoding(os.open('.', os.O_RDONLY)))"
    )

    assert said == f"{expected}\n"


def _as_nobody(program: str) -> str:
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as place:
        return run_as_nobody(
            [python, "-c", f"import os\nfrom unpacker.snapshots import encoding\n{program}"], cwd=place
        ).stdout


IN_USER_NAMESPACE = """
import os
from unpacker.snapshots.encoding import choose_encoding
from unpacker.snapshots.probe import encoding_works, overlay_works, userxattr_supported
print(choose_encoding(os.open(".", os.O_RDONLY)), encoding_works(".", "user"), encoding_works(".", "device"))
print(overlay_works(".", userxattr=True), userxattr_supported(), os.listdir("."))
"""


@needs_user_xattr
@needs_user_namespace
def test_root_of_a_user_namespace() -> None:
    """May make whiteouts, but set no trusted attributes."""
    with unprivileged_directory() as place:
        said = in_user_namespace(IN_USER_NAMESPACE, cwd=place)

    assert said == "user True False\nTrue True []\n"


@needs_nobody
def test_nobody_may_not_mount() -> None:
    """Which is an answer, not an error."""
    program = "from unpacker.snapshots import probe as p\nprint(p.overlay_works('.'), p.userxattr_supported(), p.idmap_works('.'), p.encoding_works('.', 'user'))"

    assert _as_nobody(program) == "False False False False\n"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        overlay_works(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        encoding_works(tmp_path / "nowhere", "user")
