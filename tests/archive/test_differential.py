"""The reader against the others: tarfile, GNU tar, bsdtar, where they are right.

What two readers see differently is how an entry hides from a scanner.  So the property is one-sided: whatever this
reader *accepts*, CPython's and libarchive's must see the same way, but for what is listed with its reason.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.archive.reading import Read, read_pieces
from tests.support.probes import needs_tool
from tests.support.tarbuild import (
    SECOND,
    base256,
    encode,
    file,
    gnu_long,
    header,
    pax_header,
)
from unpacker.errors import UnpackError
from unpacker.spec.entry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROPERTY = settings(
    max_examples=250, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TYPES = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.FIFOTYPE: Kind.FIFO,
}


# -- what tarfile writes -----------------------------------------------------------------------------------------------

names = st.lists(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=70),
    min_size=1,
    max_size=4,
)
paths = names.map("/".join).filter(lambda path: path not in (".", ".."))


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(paths))
    info.type = draw(st.sampled_from(list(TYPES)))
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, 2**32 - 2)), draw(st.integers(0, 2**32 - 2))
    info.mtime = draw(st.integers(-(2**33), 2**35))
    if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(paths)
    if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = draw(st.integers(0, 2**21 - 1)), draw(st.integers(0, 2**21 - 1))
    data = draw(st.binary(max_size=700)) if TYPES[info.type] is Kind.FILE else b""
    info.size = len(data)
    return info, data


@settings(PROPERTY, max_examples=80)
@given(st.lists(members(), max_size=5), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_tarfile_writes_comes_back(archive: list[tuple[tarfile.TarInfo, bytes]], style: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as target:
        for info, data in archive:
            target.addfile(info, io.BytesIO(data))
    found = read_pieces([out.getvalue()])
    assert [each.kind for each in found] == [TYPES[info.type] for info, _ in archive]
    for each, (info, data) in zip(found, archive, strict=True):
        assert each.name.rstrip(b"/") == info.name.encode().rstrip(b"/")
        assert each.link == info.linkname.encode()
        assert (each.mode, each.uid, each.gid) == (info.mode, info.uid, info.gid)
        assert each.mtime == int(info.mtime) * SECOND
        assert each.data == data
        if each.kind in (Kind.CHARACTER, Kind.BLOCK):
            assert each.device == (info.devmajor, info.devminor)


# -- what other tars write ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small tree with everything that a tar can hold."""
    root = tmp_path_factory.mktemp("tree")
    (root / "d").mkdir(mode=0o750)
    (root / "d" / "f").write_bytes(b"content" * 100)
    (root / "d" / "empty").touch()
    (root / "h").hardlink_to(root / "d" / "f")
    (root / "s").symlink_to("../nowhere")
    return root


WRITERS = [
    *[
        pytest.param(["tar", f"--format={style}"], marks=needs_tool("tar"), id=f"GNU tar, {style}")
        for style in ("v7", "oldgnu", "gnu", "ustar", "posix")
    ],
    *[
        pytest.param(["bsdtar", f"--format={style}"], marks=needs_tool("bsdtar"), id=f"bsdtar, {style}")
        for style in ("v7tar", "gnutar", "ustar", "pax", "posix")
    ],
]


@pytest.mark.parametrize("command", WRITERS)
def test_what_other_tars_write_is_read(command: list[str], tree: Path) -> None:
    archive = subprocess.run([*command, "-c", "-f", "-", "-C", str(tree), "."], capture_output=True, check=True).stdout
    found = {each.name.strip(b"./"): each for each in read_pieces([archive])}
    assert set(found) == {b"", b"d", b"d/f", b"d/empty", b"h", b"s"}
    assert (found[b"d"].kind, found[b"d"].mode) == (Kind.DIRECTORY, 0o750)
    assert (found[b"s"].kind, found[b"s"].link) == (Kind.SYMLINK, b"../nowhere")
    assert {found[b"h"].kind, found[b"d/f"].kind} == {Kind.HARDLINK, Kind.FILE}
    for name, each in found.items():
        status = (tree / name.decode()).lstat()
        assert (each.uid, each.gid) == (status.st_uid, status.st_gid)
        assert each.mtime in (status.st_mtime_ns, status.st_mtime_ns // SECOND * SECOND)
        assert len(each.data) in (0, status.st_size)


# -- what other readers make of odd archives ---------------------------------------------------------------------------

MAGICS: list[Mapping[str, int | bytes]] = [
    {},
    {"magic": b"ustar\0", "version": b"00"},
    {"magic": b"ustar ", "version": b" \0"},
    {"magic": b"ustar\0", "version": b"00", "trailer": b"tar\0"},
    {"magic": b"ustar\0", "version": b"\0\0"},
]
NUMBERS: list[int | bytes] = [
    *(0, 4, 512, b"", b" ", b"4", b"4 ", b" 4", b"  00004\0", b"00004 \0", b"0000004\0", b"4\0junk"),
    *(
        base256(4, 8),
        base256(512, 8),
        b"\x004",
        b"\0\0\0004",
        b"+4",
        b"-4",
        b"0o4",
        b"0x4",
        b"4_0",
        b"8",
        b"4 4",
        b"\t4",
        b"x",
    ),
    *(base256(-1, 8), b"\x80", b"\xff", b"\x81\0\0\0\0\0\0\x04", b"\xc0"),
]
SIZES: list[int | bytes] = [
    *NUMBERS[:14],
    *(
        base256(4, 12),
        base256(512, 12),
        base256(-512, 12),
        base256(2**62, 12),
        b"\0" + b"1000",
        b"\x80",
        b"777777777777",
    ),
]
TIMES: list[int | bytes] = [*NUMBERS, base256(5, 12), base256(-5, 12)]
NAMES = [b"f", b"a/b", b"./f", b"d/", b"n" * 100, b"f\0junk", b"-x", b"a//b"]
RECORDS = st.sampled_from(
    [
        *((b"path", b"p"), (b"path", b"q/r"), (b"linkpath", b"l"), (b"size", b"0"), (b"size", b"4"), (b"size", b"512")),
        *((b"uid", b"7"), (b"gid", b"7"), (b"mtime", b"1.5"), (b"comment", b"size=0"), (b"SCHILY.xattr.user.a", b"1")),
    ]
)
HIDDEN = encode(file("hidden", b"x"))
DATA = [b"", b"data".ljust(512, b"\0"), HIDDEN[:512], HIDDEN]


ODD: Mapping[str, list[int | bytes]] = {
    "name": [*NAMES],
    "mode": NUMBERS,
    "uid": NUMBERS,
    "size": SIZES,
    "mtime": TIMES,
    "typeflag": [b"\0", b"7", b"1", b"2", b"5", b"6", b"S", b"D", b"Z"],
    "link": [b"t", b"f"],
    "prefix": [b"pre/fix", b"pre\0fix"],
}


@st.composite
def odd_headers(draw: st.DrawFn) -> bytes:
    """Give an entry with up to three fields that are written in ways which readers differ about."""
    fields: dict[str, int | bytes] = {"name": b"f", "mode": 0o644, "typeflag": b"0", **draw(st.sampled_from(MAGICS))}
    for key in draw(st.lists(st.sampled_from(sorted(ODD)), max_size=3)):
        fields[key] = draw(st.sampled_from(ODD[key]))
    if fields.get("magic") != b"ustar\0" or "trailer" in fields:
        fields.pop("prefix", None)  # which tarfile sees in every format
    return header(**fields) + draw(st.sampled_from(DATA))


class Archive(bytes):
    """An archive whose failure can be read."""

    __slots__ = ()

    def __repr__(self) -> str:
        blocks = [self[at : at + 512] for at in range(0, len(self), 512)]
        return (
            "Archive(" + "".join(f"\n    {[part for part in each.split(bytes(1)) if part]!r}" for each in blocks) + ")"
        )


@st.composite
def odd_archives(draw: st.DrawFn) -> Archive:
    """Give an archive of few pieces, in any order."""
    pieces = [
        odd_headers(),
        odd_headers(),
        st.lists(RECORDS, max_size=3).map(pax_header),
        st.sampled_from([gnu_long("long"), gnu_long("long", typeflag=b"K")]),
        st.just(encode(file("plain", b"data"))),
    ]
    made = draw(st.lists(st.one_of(pieces), min_size=1, max_size=5))
    end = draw(st.sampled_from([bytes(1024)] * 3 + [b"", bytes(512)]))
    return Archive(b"".join(made) + encode(file("after", b"end")) + end)


def accepted(archive: bytes) -> list[Read]:
    """Read an archive; those that are refused are no matter."""
    try:
        return read_pieces([archive])
    except UnpackError:
        assume(False)
        raise


def plain(name: bytes) -> bytes:
    return name.rstrip(b"/")


def seen_by_tarfile(archive: bytes) -> list[tuple[tarfile.TarInfo, bytes]] | None:
    """Read an archive as tarfile does; None if it refuses that, which it does in silence behind the first entry."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            found = [(each, opened.extractfile(each) if each.isreg() else None) for each in opened]
            stopped = archive[opened.offset : opened.offset + 512]
            whole = [(each, b"" if stored is None else stored.read()) for each, stored in found]
        if stopped.strip(b"\0"):
            tarfile.TarInfo.frombuf(stopped, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return None
    return whole


@settings(PROPERTY, max_examples=200, suppress_health_check=list(HealthCheck))
@given(odd_archives())
def test_what_is_accepted_is_what_tarfile_sees(archive: bytes) -> None:
    found = accepted(archive)
    theirs = seen_by_tarfile(archive)
    assume(theirs is not None)
    assert [plain(member.name.encode()) for member, _ in theirs or ()] == [plain(each.name) for each in found]
    for (member, stored), each in zip(theirs or (), found, strict=True):
        assert member.linkname.encode() == each.link
        assert (member.uid, member.gid) == (each.uid, each.gid)
        assert stored == each.data


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            ["tar", "-t", "-f", "-", "--quoting-style=literal", "--warning=none"], marks=needs_tool("tar"), id="GNU tar"
        ),
        pytest.param(["bsdtar", "-t", "-f", "-"], marks=needs_tool("bsdtar"), id="bsdtar"),
    ],
)
def test_what_is_accepted_is_what_others_list(command: list[str]) -> None:
    """Those programs take a while to start, so it is fewer archives."""

    @settings(PROPERTY, max_examples=40, suppress_health_check=list(HealthCheck))
    @given(odd_archives())
    def check(archive: bytes) -> None:
        found = [plain(each.name) for each in accepted(archive)]
        done = subprocess.run(command, input=archive, capture_output=True, check=False)
        theirs = [plain(name) for name in done.stdout.splitlines()]
        # Those that they refuse and we do not are no disagreement about what is in it.
        assert theirs == (found if done.returncode == 0 else found[: len(theirs)])

    check()
