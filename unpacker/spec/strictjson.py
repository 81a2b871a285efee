"""JSON, read strictly: the one border between what an image says and typed values.

The specification asks for I-JSON (RFC 7493): UTF-8, no name twice in an object, Unicode text only.  Python's own reader
takes more: it guesses encodings, lets the last of two equal names win, knows NaN, and recurses.  What two readers
understand differently is how one image passes as another, so all of it is refused here.
"""

from __future__ import annotations

import json
import math
import re
from functools import reduce
from typing import TYPE_CHECKING, Any

from unpacker.errors import DocumentError, LimitError, quoted
from unpacker.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIGITS = 1000
"""Digits of an integer; reading one takes the square of its length, and Python refuses beyond 4300 as well."""
_SHOWN = 80
"""Characters of a value that an error shows."""
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class _Missing:
    """Stands for a field that is not there."""


_MISSING = _Missing()


def load(data: bytes, source: str, limits: Limits = DEFAULT) -> Value:
    """Read a whole document; ``source`` is what errors call it.

    Raises:
        DocumentError: It is not JSON, or not I-JSON.
        LimitError: It is too long, has too many values, or nests too deeply.
    """
    if len(data) > limits.document_bytes:
        what = f"{source}: bytes of a JSON document"
        raise LimitError(limit="document_bytes", allowed=limits.document_bytes, found=len(data), what=what)
    _check_values(data, source, limits)
    text = _decode(data, source)
    _check_depth(text, source, limits)
    try:
        content = _Decoder(source).decode(text)
    except json.JSONDecodeError as error:
        raise _syntax_error(error, source) from None
    except RecursionError:
        raise _too_deep(source, limits.document_depth + 1, limits) from None
    if "\\ud" in text or "\\uD" in text:  # No other way for a surrogate to come in: the text is strict UTF-8.
        _check_surrogates(content, source)
    return Value(content, source)


def _decode(data: bytes, source: str) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise DocumentError(source=source, where="", found="a byte order mark", expected="JSON in plain UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise DocumentError(source=source, where="", found=found, expected="JSON in UTF-8") from None


def _check_values(data: bytes, source: str, limits: Limits) -> None:
    """Count what will be values, before any of them takes memory."""
    found = data.count(b",") + data.count(b"[") + data.count(b"{")
    if found > limits.document_values:
        what = f"{source}: values in a JSON document"
        raise LimitError(limit="document_values", allowed=limits.document_values, found=found, what=what)


def _check_depth(text: str, source: str, limits: Limits) -> None:
    """Count brackets before anything recurses over them."""
    if text.count("[") + text.count("{") <= limits.document_depth:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > limits.document_depth:
                raise _too_deep(source, depth, limits)
        elif first != '"':
            depth -= 1


def _too_deep(source: str, found: int, limits: Limits) -> LimitError:
    what = f"{source}: nesting of a JSON document"
    return LimitError(limit="document_depth", allowed=limits.document_depth, found=found, what=what)


class _Decoder(json.JSONDecoder):
    """Python's reader without what it has beyond JSON."""

    def __init__(self, source: str) -> None:
        super().__init__(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_int=self._integer,
            parse_float=self._float,
        )
        self._source = source

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            for name, _value in pairs:
                if name in seen:
                    raise self._error(f"the name {quoted(name[:_SHOWN])} twice in one", "an object with unique names")
                seen.add(name)
        return found

    def _constant(self, text: str) -> object:
        raise self._error(text, "JSON, which has no such number")

    def _integer(self, text: str) -> int:
        if len(text) > _DIGITS:
            raise self._error(f"one of {len(text)}", f"numbers of at most {_DIGITS} digits")
        return int(text)

    def _float(self, text: str) -> float:
        number = float(text)
        if math.isinf(number):
            raise self._error(text[:_SHOWN], "numbers in the range of a double (RFC 7493, section 2.2)")
        return number

    def _error(self, found: str, expected: str) -> DocumentError:
        return DocumentError(source=self._source, where="", found=found, expected=expected)


def _syntax_error(error: json.JSONDecodeError, source: str) -> DocumentError:
    offset = len(error.doc[: error.pos].encode("utf-8"))
    place = f"byte offset {offset}"
    if error.msg.startswith("Expecting "):
        expected = error.msg.removeprefix("Expecting ")
        char = error.doc[error.pos : error.pos + 1]
        found = f"{quoted(char)} at {place}" if char else f"the end of the document at {place}"
        return DocumentError(source=source, where="", found=found, expected=f"a {expected}")
    what = error.msg.removesuffix(" at").removesuffix(" starting").removesuffix(": ").lower()
    return DocumentError(source=source, where="", found=f"{what} at {place}", expected="JSON")


def _check_surrogates(document: object, source: str) -> None:
    """Look for halves of a surrogate pair, which no UTF-8 can hold.

    Where a value stands is put together only for the error: to do it for each would take names of megabytes times
    millions of values.
    """
    way: list[str | int] = [""]
    inside: list[Iterator[tuple[str | int, object]]] = [iter([("", document)])]
    while inside:
        for name, value in inside[-1]:
            way[len(inside) - 1 :] = [name]
            for text, place in ((name, way[1:-1]), (value, way[1:])):
                if isinstance(text, str) and _HALF_PAIR.search(text):
                    where = reduce(_below, place, "")
                    raise Value(value, source, where).error("Unicode text", "half of a surrogate pair")
            if isinstance(value, dict | list):
                inside.append(iter(value.items() if isinstance(value, dict) else enumerate(value)))
                break
        else:
            inside.pop()


class Value:
    """A value somewhere in a document, that knows where it stands.

    A field that is absent has a value too, which every reading method refuses: so the error says what was expected.
    Null counts as absent in optional fields, as config.md asks for.
    """

    __slots__ = ("_content", "source", "where")

    def __init__(self, content: object, source: str, where: str = "") -> None:
        self._content = content
        self.source = source
        self.where = where

    def __repr__(self) -> str:
        return f"<Value {self.source}: {self.where or 'document'}: {self.found}>"

    # -- going deeper --------------------------------------------------------------------------------------------------

    def required(self, name: str) -> Value:
        """Give a field, there or not: reading it will tell."""
        return Value(self.object().get(name, _MISSING), self.source, _below(self.where, name))

    def optional(self, name: str) -> Value | None:
        """Give a field, or None where it is absent or null."""
        content = self.object().get(name)
        return None if content is None else Value(content, self.source, _below(self.where, name))

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def is_null(self) -> bool:
        """Whether it is there, and null."""
        return self._content is None

    def object(self) -> dict[str, Any]:
        """Read an object."""
        if isinstance(self._content, dict):
            return self._content
        raise self.error("an object")

    def array(self) -> list[Value]:
        """Read an array."""
        if isinstance(self._content, list):
            source, where = self.source, self.where
            return [Value(content, source, f"{where}[{index}]") for index, content in enumerate(self._content)]
        raise self.error("an array")

    def length(self) -> int:
        """Give the length of an array, before anything is made of it."""
        if isinstance(self._content, list):
            return len(self._content)
        raise self.error("an array")

    def text(self) -> str:
        """Read a string."""
        if isinstance(self._content, str):
            return self._content
        raise self.error("a string")

    def integer(self, minimum: int, maximum: int) -> int:
        """Read an integer in a range; 1.0 and true are none."""
        content = self._content
        if isinstance(content, int) and not isinstance(content, bool) and minimum <= content <= maximum:
            return content
        one = minimum == maximum
        raise self.error(f"the integer {minimum}" if one else f"an integer from {minimum} to {maximum}")

    def string_map(self) -> dict[str, str]:
        """Read an object whose values are all strings."""
        return {name: self.required(name).text() for name in self.object()}

    def strings(self) -> tuple[str, ...]:
        """Read an array of strings."""
        return tuple(item.text() for item in self.array())

    def word(self) -> str:
        """Read a string that is shown as it is, in one line whatever it holds."""
        return quoted(_cut(self.text()))[1:-1]

    # -- saying what is wrong ------------------------------------------------------------------------------------------

    @property
    def found(self) -> str:
        """What stands here, in a few words."""
        content = self._content
        if content is _MISSING:
            return "nothing"
        if isinstance(content, dict):
            return "an object"
        if isinstance(content, list):
            return "an array"
        if isinstance(content, str):
            return quoted(content[:_SHOWN]) + ("…" if len(content) > _SHOWN else "")
        return _cut(json.dumps(content))

    def error(self, expected: str, found: str | None = None) -> DocumentError:
        """Make the error that something else was expected here."""
        found = self.found if found is None else found
        return DocumentError(source=self.source, where=self.where, found=found, expected=expected)


def _below(where: str, name: str | int) -> str:
    """Give the place of a field or an element."""
    if isinstance(name, int):
        return f"{where}[{name}]"
    if len(name) <= _SHOWN and _PLAIN_NAME.fullmatch(name):
        return f"{where}.{name}" if where else name
    return f"{where}[{quoted(_cut(name))}]"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
