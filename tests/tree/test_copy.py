"""Copies of files with all they have: where a hard link cannot be made, out of a store, up from a lower layer."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.probes import (
    needs_chown,
    needs_mknod,
    needs_nobody,
    needs_trusted_xattr,
    needs_user_xattr,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)
from tests.support.tree import diff, read
from tests.tree.support import Lost, descriptors, opened, umask
from unpacker.tree.attributes import KEPT_MODE, Applier
from unpacker.tree.copy import Copier, kept, xattrs
from unpacker.tree.owners import Owners
from unpacker.tree.rename import exchange

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THEN = 1_234_567_890_123_456_789
PROPERTY = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def copied(path: Path, *, mask: int = 0o022, renamed: Callable[[bytes], bytes | None] | None = None) -> Lost:
    """Copy ``one/thing`` to ``two/thing``."""
    lost = Lost()
    (path / "two").mkdir(exist_ok=True)
    copier = Copier(Applier(Owners(apply=True), lost, mask))
    before = descriptors()
    with umask(mask), opened(path / "one") as source, opened(path / "two") as directory:
        if renamed is None:
            copier.copy(source, b"thing", directory, b"thing", b"some/thing")
        else:
            copier.copy(source, b"thing", directory, b"thing", b"some/thing", renamed)
    assert descriptors() == before
    return lost


def same(path: Path) -> list[str]:
    """Say where the copy differs."""
    one, two = read(path / "one"), read(path / "two")
    del one[b"."], two[b"."]
    return diff(one, two)


@pytest.fixture
def thing(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    return tmp_path / "one" / "thing"


def finish(path: Path, mode: int | None = None) -> None:
    if mode is not None:
        path.chmod(mode)
    os.utime(path, ns=(THEN, THEN), follow_symlinks=False)


# -- kinds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
@pytest.mark.parametrize("mode", [0o644, 0o000, 0o4755, 0o7777, 0o666], ids=oct)
@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_modes_and_times_are_copied(kind: str, mode: int, mask: int, thing: Path, tmp_path: Path) -> None:
    """Whatever the umask."""
    if kind == "file":
        thing.write_bytes(b"content")
    else:
        os.mkfifo(thing)
    finish(thing, mode)
    if kind == "file" and not os.access(thing, os.R_OK):
        pytest.skip("missing: the right to read what nobody may (CAP_DAC_OVERRIDE)")
    assert copied(tmp_path, mask=mask) == []
    assert same(tmp_path) == []


@needs_chown
@needs_mknod
@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_owners_and_devices_are_copied(kind: int, thing: Path, tmp_path: Path) -> None:
    device = os.makedev(4000, 70_000) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    os.mknod(thing, kind | 0o600, device)
    os.chown(thing, 1000, 1001)
    finish(thing, 0o6711)
    assert copied(tmp_path) == []
    assert same(tmp_path) == []


@pytest.mark.parametrize(
    "target", [b"canary", b"nowhere", b"/", b"\xe9" * 4000], ids=["file", "nothing", "root", "long"]
)
def test_a_link_is_copied_and_not_followed(target: bytes, thing: Path, tmp_path: Path) -> None:
    (tmp_path / "one" / "canary").touch()
    before = (tmp_path / "one" / "canary").stat()
    os.symlink(target, thing)
    finish(thing)
    assert copied(tmp_path) == []
    assert os.readlink(os.fsencode(tmp_path / "two" / "thing")) == target
    assert (tmp_path / "two" / "thing").lstat().st_mtime_ns == THEN
    after = (tmp_path / "one" / "canary").stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def test_a_file_that_becomes_a_link_meanwhile_is_not_read(thing: Path, tmp_path: Path) -> None:
    """Another thread lets the file and a link to a secret trade places: the secret never comes into the copy."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "link").symlink_to("../secret")
    thing.write_bytes(b"open")
    ended = threading.Event()
    seen = set()
    with opened(tmp_path / "one") as source, opened(tmp_path / "two") as directory:

        def swap() -> None:
            while not ended.is_set():
                exchange(source, b"thing", source, b"link")

        thread = threading.Thread(target=swap)
        thread.start()
        copier = Copier(Applier(Owners(apply=True), Lost(), 0o022))
        made = tmp_path / "two" / "thing"
        end = time.monotonic() + 0.3
        try:
            while time.monotonic() < end:
                try:
                    copier.copy(source, b"thing", directory, b"thing", b"some/thing")
                    seen.add(b"link" if made.is_symlink() else made.read_bytes())
                except OSError as error:
                    seen.add(errno.errorcode[error.errno or 0].encode())
                made.unlink(missing_ok=True)
        finally:
            ended.set()
            thread.join()
    assert seen <= {b"link", b"open", b"ELOOP", b"EINVAL"}
    assert b"open" in seen


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_a_name_that_is_taken_stays(kind: str, thing: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thing").symlink_to("../canary")
    (tmp_path / "canary").write_bytes(b"untouched")
    make: dict[str, Callable[[], None]] = {
        "file": thing.touch,
        "link": lambda: thing.symlink_to("x"),
        "fifo": lambda: os.mkfifo(thing),
    }
    make[kind]()
    with pytest.raises(FileExistsError):
        copied(tmp_path)
    assert os.readlink(tmp_path / "two" / "thing") == "../canary"
    assert (tmp_path / "canary").read_bytes() == b"untouched"


def test_what_is_not_there_is_an_error(thing: Path, tmp_path: Path) -> None:
    assert not thing.exists()
    with pytest.raises(FileNotFoundError):
        copied(tmp_path)
    assert os.listdir(tmp_path / "two") == []


# -- data --------------------------------------------------------------------------------------------------------------


@PROPERTY
@given(parts=st.lists(st.tuples(st.booleans(), st.sampled_from([1, 4095, 4096, 10_000, 70_000])), max_size=6))
def test_any_holes_and_data_are_the_same(parts: list[tuple[bool, int]], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "thing").unlink(missing_ok=True)
    with open(tmp_path / "one" / "thing", "wb") as target:
        for is_data, size in parts:
            if is_data:
                target.write(b"x" * size)
            else:
                target.seek(size, os.SEEK_CUR)
        target.truncate()
    assert copied(tmp_path) == []
    assert (tmp_path / "two" / "thing").read_bytes() == (tmp_path / "one" / "thing").read_bytes()


def test_holes_stay_holes(thing: Path, tmp_path: Path) -> None:
    """A ``lastlog`` of hundreds of gigabytes is copied in no time, and takes no space."""
    with open(thing, "wb") as target:
        target.seek(1 << 40)
        target.write(b"end")
        target.truncate((1 << 40) + (1 << 20))
    if thing.stat().st_blocks > 1000:
        pytest.skip("missing: a filesystem with holes")
    assert copied(tmp_path) == []
    status = (tmp_path / "two" / "thing").stat()
    assert (status.st_size, status.st_blocks < 100) == ((1 << 40) + (1 << 20), True)
    with open(tmp_path / "two" / "thing", "rb") as made:
        made.seek((1 << 40) - 1)
        assert made.read(5) == b"\0end\0"


def test_a_copy_is_another_file(thing: Path, tmp_path: Path) -> None:
    thing.write_bytes(b"content")
    copied(tmp_path)
    (tmp_path / "two" / "thing").write_bytes(b"changed")
    assert thing.read_bytes() == b"content"


def test_to_another_filesystem(tmp_path: Path, quick_path: Path) -> None:
    """Where neither blocks can be shared nor, before Linux 5.19, ranges be copied."""
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    with open(tmp_path / "f", "rb") as source, open(quick_path / "f", "wb") as target:
        Copier(Applier(Owners(apply=True), Lost(), 0o022)).copy_data(source.fileno(), target.fileno())
    assert (quick_path / "f").read_bytes() == b"x" * 100_000


# -- extended attributes -----------------------------------------------------------------------------------------------


@needs_user_xattr
def test_xattrs_are_copied_and_renamed(thing: Path, tmp_path: Path) -> None:
    """A snapshot's own attributes have other names than an image's, or none."""
    thing.touch()
    for key, value in ((b"user.keep", b"\0\xff"), (b"user.change", b"2"), (b"user.drop", b"3"), (b"user.empty", b"")):
        os.setxattr(thing, key, value)
    new = {
        b"user.keep": b"user.keep",
        b"user.change": b"user.changed",
        b"user.drop": None,
        b"user.empty": b"user.empty",
    }
    assert copied(tmp_path, renamed=new.get) == []
    made = tmp_path / "two" / "thing"
    found = {os.fsencode(key): os.getxattr(made, key) for key in os.listxattr(made)}
    assert found == {b"user.keep": b"\0\xff", b"user.changed": b"2", b"user.empty": b""}


@needs_user_xattr
def test_xattrs_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert xattrs(os.fsencode(tmp_path / "f")) is None
    os.setxattr(tmp_path / "f", "user.a", b"1")
    (tmp_path / "link").symlink_to("f")
    assert xattrs(os.fsencode(tmp_path / "f")) == {b"user.a": b"1"}
    assert xattrs(os.fsencode(tmp_path / "link")) is None, "those of the link itself"
    with open(tmp_path / "f", "rb") as opened_file:
        assert xattrs(opened_file.fileno(), lambda name: b"new." + name) == {b"new.user.a": b"1"}


@needs_trusted_xattr
@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_xattrs_of_links_and_nodes(kind: str, thing: Path, tmp_path: Path) -> None:
    if kind == "link":
        thing.symlink_to("nowhere")
    else:
        os.mkfifo(thing)
    os.setxattr(thing, "trusted.a", b"1", follow_symlinks=False)
    finish(thing)
    assert copied(tmp_path) == []
    assert same(tmp_path) == []


@needs_user_xattr
@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (None, 0o640),
        (b"0000", 0o000),
        (b"4711", 0o4711),
        *[(text, 0o640) for text in (b"", b"711", b"00711", b"0999", b"-711", b"0o71", b" 711", b"0x71")],
    ],
)
def test_the_mode_that_a_store_could_not_keep(text: bytes | None, mode: int, tmp_path: Path) -> None:
    """A store without privilege keeps files readable, and beside them what they were; junk there says nothing."""
    path = os.fsencode(tmp_path / "f")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    os.setxattr(path, "user.a", b"1")
    if text is not None:
        os.setxattr(path, KEPT_MODE, text)
    assert kept(path, 0o640) == (mode, {b"user.a": b"1"})
    assert kept(path, 0o640, lambda _: None) == (mode, None)


MAKE = """
import os
with open("one", "wb") as file:
    file.write(b"content")
os.chmod("one", 0o4010)
"""
COPY = """
import os
from unpacker.tree.attributes import Applier
from unpacker.tree.copy import Copier
from unpacker.tree.owners import Owners
here = os.open(".", os.O_RDONLY)
before = len(os.listdir("/proc/self/fd"))
Copier(Applier(Owners(apply=False), print, 0o022)).copy(here, b"one", here, b"two", b"some/thing")
print(len(os.listdir("/proc/self/fd")) - before, *(oct(os.stat(name).st_mode) for name in ("one", "two")))
os.chmod("two", 0o400)
print(open("two").read())
"""


@needs_nobody
def test_a_file_that_its_owner_may_not_read_is_copied() -> None:
    """Where there are no hard links, one to such a file is a copy."""
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as place:
        said = run_as_nobody([python, "-c", MAKE + COPY], cwd=place).stdout.splitlines()

    assert said == ["0 0o104010 0o104010", "content"]


@needs_nobody
def test_a_file_that_somebody_else_has_closed_is_not_copied() -> None:
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as place:
        (place / "one").write_bytes(b"secret")
        (place / "one").chmod(0)
        said = run_as_nobody([python, "-c", COPY], cwd=place, check=False).stderr.splitlines()

        assert said[-1] == "PermissionError: [Errno 13] Permission denied: b'one'"
        assert stat.S_IMODE((place / "one").stat().st_mode) == 0
