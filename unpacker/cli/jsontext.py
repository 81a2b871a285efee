r"""Values of a run as one line of JSON that every JSON reader takes.

Pure ASCII, so it prints in any locale and moves no cursor.  Bytes that are not UTF-8 (in names of files) read ``\xNN``:
a lone surrogate, Python's own way to hold them, is no Unicode text, and strict readers refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from unpacker.cli.text import without_surrogates


def to_json(value: object) -> str:
    """Give a value as one line of JSON."""
    return json.dumps(_plain(value), allow_nan=False) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {without_surrogates(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return without_surrogates(str(value))
