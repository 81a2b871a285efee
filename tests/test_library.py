"""What docs/library.md shows is what happens: each section is a session of its own, in a checkout."""

from __future__ import annotations

import doctest
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.markdown import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

TEXT = (PROJECT / "docs" / "library.md").read_text()
SECTIONS = {
    title: text for title, text in re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", TEXT, re.MULTILINE) if ">>> " in text
}


@pytest.mark.parametrize("title", SECTIONS)
def test_the_examples_of_a_section(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hello", "multi"):
        shutil.copytree(PROJECT / "fixtures" / name, tmp_path / "fixtures" / name)
    monkeypatch.chdir(tmp_path)
    session = doctest.DocTestParser().get_doctest(SECTIONS[title], {}, title, "docs/library.md", 0)
    said: list[str] = []

    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session, out=said.append)

    assert not failed, "".join(said)
    assert tried
