# SPDX-License-Identifier: Apache-2.0
"""One bundle of 4 GiB through one durable node: source -> meshd -> sink over loopback TCPCLv4, never whole in memory.

Peak memory of the daemon is the kernel's VmHWM. Then a smaller one whose daemon is killed in the middle: after its
restart nothing of the half is left, and the source's retransmission arrives once.

    python -m tests.bench.large_bundle [--size 4GiB] [--quick] [--json]
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from meshd.base.units import parse_size_bytes
from tests.bench.file_transfer import peak_mb
from tests.bench.support.harness import BenchError, Daemon, free_port, helper, print_table, scratch
from tests.bench.support.process import folder_mb
from tests.bench.support.relay import CONFIG
from tests.bench.support.traffic import dtn_now_ms

TRAFFIC: Final = "tests.bench.support.large_traffic"
SIZE: Final = "4 GiB"
QUICK_SIZE: Final = "256 MiB"
KILLED_BYTES: Final = 192 * 1024 * 1024
PATIENCE_S: Final = 60.0


def config_of(directory: Path, port: int, sink_port: int) -> str:
    """The relay of the other benchmarks, with room for the bundle."""
    config = CONFIG.format(
        name="relay", directory=directory, port=port, previous="source", following="sink", following_port=sink_port
    )
    return config.replace('quota = "8 GiB"', 'quota = "16 GiB"')


def pass_one(size_bytes: int) -> dict[str, float]:
    """Send it through."""
    with scratch() as directory, helper(TRAFFIC, "sink") as sink:
        port = free_port()
        config = config_of(directory, port, sink.read()["port"])
        with Daemon(directory, config) as daemon:
            idle_mb = peak_mb(daemon.pid)
            with helper(TRAFFIC, "source", port, size_bytes, dtn_now_ms()) as source:
                begin: float = source.read()["begin"]
                stored: float = source.read()["end"]
                arrived = sink.read()
            figures = {
                "large_mbit_per_s": size_bytes * 8e-6 / (arrived["end"] - begin),
                "large_in_mbit_per_s": size_bytes * 8e-6 / (stored - begin),
                "large_rss_idle_mb": idle_mb,
                "large_rss_peak_mb": peak_mb(daemon.pid),
                "cpu_s_per_gib_large": daemon.cpu_s() / (size_bytes / 2**30),
            }
    if arrived["size_bytes"] < size_bytes:
        raise BenchError(f"{arrived['size_bytes']} bytes arrived of {size_bytes}")
    return figures


def survive_kill(size_bytes: int) -> dict[str, float]:
    """Kill the daemon when about half of it is on its disk."""
    time_ms = dtn_now_ms()
    with scratch() as directory, helper(TRAFFIC, "sink") as sink:
        port = free_port()
        config = config_of(directory, port, sink.read()["port"])
        store = directory / "state" / "store"
        with Daemon(directory, config) as daemon, helper(TRAFFIC, "source", port, size_bytes, time_ms):
            wait_for_large_file(store, size_bytes // 2)
            os.kill(daemon.pid, signal.SIGKILL)
        half_mb = folder_mb(store)
        with Daemon(directory, config):
            left_mb = folder_mb(store)
            with helper(TRAFFIC, "source", port, size_bytes, time_ms) as source:
                begin: float = source.read()["begin"]
                while "end" not in (arrived := sink.read()):
                    pass  # the session with the daemon that was killed
                seconds = arrived["end"] - begin
    if left_mb > half_mb / 2:
        raise BenchError(f"{left_mb:.0f} MB of {half_mb:.0f} MB are left after the restart")
    print(f"  killed when {half_mb:.0f} MB were stored, {left_mb:.0f} MB after the restart")
    return {"large_after_kill_s": seconds}


def wait_for_large_file(store: Path, size_bytes: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not any(path.stat().st_size >= size_bytes for path in store.glob("*")):
        if time.monotonic() > deadline:
            raise BenchError("the daemon does not store what it is sent")
        time.sleep(0.002)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="One large bundle through one durable node, and a kill in the middle.")
    parser.add_argument("--size", help=f"of its payload; {SIZE} if not said, {QUICK_SIZE} with --quick")
    parser.add_argument("--quick", action="store_true", help="under 50 s")
    parser.add_argument("--json", action="store_true", help="end with one line: a JSON object, figure name to number")
    arguments = parser.parse_args()
    size = arguments.size or (QUICK_SIZE if arguments.quick else SIZE)
    try:
        size_bytes = parse_size_bytes(size)
        figures = pass_one(size_bytes) | survive_kill(min(KILLED_BYTES, size_bytes))
    except (BenchError, ValueError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    rows = [("figure", "value"), *((name, f"{value:.1f}") for name, value in figures.items())]
    print_table(f"one bundle of {size} through one durable node", rows)
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
