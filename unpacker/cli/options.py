"""Texts of options to values of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.errors import UsageError, word
from unpacker.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

_JOBS_MOST = 1024
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}
_MOST_DIGITS = 18


def limits(settings: Sequence[str]) -> Limits:
    """Read ``NAME=VALUE`` settings over the default limits; the last one of a name counts.

    Raises:
        UsageError: There is no limit of this name, or the value is no positive number.
    """
    known = set(vars(DEFAULT))
    changes = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known:
            advice = f"limits: {', '.join(sorted(known))}"
            raise UsageError(f"--limit {word(setting)}: no limit of this name", advice=advice)
        if not equals:
            raise UsageError(f"--limit {word(setting)}: not NAME=VALUE", advice=f"for example --limit {name}=20G")
        changes[name] = _number(value.strip(), setting)
    return DEFAULT.changed(**changes)


def jobs(text: str | None) -> int | None:
    """Read how many layers to stage at a time.

    Raises:
        UsageError: It is no positive number, or no sane one.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and 0 < int(text) <= _JOBS_MOST):
        raise UsageError(f"--jobs {word(text)}: not a whole number from 1 to {_JOBS_MOST}")
    return int(text)


def _number(text: str, setting: str) -> int:
    digits, shift = (text[:-1], _UNITS[text[-1].upper()]) if text[-1:].upper() in _UNITS else (text, 0)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS and int(digits)):
        advice = "write 4096, or 20G (K M G T: powers of 1024)"
        raise UsageError(f"--limit {word(setting)}: not a positive whole number", advice=advice)
    return int(digits) << shift
