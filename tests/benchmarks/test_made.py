"""The made-up images are what their names say, and the same bytes each time; layouts hold them in every compression."""

from __future__ import annotations

import json
import tarfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import unpacker
from benchmarks import made
from benchmarks.cache import MADE, Cache
from benchmarks.history import forty_layers
from benchmarks.image import TAG, NoImageError
from benchmarks.layouts import write_layout
from tests.support.layoutbuild import write_layout as build_layout
from tests.support.probes import needs_tool
from tests.support.tarbuild import directory, file, layer
from tests.support.tree import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.image import Compression

SMALL: dict[str, Callable[[Path], list[Path]]] = {
    "entries": partial(made.entries, number=997),
    "layers": partial(made.layers, number=7, total=997),
    "history": partial(forty_layers, base_files=60),
    "opaque": partial(made.opaque, markers=8, below=50),
    "whiteouts": partial(made.whiteouts, number=100),
    "twice": partial(made.twice, number=100),
    "one file": partial(made.one_file, size=1 << 20),
}
SMALL_IMAGES = pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)


def entries(tars: list[Path]) -> list[int]:
    """Count the entries of each layer with a reader that is not ours."""
    counts = []
    for path in tars:
        with tarfile.open(path) as tar:
            counts.append(len(tar.getmembers()))
    return counts


def unpacked(tars: list[Path], place: Path, compression: Compression = "gzip") -> dict[bytes, Any]:
    place.mkdir()
    write_layout(place / "layout", tars, compression)
    unpacker.unpack(place / "layout", place / "root")
    return read(place / "root")


@SMALL_IMAGES
def test_same_bytes_each_time(make: Callable[[Path], list[Path]], tmp_path: Path) -> None:
    both = []
    for name in "ab":
        (tmp_path / name).mkdir()
        both.append([path.read_bytes() for path in make(tmp_path / name)])
    assert both[0] == both[1]


@SMALL_IMAGES
def test_same_tree_in_every_compression(make: Callable[[Path], list[Path]], tmp_path: Path) -> None:
    tars = make(tmp_path)
    plain = unpacked(tars, tmp_path / "none", "none")
    assert plain
    assert unpacked(tars, tmp_path / "gzip", "gzip") == plain
    assert unpacked(tars, tmp_path / "zstd", "zstd") == plain


def test_entries_are_as_many_as_it_says(tmp_path: Path) -> None:
    assert entries(made.entries(tmp_path, 997)) == [997]


def test_layers_share_the_entries_out(tmp_path: Path) -> None:
    counts = entries(made.layers(tmp_path, 7, total=997))
    assert (len(counts), sum(counts)) == (7, 997)
    assert max(counts) - min(counts) <= 1


def test_layers_touch_those_below(tmp_path: Path) -> None:
    tars = made.layers(tmp_path, 3, total=900)
    with tarfile.open(tars[0]) as base, tarfile.open(tars[2]) as top:
        below = {member.name for member in base if member.isdir()}
        touching = [member.name for member in top if member.name.rpartition("/")[0] in below]
    assert len(touching) > 5


def test_opaque_and_whiteouts_hide_all_files(tmp_path: Path) -> None:
    for name, make in (("opaque", SMALL["opaque"]), ("whiteouts", SMALL["whiteouts"])):
        (tmp_path / f"{name}-tars").mkdir()
        tars = make(tmp_path / f"{name}-tars")
        assert not any(node.kind == "file" for node in unpacked(tars, tmp_path / name).values())
        assert any(node.kind == "file" for node in unpacked(tars[:1], tmp_path / f"{name}-base").values())


def test_the_history_has_forty_layers_that_remove_things(tmp_path: Path) -> None:
    tars = forty_layers(tmp_path, base_files=60)
    names = []
    for path in tars:
        with tarfile.open(path) as tar:
            names += [name.rpartition("/")[2] for name in tar.getnames()]
    assert len(tars) == 40
    assert ".wh..wh..opq" in names
    assert any(name.startswith(".wh.") and name != ".wh..wh..opq" for name in names)


def manifest(reference: str) -> str:
    """Read which manifest a layout has."""
    index = json.loads((Path(reference.removesuffix(f":{TAG}")) / "index.json").read_text())
    return str(index["manifests"][0]["digest"])


# -- the cache ---------------------------------------------------------------------------------------------------------


@needs_tool("tar")
@needs_tool("igzip")
def test_variants_of_a_real_image(tmp_path: Path) -> None:
    """One that is compressed so already stays as it is; another has the same layers, packed in another way."""
    built = build_layout(tmp_path / "layout", [layer(directory("etc"), file("etc/motd", b"hi"))], compression="gzip")
    cache = Cache(tmp_path / "cache")

    same, other = cache.variant("one", str(built.path), "gzip"), cache.variant("one", str(built.path), "zstd")

    trees = {}
    for name, reference in (("original", str(built.path)), ("same", same), ("other", other)):
        unpacker.unpack(reference, tmp_path / name)
        trees[name] = read(tmp_path / name)
    assert trees["original"] == trees["same"] == trees["other"]
    assert manifest(same) == manifest(str(built.path)) != manifest(other)
    assert cache.variant("one", str(built.path), "zstd") == other


def test_a_layout_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one that fails leaves nothing that a later run would take for it."""

    def half(path: Path) -> list[Path]:
        (path / "0.tar").write_bytes(b"begun")
        raise NoImageError("no more")

    monkeypatch.setitem(MADE, "half", half)
    cache = Cache(tmp_path / "cache")
    with pytest.raises(NoImageError):
        cache.made("half")
    assert list(cache.directory.iterdir()) == []
