"""J: tar, end to end: what an archive says becomes what is on disk.  The reader alone is tested in tests/archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.cases import rule, status
from tests.support.probes import needs_chown, needs_mknod, needs_user_xattr
from tests.support.tarbuild import (
    SECOND,
    Entry,
    base256,
    char,
    checksum,
    directory,
    fifo,
    file,
    global_header,
    gnu_long,
    hardlink,
    header,
    layer,
    pax_header,
    sparse_old,
    sparse_pax,
    symlink,
)
from unpacker.errors import CorruptLayerError, LimitError, UnsafeEntryError
from unpacker.limits import DEFAULT

if TYPE_CHECKING:
    from typing import Any

    from tests.conformance.cases import Entries, Place

USTAR = {"magic": b"ustar\0", "version": b"00"}
GNU = {"magic": b"ustar ", "version": b" \0"}


def refused(place: Place, *entries: Entry | bytes) -> str:
    return str(place.refused_image(CorruptLayerError, list(entries)))


@rule(
    "J1",
    "MUST",
    "Fields, and a checksum over them, unsigned (POSIX) or signed (old tars).",
    "POSIX, pax: ustar",
    "both; octal digits between blanks and NULs, nothing else that a number might be",
)
def test_spec_j_01_fields_and_checksum(place: Place) -> None:
    name = b"caf\xe9"
    bare = bytearray(header(name=name, mode=b"0644 \0", uid=b"   0 \0", size=0, typeflag=b"0", **USTAR))
    signed = checksum(bytes(bare)) - 256
    bare[148:156] = b"%06o\0 " % signed

    found = place.image([bytes(bare), file("b")])

    assert (found.tree[name].mode, "b" in found) == (0o644, True)
    assert "checksum" in refused(place, file("a", fields={"chksum": b"0000000\0"}))
    for odd in (b"0x1f", b"-1", b"1_0", b"+7", b"0o7", b"8", b"1 1"):
        assert "octal" in refused(place, file("a", fields={"mode": odd.ljust(8, b"\0")}))


@rule(
    "J2",
    "MUST",
    "ustar has a prefix before the name; GNU has times in its place, star both.",
    "POSIX; GNU tar; star",
    "by the magic; Python's tarfile glues GNU's times to the name",
)
def test_spec_j_02_prefix(place: Place) -> None:
    prefix = b"p" * 80 + b"/" + b"q" * 40

    for style in ("ustar", "star"):
        found = place.unpack(place.write(layer(file(prefix + b"/" + b"n" * 60), format=style)))
        assert prefix + b"/" + b"n" * 60 in found.tree
    times = {"gnu_atime": b"14000000000\0", "gnu_ctime": b"14000000000\0"}
    assert place.unpack(place.write(layer(file("a", fields=times), format="gnu"))).sketch == {"a": "file"}


@rule("J3", "MUST", "A string may fill its field; names are bytes.", "POSIX", "as it says")
def test_spec_j_03_full_fields(place: Place) -> None:
    name, target = b"\xff" * 100, b"t" * 100

    assert place.image([symlink(name, target)]).tree[name].target == target


@rule(
    "J4",
    "MUST",
    "Numbers may be base-256, big-endian two's complement.",
    "GNU tar, star",
    "negative times are times, negative sizes are errors (CVE-2025-8194)",
)
@needs_chown
def test_spec_j_04_base_256(place: Place) -> None:
    numbers: dict[str, int | bytes] = {"uid": base256(2**31, 8), "gid": base256(5, 8), "mtime": base256(-2, 12)}

    node = place.image([file("a", b"xy", fields={**numbers, "size": base256(2, 12)})])["a"]

    assert (node.uid, node.gid, node.mtime_ns, node.content) == (2**31, 5, -2 * SECOND, b"xy")


def test_spec_j_04_negative_sizes(place: Place) -> None:
    for size in (base256(-1, 12), base256(-512, 12), base256(2**63, 12)):
        assert "out of range" in refused(place, file("a", fields={"size": size}))


@rule(
    "J5",
    "MUST",
    "A pax record is `LENGTH KEY=VALUE\\n`, its length counting itself.",
    "POSIX, pax extended header",
    "a wrong length is an error and never skipped (CVE-2019-20907)",
)
@pytest.mark.parametrize(
    "body", [b"0 path=x\n", b"8 path=x\n", b"11 path=x\n", b"path=x\n", b"10 path=xx", b"6 =x\n\n"]
)
def test_spec_j_05_broken_records(body: bytes, place: Place) -> None:
    assert "pax record" in refused(place, pax_header(body), file("a"))


@needs_user_xattr
def test_spec_j_05_any_bytes_in_a_value(place: Place) -> None:
    value = b"a=b\n12 path=evil\n\0\xff"

    assert dict(place.image([file("a", xattrs={"user.x": value})])["a"].xattrs) == {b"user.x": value}


@rule(
    "J6",
    "MUST",
    "A pax record is stronger than a header's field.",
    "POSIX",
    "a GNU long name and a pax name that differ are an error: readers take one or the other",
)
def test_spec_j_06_precedence(place: Place) -> None:
    assert place.image([pax_header({"path": "new", "mtime": "5"}), file("old", b"x")])["new"].mtime_ns == 5 * SECOND
    assert "b" in place.image([gnu_long("b"), pax_header({"path": "b"}), file("old")])
    assert "that differ" in refused(place, gnu_long("b"), pax_header({"path": "c"}), file("old"))


@rule(
    "J7",
    "MUST",
    "A pax size is how much data follows.",
    "POSIX",
    "of the entry's own data, and never of the headers between (CVE-2025-62518, entries smuggled past scanners)",
)
def test_spec_j_07_size(place: Place) -> None:
    inner = layer(file("smuggled"), end=False)

    found = place.image([pax_header({"size": str(len(inner))}), file("a", inner, fields={"size": 0}), file("b")])

    assert list(found.sketch) == ["a", "b"]
    assert found["a"].size == len(inner)
    long = "n" * 150
    found = place.image(
        [pax_header({"size": "3"}), gnu_long(long), file("x", b"abc", fields={"size": 0}, format="gnu")]
    )
    assert found.sketch == {long: "file abc"}


@rule("J8", "open", "A pax record is empty.", "POSIX; Go", "the header's own field counts; of two records the last")
def test_spec_j_08_empty_and_repeated_records(place: Place) -> None:
    empty = [(b"path", b""), (b"linkpath", b""), (b"mtime", b""), (b"size", b"")]

    found = place.image([pax_header(empty), file("a", b"x"), pax_header([(b"path", b"c"), (b"path", b"d")]), file("b")])

    assert found.sketch == {"a": "file x", "d": "file"}


@rule(
    "J9",
    "open",
    "A global pax header speaks of all entries that follow.",
    "POSIX; Go",
    "not applied, as in Docker and containerd; one that would rename or resize is refused",
)
def test_spec_j_09_global_headers(place: Place) -> None:
    found = place.image([global_header({"comment": "a" * 40, "mtime": "5"}), file("a")])

    assert (found.sketch, found["a"].mtime_ns != 5 * SECOND) == ({"a": "file"}, True)
    for key in ("path", "linkpath", "size", "GNU.sparse.map", "SCHILY.xattr.user.x"):
        error = place.refused_image(UnsafeEntryError, [global_header({key: "1"}), file("a")])
        assert f"global pax header that sets '{key}'" in str(error)


@rule(
    "J10",
    "MUST",
    "Pax times are decimal with a fraction, and may be negative.",
    "POSIX",
    "whole nanoseconds, never a float; further digits are cut towards the past",
)
def test_spec_j_10_times(place: Place) -> None:
    times = {
        "-1.5": -1_500_000_000,
        "1234567890.123456789": 1_234_567_890_123_456_789,
        "5.": 5 * SECOND,
        "0.000000001999": 1,
        "-0.0000000001": -1,
        "-0": 0,
    }
    entries: list[Entry | bytes] = []
    for text in times:
        entries += [pax_header({"mtime": text}), file(f"at{text}")]

    found = place.image(entries)

    assert {text: found[f"at{text}"].mtime_ns for text in times} == times
    for text in ("1e9", "nan", "--1", "1.-5", " 1", "0x1"):
        assert "is not a time" in refused(place, pax_header({"mtime": text}), file("a"))


@rule("J11", "MUST", "`hdrcharset=BINARY` means that names are bytes.", "POSIX", "they always are")
def test_spec_j_11_binary_names(place: Place) -> None:
    for records in ([(b"hdrcharset", b"BINARY"), (b"path", b"\xff\xfe")], [(b"path", b"\xff\xfe")]):
        assert b"\xff\xfe" in place.image([pax_header(records), file("a")]).tree


@rule(
    "J12",
    "MUST",
    "GNU's long names stand before their entry.",
    "GNU tar",
    "1 MiB at most; two of a kind, or none of an entry behind, are errors",
)
def test_spec_j_12_long_names(place: Place) -> None:
    name, target = "n" * 200, "t" * 300

    found = place.unpack(place.write(layer(symlink(name, target), file("d/" + name), format="gnu")))

    assert found.sketch[name] == f"symlink {target}"
    assert f"d/{name}" in found
    assert "two GNU long names" in refused(place, gnu_long("a"), gnu_long("b"), file("c"))
    assert "two pax headers" in refused(place, pax_header({"path": "a"}), pax_header({"path": "b"}), file("c"))
    assert "before its entry" in refused(place, file("a"), gnu_long("b"))
    huge = header(name=b"x", typeflag=b"L", size=1 << 30, **GNU)
    assert place.refused_image(LimitError, [huge]).limit == "header_bytes"


@rule(
    "J13",
    "MUST",
    "Types: `0` and NUL are files, or directories by a slash at the end; `7` is a file.",
    "POSIX",
    "as it says; other types see F 82",
)
def test_spec_j_13_types(place: Place) -> None:
    found = place.image(
        [
            file("nul", b"x", fields={"typeflag": b"\0"}),
            file("contiguous", b"x", fields={"typeflag": b"7"}),
            file("old/", format="v7"),
            file("slash/", fields={"typeflag": b"\0"}),
        ]
    )

    assert found.sketch == {"contiguous": "file x", "nul": "file x", "old": "directory", "slash": "directory"}


@rule(
    "J14",
    "open",
    "A link, directory, device or fifo has a size.",
    "POSIX; GNU tar; Go",
    "refused: some readers skip data there and some do not, so they see different entries",
)
@pytest.mark.parametrize("entry", [hardlink("x", "f"), symlink("x", "f"), directory("x"), fifo("x"), char("x", 1, 3)])
def test_spec_j_14_data_where_none_is(entry: Entry, place: Place) -> None:
    sized = Entry(kind=entry.kind, name=entry.name, link=entry.link, device=entry.device, fields={"size": 512})
    inner = layer(file("smuggled"), end=False)

    error = place.refused_image(UnsafeEntryError, [file("f"), sized, inner])

    assert "with 512 bytes of data" in str(error)
    assert status(error) == 5


@rule(
    "J15",
    "MUST",
    "Two zero blocks end an archive; what is behind them counts in the diff_id.",
    "POSIX",
    "one at the very end will do, or none; one in the middle and cut data are errors",
)
def test_spec_j_15_the_end(place: Place) -> None:
    for tar in (
        layer(file("a"), end=False),
        layer(file("a"), end=False) + bytes(512),
        layer(file("a")) + bytes(10_000),
        layer(file("a")) + b"rubbish" * 100,
        layer(file("a"), end=False, last_padding=False),
    ):
        assert place.unpack(place.write(tar)).sketch == {"a": "file"}
    assert "a single zero block" in refused(place, file("a"), bytes(512), file("b"))
    for cut in (100, 511, 513, 1023):
        tar = layer(file("a", b"x" * 512))[:cut]
        assert "the archive ends within" in str(place.refused(CorruptLayerError, place.write(tar)))


@rule("J16", "open", "Old GNU sparse files: a map in the header, and more behind it.", "GNU tar", "read, with holes")
def test_spec_j_16_old_sparse_files_of_many_segments(place: Place) -> None:
    segments = [(at * 4096, b"%03d" % at + b"x" * 509) for at in range(60)]

    found = place.image([sparse_old("a", segments, 60 * 4096), file("b")])

    content = (found.root / "a").read_bytes()
    assert (len(content), [content[at : at + 3] for at, _ in segments]) == (
        60 * 4096,
        [data[:3] for _, data in segments],
    )
    assert "b" in found


@rule(
    "J17",
    "open",
    "Sparse files in pax: 0.0, 0.1 and 1.0.",
    "GNU tar",
    "read; the name that counts is in a record of its own, and looked at as any other",
)
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_spec_j_17_a_sparse_file_that_climbs(version: Any, place: Place) -> None:
    found = place.image([sparse_pax("../../up", [(1024, b"x" * 512)], 2048, version)])

    assert list(found.sketch) == ["up"]
    assert "leads above the root" in found.warnings
    assert (found.root / "up").read_bytes() == bytes(1024) + b"x" * 512 + bytes(512)


@rule(
    "J18",
    "MUST",
    "A sparse map runs forward, within the file, and describes what is stored.",
    "GNU tar; CVE-2025-58183",
    "else an error; its length has a limit",
)
def test_spec_j_18_sparse_maps_that_cannot_be(place: Place) -> None:
    for segments, size in (([(1024, b"x" * 512), (0, b"y" * 512)], 4096), ([(1024, b"x" * 512)], 1200)):
        assert "sparse map" in refused(place, _sparse(segments, size))
    limits = DEFAULT.changed(sparse_segments=10)
    many = [(at * 1024, b"x" * 512) for at in range(20)]
    error = place.refused_image(LimitError, [sparse_pax("a", many, 20 * 1024, "1.0")], limits=limits)
    assert error.limit == "sparse_segments"


def _sparse(segments: list[tuple[int, bytes]], size: int) -> bytes:
    """Give a sparse file of format 0.1 whose map may say anything."""
    data = b"".join(piece for _, piece in segments)
    numbers = b",".join(b"%d,%d" % (at, len(piece)) for at, piece in segments)
    records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.name", b"a"), (b"GNU.sparse.map", numbers)]
    return layer(file("x", data, records=records), end=False)


@needs_user_xattr
@rule(
    "J19",
    "open",
    "Records of star and others: `SCHILY.dev`, `SCHILY.ino`, `SCHILY.acl.*`, `SCHILY.fflags`.",
    "star",
    "not looked at; ACLs come as `system.posix_acl_*` attributes",
)
def test_spec_j_19_other_records(place: Place) -> None:
    records = [
        (b"SCHILY.dev", b"9"),
        (b"SCHILY.ino", b"9"),
        (b"SCHILY.nlink", b"2"),
        (b"SCHILY.acl.access", b"user::rw-,group::r--,other::---"),
        (b"SCHILY.fflags", b"immutable"),
        (b"SCHILY.realsize", b"77"),
        (b"atime", b"5"),
        (b"ctime", b"5"),
        (b"uname", b"nosuch"),
    ]

    found = place.image([file("a", b"x", records=records)])

    assert (found.sketch, dict(found["a"].xattrs), found.losses) == ({"a": "file x"}, {}, {})


ATTACKS: dict[str, Entries] = {
    "write-through-a-link": [symlink("l", "{outside}"), file("l/secret", b"overwritten")],
    "write-through-a-link-to-a-file": [symlink("l", "{outside}/secret"), file("l", b"overwritten")],
    "parent-swapped": [directory("d"), file("d/x"), symlink("d", "{outside}"), file("d/secret", b"overwritten")],
    "long-way-round": [
        directory("/".join("abcdefgh" * 20)),
        symlink("x", "/".join("abcdefgh" * 20) + "/.." * 170 + "{outside}"),
        file("x/secret", b"overwritten"),
    ],
    "mode-through-a-hard-link": [symlink("l", "{outside}/secret"), hardlink("h", "l", mode=0o6777, uid=7)],
    "directory-mode-through-a-link": [symlink("l", "{outside}"), directory("l", mode=0o777), file("l/secret", b"x")],
    "root-is-a-link": [symlink("l", "{outside}"), file("./l/../l/secret", b"overwritten")],
}


@rule(
    "J20",
    "MUST",
    "Archives have led unpackers out of their directory.",
    "CVE-2007-4559, CVE-2018-15664, CVE-2021-32760, CVE-2025-4517 and others",
    "each lands inside; tests/attacks has many more",
)
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("apart", [False, True], ids=["one-layer", "a-layer-each"])
def test_spec_j_20_attacks(apart: bool, name: str, place: Place) -> None:
    outside = place.path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "secret").write_text("as it was")
    (outside / "secret").chmod(0o600)
    entries = [_aimed(entry, str(outside)) for entry in ATTACKS[name] if isinstance(entry, Entry)]

    place.image(*([[entry] for entry in entries] if apart else [entries]))

    status_ = (outside / "secret").stat()
    assert ((outside / "secret").read_text(), status_.st_mode & 0o7777, status_.st_nlink) == ("as it was", 0o600, 1)
    assert outside.stat().st_mode & 0o777 == 0o700


def _aimed(entry: Entry, outside: str) -> Entry:
    return Entry(
        kind=entry.kind,
        name=entry.name,
        data=entry.data,
        link=entry.link.replace(b"{outside}", outside.encode()),
        mode=entry.mode,
        uid=entry.uid,
    )


@rule(
    "J21",
    "open",
    "How files are made safely.",
    "openat(2)",
    "by one name in a directory of ours, `O_EXCL` and `O_NOFOLLOW`; devices and fifos are never opened",
)
@needs_mknod
def test_spec_j_21_a_fifo_and_a_device_are_replaced_unopened(place: Place) -> None:
    """To open the fifo would hang, and major 4095 has no driver."""
    found = place.image(
        [fifo("p"), char("c", 4095, 7)],
        [file("p", b"file"), file("c", b"file")],
        [fifo("p", mode=0o600, mtime=5 * SECOND), char("c", 4095, 8, mode=0o4600)],
    )

    assert found.sketch == {"c": "char 4095:8", "p": "fifo"}
    assert (found["p"].mode, found["p"].mtime_ns, found["c"].mode) == (0o600, 5 * SECOND, 0o4600)
