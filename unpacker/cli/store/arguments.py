"""What the verbs over a snapshot store can be told, and their help."""

from __future__ import annotations

from unpacker.cli.parser import (
    SOURCE,
    epilog,
    feedback_options,
    format_option,
    limit_option,
    platform_option,
    source_argument,
    store_option,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Sequence

    from unpacker.cli.parser import Parser

    Verbs = _SubParsersAction[Parser]


def add_verbs(verbs: Verbs, prog: str) -> None:
    """Add them all."""
    for add in (_images, _snapshots, _labels, _mounts, _mount, _umount, _import, _rm, _gc, _fsck):
        add(verbs, prog)


def _verb(verbs: Verbs, prog: str, name: str, usage: str, texts: Sequence[str], examples: Sequence[str]) -> Parser:
    """Add one verb; the first of its texts is the line in the list of verbs."""
    return verbs.add_parser(
        name,
        help=texts[0],
        usage=f"{prog} {name} [options]{' ' if usage else ''}{usage}",
        description="\n".join(texts[1:]) or f"{texts[0].capitalize()}.",
        epilog=epilog(*(f"{prog} {name} {example}" for example in examples)),
    )


def _images(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "images",
        "",
        (
            "list the images of a snapshot store",
            "List the images whose layers a snapshot store keeps, and what each stands for.",
        ),
        ("--store ./store", "--store ./store --format json"),
    )
    store_option(parser)
    format_option(parser)


def _snapshots(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "snapshots",
        "[FILTER ...]",
        (
            "list the snapshots of a store",
            "List the snapshots of a store that any of the filters matches; without one, all.",
            "Fields are name, parent, kind (committed, active, view) and labels.KEY.",
        ),
        ("--store ./store", "--store ./store kind==active", "--store ./store 'labels.\"team\"==base'"),
    )
    parser.intermixed = True
    parser.add_argument("filters", metavar="FILTER", nargs="*", help="as containerd has them: FIELD==VALUE,...")
    store_option(parser)
    format_option(parser)


def _labels(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "labels",
        "{LAYOUT DIGEST | NAME} [KEY=VALUE ...]",
        (
            "show or set the labels of a blob or a snapshot",
            "Show the labels of a blob in a layout, or of a snapshot in a store, after setting",
            "some of them; an empty VALUE takes a label away.",
        ),
        (
            "./layout sha256:4f3c...",
            "./layout sha256:4f3c... team=base",
            "--store ./store work containerd.io/gc.root=yes",
        ),
    )
    parser.intermixed = True
    parser.add_argument(
        "name", metavar="LAYOUT|NAME", help="a layout, with a DIGEST after it; or the name of a snapshot"
    )
    parser.add_argument("words", metavar="KEY=VALUE", nargs="*", help="what to set; before it, the DIGEST of a blob")
    store_option(parser)
    format_option(parser)


def _mounts(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "mounts",
        f"{SOURCE} [TARGET]",
        (
            "say how an image is mounted",
            "Print the command that mounts an image's tree read-only, or with --format json",
            "containerd's list of mounts.  Layers that are not in the store are unpacked first.",
        ),
        ("--store ./store ./layout:v1.2 /mnt", "--store ./store --format json ./layout:v1.2"),
    )
    source_argument(parser)
    parser.add_argument("target", metavar="TARGET", nargs="?", default="/mnt", help="for the command (default: /mnt)")
    _unpack_options(parser)


def _mount(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "mount",
        f"{SOURCE} TARGET",
        (
            "mount an image",
            "Mount an image's tree at a directory.  Layers that are not in the store are",
            "unpacked first.  What is mounted is a view, or an active snapshot that keeps what",
            "is written; 'umount' ends it.",
        ),
        ("--store ./store ./layout:v1.2 ./mnt", "--store ./store --writable ./layout:v1.2 ./mnt"),
    )
    source_argument(parser)
    parser.add_argument("target", metavar="TARGET", help="the directory to mount at")
    parser.add_argument("--writable", action="store_true", help="what is written goes to a snapshot of its own")
    parser.add_argument(
        "--key", metavar="KEY", help="the name of that snapshot (default: TARGET); one that was kept is gone on with"
    )
    _unpack_options(parser)


def _umount(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "umount",
        "TARGET",
        (
            "unmount what 'mount' has mounted",
            "Unmount what 'mount' has mounted, and remove its snapshot with what was written.",
        ),
        ("--store ./store ./mnt", "--store ./store --keep ./mnt", "--store ./store --commit mine ./mnt"),
    )
    parser.add_argument("target", metavar="TARGET", help="where it is mounted")
    fate = parser.add_mutually_exclusive_group()
    fate.add_argument("--keep", action="store_true", help="keep the snapshot, for another 'mount --key'")
    fate.add_argument("--commit", metavar="NAME", help="make it a committed snapshot of this name")
    store_option(parser)
    format_option(parser)


def _import(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "import",
        f"{SOURCE} LAYOUT[:TAG]",
        (
            "copy an image into another layout",
            "Copy an image into another layout, which is made if there is none.  Blobs that",
            "are there already are not copied.",
        ),
        ("./layout:v1.2 ./mine", "./layout:v1.2 ./mine:base", "--platform all ./layout ./mine"),
    )
    source_argument(parser)
    parser.add_argument("target", metavar="TARGET", help="the layout to copy to, and what to call the image there")
    parser.add_argument(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="which image of an index (default: this host's); all: every one of them",
    )
    parser.add_argument("--force", action="store_true", help="give the name to this image if another one has it")
    limit_option(parser)
    feedback_options(parser)


def _rm(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "rm",
        "NAME ...",
        (
            "remove images or snapshots from a store",
            "Remove images (by the names that 'images' shows) or snapshots from a store.",
            "An image's snapshots stay until 'gc' finds that nothing refers to them.",
        ),
        ("--store ./store ./layout:v1.2", "--store ./store work"),
    )
    parser.intermixed = True
    parser.add_argument("names", metavar="NAME", nargs="+", help="an image, a snapshot's name, or an active one's key")
    store_option(parser)
    format_option(parser)


def _gc(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "gc",
        "",
        (
            "remove from a store what nothing refers to",
            "Remove the snapshots that no image, no running unpack, no active snapshot and no",
            "label containerd.io/gc.root leads to, and what killed processes have left.",
        ),
        ("--store ./store", "--store ./store --dry-run"),
    )
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, and say what would be")
    store_option(parser)
    format_option(parser)


def _fsck(verbs: Verbs, prog: str) -> None:
    parser = _verb(
        verbs,
        prog,
        "fsck",
        "[LAYOUT]",
        (
            "check a store, or a layout, or both",
            "Check every snapshot of a store against its record, and every blob of a layout",
            "against its digest and its labels.  Exit status 4 if something is broken.",
        ),
        ("--store ./store", "--store ./store --repair ./layout", "./layout"),
    )
    parser.add_argument("layout", metavar="LAYOUT", nargs="?", help="a layout to check as well")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="remove snapshots and labels that are broken; with a LAYOUT, unpack its images again",
    )
    store_option(parser)
    limit_option(parser)
    feedback_options(parser)


def _unpack_options(parser: Parser) -> None:
    """Add what a verb may be told that unpacks what is missing."""
    platform_option(parser)
    store_option(parser)
    limit_option(parser)
    feedback_options(parser)
