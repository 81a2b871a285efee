"""What an image calls things is said to people and programs: on one line, without a character that a terminal obeys.

Names hold any bytes but NUL and the slash; those of a layout any Unicode at all, and megabytes of it.  A cursor that is
moved, a line that is forged, a log that is filled: all by an error about a name.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layoutbuild import REF_NAME, LayoutBuilder, write_layout
from tests.support.tarbuild import (
    Entry,
    char,
    directory,
    file,
    gnu_long,
    hardlink,
    layer,
    pax_header,
    symlink,
    whiteout,
)
from unpacker.cli import main, unpack_main
from unpacker.errors import UnpackError
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.arena import Arena

EVIL = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202e\u2028unpack: error: forged\n"
RAW = EVIL.encode() + b"\xff\xfe\x80"
LONGEST = 5_000
"""Characters of one line; more is no message."""


def said(run: Callable[[list[str]], int], *words: str) -> list[str]:
    """Run a command; give all lines that it wrote, to stdout as well, checked."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        run(list(words))
    lines = []
    for stream in (out, err):
        assert isinstance(stream.buffer, io.BytesIO)
        lines += stream.buffer.getvalue().decode().split("\n")
    for line in lines:
        assert line.isprintable(), line
        assert "unpack: error: forged" not in line[:30]
    return lines


ENTRIES: dict[str, list[Entry | bytes]] = {
    "root": [symlink(RAW + b"/..", RAW)],
    "climbing": [file(b"../" + RAW)],
    "whiteout": [file(RAW + b"/.wh.")],
    "below a whiteout": [file(b".wh." + RAW + b"/x")],
    "hard link": [hardlink(RAW, RAW + b"2")],
    "hard link to a directory": [directory(RAW), hardlink(b"x", RAW)],
    "component": [file(RAW + b"a" * 250)],
    "path": [file(RAW + b"/x" * 3000)],
    "symlink": [symlink(RAW, RAW * 100)],
    "endless name": [gnu_long(b"a" * 1_000_000), file("x")],
    "endless target": [gnu_long(RAW * 10_000, typeflag=b"K"), symlink("x", "x")],
    "endless hard link": [gnu_long(RAW * 10_000, typeflag=b"K"), hardlink("x", "x")],
    "data": [file(RAW, fields={"typeflag": b"2", "size": 512})],
    "type": [file(RAW, fields={"typeflag": b"\x1b"})],
    "device": [char(RAW, 2**21, 2**21)],
    "owner": [file(RAW, uid=2**40)],
    "cut": [file(RAW, fields={"size": 10_000})],
    "two names": [gnu_long(RAW), pax_header([(b"path", b"x" + RAW)]), file("x")],
    "pax key": [pax_header([(RAW, b"x")]), pax_header([(RAW, b"x")]), file("x")],
    "pax number": [pax_header([(b"uid", RAW)]), file("x")],
    "pax time": [pax_header([(b"mtime", RAW)]), file("x")],
    "pax record": [b"".join([pax_header([(b"x", b"y")])[:512], RAW.ljust(512, b"\x1b")]), file("x")],
    "global": [pax_header([(b"GNU.sparse." + RAW, b"x")], typeflag=b"g"), file("x")],
    "sparse": [pax_header([(b"GNU.sparse.map", RAW), (b"GNU.sparse.name", RAW)]), file("x")],
    "xattr": [file(RAW, xattrs={RAW: b"x", b"user." + b"x" * 300: b"x", b"trusted.\x1b[2J": RAW})],
    "special xattr": [symlink(RAW, "x", xattrs={RAW: b"x", b"user.\x1b[2J\n": b"x"})],
    "time": [file(RAW, mtime=2**80)],
    "loop": [symlink(RAW, RAW), file(RAW + b"/x")],
    "long component behind a link": [symlink("l", RAW + b"a" * 300), file("l/x")],
}


@pytest.mark.parametrize("which", ENTRIES)
@pytest.mark.parametrize("words", [[], ["-v"], ["--format", "json"], ["--strict"]], ids=" ".join)
def test_names_of_entries(which: str, words: list[str], arena: Arena) -> None:
    built = write_layout(arena.layout, [layer(whiteout(RAW)), layer(*ENTRIES[which])])
    for line in said(unpack_main, *words, str(built.path), str(arena.dest)):
        assert len(line) < LONGEST or words == ["--format", "json"]
    arena.check()


@pytest.mark.parametrize("which", ENTRIES)
def test_an_error_is_one_line_for_programs_too(which: str, arena: Arena) -> None:
    write_layout(arena.layout, [layer(*ENTRIES[which])])
    try:
        report = unpack(arena.layout, arena.dest)
    except UnpackError as error:
        lines = [str(error), error.hint or ""]
    except OSError as error:
        lines = getattr(error, "__notes__", [])
    else:
        lines = [*report.loss_samples.values(), *report.warnings]
    for line in lines:
        assert line.isprintable()
        assert len(line) < LONGEST


# -- the documents -----------------------------------------------------------------------------------------------------

LONG = EVIL * 20_000
CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "name": ("index.json", lambda top: _each(top, annotations={REF_NAME: LONG, "io.containerd.image.name": LONG})),
    "media type": ("index.json", lambda top: _each(top, mediaType=LONG)),
    "digest": ("index.json", lambda top: _each(top, digest=LONG)),
    "platform": ("index.json", lambda top: _each(top, platform={"os": LONG, "architecture": LONG, "variant": EVIL})),
    "short platform": ("index.json", lambda top: _each(top, platform={"os": EVIL, "architecture": EVIL})),
    "unknown field": ("index.json", lambda top: top.update({LONG: LONG})),
    "artifact": ("manifest", lambda manifest: manifest["config"].update(mediaType="application/" + "x" * 127)),
    "layer type": ("manifest", lambda manifest: manifest["layers"][0].update(mediaType=LONG)),
    "urls": ("manifest", lambda manifest: manifest["layers"][0].update(urls=[LONG])),
    "config os": ("config", lambda config: config.update(os=LONG, architecture=LONG)),
    "short config os": ("config", lambda config: config.update(os=EVIL, architecture=EVIL, variant=EVIL)),
    "diff_id": ("config", lambda config: config["rootfs"].update(diff_ids=[LONG])),
    "rootfs type": ("config", lambda config: config["rootfs"].update(type=LONG)),
}


def _each(top: dict[str, Any], **fields: Any) -> None:
    for descriptor in top["manifests"]:
        descriptor.update(fields)


@pytest.mark.parametrize("verb", ["unpack", "list", "verify", "config"])
@pytest.mark.parametrize("which", CHANGES)
def test_words_of_documents(which: str, verb: str, arena: Arena) -> None:
    name: Any
    name, change = CHANGES[which]
    built = write_layout(arena.layout, [layer(file("x"))], mutate={name: change})
    last = [str(arena.dest)] if verb == "unpack" else []
    # What was asked for, a table or a document, has room for whatever stands in it.
    most = 20 * len(LONG) if verb in ("list", "config") else LONGEST
    for tag in ("", ":other"):
        words = [verb, str(built.path) + (tag if verb != "list" else ""), *last]
        for line in said(main, *words):
            assert len(line) < most


def test_a_layout_that_names_itself(arena: Arena) -> None:
    built = LayoutBuilder(arena.layout)
    for number in range(20):
        built.name(built.image([layer(file(str(number)))]), f"{number}{EVIL}")
    for words in (["unpack", str(built.path), str(arena.dest)], ["unpack", f"{built.path}:{EVIL}", str(arena.dest)]):
        said(main, *words)
    listed = said(main, "list", "--format", "json", str(built.path))
    assert json.loads(listed[0])["images"][3]["reference"] == f"3{EVIL}"
