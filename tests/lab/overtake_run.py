# SPDX-License-Identifier: Apache-2.0
"""FLASH messages of 1 KiB while a large ROUTINE file fills the line: how long each of them takes.

    python -m tests.lab.overtake_run --mib 1024 --rate 200 [--single]

Two daemons in network namespaces of their own, between them a wire that `tc tbf` holds to the rate (Mbit/s) both ways.
A FLASH message is sent each half second as long as the file is under way; its time is from the call that opens it to
the moment when the receiving application is told of it. All have to arrive within a second. One line of figures; exit
code 1 when one is late, or the file is done before enough of them were sent. Needs root.

A file is many bundles of 1 MiB. With `--single` all of it is one bundle, which a foreign node has brought to the first
daemon for a node behind the second: it is one transfer, which a message can only overtake in another session.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from meshd.client.client import Client
from meshd.control.errors import ControlError
from tests.bench.file_transfer import Client as FileClient
from tests.bench.file_transfer import make_file
from tests.bench.support.harness import ROOT, Daemon
from tests.bench.support.traffic import dtn_now_ms
from tests.lab.gate_netns import inside, new_namespace

MIB: Final = 1 << 20
FLASH_BYTES: Final = 1024
FLASH_EVERY_S: Final = 0.5
FLASH_MAX_S: Final = 1.0
FLASH_LOST_S: Final = 30.0
MESSAGES_MIN: Final = 4
NEARLY_ALL: Final = 0.98
SINGLE_MAX_S: Final = 1800.0
UNDER_WAY_MBIT: Final = 8.0
"""The first FLASH message waits until so much of the file has left: only then it has something to overtake."""
PATIENCE: Final = "30min"
ADDRESSES: Final = {"alpha": "10.98.0.1", "bravo": "10.98.0.2"}
CONFIG: Final = """
[node]
id = "dtn://{name}/"
state_dir = "{directory}/state"
[control]
socket = "{directory}/control.sock"
[[bearer]]
name = "line0"
kind = "terrestrial"
listen = "{address}:4556"
rate = "{rate} Mbit/s"
[[neighbour]]
node = "dtn://{other}/"
bearer = "line0"
address = "{other_address}:4556"
[emcon]
gate = false
"""
FOREIGN: Final = """
[[bearer]]
name = "local0"
kind = "terrestrial"
device = "lo"
radiating = false
listen = "127.0.0.1:4557"
rate = "10 Gbit/s"
[[neighbour]]
node = "dtn://source/"
bearer = "local0"
[[route]]
destination = "dtn://sink/"
via = "dtn://bravo/"
"""
FOREIGN_PORT: Final = 4557


@contextlib.contextmanager
def shaped_wire(rate_mbit: int) -> Iterator[dict[str, int]]:
    """Two namespaces, by node, with a `line0` each."""
    with contextlib.ExitStack() as stack:
        spaces = {}
        for name in ADDRESSES:
            spaces[name] = new_namespace()
            stack.callback(os.close, spaces[name])
        far = spaces["bravo"]
        with inside(spaces["alpha"]):
            subprocess.run(
                [
                    "ip",
                    "link",
                    "add",
                    "line0",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "line0",
                    "netns",
                    f"/proc/self/fd/{far}",
                ],
                check=True,
                pass_fds=[far],
            )
        for name, space in spaces.items():
            with inside(space):
                for command in (
                    "ip link set lo up",
                    f"ip address add {ADDRESSES[name]}/24 dev line0",
                    "ip link set line0 up",
                    f"tc qdisc add dev line0 root tbf rate {rate_mbit}mbit burst 256kb latency 50ms",
                ):
                    subprocess.run(command.split(), check=True)
        yield spaces


class FlashReceiver(threading.Thread):
    """The application that FLASH messages are for; notes when it is told of each."""

    def __init__(self, socket_path: Path) -> None:
        super().__init__(name="flash receiver", daemon=True)
        self._socket_path = str(socket_path)
        self.arrived: dict[str, float] = {}
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        with Client(self._socket_path) as client:
            receiver = client.recv_open("flash")
            while not self._stopping.is_set():
                try:
                    message = client.recv_next(receiver, 0.5)
                except ControlError as error:
                    if error.name != "timeout":
                        raise
                    continue
                self.arrived[message.message] = time.monotonic()
                client.recv_confirm(receiver, message.message)

    def stop(self) -> None:
        """Before its daemon ends."""
        self._stopping.set()
        self.join(FLASH_LOST_S)


class Bulk(Protocol):
    """What is to be overtaken."""

    def poll(self) -> bool:
        """False when it is over."""


class SingleBundle:
    """One bundle that has been brought to the node in this namespace; over when nearly all of it has left."""

    def __init__(self, space: int, size_mib: int) -> None:
        self._space = space
        self._end_mbit = sent_mbit(space) + size_mib * MIB * 8e-6 * NEARLY_ALL
        self._deadline = time.monotonic() + SINGLE_MAX_S

    def poll(self) -> bool:
        """See Bulk."""
        return sent_mbit(self._space) < self._end_mbit and time.monotonic() < self._deadline


@contextlib.contextmanager
def brought_bundle(space: int, size_mib: int) -> Iterator[SingleBundle]:
    """A foreign node hands it over."""
    bundle = SingleBundle(space, size_mib)
    with inside(space):
        command = [sys.executable, "-m", "tests.bench.support.large_traffic", "source"]
        arguments = [FOREIGN_PORT, size_mib * MIB, dtn_now_ms()]
        source = subprocess.Popen([*command, *map(str, arguments)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield bundle
    finally:
        source.terminate()
        source.wait()


def send_flashes(client: Client, file: Bulk, space: int) -> dict[str, float]:
    """One each half second while the file is under way: message ID to the time when it was begun."""
    begun: dict[str, float] = {}
    first_mbit = sent_mbit(space)
    while file.poll() and sent_mbit(space) - first_mbit < UNDER_WAY_MBIT:
        time.sleep(0.01)
    while file.poll():
        began = time.monotonic()
        sent = client.send_bytes("dtn://bravo/flash", bytes(FLASH_BYTES), precedence="FLASH")
        begun[sent.message] = began
        time.sleep(max(0.0, began + FLASH_EVERY_S - time.monotonic()))
    return begun


def send_beside_a_file(client: Client, base: Path, space: int) -> dict[str, float]:
    """The same until the file is with its receiver."""
    patience = ("--timeout", PATIENCE)
    file_out = FileClient(base / "bravo", "recv", "files", "--out", str(base / "out"), "--count", "1", *patience)
    path = str(base / "file")
    file = FileClient(base / "alpha", "send", "dtn://bravo/files", path, "--wait", "delivered", *patience)
    begun = send_flashes(client, file, space)
    file.finish()
    file_out.finish()
    return begun


def wait_for_flashes(receiver: FlashReceiver, begun: dict[str, float]) -> list[float]:
    """Seconds that each took; infinity for one that never came."""
    deadline = time.monotonic() + FLASH_LOST_S
    while not begun.keys() <= receiver.arrived.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
    return [receiver.arrived.get(message, float("inf")) - began for message, began in begun.items()]


def run(
    size_mib: int, rate_mbit: int, base: Path, *, is_single: bool = False, flash_max_s: float = FLASH_MAX_S
) -> tuple[str, list[str]]:
    """The whole run below a directory. Returns the line of figures and the problems."""
    if not is_single:
        make_file(base / "file", size_mib * MIB)
        (base / "out").mkdir()
    with shaped_wire(rate_mbit) as spaces, contextlib.ExitStack() as stack:
        for name, other in (("alpha", "bravo"), ("bravo", "alpha")):
            text = CONFIG.format(
                name=name,
                directory=base / name,
                address=ADDRESSES[name],
                rate=rate_mbit,
                other=other,
                other_address=ADDRESSES[other],
            )
            if is_single and name == "alpha":
                text += FOREIGN
            with inside(spaces[name]):
                stack.enter_context(Daemon(base / name, text))
        receiver = FlashReceiver(base / "bravo" / "control.sock")
        receiver.start()
        stack.callback(receiver.stop)
        with Client(str(base / "alpha" / "control.sock")) as client:
            began = time.monotonic()
            if is_single:
                with brought_bundle(spaces["alpha"], size_mib) as bundle:
                    begun = send_flashes(client, bundle, spaces["alpha"])
            else:
                begun = send_beside_a_file(client, base, spaces["alpha"])
        took_s = time.monotonic() - began
        times_s = wait_for_flashes(receiver, begun)
    return report(size_mib, rate_mbit, took_s, times_s, flash_max_s)


def sent_mbit(space: int) -> float:
    """What has left the namespace's device so far."""
    with inside(space):
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    fields = next(line.split() for line in lines if line.strip().startswith("line0:"))
    return int(fields[9]) * 8e-6


def report(
    size_mib: int, rate_mbit: int, took_s: float, times_s: list[float], flash_max_s: float = FLASH_MAX_S
) -> tuple[str, list[str]]:
    """The line of figures and what is wrong with them."""
    problems = [
        f"FLASH message {number} took {each:.3f} s" for number, each in enumerate(times_s) if each > flash_max_s
    ]
    if len(times_s) < MESSAGES_MIN:
        problems.append(f"only {len(times_s)} FLASH messages were sent while the file was under way")
    figures: dict[str, object] = {"file_mib": size_mib, "rate_mbit": rate_mbit, "file_s": round(took_s, 1)}
    figures["file_mbit_per_s"] = round(size_mib * MIB * 8e-6 / took_s, 1)
    figures["flash_messages"] = len(times_s)
    if times_s:
        figures["flash_p50_s"] = round(statistics.median(times_s), 4)
        figures["flash_max_s"] = round(max(times_s), 4)
    return "overtake " + " ".join(f"{key}={value}" for key, value in figures.items()), problems


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="FLASH messages while a large file fills the line")
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--rate", type=int, default=200, help="of the line, in Mbit/s")
    parser.add_argument("--single", action="store_true", help="one bundle instead of a file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meshd-overtake-", dir="/var/tmp") as directory:
        line, problems = run(arguments.mib, arguments.rate, Path(directory), is_single=arguments.single)
    sys.stdout.write(line + "\n")
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
