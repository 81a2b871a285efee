"""Reads the project's pages: their code blocks, the commands in them, their links and the places that links lead to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    .*$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?:^|(?<=[\s'\"(]))(?:/\S+/)?(unpacker|unpack) ([^\s|;&>'\")][^|;&>'\")\n]*)", re.MULTILINE)


class Block(NamedTuple):
    """One fenced block."""

    language: str
    text: str


def pages() -> list[Path]:
    """List every page of the project."""
    return sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"), *PROJECT.glob("[!.]*/README.md")])


def blocks(page: Path, *languages: str) -> list[Block]:
    """List the fenced blocks of a page that are in one of these languages."""
    found = [Block(*match) for match in _FENCE.findall(page.read_text())]
    return [block for block in found if block.language in languages]


def commands(block: Block) -> list[str]:
    """List the calls of ``unpack`` and ``unpacker`` in a block, as far as the shell's next sign.

    What a terminal shows (``console``) has commands in its lines that begin with a dollar sign; the others are output.
    """
    text = block.text
    if block.language == "console":
        text = "".join(re.findall(r"^\$ (.*\n)", text, re.MULTILINE))
    return [" ".join(match).strip() for match in _COMMAND.findall(text)]


def links(page: Path) -> list[str]:
    """List where the links of a page lead to, as they are written."""
    return _LINK.findall(_INDENTED.sub("", _FENCE.sub("", page.read_text())))


def anchors(page: Path) -> set[str]:
    """List the names of a page's headings, as they are made for links: ``### `a-b` c`` is ``a-b-c``."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
