# SPDX-License-Identifier: Apache-2.0
"""Round trip of a 64-byte ping between two daemons on loopback, durable at both, beside this disk's fdatasync.

Client, daemon, daemon and back: the ping leaves while it is written, and is on the disk here before the client is told
that it is; its answer leaves while it is written, and is on the disk there before the ping is acknowledged; it is on
the disk here before the client has it. All share the cores of this machine.

    python -m tests.bench.ping [--quick] [--json]
"""

import io
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from meshd.client.client import Client
from meshd.ctl.commands.ping import PingRun
from meshd.ctl.output import Output
from tests.bench.file_transfer import CONFIG
from tests.bench.support.harness import BenchError, Daemon, free_port, print_table, quick_share, run_main, scratch

SIZE_BYTES: Final = 64
WARM_UP: Final = 200
PINGS: Final = 5000
QUICK_PINGS: Final = 1000
SYNCS: Final = 300
SYNC_BYTES: Final = 512
CONNECT_TIMEOUT_S: Final = 20.0
TIMEOUT_S: Final = 10.0


def fdatasync_ms(directory: Path) -> list[float]:
    """How long appending a little and syncing takes on this disk."""
    times = []
    with (directory / "sync").open("wb", buffering=0) as file:
        file.write(bytes(SYNC_BYTES * SYNCS))
        os.fsync(file.fileno())
        file.seek(0)
        for _ in range(SYNCS):
            file.write(bytes(SYNC_BYTES))
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1000)
    return times


def ping(client: Client, count: int) -> list[float]:
    """Round-trip times in ms, one after the other."""
    run = PingRun(
        client, "dtn://bravo/echo", SIZE_BYTES, "ROUTINE", TIMEOUT_S, Output(as_json=True, stdout=io.StringIO())
    )
    run.ping(count, 0.0)
    if len(run.times_ms) != count:
        raise BenchError(f"{count - len(run.times_ms)} of {count} answers did not come")
    return run.times_ms


def wait_for_link(client: Client) -> None:
    """Until the two daemons have a session."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while not any(link["state"] == "up" for link in client.links()):
        if time.monotonic() > deadline:
            raise BenchError("the daemons found no way to each other")
        time.sleep(0.05)


def measure(quick: bool) -> dict[str, float]:
    """Two daemons, one client; prints the table."""
    ports = free_port(), free_port()
    with scratch() as directory:
        syncs = fdatasync_ms(directory)
        names = "alpha", "bravo"
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
        with (
            Daemon(directory / "alpha", configs[0]),
            Daemon(directory / "bravo", configs[1]),
            Client(str(directory / "alpha" / "control.sock")) as client,
        ):
            wait_for_link(client)
            ping(client, WARM_UP)
            times = ping(client, int(QUICK_PINGS * quick_share()) if quick else PINGS)
        syncs += fdatasync_ms(directory)
    figures = {
        "rtt_avg_ms": statistics.mean(times),
        "rtt_p50_ms": statistics.median(times),
        "rtt_p99_ms": statistics.quantiles(times, n=100)[98],
        "fdatasync_p50_ms": statistics.median(syncs),
    }
    figures["limit_ms"] = 1.0 + 4 * figures["fdatasync_p50_ms"]
    rows = [("figure", "ms"), *((name.removesuffix("_ms"), f"{value:.3f}") for name, value in figures.items())]
    print_table(f"{SIZE_BYTES}-byte ping between two daemons on loopback, durable at both ({len(times)} pings)", rows)
    return figures


if __name__ == "__main__":
    sys.exit(run_main("Round trip of a small ping between two durable daemons.", measure))
