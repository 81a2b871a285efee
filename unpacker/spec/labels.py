"""Labels: short facts that are kept with a blob or a snapshot, as containerd has them.

Programs act on labels: what garbage collection keeps, which helper is run on a layer.  So none may come from an image,
whose annotations look just the same (in CVE-2026-53488 one became such a label, and a program was run).  Whoever wants
to keep annotations as labels takes them through `from_image`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.errors import UsageError, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESERVED = ("containerd.io/", "io.cri-containerd")
"""How the names begin that mean something to containerd, and to this package."""
LONGEST = 4096
"""Bytes of a key and its value together."""
_SHOWN = 64


def is_reserved(key: str) -> bool:
    """Whether a label means something to the programs that keep labels, and so must not come from outside."""
    return key.startswith(RESERVED)


def check(labels: Mapping[str, str]) -> None:
    """Refuse labels that cannot be kept.

    Raises:
        UsageError: One is too long, has no name, or is no Unicode text.
    """
    for key, value in labels.items():
        why = _fault(key, value)
        if why is not None:
            raise UsageError(f"label {quoted(key[:_SHOWN])}: {why}")


def _fault(key: str, value: str) -> str | None:
    if not key:
        return "its key is empty"
    try:
        length = len(key.encode()) + len(value.encode())
    except UnicodeEncodeError:
        return "not Unicode text"
    return f"key and value are longer than {LONGEST} bytes together" if length > LONGEST else None


def from_image(annotations: Mapping[str, str]) -> dict[str, str]:
    """Give what of an image's annotations may become labels: what is reserved, empty or too long is left out."""
    return {
        key: value
        for key, value in annotations.items()
        if value and not is_reserved(key) and _fault(key, value) is None
    }


def merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Set some labels and keep the others; an empty value takes one away."""
    return {key: value for key, value in {**old, **new}.items() if value}


def updated(old: Mapping[str, str], new: Mapping[str, str], fieldpaths: Iterable[str]) -> dict[str, str]:
    """Change labels as a list of field paths asks for, by containerd's rules.

    Args:
        old: What there is.
        new: What there should be.
        fieldpaths: ``labels.KEY`` takes this one from ``new``, and so deletes it if it is empty or not there;
            ``labels``, or no path at all, takes all of them.

    Raises:
        UsageError: A path is something else, or a label cannot be kept.
    """
    check(new)
    paths = tuple(fieldpaths) or ("labels",)
    changed = dict(old)
    for path in paths:
        name, _, key = path.partition(".")
        if name != "labels" or path == "labels.":
            raise UsageError(f"field path {quoted(path)} cannot be updated", "only labels and labels.KEY can")
        if path == "labels":
            changed = dict(new)
        else:
            changed[key] = new.get(key, "")
    return merged(changed, {})
