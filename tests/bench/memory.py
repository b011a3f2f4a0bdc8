# SPDX-License-Identifier: Apache-2.0
"""An idle node, and one that starts with 1 000 000 stored bundles: resident memory, CPU, time until it is ready.

Idle: two daemons with a session between them and nothing to do, for a minute (5 s with --quick); the larger figure
of the two. Stored: bundles of 200 bytes for a node that is away, written by the store itself beforehand.

    python -m tests.bench.memory [--quick] [--json]
"""

import sys
import time
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from meshd.base.errors import StoreError
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId, BundleRecord, PayloadRef
from meshd.client.client import Client
from meshd.node.commands import WriteStore
from meshd.store.disk import RealDisk
from meshd.store.segment_log import SegmentLog
from tests.bench.file_transfer import CONFIG
from tests.bench.support.harness import BenchError, Daemon, free_port, print_table, quick_share, run_main, scratch
from tests.bench.support.process import scheduled_s

IDLE_S: Final = 60.0
QUICK_IDLE_S: Final = 5.0
SETTLE_S: Final = 2.0
STORED: Final = 1_000_000
STORED_BYTES: Final = 200
GROUP: Final = 1000
LINK_TIMEOUT_S: Final = 20.0
_DTN_EPOCH_S: Final = 946_684_800
_DAY_MS: Final = 86_400_000
ROOMY: Final = f'\n[store]\nquota = "8 GiB"\nbundles_max = {STORED + 1000}\n'


def configs(base: Path, extra: str = "") -> dict[str, str]:
    """Two nodes that are each other's neighbours."""
    ports = {"alpha": free_port(), "bravo": free_port()}
    return {
        name: CONFIG.format(name=name, directory=base / name, port=ports[name], other=other, other_port=ports[other])
        + extra
        for name, other in (("alpha", "bravo"), ("bravo", "alpha"))
    }


def wait_for_link(directory: Path) -> None:
    """Until this node has a session with its neighbour."""
    deadline = time.monotonic() + LINK_TIMEOUT_S
    with Client(str(directory / "control.sock")) as client:
        while not any(link["state"] == "up" for link in client.links()):
            if time.monotonic() > deadline:
                raise BenchError("the daemons found no way to each other")
            time.sleep(0.05)


def idle(watched_s: float) -> dict[str, float]:
    """Two daemons with nothing to do."""
    with scratch() as base:
        texts = configs(base)
        with Daemon(base / "alpha", texts["alpha"]) as alpha, Daemon(base / "bravo", texts["bravo"]) as bravo:
            wait_for_link(base / "alpha")
            time.sleep(SETTLE_S)
            before = [scheduled_s(daemon.pid) for daemon in (alpha, bravo)]
            time.sleep(watched_s)
            after = [scheduled_s(daemon.pid) for daemon in (alpha, bravo)]
            return {
                "rss_idle_mb": max(alpha.rss_mb(), bravo.rss_mb()),
                "cpu_idle_percent": max(b - a for a, b in zip(before, after, strict=True)) / watched_s * 100,
                "start_empty_s": max(alpha.ready_s, bravo.ready_s),
            }


def fill(directory: Path, count: int) -> None:
    """Write so many bundles into a store that no daemon has yet."""
    directory.mkdir(mode=0o700, parents=True)
    disk = RealDisk(directory / "store")
    log = SegmentLog(disk)
    log.recover()
    now_ms = int((time.time() - _DTN_EPOCH_S) * 1000)
    source, destination = Eid("dtn://charlie/inbox"), Eid("dtn://bravo/inbox")
    for first in range(0, count, GROUP):
        rows = []
        for number in range(first, first + GROUP):
            data = number.to_bytes(8) * (STORED_BYTES // 8)
            payload = PayloadRef(-1, 0, len(data), data)
            bundle = BundleId(source, now_ms, number)
            rows.append(
                BundleRecord(
                    bundle, destination, 1, now_ms + _DAY_MS, now_ms, len(data), 4, False, None, None, False, payload
                )
            )
        for result in log.commit([WriteStore(puts=rows)]):
            if isinstance(result, StoreError):
                raise BenchError(f"the store can't be filled: {result}")
    disk.close()


def stored(count: int) -> dict[str, float]:
    """A daemon that starts with so many bundles."""
    with scratch() as base:
        fill(base / "alpha" / "state", count)
        with Daemon(base / "alpha", configs(base, ROOMY)["alpha"]) as daemon:
            with Client(str(base / "alpha" / "control.sock")) as client:
                found = client.bundles(limit=1)["total"]
            if found != count:
                raise BenchError(f"{count} bundles were stored, the daemon found {found}")
            return {"start_1m_s": daemon.ready_s, "rss_1m_mb": daemon.rss_mb()}


def measure(quick: bool) -> dict[str, float]:
    """Both; prints the table."""
    count = int(STORED * quick_share()) if quick else STORED
    figures = idle(QUICK_IDLE_S if quick else IDLE_S) | stored(count)
    print_table(
        f"an idle node, and one with {count} stored bundles",
        [("figure", "value"), *((name, f"{value:.3f}") for name, value in figures.items())],
    )
    return figures


if __name__ == "__main__":
    sys.exit(run_main("Memory, idle CPU and start of a node.", measure))
