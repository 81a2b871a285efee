"""The fixtures, which real tools made: unpacked as it stands in fixtures/expected, alive, and as other tools see them."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.interop.peers import Buildah, GnuTar, Peer, RefusedError, Umoci
from tests.interop.rows import Lines, differences, rows
from tests.interop.running import needs_chroot, run_inside
from tests.support.probes import (
    PROJECT,
    needs_chown,
    needs_mknod,
    needs_nobody,
    needs_trusted_xattr,
    needs_user_xattr,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from tests.support.treesum import manifest
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from pathlib import Path

FIXTURES = PROJECT / "fixtures"
EXPECTED = FIXTURES / "expected"
NAMES = ("hello", "docker", "zstd", "plain", "multi", "edge", "replaced")


def lines_of(expectation: str) -> Lines:
    return (EXPECTED / f"{expectation}.txt").read_text(encoding="ascii").splitlines()


def unpacked(name: str, dest: Path, platform: str = "linux/amd64", store: Path | None = None) -> Lines:
    unpack(FIXTURES / name, dest, platform=platform, store=store, labels=False)
    return manifest(os.fsencode(dest))


class TestExpected:
    """Root gets the tree that fixtures/expected holds, which no code of ours has written."""

    pytestmark = [needs_chown, needs_mknod, needs_user_xattr]  # noqa: RUF012 -- pytest's own way

    @pytest.mark.parametrize("name", NAMES)
    def test_as_it_stands_in_the_file(self, name: str, tmp_path: Path) -> None:
        assert not differences(lines_of(name), unpacked(name, tmp_path / "root"))

    @needs_trusted_xattr
    @pytest.mark.parametrize("name", NAMES)
    def test_by_way_of_a_store(self, name: str, tmp_path: Path) -> None:
        """So it is when each layer stays a directory of its own, in overlayfs form, and again when all are there."""
        for dest in ("first", "second"):
            assert not differences(lines_of(name), unpacked(name, tmp_path / dest, store=tmp_path / "store"))

    @pytest.mark.parametrize("platform", ["linux/arm64", "linux/arm/v7"])
    def test_each_platform_has_its_own(self, platform: str, tmp_path: Path) -> None:
        """The shells differ, the shared layer does not."""
        expectation = f"multi.{platform.replace('/', '-')}"

        assert not differences(lines_of(expectation), unpacked("multi", tmp_path / "root", platform))

    @pytest.mark.parametrize("mask", [0o000, 0o077, 0o777], ids=oct)
    def test_the_umask_takes_nothing_away(self, mask: int, tmp_path: Path) -> None:
        before = os.umask(mask)
        try:
            unpack(FIXTURES / "edge", tmp_path / "root", platform="linux/amd64", labels=False)
        finally:
            os.umask(before)

        assert not differences(lines_of("edge"), manifest(os.fsencode(tmp_path / "root")))

    def test_every_file_has_an_expectation(self) -> None:
        """A fixture that somebody adds is not forgotten here."""
        known = {*NAMES, "multi.linux-arm64", "multi.linux-arm-v7"}

        assert {path.stem for path in EXPECTED.iterdir()} == known
        assert {path.parent.name for path in FIXTURES.glob("*/oci-layout")} == set(NAMES)


# -- without privilege -------------------------------------------------------------------------------------------------


@needs_nobody
@needs_user_xattr
@pytest.mark.parametrize("name", NAMES)
def test_without_privilege_only_what_needs_it_is_lost(name: str) -> None:
    """Owners, devices and capabilities are lost and counted; the rest is the same, to the nanosecond."""
    expected = rows(lines_of(name))
    devices = {path for path, row in expected.items() if row["type"] in ("char", "block")}
    capable = {path for path, row in expected.items() if "security.capability" in row["xattrs"]}

    def may_be_lost(path: str, column: str) -> bool:
        return column in ("uid", "gid") or path in devices or (path in capable and column == "xattrs")

    with nobodys_directory() as place:
        command = [str(nobodys_python()), "-m", "unpacker", "unpack", "--quiet", "--format=json", "--no-labels"]
        done = run_as_nobody([*command, "--platform=linux/amd64", FIXTURES / name, place / "root"])
        report = json.loads(done.stdout)
        lines = manifest(os.fsencode(place / "root"))

    assert not differences(lines_of(name), lines, may_be_lost)
    assert set(report["losses"]) == {"owner"} | ({"device", "xattr"} if name == "edge" else set())
    assert report["losses"].get("device", 0) == len(devices)
    assert report["losses"].get("xattr", 0) == len(capable)


# -- alive -------------------------------------------------------------------------------------------------------------


@needs_chroot
@pytest.mark.parametrize("name", ["hello", "docker", "zstd", "plain", "multi", "edge"])
def test_a_program_of_the_image_runs(name: str, tmp_path: Path) -> None:
    """The shell runs, finds a script through a link that leads into ``usr``, and the script finds the shell."""
    unpack(FIXTURES / name, tmp_path / "root", platform="linux/amd64", labels=False)

    said = run_inside(tmp_path / "root", "hello && cat /etc/motd")

    assert said == "hello from the image\n" + 2 * "This line is from the second layer.\n"


# -- as others see them ------------------------------------------------------------------------------------------------

UMOCI, TAR, BUILDAH = Umoci.name, GnuTar.name, Buildah.name
REFUSED = {
    (UMOCI, "docker"): "it knows no Docker types",
    (UMOCI, "zstd"): "it knows no zstd",
    (UMOCI, "multi"): "it chooses no platform",
    (BUILDAH, "docker"): "it finds no Docker manifest by its tag",
    (BUILDAH, "edge"): "it makes no hard link to a file of a layer below",
    (BUILDAH, "replaced"): "it has no place for a whiteout below a file",
}
"""What the versions in fixtures/README.md do not take.  A newer one that does is compared as well."""

WRONG = {(UMOCI, "replaced"): "it follows a link of the upper layer and deletes t/lower/b (fixtures/README.md)"}

TOUCHED = {
    **dict.fromkeys(("hello", "docker", "zstd", "plain", "multi"), frozenset({".", "etc", "usr", "usr/bin"})),
    "edge": {".", "changes", "usr/bin", "usr/lib"},
}
"""Directories without an entry in an upper layer that makes something in them, and those above: they have the times of
the lower layer (fixtures/README.md).  GNU tar and overlayfs leave the present there."""


def may_differ(peer: str, fixture: str, path: str, column: str) -> bool:
    """Whether it is known, and no fault of ours, that a peer has something else there."""
    if peer == UMOCI:
        return False
    if column == "mtime" and path in TOUCHED.get(fixture, ()):
        return True
    # containers/storage gives the root attributes of its own.
    return peer == BUILDAH and path == "." and column in ("mode", "mtime")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(
            peer, id=peer.name, marks=pytest.mark.skipif(bool(peer.missing()), reason=f"missing: {peer.missing()}")
        )
        for peer in (Umoci, GnuTar, Buildah)
    ],
)
@needs_mknod
@needs_user_xattr
def test_a_peer_makes_the_same(peer: type[Peer], name: str, tmp_path: Path) -> None:
    layout, work = tmp_path / "layout", tmp_path / "work"
    shutil.copytree(FIXTURES / name, layout, ignore=shutil.ignore_patterns("labels"))
    work.mkdir()
    if (peer.name, name) in WRONG:
        pytest.skip(f"{peer.name}: {WRONG[peer.name, name]}")
    try:
        theirs = peer().tree(layout, work)
    except RefusedError as error:
        if (peer.name, name) not in REFUSED:
            raise
        pytest.skip(f"{peer.name} refuses this one: {REFUSED[peer.name, name]} ({error})")

    found = differences(
        unpacked(name, tmp_path / "root"), theirs, lambda path, column: may_differ(peer.name, name, path, column)
    )

    assert not found
