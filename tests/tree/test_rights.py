"""The owner's rights to what was made just now, whatever the file mode creation mask takes from him."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.tree.support import descriptors, opened, umask
from unpacker.tree import rights
from unpacker.tree.rights import make_directory, regain_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("mask", "expected", "back"),
    [
        pytest.param(0o000, 0o755, False, id="nothing"),
        pytest.param(0o027, 0o750, False, id="of others"),
        pytest.param(0o277, 0o700, True, id="one right"),
        pytest.param(0o702, 0o755, True, id="its own only"),
        pytest.param(0o777, 0o700, True, id="all"),
    ],
)
def test_a_mask_takes_from_others_only(mask: int, expected: int, back: bool, tmp_path: Path) -> None:
    before = descriptors()
    with opened(tmp_path) as holder, umask(mask):
        assert make_directory(b"here", 0o755, holder=holder) is back
        assert make_directory(str(tmp_path / "there"), 0o755) is back
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("here", "there")} == {expected}
    assert descriptors() == before


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o277, 0o600), (0o722, 0o644), (0o777, 0o600)])
def test_a_file(mask: int, expected: int, tmp_path: Path) -> None:
    with umask(mask):
        descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT, 0o644)
    regain_file(descriptor)
    assert stat.S_IMODE(os.fstat(descriptor).st_mode) == expected
    os.close(descriptor)


def test_what_has_the_name_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o400)
    with pytest.raises(FileExistsError):
        make_directory(str(tmp_path / "file"))
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o400


def test_one_that_somebody_removes_at_once_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As who sweeps does with one that nobody has locked yet; who opens it next finds out."""
    regain = rights.regain

    def late(name: str, holder: int | None) -> bool:
        os.rmdir(name)
        return regain(name, holder)

    monkeypatch.setattr(rights, "regain", late)
    assert make_directory(str(tmp_path / "gone")) is False


def test_one_that_cannot_be_looked_at_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str, _holder: int | None) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(rights, "regain", broken)
    with pytest.raises(OSError, match="Input/output error"):
        make_directory(str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []
