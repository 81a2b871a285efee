"""What the conformance tests share: rules as values beside their tests, and images unpacked in every way at once.

A rule stands above the test that it is first looked at in; the other tests of the same rule have its key in their
names, too, so ``pytest -k spec_074`` is all of rule 74.  `tests.conformance.page` makes a page of them::

    @rule(74, "MUST", "A whiteout hides only what lies below its layer.", "layer.md#whiteouts", "as it says")
    def test_spec_074_a_whiteout_hides_only_what_is_below(place): ...
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import pytest

from tests.support.layoutbuild import LayoutBuilder, write_layout
from tests.support.probes import can_chown
from tests.support.tarbuild import Entry, layer
from tests.support.tree import Node, diff, read, sketch
from unpacker.cli.failures import failure_of
from unpacker.errors import UnpackError
from unpacker.events import LossKind
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from pathlib import Path

    from unpacker.events import Report

Level = Literal["MUST", "SHOULD", "MAY", "open"]
"""How much the specification insists; ``open``: it says nothing, or leaves it to us."""
Entries = Sequence[Entry | bytes]
STATUSES = {"usage": 2, "not found": 3, "integrity": 4, "content": 5, "filesystem": 6}
AMD64 = "linux/amd64"

P = ParamSpec("P")
E = TypeVar("E", bound=UnpackError)


# -- rules -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the page."""

    key: str
    """``spec_074``, or ``spec_h_03`` for a row of a table."""
    level: Level
    text: str
    source: str
    ours: str

    @property
    def number(self) -> str:
        """What the page calls it: 74, or H3."""
        part, _, row = self.key.removeprefix("spec_").partition("_")
        return f"{part.upper()}{int(row)}" if row else str(int(part))


RULES: dict[str, Rule] = {}


def rule(
    number: int | str, level: Level, text: str, source: str, ours: str
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Say which rule a test looks at.

    Args:
        number: That of the rule, or such as ``H3``: the third row of table H.
        level: How much the specification insists.
        text: The rule in one sentence.
        source: Where it comes from: ``layer.md#whiteouts``, or words for what is no page of the specification.
        ours: What we do, as far as the rule leaves it open.
    """
    key = f"spec_{number:03}" if isinstance(number, int) else f"spec_{number[0].lower()}_{int(number[1:]):02}"
    made = Rule(key=key, level=level, text=text, source=source, ours=ours)

    def keep(test: Callable[P, None]) -> Callable[P, None]:
        assert test.__name__.startswith(f"test_{key}_"), test.__name__
        assert RULES.setdefault(key, made) == made, f"two rules {number}"
        return test

    return keep


# -- images ------------------------------------------------------------------------------------------------------------


class Unpacked:
    """A tree, the same in all ways, and what was said about it."""

    def __init__(self, root: Path, report: Report, from_store: Report) -> None:
        self.root = root
        self.tree = read(root)
        self.sketch = sketch(self.tree)
        """Without attributes, see `tests.support.tree.sketch`."""
        self.report = report
        self.from_store = from_store

    def __getitem__(self, path: str) -> Node:
        return self.tree[path.encode()]

    def __contains__(self, path: str) -> bool:
        return path.encode() in self.tree

    @property
    def warnings(self) -> str:
        """All of them, one a line."""
        return "\n".join(self.report.warnings)

    @property
    def losses(self) -> dict[LossKind, int]:
        """What could not be applied, by kind; owners count only where somebody may set them."""
        return _counted(self.report)

    @property
    def losses_from_store(self) -> dict[LossKind, int]:
        """The same by way of a store."""
        return _counted(self.from_store)


def _counted(report: Report) -> dict[LossKind, int]:
    return {kind: count for kind, count in report.losses.items() if kind is not LossKind.OWNER or can_chown()}


class Place:
    """A directory to write layouts in, and to unpack them directly and by way of a store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0

    def new(self, name: str = "layout") -> Path:
        """Give a path at which nothing is yet."""
        self._count += 1
        return self.path / f"{name}-{self._count}"

    def write(self, *layers: Entries | bytes, **options: Any) -> LayoutBuilder:
        """Write a layout with one image of these layers; options are those of `write_layout`."""
        tars = [one if isinstance(one, bytes) else layer(*one) for one in layers]
        return write_layout(self.new(), tars, **{"platform": AMD64, **options})

    def builder(self, **options: Any) -> LayoutBuilder:
        """Write a layout without an image."""
        return LayoutBuilder(self.new(), **options)

    def unpack(self, source: LayoutBuilder | str, tag: str | None = None, **options: Any) -> Unpacked:
        """Unpack in all ways; they agree on the tree."""
        where = _where(source, tag)
        options = {"platform": AMD64, "labels": False, **options}
        direct, copied = self.new("direct"), self.new("copied")
        report = unpack(where, direct, **options)
        from_store = unpack(where, copied, store=self.new("store"), sync=False, **options)
        found = Unpacked(direct, report, from_store)
        assert diff(found.tree, read(copied)) == []
        return found

    def image(self, *layers: Entries | bytes, **options: Any) -> Unpacked:
        """Write an image of these layers and unpack it."""
        return self.unpack(self.write(*layers), **options)

    def refused(self, kind: type[E], source: LayoutBuilder | str, tag: str | None = None, **options: Any) -> E:
        """Fail to unpack, in all ways with one sentence and the exit status of the family; nothing is left behind."""
        where = _where(source, tag)
        options = {"platform": AMD64, "labels": False, **options}
        found: list[E] = []
        for store in (None, self.new("store")):
            dest = self.new("refused")
            before = sorted(os.listdir(self.path))
            with pytest.raises(kind) as raised:
                unpack(where, dest, store=store, sync=False, **options)
            found.append(raised.value)
            assert sorted(os.listdir(self.path)) in (before, sorted([*before, store.name] if store else before))
            if store is not None and store.exists():
                assert os.listdir(store / "staging") == []
        failure, again = map(failure_of, found)
        assert failure == again
        assert "\n" not in failure.message
        assert failure.message.isprintable()
        assert failure.status in STATUSES.values()
        return found[0]

    def refused_image(self, kind: type[E], *layers: Entries | bytes, **options: Any) -> E:
        """Write an image of these layers and fail to unpack it."""
        return self.refused(kind, self.write(*layers), **options)


@cache
def no_permissions() -> int:
    """Give the fewest permissions with which the tests can still read what they have made: none, for root."""
    with tempfile.NamedTemporaryFile() as probe:
        os.chmod(probe.name, 0o000)
        return 0o000 if os.access(probe.name, os.R_OK) else 0o500


def _where(source: LayoutBuilder | str, tag: str | None) -> str:
    layout = str(source.path) if isinstance(source, LayoutBuilder) else source
    return f"{layout}:{tag}" if tag is not None else layout


def told(error: UnpackError) -> str:
    """Give all that a user reads: the sentence and the hint."""
    failure = failure_of(error)
    return failure.message if failure.hint is None else f"{failure.message} ({failure.hint})"


def status(error: UnpackError) -> int:
    """Give the exit status."""
    return failure_of(error).status
