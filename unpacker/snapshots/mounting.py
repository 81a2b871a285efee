"""Mounting and unmounting by system calls: no program is run for it, and the current directory of nobody changes.

Each mount is tried in two ways: as `unpacker.snapshots.by_descriptor` has it, and where the kernel, or a sandbox around
the caller, cannot do that, as `unpacker.snapshots.by_name` does.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from unpacker.errors import MountError, quoted
from unpacker.snapshots import by_descriptor, by_name, kernel
from unpacker.snapshots.by_descriptor import OPEN_PLACE
from unpacker.snapshots.idmaps import user_namespace
from unpacker.snapshots.options import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from unpacker.snapshots.mounts import Mount
    from unpacker.snapshots.options import Request

    Path = str | os.PathLike[str]

# What the newer calls say where the kernel lacks them, or a sandbox holds them back; EINVAL is what overlayfs says to a
# descriptor before Linux 6.13, and to layers with mapped owners, whose mounts are nowhere yet, before 6.15.
_TRY_THE_OLDER = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.ENOTSUP})
_ADVICE = {
    errno.EPERM: "mounting needs CAP_SYS_ADMIN: run as root, or in namespaces of your own"
    " (unshare --map-root-user --mount)",
    errno.ENODEV: "load overlayfs (modprobe overlay), or copy the files out instead of mounting them",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_OVERLAY_REASONS = {
    errno.ENODEV: "this kernel has no overlayfs",
    errno.ELOOP: "two of the directories are one, or one lies inside another",
    errno.EBUSY: "the upper or the work directory is in use by another overlay",
    errno.ESTALE: "the upper directory belongs to other lower ones",
}
_UNMOUNT_REASONS = {
    errno.EINVAL: ("nothing is mounted there that you may unmount", None),
    errno.EBUSY: ("it is in use", "end what uses it (fuser -m shows it), or unmount lazily"),
}
_OVERLAY_RULES = (
    "upper and work must lie beside each other on one filesystem that has extended attributes and is no overlay itself;"
    " the kernel's log (dmesg) says which rule was broken"
)


# -- mounting ----------------------------------------------------------------------------------------------------------


def mount(mounts: Iterable[Mount], target: Path) -> None:
    """Mount all of them at a directory, or none.

    Raises:
        MountError: The kernel refuses.
        UnsupportedError, UsageError: It is no mount that can be read, see `unpacker.snapshots.options.read`.
    """
    requests = [read(one) for one in mounts]
    place = os.path.realpath(target)
    done: list[Request] = []
    try:
        for request in requests:
            _mount(request, place)
            done.append(request)
    except BaseException:
        _unmount_all(done, place)
        raise


def _mount(request: Request, place: str) -> None:
    point = _point(request, place)
    with _explained(request, point), ExitStack() as stack:
        directory = stack.enter_context(_opened(place, request.target))
        namespace = None
        if request.uid_map:
            namespace = stack.enter_context(user_namespace(request.uid_map, request.gid_map))
        overlay = request.type == "overlay"
        try:
            made = by_descriptor.overlay(request, namespace) if overlay else by_descriptor.bind(request, namespace)
        except OSError as error:
            if error.errno not in _TRY_THE_OLDER or (namespace is not None and not overlay):
                raise
            try:
                by_name.overlay(request, point, namespace) if overlay else by_name.bind(request, point)
            except OSError as again:
                # The newer calls say more, but for what they lack.
                more = again.errno == error.errno and "'lowerdir+'" not in (error.strerror or "")
                raise (error if more else again) from None
        else:
            stack.callback(os.close, made)
            kernel.attach(made, directory)


@contextmanager
def _opened(place: str, inside: str) -> Iterator[int]:
    """Open the directory to mount at; below the place, which an image may have filled, no symlink is followed."""
    descriptor = os.open(place, OPEN_PLACE)
    try:
        for name in filter(None, inside.split("/")):
            if name == "..":
                raise OSError(errno.EINVAL, "the target climbs out")
            deeper = os.open(name, OPEN_PLACE | os.O_NOFOLLOW, dir_fd=descriptor)
            os.dup2(deeper, descriptor, inheritable=False)
            os.close(deeper)
        yield descriptor
    finally:
        os.close(descriptor)


def _point(request: Request, place: str) -> str:
    return os.path.join(place, request.target) if request.target else place


# -- unmounting --------------------------------------------------------------------------------------------------------


def unmount(target: Path, *, lazy: bool = False) -> None:
    """Unmount what is mounted last at a directory.

    Args:
        target: The directory.
        lazy: Take it away even while it is in use; whoever uses it keeps it until done.

    Raises:
        MountError: The kernel refuses.
    """
    place = os.path.realpath(target)
    try:
        kernel.unmount(place, lazy=lazy)
    except OSError as error:
        number = error.errno or 0
        why, advice = _UNMOUNT_REASONS.get(number, (os.strerror(number), _ADVICE.get(number)))
        raise MountError(target=place, what="unmounting", why=why, advice=advice, errno=error.errno) from error


def _unmount_all(requests: list[Request], place: str) -> None:
    """Unmount the last one first; what is in use lazily, so that nothing stays mounted."""
    for request in reversed(requests):
        point = _point(request, place)
        try:
            unmount(point)
        except MountError as error:
            if error.errno != errno.EBUSY:
                raise
            unmount(point, lazy=True)


@contextmanager
def temporary(mounts: Iterable[Mount]) -> Iterator[str]:
    """Mount at a private directory for the time of a ``with`` block, and give its path.

    In the end it is unmounted, lazily if somebody still uses it, and the directory removed: it alone, never what is in
    it, which would be the files of the snapshot if something went wrong.

    Raises:
        MountError: The kernel refuses.
    """
    mounts = list(mounts)
    directory = tempfile.mkdtemp(prefix="unpacker-mount-")
    try:
        mount(mounts, directory)
        try:
            yield directory
        finally:
            _unmount_all([read(one) for one in mounts], directory)
    finally:
        os.rmdir(directory)


# -- why not -----------------------------------------------------------------------------------------------------------


@contextmanager
def _explained(request: Request, point: str) -> Iterator[None]:
    """Say in one line what the kernel says with a number."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        why = error.strerror or str(error)
        advice = _ADVICE.get(number)
        if error.filename is not None:
            why = f"{quoted(os.fsdecode(error.filename))}: {why}" if error.filename != point else why
        elif request.type == "overlay":
            why = _OVERLAY_REASONS.get(number, why)
            advice = _OVERLAY_RULES if number == errno.EINVAL else advice
        raise MountError(target=point, what=str(request), why=why, advice=advice, errno=error.errno) from error
