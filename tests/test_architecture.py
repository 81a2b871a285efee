"""Imports point one way, and each concern has one place: docs/architecture.md, read from the code by ``ast``."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "unpacker"

# Each line may import what stands above it, and nothing beside it; `unpacker` itself only collects the public names.
ORDER = [
    {"record"},
    {"errors", "events", "limits"},
    {"spec"},
    {"tree"},
    {"content", "archive"},
    {"resolve"},
    {"transfer", "checks"},
    {"child"},
    {"layer"},
    {"snapshots"},
    {"image"},
    {"output"},
    {"unpacking"},
    {"unpacker"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# Which module may know of a dependency: to replace it means to touch this one.
BORDERS = {
    "isal": {"unpacker.archive.gzipstream"},
    "zstandard": {"unpacker.archive.zstdstream"},
    "pyzstd": {"unpacker.archive.zstdstream"},
    "filelock": {"unpacker.tree.lock"},
    "rich": {"unpacker.cli.terminal"},
}


class Import(NamedTuple):
    """One imported module, as it stands in another one."""

    importer: str
    imported: str
    line: int
    late: bool
    """Inside a function, so only when it is called."""
    typing_only: bool
    """Under TYPE_CHECKING, so never at run time."""

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, ast.Module]:
    return {name_of(path): ast.parse(path.read_text(), path) for path in sorted(PACKAGE.rglob("*.py"))}


def imports_below(importer: str, node: ast.AST, *, late: bool = False, typing_only: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        here = {
            "late": late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef),
            "typing_only": typing_only
            or (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"),
        }
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(importer, alias.name, child.lineno, late, typing_only)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{importer}:{child.lineno}: a relative import"
            module = child.module or ""
            for alias in child.names:  # `from unpacker.layer import names` is an import of that module
                inner = f"{module}.{alias.name}"
                yield Import(importer, inner if inner in modules() else module, child.lineno, late, typing_only)
        else:
            yield from imports_below(importer, child, **here)


@cache
def imports() -> list[Import]:
    return [one for name, module in modules().items() for one in imports_below(name, module)]


def station(module: str) -> str:
    """Give the part of the package that a module belongs to: ``unpacker.layer.stage`` is of ``layer``."""
    return [*module.split("."), "unpacker"][1]


def test_every_part_has_its_place_in_the_order() -> None:
    assert {station(name) for name in modules()} - RANK.keys() == set()


def test_imports_point_one_way() -> None:
    """No part knows of those that use it, or of its siblings; not even types, for those can be moved down."""
    wrong = [
        str(one)
        for one in imports()
        if one.imported.split(".")[0] == "unpacker"
        and station(one.importer) != station(one.imported)
        and RANK[station(one.imported)] >= RANK[station(one.importer)]
    ]

    assert wrong == []


def test_no_module_waits_for_itself() -> None:
    """Inside one part, too, imports form no circle, so each module can be read, and loaded, first."""
    waits: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.imported in waits and not (one.late or one.typing_only):
            waits[one.importer].add(one.imported)

    while free := {name for name, needed in waits.items() if not needed}:
        waits = {name: needed - free for name, needed in waits.items() if name not in free}

    assert waits == {}


def test_dependencies_have_one_border_each() -> None:
    """What is not the standard library's is imported in one place, and is a dependency of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in project["dependencies"]}
    known = sys.stdlib_module_names | {"unpacker", "_typeshed", "compression"}  # the last one since Python 3.14

    foreign: dict[str, set[str]] = {}
    for one in imports():
        package = one.imported.split(".")[0]
        if package not in known:
            foreign.setdefault(package, set()).add(one.importer)

    assert foreign == BORDERS
    assert declared == BORDERS.keys()


def calls(name: str, module: ast.Module) -> Iterator[str]:
    """Give the dotted names of what a module calls or reads, as ``os.environ``."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


@pytest.mark.parametrize(
    ("names", "places"),
    [
        pytest.param({"print", "input"}, {"cli"}, id="terminal"),
        pytest.param({"sys.stdout", "sys.stderr", "sys.stdin"}, {"cli"}, id="streams"),
        pytest.param({"os.environ", "os.getenv", "os.environb"}, {"cli"}, id="environment"),
        pytest.param({"sys.exit", "sys.argv", "exit"}, {"cli", "__main__"}, id="arguments and exit statuses"),
        pytest.param({"open", "os.open"}, {"tree", "content", "layer", "snapshots", "cli"}, id="files"),
        pytest.param({"os.system", "os.popen", "os.execv", "os.posix_spawn"}, set(), id="other programs"),
        pytest.param({"os.fork"}, {"unpacker.child"}, id="processes"),
        # A thread that has left the others' current directory for its own may change it.
        pytest.param({"os.chdir", "os.fchdir"}, {"unpacker.snapshots.kernel"}, id="the current directory"),
        pytest.param({"os.umask"}, {"unpacker.cli.run"}, id="the umask"),
        pytest.param({"eval", "exec"}, set(), id="the whole process"),
    ],
)
def test_only_the_edge_touches_the_world(names: set[str], places: set[str]) -> None:
    """A library prints nothing, reads no environment, ends no process, and changes none for its caller's threads."""
    found = {(name, what) for name, module in modules().items() for what in calls(name, module) if what in names}

    assert {(name, what) for name, what in found if not {name, station(name)} & places} == set()


@pytest.mark.parametrize(
    ("part", "unwanted", "exceptions"),
    [
        pytest.param("spec", {"io", "pathlib", "shutil", "tempfile"}, set(), id="the vocabulary opens no file"),
        pytest.param("archive", {"os", "pathlib", "shutil", "tempfile"}, set(), id="the tar reader knows bytes only"),
        pytest.param("", {"tarfile", "zipfile", "shutil"}, set(), id="nobody else extracts or removes trees"),
        pytest.param("", {"urllib.request", "http", "socket", "ssl"}, set(), id="no network"),
        # What a child of this very process has left in a file without a name is nobody else's word.
        pytest.param(
            "", {"pickle", "marshal", "yaml"}, {"unpacker.layer.batch"}, id="nothing untrusted is more than JSON"
        ),
        # A user namespace comes from a child process, as one with threads may not enter any: Python itself, no program.
        pytest.param("", {"subprocess"}, {"unpacker.snapshots.idmaps"}, id="no other programs"),
    ],
)
def test_parts_without_the_tools_of_others(part: str, unwanted: set[str], exceptions: set[str]) -> None:
    """What a part cannot import it cannot do."""
    inside = [one for one in imports() if not part or station(one.importer) == part]
    assert inside

    wrong = [
        str(one)
        for one in inside
        if {one.imported, one.imported.split(".")[0]} & unwanted
        and one.importer not in exceptions
        and not one.typing_only
    ]

    assert wrong == []


def test_every_module_has_its_line_in_the_architecture() -> None:
    """docs/architecture.md has a line for each module, and none for one that is gone."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    described = set(re.findall(r"^\| `([\w/]+\.py)` \|", text, re.MULTILINE))
    there = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }

    assert there - described == set(), "they want a line in docs/architecture.md"
    assert described - there == set(), "they are gone"


def test_every_module_says_what_it_is() -> None:
    assert [name for name, module in modules().items() if not ast.get_docstring(module)] == []
