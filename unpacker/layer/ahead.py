"""Layers staged in processes of their own, ahead of the settling: as many at a time as there are cores.

Staging needs no view of the layers below, so layers can be staged side by side: a large one in a process of its own,
small ones that follow each other in one together, since a process takes some milliseconds.  They start in chain order,
in which they are settled, but for one so large that it would end last.

Processes only save time.  Where one cannot be had, or fails for whatever reason, the caller stages its layers himself,
and meets the reason himself.
"""

from __future__ import annotations

import os
from mmap import mmap
from typing import TYPE_CHECKING

from unpacker.child import may_fork, wait
from unpacker.layer.batch import Batch
from unpacker.tree.directory import Memory
from unpacker.tree.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from unpacker.content.layout import Layout
    from unpacker.events import OnEvent
    from unpacker.layer.batch import Files
    from unpacker.layer.changes import Changes
    from unpacker.layer.rules import Rules
    from unpacker.resolve import Layer
    from unpacker.tree.directory import Tree

MOST_JOBS = 4
"""Processes at most if nobody says how many: each takes some 40 MiB, and the disk has to keep up, too."""
WORTH = 1 << 20
"""Bytes of blobs that are worth a process."""
SHARES = 4
"""Processes over time, for each that may run at a time, that small layers alone would be given: the more there are, the
sooner the first ends and the better they share the cores out."""
_NUMBER = 8
"""Bytes of a number."""


def default_jobs() -> int:
    """Give how many processes to use if nobody says: the cores that this process may use, but not too many."""
    return min(MOST_JOBS, len(os.sched_getaffinity(0)))


def planned(layers: Sequence[Layer], jobs: int) -> list[list[Layer]]:
    """Give what processes are to do, what is to start first in front; nothing if none shall be, or can be."""
    if jobs < 2 or len(layers) < 2:  # noqa: PLR2004 -- a single process would only be waited for
        return []
    shares = batches(layers, jobs)
    return shares if len(shares) > 1 and may_fork() else []


def batches(layers: Sequence[Layer], jobs: int) -> list[list[Layer]]:
    """Share layers out to processes, what is to start first in front: what all may have to wait for, then the lowest.

    Layers that are too small to be worth a process, and have no others to go with, are in none.
    """
    total = sum(layer.descriptor.size for layer in layers)
    enough = max(WORTH, total // (jobs * SHARES), 1)
    shares: list[list[Layer]] = []
    small: list[Layer] = []
    for layer in layers:
        if layer.descriptor.size >= enough:
            shares.append([layer])
            continue
        small.append(layer)
        if _size(small) >= enough:
            shares.append(small)
            small = []
    if small and _size(small) >= WORTH:
        shares.append(small)
    return sorted(shares, key=lambda share: -size if (size := _size(share)) * jobs > total else 0)


def _size(layers: Sequence[Layer]) -> int:
    return sum(layer.descriptor.size for layer in layers)


class Ahead:
    """Stages layers ahead; a context manager that ends what it has started.

    Args:
        layout: Where the blobs are.
        shares: What each process is to do, see `planned`.
        place: Where they are staged.
        rules: How.
        jobs: Processes at a time.
        on_event: Told of each layer's start and progress at once, and of all else when the layer is taken.
    """

    def __init__(
        self,
        layout: Layout,
        shares: Sequence[list[Layer]],
        place: Files,
        rules: Rules,
        *,
        jobs: int,
        on_event: OnEvent,
    ) -> None:
        self._layout = layout
        self._place = place
        self._rules = rules
        self._jobs = jobs
        self._on_event = on_event
        self._batches: list[Batch] = []
        self._waiting = list(shares)
        # What each process has decompressed, where all of them see it: together they stop at the limit for all layers.
        self._sizes = memoryview(mmap(-1, max(1, len(self._waiting)) * _NUMBER)).cast("q")

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
            for batch in self._batches:
                batch.child.kill()
            self._batches.clear()

    def take(self, layer: Layer) -> tuple[Tree, Changes] | None:
        """Wait for the next layer, if it was staged ahead; gives its tree, which the caller closes, and its record.

        Its tree is called `unpacker.layer.batch.tree_name`.  None if it was not, or in vain.

        Raises:
            LimitError: What is known of it takes more memory than allowed.
        """
        for share in self._waiting:
            if layer in share:
                share.remove(layer)
        self._listen(0)  # while the caller was busy, one may have ended
        batch = next((one for one in self._batches if layer in one.layers), None)
        if batch is None:
            return None
        while not batch.ready(layer):
            self._listen()
        return batch.take(layer, self._rules, self._on_event)

    def _start(self) -> None:
        """Start processes for layers that wait, as many as may run; none for an image that is too large already.

        All processes together may remember as much as one: a layer that needs more is staged by the caller alone.
        """
        while self._waiting and sum(batch.child.running for batch in self._batches) < self._jobs:
            limits = self._rules.limits
            if sum(self._sizes) > limits.image_bytes:
                return
            memory = Memory(limits.memory_bytes // (self._jobs + 1))
            rules = self._rules.changed(memory=memory, total=self._counter(len(self._waiting) - 1))
            share = self._waiting.pop(0)
            if not share or _size(share) < WORTH:  # the caller was faster
                continue
            try:
                with undisturbed():  # until it is known which process is to be ended
                    self._batches.append(Batch(self._layout, share, self._place, rules))
            except OSError:  # no more processes, descriptors or space, and the caller needs some as well
                self._waiting.clear()
                return
            self._tell(self._batches[-1])

    def _counter(self, number: int) -> Callable[[int], int]:
        """Give what a process counts with: what it has decompressed of all its layers is added to the others'."""

        def total(size: int) -> int:
            self._sizes[number] = size
            return sum(self._sizes)

        return total

    def _listen(self, seconds: float | None = None) -> None:
        """Take in what the processes tell, and start more where some have ended; with ``seconds``, wait no longer."""
        running = [batch for batch in self._batches if batch.child.running]
        before = [batch.child.told for batch in running]
        wait([batch.child for batch in running], seconds)
        for batch, told in zip(running, before, strict=True):
            if batch.child.told != told:
                self._tell(batch)
            if not batch.child.running:
                batch.clear()
        self._start()

    def _tell(self, batch: Batch) -> None:
        for event in batch.progress():
            self._on_event(event)
