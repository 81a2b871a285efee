"""The JSON border: it takes what Python's own reader takes, less what is listed here, and nothing else."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from fuzz.checks import check_refusal
from fuzz.mutators import json_document
from fuzz.target import Target
from unpacker.errors import DocumentError, LimitError
from unpacker.limits import Limits
from unpacker.spec.strictjson import load

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = Limits(document_bytes=3000, document_depth=8)
_DIGITS = 1000


def check(data: bytes) -> None:
    """Read a document twice."""
    expected = _read(data)
    try:
        value = load(data, "document", LIMITS)
    except (DocumentError, LimitError) as error:
        check_refusal(error)
        assert isinstance(expected, str), f"refused, and right: {error}"
        assert isinstance(error, LimitError) == (expected == "limit") or expected == "not JSON", (error, expected)
        return
    assert not isinstance(expected, str), f"taken, and wrong: {expected}"
    (content,) = expected
    # Not by ==, to which 1, 1.0 and True are the same.
    assert repr(value._content) == repr(content)
    assert load(json.dumps(content).encode(), "document").found == value.found


def _read(data: bytes) -> tuple[Any] | str:
    """Give what a document holds, or in a word why it should be refused."""
    if len(data) > LIMITS.document_bytes:
        return "limit"
    faults: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in found}) < len(found):
            faults.append("a name twice")
        return dict(found)

    def integer(digits: str) -> int:
        if len(digits) > _DIGITS:
            faults.append("a long number")
            return 0
        return int(digits)

    def real(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            faults.append("a large number")
        return number

    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            return "a byte order mark"
        content = json.loads(
            text, object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=faults.append
        )
    except (ValueError, RecursionError):
        return "not JSON"
    if _depth(content) > LIMITS.document_depth:
        return "limit"
    if re.search("[\ud800-\udfff]", json.dumps(content, ensure_ascii=False)):
        faults.append("half of a surrogate pair")
    return faults[0] if faults else (content,)


def _depth(content: Any) -> int:
    deepest, waiting = 0, [(content, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            deepest = max(deepest, depth)
            waiting += [(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value)]
    return deepest


def seeds() -> Iterator[bytes]:
    """Give documents, right and wrong."""
    yield b'{"a": [1, -2.5e3, true, null, "x\\u00e9\\n"], "b": {"c": {}}}'
    yield b' [[[[[[[["deep"]]]]]]]] '
    yield b'{"a": 1, "a": 2}'
    yield b'["\\ud83d\\ude00", "\\ud83d", "\xc3\xa9"]'
    yield b"[NaN, Infinity, -Infinity, 1e999, 123456789012345678901234567890]"
    yield b'\xef\xbb\xbf{"a": "[{"}'
    yield b'{"\\"": "\\\\", "]": "}"}'


WORDS = (
    *(b'"', b"\\u", b"\\ud800", b"\\udc00", b"null", b"true", b"NaN", b"Infinity", b"1e400", b"-0"),
    *(b"[[[[[[[[[", b"]]]]]]]]]", b'{"a":', b"\xef\xbb\xbf", b"\xed\xa0\x80"),
)

TARGET = Target(check=check, seeds=seeds, mutate=json_document, longest=3100, words=WORDS)
