"""Makes docs/conformance.md of the rules beside the tests: ``python -m tests.conformance.page``."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from tests.conformance.cases import RULES, Rule

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
PAGE = PROJECT / "docs" / "conformance.md"
SPECIFICATION = "https://github.com/opencontainers/image-spec/blob/main/"
SECTIONS = {
    "a_layout": "A. The layout",
    "b_descriptors": "B. Descriptors, digests, JSON",
    "c_index": "C. Indexes and platforms",
    "d_manifest": "D. Manifests",
    "e_config": "E. Configs",
    "f_layers": "F. Layers",
    "g_containers": "G. What layouts come in",
    "h_malformed": "H. What is malformed",
    "i_overlayfs": "I. Overlayfs",
    "j_tar": "J. Tar",
}
HEAD = """\
# Conformance

The [image specification](https://github.com/opencontainers/image-spec), rule by rule: what it asks for, where it says
so, what we do, and the tests that fail if we do not. It is read as of May 2026 (1.1.1 and what has been merged since).
A to G are numbered through; H, I and J are what malformed input, overlayfs and tar ask for, of which the specification
says little.

*MUST*, *SHOULD* and *MAY* are the specification's words, or those of the standard that is named. *Open* is what it
leaves to us, and peers answer differently: [fidelity](fidelity.md#where-unpackers-part) has what they do.

    .venv/bin/pytest tests/conformance                # all of it
    .venv/bin/pytest tests/conformance -k spec_074    # rule 74
    .venv/bin/pytest tests/conformance -k spec_h_03   # row H3

Nearly every image in these tests is unpacked twice, directly and by way of a store, and both must agree: on the tree to
the last attribute, or on the error to the last letter.

**Not done**: archives of layouts and of `docker save` are not read (84, 85), broken saves of Docker are not repaired
from their `manifest.json` (86), configs are not converted for a runtime (56), and there is no blake3 (17). Each of
these is refused in one line.

*Made by `python -m tests.conformance.page`.*
"""


def page() -> str:
    """Give the page."""
    parts = [HEAD]
    for name, title in SECTIONS.items():
        names = names_in(name)
        rules = [one for one in RULES.values() if any(test.startswith(f"test_{one.key}_") for test in names)]
        parts.append(f"## {title}\n\n| | rule | from | | what we do | tests |\n|---|---|---|---|---|---|\n")
        for one in sorted(rules, key=lambda one: one.key):
            count = sum(test.startswith(f"test_{one.key}_") for test in names)
            parts[-1] += _row(one, name, count)
    return "\n".join(parts)


def names_in(name: str) -> list[str]:
    """List the tests of a section."""
    return [test for test in vars(import_module(f"tests.conformance.test_{name}")) if test.startswith("test_spec_")]


def _row(one: Rule, name: str, count: int) -> str:
    tests = f"[`{one.key}`](../tests/conformance/test_{name}.py)" + (f" ({count})" if count > 1 else "")
    cells = [f"**{one.number}**", one.text, _source(one.source), one.level, one.ours, tests]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _source(source: str) -> str:
    """Give a link where it is a page of the specification: ``layer.md#whiteouts``."""
    found = re.fullmatch(r"([a-z-]+\.md)(#[\w-]+)?", source)
    return f"[{found[1]}]({SPECIFICATION}{source})" if found else source


if __name__ == "__main__":
    PAGE.write_text(page())
