"""What can be said on the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_docs import VERBS
from tests.support.engine import ScriptedEngine
from unpacker.cli import parser
from unpacker.cli.failures import STATUSES
from unpacker.limits import DEFAULT, Limits
from unpacker.tree.owners import IdMap

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def test_every_option_reaches_the_engine(run_unpack: Run) -> None:
    engine = ScriptedEngine()
    words = "--platform linux/arm64 --force --owner keep --uid-map 0:100000:65536 --uid-map 70000:1 --gid-map 0:5 "
    words += "--strict --keep-dirlinks --no-labels --limit layers=5 --limit layer_bytes=2G "
    words += "--store keep --link --no-sync --jobs 3 layout:v1 rootfs"

    assert run_unpack(*words.split(), engine=engine).status == 0

    source, dest, options = engine.calls[0]
    assert (source, dest) == ("layout:v1", "rootfs")
    limits = options.pop("limits")
    assert (limits.layers, limits.layer_bytes, limits.entries) == (5, 2 << 30, DEFAULT.entries)
    assert options == {
        "platform": "linux/arm64",
        "force": True,
        "owner": "keep",
        "uid_map": [IdMap(0, 100000, 65536), IdMap(70000, 1)],
        "gid_map": [IdMap(0, 5)],
        "strict": True,
        "keep_dirlinks": True,
        "labels": False,
        "store": "keep",
        "link": True,
        "sync": False,
        "jobs": 3,
    }


def test_without_options_the_engine_gets_its_defaults(run_unpack: Run) -> None:
    engine = ScriptedEngine()

    run_unpack("layout", "rootfs", engine=engine)

    assert engine.calls[0][2] == {
        "platform": None,
        "force": False,
        "owner": "auto",
        "uid_map": [],
        "gid_map": [],
        "strict": False,
        "keep_dirlinks": False,
        "labels": True,
        "store": None,
        "link": False,
        "sync": True,
        "jobs": None,
        "limits": DEFAULT,
    }


def test_options_may_stand_between_the_arguments(run_unpack: Run) -> None:
    engine = ScriptedEngine()

    assert run_unpack("layout", "--force", "rootfs", engine=engine).status == 0

    assert engine.calls[0][:2] == ("layout", "rootfs")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param([], "LAYOUT, DEST", id="nothing"),
        pytest.param(["layout"], "DEST", id="no DEST"),
        pytest.param(["layout", "rootfs", "more"], "more", id="too much"),
        pytest.param(["--forc", "layout", "rootfs"], "--forc", id="abbreviated"),
        pytest.param(["--owner", "root", "layout", "rootfs"], "--owner", id="owner"),
        pytest.param(["-q", "-v", "layout", "rootfs"], "not allowed with", id="quiet and verbose"),
        pytest.param(["--uid-map", "a:b", "layout", "rootfs"], "a:b", id="map"),
        *(
            pytest.param(["--jobs", number, "layout", "rootfs"], "whole number", id=f"jobs {number}")
            for number in ("0", "-1", "two", "1.5", "9999999", "\u0663")
        ),
        pytest.param(["--limit", "layers", "layout", "rootfs"], "NAME=VALUE", id="limit without value"),
        pytest.param(["--limit", "lairs=1", "layout", "rootfs"], "no limit of this name", id="unknown limit"),
        pytest.param(["--limit", "layers=", "layout", "rootfs"], "positive whole number", id="empty limit"),
        pytest.param(["--limit", "layers=0", "layout", "rootfs"], "positive whole number", id="zero limit"),
        pytest.param(["--limit", "layers=-1", "layout", "rootfs"], "positive whole number", id="negative limit"),
        pytest.param(["--limit", "layers=1.5G", "layout", "rootfs"], "positive whole number", id="fraction"),
        pytest.param(["--limit", "layers=" + "9" * 9000, "layout", "rootfs"], "positive whole", id="endless limit"),
        pytest.param(["--limit", "layers=\u0663", "layout", "rootfs"], "positive whole number", id="other digits"),
    ],
)
def test_what_cannot_be_read_is_exit_2_and_one_line(words: list[str], complaint: str, run_unpack: Run) -> None:
    engine = ScriptedEngine()

    outcome = run_unpack(*words, engine=engine)

    assert outcome.status == 2
    assert outcome.lines[0].startswith("unpack: error: ")
    assert complaint in outcome.lines[0]
    assert len(outcome.lines) <= 2
    assert outcome.out == ""
    assert engine.calls == []


@pytest.mark.parametrize("spelling", [["--format", "json"], ["--format=json"]], ids=" ".join)
def test_a_usage_error_is_json_too(spelling: list[str], run_unpack: Run) -> None:
    outcome = run_unpack(*spelling, "layout")

    found = json.loads(outcome.out)
    assert (found["code"], found["exit_status"]) == ("usage", 2)
    assert found["hint"] == "see 'unpack --help'"


@pytest.mark.parametrize(
    ("text", "value"),
    [("4096", 4096), ("4k", 4096), ("3M", 3 << 20), ("20G", 20 << 30), ("1T", 1 << 40), (" 5 ", 5)],
)
def test_limits_take_sizes_with_units(text: str, value: int, run_unpack: Run) -> None:
    engine = ScriptedEngine()

    run_unpack("--limit", f"layer-bytes={text}", "layout", "rootfs", engine=engine)

    assert engine.calls[0][2]["limits"].layer_bytes == value


def test_the_help_names_every_limit() -> None:
    assert tuple(field.name for field in fields(Limits)) == parser.LIMIT_NAMES


def test_the_help_names_every_exit_status() -> None:
    named = {int(number) for number in re.findall(r"^  (\d)  ", parser.EXIT_STATUSES, re.MULTILINE)}

    assert named == {0, 1} | {status for _family, status in STATUSES}


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_shows_examples_and_exit_statuses(words: list[str], run_unpack: Run) -> None:
    outcome = run_unpack(*words)

    assert outcome.status == 0
    assert outcome.out.startswith("usage: unpack [options] LAYOUT[:TAG|@DIGEST] DEST\n")
    assert "examples:\n  unpack ./layout rootfs" in outcome.out
    assert "exit status:\n" in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_with_examples(verb: str, run_toolbox: Run) -> None:
    outcome = run_toolbox(verb, "--help")

    assert outcome.status == 0
    assert outcome.out.startswith(f"usage: unpacker {verb} [options]")
    assert f"examples:\n  unpacker {verb} " in outcome.out


@pytest.mark.parametrize("words", [[], ["frobnicate"]], ids=["no verb", "unknown verb"])
def test_the_toolbox_wants_a_verb_it_knows(words: list[str], run_toolbox: Run) -> None:
    outcome = run_toolbox(*words)

    assert outcome.status == 2
    assert outcome.lines[0].startswith("unpacker: error: ")
    assert outcome.lines[1] == "unpacker: hint: see 'unpacker --help'"


def test_version_is_one_line_on_stdout(run_unpack: Run) -> None:
    outcome = run_unpack("--version")

    assert outcome.status == 0
    assert re.fullmatch(r"unpack \S.*\n", outcome.out)


def test_the_help_fits_into_80_columns_of_a_pipe(run_unpack: Run) -> None:
    options = run_unpack("--help").out.split("examples:")[0]

    assert max(len(line) for line in options.splitlines()) <= 80


def test_help_imports_neither_engine_nor_rich_nor_codecs() -> None:
    program = """
import sys
before = set(sys.modules)
from unpacker.cli import main
main(["unpack", "--help"])
print(*set(sys.modules) - before, file=sys.stderr)
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    loaded = set(done.stderr.split())
    assert "argparse" in loaded
    assert not loaded & {"rich", "zlib", "isal", "zstandard", "pyzstd", "json", "hashlib", "dataclasses", "shutil"}
    assert {name for name in loaded if name.startswith("unpacker.") and not name.startswith("unpacker.cli")} == set()


def test_python_m_unpacker_is_the_toolbox() -> None:
    done = subprocess.run([sys.executable, "-m", "unpacker", "--help"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("usage: unpacker ")
