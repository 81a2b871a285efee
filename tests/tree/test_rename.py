"""Two names trade places in one step."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.tree.support import opened
from unpacker.tree.rename import exchange

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a directory whose filesystem can do it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"in-{name}").touch()
    with opened(tmp_path) as here:
        if not exchange(here, b"one", here, b"two"):
            pytest.skip("missing: a filesystem that can exchange two names")
        exchange(here, b"one", here, b"two")
    return tmp_path


def test_two_directories_trade_places(place: Path) -> None:
    with opened(place) as here:
        assert exchange(here, b"one", here, b"two") is True
    assert (os.listdir(place / "one"), os.listdir(place / "two")) == (["in-two"], ["in-one"])


def test_across_directories_under_any_names(place: Path) -> None:
    """A directory with a file; the bytes of a name are taken as they are."""
    name = b"\xe9 \n"
    (place / "one" / os.fsdecode(name)).write_bytes(b"file")
    with opened(place / "one") as first, opened(place) as second:
        assert exchange(first, name, second, b"two") is True
    assert (place / "two").read_bytes() == b"file"
    assert os.listdir(os.fsencode(place / "one") + b"/" + name) == [b"in-two"]


def test_a_link_is_exchanged_and_not_followed(place: Path) -> None:
    (place / "link").symlink_to("two")
    with opened(place) as here:
        exchange(here, b"link", here, b"one")
    assert os.readlink(place / "one") == "two"
    assert os.listdir(place / "link") == ["in-one"]
    assert os.listdir(place / "two") == ["in-two"]


@pytest.mark.parametrize(("first", "second"), [(b"one", b"nothing"), (b"nothing", b"one")])
def test_both_must_be_there(first: bytes, second: bytes, place: Path) -> None:
    """Else it is an error, and all stays as it was."""
    with opened(place) as here, pytest.raises(FileNotFoundError) as caught:
        exchange(here, first, here, second)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == second.decode()
    assert sorted(os.listdir(place)) == ["one", "two"]


def test_a_directory_does_not_go_into_itself_and_says_it_cannot(place: Path) -> None:
    """EINVAL is what a filesystem says, too, that cannot exchange."""
    with opened(place) as here, opened(place / "one") as inner:
        assert exchange(here, b"one", inner, b"in-one") is False
    assert os.listdir(place / "one") == ["in-one"]


def test_no_moment_without_either(place: Path) -> None:
    """Whoever looks sees the old or the new, never nothing: what --force promises."""
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            try:
                seen.update(os.listdir(place / "one"))
            except FileNotFoundError:
                seen.add("nothing")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with opened(place) as here:
            for _ in range(1000):
                exchange(here, b"one", here, b"two")
    finally:
        ended.set()
        thread.join()
    assert seen <= {"in-one", "in-two"}
