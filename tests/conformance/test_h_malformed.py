"""H: what is malformed ends in one line and an exit status, nothing is left, and the next run is as the first.

By way of the command, whose words are those of a user.  The details of each row are tested where its rule is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import AMD64, rule
from tests.support.layoutbuild import OCI, LayoutBuilder, write_layout
from tests.support.mounted import run_on_tmpfs
from tests.support.probes import needs_nobody, needs_tmpfs, nobodys_directory, nobodys_python, run_as_nobody
from tests.support.tarbuild import char, directory, file, hardlink, header, layer, pax_header, sparse_pax, symlink
from tests.support.tree import read, sketch
from unpacker.cli import unpack_main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conformance.cases import Entries, Place

SHA = "sha256:" + "0" * 64


@pytest.fixture
def fails(place: Place, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run ``unpack`` on a layout: it fails with a status, in one line (and a hint), and leaves nothing."""

    def run(built: LayoutBuilder, expected: int, *words: str) -> str:
        before = sorted(os.listdir(place.path))
        layout = sorted(path for path in built.path.rglob("*") if "labels" not in path.parts)
        for _ in range(2):  # the second run finds nothing of the first, and says the same
            status = unpack_main([str(built.path), str(place.path / "dest"), "--platform", AMD64, "-q", *words])
            out, err = capsys.readouterr()
            lines = err.splitlines()
            assert (status, out) == (expected, "")
            assert lines[0].startswith("unpack: error: ")
            assert all(line.startswith("unpack: hint: ") for line in lines[1:])
            assert len(lines) <= 2
            assert err.replace("\n", "").isprintable()
            assert sorted(os.listdir(place.path)) == before
            assert sorted(path for path in built.path.rglob("*") if "labels" not in path.parts) == layout
        return err

    return run


@rule("H1", "MUST", "`oci-layout` or `index.json` is missing, no file, cut, or no JSON.", "A 1-4", "the file, and why")
def test_spec_h_01_oci_layout_and_index_json(place: Place, fails: Callable[..., str]) -> None:
    for name, status, words in [
        ("oci-layout", 4, "found the end of the document at byte offset 9"),
        ("index.json", 4, "found the end of the document at byte offset 9"),
    ]:
        built = place.write([file("a")])
        (built.path / name).write_bytes(b'{"a": 1, ')
        message = fails(built, status)
        assert str(built.path / name) in message
        assert words in message
        (built.path / name).unlink()
        assert f"no file {name}" in fails(built, 3)
        (built.path / name).mkdir()
        assert f"{name} is a directory" in fails(built, 3)


@rule(
    "H2",
    "MUST",
    "A digest is malformed, of an unknown algorithm, or another one.",
    "B 15-18",
    "three different sentences, each with the whole digest",
)
def test_spec_h_02_digests(place: Place, fails: Callable[..., str]) -> None:
    def with_digest(digest: str) -> LayoutBuilder:
        return place.write([file("a")], mutate={"manifest": lambda one: one["layers"][0].update(digest=digest)})

    malformed = fails(with_digest("sha256:zz"), 4)
    unknown = fails(with_digest("blake3:" + "0" * 64), 5)
    built = place.write([file("a")], compression="none")
    built.flip(built.images[0].layers[0].digest, 600)
    other = fails(built, 4)

    assert "layers[0].digest: expected a digest, found 'sha256:zz' (sha256 takes 64 lower-case hex digits)" in malformed
    assert f"digest blake3:{'0' * 64}: unsupported digest algorithm blake3" in unknown
    assert f"digest mismatch: expected {built.images[0].layers[0].digest}, actual sha256:" in other


@rule("H3", "MUST", "A size is another one.", "B 21", "digest, declared and actual size; one byte more is read at most")
def test_spec_h_03_sizes(place: Place, fails: Callable[..., str]) -> None:
    built = place.write([file("a")])
    digest = built.images[0].layers[0].digest
    size = built.images[0].layers[0].descriptor["size"]
    with built.blob_path(digest).open("ab") as blob:
        blob.truncate(1 << 40)  # sparse: to read all of it would take an hour

    assert fails(built, 4).splitlines() == [
        f"unpack: error: blob {digest}: size mismatch: expected {size} bytes, actual {1 << 40} bytes"
    ]


@rule("H4", "MUST", "A document is of two kinds, or another than its descriptor says.", "C 31, D 39", "both types")
def test_spec_h_04_kinds_of_documents(place: Place, fails: Callable[..., str]) -> None:
    both = place.write([file("a")], mutate={"manifest": lambda one: one.update(manifests=[])})
    other = place.write([file("a")], mutate={"manifest": lambda one: one.update(mediaType=OCI["index"])})

    assert f"{both.images[0].digest}: manifests: expected no such field in a manifest" in fails(both, 4)
    assert f"mediaType: expected {OCI['manifest']}, found '{OCI['index']}'" in fails(other, 4)


@rule("H5", "MUST", "Layers and diff_ids do not fit.", "E 51", "both numbers; or the layer, and both digests")
def test_spec_h_05_diff_ids(place: Place, fails: Callable[..., str]) -> None:
    fewer = place.write([file("a")], mutate={"config": lambda one: one["rootfs"].update(diff_ids=[])})
    other = place.write([file("a")], mutate={"config": lambda one: one["rootfs"].update(diff_ids=[SHA])})
    stored = other.images[0].layers[0]

    assert "1 layers, but its config has 0 diff_ids" in fails(fewer, 4)
    assert f"layer 0 ({stored.digest}): diff_id mismatch: expected {SHA}, actual {stored.diff_id}" in fails(other, 4)


@rule("H6", "MUST", "`rootfs.type` is unknown.", "E 49", "the config's digest and the value")
def test_spec_h_06_rootfs_type(place: Place, fails: Callable[..., str]) -> None:
    built = place.write([file("a")], mutate={"config": lambda one: one["rootfs"].update(type="ba\x1bse")})

    assert rf"config {built.images[0].config_digest}: unsupported rootfs.type ba\x1bse" in fails(built, 5)


@rule("H7", "MUST", "A layer or a config is of an unknown type.", "D 40, 43", "which, and what is supported")
def test_spec_h_07_unknown_types(place: Place, fails: Callable[..., str]) -> None:
    def with_type(name: str) -> LayoutBuilder:
        def change(manifest: dict[str, Any]) -> None:
            (manifest["config"] if name == "config" else manifest["layers"][0])["mediaType"] = "application/x"

        return place.write([file("a")], mutate={"manifest": change})

    for name, words in (("config", "unsupported config media type"), ("layer", "layer 0 (")):
        message = fails(with_type(name), 5)
        assert words in message
        assert "application/x" in message
        assert "hint: supported: application/vnd" in message


@rule("H8", "MUST", "No platform matches, or a reference is unknown or ambiguous.", "A 11, C 38", "the candidates")
def test_spec_h_08_references(place: Place, fails: Callable[..., str]) -> None:
    built = place.write([file("a")], tag="v1", nested=1)
    assert "the index has: linux/amd64" in fails(built, 3, "--platform", "linux/s390x")

    built.name(built.image([layer(file("b"))], platform=AMD64), "v2")
    assert "choose one of: v1, v2" in fails(built, 3)

    missing = place.write([file("a")], tag="v1")
    missing.path = missing.path.with_name(missing.path.name + ":v3")
    assert "the layout has: v1" in fails(missing, 3)


@rule(
    "H9",
    "MUST",
    "A layer's stream or archive is cut, or broken in the middle.",
    "F 59, J",
    "the layer, the entry and the offset; Python's tarfile stops silently there",
)
def test_spec_h_09_broken_layers(place: Place, fails: Callable[..., str]) -> None:
    tar = layer(file("first", b"x" * 700), file("second", b"y" * 700), file("third"))
    broken = {
        "cut": (tar[:2100], "entry 'second' at offset 2100: the archive ends within an entry's data"),
        "checksum": (tar[:1536] + b"z" + tar[1537:], "at offset 1536: not a tar header: its checksum is wrong"),
        "rubbish": (tar[:1536] + b"rubbish!" * 64 + tar[1536:], "at offset 1536: not a tar header"),
    }
    for damaged, words in broken.values():
        built = place.write(damaged)
        message = fails(built, 4)
        assert f"layer {built.images[0].layers[0].digest}" in message
        assert words in message


@rule("H10", "MUST", "A name or a link leads out, the root is no directory, `.wh.` is bare.", "F 66-76", "see there")
def test_spec_h_10_entries_that_lead_out(place: Place, fails: Callable[..., str]) -> None:
    outside = place.path / "outside"
    outside.write_text("as it was")
    way = symlink("way", str(place.path))
    for entries in ([symlink(".", "/")], [way, hardlink("l", "way/outside")], [file("d/.wh.")], [hardlink("l", "..")]):
        built = place.write(entries)
        message = fails(built, 5)
        assert f"layer {built.images[0].layers[0].digest} entry '{entries[-1].name.decode()}'" in message
    assert outside.read_text() == "as it was"


@rule(
    "H11",
    "MUST",
    "The host refuses: devices, space, extended attributes, long names.",
    "F 61-63",
    "losses are counted and said; a full disk is an error, exit status 6, and no staging directory stays",
)
@needs_nobody
def test_spec_h_11_without_privilege(place: Place) -> None:
    with nobodys_directory() as at:
        write_layout(at / "layout", [layer(char("c", 1, 3), file("a"))])
        words = [str(nobodys_python()), "-m", "unpacker", "unpack", "--platform", AMD64, str(at / "layout")]
        done = run_as_nobody([*words, str(at / "root")])
        assert sketch(read(at / "root")) == {"a": "file"}
        assert "('c': character device not made: Operation not permitted)" in done.stderr
        strict = run_as_nobody([*words, str(at / "strict"), "--strict"], check=False)
        assert (strict.returncode, sorted(os.listdir(at))) == (5, ["layout", "root"])


@needs_tmpfs
def test_spec_h_11_a_full_disk(place: Place) -> None:
    built = place.write([file("a", os.urandom(2 << 20))])
    program = f"""
        import os
        from unpacker.cli import unpack_main
        assert unpack_main([{str(built.path)!r}, str(HERE / "dest"), "--platform", "{AMD64}", "-q"]) == 6
        assert os.listdir(HERE) == []
        """

    run_on_tmpfs(place.path, "1m", program)


@rule(
    "H12", "MUST", "A header has negative sizes, broken records, overlapping maps.", "J", "the offset, and what it is"
)
def test_spec_h_12_broken_headers(place: Place, fails: Callable[..., str]) -> None:
    cases: list[tuple[Entries, str]] = [
        ([file("a", fields={"size": b"\xff" * 12})], "size -1 is out of range"),
        ([pax_header(b"99 path=x\n"), file("a")], "pax record of a wrong length"),
        ([sparse_pax("a", [(512, b"x" * 512), (600, b"y" * 512)], 4096, "0.1")], "sparse map: segment at 600"),
        ([header(name=b"x" * 100, typeflag=b"L", size=2 << 20, magic=b"ustar ")], "bytes of an extension header"),
    ]
    for entries, words in cases:
        message = fails(place.write(entries), 5 if "extension" in words else 4)
        assert words in message
        assert "at offset " in message


@rule(
    "H13",
    "MUST",
    "An unpack is killed.",
    "ours",
    "what is left is swept by the next run for the same DEST, which finds DEST as it was; a store likewise",
)
@pytest.mark.parametrize("store", [False, True], ids=["directly", "from-store"])
def test_spec_h_13_killed(store: bool, place: Place) -> None:
    built = place.write([file(f"d{number % 97}/{number}", b"x") for number in range(3000)])
    program = "import sys; from unpacker.unpacking import unpack; unpack(*sys.argv[1:3], platform='linux/amd64', labels=False, sync=False, store=sys.argv[3] or None)"
    where = place.path / "place"
    where.mkdir()
    words = [str(built.path), str(where / "dest"), str(where / "store") if store else ""]
    with subprocess.Popen([sys.executable, "-c", program, *words]) as child:
        deadline = time.monotonic() + 30
        while not _has_begun(where) and time.monotonic() < deadline:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not (where / "dest").exists()

    subprocess.run([sys.executable, "-c", program, *words], check=True)

    assert sorted(os.listdir(where)) == (["dest", "store"] if store else ["dest"])
    assert not store or os.listdir(where / "store/staging") == []
    assert len(read(where / "dest")) == 3000 + 97 + 1


def _has_begun(where: Path) -> bool:
    return any("d1" in names for _, names, _ in os.walk(where))


def test_spec_h_13_a_good_image_after_all_that(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """So that the tests above fail for what they say."""
    built = place.write([directory("d"), file("d/a")])

    assert unpack_main([str(built.path), str(place.path / "dest"), "--platform", AMD64, "-q"]) == 0
    assert capsys.readouterr() == ("", "")
