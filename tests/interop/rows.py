"""Trees as the lines of `tests.support.treesum`: taken apart, and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Lines = list[str]
Rows = dict[str, dict[str, str]]
"""By path: by column."""

COLUMNS = ("path", "type", "mode", "uid", "gid", "size", "sha256", "target", "rdev", "mtime", "hardlink", "xattrs")


def rows(lines: Lines) -> Rows:
    """Give a tree by path and column."""
    return {line.partition("\t")[0]: dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines}


def differences(
    expected: Lines, actual: Lines, but: Callable[[str, str], bool] = lambda _path, _column: False
) -> list[str]:
    """Say where two trees part, a line each.

    Args:
        expected: The tree as it should be.
        actual: The tree as it is.
        but: Given a path and a column, whether it may be different there.
    """
    return list(_differences(rows(expected), rows(actual), but))


def _differences(expected: Rows, actual: Rows, but: Callable[[str, str], bool]) -> Iterator[str]:
    for path in sorted({*expected, *actual}):
        if path not in actual or path not in expected:
            if not but(path, "path"):
                yield f"{path}: {'missing' if path in expected else 'too much'}"
            continue
        for column in COLUMNS:
            wanted, got = expected[path][column], actual[path][column]
            if wanted != got and not but(path, column):
                yield f"{path}: {column}: expected {wanted}, got {got}"
