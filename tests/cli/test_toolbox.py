"""The verbs of the toolbox, on layouts written by hand."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.layouts import EMPTY_TAR, LayoutOnDisk, on_platform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from tests.cli.conftest import Run

HOST = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutOnDisk:
    return LayoutOnDisk(tmp_path / "layout")


# -- list ---------------------------------------------------------------------------------------------------------------


def test_list_shows_names_platforms_layers_sizes_and_digests(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    image = layout.image("amd64", EMPTY_TAR, EMPTY_TAR + bytes(512))
    layout.name(image, "v1")
    layout.name(layout.image("arm64", EMPTY_TAR))

    outcome = run_toolbox("list", str(layout.path))

    heading, first, second = (line.split() for line in outcome.out.splitlines())
    assert heading == ["REFERENCE", "PLATFORM", "LAYERS", "SIZE", "DIGEST"]
    assert first[:3] == ["v1", "linux/amd64", "2"]
    assert first[-1] == image["digest"]
    assert second[:3] == ["-", "linux/arm64", "1"]
    assert (outcome.status, outcome.err) == (0, "")


def test_list_looks_into_indexes_and_shows_what_is_absent(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    here, absent = layout.image("amd64", EMPTY_TAR), layout.image("arm64", EMPTY_TAR)
    index = layout.index(on_platform(here, "amd64"), on_platform(absent, "arm64"))
    layout.name(index, "v1")
    layout.blob_path(absent).unlink()

    found = json.loads(run_toolbox("list", "--format", "json", str(layout.path)).out)

    manifest = layout.read(here)
    size = here["size"] + manifest["config"]["size"] + manifest["layers"][0]["size"]
    common = {"reference": "v1", "index": index["digest"], "media_type": here["mediaType"]}
    assert found["images"] == [
        {**common, "digest": here["digest"], "platform": "linux/amd64", "layers": 1, "size": size},
        {**common, "digest": absent["digest"], "platform": "linux/arm64", "layers": None, "size": None},
    ]
    assert (found["code"], found["exit_status"]) == ("ok", 0)


def test_list_keeps_the_order_of_the_index(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    for name in ("c", "a", "b"):
        layout.name(layout.index(layout.image("amd64", EMPTY_TAR + bytes(512 * ord(name)))), name)

    lines = run_toolbox("list", str(layout.path)).out.splitlines()

    assert [line.split()[0] for line in lines[1:]] == ["c", "a", "b"]


def test_list_escapes_names(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    layout.name(layout.image("amd64", EMPTY_TAR), "v1\x1b[2J\nfake")

    out = run_toolbox("list", str(layout.path)).out

    assert out.splitlines()[1].startswith("v1\\x1b[2J\\nfake  linux/amd64")
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("limit", "name"), [("index_manifests=3", "index_manifests"), ("index_depth=2", "index_depth")], ids=str
)
def test_list_keeps_to_the_limits(limit: str, name: str, layout: LayoutOnDisk, run_toolbox: Run) -> None:
    descriptor = layout.image("amd64", EMPTY_TAR)
    for _ in range(4):
        descriptor = layout.index(descriptor)
    layout.name(descriptor, "deep")

    outcome = run_toolbox("list", "--limit", limit, str(layout.path))

    assert outcome.status == 5
    assert f"--limit {name}=" in outcome.lines[1]


def test_list_of_no_layout_is_exit_3(tmp_path: Path, run_toolbox: Run) -> None:
    outcome = run_toolbox("list", str(tmp_path))

    assert outcome.status == 3
    assert outcome.lines[0].startswith(f"unpacker: error: {tmp_path}: not an OCI image layout: ")


# -- config -------------------------------------------------------------------------------------------------------------


def test_config_is_printed_byte_for_byte(layout: LayoutOnDisk) -> None:
    image = layout.image(HOST, EMPTY_TAR)
    layout.name(image, "v1")
    blob = layout.blob_path(layout.read(image)["config"])

    done = subprocess.run(
        [sys.executable, "-m", "unpacker", "config", f"{layout.path}:v1"], capture_output=True, check=True
    )

    assert done.stdout == blob.read_bytes()
    assert done.stderr == b""


def test_config_for_eyes_hides_control_characters(
    layout: LayoutOnDisk, run_toolbox: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = layout.image(HOST, EMPTY_TAR)
    manifest = layout.read(image)
    config = layout.read(manifest["config"])
    config["author"] = "me\x7f\x9b2J\u202e"
    text = json.dumps(config, ensure_ascii=False, indent=1)
    manifest["config"] = layout.blob(manifest["config"]["mediaType"], text.encode())
    layout.name(layout.document("manifest", **manifest), "v1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    outcome = run_toolbox("config", f"{layout.path}:v1")

    assert '"author": "me\\x7f\\x9b2J\\u202e"' in outcome.out
    assert all(line.isprintable() for line in outcome.out.splitlines())


# -- verify -------------------------------------------------------------------------------------------------------------


def test_verify_reads_everything_and_writes_nothing(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    layout.name(layout.image(HOST, EMPTY_TAR, EMPTY_TAR + bytes(512)), "v1")
    before = sorted(layout.path.rglob("*"))

    outcome = run_toolbox("verify", f"{layout.path}:v1")

    assert (outcome.status, outcome.out) == (0, "")
    assert [line.split(":")[0] for line in outcome.lines[:-1]] == [
        "resolved v1 (linux/" + HOST + ")",
        *["layer 1/2 sha256"],
        *["layer 2/2 sha256"],
    ]
    assert outcome.lines[-1].startswith(f"verified v1 (linux/{HOST}): 2 layers, ")
    assert sorted(layout.path.rglob("*")) == before


def test_verify_in_json_names_every_layer(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    image = layout.image(HOST, EMPTY_TAR)
    layout.name(image, "v1")

    found = json.loads(run_toolbox("verify", "-q", "--format=json", f"{layout.path}:v1").out)

    assert (found["code"], found["exit_status"], found["manifest"]) == ("ok", 0, image["digest"])
    assert [(layer["digest"], layer["ok"]) for layer in found["layers"]] == [
        (layout.read(image)["layers"][0]["digest"], True)
    ]


def flip_a_byte(data: bytes) -> bytes:
    return data[:12] + bytes([data[12] ^ 255]) + data[13:]


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        pytest.param(flip_a_byte, "digest-mismatch", id="a byte flipped"),
        pytest.param(lambda data: data[:-1], "size-mismatch", id="cut short"),
        pytest.param(lambda data: data + b"\0", "size-mismatch", id="longer"),
    ],
)
def test_verify_finds_damage(
    damage: Callable[[bytes], bytes], code: str, layout: LayoutOnDisk, run_toolbox: Run
) -> None:
    image = layout.image(HOST, EMPTY_TAR, EMPTY_TAR + bytes(512))
    layout.name(image, "v1")
    blob = layout.blob_path(layout.read(image)["layers"][0])
    blob.write_bytes(damage(blob.read_bytes()))

    outcome = run_toolbox("verify", "--format=json", f"{layout.path}:v1")

    found = json.loads(outcome.out)
    assert (outcome.status, found["exit_status"], found["code"]) == (4, 4, code)
    assert [layer["ok"] for layer in found["layers"]] == [False, True], "the other layers are looked at all the same"
    assert outcome.lines[-1].startswith("unpacker: error: ")


def with_wrong_diff_id(config: dict[str, Any]) -> None:
    config["rootfs"]["diff_ids"][0] = "sha256:" + "0" * 64


def test_verify_checks_what_a_layer_decompresses_to(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    image = layout.image(HOST, EMPTY_TAR)
    manifest = layout.read(image)
    config = layout.read(manifest["config"])
    with_wrong_diff_id(config)
    manifest["config"] = layout.document("config", **config)
    layout.name(layout.document("manifest", **manifest), "v1")

    outcome = run_toolbox("verify", f"{layout.path}:v1")

    assert outcome.status == 4
    assert "diff_id mismatch: expected sha256:000" in outcome.lines[-1]


def test_verify_names_the_layer_of_a_compression_that_is_not_known(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    image = layout.image(HOST, EMPTY_TAR)
    manifest = layout.read(image)
    manifest["layers"] = [layout.blob(manifest["layers"][0]["mediaType"], lzma.compress(EMPTY_TAR))]
    layout.name(layout.document("manifest", **manifest), "v1")

    outcome = run_toolbox("verify", f"{layout.path}:v1")

    assert outcome.status == 5
    assert f"unpacker: error: layer {manifest['layers'][0]['digest']}: unsupported compression xz" in outcome.lines


def test_verify_names_the_absent_layer(layout: LayoutOnDisk, run_toolbox: Run) -> None:
    image = layout.image(HOST, EMPTY_TAR)
    layout.name(image, "v1")
    layout.blob_path(layout.read(image)["layers"][0]).unlink()

    assert run_toolbox("verify", f"{layout.path}:v1").status == 3
