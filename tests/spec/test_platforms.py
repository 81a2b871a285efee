"""Platforms: containerd's tables of what is read and what matches."""

from __future__ import annotations

import pytest

from unpacker.errors import UsageError
from unpacker.spec.platforms import Platform, rank


@pytest.fixture
def on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Platform, "host", classmethod(lambda cls: cls("linux", "amd64")))


@pytest.mark.usefixtures("on_amd64")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64/8", "linux/arm64"),
        ("linux/arm64/v9.0", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("Linux/ARM/V5", "linux/arm/v5"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/s390x", "linux/s390x"),
        ("macOS/arm64", "darwin/arm64"),
        ("amiga/m68k", "amiga/m68k"),
        ("linux", "linux/amd64"),
        ("freebsd", "freebsd/amd64"),
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("armel", "linux/arm/v6"),
        ("x86_64", "linux/amd64"),
        ("windows(10.0.17763.1)/amd64", "windows(10.0.17763.1)/amd64"),
        ("windows(10.0.17763+win32k)/amd64", "windows(10.0.17763+win32k)/amd64"),
    ],
)
def test_what_is_read(text: str, expected: str) -> None:
    found = Platform.parse(text)
    assert str(found) == expected
    assert Platform.parse(str(found)) == found


@pytest.mark.usefixtures("on_amd64")
@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "/linux/arm", "linux/arm/", "linux/", "linux /arm", "linux/&arm", "linux/arm/v7/x", "a/b/c/d/e"),
        *("*", "linux/*", "m68k", "linux/amd64\n", "windows(10/amd64", "arm64(1)", "lïnux/amd64"),
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError, match="platform '") as raised:
        Platform.parse(text)
    assert raised.value.hint is not None
    assert "linux/amd64" in raised.value.hint


# What runs on each platform, best first; whatever stands in no row of it does not.
ARM = ["arm/v8", "arm/v7", "arm/v6", "arm/v5"]
ARM64 = ["arm64/v8.6", "arm64/v8.5", "arm64/v8.4", "arm64/v8.3", "arm64/v8.2", "arm64/v8.1", "arm64"]
RUNS = {
    "amd64": ["amd64", "386"],
    "amd64/v3": ["amd64/v3", "amd64/v2", "amd64", "386"],
    "386": ["386"],
    "arm": ARM[1:],
    "arm/v8": ARM,
    "arm/v6": ARM[2:],
    "arm/v5": ARM[3:],
    "arm/v4": ["arm/v4"],
    "arm64": ["arm64", *ARM],
    "arm64/v8.1": ["arm64/v8.1", "arm64", *ARM],
    "arm64/v9": ["arm64/v9", *ARM64[1:], *ARM],
    "arm64/v9.1": ["arm64/v9.1", "arm64/v9", *ARM64, *ARM],
    "arm64/v10": ["arm64/v10"],
    "riscv64": ["riscv64"],
}
ALL = {offered for each in RUNS.values() for offered in each}


@pytest.mark.parametrize("wanted", RUNS)
def test_what_runs_and_how_well(wanted: str) -> None:
    ranks = [rank(on_linux(wanted), on_linux(offered)) for offered in RUNS[wanted]]

    assert ranks[0] == 0
    assert ranks == sorted({each for each in ranks if each is not None})


@pytest.mark.parametrize("wanted", RUNS)
def test_what_does_not_run(wanted: str) -> None:
    for offered in ALL.difference(RUNS[wanted]):
        assert rank(on_linux(wanted), on_linux(offered)) is None, offered
    assert rank(on_linux(wanted), Platform.parse(f"freebsd/{wanted}")) is None


def on_linux(rest: str) -> Platform:
    return Platform.parse(f"linux/{rest}")


def test_spellings_do_not_matter() -> None:
    assert rank(Platform("Linux", "x86_64"), Platform("linux", "amd64", "v1")) == 0
    assert rank(Platform("linux", "arm64", "v8"), Platform("linux", "aarch64")) == 0


def test_features_of_the_os_are_needed_all_and_more_are_better() -> None:
    wanted = Platform("windows", "amd64", os_features=("a", "b"))
    offers = [Platform("windows", "amd64", os_features=each) for each in (("b", "a"), ("a",), ())]

    assert [rank(wanted, each) for each in offers] == [0, 1, 2]
    assert rank(wanted, Platform("windows", "amd64", os_features=("c",))) is None
    assert rank(Platform("windows", "amd64"), offers[1]) is None


def test_versions_of_the_os_are_compared_up_to_the_build() -> None:
    wanted = Platform("windows", "amd64", os_version="10.0.17763.1")
    assert rank(wanted, Platform("windows", "amd64", os_version="10.0.17763.999")) == 0
    assert rank(wanted, Platform("windows", "amd64")) == 0
    assert rank(wanted, Platform("windows", "amd64", os_version="10.0.20348.1")) is None


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("armv8l", "linux/arm/v8"),
        ("i686", "linux/386"),
        ("ppc64le", "linux/ppc64le"),
        ("riscv64", "linux/riscv64"),
        ("loongarch64", "linux/loong64"),
    ],
)
def test_the_host(machine: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Uname:
        sysname = "Linux"

    monkeypatch.setattr(Uname, "machine", machine, raising=False)
    monkeypatch.setattr("os.uname", Uname)
    assert str(Platform.host()) == expected


def test_attestations_are_for_nothing() -> None:
    assert Platform("unknown", "unknown").is_unknown
    assert not Platform("linux", "amd64").is_unknown
