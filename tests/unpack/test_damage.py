"""Damage: whatever byte of an image is another, the blob is blamed by its digest, and nothing is left behind.

The line on stderr is compared whole.  A damaged blob mostly breaks its JSON, its compression or its archive as well, and
what those make of it is not the cause.
"""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.layoutbuild import Compression, LayoutBuilder, digest_of, write_layout
from tests.support.tarbuild import directory, file, layer, symlink, whiteout
from tests.support.tree import Tree, diff, read
from tests.unpack.command import command, errors, hints, listing, refused, run, succeeded, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = layer(directory("etc", mode=0o755), file("etc/motd", b"welcome\n"))
TOP = layer(whiteout("etc/motd"), symlink("etc/issue", "motd"))
COMPRESSIONS: tuple[Compression, ...] = ("none", "gzip", "zstd")
POSITIONS = 150
"""Places of damage in one blob; the compressed layers have fewer bytes, and each of them is damaged."""


@pytest.fixture(params=COMPRESSIONS)
def built(request: pytest.FixtureRequest, tmp_path: Path) -> LayoutBuilder:
    """An image of two layers, in a directory with nothing else."""
    return write_layout(tmp_path / "layout", [BASE, TOP], compression=request.param)


def blobs(built: LayoutBuilder) -> dict[str, str]:
    """Name the blobs of an image: the part that they play, and their digest."""
    image = built.images[0]
    base, top = image.layers
    return {"manifest": image.digest, "config": image.config_digest, "base": base.digest, "top": top.digest}


def positions(size: int, most: int = POSITIONS) -> list[int]:
    """Give places all over so many bytes, the first and the last among them."""
    return sorted({*range(0, size, -(-size // most)), size - 1})


PARTS = ("manifest", "config", "base", "top")


# -- blobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_a_changed_byte_is_a_digest_mismatch(built: LayoutBuilder, part: str) -> None:
    """Wherever it is: in a header, in data, in padding, in a checksum, behind the archive's end."""
    digest = blobs(built)[part]
    path = built.blob_path(digest)
    whole = path.read_bytes()
    for position in positions(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)

        line = refused(unpack(built.path, built.path.parent / "dest"), 4)

        assert line == f"blob {digest}: digest mismatch: expected {digest}, actual {digest_of(bytes(damaged))}"
        assert listing(built.path.parent) == ["layout"]


@pytest.mark.parametrize("part", PARTS)
def test_a_cut_blob_is_a_size_mismatch(built: LayoutBuilder, part: str) -> None:
    """Known before a byte of it is read."""
    digest = blobs(built)[part]
    path = built.blob_path(digest)
    whole = path.read_bytes()
    for size in positions(len(whole), 40):
        path.write_bytes(whole[:size])

        line = refused(unpack(built.path, built.path.parent / "dest"), 4)

        assert line == f"blob {digest}: size mismatch: expected {len(whole)} bytes, actual {size} bytes"
        assert listing(built.path.parent) == ["layout"]


@pytest.mark.parametrize("more", [b"\0", b"\n", b"x" * 100_000, "itself"], ids=["zero", "newline", "much", "twice"])
@pytest.mark.parametrize("part", PARTS)
def test_a_longer_blob_is_a_size_mismatch(built: LayoutBuilder, part: str, more: bytes | str) -> None:
    """Also where all of it reads well: a second gzip member or zstd frame, white space behind a document."""
    digest = blobs(built)[part]
    whole = built.blob_path(digest).read_bytes()
    added = whole if isinstance(more, str) else more
    built.extend(digest, added)

    line = refused(unpack(built.path, built.path.parent / "dest"), 4)

    size = len(whole)
    assert line == f"blob {digest}: size mismatch: expected {size} bytes, actual {size + len(added)} bytes"
    assert listing(built.path.parent) == ["layout"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_damage_far_into_a_layer_leaves_nothing_of_what_came_before(compression: Compression, tmp_path: Path) -> None:
    """Thousands of files are made by then, in a workspace that nobody else sees."""
    noise = random.Random(1)  # noqa: S311 -- bytes that do not compress, the same each time
    files = [file(f"d{number % 7}/f{number}", noise.randbytes(3000), mode=0o400) for number in range(1000)]
    built = write_layout(tmp_path / "layout", [BASE, layer(*files)], compression=compression)
    digest = built.images[0].layers[1].digest
    path = built.blob_path(digest)
    whole = path.read_bytes()
    for position in (len(whole) // 2, len(whole) - 2000, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)

        line = refused(unpack(built.path, tmp_path / "dest"), 4)

        assert line == f"blob {digest}: digest mismatch: expected {digest}, actual {digest_of(bytes(damaged))}"
        assert listing(tmp_path) == ["layout"]


def test_embedded_data_is_no_more_trusted_than_a_blob(tmp_path: Path) -> None:
    """Damage in a descriptor's ``data`` is found by the same digest."""
    built = write_layout(tmp_path / "layout", [BASE], embed=("manifest", "config", "layers"))
    index = built.path / "index.json"
    descriptor = json.loads(index.read_text())["manifests"][0]
    data = descriptor["data"]
    for position in range(0, len(data) - 4, max(1, len(data) // 200)):
        damaged = data[:position] + ("A" if data[position] != "A" else "B") + data[position + 1 :]
        index.write_text(json.dumps({"schemaVersion": 2, "manifests": [{**descriptor, "data": damaged}]}))

        line = refused(unpack(built.path, tmp_path / "dest"), 4)

        assert line.startswith(f"blob {descriptor['digest']}: digest mismatch: expected {descriptor['digest']}, actual")
        assert listing(tmp_path) == ["layout"]


# -- what has no digest ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_damage_in_a_file_without_a_digest_never_gives_another_tree(tmp_path: Path, name: str) -> None:
    """It names another blob, or none, or breaks the document; or it says nothing that matters."""
    built = write_layout(tmp_path / "layout", [BASE, TOP])
    dest = tmp_path / "dest"
    succeeded(unpack(built.path, dest))
    good = read(dest)
    path = built.path / name
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in (0x01, 0x20):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            os.rename(dest, tmp_path / "before")

            outcome = unpack(built.path, dest)

            if outcome.status == 0:
                assert diff(good, read(dest)) == []
            else:
                assert outcome.status in (3, 4, 5), outcome
                refused(outcome, outcome.status)
                assert listing(tmp_path) == ["before", "layout"]
                os.rename(tmp_path / "before", dest)
                continue
            remove(tmp_path / "before")


def remove(tree: Path) -> None:
    for path in sorted(tree.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    tree.rmdir()


# -- documents that contradict each other, every digest being right -----------------------------------------------------


def swap_diff_ids(config: dict[str, Any]) -> None:
    config["rootfs"]["diff_ids"].reverse()


def swap_layers(manifest: dict[str, Any]) -> None:
    manifest["layers"].reverse()


def test_swapped_diff_ids_are_a_mismatch(tmp_path: Path) -> None:
    """Each blob is what its digest says, and in the wrong place."""
    for name, mutate in (("config", {"config": swap_diff_ids}), ("manifest", {"manifest": swap_layers})):
        built = write_layout(tmp_path / name, [BASE, TOP], mutate=mutate)  # type: ignore[arg-type]
        base, top = built.images[0].layers
        said, found = (top, base) if name == "config" else (base, top)

        line = refused(unpack(built.path, tmp_path / "dest"), 4)

        expected = f"diff_id mismatch: expected {said.diff_id}, actual {found.diff_id}"
        assert line == f"layer 0 ({found.digest}): {expected}"
    assert listing(tmp_path) == ["config", "manifest"]


def test_another_diff_id_of_the_last_layer_is_a_mismatch(tmp_path: Path) -> None:
    """All layers below it are merged by then."""
    other = digest_of(b"another archive")

    def change(config: dict[str, Any]) -> None:
        config["rootfs"]["diff_ids"][-1] = other

    built = write_layout(tmp_path / "layout", [BASE, TOP, TOP], mutate={"config": change})
    last = built.images[0].layers[-1]

    line = refused(unpack(built.path, tmp_path / "dest"), 4)

    assert line == f"layer 2 ({last.digest}): diff_id mismatch: expected {other}, actual {last.diff_id}"
    assert listing(tmp_path) == ["layout"]


@pytest.mark.parametrize("by", [-1, 1, 10_000])
@pytest.mark.parametrize("part", ["manifest", "config", "base", "top"])
def test_a_wrong_size_in_a_descriptor_is_a_size_mismatch(tmp_path: Path, part: str, by: int) -> None:
    """Whether the document was damaged after it was made does not matter: this one was made so."""

    def change(document: dict[str, Any]) -> None:
        found = {
            "manifest": document.get("manifests"),
            "config": [document.get("config")],
            "base": document.get("layers"),
            "top": document.get("layers", [])[1:],
        }[part]
        if found:  # the first index.json of a layout is empty
            found[0]["size"] += by

    where = "index.json" if part == "manifest" else "manifest"
    built = write_layout(tmp_path / "layout", [BASE, TOP], mutate={where: change})  # type: ignore[dict-item]
    digest = blobs(built)[part]
    size = built.blob_path(digest).stat().st_size

    line = refused(unpack(built.path, tmp_path / "dest"), 4)

    assert line == f"blob {digest}: size mismatch: expected {size + by} bytes, actual {size} bytes"
    assert listing(tmp_path) == ["layout"]


def lost_layer(manifest: dict[str, Any]) -> None:
    del manifest["layers"][1]


def lost_diff_id(config: dict[str, Any]) -> None:
    del config["rootfs"]["diff_ids"][1]


@pytest.mark.parametrize(
    ("mutate", "counts"),
    [({"manifest": lost_layer}, (1, 2)), ({"config": lost_diff_id}, (2, 1))],
    ids=["lost-layer", "lost-diff_id"],
)
def test_a_layer_too_few_is_no_image(tmp_path: Path, mutate: Any, counts: tuple[int, int]) -> None:
    """Before anything is made."""
    built = write_layout(tmp_path / "layout", [BASE, TOP], mutate=mutate)

    line = refused(unpack(built.path, tmp_path / "dest"), 4)

    digest = built.images[0].digest
    assert line == f"manifest {digest}: {counts[0]} layers, but its config has {counts[1]} diff_ids"
    assert listing(tmp_path) == ["layout"]


# -- what is there in a blob's place -----------------------------------------------------------------------------------


def away(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("put", "status", "why"),
    [
        (away, 3, "blob {digest} is not in the layout (looked for {path})"),
        (link, 5, "{path}: unsupported file type symbolic link"),
        (folder, 5, "{path}: unsupported file type directory"),
        (pipe, 5, "{path}: unsupported file type fifo"),
    ],
    ids=["nothing", "symlink", "directory", "fifo"],
)
def test_a_blob_that_is_no_file_is_refused(
    tmp_path: Path, part: str, put: Callable[[Path], None], status: int, why: str
) -> None:
    """Nor does it hang, nor lead out of the layout."""
    built = write_layout(tmp_path / "layout", [BASE, TOP])
    digest = blobs(built)[part]
    path = built.blob_path(digest)
    put(path)

    line = refused(unpack(built.path, tmp_path / "dest"), status)

    assert line == why.format(digest=digest, path=path)
    assert listing(tmp_path) == ["layout"]


# -- an existing DEST --------------------------------------------------------------------------------------------------


def state(dest: Path) -> tuple[Tree, int, int]:
    status = dest.stat()
    return read(dest), status.st_ino, status.st_ctime_ns


@pytest.mark.parametrize("part", PARTS)
def test_force_leaves_dest_as_it_was_if_the_image_is_damaged(tmp_path: Path, part: str) -> None:
    """Not a byte, not a time, not an inode of it is another."""
    built = write_layout(tmp_path / "layout", [BASE, TOP])
    dest = tmp_path / "dest"
    (dest / "own").mkdir(parents=True)
    (dest / "own/file").write_text("mine")
    (dest / "own").chmod(0o500)
    before = state(dest)
    built.flip(blobs(built)[part])

    refused(unpack("--force", built.path, dest), 4)

    assert state(dest) == before
    assert listing(tmp_path) == ["dest", "layout"]


def test_parents_that_were_made_for_dest_go_again(tmp_path: Path) -> None:
    """And those that were there stay."""
    built = write_layout(tmp_path / "layout", [BASE, TOP])
    (tmp_path / "there").mkdir()
    built.flip(blobs(built)["top"])

    refused(unpack(built.path, tmp_path / "there/a/b/c/dest"), 4)

    assert listing(tmp_path) == ["layout", "there"]
    assert listing(tmp_path / "there") == []


# -- as a process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_a_process_says_it_in_one_line_and_its_exit_status(built: LayoutBuilder, part: str) -> None:
    """And in JSON on stdout, if that was asked for."""
    digest = blobs(built)[part]
    built.flip(digest, 3)
    actual = digest_of(built.blob_path(digest).read_bytes())

    outcome = run(command("--format=json", "--progress=none", built.path, "dest"), cwd=built.path.parent)

    message = f"blob {digest}: digest mismatch: expected {digest}, actual {actual}"
    assert (outcome.status, errors(outcome), hints(outcome)) == (4, [message], [])
    found = json.loads(outcome.out)
    assert (found["code"], found["exit_status"], found["message"]) == ("digest-mismatch", 4, message)
    assert found["details"] == {"expected": digest, "actual": actual}
    assert listing(built.path.parent) == ["layout"]


def test_an_archive_without_its_end_marker_is_a_warning(tmp_path: Path) -> None:
    """``umoci insert`` leaves it out; the diff_id says that nothing is missing.  One line a layer, and none with -q."""
    layout = write_layout(tmp_path / "layout", [layer(file("a"), end=False), layer(file("b"))]).path
    said = run(command("--progress=none", "--no-labels", layout, tmp_path / "loud"))
    quiet = run(command("-q", "--no-labels", layout, tmp_path / "quiet"))

    warnings = [line for line in said.lines if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].endswith(": its archive ends without the two blocks of zeros that should mark the end")
    assert (quiet.status, quiet.lines) == (0, [])
