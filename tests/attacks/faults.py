"""Every system call of an unpack fails once, in every way it can: what comes of it, as a table (docs/faults.md).

``python -m tests.attacks.faults`` finds out which calls a run makes and from where, lets each of them fail with each
fault in a process of its own, the first call from each place, and prints the tables.  ``--write`` puts them into the page;
``--way`` and ``--call`` choose, and leave the tables and rows of others; ``--every`` lets every single call fail.  The
whole takes a quarter of an hour.  It fails if a run leaves anything behind, or ends otherwise than a failed call may.

`tests/attacks/test_faults.py` tries a part of it every day, and compares that with the page.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import pickle
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.attacks.faults_inject import AFTER, MEMORY, Fault, Plan, Spot, Watch
from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import (
    char,
    directory,
    fifo,
    file,
    hardlink,
    layer,
    opaque,
    sparse_pax,
    symlink,
    whiteout,
)
from tests.support.tree import diff, files_below, read
from tests.unpack.command import unpack
from unpacker.layer import ahead, batch
from unpacker.snapshots.fsck import check
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.tree import remove

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.tree import Tree

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
_PART = 200
"""Faults that one process tries at a time."""
PATIENCE = 120.0
"""Seconds after which a run hangs, on a machine that is busy."""
ERRNOS = ("ENOSPC", "EIO", "EMFILE", "EDQUOT", "EACCES", "ENAMETOOLONG", "EINTR", "EPERM", "EROFS")
COLUMNS = (*ERRNOS, MEMORY, "SIGINT", "SIGTERM")
FORKING = ("child.", "layer.ahead.", "layer.batch.", "snapshots.ahead.")
"""What a process does for those that it forks."""
NOTHING = "\N{EN DASH}"
BETWEEN = "\n\nNo failure, or not all as it was:\n\n"
FAILED = "\N{HORIZONTAL ELLIPSIS}"
LABELS = ", for labels"
FAULTS = (*(Fault(name) for name in COLUMNS), Fault("SIGINT", AFTER), Fault("SIGTERM", AFTER))
OTHER_CODES = {
    ("ENAMETOOLONG", "layout-not-found"),  # a layout whose name is too long is not there
    ("access", "destination"),  # it tells no errno; who may not rename DEST cannot replace it
    ("EPERM", "snapshot-state"),  # who may not chown all of a sudden cannot use what was made with owners
    ("EACCES", "snapshot-state"),
}
"""Errors that are not those of a system call, and right all the same."""
LAYERS = [
    [
        directory("etc", mode=0o750, xattrs={"user.d": b"d"}),
        file("etc/passwd", b"root", mode=0o644, uid=1, gid=1, xattrs={"user.x": b"x"}),
        hardlink("etc/later", "usr/lib/large"),
        file("usr/lib/large", bytes(range(256)) * 3000, mode=0o4755),
        hardlink("usr/lib/same", "usr/lib/large"),
        sparse_pax("usr/lib/sparse", [(0, b"x"), (1 << 20, b"y")], 2 << 20),
        symlink("lib", "usr/lib", uid=1),
        fifo("etc/fifo", mode=0o666, xattrs={"user.f": b"f"}),
        char("etc/null", 1, 3, mode=0o666),
        *[file(f"old/deep/er/{number}", b"old") for number in range(5)],
        *[directory("/".join(["nested"] * depth)) for depth in range(1, 7)],
    ],
    [
        whiteout("old/deep/er/0"),
        opaque("old/deep"),
        file("old/deep/new"),
        directory("etc", mode=0o755),
        file("etc/fifo"),
    ],
    [whiteout("nested"), file("lib/through", b"x"), hardlink("lib/passwd", "etc/passwd"), file("etc/passwd", b"new")],
]


# -- ways to unpack ----------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """A way to unpack, in which other calls are made."""

    name: str
    words: tuple[str, ...] = ()
    dest: str = "above/dest"
    """Below the place; ``.`` is the current directory, which is ``here``."""
    before: tuple[str, ...] = ()
    """Files that are there before."""
    store: bool = False
    full: bool = False
    """Whether the store has the image already."""
    forks: bool = False


WAYS = (
    Way("new"),
    Way("force", ("--force",), "dest", ("dest/old",)),
    Way("inside", dest="."),
    Way("store", ("--store", "store"), store=True),
    Way("copy", ("--store", "store"), store=True, full=True),
    Way("jobs", ("--jobs", "2"), forks=True),
    Way("store-jobs", ("--store", "store", "--jobs", "2"), store=True, forks=True),
)


class Place:
    """Where the same image is unpacked again and again, one way."""

    def __init__(self, path: Path, way: Way) -> None:
        self.path = path
        self.way = way
        self.layout = path / "layout"
        self.here = path / "here"
        self.notes = path / "notes"
        self.store = path / "store"
        self.dest = self.here if way.dest == "." else path / way.dest
        for made in (self.here, self.notes):
            made.mkdir()
        write_layout(self.layout, [layer(*entries) for entries in LAYERS])
        with _within(self.here):
            for wrong in ([], ["--strict", "--no-such"]):  # what a run imports, the forked ones have already then
                self.reset()
                unpack(*wrong, *self.words())
        self.reset()
        if way.full:
            self.plain()
            self.reset()
        self.good, self.usual = self.plain()
        self.reset()
        self.before = self.listing()
        self.blobs = self._blobs()

    # -- the ground ----------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Leave nothing of the last run."""
        kept = {"layout", "notes", "here", *(("store",) if self.way.full else ())}
        for path in self.path.iterdir():
            if path.name not in kept:
                _remove(path)
        for path in [*self.notes.iterdir(), *self.here.iterdir(), self.layout / "labels"]:
            _remove(path)
        for name in self.way.before:
            (self.path / name).parent.mkdir(exist_ok=True)
            (self.path / name).write_text("old")

    def listing(self) -> set[str]:
        """Name what is there, but for what is in finished trees, in the store and in the layout."""
        found = {path.name for path in self.path.iterdir()} - {"layout", "notes", "store"}
        return found | {f"here/{path.name}" for path in self.here.iterdir()} | self._above()

    def _above(self) -> set[str]:
        above = self.dest.parent
        names = list(above.iterdir()) if above != self.path and above.is_dir() else []
        return {f"{above.name}/{path.name}" for path in names}

    def is_as_before(self) -> bool:
        """Whether there is nothing of a run."""
        return self.listing() == self.before and self._has_old()

    def _has_old(self) -> bool:
        return all(path.is_file() and path.read_text() == "old" for path in map(self.path.joinpath, self.way.before))

    def is_whole(self) -> bool:
        """Whether DEST is what the image is."""
        return self.dest.is_dir() and not diff(self.good, read(self.dest))

    def left(self) -> set[str]:
        """Name what is there beside DEST, and should not."""
        mine = {f"{self.dest.parent.name}/{self.dest.name}", self.dest.name, self.dest.parent.name, "here"}
        inside = {f"here/{os.fsdecode(name)}" for name in self.good} if self.way.dest == "." else set()
        return {name for name in self.listing() - mine - inside if "unpack-" in name or name not in self.before}

    def _blobs(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in files_below(self.layout) if "labels" not in path.parts}

    def wrong_in_layout(self) -> list[str]:
        """Say what is wrong with the layout: blobs that are others, labels that are no whole ones."""
        wrong = [] if self._blobs() == self.blobs else ["the layout has changed"]
        for path in files_below(self.layout / "labels"):
            if path.name == ".lock":
                continue
            try:
                assert path.suffix == ".json"
                assert json.loads(path.read_text())
            except (AssertionError, ValueError):
                wrong.append(f"{path.name} among the labels")
        return wrong

    # -- a run ---------------------------------------------------------------------------------------------------------

    def words(self) -> list[str]:
        given = [str(self.store) if word == "store" else word for word in self.way.words]
        return ["--format", "json", *given, str(self.layout), "." if self.way.dest == "." else str(self.dest)]

    def run(self, plan: Plan | None = None) -> Ran:
        """Unpack in a process of its own; what there was before it is gone."""
        for path in self.notes.iterdir():
            path.unlink()
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            _begin(self, plan, writing)
        os.close(writing)
        said = _all_of(reading, pid)
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if not said:
            return Ran(status, "", {}, [], [], [f"ended by itself with {status}"], {}, {}, hit=True)
        ran: Ran = pickle.loads(said)  # noqa: S301
        return ran

    def plain(self) -> tuple[Tree, Ran]:
        """Unpack without a fault."""
        ran = self.run()
        assert ran.status == 0, ran
        assert not ran.leaks, ran
        return read(self.dest), ran

    def spots(self) -> dict[Spot, int]:
        """Count the calls of a run, by where they are made."""
        self.reset()
        ran = self.plain()[1]
        found = dict(ran.counts)
        if self.way.forks:
            # Of the process that forks, what it does for the others; all else is as in the other ways.
            found = {spot: 1 for spot in found if any(one.startswith(FORKING) for one in spot.where)}
        if not self.way.store:
            for counts, _ in self._noted():
                found |= counts
        return found

    def _noted(self) -> list[tuple[dict[Spot, int], bool]]:
        """Read what forked processes have left of their calls; one that was killed has left nothing, or a part."""
        found = []
        for path in sorted(self.notes.iterdir()):
            with suppress(EOFError, pickle.UnpicklingError):
                found.append(pickle.loads(path.read_bytes()))  # noqa: S301
        return found

    # -- what came of it -----------------------------------------------------------------------------------------------

    def outcome(self, plan: Plan) -> tuple[str, list[str]]:
        """Give what comes of a fault in the words of the table, and what is wrong with it."""
        self.reset()
        ran = self.run(plan)
        if not ran.leaks and not ran.hit and not any(done for _, done in self._noted()):
            return "", []
        wrong = [*ran.leaks, *self.wrong_in_layout(), *_unclear(ran, plan)]
        if ran.status == 0:
            word, bad = self._done(ran)
        else:
            word, bad = self._failed(ran)
        wrong += bad
        if self.way.store and word != "done":
            swept, bad = self._store_after(ran)
            word += " swept" if swept and "swept" not in word else ""
            wrong += bad
        return word, wrong

    def _done(self, ran: Ran) -> tuple[str, list[str]]:
        word = "done"
        wrong = [f"{name} is left" for name in sorted(self.left())]
        more = {kind for kind, count in ran.losses.items() if count > self.usual.losses.get(kind, 0)}
        if more:
            word += f" less {' and '.join(sorted(more))}"
        elif not self.is_whole():
            wrong.append("DEST is not what it should be")
        if ran.warnings:
            word += " warned"
        return word, wrong

    def _failed(self, ran: Ran) -> tuple[str, list[str]]:
        if self.is_as_before():
            return str(ran.status), []
        word, wrong, left = str(ran.status), [], self.left()
        if self.is_whole():
            word += " whole"
        elif self.listing() - left != self.before or not self._has_old():
            wrong.append(f"DEST is neither old nor new: {sorted(self.listing())}")
        if left:
            word += " swept"
            again = self.run()  # which may find a DEST that is not empty, but sweeps before it looks
            if self.left() or not self.is_whole():
                wrong.append(f"{sorted(left)} left, and not swept: {again.lines}")
        return word, wrong

    def _store_after(self, ran: Ran) -> tuple[bool, list[str]]:
        """Look at the store, and use it; whether the next run has swept something, and what is wrong."""
        wrong = []
        swept = False
        if (self.store / "version").exists():
            swept = any(list((self.store / name).iterdir()) for name in ("staging", "leases"))
            with OverlaySnapshotter(self.store, sync=False) as snapshots:
                wrong = [str(fault) for fault in check(snapshots).faults]
        if ran.status == 0:  # with a loss, which is the layer's, that stays in the store
            return swept, wrong
        if self.is_whole():
            _remove(self.dest)
        again = self.run()
        if again.status:
            wrong.append(f"the next run: {again.lines}")
        elif not self.is_whole():
            wrong.append("the next run has made another tree")
        left = [str(path) for name in ("staging", "leases") for path in (self.store / name).iterdir()]
        return swept, wrong + left


class Ran(NamedTuple):
    """What a run has said and left in its own process."""

    status: int
    code: str
    losses: dict[str, int]
    warnings: list[str]
    lines: list[str]
    """Of stderr."""
    leaks: list[str]
    counts: dict[Spot, int]
    details: dict[str, Any]
    hit: bool
    """Whether the fault has come, in the process that was begun."""


@contextmanager
def _within(path: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def _begin(place: Place, plan: Plan | None, writing: int) -> None:
    """Be the process that unpacks; nothing of the caller goes on in it."""
    try:
        gc.disable()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has those in the background ignore it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(place.here)
        if place.way.forks:
            ahead.WORTH = 0
        remove._DEEPEST = 3
        if place.way.forks:
            batch._INTERVAL = 1e9  # how often there is progress to be told is a matter of time
        os.write(writing, pickle.dumps(_ran(place, plan)))
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 -- whatever it is
        os.write(2, f"{error!r}\n".encode())
    finally:
        os._exit(1)


def _ran(place: Place, plan: Plan | None) -> Ran:
    watch = Watch(plan, place.notes)
    before = _opened()
    with watch.at_work():
        outcome = unpack(*place.words())
    leaks = []
    # A signal that comes between a call and its assignment, or just before a close, takes a descriptor with it, which
    # Python has no way around; the process ends after it.
    if (more := _opened() - before) > (2 if plan and plan.fault.signal else 0):
        leaks.append(f"{more} descriptors stay open")
    if _threads() > 1:
        leaks.append("threads go on")
    with suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        leaks.append("a process goes on")
    said = json.loads(outcome.out) if outcome.out else {}
    return Ran(
        outcome.status,
        said.get("code", ""),
        said.get("losses", {}),
        said.get("warnings", []),
        outcome.lines,
        leaks,
        watch.counts,
        said.get("details", {}),
        watch.done,
    )


def _threads() -> int:
    """Count threads; those that end wait for nobody, and may need a moment more than the run."""
    end = time.monotonic() + PATIENCE / 10
    while (found := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < end:
        time.sleep(0.001)
    return found


def _opened() -> int:
    return len(os.listdir("/proc/self/fd"))


def _all_of(reading: int, pid: int) -> bytes:
    """Read what a process says; it is ended if that takes too long."""
    said = b""
    end = time.monotonic() + PATIENCE
    while select.select([reading], [], [], max(0.0, end - time.monotonic()))[0]:
        data = os.read(reading, 1 << 16)
        if not data:
            return said
        said += data
    os.kill(pid, signal.SIGKILL)
    return b""


def _unclear(ran: Ran, plan: Plan) -> list[str]:
    """Say what is wrong with what a run says of its failure."""
    wrong = []
    errors = [line for line in ran.lines if line.startswith("unpack: error: ")]
    fault = plan.fault
    if ran.status == 0:
        return [f"says {line}" for line in errors]
    if len(errors) != 1:
        wrong.append(f"says {ran.lines}")
    if fault.signal is not None:
        if ran.status != 128 + fault.signal:
            wrong.append(f"ends with {ran.status}: {ran.lines}")
    elif fault.name == MEMORY:
        if (ran.status, ran.code) != (1, "internal") or "out of memory" not in errors[0]:
            wrong.append(f"says {ran.lines}")
    elif ran.code == "filesystem":
        if ran.details.get("errno") != fault.name and plan.spot.call != "thread":
            wrong.append(f"is of another errno: {ran.details}, {ran.lines}")
        if errors and re.sub("descriptor [0-9]+: ", "", errors[0].removeprefix("unpack: error: ")).count(": ") < 1:
            wrong.append(f"does not say at what: {ran.lines}")
    elif (fault.name, ran.code) not in OTHER_CODES and (plan.spot.call, ran.code) not in OTHER_CODES:
        wrong.append(f"is of another family: {ran.code} {ran.lines}")
    return wrong


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# -- the table ---------------------------------------------------------------------------------------------------------


class Tried(NamedTuple):
    """What came of one fault."""

    way: str
    plan: Plan
    word: str
    wrong: tuple[str, ...]


class Row(NamedTuple):
    """What came of all faults of one call, one way."""

    way: str
    call: str
    made: int
    failed: int
    cells: dict[str, tuple[str, ...]]
    """Outcomes, by the name of the fault."""


def plans(spots: dict[Spot, int], *, every: bool = False) -> Iterator[Plan]:
    """Give what is to be tried: the first call from each place, or each, with each fault."""
    for spot, made in spots.items():
        for number in range(1, made + 1) if every else (1,):
            for fault in FAULTS:
                yield Plan(spot, number, fault)


def expected(fault: str, role: str) -> str:
    """Give what comes of a fault that nothing is done about; what a forked process cannot do, the other one does."""
    if role != "run":
        return "done"
    number = getattr(signal, fault, None) if fault.startswith("SIG") else None
    return str(128 + number) if number is not None else "1" if fault == MEMORY else "6"


def rows(way: str, spots: dict[Spot, int], tried: Iterable[Tried]) -> list[Row]:
    """Sum up what came of the faults, one way."""
    made: defaultdict[str, int] = defaultdict(int)
    for spot, count in spots.items():
        made[title_of(spot)] += count
    failed: defaultdict[str, int] = defaultdict(int)
    cells: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in tried:
        if one.way == way and one.word:
            title = title_of(one.plan.spot)
            failed[title] += 1
            cells[title][one.plan.fault.name].add(one.word)
    return [
        Row(
            way, title, made[title], failed[title], {name: tuple(sorted(words)) for name, words in cells[title].items()}
        )
        for title in sorted(made)
    ]


def title_of(spot: Spot) -> str:
    """Give the first cell of the row that a call counts in."""
    return f"{spot.call}{LABELS if spot.labels else ''}"


def table(found: Iterable[Row]) -> str:
    """Write the rows of one way down."""
    lines = [f"| call | made | failed | {' | '.join(COLUMNS)} |", f"|---|---|---|{'---|' * len(COLUMNS)}"]
    for row in found:
        cells = [", ".join(row.cells.get(name, ())) or NOTHING for name in COLUMNS]
        lines.append(f"| {row.call} | {row.made} | {row.failed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def exceptions(way: str, tried: Iterable[Tried]) -> str:
    """Write down where, one way, a fault is no failure, or does not leave everything as it was."""
    found: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for one in tried:
        spot, fault = one.plan.spot, one.plan.fault.name
        usual = expected(fault, spot.role)
        if one.way == way and not spot.labels and one.word not in ("", usual):
            module, _, function = spot.where[0].rpartition(".")
            where = f"`{module.replace('.', '/')}.py` `{function}`"
            found[spot.call, where, re.sub(rf"^{usual} ", f"{FAILED} ", one.word)].add(fault)
    lines = [f"| {call} | {where} | {_shown(faults)} | {word} |" for (call, where, word), faults in found.items()]
    return "\n".join(["| call | where | faults | outcome |", "|---|---|---|---|", *sorted(lines, key=_cells)])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _shown(faults: set[str]) -> str:
    """Name faults, all errnos that there can be by one word."""
    every = faults >= set(ERRNOS) - {"ENAMETOOLONG"}
    return ", ".join([*(["any errno"] if every else []), *_named(faults - (set(ERRNOS) if every else set()))])


def _named(faults: set[str]) -> list[str]:
    return [name for name in COLUMNS if name in faults]


def replaced(page: str, way: str, text: str, call: str = "") -> str:
    """Put the tables of a way into the page; those of one call only, and the rows of others stay as they are."""
    found = re.search(rf"(?<=<!-- {way} -->\n\n).*?(?=\n\n<!-- /{way} -->)", page, re.DOTALL)
    assert found is not None, way
    if call:
        (old, old_rest), (new, new_rest) = (some.split(BETWEEN) for some in (found[0], text))
        text = _merged(old, new, call) + BETWEEN + _merged(old_rest, new_rest, call)
    return page[: found.start()] + text + page[found.end() :]


def _merged(old: str, new: str, call: str) -> str:
    *head, rows = old.split("\n", 2)
    kept = [line for line in rows.splitlines() if re.split("[ ,]", line)[1] != call]
    lines = kept + new.splitlines()[2:]
    return "\n".join([*head, *sorted(lines, key=_cells)])


def read_page(page: str) -> dict[tuple[str, str, str], set[str]]:
    """Read the cells: by way, call and fault, what may come of it."""
    cells = {}
    for way in WAYS:
        found = re.search(rf"<!-- {way.name} -->\n\n(.*?)\n\n<!-- /{way.name} -->", page, re.DOTALL)
        assert found is not None, way.name
        for line in found[1].split(BETWEEN)[0].splitlines()[2:]:
            call, _, _, *words = _cells(line)
            for name, word in zip(COLUMNS, words, strict=True):
                cells[way.name, call, name] = set(word.split(", "))
    return cells


# -- the command -------------------------------------------------------------------------------------------------------


@contextmanager
def places(way: Way, on: str | None = None) -> Iterator[Place]:
    """Give a place for a way, in memory if there is room; nothing is left of it."""
    path = Path(tempfile.mkdtemp(prefix="faults-", dir=on or in_memory()))
    try:
        place = Place(path, way)
        gc.freeze()  # a forked process that leaves objects alone shares them
        yield place
    finally:
        gc.unfreeze()
        shutil.rmtree(path)


def in_memory() -> str | None:
    """Give a directory in memory, where nothing has to wait for a disk; None if there is none."""
    place = "/dev/shm"
    return place if os.access(place, os.W_OK | os.X_OK) else None


def _spots(task: tuple[Way, str | None]) -> dict[Spot, int]:
    way, on = task
    with places(way, on) as place:
        return place.spots()


def _tried(task: tuple[Way, str | None, list[Plan]]) -> list[Tried]:
    way, on, some = task
    with places(way, on) as place:
        outcomes = [(plan, *place.outcome(plan)) for plan in some]
    return [Tried(way.name, plan, word, tuple(wrong)) for plan, word, wrong in outcomes]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Let every system call of an unpack fail, and say what comes of it.")
    parser.add_argument("--way", action="append", choices=[way.name for way in WAYS], help="only this way")
    parser.add_argument("--call", default="", help="only this call")
    parser.add_argument("--every", action="store_true", help="each call, not the first and the last from each place")
    parser.add_argument("--on", help="where (default: in memory)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/faults.md")
    options = parser.parse_args(words)
    ways = [way for way in WAYS if not options.way or way.name in options.way]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        met = pool.map(_spots, [(way, options.on) for way in ways])
        spots = {
            way.name: {spot: made for spot, made in found.items() if options.call in ("", spot.call)}
            for way, found in zip(ways, met, strict=True)
        }
        tasks = [
            (way, options.on, some)
            for way in ways
            for some in _parts(list(plans(spots[way.name], every=options.every)))
        ]
        tried = list(chain.from_iterable(pool.imap(_tried, tasks)))
    return _told(spots, tried, call=options.call, write=options.write)


def _parts(whole: list[Plan]) -> list[list[Plan]]:
    return [whole[begin : begin + _PART] for begin in range(0, len(whole), _PART)]


def _told(spots: dict[str, dict[Spot, int]], tried: list[Tried], *, call: str, write: bool) -> int:
    page = PAGE.read_text() if write else ""
    tables = {way: f"{table(rows(way, found, tried))}{BETWEEN}{exceptions(way, tried)}" for way, found in spots.items()}
    for name, text in tables.items():
        sys.stdout.write(f"{name}\n\n{text}\n\n")
        page = replaced(page, name, text, call) if write else ""
    if write:
        PAGE.write_text(page)
    bad = [one for one in tried if one.wrong]
    for one in bad:
        spot, number, fault = one.plan
        where = " < ".join(spot.where)
        sys.stderr.write(
            f"{one.way}: {spot.role}: {spot.call} {number} in {where}:{spot.line}: {fault.name} {fault.when}: "
            f"{one.word}: {'; '.join(one.wrong)}\n"
        )
    sys.stderr.write(f"{sum(bool(one.word) for one in tried)} faults, {len(bad)} of them wrong\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
