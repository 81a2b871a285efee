"""Every target over its seeds, without the fuzzer; and that each of them would notice."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from fuzz.choices import Choices
from fuzz.target import NAMES, SLOW, Target, TooSlowError, load
from tests.support.markdown import PROJECT
from unpacker import resolve
from unpacker.archive import gzipstream, pax, sparse
from unpacker.archive.reader import TarReader
from unpacker.archive.zstdframes import FrameWalk
from unpacker.content import labels, names
from unpacker.layer.maker import Maker
from unpacker.layer.stage import Stager
from unpacker.snapshots.catalog import Catalog
from unpacker.snapshots.record import SnapshotRecord
from unpacker.spec import strictjson
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest
from unpacker.spec.filters import _Parser
from unpacker.spec.platforms import Platform
from unpacker.tree.owners import IdMap

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_TARGET = pytest.mark.parametrize("name", NAMES)


@EVERY_TARGET
def test_nothing_is_found_in_the_seeds(name: str) -> None:
    target = load(name)
    seeds = list(target.seeds())
    assert seeds

    for seed in seeds:
        assert len(seed) <= target.longest
        target.run(seed)


@EVERY_TARGET
def test_nothing_is_found_in_seeds_that_are_changed(name: str) -> None:
    """A few steps of the fuzzer's way, the same each time."""
    target = load(name)
    chance = Random(name)  # noqa: S311 -- the same each time
    seeds = list(target.seeds())

    for _ in range(20):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((0, 1, 3))):
            at = chance.randrange(len(data) + 1)
            data[at : at + 1] = b""
            data.insert(chance.randrange(len(data) + 1), chance.randrange(256))
        target.run(target.mutate(bytes(data), chance) if target.mutate is not None else bytes(data))


# -- that they would notice --------------------------------------------------------------------------------------------


def _broken(owner: Any, name: str, change: Callable[[Any], Any]) -> tuple[Any, str, Callable[[Any], Any]]:
    return owner, name, change


def _one_more(found: Any) -> Any:
    return lambda *given, **named: found(*given, **named) + 1


MISTAKES = {
    "tar": _broken(TarReader, "whole", lambda whole: lambda self: (whole(self) or b"1")[:-1]),
    "pax": _broken(pax, "nanoseconds", _one_more),
    "sparse": _broken(sparse, "checked", lambda _: lambda segments, _size, _stored: segments),
    "gz": _broken(gzipstream, "header_size", lambda _: lambda _data, _at: 10),
    "zst": _broken(FrameWalk, "finish", lambda _: lambda _self: None),
    "strictjson": _broken(strictjson._Decoder, "_object", lambda _: lambda _self, pairs: dict(pairs)),
    "documents": _broken(Descriptor, "from_json", lambda read: lambda value: read(value).changed(size=1)),
    "digests": _broken(Digest, "__str__", lambda _: lambda self: f"{self.algorithm}-{self.encoded}"),
    "platforms": _broken(Platform, "normalized", lambda _: lambda self: self),
    "filters": _broken(_Parser, "_take", lambda take: lambda self, char: char != "," and take(self, char)),
    "options": _broken(IdMap, "parse", lambda _: lambda _text: IdMap(0, 0, 0)),
    "labels": _broken(labels, "merged", lambda _: lambda _old, new: dict(new)),
    "index": _broken(names._Text, "__str__", lambda text: lambda self: text(self).replace("\n", "")),
    "records": _broken(SnapshotRecord, "as_json", lambda as_json: lambda self: as_json(self.changed(parent="x"))),
    "catalog": _broken(Catalog, "leased", lambda _: lambda _self: b"\xff".decode()),
    "image": _broken(resolve, "_layers", lambda layers: lambda *given: layers(*given)[1:]),
    "layers": _broken(Maker, "file", lambda _: lambda *_given, **_named: None),
    "trees": _broken(Stager, "_take_marker", lambda _: lambda *_given: None),
}


@EVERY_TARGET
def test_a_mistake_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its code broken, a target finds something among its seeds: it is no target that cannot fail."""
    owner, attribute, change = MISTAKES[name]
    target = load(name)
    seeds = list(target.seeds())
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute, None)))

    with pytest.raises(Exception):  # noqa: B017, PT011 -- whatever it says
        _run_all(target, seeds)


def _run_all(target: Target, seeds: list[bytes]) -> None:
    for seed in seeds:
        target.run(seed)


def test_an_input_that_takes_the_processor_for_long_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.target.SLOW", 0.001)

    with pytest.raises(TooSlowError, match=r"s of the processor for 1 bytes"):
        Target(check=lambda _: sum(range(10**7)), seeds=list).run(b"1")  # type: ignore[arg-type]
    assert SLOW > 1


# -- what targets are made of ------------------------------------------------------------------------------------------


def test_choices_end_with_the_first_of_everything() -> None:
    choices = Choices(b"\x05\x01\x02")

    assert [choices.pick("abc"), choices.below(1000), choices.left] == ["c", 0x0102, 0]
    assert [choices.pick("abc"), choices.below(1000), choices.take(3), choices.once_in(2)] == ["a", 0, b"", False]


def test_every_target_has_its_line_in_the_docs() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", (PROJECT / "docs" / "fuzzing.md").read_text(), re.MULTILINE)
    there = {path.stem for path in (PROJECT / "fuzz" / "targets").glob("*.py")} - {"__init__", "broken"}

    assert set(listed) == set(NAMES) == there


def test_nothing_is_left_by_a_target() -> None:
    """What a target makes is in its scratch, and gone after each input but for what it began with."""
    from fuzz.scratch import scratch  # noqa: PLC0415

    for name in ("layers", "trees", "image"):
        with suppress(StopIteration):
            load(name).run(next(iter(load(name).seeds())))
    assert set(os.listdir(scratch("arena"))) == {"outside"}
