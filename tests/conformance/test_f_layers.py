"""F: layers (layer.md), each test unpacked directly and by way of a store."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import AMD64, no_permissions, rule, status
from tests.support.compressed import gzip_member, raw_block, rle_block, skippable, zstd_frame
from tests.support.layoutbuild import OCI, BuiltLayer, LayoutBuilder, compress, digest_of
from tests.support.probes import (
    can_mknod,
    needs_chown,
    needs_mknod,
    needs_trusted_xattr,
    needs_user_xattr,
)
from tests.support.tarbuild import (
    MTIME,
    SECOND,
    Entry,
    block,
    char,
    directory,
    fifo,
    file,
    hardlink,
    layer,
    opaque,
    pax_header,
    sparse_old,
    sparse_pax,
    symlink,
    whiteout,
)
from unpacker.errors import CorruptLayerError, LimitError, LossError, UnpackError, UnsafeEntryError, UnsupportedError
from unpacker.events import LossKind
from unpacker.limits import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.cases import Entries, Place

THEN = 1_234_567_890 * SECOND
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def of_blob(place: Place, blob: bytes, tar: bytes, media_type: str = OCI["gzip"]) -> LayoutBuilder:
    """Write an image of one layer whose blob is given, with the right digests of both."""
    built = place.builder()
    descriptor = built.blob(media_type, blob)
    one = BuiltLayer(tar=tar, blob=blob, diff_id=digest_of(tar), descriptor=descriptor)
    built.name(built.image([one], platform=AMD64))
    return built


# -- archives and compression ------------------------------------------------------------------------------------------


@rule(
    58,
    "MUST",
    "A layer is a tar archive, without a path twice.",
    "layer.md#distributable-format",
    "the last of two wins, whatever the first was; `a`, `./a`, `/a` and `a/` are one path",
)
@pytest.mark.parametrize("again", ["a", "./a", "/a", "a/", "x/../a", ".//a"])
def test_spec_058_the_last_of_two_wins(again: str, place: Place) -> None:
    kinds = {
        "a": file("a", b"old"),
        "b": directory("b"),
        "c": symlink("c", "/x"),
        "d": fifo("d"),
        "e": hardlink("e", "k"),
    }
    entries: list[Entry] = [file("k")]
    for name, first in kinds.items():
        entries += [first, file(again.replace("a", name), b"new")]

    assert place.image(entries).sketch == {"k": "file", **dict.fromkeys(kinds, "file new")}


TAR = layer(file("a", b"x" * 5000), file("b"))
PARTS = [TAR[start : start + 700] for start in range(0, len(TAR), 700)]
WHOLE: dict[str, tuple[bytes, str]] = {
    "gzip": (b"".join(map(gzip_member, PARTS)), OCI["gzip"]),
    "gzip-empty-members": (gzip_member(b"") + gzip_member(TAR) + gzip_member(b"", extra=b"x"), OCI["gzip"]),
    "gzip-zeros-behind": (gzip_member(TAR) + bytes(100), OCI["gzip"]),
    "zstd": (b"".join(compress(part, "zstd") for part in PARTS), OCI["zstd"]),
    "zstd-skippable": (skippable(b"x") + compress(TAR, "zstd") + skippable(b"index", 15), OCI["zstd"]),
    "zstd-raw-blocks": (zstd_frame(raw_block(TAR)), OCI["zstd"]),
}
BROKEN: dict[str, tuple[bytes, str]] = {
    "gzip-cut": (gzip_member(TAR)[:-9], OCI["gzip"]),
    "gzip-checksum": (gzip_member(TAR)[:-8] + b"\0\0\0\0" + gzip_member(TAR)[-4:], OCI["gzip"]),
    "gzip-length": (gzip_member(TAR)[:-4] + b"\0\0\0\1", OCI["gzip"]),
    "gzip-garbage": (gzip_member(TAR) + b"garbage", OCI["gzip"]),
    "gzip-cut-header": (gzip_member(TAR) + gzip_member(b"")[:5], OCI["gzip"]),
    "zstd-cut": (compress(TAR, "zstd")[:-3], OCI["zstd"]),
    "zstd-garbage": (compress(TAR, "zstd") + b"garbage!", OCI["zstd"]),
    "zstd-dictionary": (zstd_frame(raw_block(TAR), dictionary=7), OCI["zstd"]),
}


@rule(
    59,
    "MUST",
    "gzip may have many members, zstd many frames and skippable ones.",
    "layer.md#gzip-media-types",
    "read to the last; damage, a cut end, bytes behind the end and bombs are errors",
)
@pytest.mark.parametrize("how", WHOLE)
def test_spec_059_many_members(how: str, place: Place) -> None:
    found = place.unpack(of_blob(place, WHOLE[how][0], TAR, WHOLE[how][1]))

    assert list(found.sketch) == ["a", "b"]
    assert (found["a"].size, found.warnings) == (5000, "")


@pytest.mark.parametrize("how", BROKEN)
def test_spec_059_a_broken_stream(how: str, place: Place) -> None:
    blob, media_type = BROKEN[how]

    error = place.refused(CorruptLayerError, of_blob(place, blob, TAR, media_type))

    assert (error.layer, status(error)) == (digest_of(blob), 4)


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_spec_059_a_bomb(how: str, place: Place) -> None:
    """The default is far above any real layer; here it is a small one."""
    limits = DEFAULT.changed(ratio=100, ratio_floor=1 << 20)
    zeros = bytes(4 << 20)
    blob = gzip_member(zeros, level=9) if how == "gzip" else zstd_frame(*[rle_block(b"\0", 128 << 10)] * 32)

    error = place.refused(LimitError, of_blob(place, blob, zeros, OCI["gzip"]), limits=limits)

    assert (error.limit, error.layer, status(error)) == ("ratio", digest_of(blob), 5)


@rule(
    60,
    "open",
    "A layer's media type and its compression may differ.",
    "media-types.md#media-type-conflicts",
    "the first bytes decide, and the diff_id; a warning",
)
@pytest.mark.parametrize("said", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("is_", ["none", "gzip", "zstd"])
def test_spec_060_the_bytes_decide(is_: Any, said: str, place: Place) -> None:
    found = place.unpack(of_blob(place, compress(TAR, is_), TAR, OCI[said]))

    assert list(found.sketch) == ["a", "b"]
    assert ("its media type says" in found.warnings) == (is_ != said)


@pytest.mark.parametrize("blob", [b"\xfd7zXZ\0" + bytes(64), b"BZh91AY&SY" + bytes(64), b"PK\x03\x04" + bytes(64)])
def test_spec_060_what_no_layer_is_compressed_with(blob: bytes, place: Place) -> None:
    built = of_blob(place, blob, TAR)

    error = place.refused(UnsupportedError, built)

    assert str(error).startswith(f"layer {built.images[0].layers[0].digest}: unsupported compression ")


# -- kinds and attributes ----------------------------------------------------------------------------------------------


@rule(
    61,
    "MUST",
    "Files, directories, symbolic and hard links, devices and fifos are made.",
    "layer.md#file-types",
    "a device that may not be made is a counted loss, and an error with `--strict`",
)
def test_spec_061_every_kind(place: Place) -> None:
    kinds: Entries = [directory("d"), file("f", b"x"), symlink("s", "nowhere"), hardlink("h", "f"), fifo("p")]

    assert place.image(kinds).sketch == {
        "d": "directory",
        "f": "file x = f",
        "h": "file x = f",
        "p": "fifo",
        "s": "symlink nowhere",
    }


def test_spec_061_devices(place: Place) -> None:
    built = place.write([char("c", 1, 3, mode=0o666), block("b", 259, 70_000), hardlink("h", "c"), file("f", b"x")])

    found = place.unpack(built)

    if can_mknod():
        assert found.sketch == {"b": "block 259:70000", "c": "char 1:3 = c", "f": "file x", "h": "char 1:3 = c"}
        assert (found["c"].mode, found.losses) == (0o666, {})
    else:
        assert (found.sketch, found.losses) == ({"f": "file x"}, {LossKind.DEVICE: 3})
        assert status(place.refused(LossError, built, strict=True, owner="self")) == 5


@rule(
    62,
    "MUST",
    "Owner, mode, times, extended attributes and link targets are kept.",
    "layer.md#file-attributes",
    "times to the nanosecond; what the host cannot hold is counted; user and group names are not looked at",
)
@pytest.mark.parametrize("make", [file, directory, fifo])
def test_spec_062_mode(make: Callable[..., Entry], place: Place) -> None:
    modes = {f"{mode:o}": mode for mode in (no_permissions(), 0o444, 0o755, 0o4755, 0o2750, 0o1777, 0o7777)}

    found = place.image([make(name, mode=mode) for name, mode in modes.items()])

    assert {name: found[name].mode for name in modes} == modes


@needs_chown
@pytest.mark.parametrize("make", [file, directory, fifo, lambda name, **said: symlink(name, "x", **said)])
def test_spec_062_owner(make: Callable[..., Entry], place: Place) -> None:
    owners = {str(uid): uid for uid in (0, 1, 65534, 2**21, 2**32 - 2)}

    found = place.image([make(name, uid=uid, gid=uid // 2 + 3) for name, uid in owners.items()])

    assert {name: found[name].uid for name in owners} == owners
    assert {name: found[name].gid for name in owners} == {name: uid // 2 + 3 for name, uid in owners.items()}


@pytest.mark.parametrize("make", [file, directory, fifo, lambda name, **said: symlink(name, "x", **said)])
def test_spec_062_time(make: Callable[..., Entry], place: Place) -> None:
    times = {str(time): time for time in (0, -SECOND, -SECOND // 4, THEN + 987_654_321, 2**32 * SECOND + 1)}

    found = place.image([make(name, mtime=time) for name, time in times.items()])

    assert {name: found[name].mtime_ns for name in times} == times


def test_spec_062_a_time_beyond_the_filesystem(place: Place) -> None:
    found = place.image([file("a", mtime=2**40 * SECOND), file("b")])

    assert found["a"].mtime_ns == 2**40 * SECOND or found.losses == {LossKind.MTIME: 1}
    assert found["b"].mtime_ns == MTIME


def test_spec_062_the_time_of_a_directory_is_set_last(place: Place) -> None:
    found = place.image(
        [directory("d", mtime=THEN), directory("d/e", mtime=THEN + 1), file("d/e/a"), file("x"), file("d/b")],
        [file("d/e/c"), whiteout("d/b")],
    )

    assert (found["d"].mtime_ns, found["d/e"].mtime_ns) == (THEN, THEN + 1)


@needs_chown
@needs_trusted_xattr
def test_spec_062_capabilities_and_setuid_outlast_the_owner(place: Place) -> None:
    """The kernel takes both away from a file that is given to somebody else."""
    found = place.image([file("a", b"x", mode=0o6755, uid=7, gid=8, xattrs={"security.capability": CAPABILITY})])

    node = found["a"]
    assert (node.mode, node.uid, node.gid, dict(node.xattrs)) == (0o6755, 7, 8, {b"security.capability": CAPABILITY})


@rule(
    63,
    "MUST",
    "Extended attributes come in `SCHILY.xattr.*` records.",
    "layer.md#file-attributes",
    "any bytes; bsdtar's `LIBARCHIVE.xattr.*`, too; what the host refuses is counted; a directory's are replaced",
)
@needs_user_xattr
@pytest.mark.parametrize("value", [b"", b"a=b", b"line\nline\n", b"\0", bytes(range(256))], ids=ascii)
@pytest.mark.parametrize("make", [file, directory])
def test_spec_063_any_value(make: Callable[..., Entry], value: bytes, place: Place) -> None:
    assert dict(place.image([make("a", xattrs={"user.x": value})])["a"].xattrs) == {b"user.x": value}


@needs_user_xattr
def test_spec_063_bsdtars_way(place: Place) -> None:
    found = place.image([file("a", records=[(b"LIBARCHIVE.xattr.user.x%3Dy", b"AP8=")])])

    assert dict(found["a"].xattrs) == {b"user.x=y": b"\0\xff"}


@needs_user_xattr
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_spec_063_the_attributes_of_a_directory_are_replaced(apart: bool, place: Place) -> None:
    old, new = [directory("d", xattrs={"user.old": b"1"}), file("d/a")], [directory("d", xattrs={"user.new": b"2"})]

    found = place.image(old, new) if apart else place.image([*old, *new])

    assert (dict(found["d"].xattrs), "d/a" in found) == ({b"user.new": b"2"}, True)


def test_spec_063_what_linux_has_not(place: Place) -> None:
    built = place.write([symlink("a", "b", xattrs={"user.x": b"1"}), file("c", xattrs={"nosuch.x": b"1"})])

    found = place.unpack(built)

    assert (found.sketch, found.losses) == ({"a": "symlink b", "c": "file"}, {LossKind.XATTR: 2})
    assert found.losses_from_store == found.losses


SPARSE: dict[str, Callable[[], Entry]] = {
    "old": lambda: sparse_old("a", [(4096, b"x" * 512), (8192, b"y" * 512)], 20_000),
    "0.0": lambda: sparse_pax("a", [(4096, b"x" * 512), (8192, b"y" * 512)], 20_000, "0.0"),
    "0.1": lambda: sparse_pax("a", [(4096, b"x" * 512), (8192, b"y" * 512)], 20_000, "0.1"),
    "1.0": lambda: sparse_pax("a", [(4096, b"x" * 512), (8192, b"y" * 512)], 20_000, "1.0"),
}


@rule(
    64,
    "SHOULD",
    "Sparse files are not used in layers.",
    "layer.md#file-attributes",
    "all four forms that GNU tar has written are read, with their holes",
)
@pytest.mark.parametrize("form", SPARSE)
def test_spec_064_a_sparse_file(form: str, place: Place) -> None:
    found = place.image([SPARSE[form](), file("b", b"behind")])

    content = bytes(4096) + b"x" * 512 + bytes(3584) + b"y" * 512 + bytes(20_000 - 8704)
    assert (found.root / "a").read_bytes() == content
    assert (found.root / "a").stat().st_blocks * 512 < 20_000
    assert list(found.sketch) == ["a", "b"]


def test_spec_064_a_map_that_cannot_be(place: Place) -> None:
    broken = sparse_pax("a", [(4096, b"x" * 512), (0, b"y" * 512)], 20_000, "0.1")

    assert "sparse map" in str(place.refused_image(CorruptLayerError, [broken]))


@rule(
    65,
    "MUST",
    "`MSWINDOWS.*` records are for Windows only.",
    "layer.md#platform-specific-attributes",
    "not looked at; `Files/` and `Hives/` of its layers are directories as any other",
)
def test_spec_065_a_layer_of_windows(place: Place) -> None:
    records = [(b"MSWINDOWS.fileattr", b"32"), (b"MSWINDOWS.rawsd", b"AQAUgA=="), (b"LIBARCHIVE.creationtime", b"1.5")]
    built = place.write(
        [directory("Files", records=records), file("Files/a.txt", b"x", records=records), directory("Hives")],
        platform="windows/amd64",
    )

    found = place.unpack(built, platform="windows/amd64")

    assert found.sketch == {"Files": "directory", "Files/a.txt": "file x", "Hives": "directory"}
    assert (dict(found["Files/a.txt"].xattrs), found.losses) == ({}, {})


# -- links and what is replaced ----------------------------------------------------------------------------------------


@rule(
    66,
    "MUST",
    "Hard links are made, to anything but a directory.",
    "layer.md#hardlinks",
    "also to files of layers below, in a store too, and to what comes later; to nothing is an error",
)
@pytest.mark.parametrize("target", ["a", "/a", "./a", "d/../a", "l/a"])
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_spec_066_a_hard_link(apart: bool, target: str, place: Place) -> None:
    first, second = [file("a", b"x", mode=0o640), symlink("l", "/")], [hardlink("b", target, mode=0o777)]

    found = place.image(first, second) if apart else place.image([*first, *second])

    assert found.sketch == {"a": "file x = a", "b": "file x = a", "l": "symlink /"}
    assert found["b"].mode == 0o640


@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_spec_066_a_link_to_a_symbolic_link_is_one_more_name_of_it(apart: bool, place: Place) -> None:
    first, second = [symlink("s", "/etc/passwd"), fifo("p")], [hardlink("b", "s"), hardlink("q", "p")]

    found = place.image(first, second) if apart else place.image([*first, *second])

    assert found.sketch["b"] == found.sketch["s"] == "symlink /etc/passwd = b"
    assert found.sketch["q"] == "fifo = p"


def test_spec_066_the_target_comes_later(place: Place) -> None:
    assert place.image([hardlink("b", "a"), file("a", b"x")]).sketch["b"] == "file x = a"


@pytest.mark.parametrize(
    "target", ["nothing", "d", ".", "..", "/", "", "gone", "d/x/y", "loop/x", "out/etc/passwd", ".wh.a"]
)
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_spec_066_a_link_to_what_is_no_file(apart: bool, target: str, place: Place) -> None:
    first = [directory("d"), file("a"), file("gone"), symlink("loop", "loop"), symlink("out", "../../../..")]
    second: Entries = [whiteout("gone"), hardlink("b", target)]
    layers = [first, second] if apart else [first[:2] + first[3:], second]

    error = place.refused_image(UnsafeEntryError, *layers)

    assert "'b'" in str(error)
    assert status(error) == 5


MADE: dict[str, Callable[[str], Entry]] = {
    "file": lambda name: file(name, b"new"),
    "empty": lambda name: file(name, mode=no_permissions()),
    "directory": lambda name: directory(name, mode=0o555),
    "symlink": lambda name: symlink(name, "/d"),
    "hardlink": lambda name: hardlink(name, "f"),
    "fifo": fifo,
}
SHOWN = {"file": "file new", "empty": "file", "directory": "directory", "symlink": "symlink /d", "fifo": "fifo"}


@rule(
    67,
    "MUST",
    "A directory over a directory replaces its attributes; all else is removed and made anew.",
    "layer.md#changeset-over-existing-files",
    "as it says; nothing is written through a link",
)
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
@pytest.mark.parametrize("old", [kind for kind in MADE if kind != "empty"])
def test_spec_067_everything_over_everything(old: str, apart: bool, place: Place) -> None:
    before: list[Entry] = [file("f", b"other"), directory("d"), file("d/kept")]
    for new in MADE:
        before.append(MADE[old](f"to-{new}"))
        if old == "directory":
            before.append(file(f"to-{new}/child", b"c"))
    after = [make(f"to-{new}") for new, make in MADE.items()]

    found = place.image(before, after) if apart else place.image([*before, *after])

    expected = {"d": "directory", "d/kept": "file", "f": "file other = f", "to-hardlink": "file other = f"}
    expected |= {f"to-{new}": shown for new, shown in SHOWN.items()}
    if old == "directory":
        expected["to-directory/child"] = "file c"
    assert found.sketch == expected
    assert (found["to-empty"].mode, found["to-directory"].mode) == (no_permissions(), 0o555)


def test_spec_067_one_name_of_two_is_replaced(place: Place) -> None:
    found = place.image([file("a", b"old"), hardlink("b", "a")], [file("a", b"new")])

    assert found.sketch == {"a": "file new", "b": "file old"}


def test_spec_067_a_directory_without_permissions_takes_children(place: Place) -> None:
    found = place.image(
        [directory("d", mode=no_permissions()), file("d/a")], [file("d/b"), whiteout("d/a")], [directory("d/e")]
    )

    assert (found["d"].mode, "d/b" in found, "d/a" in found) == (no_permissions(), True, False)


@rule(
    68,
    "open",
    "Directories that no entry speaks of.",
    "layer.md#applying-changesets",
    "those of the layer below keep their attributes, in a store too; others are 0755, root's, of 1970",
)
def test_spec_068_a_directory_of_the_layer_below(place: Place) -> None:
    old = directory("tmp", mode=0o1777, mtime=THEN)

    found = place.image([old, directory("tmp/in", mode=0o700, mtime=THEN)], [file("tmp/in/a"), whiteout("tmp/in/b")])

    assert [(found[path].mode, found[path].mtime_ns) for path in ("tmp", "tmp/in")] == [(0o1777, THEN), (0o700, THEN)]


@needs_chown
@needs_user_xattr
def test_spec_068_its_owner_and_attributes(place: Place) -> None:
    found = place.image([directory("d", uid=5, gid=6, xattrs={"user.x": b"1"})], [file("d/a")])

    assert (found["d"].uid, found["d"].gid, dict(found["d"].xattrs)) == (5, 6, {b"user.x": b"1"})


@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_spec_068_a_directory_of_nobody(apart: bool, place: Place) -> None:
    new = [file("d/e/a", mode=0o600, mtime=THEN)]

    found = place.image([file("x")], new) if apart else place.image(new)

    for path in ("d", "d/e", "."):
        assert (found[path].mode, found[path].mtime_ns) == (0o755, 0)


@rule(
    69,
    "open",
    "A symbolic link below stands in an entry's path.",
    "layer.md#applying-changesets",
    "it is followed inside the root, in a store too: `lib/x` over `lib -> usr/lib` is `usr/lib/x`; 40 links at most",
)
@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "../../usr/lib", "usr/bin/../lib", "./usr//lib/"])
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_spec_069_through_the_link(apart: bool, target: str, place: Place) -> None:
    first = [directory("usr/lib"), directory("usr/bin"), file("usr/lib/old"), symlink("lib", target)]
    second = [file("lib/new", b"x"), *([whiteout("lib/old")] if apart else [])]

    found = place.image(first, second) if apart else place.image([*first, *second])

    assert found.sketch["lib"] == f"symlink {target}"
    assert found.sketch["usr/lib/new"] == "file x"
    assert ("usr/lib/old" in found) == (not apart)


def test_spec_069_a_directorys_entry_replaces_the_link(place: Place) -> None:
    layers: list[Entries] = [[directory("usr/lib"), file("usr/lib/a"), symlink("lib", "usr/lib")], [directory("lib")]]

    assert place.image(*layers).sketch["lib"] == "directory"
    assert place.image(*layers, keep_dirlinks=True).sketch["lib"] == "symlink usr/lib"


@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_spec_069_a_loop(apart: bool, place: Place) -> None:
    first, second = [symlink("a", "b"), symlink("b", "a")], [file("a/x")]

    error = place.refused_image(UnsafeEntryError, *([first, second] if apart else [[*first, *second]]))

    assert "more symbolic links in its path than the kernel follows" in str(error)


@pytest.mark.parametrize("hops", [40, 41])
def test_spec_069_as_many_links_as_the_kernel_follows(hops: int, place: Place) -> None:
    entries = [directory("l0"), *(symlink(f"l{number}", f"l{number - 1}") for number in range(1, hops + 1))]
    entries.append(file(f"l{hops}/x"))

    if hops == 40:
        assert "l0/x" in place.image(entries)
    else:
        place.refused_image(UnsafeEntryError, entries)


@rule(
    70,
    "open",
    "A file stands in an entry's path.",
    "layer.md#applying-changesets",
    "it becomes a directory: the path can only be if it is one",
)
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
@pytest.mark.parametrize("old", [file("a", b"x"), fifo("a")], ids=["file", "fifo"])
def test_spec_070_a_file_in_the_way(old: Entry, apart: bool, place: Place) -> None:
    found = place.image([old], [file("a/b/c")]) if apart else place.image([old, file("a/b/c")])

    assert found.sketch == {"a": "directory", "a/b": "directory", "a/b/c": "file"}


@pytest.mark.parametrize("entry", [True, False], ids=["with-entry", "implied"])
def test_spec_070_a_file_for_a_while(entry: bool, place: Place) -> None:
    """What the layers below had in the directory went when the file took its place."""
    upper = [file("a"), *([directory("a")] if entry else []), file("a/new")]

    assert place.image([directory("a"), file("a/old")], upper).sketch == {"a": "directory", "a/new": "file"}


# -- names -------------------------------------------------------------------------------------------------------------


@rule(
    71,
    "open",
    "How paths are written.",
    "layer.md#representing-changes",
    "`./a`, `a`, `/a`, `a//b/..`, `a/` are one; what climbs out is clamped to the root, with a warning;"
    " the root's entry counts, and must be a directory (CVE-2021-29136)",
)
@pytest.mark.parametrize(
    "name", ["./d/a", "d/a", "/d/a", "d//a", "d/./a", "./././d/a", "//d/a", "x/../d/a", "d/x/../a"]
)
def test_spec_071_one_path(name: str, place: Place) -> None:
    found = place.image([directory("d"), file(name, b"x")])

    assert (found.sketch, found.warnings) == ({"d": "directory", "d/a": "file x"}, "")


@pytest.mark.parametrize("name", ["../x", "/../x", "a/../../x", "../../../../../../x", "a/b/../../../x"])
def test_spec_071_a_path_that_climbs(name: str, place: Place) -> None:
    found = place.image([directory("a/b"), file(name)])

    assert found.sketch == {"a": "directory", "a/b": "directory", "x": "file"}
    assert f"entry '{name}' leads above the root, and was kept inside" in found.warnings
    assert not (place.path / "x").exists()


def test_spec_071_dots_are_lexical(place: Place) -> None:
    """Not through the link, which would lead to ``usr/b``."""
    found = place.image([directory("usr/lib"), symlink("a", "usr/lib"), file("a/../b")])

    assert "b" in found
    assert "usr/b" not in found


@pytest.mark.parametrize("name", [".", "./", "/", "..", "a/.."])
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "two-layers"])
def test_spec_071_the_root_has_an_entry(apart: bool, name: str, place: Place) -> None:
    root = directory(name, mode=0o711, mtime=THEN)

    found = place.image([file("x")], [root]) if apart else place.image([root, file("x")])

    assert (found["."].mode, found["."].mtime_ns, found.sketch) == (0o711, THEN, {"x": "file"})


@pytest.mark.parametrize("make", [file, fifo, lambda name: symlink(name, "/"), lambda name: hardlink(name, "x")])
@pytest.mark.parametrize("name", [".", "..", "a/.."])
def test_spec_071_the_root_is_something_else(name: str, make: Callable[[str], Entry], place: Place) -> None:
    assert "the root must be a directory" in str(place.refused_image(UnsafeEntryError, [file("x"), make(name)]))


def test_spec_071_as_long_as_names_may_be(place: Place) -> None:
    component = "c" * 255
    deep = "/".join([component] * 15) + "/" + "e" * 256

    found = place.image([file(component), file(deep[:-1])])

    assert len(deep[:-1]) == 4095
    assert deep[:-1] in found


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("c" * 256, UnsafeEntryError),
        ("é" * 128, UnsafeEntryError),
        ("/".join(["c" * 200] * 21), LimitError),
        ("a/" * 2100 + "b", LimitError),
    ],
    ids=["a component", "its bytes", "a path", "a deep path"],
)
@pytest.mark.parametrize("make", [file, directory, whiteout])
def test_spec_071_longer_than_names_may_be(
    make: Callable[[str], Entry], name: str, error: type[UnpackError], place: Place
) -> None:
    assert "bytes" in str(place.refused_image(error, [make(name)]))


def test_spec_071_no_name_or_a_nul(place: Place) -> None:
    assert "empty name" in str(place.refused_image(UnsafeEntryError, [file("")]))
    assert "NUL" in str(place.refused_image(CorruptLayerError, [pax_header([(b"path", b"a\0b")]), file("x")]))


@rule(72, "open", "Names are bytes.", "layer.md#distributable-format", "never decoded, folded or normalised")
@pytest.mark.parametrize("format_", ["pax", "gnu", "ustar"])
def test_spec_072_names_that_differ_in_a_byte(format_: Any, place: Place) -> None:
    names = [
        "\u00e9".encode(),
        "e\u0301".encode(),
        b"\xe9",
        b"a",
        b"A",
        b"-rf",
        b"new\nline",
        b"back\\slash",
        b"\x1b[31m",
        b" ",
        b"a ",
        b"*",
        b"\xff\xfe",
        b"%41",
        b"...",
        b"..a",
    ]
    found = place.unpack(place.write(layer(*(file(name, name) for name in names), format=format_)))

    assert {path: node.content for path, node in found.tree.items() if path != b"."} == {name: name for name in names}


# -- whiteouts ---------------------------------------------------------------------------------------------------------


@rule(
    73,
    "MUST",
    "`.wh.NAME` hides NAME of the layers below, and is not seen itself.",
    "layer.md#whiteouts",
    "as it says",
)
def test_spec_073_the_example_of_the_specification(place: Place) -> None:
    base = [file("file1"), file("a/file2"), file("b/deep/file"), file("c/file3"), file("file4")]
    upper = [file(".wh.file1"), file("a/.wh.file2"), file(".wh.b")]

    found = place.image(base, upper)

    assert found.sketch == {"a": "directory", "c": "directory", "c/file3": "file", "file4": "file"}


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "fifo"])
def test_spec_073_every_kind_is_hidden(kind: str, place: Place) -> None:
    below = {"file": file("x"), "directory": file("x/y/z"), "symlink": symlink("x", "kept"), "fifo": fifo("x")}[kind]

    assert place.image([file("kept"), below], [whiteout("x")]).sketch == {"kept": "file"}


@needs_mknod
def test_spec_073_a_device_is_hidden(place: Place) -> None:
    assert place.image([char("x", 1, 3)], [whiteout("x")]).sketch == {}


@rule(
    74,
    "MUST",
    "Whiteouts hide only what is in layers below, never anything of their own.",
    "layer.md#whiteouts",
    "in whatever order the entries come; a directory that is hidden and made again is new",
)
@pytest.mark.parametrize("first", [True, False], ids=["whiteout-first", "whiteout-last"])
@pytest.mark.parametrize("below", [True, False], ids=["something-below", "nothing-below"])
def test_spec_074_a_whiteout_hides_only_what_is_below(below: bool, first: bool, place: Place) -> None:
    upper = [whiteout("x"), file("x", b"new")]

    found = place.image([file("y"), *([file("x", b"old")] if below else [])], upper if first else upper[::-1])

    assert found.sketch == {"x": "file new", "y": "file"}


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (1, 0, 2)])
@pytest.mark.parametrize("entry", [True, False], ids=["with-entry", "implied"])
def test_spec_074_a_directory_made_again_is_new(entry: bool, order: tuple[int, ...], place: Place) -> None:
    upper = [whiteout("d"), directory("d", mode=0o700), file("d/new")]
    upper = [upper[index] for index in order if entry or index != 1]

    found = place.image([directory("d", mode=0o711), file("d/old"), file("d/sub/old")], upper)

    assert found.sketch == {"d": "directory", "d/new": "file"}
    assert found["d"].mode == (0o700 if entry else 0o755)


@pytest.mark.parametrize("first", [True, False], ids=["whiteout-first", "whiteout-last"])
def test_spec_074_in_one_layer_there_is_nothing_below(first: bool, place: Place) -> None:
    entries = [whiteout("x"), opaque(""), file("x")]

    assert place.image(entries if first else entries[::-1]).sketch == {"x": "file"}


@rule(
    75,
    "MUST",
    "`.wh..wh..opq` hides all that layers below have in its directory.",
    "layer.md#opaque-whiteout",
    "wherever it stands; the directory itself stays",
)
@pytest.mark.parametrize("at", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize("entry", [True, False], ids=["with-entry", "implied"])
def test_spec_075_an_opaque_directory(entry: bool, at: int, place: Place) -> None:
    base = [directory("d", mode=0o711), file("d/old"), file("d/sub/old"), file("kept")]
    upper = [directory("d", mode=0o700), file("d/new"), file("d/sub/new")][not entry :]
    upper.insert(at, opaque("d"))

    found = place.image(base, upper, [file("d/later")])

    assert found.sketch == {
        "d": "directory",
        "d/later": "file",
        "d/new": "file",
        "d/sub": "directory",
        "d/sub/new": "file",
        "kept": "file",
    }
    assert found["d"].mode == (0o700 if entry else 0o711)


def test_spec_075_opaque_and_explicit_are_the_same(place: Place) -> None:
    base = [directory("d", mtime=THEN), file("d/a"), file("d/b/c")]

    by_marker = place.image(base, [file("d/new"), opaque("d")])
    by_names = place.image(base, [file("d/new"), whiteout("d/a"), whiteout("d/b")])
    by_both = place.image(base, [whiteout("d/a"), opaque("d"), file("d/new"), whiteout("d/none")])

    assert by_marker.tree == by_names.tree == by_both.tree
    assert by_marker.sketch == {"d": "directory", "d/new": "file"}


def test_spec_075_opaque_where_nothing_is(place: Place) -> None:
    assert place.image([file("x")], [opaque("d"), file("d/a")]).sketch == {"d": "directory", "d/a": "file", "x": "file"}
    assert place.image([file("x")], [opaque("nothing/here")]).sketch == {"x": "file"}
    assert place.image([file("x/y")], [opaque("x"), opaque("x/z")]).sketch == {"x": "directory"}


@rule(
    76,
    "SHOULD",
    "A whiteout has a name to hide: `.wh.` alone is an error.",
    "layer.md#whiteouts",
    "`.wh..` and `.wh...` as well, which would be the directory itself and its parent;"
    " AUFS's own `.wh..wh.*` are dropped, links into `.wh..wh.plnk` find their file",
)
@pytest.mark.parametrize("before", ["", "d/", "none/"])
@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_spec_076_a_whiteout_of_nothing(name: str, before: str, place: Place) -> None:
    error = place.refused_image(UnsafeEntryError, [file("d/a")], [file(before + name)])

    assert f"entry '{before}{name}'" in str(error)
    assert (error.layer is not None, status(error)) == (True, 5)


def test_spec_076_aufs(place: Place) -> None:
    found = place.image(
        [file("x")],
        [
            directory(".wh..wh.plnk"),
            file(".wh..wh.plnk/12.34", b"data"),
            file(".wh..wh.aufs"),
            directory(".wh..wh.orph"),
            hardlink("a", ".wh..wh.plnk/12.34"),
            hardlink("b", ".wh..wh.plnk/12.34"),
        ],
    )

    assert found.sketch == {"a": "file data = a", "b": "file data = a", "x": "file"}


@rule(
    77,
    "MUST",
    "No file can be named `.wh.…`.",
    "layer.md#whiteouts",
    "the name decides, of whatever kind the entry is; nothing can be below one, or a link to one",
)
@pytest.mark.parametrize(
    "make", [file, directory, fifo, lambda name: symlink(name, "/"), lambda name: hardlink(name, "k")]
)
def test_spec_077_any_kind_is_a_whiteout(make: Callable[[str], Entry], place: Place) -> None:
    found = place.image([file("k"), file("x")], [make(".wh.x")])

    assert found.sketch == {"k": "file"}


@pytest.mark.parametrize(
    "entry", [file(".wh.d/child"), file("a/.wh.d/b/c"), hardlink("l", ".wh.x"), hardlink("l", "a/.wh.x")]
)
def test_spec_077_below_a_whiteout_or_a_link_to_it(entry: Entry, place: Place) -> None:
    error = place.refused_image(UnsafeEntryError, [file("a/x"), file("x")], [whiteout("x"), whiteout("a/x"), entry])

    assert ".wh." in str(error)


def test_spec_077_other_names_are_files(place: Place) -> None:
    names = [".wh", "wh.x", "a.wh.x", ".WH.x", ".wh_x"]

    assert list(place.image([file(name) for name in names]).sketch) == sorted(names)


@rule(
    78,
    "open",
    "A whiteout of what is not there.",
    "layer.md#whiteouts",
    "hides nothing and makes nothing; through a link it stays inside the root",
)
@pytest.mark.parametrize("path", ["none", "d/none", "none/deep/none", "f/none", "loop/x"])
def test_spec_078_nothing_to_hide(path: str, place: Place) -> None:
    base = [file("d/a"), file("f"), symlink("loop", "loop")]

    found = place.image(base, [whiteout(path)], [file("g")])

    assert found.sketch == {"d": "directory", "d/a": "file", "f": "file", "g": "file", "loop": "symlink loop"}


@pytest.mark.parametrize("target", ["/", "..", "../../..", "/d"])
def test_spec_078_through_a_link_inside(target: str, place: Place) -> None:
    (place.path / "x").write_text("not the image's")
    base = [directory("d"), file("d/x"), file("x"), symlink("l", target)]

    found = place.image(base, [whiteout("l/x")])

    assert found.sketch == {"d": "directory", "l": f"symlink {target}"} | (
        {"x": "file"} if target == "/d" else {"d/x": "file"}
    )
    assert (place.path / "x").read_text() == "not the image's"
    (place.path / "x").unlink()


@rule(79, "open", "A whiteout has content or attributes.", "layer.md#whiteouts", "they are not looked at")
@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq"])
def test_spec_079_a_whiteout_with_content(name: str, place: Place) -> None:
    marker = file(name, b"some content\n" * 100, mode=0o4755, uid=7, xattrs={"user.x": b"1"})

    found = place.image([file("x", b"old")], [marker, file("y", b"behind")])

    assert (found.sketch, found.losses) == ({"y": "file behind"}, {})


def test_spec_079_the_root_is_opaque(place: Place) -> None:
    """The kernel does not heed the mark on a layer's root, so a store has a whiteout for each name there."""
    base = [directory("./", mode=0o711), file("a"), file("d/e"), symlink("l", "d")]

    found = place.image(base, [file("d/new"), opaque("")], [file("later")])

    assert found.sketch == {"d": "directory", "d/new": "file", "later": "file"}
    assert (found["."].mode, found["d"].mode) == (0o711, 0o755)


# -- the rest ----------------------------------------------------------------------------------------------------------


@rule(
    80,
    "SHOULD",
    "Nondistributable layers are read; nobody should make new ones.",
    "layer.md#non-distributable-layers",
    "as any other, if the blob is there; see 23 if it is not",
)
@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
def test_spec_080_a_nondistributable_layer(suffix: str, place: Place) -> None:
    media_type = f"application/vnd.oci.image.layer.nondistributable.v1.tar{suffix}"
    how: Any = suffix.removeprefix("+") or "none"
    built = place.write(
        [file("a")],
        compression=how,
        mutate={"manifest": lambda one: one["layers"][0].update(mediaType=media_type, urls=["https://example.com/x"])},
    )

    assert place.unpack(built).sketch == {"a": "file"}


@rule(81, "MUST", "The examples of the document.", "layer.md#representing-changes", "come out as it says")
def test_spec_081_the_example_of_changes(place: Place) -> None:
    first = [
        directory("./"),
        directory("./etc/"),
        file("./etc/my-app-config", b"1"),
        directory("./bin/"),
        file("./bin/my-app-binary", b"b1"),
        file("./bin/my-app-tools", b"t1"),
    ]
    second = [
        directory("./etc/my-app.d/"),
        file("./etc/my-app.d/default.cfg", b"2"),
        file("./bin/my-app-tools", b"t2"),
        file("./etc/.wh.my-app-config"),
    ]

    assert place.image(first, second).sketch == {
        "bin": "directory",
        "bin/my-app-binary": "file b1",
        "bin/my-app-tools": "file t2",
        "etc": "directory",
        "etc/my-app.d": "directory",
        "etc/my-app.d/default.cfg": "file 2",
    }


@pytest.mark.parametrize("first", [True, False], ids=["marker-first", "marker-last"])
def test_spec_081_the_example_of_an_opaque_directory(first: bool, place: Place) -> None:
    base = [directory("a"), directory("a/b"), directory("a/b/c"), file("a/b/c/bar")]
    upper = [directory("a"), directory("a/b"), directory("a/b/c"), file("a/b/c/foo")]
    upper.insert(1 if first else 4, opaque("a"))

    expected = {"a": "directory", "a/b": "directory", "a/b/c": "directory", "a/b/c/foo": "file"}
    assert place.image(base, upper).sketch == expected


@rule(
    82,
    "open",
    "Entries of a kind that is not known.",
    "layer.md#file-types",
    "an error: it may have meant anything (POSIX would have a file made of it)",
)
@pytest.mark.parametrize("flag", [b"Y", b"D", b"M", b"N", b"A", b"\xff", b"8"])
def test_spec_082_an_unknown_kind(flag: bytes, place: Place) -> None:
    error = place.refused_image(UnsafeEntryError, [file("a"), file("odd", b"x", fields={"typeflag": flag})])

    assert f"unsupported entry type {flag!r}" in str(error)
    assert "'odd'" in str(error)


@rule(
    83,
    "open",
    "What is proposed for layers, and in use.",
    "proposals to the specification",
    "eStargz and zstd:chunked are gzip and zstd; EROFS, squashfs and encrypted layers are refused",
)
@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.v1.erofs",
        "application/vnd.erofs.layer.v1",
        "application/vnd.oci.image.layer.v1.squashfs",
        OCI["zstd"] + "+encrypted",
    ],
)
def test_spec_083_a_proposed_kind_of_layer(media_type: str, place: Place) -> None:
    error = place.refused(UnsupportedError, of_blob(place, gzip_member(TAR), TAR, media_type))

    assert f"unsupported media type {media_type}" in str(error)


def test_spec_083_estargz(place: Place) -> None:
    """A member a file, and a footer that is an empty member whose extra field says where the index is."""
    tar = layer(file("a", b"x"), file(".no.prefetch.landmark", b"\xf0"), file("stargz.index.json", b"{}"))
    blob = b"".join(gzip_member(tar[at : at + 512]) for at in range(0, len(tar), 512))
    blob += gzip_member(b"", extra=b"SG\x16\0" + b"0" * 16 + b"STARGZ", level=0)

    assert list(place.unpack(of_blob(place, blob, tar)).sketch) == [".no.prefetch.landmark", "a", "stargz.index.json"]
    assert zlib.decompress(blob, 31) == tar[:512]
