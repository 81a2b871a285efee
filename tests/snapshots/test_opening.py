"""Opening a store that is there, or that a run is to make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import layer, symlink
from tests.tree.support import HIDING_PROC, needs_hidden_proc
from tests.unpack.command import command, listing, refused, run, succeeded

if TYPE_CHECKING:
    from pathlib import Path


@needs_hidden_proc
def test_without_proc_no_store_is_made_and_the_error_says_why(tmp_path: Path) -> None:
    """A small chroot may have none; a run without a store does not need it."""
    built = write_layout(tmp_path / "layout", [layer(symlink("a", "b"))])
    store = tmp_path / "store"

    outcome = run([*HIDING_PROC, *command("-q", "--store", store, built.path, tmp_path / "dest")])

    assert refused(outcome, 6) == "/proc: not mounted, and what is made in a snapshot store needs it"
    assert listing(tmp_path) == ["layout"]
    succeeded(run([*HIDING_PROC, *command("-q", built.path, tmp_path / "dest")]))
