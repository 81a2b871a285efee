"""The command as a process: terminals, signals, pipes that break."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.layoutbuild import write_layout
from tests.support.tarbuild import file
from tests.support.tarbuild import layer as tar_of

ROOT = Path(__file__).parents[2]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE = 20.0


def command(scenario: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.engine", scenario, *words]


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "UNPACK_DEBUG")}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "100", **changes}


def on_terminal(scenario: str, *words: str, **changes: str) -> tuple[int, str, str]:
    """Run ``unpack`` with a scripted engine on a terminal."""
    return run_on_terminal(command(scenario, *words), **changes)


def run_on_terminal(words: list[str], **changes: str) -> tuple[int, str, str]:
    """Run with a terminal as stderr; give exit status, stdout, and every byte that the terminal got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(**changes), stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # EIO: the last process has closed the terminal
                break
            if not chunk:
                break
            shown += chunk
        os.close(ours)
        out = process.stdout.read() if process.stdout else b""
    return process.returncode, out.decode(), shown.decode()


def screen(shown: str) -> list[str]:
    """Give the lines that stay on a terminal: an emulation of the few sequences that a bar uses."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", shown):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            column = 0
        elif piece.startswith("\x1b["):
            number = int(piece[2:-1]) if piece[2:-1].isdigit() else 1
            if piece.endswith("A"):
                row = max(0, row - number)
            elif piece.endswith("K"):
                lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in lines if line.strip()]


def test_a_terminal_sees_a_bar_and_keeps_only_the_lines_that_matter() -> None:
    status, out, shown = on_terminal("two-layers", "layout", "rootfs")

    assert (status, out) == (0, "")
    assert "layer 1/2" in shown
    assert "layer 2/2" in shown
    assert re.search(r"[\d.]+/2\.0 MB", shown)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"
    assert screen(shown) == [
        "unpack: warning: media type says gzip, magic bytes say zstd",
        "unpacked v1 (linux/amd64) to rootfs: 2 layers, 9,012 entries, 63.4 MB read, 180.2 MB written, 0.48 s",
    ]


def test_a_copy_has_a_bar_as_well(tmp_path: Path) -> None:
    """Of its blobs: bytes of all, and the rate."""
    tars = [tar_of(file("a", os.urandom(1_000_000))), tar_of(file("b", os.urandom(500_000)))]
    layout = write_layout(tmp_path / "layout", tars, compression="none").path
    words = ["import", "--platform=linux/amd64", str(layout), f"{tmp_path}/mine:v1"]
    status, out, shown = run_on_terminal([sys.executable, "-m", "unpacker", *words])

    assert (status, out) == (0, "")
    assert "blob 1/4" in shown
    assert "blob 2/4" in shown
    assert re.search(r"[\d.]+/1\.5 MB", shown)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"
    (line,) = screen(shown)
    assert line.startswith(f"imported v1 into {tmp_path}/mine: 4 blobs copied (1.5 MB), 0 there already (0 B), ")


def test_lines_and_bar_do_not_mix() -> None:
    _status, _out, shown = on_terminal("two-layers", "-v", "layout", "rootfs")

    assert screen(shown)[:2] == [
        "unpack: warning: media type says gzip, magic bytes say zstd",
        "not applied: owner of 'etc/\\x1b[31mshadow': you may not chown",
    ]


def test_after_an_error_the_bar_is_gone_and_the_cursor_back() -> None:
    status, _out, shown = on_terminal("damaged", "layout", "rootfs")

    assert status == 4
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert len(screen(shown)) <= 3
    assert screen(shown)[0].startswith("unpack: error: blob sha256:aaaa")


def test_no_color_leaves_the_bar_without_colors() -> None:
    _status, _out, shown = on_terminal("two-layers", "layout", "rootfs", NO_COLOR="1")

    assert "layer 1/2" in shown
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;[25])[0-9;]*m", shown)


@pytest.mark.parametrize("changes", [{"TERM": "dumb"}, {"CI": "true"}], ids=str)
def test_a_dumb_terminal_and_ci_get_plain_lines(changes: dict[str, str]) -> None:
    _status, _out, shown = on_terminal("two-layers", "layout", "rootfs", **changes)

    assert "\x1b" not in shown
    assert "layer 1/2 sha256:aaaaaaaaaaaa: 12 entries" in shown


def test_rich_is_not_imported_without_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command("two-layers", "layout", "rootfs")[1:]],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert not re.search(r"\brich\b", done.stderr)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_cleans_up_and_says_so(number: signal.Signals, status: int, tmp_path: Path) -> None:
    dest = str(tmp_path / "rootfs")
    with subprocess.Popen(
        command("waiting", "--format=json", "layout", dest),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(Path(dest + ".ready"))
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == status
    assert err.splitlines()[-1] == f"unpack: error: stopped by {number.name}"
    assert "Traceback" not in err
    found = json.loads(out)
    assert (found["code"], found["exit_status"]) == ("interrupted", status)
    assert [path.name for path in tmp_path.iterdir()] == ["rootfs.ready"]


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.01)


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which $UNPACK is the command with a scripted engine."""
    words = " ".join(command("two-layers"))
    return subprocess.run(
        ["bash", "-c", f"UNPACK='{words}'\n{line}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("words", ["--help", "-q --format=json layout rootfs"])
def test_a_reader_that_has_gone_ends_the_run_quietly(words: str) -> None:
    done = shell(f"$UNPACK {words} | true; echo ${{PIPESTATUS[0]}}")

    assert done.stdout == "141\n"
    assert done.stderr == ""


def test_a_full_stdout_is_an_error_of_the_filesystem() -> None:
    done = shell("$UNPACK -q --format=json layout rootfs >/dev/full; echo $?")

    assert done.stdout == "6\n"
    assert done.stderr.splitlines()[0] == "unpack: error: standard output: write: No space left on device"


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2> >(exec <&-)"])
def test_a_broken_stderr_stops_nobody(where: str) -> None:
    done = shell(f"$UNPACK --format=json layout rootfs {where}; echo $?")

    found, status = done.stdout.splitlines()
    assert json.loads(found)["code"] == "ok"
    assert status == "0"


def test_a_closed_stdout_is_an_error_only_for_data() -> None:
    assert shell("$UNPACK -q layout rootfs >&-; echo $? >&2").stderr == "0\n"
    assert shell("$UNPACK -q --format=json layout rootfs >&-; echo $? >&2").stderr.splitlines() == [
        "unpack: error: standard output: write: Bad file descriptor",
        "6",
    ]
