"""One image in every form that a layout may hold it in: the same tree, and the same chain_id, come out."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.compressed import gzip_member, raw_block, rle_block, skippable, zstd_frame
from tests.support.layoutbuild import OCI, BuiltLayer, LayoutBuilder, compress, digest_of, write_layout
from tests.support.probes import needs_tool
from tests.support.tarbuild import SECOND, directory, file, hardlink, layer, opaque, symlink, whiteout
from tests.support.tree import Tree, diff, files_below, read
from tests.unpack.command import hints, refused, run, unpack
from unpacker.archive.decompress import sniff
from unpacker.content.layout import Layout
from unpacker.resolve import Reference, resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TARS = (
    layer(
        directory("./", mode=0o755, mtime=5 * SECOND),
        directory("etc", mode=0o750),
        file("etc/passwd", b"root:x:0:0\n" * 500, mode=0o640),
        file("etc/group", b"root:x:0\n"),
        directory("var/cache"),
        file("var/cache/old", bytes(300_000)),
        symlink("bin", "usr/bin"),
        directory("usr/bin"),
        file("usr/bin/tool", os.urandom(70_000), mode=0o4755),
        hardlink("usr/bin/other", "usr/bin/tool"),
    ),
    layer(whiteout("etc/group"), opaque("var/cache"), file("var/cache/new", b"new"), hardlink("bin/third", "bin/tool")),
    layer(file("etc/passwd", b"root:x:0:0\n", mtime=1_500_000_000 * SECOND + 123_456_789)),
)


def outcome(layout: Path) -> tuple[Tree, str]:
    """Unpack; give the tree, and the chain_id in the report."""
    dest = layout.parent / "dest"
    shutil.rmtree(dest, ignore_errors=True)
    done = unpack("--format=json", layout, dest)
    assert (done.status, done.lines) == (0, [])
    return read(dest), json.loads(done.out)["chain_id"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, str]:
    """The image in the simplest form."""
    return outcome(write_layout(tmp_path_factory.mktemp("plain") / "layout", TARS, compression="none").path)


def blobs_of(path: Path, pack: Callable[[bytes], bytes], media_type: str = OCI["gzip"]) -> LayoutBuilder:
    """Write the image with blobs that no option of the builder makes."""
    built = LayoutBuilder(path)
    layers = []
    for tar in TARS:
        blob = pack(tar)
        descriptor = built.blob(media_type, blob)
        layers.append(BuiltLayer(tar=tar, blob=blob, diff_id=digest_of(tar), descriptor=descriptor))
    built.name(built.image(layers))
    return built


def parts(tar: bytes, size: int) -> list[bytes]:
    return [tar[start : start + size] for start in range(0, len(tar), size)]


def in_members(tar: bytes) -> bytes:
    """As eStargz has it: each few kilobytes a member of their own, empty ones and header fields among them."""
    members = (gzip_member(part, extra=b"SG\x02\0ab", comment=b"x" * 40) for part in parts(tar, 7000))
    return gzip_member(b"").join(members) + gzip_member(b"", name=b"stargz.index.json", checked=True)


def in_frames(tar: bytes) -> bytes:
    """As zstd:chunked has it: many frames, skippable ones before, between and behind them."""
    frames = (compress(part, "zstd") for part in parts(tar, 7000))
    return skippable(b"first") + skippable(b"", 15).join(frames) + skippable(bytes(5000), 7)


def in_raw_frames(tar: bytes) -> bytes:
    """Frames without a content size, of raw blocks, runs and nothing."""
    return b"".join(zstd_frame(_block(part), raw_block(b"")) for part in parts(tar, 100_000))


def _block(part: bytes) -> bytes:
    return rle_block(part[:1], len(part)) if part.count(part[:1]) == len(part) else raw_block(part)


FORMS: dict[str, Callable[[Path], LayoutBuilder]] = {
    "gzip": lambda path: write_layout(path, TARS, compression="gzip"),
    "zstd": lambda path: write_layout(path, TARS, compression="zstd"),
    "mixed": lambda path: write_layout(path, TARS, compression=("zstd", "none", "gzip")),
    "gzip in many members": lambda path: blobs_of(path, in_members),
    "gzip padded with zeros": lambda path: blobs_of(path, lambda tar: gzip.compress(tar) + bytes(1000)),
    "zstd in many frames": lambda path: blobs_of(path, in_frames, OCI["zstd"]),
    "zstd of raw blocks": lambda path: blobs_of(path, in_raw_frames, OCI["zstd"]),
    "plain tar that calls itself gzip": lambda path: blobs_of(path, bytes, OCI["gzip"]),
    "gzip that calls itself plain tar": lambda path: blobs_of(path, gzip.compress, OCI["none"]),
    "zstd that calls itself gzip": lambda path: blobs_of(path, lambda tar: compress(tar, "zstd"), OCI["gzip"]),
    "Docker's media types": lambda path: write_layout(path, TARS, docker=True),
    "Docker's media types, plain": lambda path: write_layout(path, TARS, docker=True, compression="none"),
    "nested index": lambda path: write_layout(path, TARS, nested=1),
    "indexes in indexes": lambda path: write_layout(path, TARS, nested=4),
    "embedded documents": lambda path: write_layout(path, TARS, embed=("manifest", "config")),
    "embedded layers": lambda path: write_layout(path, TARS, embed=("manifest", "config", "layers")),
    "without a platform": lambda path: write_layout(path, TARS, platform=None),
    "without a name": lambda path: write_layout(path, TARS, tag=None),
    "sha512": lambda path: write_layout(path, TARS, algorithm="sha512"),
}
OTHER_CHAIN = {"sha512"}
"""Forms whose diff_ids, and so chain_ids, are others."""


@pytest.mark.parametrize("form", [pytest.param(name, id=name.replace(" ", "-")) for name in FORMS])
def test_every_form_gives_the_same_tree_and_chain_id(form: str, plain: tuple[Tree, str], tmp_path: Path) -> None:
    """Compression, media types, indexes and digests say nothing of what an image holds."""
    built = FORMS[form](tmp_path / "layout")

    tree, chain_id = outcome(built.path)

    assert diff(plain[0], tree) == []
    assert chain_id == plain[1] or form in OTHER_CHAIN


def test_a_layout_of_links_is_refused_with_the_way_to_unpack_it(plain: tuple[Tree, str], tmp_path: Path) -> None:
    """Bazel's rules make such ones (rules_oci #560); no link is followed, and the hint says what helps."""
    built = write_layout(tmp_path / "layout", TARS)
    for blob in files_below(built.path / "blobs"):
        blob.rename(tmp_path / blob.name)
        blob.symlink_to(f"../../../{blob.name}")

    refusal = unpack(built.path, tmp_path / "dest")

    assert refused(refusal, 5).endswith(": unsupported file type symbolic link")
    (hint,) = hints(refusal)
    assert hint.endswith("unpack what cp -RL makes of it")
    subprocess.run(["cp", "-RL", built.path, tmp_path / "copy"], check=True)
    assert outcome(tmp_path / "copy") == plain


def test_the_chain_id_is_that_of_the_specification(plain: tuple[Tree, str]) -> None:
    """The diff_id of the base, then the digest of two digests with a blank between them."""
    chain = digest_of(TARS[0])
    for tar in TARS[1:]:
        chain = digest_of(f"{chain} {digest_of(tar)}".encode())

    assert plain[1] == chain


def test_a_media_type_that_is_not_true_is_a_warning(tmp_path: Path) -> None:
    """One for each layer; the diff_id says that all is well."""
    built = FORMS["zstd that calls itself gzip"](tmp_path / "layout")

    done = unpack("--format=json", built.path, tmp_path / "dest")

    digests = [one.digest for one in built.images[0].layers]
    expected = [f"layer {digest}: its media type says gzip, its first bytes zstd" for digest in digests]
    assert json.loads(done.out)["warnings"] == expected


def test_an_image_without_layers_is_an_empty_directory(tmp_path: Path) -> None:
    """With no chain_id."""
    tree, chain_id = outcome(write_layout(tmp_path / "layout", []).path)

    assert list(tree) == [b"."]
    assert (tree[b"."].mode, tree[b"."].mtime_ns) == (0o755, 0)
    assert chain_id is None


def test_a_layer_twice_in_one_image_is_applied_twice(tmp_path: Path) -> None:
    """Blobs are shared by digest; one blob may even be both."""
    built = LayoutBuilder(tmp_path / "layout")
    one = built.layer(layer(file("a", b"1")))
    built.name(built.image([one, built.layer(layer(whiteout("a"))), one]))

    tree, _ = outcome(built.path)

    assert tree[b"a"].content == b"1"


@needs_tool("skopeo")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_image_that_skopeo_packed_anew_is_the_same(
    compression: str, plain: tuple[Tree, str], tmp_path: Path
) -> None:
    """A tool that knows nothing of ours."""
    source, moved = write_layout(tmp_path / "layout", TARS, compression="none").path, tmp_path / "moved"
    how = f"--dest-compress-format={compression}"
    done = run(["skopeo", "--insecure-policy", "copy", "-q", how, f"oci:{source}:latest", f"oci:{moved}:latest"])
    assert done.status == 0, done.lines

    tree, chain_id = outcome(moved)

    assert (diff(plain[0], tree), chain_id) == ([], plain[1])
    with Layout.open(moved).blob(resolve(Layout.open(moved), Reference(str(moved))).layers[0].descriptor) as blob:
        assert sniff(blob.read()) == compression
