"""What other programs make of an image: each peer gives the lines of `tests.support.treesum`, or says why it refuses.

None of them shares code with the package.  All of them are for root: without privilege each has an idea of its own of
what to leave out.  They mount in mount namespaces of their own, and write below a directory that they are given, so
that nothing of them stays.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from benchmarks.containerd import Containerd
from benchmarks.peers import PRIVATE_MOUNTS
from tests.support.probes import PROJECT, has_tool
from tests.support.treesum import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.interop.rows import Lines

_END = bytes(20 * 512)
"""What ``umoci insert`` leaves out at the end of a layer; GNU tar and Python's tarfile want it."""
_EMPTY = ".\tdir\t0755" + "\t-" * 9
"""The lines of a tree that a peer has made no directory for, since it has no layers."""
_APART = [*PRIVATE_MOUNTS, "sh", "-c", 'mount -t tmpfs none /var/lib && mount -t tmpfs none /run && exec "$@"', "sh"]
"""Runs the rest where the caches and locks that buildah and skopeo keep beside their store are gone afterwards."""
_INSIDE = [
    *PRIVATE_MOUNTS,
    "sh",
    "-c",
    'mount --bind . . && mount -o remount,bind,ro / && cd "$PWD" && exec "$@"',
    "sh",
]
"""Runs the rest where only the working directory can be written to: GNU tar follows absolute links out of the root."""


@cache
def can_mount() -> bool:
    """Whether the caller may mount, and so is as good as root; tried in a mount namespace of its own."""
    return has_tool("unshare") and subprocess.run([*_APART, "true"], capture_output=True, check=False).returncode == 0


class RefusedError(Exception):
    """A peer does not take an image; what it said."""


class Peer:
    """A program, or a few of them, that makes a tree of an image."""

    name: ClassVar[str]
    needs: ClassVar[Sequence[str]]
    """The programs that it is made of."""

    def tree(self, layout: Path, place: Path, tag: str = "latest") -> Lines:
        """Unpack an image, in an empty directory that only this call uses.

        Raises:
            RefusedError: It does not take the image.
        """
        raise NotImplementedError

    @classmethod
    def missing(cls) -> str:
        """Say what it would take to try it here; empty if it can be."""
        if "unshare" in cls.needs and not can_mount():
            return "the right to mount (CAP_SYS_ADMIN)"
        return ", ".join(f"the program {program}" for program in cls.needs if not has_tool(program))


def run(command: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """Run a command; give its standard output.

    Raises:
        RefusedError: It failed.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False)
    if done.returncode:
        said = " / ".join(line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip())
        raise RefusedError(said[-1000:] or f"exit status {done.returncode}")
    return done.stdout.decode(errors="replace")


class Umoci(Peer):
    """Layer upon layer into one directory, as we do."""

    name = "umoci"
    needs = ("umoci",)

    def tree(self, layout: Path, place: Path, tag: str = "latest") -> Lines:
        """See `Peer`."""
        run(["umoci", "raw", "unpack", "--image", f"{layout}:{tag}", place / "root"])
        return manifest(os.fsencode(place / "root"))


# -- GNU tar -----------------------------------------------------------------------------------------------------------


class GnuTar(Peer):
    """skopeo takes the image apart, GNU tar unpacks its layers; what whiteouts hide is removed beforehand, by Python."""

    name = "GNU tar"
    needs = ("skopeo", "tar", "unshare")

    def tree(self, layout: Path, place: Path, tag: str = "latest") -> Lines:
        """See `Peer`."""
        root = place / "root"
        root.mkdir()
        for number, layer in enumerate(_layers(layout, place / "image", tag)):
            archive = place / f"{number}.tar"
            archive.write_bytes(layer + _END)
            _make_room(root, layer + _END)
            options = [
                "--delay-directory-restore",
                "--preserve-permissions",
                "--same-owner",
                "--numeric-owner",
                "--xattrs",
                "--xattrs-include=*",
            ]
            tar = ["tar", "--extract", *options, "--exclude=.wh.*", f"--directory={root}", f"--file={archive}"]
            run([*_INSIDE, *tar], cwd=place)
        return manifest(os.fsencode(root))


def _layers(layout: Path, image: Path, tag: str) -> Iterator[bytes]:
    # skopeo 1.9 finds no Docker manifest in a layout by its tag, so it is told none where there is one image only.
    manifests = json.loads((layout / "index.json").read_bytes())["manifests"]
    source = f"oci:{layout}" if len(manifests) == 1 else f"oci:{layout}:{tag}"
    run([*_APART, "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-decompress", source, f"dir:{image}"])
    for descriptor in json.loads((image / "manifest.json").read_bytes())["layers"]:
        yield (image / descriptor["digest"].partition(":")[2]).read_bytes()


def _make_room(root: Path, layer: bytes) -> None:
    """Remove what a layer hides, and directories that it replaces, which GNU tar does not empty.

    Nothing is removed through a symbolic link.
    """
    with tarfile.open(fileobj=io.BytesIO(layer), mode="r:", errors="surrogateescape") as archive:
        for member in archive:
            path = root / os.path.normpath(member.name).lstrip("/")
            parent, name = path.parent, path.name
            if path == root or os.path.realpath(parent) != str(parent) or not parent.is_dir():
                continue
            times = parent.stat()
            if name == ".wh..wh..opq":
                for child in list(parent.iterdir()):
                    _remove(child)
            elif name.startswith(".wh.") and not name.startswith(".wh..wh.") and name.removeprefix(".wh.").strip("."):
                _remove(parent / name.removeprefix(".wh."))
            elif not member.isdir() and os.path.lexists(path) and stat.S_ISDIR(path.lstat().st_mode):
                _remove(path)
            os.utime(parent, ns=(times.st_atime_ns, times.st_mtime_ns))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# -- what mounts -------------------------------------------------------------------------------------------------------


class Buildah(Peer):
    """containers/storage with its overlay driver: a directory for each layer, merged by the kernel."""

    name = "buildah"
    needs = ("buildah", "unshare")

    _SCRIPT = """
        set -e
        container=$($1 from -q oci:image:"$2")
        "$3" -m tests.support.treesum "$($1 mount "$container")" > tree
        $1 rm "$container" > /dev/null
    """

    def tree(self, layout: Path, place: Path, tag: str = "latest") -> Lines:
        """See `Peer`."""
        # It makes the image's name from the layout's path, which must look like a name then.
        (place / "image").symlink_to(layout.absolute())
        buildah = f"buildah --root {place}/store --runroot {place}/run --storage-driver overlay"
        run([*_APART, "sh", "-c", self._SCRIPT, "sh", buildah, tag, sys.executable], cwd=place)
        return (place / "tree").read_text().splitlines()


class Ctr(Peer):
    """A containerd of its own, told by ctr."""

    needs = ("containerd", "ctr", "tar", "unshare")
    snapshotter: ClassVar[str]

    _IMPORT = """
        set -e
        tar --create --dereference -C image . | $1 images import --snapshotter "$2" --base-name localhost/image -
    """

    def tree(self, layout: Path, place: Path, tag: str = "latest") -> Lines:
        """See `Peer`."""
        (place / "image").symlink_to(layout.absolute())
        with Containerd(place) as server:
            ctr = f"ctr -a {server.socket} -n interop"
            run([*PRIVATE_MOUNTS, "sh", "-c", self._IMPORT, "sh", ctr, self.snapshotter], cwd=place)
            return self._look(ctr, place, tag)

    def _look(self, ctr: str, place: Path, tag: str) -> Lines:
        raise NotImplementedError


class CtrOverlayfs(Ctr):
    """A directory for each layer, merged by the kernel."""

    name = "ctr, overlayfs"
    snapshotter = "overlayfs"

    _MOUNT = """
        set -e
        $1 images mount --snapshotter overlayfs localhost/image:"$2" mounted > /dev/null
        "$3" -m tests.support.treesum mounted > tree
    """

    def _look(self, ctr: str, place: Path, tag: str) -> Lines:
        (place / "mounted").mkdir()
        run([*PRIVATE_MOUNTS, "sh", "-c", self._MOUNT, "sh", ctr, tag, sys.executable], cwd=place)
        return (place / "tree").read_text().splitlines()


class CtrNative(Ctr):
    """Layer upon layer, each onto a copy of the whole tree."""

    name = "ctr, native"
    snapshotter = "native"

    def _look(self, ctr: str, place: Path, tag: str) -> Lines:
        # ctr 1.6 mounts with overlayfs whatever it is told, so the last of the copies is looked at where it lies.
        snapshots = place / "root" / "io.containerd.snapshotter.v1.native" / "snapshots"
        copies = sorted(snapshots.iterdir(), key=lambda path: int(path.name))
        return manifest(os.fsencode(copies[-1])) if copies else [_EMPTY]
