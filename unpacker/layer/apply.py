"""One layer from its blob to a staged tree: open, verify, decompress, read, stage.

The errors that come out of here name the layer, and say that a blob is damaged rather than what its bytes led to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.archive.reader import TarReader
from unpacker.errors import UnpackError, quoted
from unpacker.events import LayerProgress, LayerStarted, LossKind, Lost, Warned, ignore
from unpacker.layer.stage import Stager
from unpacker.layer.stream import LayerStream
from unpacker.spec.mediatypes import layer_compression

if TYPE_CHECKING:
    from unpacker.content.layout import Layout
    from unpacker.events import OnEvent
    from unpacker.layer.below import Below
    from unpacker.layer.changes import Changes
    from unpacker.layer.rules import Rules
    from unpacker.resolve import Layer
    from unpacker.tree.directory import Tree


def stage_layer(
    layout: Layout,
    layer: Layer,
    tree: Tree,
    store: Tree,
    rules: Rules,
    *,
    below: Below | None = None,
    known: bool = False,
    on_event: OnEvent = ignore,
) -> Changes:
    """Stage one layer of an image into an empty tree.

    When this returns, every byte of the blob was what its digest says, and every byte of the archive what the diff_id
    says, to the end of both.

    Args:
        layout: Where the blob is.
        layer: Which one.
        tree, store, below, known: See `unpacker.layer.stage.Stager`.
        rules: How.
        on_event: Gets `LayerStarted`, `LayerProgress`, `Lost` and `Warned`.

    Raises:
        BlobNotFoundError: The layout does not have it.
        IntegrityError: It is not what it is said to be.
        ContentError: It is intact, and no root filesystem can hold it, or it is larger than allowed.
        OSError: The host failed; notes say where.
    """
    digest = str(layer.descriptor.digest)
    on_event(LayerStarted(index=layer.index, digest=digest, size=layer.descriptor.size))

    def progress(done: int) -> None:
        on_event(LayerProgress(index=layer.index, done=done))

    def lose(kind: LossKind, path: bytes, reason: str) -> None:
        on_event(Lost(kind=kind, path=path, reason=reason))

    with layout.blob(layer.descriptor) as blob, LayerStream(blob, layer, rules.limits, progress) as stream:
        stager = Stager(tree, store, rules, below=below, known=known, on_loss=lose)
        reader = TarReader(stream, rules.limits)
        try:
            stager.run(reader)
            stream.finish()
        except UnpackError as error:
            raise stream.blame(error) from error.__cause__
        except OSError as error:
            error.add_note(f"layer {digest}")
            raise
    for oddity in _oddities(layer, stream, stager):
        on_event(Warned(message=f"layer {digest}: {oddity}"))
    stager.changes.tar_bytes = stream.size
    return stager.changes


def _oddities(layer: Layer, stream: LayerStream, stager: Stager) -> list[str]:
    """Say what was odd about a layer that is right all the same."""
    found = []
    said = layer_compression(layer.descriptor.media_type)
    if said is not None and said != stream.compression:
        found.append(f"its media type says {said}, its first bytes {stream.compression}")
    if stager.climbed is not None:
        found.append(f"entry {quoted(stager.climbed)} leads above the root, and was kept inside")
    return found
