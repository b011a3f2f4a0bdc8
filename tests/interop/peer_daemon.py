# SPDX-License-Identifier: Apache-2.0
"""A daemon of another implementation as a process on the loopback device, driven by its interface for applications.

It speaks one convergence layer with meshd. Ports are fixed: the namespace of `peers_run` holds nobody else.
"""

import itertools
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CLA_PORT: Final = 14556
"""Where the peer listens for meshd."""
WEB_PORT: Final = 18080
START_PATIENCE_S: Final = 20.0
LOOK_EVERY_S: Final = 0.1
APPLICATION: Final = "incoming"
NODE: Final = "dtn://peer/"


class PeerError(Exception):
    """The other daemon did not start, or refused what it was asked."""


def ask(path: str, data: bytes | None = None) -> bytes:
    """One HTTP request to the peer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{WEB_PORT}{path}", data, START_PATIENCE_S) as reply:
        content: bytes = reply.read()
    return content


class PeerDaemon(ABC):
    """A daemon of others; its folder, and so its store, outlives its processes."""

    endpoint = f"{NODE}{APPLICATION}"
    """Where its application receives."""
    ways: tuple[tuple[str, str], ...] = (("mtcp", "both"), ("tcpclv4", "meshd"), ("tcpclv4", "peer"))
    """How it can be connected: the convergence layer, and who dials."""
    left_out: Mapping[tuple[str, str], str] = {}
    """What it can't do: convergence layer and case to the reason."""

    def __init__(self, program: Path, folder: Path, cl: str, dials: str | None) -> None:
        """`cl` is mtcp or tcpclv4; `dials` is where meshd listens, None when meshd dials."""
        folder.mkdir(parents=True)
        self._program = program
        self._folder = folder
        self._cl = cl
        self._dials = dials
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()

    def start(self) -> None:
        """Run it until its interface for applications answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                self._register()
            except (urllib.error.URLError, ConnectionError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise PeerError(f"{self._program} did not start; see {self._folder}/log") from error
                time.sleep(LOOK_EVERY_S)
            else:
                return

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _write(self, name: str, text: str) -> str:
        (self._folder / name).write_text(text)
        return name

    @abstractmethod
    def _command(self) -> list[str]:
        """What to run, the configuration written."""

    @abstractmethod
    def _register(self) -> None:
        """Become the receiver of the endpoint; fails with a URLError until the daemon is there."""

    @abstractmethod
    def send(self, destination: str, text: bytes) -> None:
        """Let it make a bundle of its own. ASCII: not every interface takes more."""

    @abstractmethod
    def relay(self, bundle: bytes) -> None:
        """Let it forward this bundle."""

    @abstractmethod
    def received(self) -> list[bytes]:
        """Payloads that reached the endpoint since the last call."""
