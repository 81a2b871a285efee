"""Every system call fails once: whatever it was, there is an error that says so, and nothing of the run is left.

One call in an unpack of an image with a bit of everything is made to fail, by turns the first of its kind, the second, one
in the middle, the last, each with by turns a full disk, a broken one, too many open files, Ctrl-C.  What may be tolerated
is a loss that the report counts; a run that says it is done has made the whole tree.  ``UNPACK_FAULTS=all`` fails every
call with everything, and takes an hour.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import (
    char,
    directory,
    fifo,
    file,
    hardlink,
    layer,
    opaque,
    sparse_pax,
    symlink,
    whiteout,
)
from tests.support.tree import diff, read
from unpacker.errors import UnpackError
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unpacker.events import Report

CALLS = (
    *("open", "mkdir", "symlink", "link", "mknod", "mkfifo", "readlink", "listdir", "scandir", "dup"),
    *("write", "lseek", "fsync", "chown", "fchown", "chmod", "fchmod", "utime", "setxattr"),
    *("rename", "unlink", "rmdir", "lstat", "stat", "fstat"),
)
FAULTS: tuple[int | type[BaseException], ...] = (
    *(errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EINTR, errno.EROFS),
    *(KeyboardInterrupt, MemoryError),
)
LAYERS = [
    [
        directory("etc", mode=0o750, xattrs={"user.d": b"d"}),
        file("etc/passwd", b"root", mode=0o644, uid=1, gid=1, xattrs={"user.x": b"x"}),
        hardlink("etc/later", "usr/lib/large"),
        file("usr/lib/large", bytes(range(256)) * 3000, mode=0o4755),
        hardlink("usr/lib/same", "usr/lib/large"),
        sparse_pax("usr/lib/sparse", [(0, b"x"), (1 << 20, b"y")], 2 << 20),
        symlink("lib", "usr/lib", uid=1),
        fifo("etc/fifo", mode=0o666, xattrs={"user.f": b"f"}),
        char("etc/null", 1, 3, mode=0o666),
        *[file(f"old/deep/er/{number}", b"old") for number in range(5)],
        *[directory("/".join(["nested"] * depth)) for depth in range(1, 70)],
    ],
    [
        whiteout("old/deep/er/0"),
        opaque("old/deep"),
        file("old/deep/new"),
        directory("etc", mode=0o755),
        file("etc/fifo"),
    ],
    [whiteout("nested"), file("lib/through", b"x"), hardlink("lib/passwd", "etc/passwd"), file("etc/passwd", b"new")],
]
ALL = os.environ.get("UNPACK_FAULTS") == "all"


class Injected:
    """Lets one call of one function fail; counts the calls."""

    def __init__(self, call: str, number: int, fault: int | type[BaseException]) -> None:
        self.call = call
        self.number = number
        self.fault = fault
        self.count = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        real = getattr(os, self.call)

        def failing(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count != self.number:
                return real(*arguments, **options)
            if not isinstance(self.fault, int):
                raise self.fault
            name = next((one for one in arguments if isinstance(one, str | bytes)), None)
            raise OSError(self.fault, os.strerror(self.fault), name)

        setattr(os, self.call, failing)
        try:
            yield
        finally:
            setattr(os, self.call, real)


class Place:
    """Where the same image is unpacked again and again."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path = path
        self.layout = path / "layout"
        self.dest = path / "dest"
        self.force = force
        write_layout(self.layout, [layer(*entries) for entries in LAYERS])
        self.reset()
        self.run()
        self.good = read(self.dest)
        self.reset()

    def reset(self) -> None:
        for path in (self.dest, self.layout / "labels"):
            if path.is_dir():
                shutil.rmtree(path)
        if self.force:
            self.dest.mkdir()
            (self.dest / "old").write_text("old")

    def run(self, call: str = "") -> Report:
        """Unpack; with the labels, which are synced to the disk, only where they are what is looked at."""
        return unpack(self.layout, self.dest, force=self.force, labels=call in ("fsync", "rename"))

    def is_as_before(self) -> bool:
        """Whether DEST is what it was before the run."""
        return os.listdir(self.dest) == ["old"] if self.force else not os.path.lexists(self.dest)


@pytest.fixture(scope="module", params=[False, True], ids=["new", "force"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("faults"), force=request.param)


def how_often(place: Place, call: str) -> int:
    """Count how often a run makes a call."""
    place.reset()
    counted = Injected(call, 0, 0)
    with counted.at_work():
        place.run(call)
    return counted.count


def chosen(count: int) -> list[int]:
    """Choose some of so many calls."""
    if ALL:
        return list(range(1, count + 1))
    return sorted({1, 2, count // 2, count} & set(range(1, count + 1)))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(call: str, place: Place) -> None:
    for turn, number in enumerate(chosen(how_often(place, call))):
        for fault in FAULTS if ALL else (FAULTS[turn % len(FAULTS)], FAULTS[(turn + 4) % len(FAULTS)]):
            _check(place, Injected(call, number, fault))


def _check(place: Place, injected: Injected) -> None:
    place.reset()
    threads, opened = threading.active_count(), descriptors()
    caught: BaseException | None = None
    report: Report | None = None
    with injected.at_work():
        try:
            report = place.run(injected.call)
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it is looked at
            caught = error.with_traceback(None)
    what = f"{injected.call} {injected.number}: {injected.fault}: {caught!r}"
    assert (threading.active_count(), descriptors()) == (threads, opened), what
    left = set(os.listdir(place.path)) - {"layout", "dest"}
    if caught is None:
        assert report is not None
        assert not left, what
        assert report.losses or not diff(place.good, read(place.dest)), what
    elif not place.is_as_before():
        # Too late to undo: DEST is there, whole, and only what was there before could not be removed.
        assert not diff(place.good, read(place.dest)), what
        for name in left:
            shutil.rmtree(place.path / name)
    else:
        assert not left, what
        _check_family(caught, injected, what)


def _check_family(caught: BaseException, injected: Injected, what: str) -> None:
    if not isinstance(injected.fault, int):
        assert type(caught) is injected.fault, what
        return
    assert isinstance(caught, UnpackError | OSError), what
    if isinstance(caught, OSError):
        assert caught.errno == injected.fault, what
        assert caught.strerror, what


def test_what_is_said_of_a_failing_call(place: Place) -> None:
    """At which entry of which layer it was."""
    place.reset()
    layers = {one.name for one in (place.layout / "blobs/sha256").iterdir()}
    for call in ("symlink", "mkfifo", "write"):
        place.reset()
        with Injected(call, 1, errno.EIO).at_work(), pytest.raises(OSError, match="Input/output error") as caught:
            place.run()
        entry, layer = caught.value.__notes__
        assert entry.startswith("entry '")
        assert layer.removeprefix("layer sha256:") in layers


def test_the_tree_is_one_that_uses_everything(place: Place) -> None:
    """Else the calls above would not be made."""
    assert {"file", "directory", "symlink"} <= {node.kind for node in place.good.values()}
    assert place.good[b"usr/lib/through"].content == b"x"
    unused = {call for call in CALLS if not how_often(place, call)}
    assert unused <= {"chown", "fchown"}, "which only the privileged make"
