"""The contenders: ``unpack`` and what else makes files out of an image, each as one command.

A contender says why it cannot run here, gets ready outside the measured time, and names the command that is measured.
What the others leave out is said in `Contender.remark`, since it decides what the numbers mean.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmarks.containerd import Containerd
from benchmarks.image import TAG, Compression, Image
from benchmarks.place import remove

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).parents[1]
PRIVATE_MOUNTS = ["unshare", "--mount", "--propagation", "private"]
"""Runs the rest in a mount namespace of its own, so that no mount outlives it."""


class Contender:
    """Something that unpacks an image into an empty directory."""

    name: ClassVar[str]
    remark: ClassVar[str]
    needs: ClassVar[Sequence[str]] = ()
    """The programs it is made of."""
    root: ClassVar[bool] = False
    """Whether it is only run by root: rootless, it would work in another way and leave files that cannot be removed."""
    shows_tree: ClassVar[bool] = True
    """Whether the target is the image's file tree, whose entries can be counted."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.source = f"{image.layout}:{TAG}"

    def why_not(self) -> str | None:
        """Say why it cannot run here; None if it can."""
        missing = [program for program in self.needs if shutil.which(program) is None]
        if missing:
            return f"not installed: {', '.join(missing)}"
        if self.root and os.geteuid() != 0:
            return "needs root"
        return None

    def version(self) -> str:
        """Give the first line of what the program says about its version."""
        return "; ".join(first_line([program, "--version"]) for program in self.needs)

    def command(self, target: Path) -> list[str]:
        """Give the argument vector that unpacks the image below a new empty directory."""
        raise NotImplementedError

    def environment(self, target: Path) -> dict[str, str]:
        """Give the environment of the command: ours, with temporary files on the file system that is measured."""
        return {**os.environ, "TMPDIR": str(target)}

    @contextmanager
    def ready(self, target: Path) -> Iterator[int | None]:
        """Get ready for one run, outside the measured time; give the process id of a server, if one is needed."""
        (target / "root").mkdir()
        yield None


def first_line(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "unknown")


class Unpack(Contender):
    """This project, as a whole process: the start of the interpreter and all imports included."""

    name = "unpack"
    remark = "this project: every byte verified, whiteouts applied, labels written, a first run each time"

    SCRIPT = Path(sys.executable).with_name("unpack")

    @classmethod
    def program(cls) -> list[str]:
        """Prefer the installed command next to this interpreter."""
        return [str(cls.SCRIPT)] if cls.SCRIPT.exists() else [sys.executable, "-m", "unpacker", "unpack"]

    def version(self) -> str:
        done = subprocess.run(
            [*self.program(), "--version"], capture_output=True, text=True, check=False, env=self.environment(PROJECT)
        )
        return done.stdout.strip() or "unknown"

    def command(self, target: Path) -> list[str]:
        return [*self.program(), "-q", self.source, str(target / "root")]

    def environment(self, target: Path) -> dict[str, str]:
        if self.SCRIPT.exists():  # what is installed is measured, and not this checkout
            return super().environment(target)
        paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
        return {**super().environment(target), "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    @contextmanager
    def ready(self, target: Path) -> Iterator[int | None]:
        del target  # it makes its own directory
        remove(self.image.layout / "labels")  # what an earlier run has learned about this image
        yield None


class Umoci(Contender):
    name = "umoci"
    remark = "umoci raw unpack: verifies, applies whiteouts"
    needs = ("umoci",)

    def command(self, target: Path) -> list[str]:
        rootless = [] if os.geteuid() == 0 else ["--rootless"]
        return ["umoci", "raw", "unpack", *rootless, "--image", self.source, str(target / "root")]

    @contextmanager
    def ready(self, target: Path) -> Iterator[int | None]:
        del target  # it makes its own directory
        yield None


# -- pipelines ---------------------------------------------------------------------------------------------------------


class Pipeline(Contender):
    """All layers in order through a decompressor into GNU tar, as in a shell script."""

    decompresses: ClassVar[Compression]

    def why_not(self) -> str | None:
        if self.decompresses not in self.image.compressions:
            return f"no {self.decompresses} layer in this image"
        others = [kind for kind in self.image.compressions if kind not in ("none", self.decompresses)]
        return f"the image has {', '.join(others)} layers too" if others else super().why_not()

    def command(self, target: Path) -> list[str]:
        steps = []
        for layer in self.image.layers:
            program = "cat" if layer.compression == "none" else f"{self.needs[0]} -dc"
            steps.append(f"{program} {shlex.quote(str(layer.ended))} | {tar(target)} -f -")
        return shell(steps)


def tar(target: Path) -> str:
    """Give GNU tar with all that ``unpack`` does for an entry, and without whiteouts, which it does not know."""
    options = "--numeric-owner --xattrs --xattrs-include='*' --exclude='.wh.*'"
    return f"tar -x -p {options} -C {shlex.quote(str(target / 'root'))}"


def shell(steps: Sequence[str]) -> list[str]:
    """Give one shell that stops at the first step that fails."""
    return ["sh", "-c", " && ".join(steps)]


class Igzip(Pipeline):
    name = "igzip"
    remark = "igzip -dc | tar -x, layer by layer: verifies nothing, leaves whiteouts out"
    needs = ("igzip", "tar")
    decompresses = "gzip"


class Pigz(Pipeline):
    name = "pigz"
    remark = "pigz -dc | tar -x: the same"
    needs = ("pigz", "tar")
    decompresses = "gzip"


class Gzip(Pipeline):
    name = "gzip"
    remark = "gzip -dc | tar -x: the same"
    needs = ("gzip", "tar")
    decompresses = "gzip"


class Zstd(Pipeline):
    name = "zstd"
    remark = "zstd -dc | tar -x: verifies nothing, leaves whiteouts out"
    needs = ("zstd", "tar")
    decompresses = "zstd"


class Bsdtar(Contender):
    name = "bsdtar"
    remark = "bsdtar -x, which decompresses in the same process: verifies nothing, leaves whiteouts out"
    needs = ("bsdtar",)

    def command(self, target: Path) -> list[str]:
        options = f"-x -p --numeric-owner --exclude '.wh.*' -C {shlex.quote(str(target / 'root'))}"
        return shell([f"bsdtar {options} -f {shlex.quote(str(layer.ended))}" for layer in self.image.layers])


class PlainTar(Contender):
    name = "tar"
    remark = "tar -x of layers that were decompressed beforehand: a floor, for it neither decompresses nor verifies"
    needs = ("tar",)

    def command(self, target: Path) -> list[str]:
        return shell([f"{tar(target)} -f {shlex.quote(str(layer.tar))}" for layer in self.image.layers])


# -- stores ------------------------------------------------------------------------------------------------------------


class ContainersStorage(Contender):
    """A new store each time, with the overlay driver; temporary copies of the layers are theirs."""

    root = True
    shows_tree = False
    REMAINS = tuple(
        Path(path)
        for path in (
            "/var/lib/containers/cache/blob-info-cache-v1.boltdb",
            "/var/lib/containers/cache",
            "/var/lib/containers",
            "/run/containers/networks",
            "/run/containers",
        )
    )
    """What these programs make outside of the store that they are told to use; no option prevents it."""

    @contextmanager
    def ready(self, target: Path) -> Iterator[int | None]:
        del target  # the store is made by the program
        new = [path for path in self.REMAINS if not path.exists()]
        try:
            yield None
        finally:
            # Never a tree: whoever else has begun to use one of them keeps it.
            for path in new:
                with suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()


class Skopeo(ContainersStorage):
    name = "skopeo"
    remark = "skopeo copy into a new containers-storage (overlay): verifies; layers stay apart"
    needs = ("skopeo", "unshare")

    def command(self, target: Path) -> list[str]:
        store = f"containers-storage:[overlay@{target / 'root'}+{target / 'run'}]localhost/bench:{TAG}"
        return [*PRIVATE_MOUNTS, "skopeo", "--insecure-policy", "copy", "-q", f"oci:{self.source}", store]


class Buildah(ContainersStorage):
    name = "buildah"
    remark = "buildah from into a new containers-storage (overlay): verifies; layers stay apart"
    needs = ("buildah", "unshare")

    def command(self, target: Path) -> list[str]:
        store = ["--root", str(target / "root"), "--runroot", str(target / "run"), "--storage-driver", "overlay"]
        # It makes the name of the image from the path, which must then be lower case and the like: a relative one is.
        layout = self.image.layout
        return [*PRIVATE_MOUNTS, f"--wd={layout.parent}", "buildah", *store, "from", "-q", f"oci:{layout.name}:{TAG}"]


class Ctr(Contender):
    name = "ctr"
    remark = "ctr images import into a new containerd (overlayfs): copies blobs, verifies; layers stay apart"
    needs = ("containerd", "ctr", "tar", "unshare")
    root = True
    shows_tree = False

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self._archive = image.layout.parent / "image.tar"
        self._socket = ""

    def command(self, target: Path) -> list[str]:
        del target  # the server knows where
        options = ["--snapshotter", "overlayfs", "--base-name", "localhost/bench"]
        return ["ctr", "-a", self._socket, "-n", "bench", "images", "import", *options, str(self._archive)]

    @contextmanager
    def ready(self, target: Path) -> Iterator[int | None]:
        if not self._archive.exists():
            names = ["oci-layout", "index.json", "blobs"]
            subprocess.run(["tar", "-cf", str(self._archive), "-C", str(self.image.layout), *names], check=True)
        with Containerd(target, prefix=PRIVATE_MOUNTS) as server:
            self._socket = str(server.socket)
            yield server.pid


EVERYONE: tuple[type[Contender], ...] = (
    Unpack,
    Igzip,
    Pigz,
    Gzip,
    Zstd,
    Bsdtar,
    PlainTar,
    Umoci,
    Skopeo,
    Buildah,
    Ctr,
)
