"""What can be said on the command line, and its help.

Values stay text here: `unpacker.cli.options` turns them into values of the library, whose modules this one must not
import, since ``--help`` would wait for them.  Whatever cannot be read becomes a `unpacker.errors.UsageError` like every
other error, on one line, in JSON if that was asked for.
"""

from __future__ import annotations

import argparse
import os
import sys

from unpacker.cli import streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from _typeshed import SupportsWrite

_WIDEST = 100

# The names in `unpacker.limits.Limits`; a test keeps them the same.
LIMIT_NAMES = (
    "document_bytes",
    "document_depth",
    "index_depth",
    "index_manifests",
    "layers",
    "entries",
    "path_bytes",
    "header_bytes",
    "xattr_bytes",
    "sparse_segments",
    "layer_bytes",
    "ratio",
    "ratio_floor",
    "zstd_window_log",
)

# What `unpacker.cli.failures` gives; a test keeps them the same.
EXIT_STATUSES = """\
exit status:
  0  done
  1  failure of the program itself
  2  usage: an option, a reference or a platform that cannot be read
  3  not found: no such layout, reference, platform or blob
  4  integrity: the bytes are not what they are said to be
  5  content: intact, and unsafe, unsupported or beyond a limit
  6  filesystem: permissions, space, a DEST that cannot be used
  130, 143, 129  stopped by SIGINT, SIGTERM, SIGHUP
  141  nobody read standard output to its end
"""

_UNPACK_EXAMPLES = """\
examples:
  {prog} ./layout rootfs                                the only image of a layout
  {prog} ./layout:v1.2 rootfs                           by tag
  {prog} ./layout@sha256:4f3c... rootfs                 by digest
  {prog} --platform linux/arm64/v8 ./layout:v1.2 rootfs
  {prog} --uid-map 0:100000:65536 --gid-map 0:100000:65536 ./layout rootfs
  {prog} --limit layer_bytes=20G --strict ./layout rootfs
  {prog} --format json ./layout rootfs >report.json

"""

_SOURCE = "LAYOUT[:TAG|@DIGEST]"


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of printing, and prints through `streams`."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise what could not be read."""
        from unpacker.errors import UsageError  # noqa: PLC0415 -- dataclasses cost more than argparse

        raise UsageError(message, advice=f"see '{self.prog} --help'")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if file is sys.stdout:
            streams.emit(message)
        else:
            super()._print_message(message, file)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal; asking for the width here keeps argparse from importing shutil and its codecs."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, max_help_position=26, width=_columns(), **kwargs)


def _columns() -> int:
    try:
        wide = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(1).columns
    except (OSError, ValueError):
        wide = 0
    return min(wide or 80, _WIDEST) - 2


class _Version(argparse.Action):
    """Print the version: looked up only here, since the lookup costs more than a whole ``--help``."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **kwargs)

    def __call__(
        self, parser: argparse.ArgumentParser, _namespace: object, _values: object, _option: str | None = None
    ) -> NoReturn:
        from importlib import metadata  # noqa: PLC0415 -- as said above

        try:
            version = metadata.version("oci-unpack")
        except metadata.PackageNotFoundError:  # run from a checkout
            version = "(not installed)"
        streams.emit(f"{parser.prog} {version}\n")
        parser.exit()


def unpack_parser(prog: str = "unpack") -> Parser:
    """Build the parser of ``unpack``."""
    parser = Parser(prog=prog, **_unpack_texts(prog))
    parser.set_defaults(program=prog)
    parser.add_argument("--version", action=_Version, help="print the version and exit")
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
    parser.add_argument("--version", action=_Version, help="print the version and exit")
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
            epilog=_epilog(f"{prog} list ./layout", f"{prog} list --format json ./layout"),
        )
    )
    _config_arguments(
        verbs.add_parser(
            "config",
            help="print the config of an image",
            usage=f"{prog} config [options] {_SOURCE}",
            description="Print the config of an image to standard output, byte for byte as the layout has it.",
            epilog=_epilog(f"{prog} config ./layout:v1.2", f"{prog} config ./layout | jq .config.Env"),
        )
    )
    _verify_arguments(
        verbs.add_parser(
            "verify",
            help="check every blob of an image",
            usage=f"{prog} verify [options] {_SOURCE}",
            description="Read every blob of an image and check digests, sizes and diff_ids.  Writes nothing.",
            epilog=_epilog(f"{prog} verify ./layout:v1.2", f"{prog} verify --format json ./layout"),
        )
    )
    return parser


def _epilog(*examples: str) -> str:
    return "".join(("examples:\n", *(f"  {example}\n" for example in examples), "\n", EXIT_STATUSES))


def _unpack_texts(prog: str) -> dict[str, Any]:
    return {
        "usage": f"{prog} [options] {_SOURCE} DEST",
        "description": "Turn a container image stored on disk into a root filesystem: every byte\n"
        "verified, DEST complete or not there at all.",
        "epilog": _UNPACK_EXAMPLES.format(prog=prog) + EXIT_STATUSES,
    }


def _unpack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(verb="unpack")
    _source_argument(parser)
    parser.add_argument("dest", metavar="DEST", help="the directory to make: not there yet, or empty")
    _platform_option(parser)
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
    _limit_option(strictness)
    _feedback_options(parser)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", metavar="LAYOUT", help="an OCI image layout directory")
    _limit_option(parser)
    _format_option(parser)


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    _source_argument(parser)
    _platform_option(parser)
    _limit_option(parser)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    _source_argument(parser)
    _platform_option(parser)
    _limit_option(parser)
    _feedback_options(parser)


def _source_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="LAYOUT",
        help="an OCI image layout directory, with :TAG or @DIGEST if it has more than one image",
    )


def _platform_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="which image of an index (default: this host's)"
    )


def _limit_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--limit",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set one limit on what the image may ask for, 4096 or 20G (K M G T: powers of 1024); repeatable; "
        "names: " + ", ".join(LIMIT_NAMES),
    )


def _format_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json: one JSON object on standard output, for an error too",
    )


def _feedback_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("feedback (on standard error)")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="nothing but errors")
    loudness.add_argument("-v", "--verbose", action="store_true", help="each warning and each loss, one line each")
    group.add_argument(
        "--progress",
        choices=("auto", "plain", "none"),
        default="auto",
        help="auto (default): a bar on a terminal, plain lines elsewhere",
    )
    _format_option(group)
