"""Every image of the benchmarks as a layout, made once: real ones compressed in each way, and those that are made up.

A layout is there whole or not at all.  One of a real image has the digest of the original's manifest in its name, so
another image of the same name is another layout.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import made
from benchmarks.history import forty_layers
from benchmarks.image import TAG, Compression, prepare
from benchmarks.layouts import write_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORM = "1"
"""Goes up when a made-up image becomes another."""
MADE: dict[str, Callable[[Path], list[Path]]] = {
    "tiny": partial(made.entries, number=1),
    "layers-40": forty_layers,
    "one-file": made.one_file,
    **{f"entries-{number}": partial(made.entries, number=number) for number in (10_000, 100_000, 1_000_000)},
    **{f"layers-{number}": partial(made.layers, number=number, total=number * made.EACH) for number in (1, 10, 100)},
    **{f"shared-by-{number}": partial(made.layers, number=number) for number in (1, 10, 100)},
    "opaque-base": partial(made.files, number=made.BELOW_OPAQUE, directories=made.OPAQUE),
    "opaque": made.opaque,
    "whiteouts-base": partial(made.files, number=made.WHITEOUTS, directories=made.WHITEOUTS // made.IN_A_DIRECTORY),
    "whiteouts": made.whiteouts,
    "whiteouts-twice": made.twice,
}


class Cache:
    """A directory of layouts.

    Args:
        directory: Where; it is made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def made(self, name: str, compression: Compression = "gzip") -> str:
        """Give the reference of a made-up image."""
        layout = self.directory / f"{name}-{FORM}.{compression}"
        if not layout.exists():
            with self._new(layout) as (work, new):
                write_layout(new, MADE[name](work), compression)
        return f"{layout}:{TAG}"

    def variant(self, name: str, reference: str, compression: Compression) -> str:
        """Give the reference of a copy of an image whose layers are all compressed in one way.

        If they are so already, the manifest stays as it is, and with it the blobs that the image's author has made.
        """
        with self._work() as work:
            image = prepare(reference, work)
            layout = self.directory / f"{name}-{image.manifest.partition(':')[2][:12]}.{compression}"
            if layout.exists():
                return f"{layout}:{TAG}"
            if image.compressions == {compression}:
                image.layout.rename(layout)
                return f"{layout}:{TAG}"
            blobs = image.layout / "blobs" / "sha256"
            manifest = json.loads((blobs / image.manifest.partition(":")[2]).read_bytes())
            config = json.loads((blobs / manifest["config"]["digest"].partition(":")[2]).read_bytes())
            with self._new(layout) as (_, new):
                write_layout(new, [layer.tar for layer in image.layers], compression, config)
        return f"{layout}:{TAG}"

    @contextmanager
    def _work(self) -> Iterator[Path]:
        work = Path(tempfile.mkdtemp(prefix=".part-", dir=self.directory))
        try:
            yield work
        finally:
            shutil.rmtree(work)

    @contextmanager
    def _new(self, layout: Path) -> Iterator[tuple[Path, Path]]:
        """Give a directory to work in and one for the layout, which gets its name when it is whole."""
        with self._work() as work:
            yield work, work / "layout"
            (work / "layout").rename(layout)
