"""LAYOUT[:TAG|@DIGEST] and --platform to an open layout and the image in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.content.layout import Layout
from unpacker.resolve import Reference, Resolution, resolve
from unpacker.spec.platforms import Platform

if TYPE_CHECKING:
    from unpacker.events import OnEvent
    from unpacker.limits import Limits


def open_image(source: str, platform: str | None, limits: Limits, on_event: OnEvent) -> tuple[Layout, Resolution]:
    """Find the image that was asked for."""
    reference = Reference.parse(source)
    layout = Layout.open(reference.layout)
    wanted = None if platform is None else Platform.parse(platform)
    return layout, resolve(layout, reference, wanted, limits, on_event)
