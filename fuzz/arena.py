"""A place to unpack whatever comes, beside something that nobody may touch.

What must hold of every image: DEST is there and whole, or it is not there and one of our errors says why; nothing is
left beside it; nothing outside of it is another than before, not even in its ctime.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import patch

from fuzz.checks import check_refusal
from fuzz.scratch import remove, scratch
from tests.attacks.arena import Trace, traces
from tests.support.tree import Tree, read
from unpacker.errors import UnpackError
from unpacker.events import LossKind
from unpacker.layer import ahead
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unpacker.events import Report

Before = Literal["nothing", "empty", "full"]
_FIELDS = {
    LossKind.OWNER: ("uid", "gid"),
    LossKind.XATTR: ("xattrs",),
    LossKind.MODE: ("mode",),
    LossKind.MTIME: ("mtime_ns",),
    LossKind.LINK: ("link",),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What has come of an image."""

    tree: Tree | None
    """None if there is none, or nobody looked."""
    error: Exception | None
    report: Report | None

    @property
    def lost(self) -> frozenset[str]:
        """Names of fields of `tests.support.tree.Node` that the place could not hold for some path."""
        losses = {} if self.report is None else self.report.losses
        return frozenset(field for kind in losses for field in _FIELDS.get(LossKind(kind), ("kind",)))


@cache
def _outside() -> tuple[Path, dict[str, Trace]]:
    outside = scratch("arena") / "outside"
    (outside / "a").mkdir(parents=True)
    (outside / "a" / "b").write_text("canary")
    (outside / "secret").write_text("secret")
    (outside / "secret").chmod(0o600)
    (outside / "link").symlink_to("secret")
    return outside, traces(outside)


@contextmanager
def place() -> Iterator[Path]:
    """Give a directory for one image; it is gone afterwards, and what is beside it untouched."""
    outside, before = _outside()
    path = outside.parent / "run"
    path.mkdir()
    try:
        yield path
        assert traces(outside) == before, "something outside of DEST is another than before"
        assert set(os.listdir(outside.parent)) == {"outside", "run"}, "something came outside of DEST"
    finally:
        remove(path)


def unpacked(
    path: Path,
    dest: str = "dest",
    *,
    before: Before = "nothing",
    look: bool = True,
    side_by_side: bool = False,
    **options: Any,
) -> Result:
    """Unpack the layout in a place.

    Args:
        path: The place.
        dest: The name of DEST in it.
        before: What is there before; it is so again if the image is refused.
        look: Whether the tree is read afterwards; a file in it may be of terabytes.
        side_by_side: Whether each layer is staged in a process of its own, as only large ones are otherwise.
        options: Of `unpacker.unpack`.
    """
    _fill(path / dest, before)
    store: Path | None = options.get("store")
    beside = {*os.listdir(path), dest} | ({store.name} if store is not None else set())
    try:
        with processes() if side_by_side else nullcontext():
            jobs = 2 if side_by_side else 1
            report = unpack(path / "layout", path / dest, sync=False, force=before == "full", jobs=jobs, **options)
    except (UnpackError, OSError) as error:
        assert _is_as_before(path / dest, before), f"refused, and DEST is another: {error!r}"
        _check_beside(path, beside, store)
        if isinstance(error, UnpackError):
            check_refusal(error)
        return Result(None, error, None)
    assert (path / dest).is_dir()
    _check_beside(path, beside, store)
    return Result(read(path / dest) if look else None, None, report)


@contextmanager
def processes() -> Iterator[None]:
    """Have even small layers staged side by side, though there is a thread of libFuzzer's, which holds no lock."""
    with patch.object(ahead, "WORTH", 0), patch.object(ahead, "may_fork", lambda: True):
        yield


def _fill(dest: Path, before: Before) -> None:
    if before != "nothing":
        dest.mkdir()
    if before == "full":
        (dest / "old").write_text("old")


def _is_as_before(dest: Path, before: Before) -> bool:
    if before == "nothing":
        return not os.path.lexists(dest)
    return os.listdir(dest) == ["old"] * (before == "full")


def _check_beside(path: Path, before: set[str], store: Path | None) -> None:
    assert set(os.listdir(path)) <= before, f"left behind: {set(os.listdir(path)) - before}"
    if store is not None and (store / "staging").is_dir():
        assert not os.listdir(store / "staging"), "left behind in the store"
