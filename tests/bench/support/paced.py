# SPDX-License-Identifier: Apache-2.0
"""A steady stream of bundles for the soak: a source at a fixed rate, and a sink that tells how late each one is.

    python -m tests.bench.support.paced source PORT SIZE COUNT RATE      sends COUNT bundles, RATE a second
    python -m tests.bench.support.paced sink SIZE COUNT INTERVAL_MS      listens; percentiles in each interval

Both print JSON lines. A payload is its number, the time when it was due, and filler. Late is counted from that time,
so that a daemon that stops the source for a while does not hide it. The sink checks every number: one that is lost or
comes twice is an error.
"""

import gc
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from meshd.bundle.codec import build
from meshd.bundle.eid import NULL_EID
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.settings import Role
from tests.bench.support.tcp_copy import listen, say
from tests.bench.support.traffic import (
    CRC_AND_BREAK_BYTES,
    DESTINATION,
    SINK_NODE,
    SOURCE_NODE,
    Wire,
    dtn_now_ms,
)

STAMP: Final = struct.Struct("!QQ")
IN_FLIGHT_MAX: Final = 4096
LIFETIME_MS: Final = 60_000
"""A node remembers what it carried for so long, some millions at most: at these rates only a minute's worth fits."""
TICK_S: Final = 0.002
"""The source wakes this often; what was due meanwhile goes together."""


def run_source(port: int, size: int, count: int, rate: int) -> None:
    """Send at the rate until all are acknowledged."""
    wire = Wire(socket.create_connection(("127.0.0.1", port)), SOURCE_NODE, Role.ACTIVE)
    filler = bytes(size - STAMP.size)
    acknowledged = 0

    def take(event: cl.Event) -> None:
        nonlocal acknowledged
        if isinstance(event, cl.TransfersAcknowledged):
            acknowledged += len(event.transfer_ids)
        elif isinstance(event, cl.TransferRefused):
            raise ConnectionError(f"transfer {event.transfer_id} was refused: {event.reason}")

    while not wire.session.can_send:
        wire.step(take)
    begin_ns = time.monotonic_ns()
    interval_ns = 1_000_000_000 // rate
    sent = 0
    say(begin=begin_ns / 1e9)
    while acknowledged < count:
        due = min(count, (time.monotonic_ns() - begin_ns) // interval_ns, acknowledged + IN_FLIGHT_MAX)
        time_ms = dtn_now_ms()
        for number in range(sent, due):
            payload = STAMP.pack(number, begin_ns + number * interval_ns) + filler
            data = build(SOURCE_NODE, DESTINATION, NULL_EID, 0, time_ms, number, LIFETIME_MS, payload)
            wire.session.send_transfer([data], len(data))
        sent = max(sent, due)
        wire.step(take, TICK_S if sent < count else None)
    say(end=time.monotonic())


def run_sink(size: int, count: int, interval_ms: int) -> None:
    """Take all; tell how late they were, interval by interval."""
    with listen() as listener:
        sock, _ = listener.accept()
    wire = Wire(sock, SINK_NODE, Role.PASSIVE)
    tail = CRC_AND_BREAK_BYTES + size
    seen = bytearray(count)
    late_ns: list[int] = []
    taken = 0

    def take(event: cl.Event) -> None:
        nonlocal taken
        if not isinstance(event, cl.TransfersReceived):
            return
        now_ns = time.monotonic_ns()
        for row in event.rows:
            number, due_ns = STAMP.unpack_from(row.data, len(row.data) - tail)
            seen[number] += 1
            late_ns.append(now_ns - due_ns)
        taken += len(event.rows)
        wire.session.acknowledge([row.transfer_id for row in event.rows])

    next_at = time.monotonic() + interval_ms / 1000
    while taken < count:
        wire.step(take)
        if late_ns and time.monotonic() >= next_at:
            next_at = max(next_at, time.monotonic() - interval_ms / 1000) + interval_ms / 1000
            tell(late_ns)
            late_ns.clear()
    wire.flush()
    if seen != b"\1" * count:
        raise ValueError(f"{seen.count(0)} bundles were lost, {count - seen.count(0) - seen.count(1)} came twice")
    say(end=time.monotonic(), bundles=taken)


def tell(late_ns: list[int]) -> None:
    """One line about an interval."""
    late_ns.sort()
    p50, p99 = late_ns[len(late_ns) // 2], late_ns[len(late_ns) * 99 // 100]
    say(bundles=len(late_ns), p50_ms=p50 / 1e6, p99_ms=p99 / 1e6, max_ms=late_ns[-1] / 1e6)


PROGRAMS: Final[dict[str, Callable[..., None]]] = {"source": run_source, "sink": run_sink}


def main(arguments: Sequence[str]) -> int:
    """Run one of the two; an error is a JSON line, too."""
    gc.disable()
    name, *values = arguments
    try:
        PROGRAMS[name](*[int(value) for value in values])
    except (OSError, ValueError) as error:
        say(error=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
