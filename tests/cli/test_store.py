"""The verbs over a snapshot store, in the order in which somebody meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.snapshots.namespaces import in_own_mounts, mounted_below
from tests.snapshots.stores import BASE, IMAGES, layout_of
from tests.support.layoutbuild import LayoutBuilder, digest_of
from tests.support.probes import PROJECT, needs_chown, needs_overlay
from tests.support.tree import read
from unpacker.cli import unpack_main
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.spec.chain import chain_ids
from unpacker.spec.digest import Digest

if TYPE_CHECKING:
    from tests.cli.conftest import Outcome, Run

CHAINS = {
    name: [str(each) for each in chain_ids(Digest.parse(digest_of(tar)) for tar in tars)]
    for name, tars in IMAGES.items()
}
HOST = "linux/amd64"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return layout_of(tmp_path / "layout")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a store that is not there yet, in the environment."""
    monkeypatch.setenv("UNPACK_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def ask(run_toolbox: Run) -> Any:
    """Run a verb that must go well, and give what it says in JSON."""

    def run(*words: str | Path) -> Any:
        outcome = run_toolbox(*map(str, words), "--format", "json")
        assert outcome.status == 0, outcome.err
        return json.loads(outcome.out)

    return run


def fill(run_toolbox: Run, layout: Path, *names: str) -> None:
    for name in names:
        assert run_toolbox("mounts", "--platform", HOST, f"{layout}:{name}").status == 0


def stored(store: Path) -> set[str]:
    with OverlaySnapshotter(store) as snapshotter:
        return {info.name for info in snapshotter.walk()}


# -- unpack --store ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["option", "environment"])
def test_unpack_keeps_the_layers_and_takes_them_from_there(
    how: str, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    words = ["--platform", HOST, "--no-sync"]
    if how == "environment":
        monkeypatch.setenv("UNPACK_STORE", str(store))
    else:
        words += ["--store", str(store)]

    assert unpack_main([*words, f"{layout}:full", str(tmp_path / "full")]) == 0
    first = capsys.readouterr().err
    assert unpack_main([*words, f"{layout}:half", str(tmp_path / "half")]) == 0
    second = capsys.readouterr().err

    assert "in the store already" not in first
    assert [line.rpartition(": ")[2] for line in second.splitlines()][1] == "in the store already"
    assert stored(store) == {*CHAINS["full"], *CHAINS["half"]}
    assert unpack_main([*words, "--store", "", f"{layout}:full", str(tmp_path / "plain")]) == 0
    assert "in the store" not in capsys.readouterr().err, "an empty --store is none, whatever the environment says"
    assert read(tmp_path / "plain") == read(tmp_path / "full")


def test_link_makes_hard_links(layout: Path, store: Path, tmp_path: Path) -> None:
    assert unpack_main(["--platform", HOST, "--link", f"{layout}:full", str(tmp_path / "dest")]) == 0

    assert (tmp_path / "dest/usr").stat().st_nlink == 2
    assert (tmp_path / "dest/usr").samefile(store / "snapshots" / CHAINS["full"][1].replace(":", "/") / "fs/usr")


def test_link_without_a_store_is_a_mistake(layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unpack_main(["--link", f"{layout}:full", str(tmp_path / "dest")]) == 2

    assert "--link without a store" in capsys.readouterr().err
    assert not (tmp_path / "dest").exists()


# -- which store -------------------------------------------------------------------------------------------------------

LOOKING = [["images"], ["snapshots"], ["labels", "x"], ["umount", "/"], ["rm", "x"], ["gc"], ["fsck", "--repair"]]
UNPACKING = [["mounts", "LAYOUT"], ["mount", "LAYOUT", "TARGET"]]


@pytest.mark.parametrize("words", [*LOOKING, *UNPACKING], ids=lambda words: words[0])
def test_without_a_store_it_says_how_to_name_one(words: list[str], tmp_path: Path, run_toolbox: Run) -> None:
    outcome = run_toolbox(*[{"TARGET": str(tmp_path)}.get(word, word) for word in words])

    assert outcome.status == 2
    assert "UNPACK_STORE" in outcome.lines[1]
    assert len(outcome.lines) == 2


@pytest.mark.parametrize("words", LOOKING, ids=lambda words: words[0])
def test_what_only_looks_makes_no_store(words: list[str], store: Path, run_toolbox: Run) -> None:
    outcome = run_toolbox(*words)

    assert outcome.status == 3
    assert outcome.lines[0] == f"unpacker: error: {store}: not a snapshot store: no such directory"
    assert not store.exists()


def test_a_directory_with_something_else_in_it_is_no_store(store: Path, layout: Path, run_toolbox: Run) -> None:
    store.mkdir()
    (store / "notes").touch()

    assert run_toolbox("images").status == 3
    assert run_toolbox("mounts", f"{layout}:full").status == 5
    assert os.listdir(store) == ["notes"]


def test_a_store_of_another_version_is_not_touched(store: Path, run_toolbox: Run) -> None:
    store.mkdir()
    (store / "version").write_text("unpack-snapshots 2 overlay\n")

    outcome = run_toolbox("gc")

    assert outcome.status == 5
    assert "'unpack-snapshots 2 overlay'" in outcome.lines[0]
    assert os.listdir(store) == ["version"]


def test_a_native_store_is_opened_as_what_it_is(store: Path, layout: Path, ask: Any, tmp_path: Path) -> None:
    NativeSnapshotter(store, sync=False).close()

    (mount,) = ask("mounts", "--platform", HOST, f"{layout}:full")

    assert mount["type"] == "bind"
    assert sorted(os.listdir(mount["source"])) == ["etc", "top", "usr"]
    assert unpack_main(["--platform", HOST, f"{layout}:full", str(tmp_path / "dest")]) == 0
    assert read(tmp_path / "dest") == read(Path(mount["source"]))


# -- looking -----------------------------------------------------------------------------------------------------------


def test_images_lists_what_the_store_keeps_layers_for(layout: Path, store: Path, run_toolbox: Run, ask: Any) -> None:
    fill(run_toolbox, layout, "half", "full")

    found = ask("images")["images"]

    assert [(row["name"], row["platform"], row["chain_id"], row["unpacked"]) for row in found] == [
        (f"{layout}:{name}", HOST, CHAINS[name][-1], True) for name in ("full", "half")
    ]
    heading, first, _ = run_toolbox("images", "--store", str(store)).out.splitlines()
    assert heading.split() == ["IMAGE", "PLATFORM", "UNPACKED", "CHAIN_ID"]
    assert first.split() == [f"{layout}:full", HOST, "yes", CHAINS["full"][-1]]


def test_images_says_which_have_lost_a_layer(layout: Path, store: Path, run_toolbox: Run, ask: Any) -> None:
    fill(run_toolbox, layout, "full")
    with OverlaySnapshotter(store) as snapshotter:
        snapshotter.remove(CHAINS["full"][-1])

    assert [row["unpacked"] for row in ask("images")["images"]] == [False]
    assert run_toolbox("images").out.splitlines()[1].split()[2] == "no"


def test_snapshots_can_be_chosen(layout: Path, store: Path, run_toolbox: Run, ask: Any) -> None:
    fill(run_toolbox, layout, "full")
    with OverlaySnapshotter(store) as snapshotter:
        snapshotter.prepare("work", CHAINS["full"][0], {"team": "base"})

    rows = {row["name"]: row for row in ask("snapshots")["snapshots"]}

    assert rows.keys() == {"work", *CHAINS["full"]}
    assert (rows["work"]["kind"], rows["work"]["parent"]) == ("active", CHAINS["full"][0])
    assert rows[CHAINS["full"][1]]["size"] > 100_000
    for filters in (["kind==active"], ['labels."team"==base'], ["name==nobody", "name==work"]):
        assert [row["name"] for row in ask("snapshots", *filters)["snapshots"]] == ["work"]
    assert ask("snapshots", "kind==view")["snapshots"] == []
    heading, *lines = run_toolbox("snapshots").out.splitlines()
    assert heading.split() == ["KIND", "SIZE", "INODES", "CREATED", "NAME", "PARENT"]
    assert len(lines) == 4


def test_a_filter_that_cannot_be_read_is_a_usage_error(layout: Path, store: Path, run_toolbox: Run) -> None:
    fill(run_toolbox, layout, "full")

    outcome = run_toolbox("snapshots", "kind=")

    assert (outcome.status, outcome.out) == (2, "")


# -- labels ------------------------------------------------------------------------------------------------------------


def test_labels_of_a_blob(layout: Path, ask: Any, run_toolbox: Run) -> None:
    blob = next((layout / "blobs/sha256").iterdir())
    words = ("labels", layout, f"sha256:{blob.name}")

    assert ask(*words)["labels"] == {}
    assert ask(*words, "team=base", "why=a=b")["labels"] == {"team": "base", "why": "a=b"}
    assert ask(*words, "team=")["labels"] == {"why": "a=b"}
    assert run_toolbox(*map(str, words)).out == "why=a=b\n"
    assert json.loads((layout / "labels/sha256" / f"{blob.name}.json").read_text()) == {"why": "a=b"}


def test_labels_of_a_snapshot(layout: Path, store: Path, run_toolbox: Run, ask: Any) -> None:
    fill(run_toolbox, layout, "full")
    name = CHAINS["full"][0]

    assert ask("labels", name, "containerd.io/gc.root=yes")["labels"] == {"containerd.io/gc.root": "yes"}
    assert run_toolbox("labels", name, "--store", str(store), "team=base").out == (
        "containerd.io/gc.root=yes\nteam=base\n"
    ), "options may stand before what is to be set"
    assert ask("labels", name, "team=", "containerd.io/gc.root=")["labels"] == {}


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        pytest.param(["NAME", "team"], 2, "label 'team': not KEY=VALUE", id="no value"),
        pytest.param(["NAME", "=base"], 2, "label '=base': not KEY=VALUE", id="no key"),
        pytest.param(["NAME", "team=" + "x" * 5000], 2, "longer than 4096", id="too long"),
        pytest.param(["nobody"], 3, "no snapshot 'nobody'", id="no snapshot"),
        pytest.param(["LAYOUT", "sha256:" + "0" * 64], 3, "blob sha256:000", id="no blob"),
        pytest.param(["/nowhere", "sha256:" + "0" * 64, "a=b"], 3, "/nowhere: not an OCI image layout", id="no layout"),
    ],
)
def test_labels_that_cannot_be(
    words: list[str], status: int, complaint: str, layout: Path, store: Path, run_toolbox: Run
) -> None:
    fill(run_toolbox, layout, "full")
    meant = {"NAME": CHAINS["full"][0], "LAYOUT": str(layout)}

    outcome = run_toolbox("labels", *(meant.get(word, word) for word in words))

    assert outcome.status == status
    assert complaint in outcome.lines[0]
    assert len(outcome.lines) <= 2


# -- mounts ------------------------------------------------------------------------------------------------------------


def test_mounts_are_containerds(layout: Path, store: Path, ask: Any) -> None:
    (mount,) = ask("mounts", "--platform", HOST, f"{layout}:full")

    assert mount.keys() == {"type", "source", "options"}
    assert (mount["type"], mount["source"]) == ("overlay", "overlay")
    lowers = mount["options"][-1].removeprefix("lowerdir=").split(":")
    assert lowers == [str(store / "snapshots/sha256" / name[7:] / "fs") for name in reversed(CHAINS["full"])]


def test_the_mount_of_one_layer_is_a_bind(layout: Path, store: Path, ask: Any) -> None:
    path = store / "snapshots/sha256" / CHAINS["alone"][0][7:] / "fs"

    assert ask("mounts", "--platform", HOST, f"{layout}:alone") == [
        {"type": "bind", "source": str(path), "options": ["ro", "rbind"]}
    ]


def test_mounts_for_people_is_the_command(layout: Path, store: Path, run_toolbox: Run) -> None:
    outcome = run_toolbox("mounts", "-q", "--platform", HOST, f"{layout}:alone", "/srv/my target")

    assert outcome.err == ""
    assert outcome.out == f"mount --rbind -o ro {store}/snapshots/sha256/{CHAINS['alone'][0][7:]}/fs '/srv/my target'\n"


def test_mounts_of_what_is_there_touches_nothing(layout: Path, store: Path, ask: Any, run_toolbox: Run) -> None:
    first = ask("mounts", "--platform", HOST, f"{layout}:full")
    before = {path: path.stat().st_mtime_ns for path in [store, *store.rglob("*"), layout, *layout.rglob("*")]}
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.stat().st_size > 2000:
            blob.unlink()

    assert ask("mounts", "--platform", HOST, f"{layout}:full") == first

    layouts = [path for path in before if path.is_relative_to(store)]
    assert {path: path.stat().st_mtime_ns for path in layouts} == {path: before[path] for path in layouts}
    assert run_toolbox("mounts", "--platform", HOST, f"{layout}:full").err == "", "there is nothing to say"


def test_mounts_of_an_image_that_another_one_brought_keeps_it(
    layout: Path, store: Path, ask: Any, run_toolbox: Run
) -> None:
    """All layers are there, but nothing would keep them when the other image goes."""
    other = layout_of(layout.with_name("copy"))
    fill(run_toolbox, layout, "full")
    fill(run_toolbox, other, "full")

    run_toolbox("rm", f"{layout}:full")

    assert ask("gc")["removed"] == []


def test_an_image_without_layers_has_no_mounts(tmp_path: Path, store: Path, run_toolbox: Run) -> None:
    builder = LayoutBuilder(tmp_path / "scratch")
    builder.name(builder.image([]), "empty")

    outcome = run_toolbox("mounts", "--format", "json", f"{tmp_path}/scratch:empty")

    assert outcome.status == 5
    assert json.loads(outcome.out)["code"] == "unsupported"


def test_how_something_is_mounted_is_said_without_what_unpacks(layout: Path, store: Path, run_toolbox: Run) -> None:
    """It must answer in less than 0.2 s, most of which is the import of modules."""
    fill(run_toolbox, layout, "full")
    program = """
import sys
from unpacker.cli import main
status = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""
    words = ["mounts", "--format", "json", "--platform", HOST, f"{layout}:full"]

    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=PROJECT, capture_output=True, check=True, text=True
    )

    loaded = set(done.stderr.split())
    assert json.loads(done.stdout)[0]["type"] == "overlay"
    assert "unpacker.image" in loaded
    assert not {name for name in loaded if name.startswith("unpacker.archive")}
    assert not loaded & {"unpacker.layer.stage", "filelock", "isal", "zstandard", "rich", "dataclasses", "subprocess"}


# -- mount, umount -----------------------------------------------------------------------------------------------------


@needs_overlay
@in_own_mounts
def test_mounted_written_to_and_thrown_away(
    layout: Path, store: Path, tmp_path: Path, run_toolbox: Run, ask: Any
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    image = ("--platform", HOST, f"{layout}:full", target)

    found = ask("mount", "--writable", *image)

    assert (found["key"], found["kind"], found["target"]) == (str(target), "active", str(target))
    assert sorted(os.listdir(target / "etc")) == ["hosts"]
    (target / "etc/mine").write_text("mine")
    outcome = run_toolbox("mount", *map(str, image))
    assert (outcome.status, "mounted there already" in outcome.lines[-1]) == (6, True)
    assert ask("umount", target) == {
        "code": "ok",
        "exit_status": 0,
        "key": str(target),
        "target": str(target),
        "snapshot": None,
    }
    assert mounted_below(target) == []
    assert stored(store) == set(CHAINS["full"])
    assert os.listdir(store / "active") == []


@needs_overlay
@in_own_mounts
def test_a_view_takes_no_writes(layout: Path, store: Path, tmp_path: Path, run_toolbox: Run) -> None:
    target = tmp_path / "target"
    target.mkdir()

    assert run_toolbox("mount", "--platform", HOST, f"{layout}:full", str(target)).status == 0
    with pytest.raises(OSError, match="Read-only"):
        (target / "mine").touch()
    assert run_toolbox("umount", "--commit", "mine", str(target)).status == 6
    assert mounted_below(target) != [], "what cannot be done is found before anything is"
    assert run_toolbox("umount", str(target)).status == 0


@needs_overlay
@in_own_mounts
def test_what_was_written_is_kept_and_gone_on_with(
    layout: Path, store: Path, tmp_path: Path, run_toolbox: Run, ask: Any
) -> None:
    targets = [tmp_path / "one", tmp_path / "two"]
    for target in targets:
        target.mkdir()
    image = ("--platform", HOST, f"{layout}:full")

    ask("mount", "--writable", "--key", "work", *image, targets[0])
    (targets[0] / "mine").write_text("mine")
    refused = run_toolbox("mount", "--writable", "--key", "work", *image, str(targets[1]))
    assert (refused.status, f"is mounted at {targets[0]}" in refused.lines[-1]) == (6, True)
    assert ask("umount", "--keep", targets[0])["snapshot"] == "work"
    assert ask("gc")["removed"] == []

    said = run_toolbox("mount", "--writable", "--key", "work", *image, str(targets[1])).lines[-1]

    assert said.endswith("with what is in snapshot work")
    assert (targets[1] / "mine").read_text() == "mine"
    assert ask("umount", "--commit", "changed", targets[1])["snapshot"] == "changed"
    assert ask("snapshots", "name==changed")["snapshots"][0]["kind"] == "committed"
    assert ask("gc")["removed"] == ["changed"]


@needs_overlay
@in_own_mounts
def test_a_key_of_another_image_is_not_taken_for_it(
    layout: Path, store: Path, tmp_path: Path, run_toolbox: Run, ask: Any
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    ask("mount", "--writable", "--platform", HOST, f"{layout}:full", target)
    ask("umount", "--keep", target)

    outcome = run_toolbox("mount", "--writable", "--platform", HOST, f"{layout}:half", str(target))

    assert outcome.status == 6
    assert f"snapshot '{target}' exists already" in outcome.lines[-2]
    assert mounted_below(target) == []


@needs_overlay
@in_own_mounts
def test_umount_ends_what_others_have_unmounted(layout: Path, store: Path, tmp_path: Path, ask: Any) -> None:
    target = tmp_path / "target"
    target.mkdir()
    ask("mount", "--platform", HOST, f"{layout}:full", target)
    subprocess.run(["umount", target], check=True)

    ask("umount", target)

    assert stored(store) == set(CHAINS["full"])


@needs_overlay
@in_own_mounts
def test_umount_means_what_is_mounted_there_now(layout: Path, store: Path, tmp_path: Path, ask: Any) -> None:
    """Another snapshot was mounted at the same place, until the machine was started anew."""
    target = tmp_path / "target"
    target.mkdir()
    for key in ("before", "now"):
        ask("mount", "--writable", "--key", key, "--platform", HOST, f"{layout}:full", target)
        if key == "before":
            subprocess.run(["umount", target], check=True)

    assert ask("umount", target)["key"] == "now"
    assert [row["name"] for row in ask("snapshots", "kind==active")["snapshots"]] == ["before"]


@needs_overlay
@in_own_mounts
def test_what_is_mounted_is_not_removed(layout: Path, store: Path, tmp_path: Path, run_toolbox: Run, ask: Any) -> None:
    target = tmp_path / "target"
    target.mkdir()
    ask("mount", "--platform", HOST, f"{layout}:full", target)
    ask("rm", f"{layout}:full")

    assert ask("gc")["removed"] == []
    assert f"is mounted at {target}" in run_toolbox("rm", str(target)).lines[0]
    ask("umount", target)
    assert len(ask("gc")["removed"]) == 3


@pytest.mark.parametrize("make", [None, Path.touch], ids=["nothing", "a file"])
def test_the_target_must_be_a_directory(make: Any, layout: Path, store: Path, tmp_path: Path, run_toolbox: Run) -> None:
    if make is not None:
        make(tmp_path / "target")

    outcome = run_toolbox("mount", f"{layout}:full", str(tmp_path / "target"))

    assert outcome.status == 6
    assert "is no directory to mount at" in outcome.lines[0]
    assert not store.exists()


def test_a_mount_that_fails_leaves_no_snapshot(
    layout: Path, store: Path, tmp_path: Path, run_toolbox: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("unpacker.cli.store.mounting.mount", refused)

    assert run_toolbox("mount", "--writable", "--platform", HOST, f"{layout}:full", str(tmp_path)).status == 6
    assert os.listdir(store / "active") == []


def test_umount_of_what_this_store_knows_nothing_of(layout: Path, store: Path, run_toolbox: Run) -> None:
    fill(run_toolbox, layout, "full")

    outcome = run_toolbox("umount", "/proc")

    assert outcome.status == 6
    assert "nothing of this store is mounted there" in outcome.lines[0]


# -- import ------------------------------------------------------------------------------------------------------------


def names_in(layout: Path) -> list[str]:
    return [
        entry["annotations"]["org.opencontainers.image.ref.name"]
        for entry in json.loads((layout / "index.json").read_text())["manifests"]
    ]


def test_import_makes_a_layout_that_can_be_unpacked(layout: Path, tmp_path: Path, run_toolbox: Run, ask: Any) -> None:
    target = tmp_path / "mine"

    outcome = run_toolbox("import", "--platform", HOST, f"{layout}:full", str(target))
    again = ask("import", "--platform", HOST, f"{layout}:half", f"{target}:v2")

    assert outcome.lines[-1].startswith(f"imported full into {target}: 5 blobs copied (")
    assert (again["name"], again["copied"], again["shared"]) == ("v2", 3, 1)
    assert names_in(target) == ["full", "v2"]
    assert unpack_main(["-q", "--platform", HOST, f"{target}:v2", str(tmp_path / "dest")]) == 0


def test_import_says_what_it_does_as_it_is_told_to(
    layout: Path, tmp_path: Path, run_toolbox: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["import", "--platform", HOST, f"{layout}:full"]
    monkeypatch.setattr("unpacker.cli.progress.PLAIN_INTERVAL", -1.0)

    loud = run_toolbox(*words, "-v", str(tmp_path / "loud")).lines
    plain = run_toolbox(*words, str(tmp_path / "plain")).lines
    monkeypatch.setattr("unpacker.cli.progress.PLAIN_INTERVAL", 10.0)

    assert [line.split(":")[0].split(" ")[0] for line in loud] == ["copying", *["blob"] * 10, "imported"]
    assert sum(" of " in line for line in plain) == 5
    assert len(run_toolbox(*words, str(tmp_path / "short")).lines) == 2
    assert len(run_toolbox(*words, "--progress", "none", str(tmp_path / "none")).lines) == 1
    assert run_toolbox(*words, "-q", str(tmp_path / "quiet")).lines == []


@pytest.mark.parametrize(
    ("target", "layout_name", "name"),
    [
        pytest.param("new:v1", "new", "v1", id="a new layout and a tag"),
        pytest.param("oci:new:v1", "new", "v1", id="with oci:"),
        pytest.param("new", "new", "full", id="a new layout"),
        pytest.param("a:b/new", "a:b/new", "full", id="a colon in the path"),
        pytest.param("there:v1", "there", "v1", id="a layout that is there"),
    ],
)
def test_where_an_import_goes(
    target: str,
    layout_name: str,
    name: str,
    layout: Path,
    tmp_path: Path,
    run_toolbox: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    layout_of(tmp_path / "there")

    assert run_toolbox("import", "--platform", HOST, f"{layout}:full", target).status == 0

    assert names_in(tmp_path / layout_name)[-1] == name


def test_import_does_not_take_a_name_away_unless_it_is_told_to(layout: Path, tmp_path: Path, run_toolbox: Run) -> None:
    words = ["import", "--platform", HOST, "-q"]
    assert run_toolbox(*words, f"{layout}:full", f"{tmp_path}/mine:v1").status == 0

    outcome = run_toolbox(*words, f"{layout}:half", f"{tmp_path}/mine:v1")

    assert outcome.status == 6
    assert "the name 'v1' exists already" in outcome.lines[0]
    assert run_toolbox(*words, "--force", f"{layout}:half", f"{tmp_path}/mine:v1").status == 0
    assert names_in(tmp_path / "mine") == ["v1"]


def test_import_to_a_digest_is_a_usage_error(layout: Path, tmp_path: Path, run_toolbox: Run) -> None:
    before = layout_of(tmp_path / "mine").joinpath("index.json").read_bytes()

    for target in ("mine", "new"):
        outcome = run_toolbox("import", f"{layout}:full", f"{tmp_path}/{target}@sha256:{'0' * 64}")
        assert outcome.status == 2

    assert (tmp_path / "mine/index.json").read_bytes() == before
    assert "a digest is no name" in outcome.lines[0]


# -- rm, gc ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["as listed", "relative", "with oci:"])
def test_rm_of_an_image_lets_gc_have_its_own_layers(
    how: str, layout: Path, store: Path, run_toolbox: Run, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(run_toolbox, layout, "full", "half")
    monkeypatch.chdir(layout.parent)
    name = {"as listed": f"{layout}:full", "relative": "./layout:full", "with oci:": "oci:layout:full"}[how]

    assert ask("rm", name)["removed"] == [{"kind": "image", "name": f"{layout}:full"}]
    assert stored(store) == {*CHAINS["full"], *CHAINS["half"]}, "that is for gc"
    planned = ask("gc", "--dry-run")
    outcome = run_toolbox("gc")

    gone = CHAINS["full"][:0:-1]
    assert outcome.out == "".join(f"{name}\n" for name in gone)
    assert outcome.lines[0].startswith("removed 2 snapshots (")
    assert outcome.lines[0].endswith("; kept 2 snapshots")
    assert (planned["removed"], planned["dry_run"], planned["kept"]) == (gone, True, 2)
    assert planned["freed_bytes"] > 100_000
    assert stored(store) == set(CHAINS["half"])


def test_rm_of_a_layout_means_its_only_image(layout: Path, store: Path, run_toolbox: Run, ask: Any) -> None:
    fill(run_toolbox, layout, "full", "half")

    outcome = run_toolbox("rm", str(layout))
    assert outcome.status == 3
    assert f"{layout}:full, {layout}:half" in outcome.lines[1]

    ask("rm", f"{layout}:half")
    assert ask("rm", layout)["removed"] == [{"kind": "image", "name": f"{layout}:full"}]


def test_rm_of_a_snapshot(layout: Path, store: Path, run_toolbox: Run, ask: Any) -> None:
    fill(run_toolbox, layout, "full")
    with OverlaySnapshotter(store) as snapshotter:
        snapshotter.prepare("work", CHAINS["full"][0])

    def refusal(name: str) -> Outcome:
        outcome = run_toolbox("rm", name)
        assert outcome.status == 6
        return outcome

    assert f"is what image {layout}:full stands for" in refusal(CHAINS["full"][2]).lines[0]
    assert "has a child" in refusal(CHAINS["full"][1]).lines[0]
    assert run_toolbox("rm", "nobody").status == 3
    assert ask("rm", "work", f"{layout}:full", CHAINS["full"][2])["removed"] == [
        {"kind": "snapshot", "name": "work"},
        {"kind": "image", "name": f"{layout}:full"},
        {"kind": "snapshot", "name": CHAINS["full"][2]},
    ]


def test_rm_of_an_active_snapshot_that_is_broken(layout: Path, store: Path, run_toolbox: Run, ask: Any) -> None:
    """What fsck finds in it, and leaves to its owner, need not stay for ever; a committed one is fsck's own."""
    fill(run_toolbox, layout, "full")
    with OverlaySnapshotter(store) as snapshotter:
        snapshotter.prepare("work", CHAINS["full"][0])
        Path(snapshotter.catalog.active_path("work"), "active.json").write_text("{")
        committed = Path(snapshotter.catalog.path(CHAINS["full"][2]))
    assert run_toolbox("fsck", "--repair").status == 4

    assert ask("rm", "work")["removed"] == [{"kind": "snapshot", "name": "work"}]

    assert ask("fsck")["faults"] == []
    (committed / "snapshot.json").write_text("{")
    assert run_toolbox("rm", CHAINS["full"][2]).status == 4
    assert committed.is_dir()


def test_gc_keeps_its_hands_off_while_a_record_is_damaged(layout: Path, store: Path, run_toolbox: Run) -> None:
    fill(run_toolbox, layout, "full")
    run_toolbox("rm", f"{layout}:full")
    damaged = store / "snapshots/sha256" / CHAINS["full"][0][7:] / "snapshot.json"
    damaged.write_text("{")

    outcome = run_toolbox("gc")

    assert outcome.status == 4
    assert outcome.lines[0].startswith(f"unpacker: error: {damaged}: ")
    assert len(list((store / "snapshots/sha256").iterdir())) == 3


# -- fsck --------------------------------------------------------------------------------------------------------------


def test_fsck_of_what_is_whole(layout: Path, store: Path, run_toolbox: Run, ask: Any, tmp_path: Path) -> None:
    assert unpack_main(["-q", "--platform", HOST, f"{layout}:full", str(tmp_path / "dest")]) == 0

    found = ask("fsck", layout)

    assert (found["snapshots"], found["images"], found["blobs"], found["faults"]) == (3, 1, 10, [])
    assert run_toolbox("fsck", str(layout)).lines == [
        f"checked {layout}: 10 blobs, {found['blob_bytes'] / 1000:.1f} kB read",
        f"checked {store}: 3 snapshots, 1 image",
    ]


def test_fsck_of_a_layout_alone_needs_no_store(layout: Path, run_toolbox: Run) -> None:
    assert run_toolbox("fsck", str(layout)).status == 0
    assert run_toolbox("fsck").status == 2


def test_fsck_finds_what_is_broken_in_a_store_and_repairs_it(
    layout: Path, store: Path, run_toolbox: Run, tmp_path: Path
) -> None:
    words = ["-q", "--platform", HOST, f"{layout}:full"]
    assert unpack_main([*words, str(tmp_path / "before")]) == 0
    broken = store / "snapshots/sha256" / CHAINS["full"][1][7:]
    (broken / "fs/usr").unlink()

    outcome = run_toolbox("fsck")
    assert (outcome.status, outcome.out) == (4, "")
    name = f"{broken} ({CHAINS['full'][1]})"
    assert outcome.lines[0] == f"unpacker: error: {name}: has 3 inodes, and was made of 4"

    repaired = run_toolbox("fsck", "--repair", "-q", "--format", "json", str(layout))
    found = json.loads(repaired.out)
    assert (repaired.status, repaired.err, found["code"]) == (0, "", "ok")
    assert found["faults"] == [
        {"kind": "snapshot", "what": f"unpacked again {name}: has 3 inodes, and was made of 4", "repaired": True}
    ]
    assert run_toolbox("fsck").status == 0
    assert unpack_main([*words, str(tmp_path / "after")]) == 0
    assert read(tmp_path / "after") == read(tmp_path / "before")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("--owner self", id="self"),
        pytest.param("--keep-dirlinks", id="links kept"),
        pytest.param(
            "--uid-map 0:100000:65536 --uid-map 70000:5 --gid-map 0:100000:65536", id="maps", marks=needs_chown
        ),
    ],
)
def test_what_is_unpacked_again_is_made_as_it_was(
    options: str, layout: Path, store: Path, run_toolbox: Run, tmp_path: Path
) -> None:
    """Layers that were applied by different rules do not mix, in a repair no more than in an unpack."""
    words = ["-q", "--platform", HOST, *options.split(), f"{layout}:full"]
    assert unpack_main([*words, str(tmp_path / "before")]) == 0
    (store / "snapshots/sha256" / CHAINS["full"][1][7:] / "fs/usr").unlink()

    repaired = run_toolbox("fsck", "--repair", str(layout))

    assert (repaired.status, "cannot be unpacked" in repaired.err) == (0, False)
    assert unpack_main([*words, str(tmp_path / "after")]) == 0
    assert read(tmp_path / "after") == read(tmp_path / "before")


def test_fsck_without_the_layout_takes_the_broken_image_away(layout: Path, store: Path, run_toolbox: Run) -> None:
    fill(run_toolbox, layout, "full", "half")
    (store / "snapshots/sha256" / CHAINS["full"][1][7:] / "snapshot.json").unlink()

    outcome = run_toolbox("fsck", "--repair")

    assert outcome.status == 0
    assert [line.split(" ")[:2] for line in outcome.lines[:-1]] == [["repaired:", "removed"]] * 3
    assert stored(store) == set(CHAINS["half"])


def test_fsck_tells_when_an_image_cannot_be_unpacked_again(layout: Path, store: Path, run_toolbox: Run) -> None:
    fill(run_toolbox, layout, "full", "half")
    (store / "snapshots/sha256" / CHAINS["full"][0][7:] / "snapshot.json").unlink()
    blob = next(path for path in (layout / "blobs/sha256").iterdir() if path.read_bytes()[:2] == b"\x1f\x8b")
    for path in (layout / "blobs/sha256").iterdir():
        if path.read_bytes()[:2] == b"\x1f\x8b" and path.stat().st_size > blob.stat().st_size:
            blob = path
    with blob.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")

    outcome = run_toolbox("fsck", "--repair", str(layout))

    assert outcome.status == 4
    assert any(line.startswith(f"unpacker: error: blob sha256:{blob.name}: digest mismatch") for line in outcome.lines)
    assert run_toolbox("fsck").status == 0, "the store is whole, with less in it"


@pytest.mark.parametrize(
    ("text", "complaint", "kept"),
    [
        pytest.param("{", "expected", None, id="damaged"),
        pytest.param(
            json.dumps({"containerd.io/uncompressed": "sha256:" + "0" * 64, "team": "base"}),
            "decompresses to",
            {"team": "base"},
            id="false",
        ),
        pytest.param(json.dumps({"containerd.io/uncompressed": "sha256"}), "is 'sha256'", {}, id="no digest"),
    ],
)
def test_fsck_compares_labels_with_their_blobs(
    text: str, complaint: str, kept: Any, layout: Path, run_toolbox: Run, tmp_path: Path
) -> None:
    assert unpack_main(["-q", "--platform", HOST, f"{layout}:full", str(tmp_path / "dest")]) == 0
    labels = next((layout / "labels/sha256").iterdir())
    assert json.loads(labels.read_text())["containerd.io/uncompressed"]
    labels.write_text(text)

    outcome = run_toolbox("fsck", str(layout))

    assert outcome.status == 4
    assert complaint in outcome.lines[0]
    assert run_toolbox("fsck", "--repair", str(layout)).status == 0
    assert (json.loads(labels.read_text()) if labels.exists() else None) == kept
    assert run_toolbox("fsck", str(layout)).status == 0


# -- as processes ------------------------------------------------------------------------------------------------------


def test_errors_are_one_line_and_json_as_everywhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unpacker", "images", "--store", str(tmp_path / "none"), "--format", "json"]

    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    found = json.loads(done.stdout)
    assert (done.returncode, found["code"], found["details"]["path"]) == (3, "store-not-found", str(tmp_path / "none"))
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == [" error", " hint"]


def test_who_waits_says_for_whom(layout: Path, store: Path, tmp_path: Path) -> None:
    """Another process holds the layer: the line names it, and when it lets go the work is done."""
    words = ["unpack", "--platform", HOST, f"{layout}:full", str(tmp_path / "dest")]
    command = [sys.executable, "-m", "unpacker", *words]
    with OverlaySnapshotter(store, sync=False) as snapshotter, ExitStack() as stack:
        with snapshotter.catalog.lock(CHAINS["full"][0]):
            process = stack.enter_context(subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True))
            assert process.stderr is not None
            lines = [process.stderr.readline(), process.stderr.readline()]
        process.communicate(timeout=60)

    assert f": waiting for process {os.getpid()}, which unpacks it since " in lines[1]
    assert process.returncode == 0


def test_the_base_layer_is_what_it_says() -> None:
    """The images of these tests share their first layer, or half of them would show nothing."""
    assert CHAINS["full"][0] == CHAINS["half"][0] == digest_of(BASE)
