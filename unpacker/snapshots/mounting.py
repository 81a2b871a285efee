"""Mounting and unmounting by system calls: no program is run for it, and the current directory of nobody changes.

An overlay is set up in one of two ways:

``fsconfig``   Each directory is handed over as a descriptor (``lowerdir+``, Linux 6.13), so no name is escaped, cut or
               looked up twice, and mountinfo shows the real paths.
``mount(2)``   On any older kernel.  All names go into one page; where they do not fit, descriptors' numbers do: 500 of
               them in 2 kB, relative to /proc/self/fd.  The current directory belongs to the process, so the call is
               made by a thread that has taken its own (unshare(2) with CLONE_FS) and ends with it.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from unpacker.errors import MountError, quoted
from unpacker.snapshots import kernel
from unpacker.snapshots.idmaps import user_namespace
from unpacker.snapshots.mounts import longest_data, overlay_data, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from unpacker.snapshots.mounts import Mount, Request

    Path = str | os.PathLike[str]

_OPEN_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
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
_OVERLAY_RULES = (
    "upper and work must lie beside each other on one filesystem that has extended attributes and is no overlay itself;"
    " the kernel's log (dmesg) says which rule was broken"
)


# -- mounting ----------------------------------------------------------------------------------------------------------


def mount(mounts: Iterable[Mount], target: Path) -> None:
    """Mount all of them at a directory, or none.

    Raises:
        MountError: The kernel refuses.
        UnsupportedError, UsageError: It is no mount that can be read, see `unpacker.snapshots.mounts.read`.
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
        newer, older = (_bind, _bind_older) if request.type == "bind" else (_overlay, _overlay_older)
        try:
            made = newer(request, namespace)
        except OSError as error:
            if error.errno not in _TRY_THE_OLDER:
                raise
            try:
                older(request, point, namespace)
            except OSError as again:
                # The newer calls say more, but of what they lack.
                more = again.errno == error.errno and "'lowerdir+'" not in (error.strerror or "")
                raise (error if more else again) from None
        else:
            stack.callback(os.close, made)
            kernel.attach(made, directory)


def _point(request: Request, place: str) -> str:
    return os.path.join(place, request.target).rstrip("/") if request.target else place


@contextmanager
def _opened(place: str, inside: str) -> Iterator[int]:
    """Open the directory to mount at; below the place, which an image may have filled, no symlink is followed."""
    descriptor = os.open(place, _OPEN_PLACE)
    try:
        for name in filter(None, inside.split("/")):
            if name == "..":
                raise OSError(errno.EINVAL, "the target climbs out")
            deeper = os.open(name, _OPEN_PLACE | os.O_NOFOLLOW, dir_fd=descriptor)
            os.dup2(deeper, descriptor, inheritable=False)
            os.close(deeper)
        yield descriptor
    finally:
        os.close(descriptor)


def _layer(path: str, namespace: int | None) -> int:
    """Give a descriptor of a directory, with its owners mapped if there is a namespace."""
    try:
        return os.open(path, _OPEN_PLACE) if namespace is None else kernel.bind(path, user_namespace=namespace)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _attributes(request: Request) -> int:
    return sum(kernel.ATTRIBUTES[flag] for flag in request.flags)


def _overlay(request: Request, namespace: int | None) -> int:
    """Give a descriptor of the mount, which is nowhere yet."""
    with kernel.Filesystem("overlay") as filesystem:
        filesystem.set("source", request.source)
        if "ro" in request.flags:
            filesystem.set("ro", None)
        for key, value in request.data:
            filesystem.set(key, value)
        for path in request.lowers:
            _hand_over(filesystem, "lowerdir+", path, namespace)
        if request.upper is not None and request.work is not None:
            _hand_over(filesystem, "upperdir", request.upper, None)
            _hand_over(filesystem, "workdir", request.work, None)
        return filesystem.mount(_attributes(request))


def _hand_over(filesystem: kernel.Filesystem, key: str, path: str, namespace: int | None) -> None:
    descriptor = _layer(path, namespace)
    try:
        filesystem.set(key, descriptor)
    finally:
        os.close(descriptor)


def _bind(request: Request, namespace: int | None) -> int:
    """Give a descriptor of the mount, which is nowhere yet: nobody ever sees it writable, or with the wrong owners."""
    return kernel.bind(request.source, _attributes(request), user_namespace=namespace, recursive=request.recursive)


# -- before Linux 6.13, 5.12 -------------------------------------------------------------------------------------------


def _overlay_older(request: Request, point: str, namespace: int | None) -> None:
    flags = sum(kernel.MS_FLAGS[flag] for flag in request.flags)
    data = overlay_data(request, request.lowers, request.upper, request.work)
    if namespace is None and len(os.fsencode(data)) <= longest_data():
        kernel.mount(request.source, point, "overlay", flags, data)
        return
    with ExitStack() as stack:
        lowers = stack.enter_context(_numbers(request.lowers, namespace))
        upper, work = stack.enter_context(_numbers(filter(None, (request.upper, request.work)), None)) or (None, None)
        data = overlay_data(request, lowers, upper, work)
        _elsewhere("/proc/self/fd", lambda: kernel.mount(request.source, point, "overlay", flags, data))


@contextmanager
def _numbers(paths: Iterable[str], namespace: int | None) -> Iterator[list[str]]:
    """Open directories, and give their descriptors' numbers.

    Those with mapped owners are mounted on a directory for the moment, each over the other, since overlayfs takes no
    layer from a mount that is nowhere; it keeps mounts of its own, so they may go when it is done.
    """
    with ExitStack() as stack:
        lobby = None if namespace is None else stack.enter_context(_lobby())
        numbers = []
        for path in paths:
            descriptor = _layer(path, namespace)
            stack.callback(os.close, descriptor)
            if lobby is not None:
                kernel.attach(descriptor, lobby[0])
                stack.callback(kernel.unmount, lobby[1], lazy=True)
            numbers.append(str(descriptor))
        yield numbers


@contextmanager
def _lobby() -> Iterator[tuple[int, str]]:
    path = tempfile.mkdtemp(prefix="unpacker-mount-")
    try:
        with _opened(path, "") as descriptor:
            yield descriptor, path
    finally:
        os.rmdir(path)


def _elsewhere(directory: str, call: Callable[[], None]) -> None:
    """Make a call with another current directory, in a thread that alone has it."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            kernel.own_directory(directory)
            call()
        except BaseException as error:  # noqa: BLE001  raised again below
            failed.append(error)

    thread = threading.Thread(target=run, name="mount")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _bind_older(request: Request, point: str, namespace: int | None) -> None:
    if namespace is not None:
        raise OSError(errno.EINVAL, "kernel or filesystem cannot map owners")
    flags = kernel.MS_BIND | (kernel.MS_REC if request.recursive else 0)
    kernel.mount(request.source, point, None, flags, None)
    wanted = sum(kernel.MS_FLAGS[flag] for flag in request.flags)
    if not wanted:
        return
    try:
        kernel.mount(None, point, None, kernel.MS_BIND | kernel.MS_REMOUNT | wanted, None)
    except BaseException:
        kernel.unmount(point, lazy=True)
        raise


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
        reasons = {
            errno.EINVAL: ("nothing is mounted there that you may unmount", None),
            errno.EBUSY: ("it is in use", "end what uses it (fuser -m shows it), or unmount lazily"),
        }
        number = error.errno or 0
        why, advice = reasons.get(number, (os.strerror(number), _ADVICE.get(number)))
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
