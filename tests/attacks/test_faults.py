"""Every system call fails once: whatever it was, there is an error that says so, and nothing of the run is left.

`tests.attacks.faults` is the machinery, and tries all of it for docs/faults.md.  Here some hundred faults are tried, each
call in each way to unpack, and what comes of them must be what the page says.
"""

from __future__ import annotations

import ast
import errno
import pickle
import re
import signal
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.attacks import faults
from tests.attacks.faults import FAULTS, WAYS, Place, Way, places, read_page, title_of
from tests.attacks.faults_inject import AFTER, FCNTL, FROM_C, NEVER, Fault, Plan, Spot, system_calls
from tests.support.probes import can_chown, can_mknod, can_set_trusted_xattr
from tests.unpack.command import Outcome, refused, run

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
PAGE = faults.PAGE.read_text()
CELLS = read_page(PAGE)
ELSEWHERE = {
    "kill": "a process that is still at work when its parent fails",
    "pread": "a blob that is read in any order",
    "sendfile": "where the filesystem cannot copy within the kernel",
    "sync": "where the C library has no syncfs",
    "waitid": "a process that is still at work when its parent fails",
}
"""Calls that no run of the table makes, and what makes them."""
WORD = re.compile(rf"{faults.NOTHING}|(done( less \w+( and \w+)*)?( warned)?|\d+( whole)?)( swept)?")
COMMAND = """
import pickle, signal, sys
from tests.attacks.faults_inject import Watch
from unpacker.cli import unpack_main
signal.signal(signal.SIGINT, signal.default_int_handler)
with open(sys.argv[1], "rb") as file:
    plan = pickle.load(file)
with Watch(plan).at_work():
    status = unpack_main(["-q", *sys.argv[2:]])
sys.exit(status)
"""


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.name)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with places(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def new() -> Iterator[Place]:
    with places(WAYS[0]) as found:
        yield found


def is_as_on_the_page() -> bool:
    """Whether this caller can do all that the page's could."""
    return can_chown() and can_mknod() and can_set_trusted_xattr()


def chosen(spots: dict[Spot, int], way: Way) -> list[Plan]:
    """Choose some faults: of each call, or each other one, another kind from another place."""
    by_title: dict[str, list[Spot]] = {}
    for spot in spots:
        by_title.setdefault(title_of(spot), []).append(spot)
    offset = WAYS.index(way)
    kinds = islice(cycle(FAULTS), offset * 5, None)
    plans = []
    for number, (_, some) in enumerate(sorted(by_title.items())):
        if offset and (number + offset) % 2:
            continue
        plans.append(Plan(some[number * 7 % len(some)], 1, next(kinds)))
    return plans


def test_a_call_that_fails(place: Place) -> None:
    """What comes of it is what the page says, nothing is left, and the error says at what."""
    wrong = []
    tried = 0
    for plan in chosen(place.spots(), place.way):
        word, found = place.outcome(plan)
        allowed = CELLS.get((place.way.name, title_of(plan.spot), plan.fault.name), set())
        if is_as_on_the_page() and word and word not in allowed:
            found.append(f"{word}, and the page says {sorted(allowed)}")
        wrong += [f"{plan}: {word}: {one}" for one in found]
        tried += bool(word)
    assert not wrong
    assert tried > (2 if place.way.store and place.way.forks else 10)


class Found(NamedTuple):
    """A fault of which something was wrong once."""

    way: str
    call: str
    where: str
    fault: Fault
    word: str
    number: int = 1


FOUND = {
    "parents that were made stayed": Found("new", "open", "tree.destination._open_parent", Fault("EIO"), "6"),
    "an ACL that was handed down stayed": Found("new", "removexattr", "tree.private._take", Fault("EIO"), "6"),
    "a tree stayed open": Found("new", "sched_getaffinity", "layer.ahead.default_jobs", Fault("EIO"), "6"),
    "the error did not say at what": Found("new", "fstat", "content.blob.read_regular", Fault("EIO"), "6"),
    "what is mounted was taken for files": Found("force", "open", "tree.mounts.mount_points", Fault("EMFILE"), "6"),
    "a descriptor was closed twice": Found("inside", "close", "tree.directory.forget", Fault("SIGTERM", AFTER), "143"),
    "xattrs were lost in silence": Found("copy", "listxattr", "tree.copy.xattrs", Fault("EPERM"), "6"),
    "all of a tree stayed open": Found("copy", "unlink", "snapshots.catalog._let_go", Fault("EROFS"), "6 swept", 2),
    "a lease stayed held": Found("copy", "pwrite", "tree.lock.release", Fault("memory"), "1"),
    "a process went on": Found("jobs", "fork", "child.__init__", Fault("SIGTERM", AFTER), "143"),
}


def test_what_was_found_is_found_no_more(place: Place) -> None:
    spots = place.spots()
    for name, found in FOUND.items():
        if found.way == place.way.name:
            spot = next(one for one in spots if one.call == found.call and found.where in one.where and not one.labels)
            word, wrong = place.outcome(Plan(spot, found.number, found.fault))
            assert (word, wrong) == (found.word, []), name


def test_a_run_makes_no_call_that_the_page_has_not(place: Place) -> None:
    """Else: ``python -m tests.attacks.faults --write``."""
    rows = {title for way, title, _ in CELLS if way == place.way.name}
    made = {title_of(spot) for spot in place.spots()}
    assert made <= rows if is_as_on_the_page() else made & rows


def test_every_call_in_the_code_is_on_the_page() -> None:
    rows = {title.removesuffix(faults.LABELS) for _, title, _ in CELLS}
    watched = {
        "os": {*system_calls(), "scandir"},
        "fcntl": set(FCNTL),
        "libc": set(FROM_C),
        "select": {"poll", "select"},
    }
    called = set()
    for path in (PROJECT / "unpacker").rglob("*.py"):
        if "cli" in path.parts or path.name in (
            "kernel.py",
            "idmaps.py",
            "mounting.py",
            "by_name.py",
            "by_descriptor.py",
        ):
            continue  # what is said, and what is mounted
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = node.value.id
                if module in ("os", "fcntl", "select", "libc") and node.attr in watched[module] - NEVER:
                    called.add(node.attr)
    assert called - rows == ELSEWHERE.keys()
    assert {"open", "mkdir", "flock", "syncfs", "renameat2", "fork", "poll", "copy_file_range"} <= called


def test_the_page_says_nothing_but_what_it_explains() -> None:
    words = {word for cell in CELLS.values() for word in cell}
    assert {word for word in words if not WORD.fullmatch(word)} == set()
    assert {way for way, _, _ in CELLS} == {way.name for way in WAYS}


def test_the_table_is_made_by_its_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Of one call, that is, which takes no time."""
    assert faults.main(["--way", "new", "--call", "symlink", "--jobs", "1"]) == 0

    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| symlink |"))
    assert row in PAGE


def test_what_is_said_of_a_failing_call(new: Place) -> None:
    """At which entry of which layer it was."""
    layers = {one.name for one in (new.layout / "blobs/sha256").iterdir()}
    spots = new.spots()
    for call in ("symlink", "mkfifo", "write"):
        spot = next(spot for spot in spots if spot.call == call and not spot.labels and spot.where[0] != "child.tell")
        new.reset()
        ran = new.run(Plan(spot, 1, Fault("EIO")))
        line = refused(Outcome(ran.status, "", ran.lines), 6)
        found = re.fullmatch(r"(?:'\w+': )?entry '[\w/]+': layer sha256:(\w+): Input/output error", line)
        assert found, line
        assert found[1] in layers
        assert ran.details["errno"] == errno.errorcode[errno.EIO]


MOMENTS = {
    "before anything is there": ("mkdir", "tree.rights.make_directory", "tree.private.make_private"),
    "while a layer is read": ("read", "content.blob.read", ""),
    "while a file is written": ("write", "tree.data.write_all", ""),
    "while names move": ("rename", "tree.directory.move", ""),
    "while it is put in place": ("rename", "tree.destination.replace", ""),
    "while the workspace goes": ("rmdir", "tree.workspace._remove_workspace", ""),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_real_signal_to_a_real_process(name: str, moment: str, new: Place, tmp_path: Path) -> None:
    """The command in a process of its own, which is sent a signal by itself at a moment of our choice."""
    call, *where = MOMENTS[moment]
    spot = next(one for one in new.spots() if one.call == call and all(part in one.where for part in where if part))
    new.reset()
    (tmp_path / "plan").write_bytes(pickle.dumps(Plan(spot, 1, Fault(name))))
    number = getattr(signal, name)

    outcome = run([sys.executable, "-c", COMMAND, str(tmp_path / "plan"), str(new.layout), str(new.dest)], cwd=PROJECT)

    assert refused(outcome, 128 + number) == f"stopped by {name}"
    late = moment in ("while it is put in place", "while the workspace goes")
    assert new.is_whole() if late else new.is_as_before()
    assert new.left() == set()


def test_the_tree_is_one_that_uses_everything(new: Place) -> None:
    """Else the calls above would not be made."""
    assert {"file", "directory", "symlink"} <= {node.kind for node in new.good.values()}
    assert new.good[b"usr/lib/through"].content == b"x"
