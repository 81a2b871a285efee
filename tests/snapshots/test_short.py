"""Short names of snapshots: mounts of many layers by programs that know nothing of this store."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.snapshots.namespaces import in_own_mounts
from tests.support.layoutbuild import write_layout
from tests.support.probes import needs_overlay
from tests.support.tarbuild import file, layer
from unpacker.image import Image
from unpacker.layer.rules import Rules
from unpacker.snapshots.mounting import unmount
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.snapshots.short import short_name, sweep_links
from unpacker.tree.owners import Owners
from unpacker.tree.probe import umask


@needs_overlay
@in_own_mounts
def test_sixty_layers_are_mounted_by_anybody(tmp_path: Path) -> None:
    """By mount(8), which hands all names to the kernel in one page."""
    layout, target = tmp_path / "layout", tmp_path / "merged"
    write_layout(layout, [layer(file(f"{number}"), file("all", b"%d" % number)) for number in range(60)])
    target.mkdir()
    with tempfile.TemporaryDirectory(dir="/tmp") as store:  # as short as one in /var/lib
        with OverlaySnapshotter(store, sync=False) as snapshotter:
            image = Image.open(layout)
            records = image.unpack(snapshotter, Rules(owners=Owners(apply=True), umask=umask()), labels=False)
            mounts = snapshotter.mounts(records[-1].name)
        options = ",".join(mounts[0].options)

        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(target)], check=True)

        assert len(options) < os.sysconf("SC_PAGE_SIZE")
        assert len(os.listdir(target)) == 61
        assert (target / "all").read_text() == "59"
        unmount(target)


def test_a_name_is_the_same_each_time_and_goes_with_what_it_names(tmp_path: Path) -> None:
    """Two directories never share one, and a sweep takes away what leads nowhere."""
    for name in ("a", "b"):
        (tmp_path / "snapshots" / name).mkdir(parents=True)
    first, second = (short_name(str(tmp_path), str(tmp_path / "snapshots" / name)) for name in ("a", "b"))

    assert first == short_name(str(tmp_path), str(tmp_path / "snapshots/a")) != second
    assert Path(first).resolve() == tmp_path / "snapshots/a"
    (tmp_path / "snapshots/a").rmdir()
    assert (sweep_links(str(tmp_path)), sweep_links(str(tmp_path))) == (1, 0)
    assert os.listdir(tmp_path / "l") == [os.path.basename(second)]


def test_a_taken_name_becomes_longer(tmp_path: Path) -> None:
    """Five digits of a hash are not unique for ever."""
    (tmp_path / "a").mkdir()
    first = short_name(str(tmp_path), str(tmp_path / "a"))
    Path(first).unlink()
    Path(first).symlink_to("../elsewhere")

    assert short_name(str(tmp_path), str(tmp_path / "a")).startswith(first)
    assert len(short_name(str(tmp_path), str(tmp_path / "a"))) == len(first) + 1
