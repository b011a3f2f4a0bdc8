# SPDX-License-Identifier: Apache-2.0
"""Real daemons of a test: processes on loopback that can be killed and started again, each in a directory of its own.

Ready means two things that are waited for, not slept for: the daemon said so to its service manager, whose socket is
ours, and its control socket answers `status`.
"""

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from meshd.client.client import Client

READY_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.25


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that nobody uses now, and that the kernel gives to no outgoing connection meanwhile."""
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = random.SystemRandom().sample(range(10_000, max(first_ephemeral, 20_000)), 100 * count)
    found: list[int] = []
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"no {count} free ports among {len(candidates)}")


def configuration(directory: Path, name: str, port: int, neighbours: dict[str, int], *, extra: str = "") -> str:
    """Text of a configuration: one bearer on loopback without a gate, neighbours by name and port."""
    tables = [
        f'[node]\nid = "dtn://{name}/"\nstate_dir = "{directory}/state"\n{extra}',
        f'[control]\nsocket = "{directory}/control.sock"\n',
        "[emcon]\ngate = false\n",
        '[[bearer]]\nname = "lan0"\nkind = "terrestrial"\ndevice = "lo"\nrate = "1 Gbit/s"\nmark = 0\n'
        f'listen = "127.0.0.1:{port}"\n',
    ]
    tables += [
        f'[[neighbour]]\nnode = "dtn://{other}/"\nbearer = "lan0"\naddress = "127.0.0.1:{other_port}"\n'
        for other, other_port in neighbours.items()
    ]
    return "\n".join(tables)


class Process(Protocol):
    """What a test does with a running daemon; `subprocess.Popen` is one."""

    pid: int

    def poll(self) -> int | None:
        """None while it runs."""

    def kill(self) -> None:
        """SIGKILL."""

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""

    def send_signal(self, sig: int) -> None:
        """Any other signal."""


class DaemonProcess:
    """One meshd: its directory outlives its processes."""

    def __init__(self, directory: Path, name: str, port: int, neighbours: dict[str, int]) -> None:
        """Write the configuration; `start` runs it."""
        directory.mkdir(parents=True)
        self.directory = directory
        self.name = name
        self.port = port
        self.config = directory / "meshd.toml"
        self.config.write_text(configuration(directory, name, port, neighbours))
        self.socket_path = str(directory / "control.sock")
        self.process: Process | None = None
        self._notify: socket.socket | None = None

    def start(self) -> None:
        """Begin a process; it is not ready yet."""
        self._close()
        address = self.directory / "notify.sock"
        address.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(address))
        self._notify.settimeout(LOOK_EVERY_S)
        self.process = self.launch(str(address))

    def launch(self, notify_address: str) -> Process:
        """Run the program; its log is appended to."""
        environ = {key: value for key, value in os.environ.items() if key != "JOURNAL_STREAM"}
        with open(self.directory / "meshd.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "meshd.daemon.main", "--config", str(self.config)],
                env=environ | {"NOTIFY_SOCKET": notify_address},
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Until the daemon says that it is ready and its control socket answers."""
        self.wait_notified(b"READY=1")
        with self.client() as client:
            assert client.status()["node"] == f"dtn://{self.name}/"

    def wait_notified(self, line: bytes) -> None:
        """Until the daemon has told its service manager this."""
        assert self._notify is not None
        assert self.process is not None
        for _ in range(int(READY_TIMEOUT_S / LOOK_EVERY_S)):
            try:
                if line in self._notify.recv(4096).split(b"\n"):
                    return
            except TimeoutError:
                assert self.process.poll() is None, f"{self.name} ended:\n{self.log()}"
        raise AssertionError(f"{self.name} did not say {line!r} within {READY_TIMEOUT_S:g} s:\n{self.log()}")

    def client(self) -> Client:
        """A new session with it."""
        return Client(self.socket_path, name="test")

    def kill(self) -> None:
        """SIGKILL, by the PID that `start` got."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def log(self) -> str:
        """What its processes wrote to stderr."""
        return (self.directory / "meshd.log").read_text(errors="replace")

    def end(self) -> None:
        """Whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._close()

    def _close(self) -> None:
        if self._notify is not None:
            self._notify.close()


def make_pair(directory: Path, first: str = "alpha", second: str = "bravo") -> tuple[DaemonProcess, DaemonProcess]:
    """Two daemons that are each other's neighbours, not started yet."""
    one, two = free_ports(2)
    return (
        DaemonProcess(directory / first, first, one, {second: two}),
        DaemonProcess(directory / second, second, two, {first: one}),
    )
