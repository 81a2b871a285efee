"""Layers that one forked process stages, one after the other, and what it leaves behind of them.

What the process has made lies in the workspace.  What it says of that, a layer's events, nodes and record, it leaves in
a file there.  How far it is it tells as a number: the bytes of the blobs that it has read, and one for each layer of
which all is written.
"""

from __future__ import annotations

import io
import marshal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from unpacker.child import Child
from unpacker.events import Event, LayerProgress, LayerStarted, LossKind, Lost, Warned
from unpacker.layer import packed
from unpacker.layer.apply import Place, stage_layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import SupportsWrite

    from unpacker.child import Tell
    from unpacker.content.layout import Layout
    from unpacker.events import OnEvent
    from unpacker.layer.changes import Changes
    from unpacker.layer.rules import Rules
    from unpacker.resolve import Layer
    from unpacker.tree.directory import Tree

_INTERVAL = 0.05
"""Seconds between two words of progress."""
_MANY = 1000
"""Events that are written at a time."""


def tree_name(index: int) -> bytes:
    """Give the name of a layer's tree in the workspace."""
    return b"layer-%d" % index


def _links_name(index: int) -> bytes:
    return b"links-%d" % index


def _record_name(index: int) -> bytes:
    return b"record-%d" % index


class Files(Place, Protocol):
    """A place in which one process finds what another one has made."""

    def opened(self, name: bytes) -> Tree:
        """Open a tree that was made in it; whoever asks closes it."""

    def new_file(self, name: bytes) -> io.FileIO:
        """Make a file in it, to be written; whoever asks closes it."""

    def file(self, name: bytes) -> io.FileIO:
        """Open one of them, to be read; whoever asks closes it."""


class Batch:
    """Layers that a process stages, or has staged; they are taken in the order in which they were given.

    Args:
        layout: Where the blobs are.
        layers: At least one, in chain order.
        place: Where they are staged.
        rules: How; ``total`` takes the bytes of all these layers.

    Attributes:
        layers: The layers.
        child: The process; it returns what all of them have come to.

    Raises:
        OSError: There are no more processes, descriptors, or space.
    """

    def __init__(self, layout: Layout, layers: Sequence[Layer], place: Files, rules: Rules) -> None:
        self.layers = layers
        self._place = place
        self._rules = rules
        self._begun = self._ended = 0  # of how many layers the start and the end have been told
        self.child = Child(lambda tell: self._stage(layout, tell))

    def _stage(self, layout: Layout, tell: Tell) -> int:
        """Stage all of them, in the process."""
        done = size = 0
        for layer in self.layers:
            rules = self._rules.changed(total=partial(self._total, size))
            with (
                self._place.tree(tree_name(layer.index)) as tree,
                self._place.tree(_links_name(layer.index)) as links,
                io.BufferedWriter(self._place.new_file(_record_name(layer.index))) as record,
            ):
                listener = _Listener(record, done, tell)
                changes = stage_layer(layout, layer, tree, links, rules, known=not layer.index, on_event=listener)
                listener.write_all()
                marshal.dump(packed.pack(tree, changes), record)
            self._place.discard(_links_name(layer.index))
            size += changes.tar_bytes
            done += _steps(layer)
            tell(done)
        return size

    def _total(self, before: int, size: int) -> int:
        return self._rules.total(before + size)

    def ready(self, layer: Layer) -> bool:
        """Whether all is there of a layer, or no more will come."""
        return not self.child.running or self._has(layer)

    def progress(self) -> Iterator[Event]:
        """Yield what is new of how far the layers are."""
        told = self.child.told if self.child.result is None else self._end(self.layers[-1])
        begin = sum(map(_steps, self.layers[: self._ended]))
        for layer in self.layers[self._ended :]:
            if self._begun == self._ended:
                self._begun += 1
                size = layer.descriptor.size
                yield LayerStarted(index=layer.index, digest=str(layer.descriptor.digest), size=size)
            if told > begin:
                yield LayerProgress(index=layer.index, done=min(told - begin, layer.descriptor.size))
            begin += _steps(layer)
            if told < begin:
                return
            self._ended += 1

    def take(self, layer: Layer, rules: Rules, on_event: OnEvent) -> tuple[Tree, Changes] | None:
        """Read what the process has left of a layer: tell its events, give its tree with all nodes, and its record.

        The tree is the caller's from then on.  None if the process has failed before all was there.

        Raises:
            LimitError: What is known of the layer takes more memory than allowed.
        """
        if not self._has(layer):
            return None
        tree = self._place.opened(tree_name(layer.index))
        try:
            if rules.memory is not None:
                tree.share(rules.memory)
            return tree, self._read(layer, tree, on_event)
        except BaseException:
            tree.close()
            raise

    def clear(self) -> None:
        """Remove what a process that has failed has left half-done: it takes room that others may need."""
        for layer in self.layers:
            if not self._has(layer):
                for name in (tree_name(layer.index), _links_name(layer.index), _record_name(layer.index)):
                    self._place.discard(name)

    def _read(self, layer: Layer, tree: Tree, on_event: OnEvent) -> Changes:
        name = _record_name(layer.index)
        with io.BufferedReader(self._place.file(name)) as record:
            for event in self.progress():
                on_event(event)
            while isinstance(said := marshal.load(record), list):  # noqa: S302 -- from a process of ours
                for values in said:
                    on_event(_event(values))
        self._place.discard(name)
        return packed.unpack(said, tree)

    def _has(self, layer: Layer) -> bool:
        """Whether all is there of a layer."""
        return self.child.result is not None or self.child.told >= self._end(layer)

    def _end(self, layer: Layer) -> int:
        """Give what is told when all is there of a layer."""
        return sum(map(_steps, self.layers[: self.layers.index(layer) + 1]))


def _steps(layer: Layer) -> int:
    """Give by how much the number that is told grows over a layer."""
    return layer.descriptor.size + 1


class _Listener:
    """Takes the events of one layer in the process that stages it: progress is told, all else is written to a file."""

    def __init__(self, file: SupportsWrite[bytes], before: int, tell: Tell) -> None:
        self._file = file
        self._before = before
        self._tell = tell
        self._next = 0.0
        self._events: list[tuple[Any, ...]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, LayerProgress):
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _INTERVAL
                self._tell(self._before + event.done)
        elif isinstance(event, Lost):
            self._add(event.kind.value, event.path, event.reason)
        elif isinstance(event, Warned):
            self._add(event.message)

    def _add(self, *values: Any) -> None:
        self._events.append(values)
        if len(self._events) >= _MANY:
            self.write_all()

    def write_all(self) -> None:
        """Write what has come."""
        marshal.dump(self._events, self._file)
        self._events.clear()


def _event(values: tuple[Any, ...]) -> Event:
    if len(values) == 1:
        return Warned(message=values[0])
    kind, path, reason = values
    return Lost(kind=LossKind(kind), path=path, reason=reason)
