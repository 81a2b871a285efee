"""Mounts made by mount(2), for kernels and sandboxes that lack the newer calls.

All names go into one page.  Where they do not fit, the numbers of descriptors do: 500 of them in 2 kB, relative to
/proc/self/fd.  The current directory belongs to the whole process, so that call is made by a thread that has taken one
of its own, and ends with it.
"""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from unpacker.snapshots import kernel
from unpacker.snapshots.by_descriptor import OPEN_PLACE, layer
from unpacker.snapshots.options import longest_data, overlay_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from unpacker.snapshots.options import Request


def overlay(request: Request, point: str, namespace: int | None) -> None:
    """Mount an overlay.

    Args:
        request: What to mount.
        point: Path of the directory to mount at.
        namespace: Descriptor of a user namespace by which the owners in the layers are mapped.
    """
    flags = sum(kernel.MS_FLAGS[flag] for flag in request.flags)
    data = overlay_data(request, request.lowers, request.upper, request.work)
    if namespace is None and len(os.fsencode(data)) <= longest_data():
        for path in filter(None, (*request.lowers, request.upper, request.work)):
            os.close(layer(path, None))  # the kernel would not say which one is missing
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
            descriptor = layer(path, namespace)
            stack.callback(os.close, descriptor)
            if lobby is not None:
                kernel.attach(descriptor, lobby[0])
                stack.callback(kernel.unmount, lobby[1], lazy=True)
            numbers.append(str(descriptor))
        yield numbers


@contextmanager
def _lobby() -> Iterator[tuple[int, str]]:
    """Make a private directory, and give its descriptor and its path."""
    path = tempfile.mkdtemp(prefix="unpacker-mount-")
    try:
        descriptor = os.open(path, OPEN_PLACE)
        try:
            yield descriptor, path
        finally:
            os.close(descriptor)
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


def bind(request: Request, point: str) -> None:
    """Bind a directory: it can be made read-only in a second step only."""
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
