r"""Filters: which of many things are meant, in containerd's language.

::

    selectors := selector ("," selector)*          all of them must match
    selector  := fieldpath (operator value)?       without an operator: is it there at all?
    fieldpath := field ("." field)*
    field     := quoted | [A-Za-z0-9_]+
    operator  := "==" | "!=" | "~="                ~= is a regular expression, found anywhere
               | "<" | "<=" | ">" | ">="           ours, for numbers
    value     := quoted | [^\s,]+
    quoted    := a Go string in double quotes; after ~= also between / or |

Of several filters one must match; no filter matches everything, as the empty one does.  ``!=`` matches what is absent,
too.  A field that does not exist and a broken regular expression are errors here, where containerd silently finds
nothing; so is a regular expression that Python would understand in another way than Go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unpacker.errors import UsageError, quoted, word
from unpacker.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    Path = tuple[str, ...]
    Lookup = Callable[[Path], str | None]
    """Gives the field at a path as text; None if it is not there."""
    Filter = Callable[[Lookup], bool]

_SPACE = re.compile(r"\s*")
_FIELD = re.compile(r"[A-Za-z0-9_]+")
_OPERATOR = re.compile(r"[=!~]+|[<>]=?")
# What begins like a quote or a separator is one, and no value.
_VALUE = re.compile(r"""(?![/|".,])[^\s,\x00]+""")
_QUOTED = {
    mark: re.compile(rf"{re.escape(mark)}((?:[^\\\n\x00{re.escape(mark)}]|\\.)*){re.escape(mark)}") for mark in '"/|'
}
_ESCAPE = re.compile(
    r"""\\(?:(?P<octal>[0-7]{3})|x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<plain>.))"""
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_NUMBER = re.compile(r"[0-9]{1,18}")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_SET = re.compile(r"\\.|\[\^?(\]?(?:\\.|[^\]\\])*)", re.DOTALL)
_UNSURE = re.compile(r"^\[|\[:|--|&&|~~|\|\|")
"""What in a set of characters Python warns of, since it may be an operation on sets one day; `[:` is a class to Go."""
_ORDER = ("<", "<=", ">", ">=")
_OPERATORS = ("==", "!=", "~=", *_ORDER)


def parse(texts: Iterable[str], fields: Collection[str], numbers: Collection[str] = ()) -> Filter:
    """Read filters; the result says of one thing whether any of them matches.

    Args:
        texts: The filters.
        fields: How a field path may begin.
        numbers: Which of them can be compared by size.

    Raises:
        UsageError: One cannot be read.
    """
    anyone = [_Parser(text, fields, numbers).selectors() for text in texts]

    def matches(lookup: Lookup) -> bool:
        return not anyone or any(all(selector.matches(lookup) for selector in selectors) for selectors in anyone)

    return matches


class _Selector(Record):
    """One condition."""

    path: Path
    operator: str | None
    value: str
    pattern: re.Pattern[str] | None

    def matches(self, lookup: Lookup) -> bool:
        found = lookup(self.path)
        if self.operator is None:
            return found is not None
        if self.operator == "!=":
            return found != self.value
        if self.pattern is not None:
            return self.pattern.search(found or "") is not None
        if found is None:
            return False
        if self.operator == "==":
            return found == self.value
        here, there = int(found), int(self.value)
        return {"<": here < there, "<=": here <= there, ">": here > there, ">=": here >= there}[self.operator]


class _Parser:
    """One filter, read from front to back."""

    def __init__(self, text: str, fields: Collection[str], numbers: Collection[str]) -> None:
        self._text = text
        self._fields = fields
        self._numbers = numbers
        self._position = 0

    def selectors(self) -> list[_Selector]:
        if not self._text:
            return []
        found = [self._selector()]
        while not self._at_end():
            if not self._take(","):
                raise self._error("a comma or an operator")
            found.append(self._selector())
        return found

    def _selector(self) -> _Selector:
        path = self._path()
        if self._at_end() or self._text[self._position] == ",":
            return _Selector(path=path, operator=None, value="", pattern=None)
        operator = self._operator(path)
        value = self._value(alternatives=operator == "~=")
        if operator in _ORDER and not _NUMBER.fullmatch(value):
            raise self._error(f"a number behind {operator}", quoted(value))
        return _Selector(
            path=path,
            operator=operator,
            value=value,
            pattern=self._pattern(value) if operator == "~=" else None,
        )

    def _path(self) -> Path:
        path = [self._field()]
        while self._take("."):
            path.append(self._field())
        if path[0] not in self._fields or (len(path) > 1) != (path[0] == "labels"):
            known = ", ".join("labels.KEY" if name == "labels" else name for name in sorted(self._fields))
            raise UsageError(f"filter {quoted(self._text)}: no field {quoted('.'.join(path))}", f"fields: {known}")
        return tuple(path)

    def _field(self) -> str:
        match = self._match(_FIELD)
        return self._quoted(('"',), "a field") if match is None else match[0]

    def _operator(self, path: Path) -> str:
        start = self._position
        match = self._match(_OPERATOR)
        operator = "" if match is None else match[0]
        if operator not in _OPERATORS or (operator in _ORDER and path[0] not in self._numbers):
            self._position = start
            raise self._error("an operator (==, !=, ~=; for numbers also <, <=, >, >=)")
        return operator

    def _value(self, *, alternatives: bool) -> str:
        match = self._match(_VALUE)
        return self._quoted(('"', "/", "|") if alternatives else ('"',), "a value") if match is None else match[0]

    def _pattern(self, value: str) -> re.Pattern[str]:
        for found in _SET.finditer(value):
            if found[1] is not None and (mark := _UNSURE.search(_ESCAPED.sub("..", found[1]))):
                expected = "a regular expression that Go and Python read alike"
                shown = quoted(found[0])
                raise self._error(expected, f"{shown}, in which {mark[0]} takes a backslash to stand for itself")
        try:
            return re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            # The error may show a character as it is; a number, or a depth, may be more than Python can do.
            raise self._error("a regular expression", f"{quoted(value)} ({word(str(error))})") from None

    def _quoted(self, marks: tuple[str, ...], what: str) -> str:
        mark = self._text[self._position : self._position + 1]
        if mark not in marks:
            raise self._error(f"{what}, in quotes if it has other characters than letters and digits")
        match = self._match(_QUOTED[mark])
        if match is None:
            raise self._error("the end of what is quoted", "none")
        return _ESCAPE.sub(lambda escape: self._unescaped(escape, mark), match[1])

    def _unescaped(self, escape: re.Match[str], mark: str) -> str:
        plain = escape["plain"]
        try:
            if plain is not None:
                return mark if plain == mark else _PLAIN[plain]
            code = int(escape["octal"], 8) if escape["octal"] else int(escape["x"] or escape["u"] or escape["U"], 16)
            return chr(code).encode().decode()  # Beyond Unicode, or half of a surrogate pair.
        except (KeyError, ValueError):
            raise self._error("an escape of Go's strings", quoted(escape[0])) from None

    # -- the text ------------------------------------------------------------------------------------------------------

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._at_end()
        match = pattern.match(self._text, self._position)
        if match is not None:
            self._position = match.end()
        return match

    def _take(self, char: str) -> bool:
        taken = not self._at_end() and self._text[self._position] == char
        self._position += taken
        return taken

    def _at_end(self) -> bool:
        """Pass over blanks, and say whether there is nothing behind them."""
        blank = _SPACE.match(self._text, self._position)
        self._position = self._position if blank is None else blank.end()
        return self._position == len(self._text)

    def _error(self, expected: str, found: str | None = None) -> UsageError:
        rest = self._text[self._position :]
        found = found or (quoted(rest[:20]) if rest else "its end")
        return UsageError(f"filter {quoted(self._text)}: expected {expected}, found {found}")
