"""The pages around the code are true: links lead somewhere, commands can be read, versions and dependencies agree."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from benchmarks import compare, suite
from tests.support.markdown import PROJECT, anchors, blocks, commands, links, pages
from unpacker.cli.arguments import toolbox_parser, unpack_parser

if TYPE_CHECKING:
    from pathlib import Path

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
PARSERS = {"unpack": unpack_parser, "unpacker": toolbox_parser}


def page_id(page: Path) -> str:
    return str(page.relative_to(PROJECT))


EVERY_PAGE = pytest.mark.parametrize("page", pages(), ids=page_id)
COMMANDS = sorted(
    {
        (page_id(page), command)
        for page in pages()
        for block in blocks(page, "sh", "console", "yaml")
        for command in commands(block)
    }
)


@EVERY_PAGE
def test_links_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    local = [link for link in links(page) if not re.match(r"https?:", link)]

    broken = []
    for link in local:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_every_command_of_a_page_can_be_read(page: str, command: str) -> None:
    program, *words = shlex.split(command)

    PARSERS[program]().parse_args(words)


def test_the_commands_are_found() -> None:
    """The test above is of use only if it finds them: plain, after a path, in quotes, in YAML, before a pipe."""
    found = {page: sum(1 for where, _ in COMMANDS if where == page) for page, _ in COMMANDS}

    assert found.keys() >= {"README.md", "docs/cli.md", "docs/ci.md"}
    assert {
        ("docs/ci.md", "unpack layout:debian-12 rootfs"),
        ("docs/ci.md", "unpack --strict layout:debian-12 rootfs"),
        ("README.md", "unpack fixtures/hello rootfs"),
    } <= set(COMMANDS)


@EVERY_PAGE
def test_shell_in_pages_is_shell(page: Path) -> None:
    for block in blocks(page, "sh"):
        done = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_options_of_the_benchmarks_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    for program in (compare, suite):
        with pytest.raises(SystemExit):
            program.main(["--help"])
    options = set(re.findall(r"--[a-z][\w-]+", capsys.readouterr().out)) - {"--help"}

    assert set(re.findall(r"--[a-z][\w-]+", (PROJECT / "benchmarks" / "README.md").read_text())) - {"--help"} == options


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+) - (\S+)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert headings[0][0] == PYPROJECT["project"]["version"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d|unreleased", date) for _, date in headings)


def test_a_test_run_needs_no_more_than_its_dependency_group() -> None:
    """``pip install . --group test`` is what README.md says, so nothing else may be imported by a test."""
    wanted = PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["test"]
    allowed = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in wanted} | {"_pytest"}
    ours = {"tests", "unpacker", "benchmarks", "fixtures", "fuzz"}

    imported: set[str] = set()
    for path in (PROJECT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])

    assert imported - sys.stdlib_module_names - ours - allowed == set()
