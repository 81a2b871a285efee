"""What an error says that knows only of a descriptor."""

from __future__ import annotations

import os

import pytest

from unpacker.tree.whereabouts import at


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def test_an_error_about_a_descriptor_says_what_was_being_done() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught, at("outer"), at("inner"):
        os.fsync(1 << 20)
    assert notes(caught.value) == ["inner"]


def test_an_error_that_names_a_file_is_left_as_it_is() -> None:
    with pytest.raises(FileNotFoundError) as caught, at("looking"):
        os.stat("/nowhere/at/all")
    assert notes(caught.value) == []


def test_one_that_names_a_descriptor_names_nothing() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught, at("listing"):
        os.listdir(1 << 20)
    assert notes(caught.value) == ["listing"]
