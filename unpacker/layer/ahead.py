"""Layers staged in processes of their own, ahead of the settling: as many at a time as there are cores.

Staging needs no view of the layers below, so layers can be staged side by side.  The largest one starts first, for the
last one to end decides.  What a process has made lies in the workspace; what it says of that, the nodes, the record and
the events, it leaves in a file there.

Processes only save time.  Where one cannot be had, or fails for whatever reason, the caller stages the layer himself,
and meets the reason himself.
"""

from __future__ import annotations

import io
import marshal
import os
import time
from typing import TYPE_CHECKING, Any

from unpacker.child import Child, may_fork, wait
from unpacker.events import Event, LayerProgress, LayerStarted, LossKind, Lost, OnEvent, Warned
from unpacker.layer import packed
from unpacker.layer.apply import stage_layer
from unpacker.tree.directory import Memory
from unpacker.tree.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from _typeshed import SupportsWrite

    from unpacker.child import Tell
    from unpacker.content.layout import Layout
    from unpacker.layer.changes import Changes
    from unpacker.layer.rules import Rules
    from unpacker.resolve import Layer
    from unpacker.tree.directory import Tree
    from unpacker.tree.workspace import Workspace

MOST_JOBS = 4
"""Processes at most if nobody says how many: each takes some 40 MiB, and the disk has to keep up, too."""
WORTH = 1 << 20
"""Bytes of a blob that are worth a process, which takes some milliseconds."""
_INTERVAL = 0.05
"""Seconds between two words of progress."""
_BATCH = 1000
"""Events that are written at a time."""


def default_jobs() -> int:
    """Give how many processes to use if nobody says: the cores that this process may use, but not too many."""
    return min(MOST_JOBS, len(os.sched_getaffinity(0)))


class Ahead:
    """Stages layers ahead; a context manager that ends what it has started.

    Args:
        layout: Where the blobs are.
        layers: Those of the image, in chain order.
        workspace: Where they are staged.
        rules: How.
        jobs: Processes at a time; with 1 of them nothing is staged ahead.
        on_event: Told of each layer's start and progress at once, and of all else when the layer is taken.
    """

    def __init__(
        self,
        layout: Layout,
        layers: Sequence[Layer],
        workspace: Workspace,
        rules: Rules,
        *,
        jobs: int,
        on_event: OnEvent,
    ) -> None:
        self._layout = layout
        self._workspace = workspace
        self._rules = rules
        self._jobs = jobs
        self._on_event = on_event
        self._stagings: dict[int, _Staging] = {}
        self._tar_bytes = 0  # of the layers whose process has ended
        worth = sorted((one for one in layers if one.descriptor.size >= WORTH), key=lambda one: one.descriptor.size)
        self._waiting = worth if jobs > 1 and len(worth) > 1 and may_fork() else []  # the largest one last

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        with undisturbed():
            self._waiting.clear()
            for staging in self._stagings.values():
                staging.close()
            self._stagings.clear()

    def take(self, layer: Layer) -> tuple[Tree, Changes] | None:
        """Wait for a layer that was staged ahead, in the tree `tree_name`, which the caller closes; None if it was not.

        Raises:
            LimitError: What is known of it takes more memory than allowed.
        """
        if layer in self._waiting:
            self._waiting.remove(layer)
        staging = self._stagings.get(layer.index)
        if staging is None:
            return None
        while staging.child.running:
            self._wait()
        changes = None if staging.child.result is None else staging.changes(self._on_event, self._rules)
        staging.close(tree=changes is None)
        del self._stagings[layer.index]
        self._workspace.discard(_links_name(layer.index))
        if changes is None:
            self._workspace.discard(tree_name(layer.index))
            return None
        return staging.tree, changes

    def _start(self) -> None:
        """Start processes for layers that wait, as many as may run; none for an image that is too large already."""
        while self._waiting and sum(one.child.running for one in self._stagings.values()) < self._jobs:
            rules = self._rules_left()
            if rules is None:
                return
            layer = self._waiting.pop()
            try:
                staging = _Staging(self._layout, layer, self._workspace, rules)
            except OSError:  # no more processes, descriptors or space, and the caller needs some as well
                self._waiting.clear()
                for name in (tree_name(layer.index), _links_name(layer.index)):
                    self._workspace.discard(name)
                return
            self._stagings[layer.index] = staging
            self._on_event(
                LayerStarted(index=layer.index, digest=str(layer.descriptor.digest), size=layer.descriptor.size)
            )

    def _rules_left(self) -> Rules | None:
        """Give the rules for one more layer, with what the others have left of the bytes for all layers.

        All processes together may remember as much as one: a layer that needs more is staged by the caller alone.
        """
        limits = self._rules.limits
        left = limits.image_bytes - self._tar_bytes
        if left < 0:
            return None
        memory = Memory(limits.memory_bytes // (self._jobs + 1))
        return self._rules.changed(limits=limits.changed(layer_bytes=min(limits.layer_bytes, left)), memory=memory)

    def _wait(self) -> None:
        running = [staging for staging in self._stagings.values() if staging.child.running]
        before = [staging.child.told for staging in running]
        wait([staging.child for staging in running])
        for staging, told in zip(running, before, strict=True):
            if not staging.child.running:
                self._tar_bytes += staging.child.result or 0
            if staging.child.told != told:
                self._on_event(LayerProgress(index=staging.layer.index, done=staging.child.told))
        self._start()


def tree_name(index: int) -> bytes:
    """Give the name of a layer's tree in the workspace."""
    return b"layer-%d" % index


def _links_name(index: int) -> bytes:
    return b"links-%d" % index


class _Staging:
    """One layer that a process stages, or has staged.

    Raises:
        OSError: There are no more processes, descriptors, or space.
    """

    def __init__(self, layout: Layout, layer: Layer, workspace: Workspace, rules: Rules) -> None:
        self.layer = layer
        self.tree = workspace.tree(tree_name(layer.index))
        self._file: io.FileIO | None = None
        try:
            self._file = file = workspace.file()
            with workspace.tree(_links_name(layer.index)) as links:

                def work(tell: Tell) -> int:
                    with io.BufferedWriter(file) as out:
                        listener = _Listener(out, tell)
                        changes = stage_layer(
                            layout, layer, self.tree, links, rules, known=not layer.index, on_event=listener
                        )
                        listener.write_all()
                        marshal.dump(packed.pack(self.tree, changes), out)
                    return changes.tar_bytes

                self.child = Child(work)
        except BaseException:
            self._close_files()
            raise

    def changes(self, on_event: OnEvent, rules: Rules) -> Changes:
        """Read what the process has left: tell its events, give the tree its nodes, and give the record."""
        if self._file is None:
            raise ValueError("it is closed")
        self._file.seek(0)
        with io.BufferedReader(self._file) as reader:
            while isinstance(said := marshal.load(reader), list):  # noqa: S302 -- from a process of ours
                for values in said:
                    on_event(_event(values))
        on_event(LayerProgress(index=self.layer.index, done=self.layer.descriptor.size))
        if rules.memory is not None:
            self.tree.share(rules.memory)
        return packed.unpack(said, self.tree)

    def close(self, *, tree: bool = True) -> None:
        """End the process, if it runs, and close what is open, the tree if asked."""
        self.child.kill()
        self._close_files(tree=tree)

    def _close_files(self, *, tree: bool = True) -> None:
        if self._file is not None:
            self._file.close()
        if tree:
            self.tree.close()


class _Listener:
    """Takes the events of one layer in the process that stages it: progress is told, all else is written to a file."""

    def __init__(self, file: SupportsWrite[bytes], tell: Tell) -> None:
        self._file = file
        self._tell = tell
        self._next = 0.0
        self._events: list[tuple[Any, ...]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, LayerProgress):
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _INTERVAL
                self._tell(event.done)
        elif isinstance(event, Lost):
            self._add(event.kind.value, event.path, event.reason)
        elif isinstance(event, Warned):
            self._add(event.message)

    def _add(self, *values: Any) -> None:
        self._events.append(values)
        if len(self._events) >= _BATCH:
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
