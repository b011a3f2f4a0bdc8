# SPDX-License-Identifier: Apache-2.0
"""One bundle of 4 GiB through one durable node: source -> meshd -> sink over loopback TCPCLv4, never whole in memory.

Peak memory of the daemon is the kernel's VmHWM. Then a smaller one whose daemon is killed in the middle: after its
restart nothing of the half is left, and the source's retransmission arrives once.

    python -m tests.bench.large_bundle [--size 4GiB] [--quick] [--json] [--fragments]

With `--fragments` only this: source -> meshd -> meshd by MTCP, which takes no bundle of this size, so that the first
node cuts it and the second joins it for an application, whose file is compared byte by byte.
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
from tests.bench.file_transfer import Client, peak_mb
from tests.bench.support.harness import BenchError, Daemon, free_port, helper, print_table, scratch
from tests.bench.support.large_traffic import pattern
from tests.bench.support.process import folder_mb
from tests.bench.support.relay import CONFIG
from tests.bench.support.traffic import dtn_now_ms

TRAFFIC: Final = "tests.bench.support.large_traffic"
SIZE: Final = "4 GiB"
QUICK_SIZE: Final = "256 MiB"
KILLED_BYTES: Final = 192 * 1024 * 1024
PATIENCE_S: Final = 60.0
DISCARD_PORT: Final = 9
"""Nobody listens there: the second node sends nothing."""


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


def pass_in_fragments(size_bytes: int) -> dict[str, float]:
    """Cut by one node, joined by the next. Errors: BenchError."""
    with scratch() as directory:
        port, mtcp_port = free_port(), free_port()
        first, second, out = (directory / name for name in ("first", "second", "out"))
        for each in (first, second, out):
            each.mkdir()
        mtcp = 'cl = "mtcp"\naddress = "127.0.0.1:{port}"\n'
        relay = config_of(first, port, mtcp_port).replace(
            f'address = "127.0.0.1:{mtcp_port}"\n', mtcp.format(port=mtcp_port)
        )
        listening = free_port()
        sink = CONFIG.format(
            name="sink", directory=second, port=listening, previous="relay", following="nobody", following_port=1
        ).replace('quota = "8 GiB"', 'quota = "16 GiB"')
        listen, relay_node = f'listen = "127.0.0.1:{listening}"\n', 'node = "dtn://relay/"\nbearer = "lan0"\n'
        sink = sink.replace(listen, f'{listen}mtcp_listen = "127.0.0.1:{mtcp_port}"\n')
        sink = sink.replace(relay_node, relay_node + mtcp.format(port=DISCARD_PORT))
        with Daemon(second, sink) as joiner, Daemon(first, relay) as cutter:
            begin = time.monotonic()
            receiver = Client(second, "recv", "inbox", "--out", str(out), "--count", "1", "--timeout", "15min")
            with helper(TRAFFIC, "source", port, size_bytes, dtn_now_ms()):
                while receiver.poll():
                    time.sleep(0.05)
            receiver.finish()
            figures = {
                "fragments_mbit_per_s": size_bytes * 8e-6 / (time.monotonic() - begin),
                "fragments_cutter_rss_peak_mb": peak_mb(cutter.pid),
                "fragments_joiner_rss_peak_mb": peak_mb(joiner.pid),
                "cpu_s_per_gib_cut": cutter.cpu_s() / (size_bytes / 2**30),
                "cpu_s_per_gib_joined": joiner.cpu_s() / (size_bytes / 2**30),
            }
        (path,) = out.iterdir()
        compare(path, size_bytes)
    return figures


def compare(path: Path, size_bytes: int) -> None:
    """Errors: BenchError: it is not the pattern."""
    position = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            if piece != pattern(position, len(piece)):
                raise BenchError(f"the file differs in the MiB at {position}")
            position += len(piece)
    if position != size_bytes:
        raise BenchError(f"{position} bytes arrived of {size_bytes}")


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
    parser.add_argument("--fragments", action="store_true", help="through a layer that takes no bundle of this size")
    arguments = parser.parse_args()
    size = arguments.size or (QUICK_SIZE if arguments.quick else SIZE)
    try:
        size_bytes = parse_size_bytes(size)
        if arguments.fragments:
            figures = pass_in_fragments(size_bytes)
        else:
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
