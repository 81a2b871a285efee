"""``import unpacker``: what is public is there when it is asked for, and nothing before."""

from __future__ import annotations

import doctest
import importlib
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import unpacker
from tests.support.markdown import PROJECT
from tests.support.probes import can_chown

if TYPE_CHECKING:
    from pathlib import Path


def loaded_by(program: str) -> set[str]:
    """Give the modules that are there after a program, and not in a Python that does nothing."""
    show = "import sys; print(*sys.modules)"
    outputs = [
        subprocess.run([sys.executable, "-c", text], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
        for text in (f"{program}\n{show}", show)
    ]
    ours, bare = (set(output.split()) for output in outputs)
    return ours - bare


def test_the_package_alone_imports_nothing() -> None:
    assert loaded_by("import unpacker") == {"unpacker", "__future__"}


def test_one_name_imports_no_other_part() -> None:
    loaded = loaded_by("import unpacker; unpacker.Digest")

    assert "unpacker.spec.digest" in loaded
    assert not {name for name in loaded if name.startswith(("unpacker.tree", "unpacker.layer", "unpacker.snapshots"))}


@pytest.mark.parametrize("name", unpacker.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(unpacker, name)

    assert found is getattr(importlib.import_module("unpacker"), name)
    assert name in dir(unpacker)
    assert getattr(found, "__name__", "").rpartition(".")[2] == name


def test_the_names_are_sorted_and_typed() -> None:
    """What a type checker sees is what a program gets."""
    text = (PROJECT / "unpacker/__init__.py").read_text()
    typed = re.findall(r"^    from unpacker(?:\.[\w.]+)? import (.*)$", text, re.MULTILINE)

    assert unpacker.__all__ == sorted(unpacker.__all__)
    assert sorted(name for line in typed for name in line.split(", ")) == unpacker.__all__


def test_unpack_is_the_function_whatever_was_imported_before() -> None:
    program = "import unpacker.unpacking, unpacker.cli.unpack, unpacker\nassert callable(unpacker.unpack)"

    assert "unpacker.unpacking" in loaded_by(program)


def test_what_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'unpacker' has no attribute 'nothing'"):
        unpacker.nothing  # type: ignore[attr-defined] # noqa: B018


def test_the_example_of_the_package_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PROJECT / "fixtures/hello", tmp_path / "layout")
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    ((?:import|report|print).*)$", unpacker.__doc__ or "", re.MULTILINE)
    session = "".join(f">>> {line}\n" for line in lines) + (
        "26 {}\n" if can_chown() else "26 {<LossKind.OWNER: 'owner'>: 26}\n"
    )

    failed, tried = doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(session, {}, "unpacker", None, 0))

    assert (failed, tried) == (0, 3)
    assert (tmp_path / "rootfs/etc").is_dir()
