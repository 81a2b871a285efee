"""The command: what an input brings to light is found, told, and kept; what only seems so is not.

All of it with real processes, on the target that is broken on purpose; under the fuzzer itself where that is installed.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from fuzz import campaign
from fuzz.__main__ import main
from fuzz.target import NAMES, UNLISTED

if TYPE_CHECKING:
    from pathlib import Path

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="missing: atheris, of the dependency group fuzz"
)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return tmp_path / "input"


# -- one input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(b"crash", "AssertionError: as it was told", id="crash"),
        pytest.param(b"hang", "it hangs: no end after 2 s of the processor", id="hang"),
    ],
)
def test_an_input_says_what_is_wrong(bad: Path, data: bytes, told: str) -> None:
    bad.write_bytes(data)

    assert (campaign.replay(UNLISTED, bad, processor=2) or "").endswith(told)


def test_an_input_that_only_takes_time_on_the_clock_is_no_hang(bad: Path) -> None:
    """A machine that is busy, or suspended, is slow with any input."""
    bad.write_bytes(b"sleep4")

    assert campaign.replay(UNLISTED, bad, processor=3) is None


def test_files_are_run_again_by_name(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad.write_bytes(b"crash")
    good = bad.with_name("good")
    good.write_bytes(b"nothing")

    status = main(["--replay", str(bad), "--replay", str(good), UNLISTED])

    assert status == 1
    told = capsys.readouterr().out
    assert f"{bad}: " in told
    assert "AssertionError: as it was told\n" in told
    assert told.endswith(f"{good}: nothing found\n")


def test_a_target_that_is_not_there_is_told_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tra"])

    assert ended.value.code == 2
    assert f"no target tra: there are {', '.join(NAMES)}" in capsys.readouterr().err


# -- under the fuzzer --------------------------------------------------------------------------------------------------


def _run(tmp_path: Path, seed: bytes, **limits: int) -> campaign.Result:
    """Fuzz the broken target for some seconds, with one input to begin with."""
    corpus = tmp_path / "corpus"
    (corpus / UNLISTED).mkdir(parents=True)
    (corpus / UNLISTED / "seed").write_bytes(seed)
    return campaign.run(UNLISTED, 60, corpus, tmp_path / "findings", **limits)


@needs_atheris
def test_a_crash_is_found_and_its_input_kept(tmp_path: Path) -> None:
    result = _run(tmp_path, b"cras")

    assert result.finding is not None
    assert result.finding.endswith("AssertionError: as it was told")
    [kept] = (tmp_path / "findings" / UNLISTED).iterdir()
    assert kept.read_bytes().startswith(b"crash")
    assert result.executions > 0
    assert result.edges > 0


@needs_atheris
def test_memory_beyond_the_limit_is_found(tmp_path: Path) -> None:
    result = _run(tmp_path, b"memory", memory=400)

    assert result.finding is not None
    assert "out-of-memory" in result.finding


@needs_atheris
def test_a_slow_machine_is_no_finding(tmp_path: Path) -> None:
    """The fuzzer stops at an input that takes six seconds on the clock; alone it takes no time of the processor."""
    result = _run(tmp_path, b"sleep6", patience=2)

    assert result.finding is None
    assert [path.name.partition("-")[0] for path in (tmp_path / "findings" / UNLISTED).iterdir()] == ["timeout"]
