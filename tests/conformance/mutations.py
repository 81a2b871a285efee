"""Whether the suite notices: the package with one line changed must fail the tests of the rule that it breaks.

``python -m tests.conformance.mutations [spec_NNN ...]`` copies the project to a temporary directory, makes one change
at a time there, and runs ``pytest -k`` of its rule on it.  It takes minutes, so it is run by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
COPIED = ("unpacker", "tests", "benchmarks", "fixtures", "docs", "pyproject.toml")


class Mutation(NamedTuple):
    """One line of the package, changed."""

    key: str
    """The rule that it breaks."""
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation("spec_002", "content/layout.py", "if version.text() != _VERSION:", "if not version.text():"),
    Mutation("spec_006", "content/blob.py", "if actual != self.digest.encoded:", "if False:"),
    Mutation("spec_008", "resolve.py", "found = [each for each in named if _is_known(each)]", "found = list(named)"),
    Mutation("spec_012", "content/blob.py", "if not stat.S_ISREG(mode):", "if stat.S_ISDIR(mode):"),
    Mutation("spec_015", "spec/digest.py", "match = _GRAMMAR.fullmatch(text)", "match = _GRAMMAR.match(text)"),
    Mutation(
        "spec_020",
        "spec/strictjson.py",
        "isinstance(content, int) and not isinstance(content, bool) and",
        "isinstance(content, int) and",
    ),
    Mutation("spec_021", "content/blob.py", "if actual != descriptor.size:", "if actual < descriptor.size:"),
    Mutation("spec_022", "spec/descriptor.py", "strict_mode=True", "strict_mode=False"),
    Mutation("spec_027", "spec/strictjson.py", "if len(found) < len(pairs):", "if len(found) < 0:"),
    Mutation(
        "spec_031", "spec/documents.py", '_refuse(document, ("config", "layers", "fsLayers"), "an index")', "pass"
    ),
    Mutation("spec_036", "resolve.py", "(best is None or found < best[0])", "(best is None or found <= best[0])"),
    Mutation("spec_037", "resolve.py", "if not _ABOUT_IMAGES.isdisjoint(descriptor.annotations.items()):", "if False:"),
    Mutation("spec_043", "spec/mediatypes.py", '("none", "gzip", "zstd")', '("none", "gzip")'),
    Mutation("spec_051", "layer/stream.py", "if actual != expected.encoded:", "if not actual:"),
    Mutation("spec_053", "spec/chain.py", '{chain[-1]} {diff_id}"', '{chain[-1]}{diff_id}"'),
    Mutation("spec_059", "archive/gzipstream.py", "while _skip_header(pieces):", "if _skip_header(pieces):"),
    Mutation("spec_062", "tree/attributes.py", "if (uid, gid) == self._own:", "if uid == self._own[0]:"),
    Mutation("spec_067", "layer/settle.py", "below.remove(old, name)\n            try:", "pass\n            try:"),
    Mutation(
        "spec_068",
        "tree/attributes.py",
        "return Attributes(IMPLIED_MODE, 0, 0, 0)",
        "return Attributes(0o700, 0, 0, 0)",
    ),
    Mutation("spec_070", "layer/walk.py", "        child.opaque = True", "        child.opaque = False"),
    Mutation("spec_071", "layer/names.py", "del found[-1:]", "pass"),
    Mutation("spec_074", "layer/overlay.py", "child.opaque or hides.covers(path, name)", "child.opaque"),
    Mutation("spec_075", "layer/settle.py", "found.all.add(directory.path)", "pass"),
    Mutation("spec_076", "layer/names.py", 'WHITEOUT + b".", WHITEOUT + b".."', 'WHITEOUT + b"."'),
    Mutation("spec_i_04", "layer/overlay.py", "path in hides.all and path:", "path in hides.all:"),
    Mutation("spec_j_15", "archive/reader.py", "if self._take(BLOCK) != ZERO_BLOCK:", "if not self._take(BLOCK):"),
)


def main(keys: list[str]) -> int:
    """Try all mutations, or those of some rules; give how many were not noticed."""
    chosen = [one for one in MUTATIONS if not keys or one.key in keys]
    missed = 0
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        for name in COPIED:
            if (PROJECT / name).is_dir():
                shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "labels"))
            else:
                shutil.copy(PROJECT / name, copy / name)
        if _fails(copy, " or ".join(one.key for one in chosen)):
            raise SystemExit("the tests fail without a mutation")
        for one in chosen:
            path = copy / "unpacker" / one.file
            text = path.read_text()
            if text.count(one.old) != 1:
                raise SystemExit(f"{one.file}: not there once: {one.old}")
            path.write_text(text.replace(one.old, one.new))
            noticed = _fails(copy, one.key)
            path.write_text(text)
            missed += not noticed
            sys.stdout.write(
                f"{one.key}  {'noticed' if noticed else 'MISSED '}  {one.file}: {one.new.splitlines()[0]}\n"
            )
            sys.stdout.flush()
    return missed


def _fails(copy: Path, which: str) -> bool:
    """Run the tests on the copy; whether one of them fails.  Anything else than passed or failed ends it all."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", which, "tests/conformance"]
    command += ["--deselect", "tests/conformance/test_page.py", f"--basetemp={copy.parent / 'base'}"]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
