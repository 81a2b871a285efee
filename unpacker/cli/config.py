"""``unpacker config LAYOUT[:TAG|@DIGEST]``: the config of an image as it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from unpacker.cli import options, streams
from unpacker.cli.source import open_image
from unpacker.cli.text import printable
from unpacker.events import Event, Warned

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print the config blob, byte for byte."""
    limits = options.limits(arguments.limit)
    layout, image = open_image(arguments.source, arguments.platform, limits, _warn)
    data = layout.document(image.config_descriptor, limits)
    if sys.stdout is not None and sys.stdout.isatty():
        streams.emit(_for_eyes(data))
    else:
        streams.emit_bytes(data)
    return 0


def _for_eyes(data: bytes) -> str:
    """Give a document to a terminal: JSON strings may hold control characters from U+007F on, which it would obey."""
    lines = data.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n")
    return "".join(printable(line.removesuffix("\r").expandtabs()) + "\n" for line in lines)


def _warn(event: Event) -> None:
    if isinstance(event, Warned):
        streams.say(f"unpacker: warning: {event.message}")
