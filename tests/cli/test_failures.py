"""Every exception has an exit status, a code and a sentence."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.engine import DIGESTS, ScriptedEngine
from unpacker import errors
from unpacker.cli.failures import failure_of
from unpacker.events import Warned

if TYPE_CHECKING:
    from tests.cli.conftest import Run

A, B = DIGESTS[:2]

EXAMPLES: list[tuple[int, str, Exception]] = [
    (1, "error", errors.UnpackError("odd")),
    (2, "usage", errors.UsageError("no")),
    (3, "layout-not-found", errors.LayoutNotFoundError(path="x", why="no file oci-layout")),
    (3, "reference-not-found", errors.ReferenceNotFoundError(layout="x", reference="v2", available=("v1",))),
    (3, "reference-ambiguous", errors.AmbiguousReferenceError(layout="x", reference=None, available=("v1", "v2"))),
    (
        3,
        "platform-not-found",
        errors.PlatformNotFoundError(index=A, platform="linux/s390x", available=("linux/amd64",)),
    ),
    (3, "blob-not-found", errors.BlobNotFoundError(digest=A, path="x/blobs")),
    (3, "blob-not-found", errors.BlobNotFoundError(digest=A, path=None)),
    (3, "store-not-found", errors.StoreNotFoundError(path="x", why="no such directory")),
    (3, "snapshot-not-found", errors.SnapshotNotFoundError(store="x", name="base")),
    (3, "ingest-not-found", errors.IngestNotFoundError(store="x", ref="copy")),
    (4, "document", errors.DocumentError(source="index.json", where="manifests", found="null", expected="an array")),
    (4, "size-mismatch", errors.SizeMismatchError(digest=A, expected=1, actual=2)),
    (4, "digest-mismatch", errors.DigestMismatchError(expected=A, actual=B)),
    (4, "diff-id-mismatch", errors.DiffIdMismatchError(layer=A, index=0, expected=A, actual=B)),
    (4, "layer-count", errors.LayerCountError(manifest=A, layers=2, diff_ids=1)),
    (4, "corrupt-layer", errors.CorruptLayerError("gzip stream ends early", layer=A)),
    (5, "unsupported", errors.UnsupportedError(subject=A, kind="media type", found="x/y", supported=("a/b",))),
    (5, "unsafe-entry", errors.UnsafeEntryError("NUL in the name", layer=A, entry=b"a\0b", offset=512)),
    (5, "limit", errors.LimitError(limit="layers", allowed=3, found=4, what="layers")),
    (5, "loss", errors.LossError(losses={"owner": 2}, first="etc: you may not chown")),
    (6, "filesystem", errors.FilesystemError("odd")),
    (6, "snapshot-state", errors.SnapshotStateError(name="base", why="has a child")),
    (6, "store-owner", errors.StoreOwnerError(path="store", owner=1000, caller=0)),
    (6, "destination", errors.DestinationError(path="rootfs", why="is not empty", advice="--force replaces it")),
    (6, "room", errors.RoomError(free=4096, kept=16 << 20)),
    (6, "already-exists", errors.AlreadyExistsError(where="x", what=f"blob {A}")),
    (6, "locked", errors.LockedError(where="x", what="ingest 'copy'", pid=1, since="2026-11-24T21:00:00Z")),
    (6, "mount", errors.MountError(target="x", what="bind mount", why="you may not", errno=errno.EPERM)),
    (6, "filesystem", PermissionError(errno.EACCES, os.strerror(errno.EACCES), "rootfs")),
    (1, "internal", ValueError("unexpected")),
    (1, "internal", RecursionError("too deep")),
    (1, "internal", MemoryError()),
]
BY_CODE = pytest.mark.parametrize(
    ("status", "code", "error"), [pytest.param(*row, id=f"{row[1]}-{type(row[2]).__name__}") for row in EXAMPLES]
)


@BY_CODE
def test_each_error_has_its_status_and_code(status: int, code: str, error: Exception, run_unpack: Run) -> None:
    outcome = run_unpack("--format", "json", "layout", "rootfs", engine=ScriptedEngine(outcome=error))

    found = json.loads(outcome.out)
    assert outcome.status == status
    assert (found["exit_status"], found["code"]) == (status, code)
    assert outcome.lines[-1 if found["hint"] is None else -2] == f"unpack: error: {failure_of(error).message}"


def test_the_examples_cover_the_tree_of_errors() -> None:
    def below(kind: type[Exception]) -> set[type[Exception]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__() if child.__module__ == errors.__name__))

    families = {errors.NotFoundError, errors.IntegrityError, errors.ContentError, errors.InLayerError}

    assert below(errors.UnpackError) - families == {
        type(error) for _, _, error in EXAMPLES if isinstance(error, errors.UnpackError)
    }


def test_an_error_is_two_lines_the_second_a_hint(run_unpack: Run) -> None:
    error = errors.DestinationError(path="rootfs", why="is not empty", advice="--force replaces it")

    outcome = run_unpack("layout", "rootfs", engine=ScriptedEngine(outcome=error))

    assert outcome.lines == ["unpack: error: rootfs: is not empty", "unpack: hint: --force replaces it"]
    assert outcome.out == ""


def test_quiet_does_not_silence_errors(run_unpack: Run) -> None:
    engine = ScriptedEngine(Warned(message="odd"), outcome=errors.UnpackError("broken"))

    outcome = run_unpack("-q", "layout", "rootfs", engine=engine)

    assert outcome.lines == ["unpack: error: broken"]


def test_warnings_come_before_the_error_that_they_may_explain(run_unpack: Run) -> None:
    engine = ScriptedEngine(Warned(message="odd"), outcome=errors.UnpackError("broken"))

    outcome = run_unpack("layout", "rootfs", engine=engine)

    assert outcome.lines == ["unpack: warning: odd", "unpack: error: broken"]


def test_the_facts_of_an_error_are_in_the_json(run_unpack: Run) -> None:
    error = errors.UnsafeEntryError("bad name", layer=A, entry=b"a\xff\n", offset=512)

    found = json.loads(run_unpack("--format=json", "l", "d", engine=ScriptedEngine(outcome=error)).out)

    assert found["details"] == {"what": "bad name", "layer": A, "entry": "a\\xff\n", "offset": 512}


def test_a_failing_system_call_reads_path_then_doing_then_reason() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/rootfs/etc")
    error.add_note("writing layer 2")

    failure = failure_of(error)

    assert failure.message == "/srv/rootfs/etc: writing layer 2: No space left on device"
    assert failure.hint is not None
    assert failure.details == {"errno": "ENOSPC", "path": "/srv/rootfs/etc"}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError(errno.EIO, "Input/output error", b"a\n"), "'a\\n': Input/output error"),
        (OSError(errno.EXDEV, "Cross-device link", "a", None, "b"), "a -> b: Cross-device link"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "descriptor 7: Bad file descriptor"),
        (OSError("just words"), "just words"),
        (OSError(), "OSError"),
    ],
    ids=["no path", "a name in bytes", "two paths", "a descriptor", "no number", "nothing"],
)
def test_a_failing_system_call_is_told_with_what_is_known(error: OSError, message: str) -> None:
    assert failure_of(error).message == message


def test_an_unexpected_exception_is_one_line_without_traceback(run_unpack: Run) -> None:
    outcome = run_unpack("layout", "rootfs", engine=ScriptedEngine(outcome=KeyError("x\x1b[0m")))

    assert outcome.status == 1
    assert outcome.lines[0] == "unpack: error: internal error: KeyError: 'x\\x1b[0m'; please report"
    assert "Traceback" not in outcome.err


def test_a_traceback_is_there_for_the_asking(run_unpack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPACK_DEBUG", "1")

    outcome = run_unpack("layout", "rootfs", engine=ScriptedEngine(outcome=KeyError("x")))

    assert outcome.lines[0] == "Traceback (most recent call last):"
    assert outcome.status == 1


HOSTILE = "a\x1b]0;owned\x07\r\n\x9b2J\u202eb\udcff"


@pytest.mark.parametrize(
    "error",
    [
        errors.UnsafeEntryError("bad", entry=HOSTILE.encode("utf-8", "surrogateescape")),
        errors.DocumentError(source="index.json", where=HOSTILE, found=HOSTILE, expected="a digest"),
        errors.ReferenceNotFoundError(layout=HOSTILE, reference=HOSTILE, available=(HOSTILE,)),
        errors.UsageError(HOSTILE, advice=HOSTILE),
        OSError(errno.EACCES, "Permission denied", HOSTILE),
        ValueError(HOSTILE),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_error_carries_control_characters_to_the_terminal(error: Exception, run_unpack: Run) -> None:
    outcome = run_unpack("--format=json", "layout", "rootfs", engine=ScriptedEngine(outcome=error))

    assert all(line.isprintable() for line in outcome.lines)
    assert len(outcome.lines) <= 2
    assert outcome.out.isascii()
    assert outcome.out.rstrip("\n").isprintable()
    json.loads(outcome.out)["message"].encode()
