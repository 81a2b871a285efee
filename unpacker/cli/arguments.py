"""What can be said on the command line, and its help: ``unpack``, and the verbs of the toolbox.

The verbs over a snapshot store are in `unpacker.cli.store.arguments`.
"""

from __future__ import annotations

from unpacker.cli.parser import (
    EXIT_STATUSES,
    SOURCE,
    Parser,
    epilog,
    feedback_options,
    format_option,
    limit_option,
    platform_option,
    source_argument,
    store_option,
    version_option,
)
from unpacker.cli.store.arguments import add_verbs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

_UNPACK_EXAMPLES = """\
examples:
  {prog} ./layout rootfs                                the only image of a layout
  {prog} ./layout:v1.2 rootfs                           by tag
  {prog} ./layout@sha256:4f3c... rootfs                 by digest
  {prog} --platform linux/arm64/v8 ./layout:v1.2 rootfs
  {prog} --uid-map 0:100000:65536 --gid-map 0:100000:65536 ./layout rootfs
  {prog} --limit layer_bytes=20G --strict ./layout rootfs
  {prog} --store ./store ./layout rootfs                keep the layers for the next image
  {prog} --format json ./layout rootfs >report.json

"""


def unpack_parser(prog: str = "unpack") -> Parser:
    """Build the parser of ``unpack``."""
    parser = Parser(prog=prog, **_unpack_texts(prog))
    parser.set_defaults(program=prog)
    version_option(parser)
    _unpack_arguments(parser)
    return parser


def toolbox_parser(prog: str = "unpacker") -> Parser:
    """Build the parser of ``unpacker``."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} [-h] [--version] VERB ...",
        description="Tools for container images stored on disk as OCI image layouts.",
        epilog=f"'{prog} VERB --help' tells more.\n\n{EXIT_STATUSES}",
    )
    version_option(parser)
    parser.set_defaults(program=prog)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", required=True)
    _unpack_arguments(
        verbs.add_parser("unpack", help="unpack an image to a directory", **_unpack_texts(f"{prog} unpack"))
    )
    _list_arguments(
        verbs.add_parser(
            "list",
            help="list the images of a layout",
            usage=f"{prog} list [options] LAYOUT",
            description="List the images of a layout: references, platforms, sizes, digests.",
            epilog=epilog(f"{prog} list ./layout", f"{prog} list --format json ./layout"),
        )
    )
    _config_arguments(
        verbs.add_parser(
            "config",
            help="print the config of an image",
            usage=f"{prog} config [options] {SOURCE}",
            description="Print the config of an image to standard output, byte for byte as the layout has it.",
            epilog=epilog(f"{prog} config ./layout:v1.2", f"{prog} config ./layout | jq .config.Env"),
        )
    )
    _verify_arguments(
        verbs.add_parser(
            "verify",
            help="check every blob of an image",
            usage=f"{prog} verify [options] {SOURCE}",
            description="Read every blob of an image and check digests, sizes and diff_ids.  Writes nothing.",
            epilog=epilog(f"{prog} verify ./layout:v1.2", f"{prog} verify --format json ./layout"),
        )
    )
    add_verbs(verbs, prog)
    return parser


def _unpack_texts(prog: str) -> dict[str, Any]:
    return {
        "usage": f"{prog} [options] {SOURCE} DEST",
        "description": "Turn a container image stored on disk into a root filesystem: every byte\n"
        "verified, DEST complete or not there at all.",
        "epilog": _UNPACK_EXAMPLES.format(prog=prog) + EXIT_STATUSES,
    }


def _unpack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(verb="unpack")
    source_argument(parser)
    parser.add_argument("dest", metavar="DEST", help="the directory to make: not there yet, or empty")
    platform_option(parser)
    parser.add_argument("--force", action="store_true", help="replace a DEST that is not empty")
    owners = parser.add_argument_group("owners")
    owners.add_argument(
        "--owner",
        choices=("auto", "keep", "self"),
        default="auto",
        help="auto (default): the image's owners if you may set them; keep: those or an error; self: yours",
    )
    for kind in ("uid", "gid"):
        owners.add_argument(
            f"--{kind}-map",
            metavar="CONTAINER:HOST[:SIZE]",
            action="append",
            default=[],
            help=f"{kind}s from CONTAINER on become HOST and following, SIZE of them (default 1); repeatable",
        )
    strictness = parser.add_argument_group("strictness")
    strictness.add_argument("--strict", action="store_true", help="anything that cannot be applied is an error")
    strictness.add_argument(
        "--keep-dirlinks",
        action="store_true",
        help="a directory in a layer does not replace a symlink to a directory below it",
    )
    strictness.add_argument("--no-labels", action="store_true", help="write no labels next to the layout's blobs")
    limit_option(strictness)
    store = parser.add_argument_group("snapshot store")
    store_option(store)
    store.add_argument("--link", action="store_true", help="make DEST of hard links into the store, for reading only")
    store.add_argument("--no-sync", action="store_true", help="do not wait until the store is on the disk")
    parser.add_argument(
        "--jobs",
        metavar="N",
        help="stage layers in N processes at a time (default: as many as there are cores, at most 4)",
    )
    feedback_options(parser)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", metavar="LAYOUT", help="an OCI image layout directory")
    limit_option(parser)
    format_option(parser)


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    source_argument(parser)
    platform_option(parser)
    limit_option(parser)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    source_argument(parser)
    platform_option(parser)
    limit_option(parser)
    feedback_options(parser)
