"""Names, numbers and tables as people read them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_THOUSAND = 1000
_SHORT = 10
_MINUTE = 60
_WIDEST_CELL = 100
_LONGEST_LINE = 4000


def printable(text: str) -> str:
    r"""Give text on one line and harmless to a terminal: what is not printable reads ``\xNN``, ``\n``, ``\u202e``.

    `unpacker.errors.quoted` does the same to a single name, with quotes around it; here backslashes stay as they are,
    since the names inside of a sentence are quoted already.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def one_line(text: str) -> str:
    """Give text as `printable` does, and not more of it than anybody reads: some of it may be an image's own."""
    shown = printable(text[: _LONGEST_LINE + 1])
    return shown if len(shown) <= _LONGEST_LINE else shown[:_LONGEST_LINE] + "…"


def without_surrogates(text: str) -> str:
    r"""Give text that is Unicode: bytes of a host path that are not UTF-8, which Python holds apart, read ``\xNN``."""
    return "".join(_escaped(char) if "\ud800" <= char <= "\udfff" else char for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"  # PEP 383
    return ascii(char)[1:-1]


def amount(size: int) -> str:
    """Give bytes with a decimal unit: ``63.4 MB``."""
    if size < _THOUSAND:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= _THOUSAND
        # 999.95 would be shown as 1000.0.
        if value < _THOUSAND - 0.05:
            return f"{value:.1f} {unit}"
    return f"{value / _THOUSAND:.1f} EB"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Give a number with its noun: ``1 layer``, ``9,012 entries``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Give a time as short as it can be read: ``0.48 s``, ``12.3 s``, ``3 min 07 s``."""
    if seconds < _SHORT:
        return f"{seconds:.2f} s"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest:02} s"


def prefix(digest: str) -> str:
    """Give the beginning of a digest, enough to tell the blobs of an image apart."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}:{encoded[:12]}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give lines with columns of one width each, as wide as their widest cell of ordinary size; the last is free.

    One cell of megabytes would otherwise make every line as long.
    """
    lines = [headings, *rows]
    widths = [
        max(len(line[column]) for line in lines if len(line[column]) <= _WIDEST_CELL)
        for column in range(len(headings) - 1)
    ]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) + "\n"
        for line in lines
    )
