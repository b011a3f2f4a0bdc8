# SPDX-License-Identifier: Apache-2.0
"""One way from an application to one at the next node, durable at both: idle, and under load for each precedence.

A message is on the disk of the first node before its sender is told so (it leaves meanwhile), and on that of the second
before the application there has it. Under load another client sends 16 KiB ROUTINE messages the same way all the while.
All share this machine's cores.

    python -m tests.bench.latency [--quick] [--json]
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from meshd.client.client import Client
from meshd.control.words import PRECEDENCE_NAMES
from tests.bench.file_transfer import CONFIG
from tests.bench.ping import fdatasync_ms, wait_for_link
from tests.bench.support.harness import ROOT, BenchError, Daemon, free_port, print_table, quick_share, run_main, scratch

SIZE_BYTES: Final = 64
WARM_UP: Final = 200
IDLE_MESSAGES: Final = 3000
IDLE_QUICK_MESSAGES: Final = 800
LOADED_MESSAGES: Final = 400
"""Of each precedence."""
LOADED_QUICK_MESSAGES: Final = 60
LOAD_SIZE_BYTES: Final = 16 * 1024
LOAD_PER_S: Final = 200
LOAD_SETTLES_S: Final = 1.0
TIMEOUT_S: Final = 20.0


class Way:
    """From a client of one daemon to a client of the other."""

    def __init__(self, sender: Client, receiver: Client) -> None:
        self._sender = sender
        self._receiver = receiver
        self._number = receiver.recv_open("latency")
        self._destination = f"{receiver.hello['node']}latency"

    def measure_ms(self, precedence: str) -> float:
        """One message, with its receiver waiting."""
        wish = {"receiver": self._number, "timeout_s": TIMEOUT_S, "data_max_bytes": SIZE_BYTES}
        content = time.monotonic_ns().to_bytes(SIZE_BYTES, "big")
        message = {"destination": self._destination, "precedence": precedence, "report": False, "data": content}
        poll = self._receiver.start("recv.next", wish)
        begin = time.monotonic()
        sending = self._sender.start("send.message", message)
        offer = self._receiver.finish(poll, 2 * TIMEOUT_S)
        took_s = time.monotonic() - begin
        if offer["data"] != content:
            raise BenchError("what arrived is not what was sent")
        self._sender.finish(sending)
        self._receiver.recv_confirm(self._number, offer["message"])
        return took_s * 1000


@contextmanager
def load(socket_path: Path) -> Iterator[None]:
    """Another client keeps both daemons busy."""
    command = [sys.executable, "-m", "tests.bench.support.load", str(socket_path), "dtn://bravo/load"]
    with subprocess.Popen([*command, str(LOAD_SIZE_BYTES), str(LOAD_PER_S)], cwd=ROOT) as process:
        time.sleep(LOAD_SETTLES_S)
        try:
            yield
            if process.poll() is not None:
                raise BenchError("the load has ended early")
        finally:
            process.kill()


def percentiles(times: list[float]) -> tuple[float, float, float]:
    """p50, p95, p99."""
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[94], cuts[98]


def run(directory: Path, quick: bool) -> dict[str, list[float]]:
    """Two daemons and two clients; the times by what was measured."""
    ports, names = (free_port(), free_port()), ("alpha", "bravo")
    configs = [
        CONFIG.format(
            name=names[index],
            other=names[1 - index],
            directory=directory / names[index],
            port=ports[index],
            other_port=ports[1 - index],
        )
        for index in range(2)
    ]
    sockets = [directory / name / "control.sock" for name in names]
    with (
        Daemon(directory / "alpha", configs[0]),
        Daemon(directory / "bravo", configs[1]),
        Client(str(sockets[0])) as sender,
        Client(str(sockets[1])) as receiver,
    ):
        wait_for_link(sender)
        way = Way(sender, receiver)
        for _ in range(WARM_UP):
            way.measure_ms("ROUTINE")
        share = quick_share()
        idle = int(IDLE_QUICK_MESSAGES * share) if quick else IDLE_MESSAGES
        times = {
            "idle": [way.measure_ms("ROUTINE") for _ in range(idle)],
            **{name: [] for name in PRECEDENCE_NAMES},
        }
        with load(sockets[0]):
            for _ in range(int(LOADED_QUICK_MESSAGES * share) if quick else LOADED_MESSAGES):
                for name in PRECEDENCE_NAMES:  # in turns, so that all meet the same load
                    times[name].append(way.measure_ms(name))
    return times


def measure(quick: bool) -> dict[str, float]:
    """Prints the table."""
    with scratch() as directory:
        syncs = fdatasync_ms(directory)
        times = run(directory, quick)
        syncs += fdatasync_ms(directory)
    idle = percentiles(times["idle"])
    figures = {"latency_p50_ms": idle[0], "latency_p95_ms": idle[1], "latency_p99_ms": idle[2]}
    rows = [("", "messages", "p50 ms", "p95 ms", "p99 ms")]
    for name, each in times.items():
        p50, p95, p99 = percentiles(each)
        rows.append((name, str(len(each)), f"{p50:.3f}", f"{p95:.3f}", f"{p99:.3f}"))
        if name != "idle":
            figures[f"latency_{name.lower()}_p95_ms"] = p95
    figures["fdatasync_p50_ms"] = statistics.median(syncs)
    print_table(
        f"one way of {SIZE_BYTES} bytes between applications, durable at both nodes; by precedence under"
        f" {LOAD_PER_S} messages of {LOAD_SIZE_BYTES // 1024} KiB a second (fdatasync"
        f" {figures['fdatasync_p50_ms']:.3f} ms)",
        rows,
    )
    return figures


if __name__ == "__main__":
    sys.exit(run_main("One-way latency from application to application, durable.", measure))
