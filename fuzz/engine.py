"""One target in a process of its own: under the fuzzer, or on inputs that are there.

::

    python -m fuzz.engine TARGET CORPUS [option of libFuzzer ...]
    python -m fuzz.engine --replay TARGET FILE ...

The package is instrumented as a whole, before anything of it is imported; what is around it is not.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from hashlib import sha1
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from fuzz.target import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuzz.target import Target

_DICTIONARY = "words.txt"


def main(arguments: Sequence[str]) -> None:
    """Run one target."""
    if arguments[0] == "--replay":
        replay(arguments[1], [Path(name) for name in arguments[2:]])
    else:
        fuzz(arguments[0], Path(arguments[1]), arguments[2:])


def replay(name: str, files: Sequence[Path]) -> None:
    """Run a target on inputs, without the fuzzer."""
    target = load(name)
    for file in files:
        target.run(file.read_bytes())
        print(f"{file}: nothing found")


def fuzz(name: str, corpus: Path, options: Sequence[str]) -> None:
    """Run a target under the fuzzer, which ends the process."""
    import atheris  # noqa: PLC0415 -- only here; the tests have none

    with atheris.instrument_imports(include=["unpacker"]):
        _import_all("unpacker")
    target = load(name)
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    words = Path(os.environ["TMPDIR"]) / _DICTIONARY
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    own = [f"-dict={words}"] if target.words else []
    arguments = [name, *own, f"-max_len={target.longest}", *options, str(corpus)]
    # Looked up each time: Fuzz() puts another Mutate in the place of this one.
    mutator = _mutator(target, lambda data, most: atheris.Mutate(data, most))  # noqa: PLW0108
    atheris.Setup(arguments, target.run, custom_mutator=mutator)
    atheris.Fuzz()


def _import_all(package: str) -> None:
    """Import every module, as those that are only imported when they are needed would come too late."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _mutator(target: Target, mutate: Callable[[bytes, int], bytes]) -> Callable[[bytes, int, int], bytes]:
    """Give libFuzzer's own changes, and now and then, or in place of them, those that the target knows."""

    def changed(data: bytes, most: int, seed: int) -> bytes:
        chance = Random(seed)
        how = chance.randrange(4) if target.mutate is not None else 0
        if how != 1:
            data = mutate(data, most)
        if how and target.mutate is not None:
            data = target.mutate(data, chance)
        return data[:most]

    return changed


if __name__ == "__main__":
    main(sys.argv[1:])
