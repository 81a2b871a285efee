"""Mounts of users without privilege: refused in words, and done in namespaces of their own."""

from __future__ import annotations

import os

from tests.snapshots.namespaces import in_user_namespace, needs_user_namespace, unprivileged_directory
from tests.support.probes import needs_nobody, needs_user_xattr, nobodys_directory, nobodys_python, run_as_nobody


@needs_nobody
def test_who_may_not_mount_is_told_what_it_takes() -> None:
    program = (
        "from unpacker.snapshots import mounting, mounts; from unpacker.errors import MountError\n"
        "for one in mounts.overlay_mount(['/etc', '/usr']), mounts.bind_mount('/etc', readonly=True):\n"
        "    try: mounting.mount([one], '/mnt')\n"
        "    except MountError as error: print(error, error.hint, sep=' | ')"
    )
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as place:
        said = run_as_nobody([python, "-c", program], cwd=place).stdout.splitlines()

    hint = "mounting needs CAP_SYS_ADMIN: run as root, or in namespaces of your own (unshare --map-root-user --mount)"
    assert said == [
        f"/mnt: mounting an overlay of 2 layers: Operation not permitted | {hint}",
        f"/mnt: binding '/etc': Operation not permitted | {hint}",
    ]


USER = """
import os, sys
from unpacker.snapshots.mounting import mount, unmount
from unpacker.snapshots.mounts import bind_mount, overlay_mount
for name in ("base/opaque", "base/merged", "top/opaque", "top/merged", "upper", "work", "at"):
    os.makedirs(name)
for name in ("base/opaque/gone", "base/merged/gone", "base/merged/kept", "top/merged/gone", "top/opaque/new"):
    open(name, "w").close()
os.setxattr("top/opaque", "user.overlay.opaque", b"y")
os.setxattr("top/merged", "user.overlay.opaque", b"x")
os.setxattr("top/merged/gone", "user.overlay.whiteout", b"")
mount([overlay_mount(["top", "base"], "upper", "work", userxattr=True)], "at")
print(sorted(os.listdir("at/opaque")), sorted(os.listdir("at/merged")))
os.unlink("at/merged/kept")
open("at/opaque/more", "w").close()
unmount("at")
print(os.lstat("upper/merged/kept").st_rdev, os.listdir("upper/opaque"))
mount([bind_mount("base", readonly=True)], "at")
try: open("at/new", "w")
except OSError as error: print(error.strerror)
unmount("at")
mount([overlay_mount([f"/proc/self/cwd/{name}" for name in ("top", "base")], userxattr=True)], "at")
print(sorted(os.listdir("at/opaque")))
"""


@needs_user_xattr
@needs_user_namespace
def test_root_of_a_user_namespace_mounts_with_markers_of_users() -> None:
    with unprivileged_directory() as place:
        said = in_user_namespace(USER, cwd=place).splitlines()

        assert said == ["['new'] ['kept']", "0 ['more']", "Read-only file system", "['new']"]
        assert os.listdir(place / "at") == []


NESTED = """
from unpacker.errors import MountError
from unpacker.snapshots import mounting, mounts, probe
from unpacker.tree.owners import IdMap
one = [IdMap(0, 0)]
try: mounting.mount([mounts.idmapped(mounts.bind_mount("/etc", readonly=True), one, one)], ".")
except MountError as error: print(str(error).partition(": ")[2])
print(probe.idmap_works("."))
"""


@needs_user_namespace
def test_root_of_a_user_namespace_may_not_map_the_hosts_files() -> None:
    with unprivileged_directory() as place:
        assert in_user_namespace(NESTED, cwd=place) == "binding '/etc': Operation not permitted\nFalse\n"
