"""Mounts as a shell command, for people: what they would type, with mount(8) of util-linux.

Three things stand between a list of layers and mount(8), and each costs some readability; the shortest form that works
is given:

- options that fill more than a page: then names are relative to a directory that the layers share, or, where that is
  not enough, short symlinks to them in a directory for the moment;
- a value of more than 255 bytes, which mount(8) since 2.39 would hand to a system call that takes no more:
  ``LIBMOUNT_FORCE_MOUNT2=always`` keeps it from that;
- a comma, a double quote or a backslash in a name, which mount(8) reads in its own way before the kernel does (at a
  name's end, 2.38 takes even an escaped comma for the option's): symlinks again.
"""

from __future__ import annotations

import os
from shlex import quote
from typing import TYPE_CHECKING

from unpacker.errors import UnsupportedError
from unpacker.snapshots.options import Request, longest_data, overlay_data, read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpacker.snapshots.mounts import Mount

_LONGEST_VALUE = 255
_READ_BY_MOUNT = frozenset(',"\\')


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
    target = target.rstrip("/") or "/"
    if request.type == "overlay":
        return _overlay(request, target)
    how = "--rbind" if request.recursive else "--bind"
    flags = ["-o", ",".join(sorted(request.flags))] if request.flags else []
    return _line("mount", how, *flags, _absolute(request.source), target)


def _overlay(request: Request, target: str) -> str:
    written = () if request.upper is None or request.work is None else (request.upper, request.work)
    names = [_absolute(name) for name in (*request.lowers, *written)]
    if _fits(request, names):
        return _mount(request, names, target)
    shared = os.path.commonpath(names).rstrip("/") + "/"
    shorter = [name.removeprefix(shared).lstrip("/") for name in names]
    if all(name.startswith(shared) for name in names) and _fits(request, shorter):
        return f"(cd {quote(shared)} && {_mount(request, shorter, target)})"
    # In a subshell, and nothing after a command that failed: without mktemp's directory, cd would lead nowhere else.
    links = [_line("ln", "-s", name, str(number)) for number, name in enumerate(names)]
    call = _mount(request, [str(number) for number in range(len(names))], target)
    return " && ".join(("(d=$(mktemp -d)", "trap 'rm -r \"$d\"' EXIT", 'cd "$d"', *links, call)) + ")"


def _fits(request: Request, names: list[str]) -> bool:
    """Whether mount(8), and the kernel after it, take these names for the directories."""
    return _size(_options(request, names)) <= longest_data() and not _READ_BY_MOUNT & set("".join(names))


def _mount(request: Request, names: list[str], target: str) -> str:
    options = _options(request, names)
    line = _line("mount", "-t", "overlay", "-o", options, "overlay", target)
    return f"LIBMOUNT_FORCE_MOUNT2=always {line}" if _size(options) > _LONGEST_VALUE else line


def _options(request: Request, names: list[str]) -> str:
    count = len(request.lowers)
    upper, work = names[count:] or (None, None)
    return ",".join([*sorted(request.flags), overlay_data(request, names[:count], upper, work)])


def _size(options: str) -> int:
    return len(os.fsencode(options))


def _absolute(name: str) -> str:
    return os.path.join(os.getcwd(), name)


def _line(*words: str) -> str:
    return " ".join(quote(word) for word in words)
