"""Small images over which unpackers part, each with the one question that shows it, and our answer.

``python -m tests.interop.disagreements``, as root, asks every peer that is installed and prints the table that stands
in docs/fidelity.md, which also says who is right and why.  ``test_disagreements.py`` holds us to our column.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import first_line
from tests.interop.peers import Buildah, CtrNative, CtrOverlayfs, GnuTar, Peer, RefusedError, Umoci
from tests.interop.rows import Lines, Rows, rows
from tests.support.layoutbuild import LayoutBuilder, write_layout
from tests.support.tarbuild import (
    SECOND,
    Entry,
    char,
    directory,
    file,
    global_header,
    hardlink,
    layer,
    opaque,
    sparse_old,
    symlink,
    whiteout,
)
from tests.support.treesum import manifest
from unpacker.errors import UnpackError
from unpacker.unpacking import unpack

Question = Callable[[Rows], str]

REFUSES = "refuses"
PEERS: tuple[type[Peer], ...] = (Umoci, GnuTar, Buildah, CtrOverlayfs, CtrNative)
THEN = 1_234_567_890
_RECENT = 10_000
"""Seconds that are as good as now."""
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""The extended attribute of a file with cap_net_bind_service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An image, a question and our answer."""

    matter: str
    ours: str
    ask: Question
    write: Callable[[Path], object]
    """Writes the layout, whose tag is ``latest``."""
    from_store: str | None = None
    """Our answer by way of a store, if it is another."""


# -- questions ---------------------------------------------------------------------------------------------------------


def when(path: str, then: int = THEN * SECOND) -> Question:
    """Ask whether a path has the time that the layer says."""

    def ask(tree: Rows) -> str:
        got = int(tree[path]["mtime"])
        if got == then:
            return "kept"
        if got == 0:
            return "1970"
        if abs(got / SECOND - time.time()) < _RECENT:
            return "now"
        return f"{got // SECOND}"

    return ask


def far(path: str) -> Question:
    """Ask whether a path has as much of the time 2 ** 34 s as the filesystem has room for."""

    def ask(tree: Rows) -> str:
        with tempfile.NamedTemporaryFile() as probe:
            os.utime(probe.name, (2**34, 2**34))
            possible = os.stat(probe.name).st_mtime_ns
        asked = when(path, possible)(tree)
        return "as the filesystem can" if asked == "kept" else asked

    return ask


def owned(path: str) -> Question:
    """Ask for mode and owner."""

    def ask(tree: Rows) -> str:
        row = tree[path]
        owner = "root" if row["uid"] == row["gid"] == "0" else f"{row['uid']}:{row['gid']}"
        return f"{row['mode']} {owner}"

    return ask


def xattr(path: str, name: str) -> Question:
    """Ask whether a path has an extended attribute."""
    return lambda tree: "kept" if f"{name}=" in tree[path]["xattrs"] else "lost"


def is_there(path: str, yes: str, no: str) -> Question:
    """Ask whether a path is there."""
    return lambda tree: yes if path in tree else no


def is_a(kind: str, path: str, yes: str, no: str) -> Question:
    """Ask whether a path is of a kind."""
    return lambda tree: yes if tree.get(path, {}).get("type") == kind else no


def only(path: str, yes: str) -> Question:
    """Ask whether there is nothing else; what else there is, is the answer otherwise."""
    return lambda tree: " ".join(set(tree) - {".", path}) or yes


def linked(tree: Rows) -> str:
    """Ask whether ``a`` and ``b`` are one file."""
    return "linked" if tree["b"]["hardlink"] == "a" else "apart"


def long(path: str, size: int, yes: str) -> Question:
    """Ask whether a file is so long."""
    return lambda tree: yes if tree[path]["size"] == str(size) else f"{tree[path]['size']} bytes"


def all_of(*questions: Question) -> Question:
    """Ask several things."""
    return lambda tree: ", ".join(question(tree) for question in questions)


def through_link(tree: Rows) -> str:
    """Ask where ``l/a`` has gone, if ``l`` was a symbolic link to ``usr/lib``."""
    if "usr/lib/a" in tree and tree["l"]["type"] == "link":
        return "through the link"
    return "replaces the link" if "l/a" in tree else "nowhere"


# -- images ------------------------------------------------------------------------------------------------------------


def case(
    matter: str,
    ours: str,
    ask: Question,
    *layers: list[Entry | bytes],
    end: bool = True,
    from_store: str | None = None,
) -> Case:
    """Give the case of an image of such layers."""
    tars = [layer(*entries, end=end, last_padding=end) for entries in layers]
    return Case(matter=matter, ours=ours, ask=ask, from_store=from_store, write=lambda path: write_layout(path, tars))


def image(matter: str, ours: str, ask: Question, write: Callable[[Path], object]) -> Case:
    """Give the case of an image that takes more than layers."""
    return Case(matter=matter, ours=ours, ask=ask, write=write)


def _old(name: str, *, mode: int = 0o755, owner: int = 0) -> Entry:
    return directory(name, mode=mode, uid=owner, gid=owner, mtime=THEN * SECOND)


def _several_platforms(path: Path) -> None:
    built = LayoutBuilder(path)
    images = [built.image([layer(file(name))], platform=f"linux/{name}") for name in ("amd64", "arm64")]
    built.name(built.index(*images))


_A_FILE = is_a("file", "a", "read", "?")

TIMES = (
    case("a directory, its entry before those in it", "kept", when("d"), [_old("d"), file("d/a")]),
    case(
        "a directory, and something in it after something elsewhere",
        "kept",
        when("d"),
        [_old("d"), file("d/a"), directory("d-e"), file("d-e/a"), file("d/b")],
    ),
    case("a directory below, in which a layer makes a file", "kept", when("d"), [_old("d")], [file("d/a")]),
    case(
        "a directory below, in which a layer removes a file",
        "kept",
        when("d"),
        [_old("d"), file("d/a")],
        [whiteout("d/a")],
    ),
    case(
        "a directory that no layer has an entry for",
        "0755 root, 1970",
        all_of(owned("d"), when("d")),
        [file("d/a", uid=7, gid=7)],
    ),
    case(
        "the root, with an entry `./`",
        "0750 7:7, kept",
        all_of(owned("."), when(".")),
        [_old("./", mode=0o750, owner=7), file("a")],
    ),
    case("the root, without an entry", "0755 root, 1970", all_of(owned("."), when(".")), [file("a")]),
    case("a symbolic link", "kept", when("a"), [symlink("a", "b", mtime=THEN * SECOND)]),
    case("nanoseconds", "kept", when("a", THEN * SECOND + 987654321), [file("a", mtime=THEN * SECOND + 987654321)]),
    case("before 1970", "kept", when("a", -1_000_000 * SECOND), [file("a", mtime=-1_000_000 * SECOND)]),
    case("a quarter of a second before 1970", "kept", when("a", -SECOND // 4), [file("a", mtime=-SECOND // 4)]),
    case("the year 2100", "kept", when("a", 4_102_444_800 * SECOND), [file("a", mtime=4_102_444_800 * SECOND)]),
    case("the year 2514: 2 ** 34 s", "as the filesystem can", far("a"), [file("a", mtime=2**34 * SECOND)]),
)

ATTRIBUTES = (
    case("setuid, and an owner", "4755 7:7", owned("a"), [file("a", b"x", mode=0o4755, uid=7, gid=7)]),
    case(
        "a directory below, in which a layer makes a file",
        "2711 7:8, kept",
        all_of(owned("d"), xattr("d", "user.x")),
        [directory("d", mode=0o2711, uid=7, gid=8, xattrs={"user.x": b"1"})],
        [file("d/a")],
    ),
    case(
        "a directory with xattrs, when a layer has an entry for it without",
        "lost",
        xattr("d", "user.x"),
        [directory("d", xattrs={"user.x": b"1"})],
        [directory("d")],
    ),
    case(
        "a hard link whose entry has another mode, owner and time",
        "0644 root, kept",
        all_of(owned("a"), when("a")),
        [file("a", mtime=THEN * SECOND), hardlink("b", "a", mode=0o600, uid=7, gid=7, mtime=5 * SECOND)],
    ),
    case("`user.*`", "kept", xattr("a", "user.x"), [file("a", xattrs={"user.x": b"1"})]),
    case("an empty value", "kept", xattr("a", "user.x"), [file("a", xattrs={"user.x": b""})]),
    case("`trusted.*`", "kept", xattr("a", "trusted.x"), [file("a", xattrs={"trusted.x": b"1"})]),
    case(
        "`trusted.overlay.*`",
        "kept",
        xattr("d", "trusted.overlay.opaque"),
        [directory("d", xattrs={"trusted.overlay.opaque": b"x"})],
    ),
    case(
        "`security.capability`, on a file that is not root's",
        "kept",
        xattr("a", "security.capability"),
        [file("a", uid=7, xattrs={"security.capability": CAPABILITY})],
    ),
    case(
        "`user.*` on a symbolic link, which Linux has not",
        "lost",
        xattr("a", "user.x"),
        [symlink("a", "b", xattrs={"user.x": b"1"})],
    ),
    case(
        "`trusted.*` on a symbolic link",
        "kept",
        xattr("a", "trusted.x"),
        [symlink("a", "b", xattrs={"trusted.x": b"1"})],
    ),
    case(
        "a capability that is malformed",
        "lost",
        xattr("a", "security.capability"),
        [file("a", xattrs={"security.capability": b"x"})],
    ),
)

_OLD = is_there("d/old", "old shows", "old hidden")
WHITEOUTS = (
    case("`.wh.d`, `d`, `d/new`", "old hidden", _OLD, [file("d/old")], [whiteout("d"), directory("d"), file("d/new")]),
    case("`d`, `d/new`, `.wh.d`", "old hidden", _OLD, [file("d/old")], [directory("d"), file("d/new"), whiteout("d")]),
    case(
        "`a`, `.wh.a`, over another `a`",
        "new a",
        lambda tree: "new a" if tree.get("a", {}).get("size") == "3" else "no a",
        [file("a")],
        [file("a", b"new"), whiteout("a")],
    ),
    case(
        "`d/e/new`, `d/.wh..wh..opq`",
        "new, old hidden",
        all_of(is_there("d/e/new", "new", "not new"), _OLD),
        [file("d/old")],
        [file("d/e/new"), opaque("d")],
    ),
    case(
        "`.wh..wh..opq` in the root",
        "old hidden",
        is_there("old", "old shows", "old hidden"),
        [file("old")],
        [opaque(""), file("new")],
    ),
    case("`.wh.b`, where no b is", "no-op", only("a", "no-op"), [file("a")], [whiteout("b")]),
    case("`d/e/.wh.b`, where no d is", "no-op", only("a", "no-op"), [file("a")], [whiteout("d/e/b")]),
    case("`.wh.b` in the only layer", "no-op", only("a", "no-op"), [file("a"), whiteout("b")]),
    case(
        "`m/.wh.a`, where the layer makes m a symbolic link to l",
        "l/a stays",
        is_there("l/a", "l/a stays", "deletes l/a"),
        [file("l/a"), file("m/a")],
        [symlink("m", "l"), whiteout("m/a")],
    ),
    case(
        "`m/.wh.a`, where the layer makes m a file",
        "no-op",
        is_a("file", "m", "no-op", "makes m a directory"),
        [file("m/a")],
        [file("m"), whiteout("m/a")],
    ),
    case(
        "`d/.wh.`, which names nothing", REFUSES, is_there("d/a", "no-op", "deletes"), [file("d/a")], [file("d/.wh.")]
    ),
    case(
        "a hard link to `.wh..wh.plnk/1.2`",
        "not shown",
        is_there(".wh..wh.plnk", "shown", "not shown"),
        [file(".wh..wh.plnk/1.2", b"x"), hardlink("a", ".wh..wh.plnk/1.2")],
    ),
    case(
        "a character device 0:0",
        "made",
        is_a("char", "a", "made", "left out"),
        [char("a", 0, 0)],
        from_store="left out",
    ),
    case(
        "the same over a file of a layer below",
        "made",
        is_a("char", "a", "made", "hides it"),
        [file("a")],
        [char("a", 0, 0)],
        from_store="hides it",
    ),
)

LINKS = (
    case(
        "`l/a`, where l is a symbolic link below: `usr/lib`",
        "through the link",
        through_link,
        [directory("usr/lib"), symlink("l", "usr/lib")],
        [file("l/a")],
    ),
    case(
        "`l/a`, where l is a symbolic link below: `/usr/lib`",
        "through the link",
        through_link,
        [directory("usr/lib"), symlink("l", "/usr/lib")],
        [file("l/a")],
    ),
    case(
        "a directory's entry `l`, where l is such a link",
        "replaces the link",
        is_a("dir", "l", "replaces the link", "keeps the link"),
        [directory("usr/lib"), symlink("l", "usr/lib")],
        [directory("l")],
    ),
    case(
        "`a/b`, where a is a file below",
        "replaces the file",
        is_a("dir", "a", "replaces the file", "?"),
        [file("a")],
        [file("a/b")],
    ),
    case("a hard link to a file below", "linked", linked, [file("a")], [hardlink("b", "a")]),
    case("a hard link to a symbolic link", "linked", linked, [symlink("a", "x"), hardlink("b", "a")]),
    case("a hard link with an absolute target", "linked", linked, [file("a"), hardlink("b", "/a")]),
    case("a hard link before its target", "linked", linked, [hardlink("b", "a"), file("a")]),
    case("a hard link to nothing", REFUSES, linked, [hardlink("b", "a")]),
    case(
        "one name of a file replaced by a layer",
        "the other stays",
        lambda tree: "the other stays" if (tree["a"]["size"], tree["b"]["size"]) == ("3", "0") else "both change",
        [file("a"), hardlink("b", "a")],
        [file("a", b"new")],
    ),
    case("`d/../../up`", "`up`", is_there("up", "`up`", "elsewhere"), [directory("d"), file("d/../../up")]),
    case("`/d/a`", "`d/a`", is_there("d/a", "`d/a`", "elsewhere"), [file("/d/a")]),
)

ARCHIVES = (
    case("one path twice in a layer", "last wins", long("a", 3, "last wins"), [file("a"), file("a", b"new")]),
    case("`a/b`, then a file `a`", "last wins", is_a("file", "a", "last wins", "first wins"), [file("a/b"), file("a")]),
    case("a pax global header", "ignored", only("a", "ignored"), [global_header({"comment": "0123456789"}), file("a")]),
    case("old GNU sparse: `S`", "read", long("a", 8192, "read"), [sparse_old("a", [(4096, b"x" * 4096)], 8192)]),
    case("contiguous: `7`", "a file", is_a("file", "a", "a file", "?"), [file("a", b"x", fields={"typeflag": b"7"})]),
    case(
        "an unknown type: `Y`", REFUSES, is_a("file", "a", "a file", "?"), [file("a", b"x", fields={"typeflag": b"Y"})]
    ),
    case("no padding, no end (`umoci insert`)", "read", long("a", 1, "read"), [file("a", b"x")], end=False),
    image(
        "a layer of 0 bytes", "empty", only(".", "empty"), lambda path: write_layout(path, [b""], compression="none")
    ),
    image("no layers", "empty", only(".", "empty"), lambda path: write_layout(path, [])),
    image("zstd", "read", _A_FILE, lambda path: write_layout(path, [layer(file("a"))], compression="zstd")),
    image("Docker's media types", "read", _A_FILE, lambda path: write_layout(path, [layer(file("a"))], docker=True)),
    image("a tag for several platforms", "chosen", is_there("amd64", "chosen", "?"), _several_platforms),
)

SECTIONS = {
    "Times": TIMES,
    "Attributes": ATTRIBUTES,
    "Whiteouts": WHITEOUTS,
    "Paths and links": LINKS,
    "Archives and images": ARCHIVES,
}


_MEANINGS = {
    # overlayfs lists a whiteout in a directory that no lower layer has, but finds no such file.
    "FileNotFoundError": "a ghost",
    # Nothing can be written outside of the root, where GNU tar is run.
    "Read-only file system": "writes outside",
}


# -- answers -----------------------------------------------------------------------------------------------------------


def answer(one: Case, tree: Callable[[Path, Path], Lines]) -> str:
    """Ask about the tree that somebody makes of the image: ``tree`` is given the layout, and a directory to work in."""
    with tempfile.TemporaryDirectory(prefix="u-") as place:
        layout, work = Path(place, "layout"), Path(place, "work")
        one.write(layout)
        work.mkdir()
        try:
            return one.ask(rows(tree(layout, work)))
        except RefusedError as error:
            return next((meaning for said, meaning in _MEANINGS.items() if said in str(error)), REFUSES)


def ours(layout: Path, work: Path, *, store: Path | None = None) -> Lines:
    """Unpack with this project."""
    try:
        unpack(layout, work / "root", store=store, labels=False)
    except UnpackError as error:
        raise RefusedError(str(error)) from error
    return manifest(os.fsencode(work / "root"))


def table(peers: Sequence[type[Peer]]) -> Iterator[str]:
    """Yield the lines of the table, as the answers come."""
    for program in dict.fromkeys(program for peer in peers for program in peer.needs if program != "unshare"):
        yield f"{program}: {first_line([program, '--version'])}"
    for section, cases in SECTIONS.items():
        yield ""
        yield f"| {section} | ours | {' | '.join(peer.name for peer in peers)} |"
        yield f"|{'---|' * (len(peers) + 2)}"
        for one in cases:
            answers = [answer(one, ours), *(answer(one, peer().tree) for peer in peers)]
            yield f"| {one.matter} | {' | '.join(answers)} |"


def main() -> int:
    """Print the table, with the peers that are here."""
    for line in table([peer for peer in PEERS if not peer.missing()]):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
