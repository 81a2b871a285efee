"""Probes: they answer, and nobody is really nobody."""

from __future__ import annotations

import os

from tests.support.probes import (
    NOBODY,
    needs_nobody,
    needs_tool,
    nobodys_directory,
    nobodys_python,
    run_as_nobody,
)


def test_skips_say_what_was_missing() -> None:
    """In words."""
    mark = needs_tool("no-such-program").mark
    assert mark.args == (True,)
    assert mark.kwargs == {"reason": "missing: the program no-such-program"}


@needs_nobody
def test_nobody_has_no_rights() -> None:
    """Not root's ids, no groups, no capabilities; a directory of its own, and the package at hand."""
    program = "import os, unpacker; open('f', 'w'); print(os.getresuid(), os.getresgid(), os.getgroups())"
    python = nobodys_python()
    assert python is not None
    with nobodys_directory() as place:
        done = run_as_nobody([python, "-c", program], cwd=place)
        assert os.lstat(place / "f").st_uid == NOBODY
        status = run_as_nobody(["grep", "CapEff", "/proc/self/status"]).stdout
    assert done.stdout.strip() == f"{(NOBODY,) * 3} {(NOBODY,) * 3} []"
    assert int(status.split()[1], 16) == 0
    assert not place.exists()
