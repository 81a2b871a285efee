"""A snapshot store one of whose files is damaged: it is said so, and a repair leaves a store that is right."""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.mutators import json_document
from fuzz.scratch import remove, scratch
from fuzz.target import Target
from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import file, layer
from unpacker.errors import UnpackError
from unpacker.snapshots import fsck
from unpacker.snapshots.opening import open_snapshotter
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from unpacker.snapshots.base import StoreSnapshotter

_KEYS = ("work", "view")


@cache
def _pristine() -> Path:
    """Give a store with two layers, a snapshot that is written to, a view, and a file for each thing that is kept."""
    place = scratch("catalog")
    write_layout(place / "layout", [layer(file("a", b"1")), layer(file("b"))], compression="none")
    report = unpack(place / "layout", place / "dest", store=place / "pristine", sync=False, labels=False)
    with open_snapshotter(place / "pristine", sync=False) as store:
        store.prepare(_KEYS[0], report.chain_id)
        store.view(_KEYS[1], report.chain_id)
    (place / "pristine" / "leases" / "0").write_text(str(report.chain_id))
    return place / "pristine"


@cache
def _files() -> tuple[str, ...]:
    """Give what may be damaged."""
    found = [path for path in _pristine().rglob("*") if path.is_file() and "locks" not in path.parts]
    return tuple(sorted(str(path.relative_to(_pristine())) for path in found if path.parent.name != "fs"))


@cache
def _names() -> tuple[str, ...]:
    with open_snapshotter(_pristine(), sync=False) as store:
        return tuple(sorted({info.name for info in store.walk()}, key=lambda name: (name not in _KEYS, name)))


def check(data: bytes) -> None:
    """Damage one file, the one that the first byte says, and do with the store what people do."""
    copy = scratch("catalog") / "store"
    shutil.copytree(_pristine(), copy, symlinks=True)
    damaged = copy / _files()[data[0] % len(_files())] if data else copy / "version"
    damaged.write_bytes(data[1:])
    try:
        with open_snapshotter(copy, sync=False) as store:
            _use(store)
            found = fsck.repair(store)
            for fault in (*found.faults, *found.removed):
                assert str(fault).isprintable(), fault
            faults = [fault for fault in fsck.check(store).faults if fault.kind != "active"]
            in_use = [fault for fault in faults if fault.kind == "snapshot"]  # never taken from under what is active
            assert faults == in_use, faults
    except UnpackError as error:
        check_refusal(error)
    finally:
        remove(copy)


def _use(store: StoreSnapshotter) -> None:
    """Read everything; each call gives an answer or one of our errors."""
    calls: list[Callable[[], object]] = [
        lambda: list(store.walk()),
        lambda: list(store.walk("kind==active", 'labels.a~="b"')),
        lambda: list(store.catalog.images()),
        store.catalog.leased,
    ]
    for name in _names():
        calls += [
            lambda name=name: store.stat(name),  # type: ignore[misc]
            lambda name=name: store.usage(name),  # type: ignore[misc]
            lambda name=name: store.mounts(name),  # type: ignore[misc]
            lambda name=name: store.chain(name),  # type: ignore[misc]
        ]
    calls.append(lambda: store.prepare("another", _names()[-1]))
    for call in calls:
        with suppress(UnpackError):
            call()


def seeds() -> Iterator[bytes]:
    """Give every file as it is, and nothing in it."""
    for number, name in enumerate(_files()):
        yield bytes([number]) + (_pristine() / name).read_bytes()
        yield bytes([number])


def mutate(data: bytes, chance: Random) -> bytes:
    """Change a document, but not which file it is for."""
    return data[:1] + json_document(data[1:], chance)


WORDS = (
    b"unpack-snapshots 1 native\n",
    b"unpack-snapshots 1 overlay\n",
    b"\xff",
    b'"parent":',
    b"null",
    b'"committed"',
)

TARGET = Target(check=check, seeds=seeds, mutate=mutate, longest=2500, words=WORDS)
