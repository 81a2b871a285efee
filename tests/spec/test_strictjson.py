"""Strict JSON: what is refused, and where errors say that it stands."""

from __future__ import annotations

import contextlib
import json
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpacker.errors import DocumentError, LimitError
from unpacker.limits import DEFAULT, Limits
from unpacker.spec.strictjson import Value, load


def read(text: str | bytes, limits: Limits = DEFAULT) -> Value:
    return load(text.encode() if isinstance(text, str) else text, "index.json", limits)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a value, found the end of the document at byte offset 0"),
        (b'{"a": 1', "expected a ',' delimiter, found the end of the document at byte offset 7"),
        (b'{"a" 1}', "expected a ':' delimiter, found '1' at byte offset 5"),
        ('{"ä": x}'.encode(), "expected a value, found 'x' at byte offset 7"),
        (b"{'a': 1}", "property name"),
        (b'{"a": 1} x', "extra data at byte offset 9"),
        (b'{"a": "b', "unterminated string at byte offset 6"),
        (b'{"a": "\n"}', "invalid control character at byte offset 7"),
        (b'"\\x"', "invalid \\escape at byte offset 1"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "byte 0xff at offset 0"),
        ("{}".encode("utf-16-le"), "byte offset 1"),
        ("{}".encode("utf-32-be"), "byte offset 0"),
        (b'{"a": "\xe9"}', "byte 0xe9 at offset 7"),
        (b'{"a": "\xed\xa0\x80"}', "expected JSON in UTF-8"),
        (b'{"a": NaN}', "found NaN"),
        (b"[-Infinity]", "found -Infinity"),
        (b"[1e400]", "range of a double"),
        (b"[" + b"1" * 1001 + b"]", "numbers of at most 1000 digits, found one of 1001"),
        (b"[" + b"1" * 10_000 + b"]", "numbers of at most 1000 digits"),
        (b'{"layers": 1, "x": 2, "layers": 3}', "the name 'layers' twice"),
        (b'{"a": [{"b": 1, "\\u0062": 2}]}', "the name 'b' twice"),
    ],
)
def test_what_is_not_strict_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError) as raised:
        read(data)
    assert str(raised.value).startswith("index.json: expected ")
    assert message in str(raised.value)


@pytest.mark.parametrize("escape", ["\\ud800", "\\uD800x", "\\udc00\\ud800", "\\ud83dx"])
@pytest.mark.parametrize(
    ("form", "where"), [('{"a": [0, {"b": "%s"}]}', "a[1].b"), ('{"a": {"%s": 1}}', "a"), ('"%s"', "")]
)
def test_half_of_a_surrogate_pair_is_refused_where_it_stands(form: str, where: str, escape: str) -> None:
    with pytest.raises(DocumentError, match="half of a surrogate pair") as raised:
        read(form % escape)
    assert raised.value.where == where


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert read('"\\ud83d\\ude00"').text() == "😀"


def test_the_search_for_half_pairs_does_not_put_every_place_into_words() -> None:
    """A long name times many values below it: gigabytes of places that nobody asked for."""
    text = json.dumps({"pair": "😀", "a" * 100_000: [0] * 3_000})

    tracemalloc.start()
    read(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_document_may_nest_up_to_the_limit() -> None:
    limits = Limits(document_depth=5)
    assert read("[[[[[1], [2]]]]]", limits).array()
    assert read('["[[[[[[[[", "\\"{{{{{{{{{"]', limits).array(), "brackets in strings do not nest"
    with pytest.raises(LimitError, match=r"index.json: nesting of a JSON document: 6, more than the limit of 5"):
        read('[{"a": [{"b": [{}]}]}]', limits)


@pytest.mark.parametrize("start", ["[", '{"a":', '[{"\\"": [[', "[[["])
def test_a_nesting_bomb_is_a_limit_and_no_crash(start: str) -> None:
    with pytest.raises(LimitError):
        read(start * 100_000)


def test_a_raised_depth_limit_does_not_let_the_stack_overflow() -> None:
    limits = Limits(document_depth=10_000_000)
    with pytest.raises(LimitError):
        read("[" * 200_000 + "]" * 200_000, limits)
    assert sys.getrecursionlimit() < 200_000


def test_a_document_may_be_as_long_as_the_limit() -> None:
    limits = Limits(document_bytes=10)
    assert read('"12345678"', limits).text() == "12345678"
    with pytest.raises(LimitError, match="11, more than the limit of 10"):
        read('"123456789"', limits)


def test_a_document_may_have_as_many_values_as_the_limit() -> None:
    limits = Limits(document_values=4)
    assert len(read('[1, 2, {"a": 3}]', limits).array()) == 3
    with pytest.raises(LimitError, match=r"index.json: values in a JSON document: 5, more than the limit of 4"):
        read('[1, 2, {"a": []}]', limits)


@pytest.mark.parametrize(
    ("start", "one", "end"),
    [
        ("[", "[" * 60 + "]" * 60 + ",", "0]"),
        ("[", '{"":' * 60 + "0" + "}" * 60 + ",", "0]"),
        ("[", '{"":0},', "0]"),
        ('["\U0001f600",', "1.5,", "0]"),
    ],
    ids=["arrays", "objects in objects", "objects", "wide characters"],
)
def test_no_document_takes_more_memory_than_a_run_may(start: str, one: str, end: str) -> None:
    """Two bytes can become an object of a hundred: 4 MiB of them took two hundred."""
    each = one.count(",") + one.count("[") + one.count("{")
    data = (start + one * ((DEFAULT.document_values - 10) // each) + end).encode()
    tracemalloc.start()

    load(data, "config", DEFAULT)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 110 << 20


def test_errors_name_the_source_the_place_what_was_expected_and_what_was_found() -> None:
    document = read('{"layers": [{}, {"size": true}], "annotations": {"org.x": 1}}')
    size = document.required("layers").array()[1].required("size")

    with pytest.raises(DocumentError) as raised:
        size.integer(0, 9)
    assert str(raised.value) == "index.json: layers[1].size: expected an integer from 0 to 9, found true"
    with pytest.raises(DocumentError, match=r"annotations\['org.x'\]: expected a string, found 1$"):
        document.required("annotations").string_map()


@pytest.mark.parametrize("number", ["-1", "10", "1.0", "1e0", "true", '"7"', "null", "[]", "{}"])
def test_an_integer_is_an_integer_in_its_range(number: str) -> None:
    with pytest.raises(DocumentError, match="expected an integer from 0 to 9"):
        read(f'{{"n": {number}}}').required("n").integer(0, 9)


def test_a_missing_field_is_refused_by_what_reads_it() -> None:
    missing = read("{}").required("n")
    with pytest.raises(DocumentError, match="n: expected the integer 2, found nothing"):
        missing.integer(2, 2)
    for reading in (missing.array, missing.text, missing.object, missing.length, missing.string_map, missing.strings):
        with pytest.raises(DocumentError, match="found nothing"):
            reading()


def test_null_is_absent_where_a_field_is_optional() -> None:
    document = read('{"a": null, "b": 0}')
    assert document.optional("a") is None
    assert document.optional("c") is None
    found = document.optional("b")
    assert found is not None
    assert found.integer(0, 0) == 0
    assert document.required("a").is_null


@pytest.mark.parametrize("text", ["[]", '"x"', "1", "null", "true"])
def test_only_an_object_has_fields(text: str) -> None:
    with pytest.raises(DocumentError, match="expected an object"):
        read(text).required("a")


def test_long_values_are_cut_in_errors() -> None:
    with pytest.raises(DocumentError) as raised:
        read(json.dumps({"a": "x" * 10_000})).required("a").array()
    assert len(str(raised.value)) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_every_json_document_is_read_as_python_reads_it(content: object, ascii_only: bool) -> None:
    text = json.dumps({"x": content}, ensure_ascii=ascii_only)
    assert read(text).object() == json.loads(text)


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0123du truefalsn-+.eE', max_size=40).map(str.encode))
def test_no_input_raises_anything_else(data: bytes) -> None:
    with contextlib.suppress(DocumentError, LimitError):
        load(data, "x")
