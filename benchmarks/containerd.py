"""A private containerd below one directory: started for one run and ended after it, by its process id."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Self

from benchmarks.timing import FailedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATIENCE = 15.0
"""Seconds that it may take to start, or to end."""
SOCKET_LENGTH = 107
"""What the kernel takes as the address of a Unix socket."""
CONFIGURATION = """\
version = 2
root = {root}
state = {state}
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = {socket}
[ttrpc]
  address = {ttrpc}
[plugins."io.containerd.internal.v1.opt"]
  path = {opt}
"""


class Containerd:
    """A context: the server answers inside, and is gone outside.

    Args:
        directory: All its state goes below it.
        prefix: A command that runs the rest in its own place, as ``unshare --mount``.
    """

    def __init__(self, directory: Path, prefix: Sequence[str] = ()) -> None:
        self.socket = directory / "sock"
        self._directory, self._prefix = directory, prefix

    @property
    def pid(self) -> int:
        """Its process id, which is its session's, too."""
        return self._process.pid

    def __enter__(self) -> Self:
        if len(f"{self.socket}.ttrpc") > SOCKET_LENGTH:
            raise FailedError(f"the path of its socket is too long: {self.socket}")
        log = self._directory / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*self._prefix, "containerd", "-c", str(self._configuration())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _configuration(self) -> Path:
        places = {name: str(self._directory / name) for name in ("root", "state", "opt")}
        sockets = {"socket": str(self.socket), "ttrpc": f"{self.socket}.ttrpc"}
        path = self._directory / "config.toml"
        # A JSON string is a TOML string.
        path.write_text(CONFIGURATION.format(**{name: json.dumps(at) for name, at in (places | sockets).items()}))
        return path

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < until:
            asked = subprocess.run(
                ["ctr", "-a", str(self.socket), "--timeout", "2s", "version"], capture_output=True, check=False
            )
            if asked.returncode == 0:
                return
            time.sleep(0.1)
        said = (self._directory / "log").read_text(errors="replace").splitlines()[-1:]
        raise FailedError(f"containerd does not start: {' '.join(said) or 'no log'}"[:400])

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
