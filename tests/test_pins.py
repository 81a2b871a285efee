"""What the checks are run with is pinned by hash, and the wheel says what it needs; both agree with pyproject.toml."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from tests.support.markdown import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
REQUIREMENTS = (PROJECT / ".ci/requirements.txt").read_text()
BILL: dict[str, Any] = json.loads((PROJECT / "sbom.cdx.json").read_text())


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return normalized(found[0])


def group(name: str) -> list[str]:
    """List what a dependency group asks for, with the groups that it includes."""
    found: list[str] = []
    for one in PYPROJECT["dependency-groups"][name]:
        found += group(one["include-group"]) if isinstance(one, dict) else [one]
    return found


RUNTIME: list[str] = PYPROJECT["project"]["dependencies"]
WANTED = [*RUNTIME, *group("ci"), *PYPROJECT["build-system"]["requires"]]
PINS = {normalized(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", REQUIREMENTS, re.MULTILINE)}


def numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


@pytest.mark.parametrize("requirement", sorted(set(WANTED)), ids=named)
def test_all_that_is_wanted_is_pinned_as_new_as_is_wanted(requirement: str) -> None:
    """``.ci/pin`` makes it so again."""
    least = re.search(r">=([\d.]+)", requirement)

    assert named(requirement) in PINS
    assert least is None or numbers(PINS[named(requirement)]) >= numbers(least[1])


def test_every_pin_has_hashes() -> None:
    """Pip refuses the whole file otherwise, but only when somebody runs it."""
    blocks = re.split(r"^(?=\w)", REQUIREMENTS, flags=re.MULTILINE)[1:]

    assert len(blocks) == len(PINS)
    assert [block.split()[0] for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", block)] == []


def test_pins_name_no_place_to_get_them_from() -> None:
    assert re.search(r"https?:|--(?:extra-)?index-url|--find-links", REQUIREMENTS) is None


def test_the_bill_of_materials_is_what_the_pins_say() -> None:
    made = subprocess.run([sys.executable, PROJECT / ".ci/sbom"], capture_output=True, text=True, check=True)

    assert json.loads(made.stdout) == BILL


def test_the_bill_of_materials_has_what_the_package_needs() -> None:
    """Directly by the project's own word, and the rest by way of those."""
    components = {one["bom-ref"]: normalized(one["name"]) for one in BILL["components"]}
    wants = {one["ref"]: one["dependsOn"] for one in BILL["dependencies"]}
    itself = BILL["metadata"]["component"]

    assert (itself["name"], itself["version"]) == (PYPROJECT["project"]["name"], PYPROJECT["project"]["version"])
    assert sorted(components[one] for one in wants[itself["bom-ref"]]) == sorted(map(named, RUNTIME))
    assert {one for wanted in wants.values() for one in wanted} == components.keys()
    assert {normalized(one["name"]): one["version"] for one in BILL["components"]}.items() <= PINS.items()
    assert not {"pytest", "hypothesis", "mypy", "ruff", "hatchling"} & set(components.values())


def test_the_wheel_carries_the_bill_of_materials() -> None:
    """In ``.dist-info/sboms``, where scanners look for it (PEP 770); to build one takes more than a test should."""
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["sbom-files"] == ["sbom.cdx.json"]
