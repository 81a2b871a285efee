"""Filters: any text is a filter that gives an answer about anything, or a refusal in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.checks import check_refusal
from fuzz.target import Target
from unpacker.errors import UsageError
from unpacker.spec.filters import parse

if TYPE_CHECKING:
    from unpacker.spec.filters import Filter, Path

FIELDS = ("name", "parent", "size", "labels")
NUMBERS = ("size",)
# Short ones: how long a regular expression of the user's own may take is his affair.
_THINGS: tuple[dict[Path, str], ...] = (
    {},
    {("name",): "abc", ("size",): "17", ("labels", "a"): "1"},
    {("name",): "", ("parent",): "a\nb", ("size",): "0", ("labels", "a.b/c"): "é"},
)


def check(data: bytes) -> None:
    """Read a text as one filter; two of the same, with "or" and with "and" between them, are the same as one."""
    text = data.decode("utf-8", "surrogateescape")
    one = _parsed(text)
    if one is None:
        return
    answers = _answers(one)
    twice = _parsed(text, text)
    assert twice is not None
    assert _answers(twice) == answers
    if text.strip():
        both = _parsed(f"{text} , {text}")
        assert both is not None, "not with itself"
        assert _answers(both) == answers
        anything = _parsed(text, "")
        assert anything is not None
        assert _answers(anything) == [True] * len(_THINGS)


def _parsed(*texts: str) -> Filter | None:
    try:
        return parse(texts, FIELDS, NUMBERS)
    except UsageError as error:
        check_refusal(error)
        return None


def _answers(filter_: Filter) -> list[bool]:
    return [filter_(thing.get) for thing in _THINGS]


def seeds() -> list[bytes]:
    """Give filters, right and wrong."""
    return [
        b"name==abc",
        b'labels."a.b/c"!="\\u00e9", size>=10',
        b"name~=/^a.c$/,parent",
        b'name~=|a\\|b|, labels.a == "\\x31\\n\\101"',
        b"size<17,size>1,size<=18",
        b"name~=(",
        b"nothing==1",
        b'name=="a',
    ]


WORDS = (
    *(b"name", b"labels.", b"size", b"parent", b"==", b"!=", b"~=", b">=", b"<", b","),
    *(b'"', b"/", b"|", b"\\x41", b"\\u0041", b"(?", b"[", b"]", b"{9,}", b"(?P<a>", b"\\1", b"(?i)"),
)

TARGET = Target(check=check, seeds=seeds, longest=200, words=WORDS)
