"""The pages about the command line say what it does."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from unpacker import errors
from unpacker.cli.arguments import toolbox_parser, unpack_parser
from unpacker.limits import DEFAULT

DOCS = Path(__file__).parents[2] / "docs"
CLI = (DOCS / "cli.md").read_text()
ERRORS = (DOCS / "errors.md").read_text()
VERBS = (
    *("unpack", "list", "config", "verify", "import"),
    *("images", "snapshots", "labels", "mounts", "mount", "umount", "rm", "gc", "fsck"),
)
COMMANDS = re.findall(r"^\$ (.*)$", CLI, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_shown_can_be_read(line: str) -> None:
    program, *words = shlex.split(line.split(" | ", maxsplit=1)[0])

    {"unpack": unpack_parser, "unpacker": toolbox_parser}[program]().parse_args(words)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_the_help_is_documented(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        toolbox_parser().parse_args([verb, "--help"])

    options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert "--help" in options
    assert {option for option in options if f"`{option}" not in CLI} == set()


def test_every_limit_is_documented_with_its_default() -> None:
    found = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", CLI, re.MULTILINE))

    assert found == {field.name: str(getattr(DEFAULT, field.name)) for field in fields(DEFAULT)}


def every_error(kind: type[errors.UnpackError]) -> list[type[errors.UnpackError]]:
    return [kind, *(error for child in kind.__subclasses__() for error in every_error(child))]


RAISED = [kind for kind in every_error(errors.UnpackError) if kind is not errors.InLayerError]


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_every_error_is_documented(kind: type[errors.UnpackError]) -> None:
    assert re.search(rf"[│├└─ ]{kind.__name__}\b|^    {kind.__name__}$", ERRORS, re.MULTILINE)
    if not kind.__subclasses__():
        assert re.search(rf"^### `{kind.code}`", ERRORS, re.MULTILINE)
