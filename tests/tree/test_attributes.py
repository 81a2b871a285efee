"""Owner, extended attributes, mode and times: in the order that keeps them, never through a link, losses counted."""

from __future__ import annotations

import os
import re
import stat
import struct
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

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
from tests.tree.support import Lost, needs_hidden_proc, opened, run_without_proc, umask
from unpacker.errors import UnsafeEntryError
from unpacker.events import LossKind
from unpacker.spec.entry import Entry, Kind
from unpacker.tree.attributes import Applier, Attributes, implied
from unpacker.tree.owners import IdMap, Owners

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 10**9
THEN = 1_234_567_890_123_456_789
KEEP = Owners(apply=True)
NONE = Owners(apply=False)
MINE = (os.geteuid(), os.getegid())
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""The value of ``security.capability`` for cap_net_bind_service."""


def acl(*rules: tuple[int, int, int]) -> bytes:
    """Give the value of a POSIX ACL's attribute, from rules of tag, permissions and id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *rule) for rule in rules)


_ANY = 0xFFFFFFFF
ACL = acl((0x01, 6, _ANY), (0x02, 7, 1000), (0x04, 4, _ANY), (0x10, 7, _ANY), (0x20, 0, _ANY))
"""``user::rw- user:1000:rwx group::r-- mask::rwx other::---``: a mode of 0670, as the mask stands for the group."""


def entry(kind: Kind = Kind.FILE, **facts: object) -> Entry:
    made = Entry(kind, b"some/entry", 0)
    made.mode, made.mtime = 0o644, THEN
    made.uid, made.gid = MINE
    for key, value in facts.items():
        setattr(made, key, value)
    return made


def current_umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def finish_file(path: Path, wanted: Entry, owners: Owners = KEEP) -> Lost:
    """Make a file as staging does, and finish it."""
    lost = Lost()
    created = wanted.mode & 0o777
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, created)
    try:
        os.write(descriptor, b"data")
        Applier(owners, lost, current_umask()).file(descriptor, wanted, created)
    finally:
        os.close(descriptor)
    return lost


def finish_directory(path: Path, wanted: Attributes, owners: Owners = KEEP) -> Lost:
    lost = Lost()
    path.mkdir(0o700)
    with opened(path) as descriptor:
        Applier(owners, lost, current_umask()).directory(descriptor, wanted, lambda: b"some/directory")
    return lost


def finish_special(path: Path, wanted: Entry, owners: Owners = KEEP) -> Lost:
    """Make a symlink, fifo or device as staging does, and finish it."""
    lost = Lost()
    with opened(path.parent) as directory:
        if wanted.kind is Kind.SYMLINK:
            path.symlink_to(os.fsdecode(wanted.link))
        elif wanted.kind is Kind.FIFO:
            os.mkfifo(path, wanted.mode & 0o777)
        else:
            kind = stat.S_IFCHR if wanted.kind is Kind.CHARACTER else stat.S_IFBLK
            os.mknod(path, kind | wanted.mode & 0o777, os.makedev(*wanted.device))
        Applier(owners, lost, current_umask()).special(directory, os.fsencode(path.name), wanted)
    return lost


def can_set(name: str, value: bytes, path: Path) -> bool:
    probe = path / "probe"
    probe.touch()
    try:
        os.setxattr(probe, name, value)
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


# -- mode --------------------------------------------------------------------------------------------------------------

MODES = [0o644, 0o755, 0o000, 0o777, 0o4755, 0o2755, 0o1777, 0o7777, 0o4000, 0o066]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", MODES, ids=oct)
def test_the_umask_takes_nothing(mode: int, mask: int, tmp_path: Path) -> None:
    with umask(mask):
        lost = finish_file(tmp_path / "file", entry(mode=mode))
        lost += finish_special(tmp_path / "fifo", entry(Kind.FIFO, mode=mode))
    lost += finish_directory(tmp_path / "directory", Attributes(mode, *MINE, THEN))
    for made in tmp_path.iterdir():
        status = made.lstat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (mode, THEN), made.name
    assert lost == []


@needs_chown
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711], ids=oct)
def test_setuid_survives_the_owner(mode: int, tmp_path: Path) -> None:
    """Chown clears it, so the mode comes after the owner."""
    finish_file(tmp_path / "file", entry(mode=mode, uid=1000, gid=1001))
    finish_directory(tmp_path / "directory", Attributes(mode, 1000, 1001, THEN))
    finish_special(tmp_path / "fifo", entry(Kind.FIFO, mode=mode, uid=1000, gid=1001))
    for made in tmp_path.iterdir():
        status = made.lstat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, 1000, 1001), made.name


@needs_chown
def test_a_capability_survives_the_owner(tmp_path: Path) -> None:
    """Chown clears it, too (a known way to lose it), and writing does."""
    if not can_set("security.capability", CAPABILITY, tmp_path):
        pytest.skip("missing: the right to set file capabilities (CAP_SETFCAP)")
    wanted = entry(mode=0o755, uid=1000, gid=1000, xattrs={b"security.capability": CAPABILITY})
    assert finish_file(tmp_path / "file", wanted) == []
    assert os.getxattr(tmp_path / "file", "security.capability") == CAPABILITY


@pytest.mark.parametrize("mode", [0o670, 0o640])
def test_the_mode_is_the_entrys_whatever_its_acl_says(mode: int, tmp_path: Path) -> None:
    """Setting an ACL changes the mode, so the mode comes last; its group bits are the ACL's mask."""
    if not can_set("system.posix_acl_access", ACL, tmp_path):
        pytest.skip("missing: a filesystem with ACLs")
    wanted = entry(mode=mode, xattrs={b"system.posix_acl_access": ACL})
    assert finish_file(tmp_path / "file", wanted) == []
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    found = os.getxattr(tmp_path / "file", "system.posix_acl_access")
    assert found == (ACL if mode == 0o670 else ACL.replace(struct.pack("<HH", 0x10, 7), struct.pack("<HH", 0x10, 4)))


def test_a_default_acl_is_the_directorys_alone(tmp_path: Path) -> None:
    if not can_set("system.posix_acl_access", ACL, tmp_path):
        pytest.skip("missing: a filesystem with ACLs")
    wanted = Attributes(0o750, *MINE, THEN, {b"system.posix_acl_default": ACL})
    assert finish_directory(tmp_path / "directory", wanted) == []
    assert os.getxattr(tmp_path / "directory", "system.posix_acl_default") == ACL
    assert os.listxattr(tmp_path) == []


# -- owner -------------------------------------------------------------------------------------------------------------


@needs_chown
@pytest.mark.parametrize("ids", [(0, 0), (1, 2), (65534, 65534), (2**31, 2**32 - 2)])
def test_owners_of_every_kind(ids: tuple[int, int], tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    finish_file(tmp_path / "file", entry(uid=ids[0], gid=ids[1]))
    finish_directory(tmp_path / "directory", Attributes(0o755, *ids, THEN))
    finish_special(tmp_path / "fifo", entry(Kind.FIFO, uid=ids[0], gid=ids[1]))
    finish_special(tmp_path / "link", entry(Kind.SYMLINK, link=b"target", uid=ids[0], gid=ids[1]))
    for name in ("file", "directory", "fifo", "link"):
        status = (tmp_path / name).lstat()
        assert (status.st_uid, status.st_gid) == ids
    assert (target.stat().st_uid, target.stat().st_gid) == MINE


def test_an_owner_that_is_not_to_be_set_is_a_loss(tmp_path: Path) -> None:
    lost = finish_file(tmp_path / "file", entry(uid=MINE[0] + 1), NONE)
    lost += finish_directory(tmp_path / "directory", Attributes(0o755, MINE[0], MINE[1] + 7, THEN), NONE)
    assert [(kind, path) for kind, path, _ in lost] == [
        (LossKind.OWNER, b"some/entry"),
        (LossKind.OWNER, b"some/directory"),
    ]
    assert lost[0][2] == f"owner {MINE[0] + 1}:{MINE[1]} not set"
    assert (tmp_path / "file").stat().st_uid == MINE[0]


def test_an_owner_that_nobody_asked_for_is_no_loss(tmp_path: Path) -> None:
    """``--owner self`` says so."""
    owners = Owners(apply=False, counted=False)
    assert finish_file(tmp_path / "file", entry(uid=MINE[0] + 1), owners) == []
    assert (tmp_path / "file").stat().st_uid == MINE[0]


def test_the_callers_own_files_are_no_loss(tmp_path: Path) -> None:
    assert finish_file(tmp_path / "file", entry(), NONE) == []
    assert finish_directory(tmp_path / "directory", Attributes(0o755, *MINE, THEN), NONE) == []


@needs_chown
def test_owners_are_mapped(tmp_path: Path) -> None:
    owners = Owners(apply=True, uid_map=[IdMap(0, 100_000, 65536)], gid_map=[IdMap(5, 7)])
    finish_file(tmp_path / "file", entry(uid=33, gid=5), owners)
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid) == (100_033, 7)
    with pytest.raises(UnsafeEntryError, match="gid 6 is in no range of --gid-map"):
        finish_file(tmp_path / "other", entry(uid=33, gid=6), owners)


# -- extended attributes -----------------------------------------------------------------------------------------------


@needs_user_xattr
def test_xattrs_hold_any_bytes(tmp_path: Path) -> None:
    wanted = {b"user.a": b"\0=\n\xff", b"user.empty": b"", b"user.\xe9": b"x" * 1000}
    assert finish_file(tmp_path / "file", entry(mode=0o400, xattrs=wanted)) == []
    assert finish_directory(tmp_path / "directory", Attributes(0o500, *MINE, THEN, wanted)) == []
    for name in ("file", "directory"):
        made = tmp_path / name
        assert {os.fsencode(key): os.getxattr(made, key) for key in os.listxattr(made)} == wanted
        assert made.stat().st_mtime_ns == THEN


@needs_trusted_xattr
@pytest.mark.parametrize("kind", [Kind.SYMLINK, Kind.FIFO])
def test_xattrs_of_links_and_nodes(kind: Kind, tmp_path: Path) -> None:
    """On the link itself: what it leads to keeps none."""
    (tmp_path / "target").touch()
    wanted = entry(kind, link=b"target", xattrs={b"trusted.a": b"1"})
    assert finish_special(tmp_path / "made", wanted) == []
    assert os.getxattr(tmp_path / "made", "trusted.a", follow_symlinks=False) == b"1"
    assert os.listxattr(tmp_path / "target") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(b"nonsense.a", b"1", id="no such namespace"),
        pytest.param(b"user." + b"n" * 251, b"1", id="a name over 255 bytes"),
        pytest.param(b"user.a", b"x" * (65 << 10), id="a value over 64 KiB"),
        pytest.param(b"security.capability", b"junk", id="a capability that is none"),
        pytest.param(b"system.posix_acl_access", b"junk", id="an ACL that is none"),
        pytest.param(b"user.", b"1", id="a prefix alone"),
    ],
)
def test_an_xattr_that_is_refused_is_a_loss(name: bytes, value: bytes, tmp_path: Path) -> None:
    """The next one is set all the same, and so is the rest."""
    wanted = entry(mode=0o751, xattrs={name: value, b"user.b": b"2"})
    lost = finish_file(tmp_path / "file", wanted)
    assert set(lost.kinds) == {LossKind.XATTR}
    kind, path, reason = lost[0]
    assert (kind, path) == (LossKind.XATTR, b"some/entry")
    assert reason.startswith(name.decode() + ": ")
    if len(lost) == 1:
        assert os.getxattr(tmp_path / "file", "user.b") == b"2"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o751


def test_a_user_xattr_of_a_link_is_a_loss(tmp_path: Path) -> None:
    """Linux has them for files and directories only."""
    lost = finish_special(tmp_path / "link", entry(Kind.SYMLINK, link=b"target", xattrs={b"user.a": b"1"}))
    assert lost.kinds == [LossKind.XATTR]
    assert (tmp_path / "link").lstat().st_mtime_ns == THEN


# -- times -------------------------------------------------------------------------------------------------------------

TIMES = [
    pytest.param(0, id="1970"),
    pytest.param(1, id="a nanosecond later"),
    pytest.param(-1, id="a nanosecond before"),
    pytest.param(-3 * SECOND // 2, id="1969, with a fraction"),
    pytest.param(-(2**31) * SECOND, id="1901, the least of 32 bits"),
    pytest.param(-(2**31) * SECOND - 1, id="less than that"),
    pytest.param((2**31 - 1) * SECOND + 999_999_999, id="2038, the most of 31 bits"),
    pytest.param(2**31 * SECOND, id="more than that"),
    pytest.param(2**32 * SECOND, id="2106"),
    pytest.param(13_569_465_600 * SECOND, id="2400"),
    pytest.param((2**34 - 2**31 - 1) * SECOND, id="2446, the most of ext4"),
    pytest.param((2**34 - 2**31) * SECOND, id="more than that of ext4"),
    pytest.param(2**40 * SECOND, id="year 36812"),
    pytest.param(-(2**40) * SECOND, id="before history"),
    pytest.param((2**63 - 1) * SECOND, id="the most of 63 bits"),
    pytest.param(2**88 * SECOND, id="the most that a header holds"),
    pytest.param(-(2**95) * SECOND, id="the least that a header holds"),
]


@pytest.mark.parametrize("time", TIMES)
def test_a_time_is_kept_or_a_loss(time: int, tmp_path: Path) -> None:
    """What filesystems hold differs; what they clamp is said."""
    made = {
        "file": finish_file(tmp_path / "file", entry(mtime=time)),
        "fifo": finish_special(tmp_path / "fifo", entry(Kind.FIFO, mtime=time)),
        "link": finish_special(tmp_path / "link", entry(Kind.SYMLINK, link=b"nowhere", mtime=time)),
        "directory": finish_directory(tmp_path / "directory", Attributes(0o755, *MINE, time)),
    }
    for name, lost in made.items():
        kept = (tmp_path / name).lstat().st_mtime_ns == time
        assert lost.kinds == ([] if kept else [LossKind.MTIME]), name
        assert kept or not 0 <= time < 2**31 * SECOND
    for lost in made.values():
        for _, path, reason in lost:
            assert path.startswith(b"some/")
            assert re.fullmatch(r"time -?\d+(\.\d+)? s became -?\d+(\.\d+)? s", reason)


# -- never through a link, never by opening ----------------------------------------------------------------------------


@needs_chown
def test_nothing_of_a_symlink_reaches_its_target(tmp_path: Path) -> None:
    """Chmod through a link was containerd's CVE-2021-32760."""
    canary = tmp_path / "canary"
    canary.write_bytes(b"untouched")
    canary.chmod(0o600)
    before = canary.stat()
    wanted = entry(Kind.SYMLINK, link=b"canary", mode=0o4777, uid=1000, gid=1000, mtime=5, xattrs={b"trusted.a": b"1"})
    finish_special(tmp_path / "link", wanted)
    after = canary.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)
    assert after.st_ctime_ns == before.st_ctime_ns, "nor was anything else of its inode touched"
    status = (tmp_path / "link").lstat()
    assert (status.st_uid, status.st_mtime_ns) == (1000, 5)


@pytest.mark.parametrize("kind", [Kind.FIFO, Kind.CHARACTER])
def test_a_node_that_became_a_symlink_meanwhile_leads_nowhere(kind: Kind, tmp_path: Path) -> None:
    """Another process of the caller may replace it at any moment: its link is not followed then, either."""
    canary = tmp_path / "canary"
    canary.touch(0o600)
    before = canary.stat()
    (tmp_path / "swapped").symlink_to("canary")
    with opened(tmp_path) as directory, pytest.raises(OSError, match="not supported"):
        Applier(KEEP, Lost(), 0o022).special(directory, b"swapped", entry(kind, mode=0o4777, mtime=5))
    after = canary.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


@needs_mknod
@pytest.mark.parametrize("device", [(1, 3), (4095, 2**20 - 1), (0, 0)])
@pytest.mark.parametrize("kind", [Kind.CHARACTER, Kind.BLOCK])
def test_devices_are_never_opened(kind: Kind, device: tuple[int, int], tmp_path: Path) -> None:
    """There is no driver for most of them: opening would fail with ENXIO."""
    finish_special(tmp_path / "node", entry(kind, mode=0o6666, device=device, uid=5, gid=6))
    status = (tmp_path / "node").lstat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime_ns) == (0o6666, 5, THEN)
    assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == device


# -- without privilege -------------------------------------------------------------------------------------------------

UNPRIVILEGED = textwrap.dedent("""
    import os, sys
    from unpacker.spec.entry import Entry, Kind
    from unpacker.tree.attributes import Applier, Attributes
    from unpacker.tree.owners import Owners
    from unpacker.tree.probe import umask

    entry = Entry(Kind.FILE, b"f", 0)
    entry.mode, entry.uid, entry.gid = 0o6755, 0, 42
    entry.xattrs = {b"trusted.a": b"1", b"security.capability": b"junk"}
    descriptor = os.open("f", os.O_WRONLY | os.O_CREAT, 0o755)
    applier = Applier(Owners(apply=True, required=sys.argv[1] == "keep"), lambda *loss: print(loss[0], loss[1]), umask())
    applier.file(descriptor, entry, 0o755)
    os.mkdir("d")
    wanted = Attributes(0o000, 0, 0, 5)
    applier.directory(os.open("d", os.O_RDONLY), wanted, lambda: b"d")
    print(oct(os.stat("f").st_mode), oct(os.stat("d").st_mode), os.stat("d").st_mtime_ns)
""")


@needs_nobody
def test_what_nobody_may_not_do_is_counted() -> None:
    with nobodys_directory() as place:
        done = run_as_nobody([nobodys_python() or "", "-c", UNPRIVILEGED, "auto"], cwd=place)
    assert done.stdout.splitlines() == [
        "owner b'f'",
        "xattr b'f'",
        "xattr b'f'",
        "owner b'd'",
        "0o106755 0o40000 5",
    ]


@needs_nobody
def test_an_owner_that_must_be_kept_is_an_error() -> None:
    with nobodys_directory() as place:
        done = run_as_nobody([nobodys_python() or "", "-c", UNPRIVILEGED, "keep"], cwd=place, check=False)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


# -- implied directories -----------------------------------------------------------------------------------------------


def test_what_no_entry_speaks_of_is_roots_of_1970() -> None:
    """The same for every image: a builder's time of day is nowhere in it."""
    found = implied()
    assert (found.mode, found.uid, found.gid, found.mtime, found.xattrs) == (0o755, 0, 0, 0, None)
    assert implied() is not implied(), "they are changed by whoever gets one"


def test_attributes_of_an_entry() -> None:
    wanted = entry(Kind.DIRECTORY, mode=0o1777, uid=3, gid=4, xattrs={b"user.a": b"1"})
    found = Attributes.of(wanted)
    assert (found.mode, found.uid, found.gid, found.mtime, found.xattrs) == (0o1777, 3, 4, THEN, {b"user.a": b"1"})


SETGID = textwrap.dedent("""
    import os
    from unpacker.spec.entry import Entry, Kind
    from unpacker.tree.attributes import Applier, Attributes
    from unpacker.tree.owners import Owners

    applier = Applier(Owners(apply=True), lambda *loss: print(*loss), 0o022)
    for gid in (0, 42):
        entry = Entry(Kind.FILE, b"f", 0)
        entry.mode, entry.gid = 0o2755, gid
        applier.file(os.open(f"f{gid}", os.O_WRONLY | os.O_CREAT, 0o755), entry, 0o755)
        entry = Entry(Kind.FIFO, b"p", 0)
        entry.mode, entry.gid = 0o2755, gid
        os.mkfifo(f"p{gid}")
        applier.special(os.open(".", os.O_RDONLY), b"p%d" % gid, entry)
        os.mkdir(f"d{gid}")
        applier.directory(os.open(f"d{gid}", os.O_RDONLY), Attributes(0o2755, 0, gid, 0), lambda: b"d")
""")


@needs_chown
def test_setgid_that_the_kernel_takes_away_is_a_loss(tmp_path: Path) -> None:
    """Without CAP_FSETID it does so in silence, unless the caller is in the group."""
    drop = ["--inh-caps=-fsetid", "--bounding-set=-fsetid", "--clear-groups"]
    try:
        command = ["setpriv", *drop, sys.executable, "-c", SETGID]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("missing: setpriv")
    assert done.stdout.splitlines() == [f"mode b'{name}' setgid not set: you are not in group 42" for name in "fpd"]
    assert {(made.name[1:], oct(made.stat().st_mode & 0o7777)) for made in tmp_path.iterdir()} == {
        ("0", "0o2755"),
        ("42", "0o755"),
    }


WITHOUT_PROC = textwrap.dedent("""
    import os
    from unpacker.spec.entry import Entry, Kind
    from unpacker.tree.attributes import Applier
    from unpacker.tree.owners import Owners

    entry = Entry(Kind.FIFO, b"p", 0)
    entry.mode, entry.mtime, entry.xattrs = 0o1666, 5, {b"trusted.a": b"1"}
    os.mkfifo("p")
    Applier(Owners(apply=True), lambda *loss: print(*loss), 0o022).special(os.open(".", os.O_RDONLY), b"p", entry)
    print(os.stat("p").st_mtime_ns)
""")


@needs_hidden_proc
def test_without_proc_what_needs_it_is_a_loss(tmp_path: Path) -> None:
    """A small chroot may have none; all else is applied."""
    done = run_without_proc(WITHOUT_PROC, tmp_path)
    assert (done.stdout.splitlines(), done.stderr) == (
        ["xattr b'p' trusted.a: no /proc is mounted", "mode b'p' no /proc is mounted", "5"],
        "",
    )
