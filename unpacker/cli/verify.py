"""``unpacker verify LAYOUT[:TAG|@DIGEST]``: every blob of an image read and checked, nothing written.

Finding the image verifies its index, manifest and config.  A layer is read to the end of its blob (digest, size) and
through the decompressor (diff_id).  A layer that fails does not hide the others: all are looked at.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unpacker.archive.decompress import decompress
from unpacker.cli import options, streams
from unpacker.cli.failures import failure_of
from unpacker.cli.feedback import Feedback
from unpacker.cli.jsontext import to_json
from unpacker.cli.source import open_image
from unpacker.cli.text import amount, count, duration
from unpacker.errors import (
    CorruptLayerError,
    DiffIdMismatchError,
    LimitError,
    UnpackError,
    UnsupportedError,
    name_layer,
)
from unpacker.events import LayerApplied, LayerProgress, LayerStarted, OnEvent, Resolved

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from unpacker.content.layout import Layout
    from unpacker.limits import Limits
    from unpacker.resolve import Layer, Resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one layer."""

    layer: Layer
    tar_bytes: int = 0
    error: UnpackError | None = None


def run(arguments: Namespace) -> int:
    """Verify the image; the first failure gives the exit status."""
    limits = options.limits(arguments.limit)
    started = time.monotonic()
    with Feedback.on_stderr(arguments) as feedback:
        layout, image = open_image(arguments.source, arguments.platform, limits, feedback.on_event)
        size = sum(layer.descriptor.size for layer in image.layers)
        feedback.on_event(
            Resolved(
                name=image.name,
                manifest=str(image.manifest_descriptor.digest),
                platform=str(image.platform),
                layers=len(image.layers),
                size=size,
            )
        )
        results = list(verify_layers(layout, image, limits, feedback.on_event))
        feedback.close()
        status = _tell(arguments, image, results)
        if not status:
            written = amount(sum(result.tar_bytes for result in results))
            facts = f"{count(len(results), 'layer')}, {amount(size)} read, {written} decompressed"
            took = duration(time.monotonic() - started)
            feedback.say(f"verified {image.name} ({image.platform}): {facts}, {took}")
    return status


def verify_layers(layout: Layout, image: Resolution, limits: Limits, on_event: OnEvent) -> Iterator[Result]:
    """Yield what comes of each layer."""
    for layer in image.layers:
        try:
            yield Result(layer=layer, tar_bytes=_verify(layout, layer, limits, on_event))
        except UnpackError as error:
            yield Result(layer=layer, error=error)


def _verify(layout: Layout, layer: Layer, limits: Limits, on_event: OnEvent) -> int:
    """Read one layer to its end; give its decompressed size."""
    digest = str(layer.descriptor.digest)
    on_event(LayerStarted(index=layer.index, digest=digest, size=layer.descriptor.size))
    hasher = layer.diff_id.hasher()
    size = 0
    with layout.blob(layer.descriptor) as blob:

        def read() -> bytes:
            chunk = blob.read()
            on_event(LayerProgress(index=layer.index, done=blob.done))
            return chunk

        try:
            for chunk in decompress(read, limits):
                hasher.update(chunk)
                size += len(chunk)
        except (CorruptLayerError, LimitError, UnsupportedError) as error:
            # Bytes that are not the blob's own say more than what a decompressor makes of them.
            blob.drain()
            name_layer(error, digest)
            raise
        blob.drain()
    if hasher.hexdigest() != layer.diff_id.encoded:
        actual = f"{layer.diff_id.algorithm}:{hasher.hexdigest()}"
        raise DiffIdMismatchError(layer=digest, index=layer.index, expected=str(layer.diff_id), actual=actual)
    on_event(LayerApplied(index=layer.index, digest=digest, diff_id=str(layer.diff_id), entries=0, size=size))
    return size


def _tell(arguments: Namespace, image: Resolution, results: list[Result]) -> int:
    """Say what failed, and everything in JSON if that was asked for; give the exit status."""
    failures = [failure_of(result.error) for result in results if result.error is not None]
    for failure in failures:
        streams.say(f"{arguments.program}: error: {failure.message}")
    first = failures[0] if failures else None
    if first is not None and first.hint is not None:
        streams.say(f"{arguments.program}: hint: {first.hint}")
    if arguments.format == "json":
        head = {"code": "ok", "message": None, "hint": None, "exit_status": 0} if first is None else first.as_dict()
        streams.emit(to_json({**head, **_facts(image, results)}))
    return 0 if first is None else first.status


def _facts(image: Resolution, results: list[Result]) -> dict[str, object]:
    return {
        "name": image.name,
        "manifest": str(image.manifest_descriptor.digest),
        "platform": str(image.platform),
        "layers": [
            {
                "digest": str(result.layer.descriptor.digest),
                "diff_id": str(result.layer.diff_id),
                "size": result.layer.descriptor.size,
                "ok": result.error is None,
                "error": None if result.error is None else failure_of(result.error).as_dict(),
            }
            for result in results
        ],
    }
