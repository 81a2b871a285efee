"""One layer from its blob to where it belongs: staged (opened, verified, decompressed, read), then settled.

The errors that come out of here name the layer, and say that a blob is damaged rather than what its bytes led to.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol

from unpacker.archive.reader import TarReader
from unpacker.errors import UnpackError, quoted
from unpacker.events import Event, LayerProgress, LayerStarted, LossKind, Lost, Warned, ignore
from unpacker.layer import settle
from unpacker.layer.below import Covered, Hidden
from unpacker.layer.stage import Stager
from unpacker.layer.stream import LayerStream
from unpacker.layer.volume import Volume
from unpacker.spec.mediatypes import layer_compression
from unpacker.tree.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable

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
    below: Covered | None = None,
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

    room = Room(tree.descriptor(tree.root), rules.limits.free_bytes)

    volume = Volume(rules)

    def copying(size: int) -> None:
        room.take(size)
        volume.copy(size)

    def progress(done: int) -> None:
        room.check()
        on_event(LayerProgress(index=layer.index, done=done))

    def lose(kind: LossKind, path: bytes, reason: str) -> None:
        on_event(Lost(kind=kind, path=path, reason=reason))

    with (
        layout.blob(layer.descriptor) as blob,
        LayerStream(blob, layer, rules.limits, progress, volume.read) as stream,
    ):
        stager = Stager(tree, store, rules, below=below, known=known, on_loss=lose, on_copy=copying)
        reader = TarReader(stream, rules.limits)
        try:
            stager.run(reader)
            stream.finish()
        except UnpackError as error:
            raise stream.blame(error) from error.__cause__
        except OSError as error:
            error.add_note(f"layer {digest}")
            raise
    for oddity in _oddities(layer, stream, stager, reader):
        on_event(Warned(message=f"layer {digest}: {oddity}"))
    stager.changes.tar_bytes = stream.size
    stager.changes.copied_bytes = volume.copied
    return stager.changes


def _oddities(layer: Layer, stream: LayerStream, stager: Stager, reader: TarReader) -> list[str]:
    """Say what was odd about a layer that is right all the same."""
    found = []
    said = layer_compression(layer.descriptor.media_type)
    if said is not None and said != stream.compression:
        found.append(f"its media type says {said}, its first bytes {stream.compression}")
    if stager.climbed is not None:
        found.append(f"entry {quoted(stager.climbed)} leads above the root, and was kept inside")
    if not reader.marked_end:
        found.append("its archive ends without the two blocks of zeros that should mark the end")
    return found


_MOST_TOLD = 1 << 20
_LOOK_AHEAD = 1000
"""Losses in a row that the second staging may have spared: to look through all of them each time could take long."""


class Stage(Protocol):
    """Stages one layer: `stage_layer`, with all given but what depends on where the layer goes."""

    def __call__(
        self, tree: Tree, store: Tree, rules: Rules, *, below: Covered | None, known: bool, first: bool
    ) -> Changes:
        """Stage it into an empty tree; ``first`` is False where it has been staged before, without the view."""


class Place(Protocol):
    """Where trees are made that nobody else sees."""

    def tree(self, name: bytes) -> Tree:
        """Make an empty directory in it, as the root of a tree; whoever asks closes it."""

    def discard(self, name: bytes) -> None:
        """Remove one of them."""


def apply_layer(
    stage: Stage,
    rules: Rules,
    place: Place,
    name: bytes,
    below: Below | None,
    settled: Callable[[Tree, Hidden, Changes], None],
    made: tuple[Tree, Changes] | None = None,
) -> Changes:
    """Stage a layer and settle it onto those below it.

    Staged once without them; once more with them, if it means something else there.

    Args:
        stage: Stages it.
        rules: How.
        place: Where it is made.
        name: What its tree is called in there, where it stays.
        below: The layers below; None if it is the base.
        settled: Takes the layer's tree, what it hides, and its record, to do with them what its target wants.
        made: The tree of this name, and the record, if the layer has been staged there already; the tree is closed.
    """

    def staged(tree: Tree, *, below: Covered | None, known: bool, first: bool) -> Changes:
        with place.tree(b"links") as store:
            changes = stage(tree, store, rules, below=below, known=known, first=first)
        place.discard(b"links")
        return changes

    hides = Hidden()
    if made is not None and not rules.fit(made[1].tar_bytes + made[1].copied_bytes):
        # It was not held to what the others come to: staged anew it ends where it is too much, and says so.
        made[0].close()
        place.discard(name)
        made = None
    own, changes = made or (place.tree(name), None)
    with own:
        if changes is None:
            changes = staged(own, below=None, known=below is None, first=True)
        if below is None:
            settled(own, hides, changes)
            return changes
        hides = settle.hidden(own, changes, below, keep_dirlinks=rules.keep_dirlinks)
        view = Covered(below, hides)
        if settle.agrees(changes, view):
            for path in changes.skipped:
                view.hide(path)
            settled(own, hides, changes)
            return changes
    place.discard(name)
    with place.tree(name) as own:
        changes = staged(own, below=view, known=True, first=False)
        settled(own, hides, changes)
    return changes


def bound_stage(layout: Layout, layer: Layer, told: Told) -> Stage:
    """Give the `Stage` of one layer of a layout; ``told`` passes its events on, and may know some of them."""

    def stage(tree: Tree, store: Tree, rules: Rules, *, below: Covered | None, known: bool, first: bool) -> Changes:
        on_event = told if first else told.again
        return stage_layer(layout, layer, tree, store, rules, below=below, known=known, on_event=on_event)

    return stage


class Told:
    """Passes events on, one layer after the other: of one that is staged again, what was not said the first time.

    Both times its losses come in the order of its entries.  Of the first ones eight bytes each are kept, and not of all
    if there are very many; then some may be told twice.

    Args:
        on_event: Told.
    """

    def __init__(self, on_event: OnEvent = ignore) -> None:
        self._on_event = on_event
        self.begin()

    def begin(self) -> None:
        """Begin a layer: what was told of others is forgotten."""
        self._losses = array("q")
        self._next = 0

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, Lost) and len(self._losses) < _MOST_TOLD:
            self._losses.append(hash(event))
        self._on_event(event)

    def again(self, event: Event) -> None:
        """Pass an event of the second staging on: how far it is, and a loss that there was not the first time."""
        if isinstance(event, LayerProgress) or (isinstance(event, Lost) and not self._knows(event)):
            self._on_event(event)

    def _knows(self, loss: Lost) -> bool:
        try:
            self._next = self._losses.index(hash(loss), self._next, self._next + _LOOK_AHEAD) + 1
        except ValueError:
            return False
        return True
