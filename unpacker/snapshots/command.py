"""Mounts as a shell command, for people: what they would type, with mount(8) of util-linux.

Three things stand between a list of layers and mount(8), and each costs some readability; the shortest form that works
is given:

- options that fill more than a page: then names are relative to a directory that the layers share, or, where that is
  not enough, short symlinks to them in a directory for the moment;
- a value of more than 255 bytes, which mount(8) since 2.39 would hand to a system call that takes no more:
  ``LIBMOUNT_FORCE_MOUNT2=always`` keeps it from that;
- a double quote in a name, which mount(8) takes for the beginning of a quotation: symlinks again.
"""

from __future__ import annotations

import os
from shlex import quote
from typing import TYPE_CHECKING

from unpacker.errors import UnsupportedError
from unpacker.snapshots.mounts import Request, longest_data, overlay_data, read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpacker.snapshots.mounts import Mount

_LONGEST_VALUE = 255


def command(mounts: Iterable[Mount], target: str | os.PathLike[str]) -> str:
    """Give a command for sh(1) that mounts; its exit status is that of the first mount(8) that fails.

    Raises:
        UnsupportedError: mount(8) cannot do it: it does not know mapped owners (``uidmap``) of an overlay's layers.
        UsageError: An option that cannot be read.
    """
    place = os.path.join(os.getcwd(), os.fsdecode(target))
    return " && ".join(_one(request, os.path.join(place, request.target)) for request in map(read, mounts))


def _one(request: Request, target: str) -> str:
    if request.uid_map:
        raise UnsupportedError(
            subject="mount command", kind="option", found="uidmap", supported=("mounting it with this program",)
        )
    if request.type == "bind":
        how = "--rbind" if request.recursive else "--bind"
        flags = ["-o", ",".join(sorted(request.flags))] if request.flags else []
        return _line("mount", how, *flags, request.source, target.rstrip("/") or "/")
    return _overlay(request, target.rstrip("/") or "/")


def _overlay(request: Request, target: str) -> str:
    names = [*request.lowers, *([] if request.upper is None or request.work is None else [request.upper, request.work])]
    written = _mount(request, names, target)
    if written is not None:
        return written
    shared = os.path.commonpath(names)
    written = _mount(request, [os.path.relpath(name, shared) for name in names], target)
    if written is not None and "/.." not in "".join(names):
        return f"(cd {quote(shared)} && {written})"
    # cd in a subshell, and only once the directory is there: a failing mktemp must not lead to rm elsewhere.
    links = " && ".join(_line("ln", "-s", name, str(number)) for number, name in enumerate(names))
    written = _mount(request, [str(number) for number in range(len(names))], target)
    return f'(d=$(mktemp -d) && trap \'rm -r "$d"\' EXIT && cd "$d" && {links} && {written})'


def _mount(request: Request, names: list[str], target: str) -> str | None:
    """Give the call of mount(8) with these names for the directories; None if it would not work."""
    count = len(request.lowers)
    upper, work = names[count:] or (None, None)
    options = overlay_data(request, names[:count], upper, work)
    if request.flags:
        options = ",".join([*sorted(request.flags), options])
    size = len(os.fsencode(options))
    if size > longest_data() or '"' in options:
        return None
    line = _line("mount", "-t", "overlay", "-o", options, "overlay", target)
    return f"LIBMOUNT_FORCE_MOUNT2=always {line}" if size > _LONGEST_VALUE else line


def _line(*words: str) -> str:
    return " ".join(quote(word) for word in words)
