# SPDX-License-Identifier: Apache-2.0
"""A real `meshd` process on the loopback device for tests of interoperation: ready when it says so, no fixed ports."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshd.client.client import Client
from tests.interop.line_reader import LineReader

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """\
[node]
id = "{node}"
state_dir = "{folder}/state"
[control]
socket = "{folder}/control.sock"
[aap2]
socket = "{folder}/aap2.sock"
[[bearer]]
name = "lo"
kind = "terrestrial"
rate = "1 Gbit/s"
mark = 0
{bearer}
[emcon]
gate = false
{rest}
"""


class DaemonProcess:
    """One running daemon."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        assert process.stderr is not None
        self._process = process
        self.control = folder / "control.sock"
        self.aap2 = folder / "aap2.sock"
        self.journal = LineReader(process.stderr)

    def address(self, key: str = "listen") -> str:
        """Where it listens, from its journal."""
        line = self.journal.wait_for(f" {key}=")
        return line.split(f" {key}=")[1].split()[0].strip('"')

    def client(self) -> Client:
        """On its control socket."""
        return Client(str(self.control))

    def stop(self) -> None:
        """End it in order."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            self.journal.close()


@contextmanager
def daemon(folder: Path, node: str, bearer: str = "", rest: str = "") -> Iterator[DaemonProcess]:
    """Run a daemon with these lines in its [[bearer]] table and behind everything."""
    folder.mkdir()
    path = folder / "meshd.toml"
    path.write_text(CONFIG.format(node=node, folder=folder, bearer=bearer, rest=rest))
    process = subprocess.Popen(
        [sys.executable, "-m", "meshd.daemon.main", "--config", str(path)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in {"NOTIFY_SOCKET", "JOURNAL_STREAM"}},
        stderr=subprocess.PIPE,
    )
    running = DaemonProcess(process, folder)
    try:
        running.journal.wait_for("node.ready")
        yield running
    finally:
        running.stop()
