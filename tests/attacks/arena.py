"""A place with something to protect: whatever an attack says of itself, nothing outside of DEST may be another after it.

::

    arena/
      layout/           the hostile image
      outside/          files, links and directories that nobody may touch
      dest/             where it is unpacked; its workspace stands beside it meanwhile
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.model import reference
from tests.model.strategies import fit_for
from tests.support.layoutbuild import write_layout
from tests.support.probes import can_chown, can_mknod, can_set_user_xattr
from tests.support.tarbuild import layer
from tests.support.tree import Tree, diff, read
from unpacker.errors import UnpackError
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.tarbuild import Entry

    Layers = Sequence[Sequence[Entry | bytes]]

OWNED = () if can_chown() else ("uid", "gid")


@dataclass(frozen=True, slots=True)
class Trace:
    """What of a file cannot be changed and put back: not even its ctime may be another."""

    inode: int
    mode: int
    owner: tuple[int, int]
    links: int
    times: tuple[int, int]
    content: bytes


def traces(top: Path) -> dict[str, Trace]:
    """Read all of a small tree, links not followed."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(top))] = Trace(
            inode=status.st_ino,
            mode=status.st_mode,
            owner=(status.st_uid, status.st_gid),
            links=status.st_nlink,
            times=(status.st_mtime_ns, status.st_ctime_ns),
            content=content,
        )
    return found


class Arena:
    """One hostile image after the other meets the same neighbours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layout = path / "layout"
        self.outside = path / "outside"
        self.dest = path / "dest"
        (self.outside / "deep" / "er").mkdir(parents=True)
        (self.outside / "secret").write_text("secret")
        (self.outside / "secret").chmod(0o600)
        (self.outside / "deep" / "er" / "file").write_text("deep")
        (self.outside / "link").symlink_to("secret")
        (self.outside / "empty").mkdir(mode=0o700)
        self._before = traces(self.outside)
        self._beside = set(os.listdir(path))

    def unpack(self, layers: Layers, *, by_store: bool = False, **options: Any) -> Tree | Exception:
        """Unpack an image of these layers; give the tree or the refusal, and fail if anything else came of it.

        By way of a store, layers stay apart in it, each a directory of its own.
        """
        if by_store:
            options["store"] = self.path / "store"
        write_layout(self.layout, [layer(*entries) for entries in layers], compression="none")
        result: Tree | Exception
        try:
            unpack(self.layout, self.dest, **options)
        except (UnpackError, OSError) as error:
            result = error
            assert not os.path.lexists(self.dest), "a refusal leaves nothing behind"
        else:
            result = read(self.dest)
        self.check()
        return result

    def check(self) -> None:
        """Fail if anything outside of DEST is not what it was."""
        assert traces(self.outside) == self._before
        assert set(os.listdir(self.path)) - {"layout", "dest", "store"} == self._beside

    def agrees(self, layers: Sequence[Sequence[Entry]], **options: Any) -> None:
        """Unpack, and fail if the reference model does not say the same: the tree, or that there is none."""
        fitted = fit_for(
            [list(one) for one in layers], owners=can_chown(), devices=can_mknod(), xattrs=can_set_user_xattr()
        )
        got = self.unpack(fitted, **options)
        expected = _modelled(fitted, keep_dirlinks=options.get("keep_dirlinks", False))
        if isinstance(expected, reference.Refused):
            assert isinstance(got, UnpackError), f"the model: {expected}"
            return
        assert not isinstance(got, Exception), got
        assert not diff(expected, got, ignore=OWNED)


def _modelled(layers: list[list[Entry]], *, keep_dirlinks: bool) -> Tree | reference.Refused:
    try:
        return reference.apply(layers, keep_dirlinks=keep_dirlinks)
    except reference.Refused as refused:
        return refused
