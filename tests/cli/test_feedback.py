"""What a run says when it goes well, or almost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.engine import DIGESTS, MANIFEST, ScriptedEngine, layer, report, resolved
from unpacker.cli.feedback import loss_line, summary
from unpacker.cli.progress import Plain, kind
from unpacker.events import LayerProgress, LayerStarted, LossKind, Lost, Warned

if TYPE_CHECKING:
    from tests.cli.conftest import Run

SUMMARY = "unpacked v1 (linux/amd64) to rootfs: 1 layer, 9,012 entries, 63.4 MB read, 180.2 MB written, 0.48 s"


def test_the_summary_is_one_line() -> None:
    assert summary(report()) == SUMMARY


def test_plain_feedback_is_a_line_for_the_image_one_a_layer_and_the_summary(run_unpack: Run) -> None:
    engine = ScriptedEngine(resolved(2), *layer(0), *layer(1), outcome=report())

    outcome = run_unpack("layout", "rootfs", engine=engine)

    assert outcome.lines == [
        "resolved v1 (linux/amd64): 2 layers, 2.0 MB",
        "layer 1/2 sha256:aaaaaaaaaaaa: 12 entries, 1.0 MB read, 3.0 MB decompressed",
        "layer 2/2 sha256:bbbbbbbbbbbb: 12 entries, 1.0 MB read, 3.0 MB decompressed",
        SUMMARY,
    ]
    assert (outcome.status, outcome.out) == (0, "")


def test_progress_none_leaves_the_summary(run_unpack: Run) -> None:
    outcome = run_unpack("--progress", "none", "layout", "rootfs", engine=ScriptedEngine(resolved(), *layer(0)))

    assert outcome.lines == [SUMMARY]


def test_quiet_says_nothing(run_unpack: Run) -> None:
    engine = ScriptedEngine(
        resolved(), *layer(0), Warned(message="odd"), outcome=report(losses={LossKind.OWNER: 3}, warnings=["odd"])
    )

    outcome = run_unpack("-q", "layout", "rootfs", engine=engine)

    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


def test_losses_are_a_line_a_kind_after_the_summary(run_unpack: Run) -> None:
    losses = {LossKind.OWNER: 9012, LossKind.DEVICE: 12, LossKind.XATTR: 0}
    samples = {LossKind.OWNER: "you may not chown: 'etc/shadow' is 0:42", LossKind.DEVICE: "'dev/\x1b' is 1:3"}
    engine = ScriptedEngine(outcome=report(losses=losses, loss_samples=samples))

    outcome = run_unpack("layout", "rootfs", engine=engine)

    assert outcome.lines == [
        SUMMARY,
        "not applied: owner of 9,012 entries (you may not chown: 'etc/shadow' is 0:42)",
        "not applied: 12 device nodes ('dev/\\x1b' is 1:3)",
    ]


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        (LossKind.OWNER, "not applied: owner of 1 entry"),
        (LossKind.DEVICE, "not applied: 1 device node"),
        (LossKind.XATTR, "not applied: extended attributes of 1 entry"),
        (LossKind.MODE, "not applied: mode bits of 1 entry"),
        (LossKind.MTIME, "not applied: time of 1 entry"),
    ],
)
def test_every_kind_of_loss_has_words(loss: LossKind, line: str) -> None:
    assert loss_line(loss, 1, None) == line


def test_at_most_ten_warnings_are_shown(run_unpack: Run) -> None:
    engine = ScriptedEngine(*(Warned(message=f"odd {number}") for number in range(13)))

    outcome = run_unpack("layout", "rootfs", engine=engine)

    assert outcome.lines[:10] == [f"unpack: warning: odd {number}" for number in range(10)]
    assert outcome.lines[10:] == ["unpack: and 3 more warnings, see -v", SUMMARY]


def test_verbose_shows_every_warning_and_every_loss_at_once(run_unpack: Run) -> None:
    engine = ScriptedEngine(
        *(Warned(message=f"odd {number}") for number in range(13)),
        Lost(kind=LossKind.OWNER, path=b"etc/\x1b[31m\xff", reason="you may not chown"),
    )

    outcome = run_unpack("-v", "layout", "rootfs", engine=engine)

    assert outcome.lines == [
        *(f"unpack: warning: odd {number}" for number in range(13)),
        "not applied: owner of 'etc/\\x1b[31m\\xff': you may not chown",
        SUMMARY,
    ]


def test_json_is_the_report_on_stdout(run_unpack: Run) -> None:
    outcome = run_unpack(
        "-q",
        "--format=json",
        "layout",
        "rootfs",
        engine=ScriptedEngine(outcome=report(losses={LossKind.OWNER: 2}, dest="root\udcfffs", warnings=["odd"])),
    )

    assert json.loads(outcome.out) == {
        "code": "ok",
        "message": None,
        "hint": None,
        "exit_status": 0,
        "name": "v1",
        "manifest": MANIFEST,
        "platform": "linux/amd64",
        "dest": "root\\xfffs",
        "layers": 1,
        "entries": 9012,
        "blob_bytes": 63_400_000,
        "tar_bytes": 180_200_000,
        "seconds": 0.48,
        "chain_id": None,
        "losses": {"owner": 2},
        "loss_samples": {},
        "warnings": ["odd"],
    }
    assert outcome.out.count("\n") == 1


def test_hostile_names_in_the_summary_are_escaped(run_unpack: Run) -> None:
    name = "v1\x1b[2J\n\u202e"
    engine = ScriptedEngine(resolved(name=name), *layer(0), outcome=report(name=name))

    outcome = run_unpack("layout", "rootfs", engine=engine)

    assert all(line.isprintable() for line in outcome.lines)
    assert outcome.lines[0].startswith("resolved v1\\x1b[2J\\n\\u202e (linux/amd64)")


def test_a_long_layer_shows_that_it_lives_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    plain = Plain(clock=lambda: now)
    plain.show(resolved())
    plain.show(LayerStarted(index=0, digest=DIGESTS[0], size=1_000_000))
    for second in range(36):
        now = float(second)
        plain.show(LayerProgress(index=0, done=second * 10_000))

    assert capsys.readouterr().err.splitlines()[1:] == [
        "layer 1/1 sha256:aaaaaaaaaaaa: 100.0 kB of 1.0 MB (10 %)",
        "layer 1/1 sha256:aaaaaaaaaaaa: 200.0 kB of 1.0 MB (20 %)",
        "layer 1/1 sha256:aaaaaaaaaaaa: 300.0 kB of 1.0 MB (30 %)",
    ]


@pytest.mark.parametrize(
    ("mode", "on_terminal", "environment", "wanted"),
    [
        ("auto", True, {"TERM": "xterm"}, "terminal"),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": "1"}, "terminal"),
        ("auto", True, {"TERM": "xterm", "CI": "false"}, "terminal"),
        ("auto", True, {"TERM": "xterm", "CI": "true"}, "plain"),
        ("auto", True, {"TERM": "dumb"}, "plain"),
        ("auto", True, {}, "plain"),
        ("auto", False, {"TERM": "xterm"}, "plain"),
        ("plain", True, {"TERM": "xterm"}, "plain"),
        ("none", True, {"TERM": "xterm"}, "none"),
    ],
)
def test_a_bar_is_drawn_only_where_somebody_can_see_it(
    mode: str, on_terminal: bool, environment: dict[str, str], wanted: str
) -> None:
    assert kind(mode, on_terminal=on_terminal, environment=environment) == wanted
