"""What a run says on stderr: progress, warnings, losses, and the summary at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from unpacker.cli.progress import Display, display
from unpacker.cli.text import amount, count, duration, prefix
from unpacker.errors import quoted
from unpacker.events import BlobDone, CopyEvent, Event, LossKind, Lost, Report, Warned

if TYPE_CHECKING:
    from argparse import Namespace
    from types import TracebackType

_MOST_WARNINGS = 10


class Feedback:
    """Listens to the events of one run.

    Warnings are held back to the end, where they can be seen, and cut there; with ``verbose`` each of them, each loss
    and each blob of a copy, is a line at once.  With ``quiet`` nothing is said at all.
    """

    def __init__(self, shown: Display, *, program: str, quiet: bool = False, verbose: bool = False) -> None:
        self._display = shown
        self._program = program
        self._quiet = quiet
        self._verbose = verbose
        # The first few only: an image can make a warning of each of its entries.
        self._warnings: list[str] = []
        self._warned = 0

    @classmethod
    def on_stderr(cls, arguments: Namespace) -> Self:
        """Give the feedback that the options ask for."""
        return cls(
            display(arguments.progress, quiet=arguments.quiet),
            program=arguments.program,
            quiet=arguments.quiet,
            verbose=arguments.verbose,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Of a run that failed, too: what was odd may be why.
        self.close()

    def on_event(self, event: Event | CopyEvent) -> None:
        """Take an event in."""
        match event:
            case BlobDone() if self._verbose:
                how = "there already" if event.shared else amount(event.size)
                self._display.say(f"blob {prefix(event.digest)}: {how}")
                self._display.show(event)
            case Warned():
                self._take_warning(event.message)
            case Lost() if self._verbose:
                self._display.say(f"not applied: {event.kind} of {quoted(event.path)}: {event.reason}")
            case Lost():
                return
            case _:
                self._display.show(event)

    def _take_warning(self, message: str) -> None:
        if self._verbose:
            self._display.say(self._warning(message))
            return
        self._warned += 1
        if len(self._warnings) < _MOST_WARNINGS:
            self._warnings.append(message)

    def _say_warnings(self) -> None:
        if not self._quiet:
            for message in self._warnings:
                self._display.say(self._warning(message))
            if self._warned > len(self._warnings):
                self._display.say(
                    f"{self._program}: and {count(self._warned - len(self._warnings), 'more warning')}, see -v"
                )
        self._warnings.clear()
        self._warned = 0

    def _warning(self, message: str) -> str:
        return f"{self._program}: warning: {message}"

    def close(self) -> None:
        """Take the progress away, and say the warnings that were held back."""
        self._display.close()
        self._say_warnings()

    def finish(self, report: Report) -> None:
        """Say what the run did: the last lines of one that went well."""
        self.close()
        if self._quiet:
            return
        self._display.say(summary(report))
        for kind, number in report.losses.items():
            if number:
                self._display.say(loss_line(kind, number, report.loss_samples.get(kind)))

    def say(self, line: str) -> None:
        """Write a line of the verb's own, unless quiet."""
        if not self._quiet:
            self._display.say(line)


def summary(report: Report) -> str:
    """Give what an unpack did on one line."""
    facts = (
        count(report.layers, "layer"),
        count(report.entries, "entry", "entries"),
        f"{amount(report.blob_bytes)} read",
        f"{amount(report.tar_bytes)} written",
        duration(report.seconds),
    )
    return f"unpacked {report.name} ({report.platform}) to {report.dest}: {', '.join(facts)}"


def loss_line(kind: LossKind, number: int, sample: str | None) -> str:
    """Give one kind of loss on one line: what, of how many entries, and why, by the example of one."""
    entries = count(number, "entry", "entries")
    match kind:
        case LossKind.OWNER:
            what = f"owner of {entries}"
        case LossKind.DEVICE:
            what = count(number, "device node")
        case LossKind.XATTR:
            what = f"extended attributes of {entries}"
        case LossKind.MODE:
            what = f"mode bits of {entries}"
        case LossKind.LINK:
            what = f"{count(number, 'hard link')}, copied instead"
        case LossKind.MTIME:
            what = f"time of {entries}"
    return f"not applied: {what}" + (f" ({sample})" if sample else "")
