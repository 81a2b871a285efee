"""Platforms: texts of users, words of images, and which suits which."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.choices import Choices
from fuzz.target import Target
from unpacker.errors import UsageError
from unpacker.spec.platforms import Platform, rank

if TYPE_CHECKING:
    from collections.abc import Iterator

_OS = ("linux", "Linux", "windows", "macos", "darwin", "freebsd", "unknown", "")
_ARCHITECTURES = (
    "amd64",
    "x86_64",
    "i386",
    "386",
    "arm",
    "arm64",
    "aarch64",
    "armhf",
    "armel",
    "riscv64",
    "unknown",
    "",
)
_VARIANTS = ("", "v1", "v2", "v3", "v5", "v6", "v7", "v8", "8", "v8.0", "v8.2", "v9", "v9.1", "v0", "v10", "V7", "v9.9")
_HOSTS = tuple(Platform("linux", *how) for how in (("amd64",), ("arm64",), ("arm", "v7"), ("amd64", "v3"), ("386",)))


def check(data: bytes) -> None:
    """Read a text as a platform, or let bytes say what two platforms are; the first one says which."""
    if data[:1] == b"t":
        _check_text(data[1:].decode("utf-8", "surrogateescape"))
        return
    choices = Choices(data)
    one, other = _platform(choices), _platform(choices)
    _check(one)
    found = rank(one, other)
    assert found == rank(one.normalized(), other.normalized())
    assert found is None or found >= 0
    if found == 0 and one.os_features == other.os_features:
        assert one.normalized().architecture == other.normalized().architecture


def _check_text(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except UsageError as error:
        check_refusal(error)
        return
    assert platform == platform.normalized()
    assert str(platform).isascii()
    assert Platform.parse(str(platform)) == platform
    _check(platform)


def _check(platform: Platform) -> None:
    """Whatever a platform says: it has one normal form, and suits itself best."""
    normal = platform.normalized()
    assert normal.normalized() == normal
    assert rank(platform, platform) == 0
    for host in _HOSTS:
        rank(host, platform)
        rank(platform, host)


def _platform(choices: Choices) -> Platform:
    return Platform(
        choices.pick(_OS),
        choices.pick(_ARCHITECTURES),
        choices.pick(_VARIANTS) if not choices.once_in(8) else choices.take(4).decode("latin-1"),
        choices.pick(("", "", "10.0", "10.0.1.2", "...", "é")),
        tuple(choices.pick(("a", "b", "")) for _ in range(choices.below(3))),
    )


def seeds() -> Iterator[bytes]:
    """Give texts, and decisions at random."""
    for text in (
        *("linux/amd64", "linux/arm64/v8", "linux", "arm64", "windows(10.0.1+feature+other)/amd64", "macos/aarch64"),
        *("linux/arm/v7/x", "linux()", "(1)", "/", "linux(+a)/arm", "wasi/wasm", "i386", "armhf"),
    ):
        yield b"t" + text.encode()
    chance = Random(4)
    for _ in range(8):
        yield b"\0" + chance.randbytes(20)


WORDS = (b"linux", b"windows", b"amd64", b"arm64", b"arm", b"/v8", b"v9.1", b"(1", b"+", b")", b"x86_64", b"armhf")

TARGET = Target(check=check, seeds=seeds, longest=100, words=WORDS)
