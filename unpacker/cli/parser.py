"""What all parsers of the command line share: how they look, how they fail, the options of several verbs.

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
    "document_values",
    "document_depth",
    "index_depth",
    "index_manifests",
    "layers",
    "image_bytes",
    "entries",
    "path_bytes",
    "path_depth",
    "header_bytes",
    "xattrs",
    "xattr_bytes",
    "memory_bytes",
    "sparse_segments",
    "layer_bytes",
    "ratio",
    "ratio_floor",
    "free_bytes",
    "zstd_window_log",
)

# What `unpacker.cli.failures` gives; a test keeps them the same.
EXIT_STATUSES = """\
exit status:
  0  done
  1  failure of the program itself
  2  usage: an option, a reference or a platform that cannot be read
  3  not found: no such layout, reference, platform, blob or snapshot
  4  integrity: the bytes are not what they are said to be
  5  content: intact, and unsafe, unsupported or beyond a limit
  6  filesystem: permissions, space, a DEST that cannot be used
  130, 143, 129  stopped by SIGINT, SIGTERM, SIGHUP
  141  nobody read standard output to its end
"""

SOURCE = "LAYOUT[:TAG|@DIGEST]"
STORE_VARIABLE = "UNPACK_STORE"


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of printing, and prints through `streams`.

    Attributes:
        intermixed: Whether options may stand among arguments of which there may be any number.
    """

    intermixed = False

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read what is known."""
        if not self.intermixed:
            return super().parse_known_args(args, namespace)
        self.intermixed = False  # It comes back here.
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.intermixed = True

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


def epilog(*examples: str) -> str:
    """Give the end of a verb's help."""
    return "".join(("examples:\n", *(f"  {example}\n" for example in examples), "\n", EXIT_STATUSES))


def version_option(parser: argparse.ArgumentParser) -> None:
    """Add what prints the version."""
    parser.add_argument("--version", action=_Version, help="print the version and exit")


def source_argument(parser: argparse.ArgumentParser) -> None:
    """Add the image: a layout, and which one of it."""
    parser.add_argument(
        "source",
        metavar="LAYOUT",
        help="an OCI image layout directory, with :TAG or @DIGEST if it has more than one image",
    )


def platform_option(parser: argparse.ArgumentParser) -> None:
    """Add which image of an index."""
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="which image of an index (default: this host's)"
    )


def limit_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add how much an image may ask for."""
    parser.add_argument(
        "--limit",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set one limit on what the image may ask for, 4096 or 20G (K M G T: powers of 1024); repeatable; "
        "names: " + ", ".join(LIMIT_NAMES),
    )


def format_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add text or JSON."""
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json: one JSON object on standard output, for an error too",
    )


def feedback_options(parser: argparse.ArgumentParser) -> None:
    """Add what a run says while it goes on."""
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
    format_option(group)


def store_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add which snapshot store."""
    parser.add_argument(
        "--store",
        metavar="DIR",
        help=f"the snapshot store (default: {STORE_VARIABLE} in the environment; '' is none)",
    )


def store_of(arguments: argparse.Namespace) -> str | None:
    """Give the store that was asked for, if any; the empty one is none."""
    asked = arguments.store if arguments.store is not None else os.environ.get(STORE_VARIABLE)
    return asked or None
