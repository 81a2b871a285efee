"""What holds of every error, whatever the input: it is one of ours, says one printable line, and survives pickling."""

from __future__ import annotations

import pickle

from unpacker.errors import UnpackError

_LONGEST = 20_000
"""Characters of a message: a hint may list a dozen names of 400 characters, each of them as four."""


def check_refusal(error: UnpackError) -> None:
    """Fail if an error could not be shown to a user or passed to another process."""
    text = str(error)
    for line in (text, error.hint or "-"):
        assert line.isprintable(), f"a message that is not one printable line: {line!r}"
        assert 0 < len(line) < _LONGEST, f"a message of {len(line)} characters"
    assert type(error) is not UnpackError, f"an error of no kind: {text}"
    assert error.code, f"an error without a code: {text}"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.hint) == (type(error), text, error.hint), f"changed by pickling: {text}"
