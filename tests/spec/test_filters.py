"""Filters read and match as containerd's do (pkg/filters), but for what its page says."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpacker.errors import UsageError
from unpacker.spec.filters import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

THINGS: list[tuple[str, str, Mapping[str, str]]] = [
    ("foo", "", {"foo": "true"}),
    ("bar", "", {}),
    ("foo", "", {"foo": "present", "more complex label": "present"}),
    ("bar", "", {"bar": "true"}),
    ("fooer", "", {'more complex label with \\ and "': "present"}),
    ("fooer", "", {'more complex label with \\ and ".post': "present"}),
    ("baz", "too complex, yo", {}),
    ("bazo", "abc", {}),
    ("compound", "", {"foo": "omg_asdf.asdf-qwer"}),
    ("sized", "", {"containerd.io/gc.root": "now"}),
]
FIELDS = ("name", "other", "labels", "size")


def found(*texts: str) -> list[int]:
    """Give which things match; each has its place as its size."""
    matches = parse(texts, FIELDS, ("size",))

    def lookup(at: int, path: tuple[str, ...]) -> str | None:
        name, other, labels = THINGS[at]
        if path[0] == "labels":
            return labels.get(".".join(path[1:]))
        return {"name": name, "other": other or None, "size": str(at)}[path[0]]

    return [at for at in range(len(THINGS)) if matches(lambda path, at=at: lookup(at, path))]  # type: ignore[misc]


EVERYTHING = list(range(len(THINGS)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", EVERYTHING),
        ("name", EVERYTHING),
        ("other", [6, 7]),
        ("labels.foo", [0, 2, 8]),
        ("labels.foo,name", [0, 2, 8]),
        ("labels.foo==true", [0]),
        ("labels.foo==omg_asdf.asdf-qwer", [8]),
        ("name==bar", [1, 3]),
        ("name == bar , labels.bar", [3]),
        ("name!=bar", [0, 2, 4, 5, 6, 7, 8, 9]),
        ("other!=abc", [0, 1, 2, 3, 4, 5, 6, 8, 9]),
        ("name==bar,labels.bar==true", [3]),
        ("name==bar,labels.bar==wrong", []),
        ('other=="too complex, yo"', [6]),
        ("other~=[abc]+,name!=foo", [6, 7]),
        ("other~=/[abc]+/,name!=foo", [6, 7]),
        ("other~=|[abc]{1,2}|,name!=foo", [6, 7]),
        ("other~=^abc$", [7]),
        ("other~=^$", [0, 1, 2, 3, 4, 5, 8, 9]),
        ("other~=^[a-c[]{3}$", [7]),
        (r'other~=/[abc]{0,1}"\//,name!=foo', []),
        ('name==foo,labels."more complex label"', [2]),
        (r'labels."more complex label with \\ and \""==present', [4]),
        (r'labels."more complex label with \\ and \"".post==present', [5]),
        ('labels."containerd.io/gc.root"', [9]),
        (r'name=="\x62a\u0072"', [1, 3]),
        (r'name=="\142ar"', [1, 3]),
        ("name==牛", []),
        ("size==3", [3]),
        ("size>=8", [8, 9]),
        ("size>8", [9]),
        ("size < 2", [0, 1]),
        ("size<=1,name==bar", [1]),
    ],
)
def test_a_filter_finds(text: str, expected: list[int]) -> None:
    assert found(text) == expected


def test_of_several_filters_one_must_match() -> None:
    assert found("name==baz", "size==0") == [0, 6]
    assert found("name==baz", "") == EVERYTHING
    assert found() == EVERYTHING


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name==foo,", "a field, in quotes if .*, found its end"),
        ("labels.", "a field"),
        (".name", "a field"),
        ("labels.|foo|==x", r"a field, .*, found '\|foo\|==x'"),
        ('labels.?"x"==y', "a field"),
        ("other~=,name", "a value"),
        ("name==", "a value, .*, found its end"),
        ("name==.x", "a value"),
        ("name==|x|", "a value"),
        ("labels.ns/key==value", "an operator"),
        ("labels.key==/value", "a value"),
        ("labels.key~=/value", "the end of what is quoted"),
        ('labels."containerd.io\nkey"==value', "the end of what is quoted"),
        (r'labels."\g"', r"an escape of Go's strings, found '\\\\g'"),
        (r'labels."\xaz"', "an escape"),
        (r'labels."\ud800"', "an escape"),
        (r'labels."\U00110000"', "an escape"),
        ("name=foo", "an operator"),
        ("name===foo", "an operator"),
        ("name==foo bar", "a comma or an operator, found 'bar'"),
        ("name==a\0b", r"a comma or an operator, found '\\x00b'"),
        ("name>5", "an operator"),
        ("size>", "a value"),
        ("size>x", "a number behind >, found 'x'"),
        ("size>=-1", "a number"),
        ("name~=(", "a regular expression"),
        ("name~=(?\x01", "a regular expression"),
        ("name~=/a{4294967295}/", "a regular expression"),
        (f"name~={'(' * 3000}{')' * 3000}", "a regular expression"),
        ("name~=[[a", r"a regular expression that Go and Python read alike, found '\[\[a', in which \[ takes"),
        ("name~=^[[:alpha:]]+$", r"read alike, found '\[\[:alpha:', in which \[ takes a backslash"),
        ("name~=[a[:digit:]]", r"in which \[: takes a backslash"),
        ("name~=[a&&b]", "in which && takes"),
        (r'name~="x|[^]\\]--b]"', "in which -- takes"),
        ("nmae==foo", "no field 'nmae'"),
        ("labels", "no field 'labels'"),
        ("name.x", "no field 'name.x'"),
    ],
)
def test_a_filter_that_cannot_be_read_says_where_and_why(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"^filter '.*{why}") as raised:
        found(text)
    assert str(raised.value).isprintable()


def test_an_unknown_field_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UsageError) as raised:
        found("nmae==foo")
    assert raised.value.hint == "fields: labels.KEY, name, other, size"


@given(st.text(alphabet='name.labels"\\/|,=!~<>0 (', max_size=20))
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert set(found(text)) <= set(EVERYTHING)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), min_size=1))
def test_any_label_can_be_asked_for_in_quotes(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    matches = parse([f'labels."{escaped}"=="{escaped}"'], ("labels",))
    assert matches(lambda path: key if path == ("labels", key) else None)
