# SPDX-License-Identifier: Apache-2.0
"""Measure delay, loss and rate of each link with real sockets, beside what its profile says.

Delay and loss: UDP datagrams with their send time, one way (both namespaces share a clock), on all links at once, since
they are few. Rate: UDP at 1.3 times the profile's rate for a second, counted at the receiver, link by link. Argument:
topology (default `bearers`), then `--json`.
"""

import json
import select
import socket
import statistics
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from netns_lab.lab import Lab
from netns_lab.scenario import ScenarioContext
from netns_lab.topology import Link, Member
from netns_lab.units import show_rate, show_share

PROBES = 200
PROBE_BYTES = 100
PROBE_RATE_HZ = 100.0
FLOOD_S = 1.0
FLOOD_PAYLOAD_BYTES = 1200
HEADER_BYTES = 42  # Ethernet, IPv4, UDP
OVERLOAD = 1.3
FLOOD_RATE_DEFAULT_BPS = 20_000_000
QUIET_S = 0.6  # longer than any profile's delay


@dataclass(frozen=True, slots=True)
class Measurement:
    """One direction of one link."""

    link: str
    towards: str
    delay_min_s: float
    delay_median_s: float
    delay_max_s: float
    loss: float
    rate_bps: float


def run(context: ScenarioContext) -> int:
    """Measure every link in one direction, first member to second."""
    names = [argument for argument in context.arguments if not argument.startswith("--")]
    with context.lab(names[0] if names else "bearers") as lab:
        measured = measure_links(lab, list(lab.topology.links.values()))
        if "--json" in context.arguments:
            print(json.dumps([asdict(one) for one in measured]))
            return 0
        print(lab.describe_backend())
        for one in measured:
            profile = lab.topology.links[one.link].members[one.towards].profile
            print(f"{one.link} to {one.towards}: {profile.summary()}")
            delays = f"{one.delay_min_s * 1e3:.2f} / {one.delay_median_s * 1e3:.2f} / {one.delay_max_s * 1e3:.2f} ms"
            print(f"  delay min/median/max {delays}, loss {show_share(one.loss)}, rate {show_rate(one.rate_bps)}")
    return 0


def measure_links(lab: Lab, links: Sequence[Link]) -> list[Measurement]:
    """Probe all, then flood each."""
    with ExitStack() as stack:
        pairs = [_open_pair(lab, link, stack) for link in links]
        with ThreadPoolExecutor(len(links)) as pool:
            delays = list(pool.map(_probe, *zip(*pairs, strict=True)))
        rates_bps = [_flood(*pair, _towards(link).profile.rate_bps) for link, pair in zip(links, pairs, strict=True)]
    return [_sum_up(*each) for each in zip(links, delays, rates_bps, strict=True)]


def _towards(link: Link) -> Member:
    return list(link.members.values())[1]


def _open_pair(lab: Lab, link: Link, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """A sender at the first member, a receiver at the second."""
    source, sink = list(link.members.values())[:2]
    with lab.node(sink.node).inside():
        receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        receiver.bind((sink.ip(4), 0))
    with lab.node(source.node).inside():
        sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sender.connect(receiver.getsockname())
    return sender, receiver


def _sum_up(link: Link, delays: list[float], rate_bps: float) -> Measurement:
    loss = 1.0 - len(delays) / PROBES
    towards = _towards(link).node
    return Measurement(link.name, towards, min(delays), statistics.median(delays), max(delays), loss, rate_bps)


def _probe(sender: socket.socket, receiver: socket.socket) -> list[float]:
    """One-way delays of what arrives; the first datagram only fills the neighbour tables."""
    while not _receive(receiver, QUIET_S):
        sender.send(bytes(1))
    _drain(receiver)
    delays: list[float] = []
    for _ in range(PROBES):
        sender.send(struct.pack("d", time.monotonic()).ljust(PROBE_BYTES, b"\0"))
        delays += _take(receiver, 1.0 / PROBE_RATE_HZ)
    return delays + _take(receiver, QUIET_S)


def _take(receiver: socket.socket, for_s: float) -> list[float]:
    delays = []
    until_s = time.monotonic() + for_s
    while (left_s := until_s - time.monotonic()) > 0:
        if data := _receive(receiver, left_s):
            now = time.monotonic()
            if len(data) == PROBE_BYTES:
                delays.append(now - struct.unpack_from("d", data)[0])
    return delays


def _flood(sender: socket.socket, receiver: socket.socket, rate_bps: int | None) -> float:
    """Bits per second on the wire at the receiver while the link is full."""
    interval_s = (FLOOD_PAYLOAD_BYTES + HEADER_BYTES) * 8 / ((rate_bps or FLOOD_RATE_DEFAULT_BPS) * OVERLOAD)
    payload = bytes(FLOOD_PAYLOAD_BYTES)
    arrivals: list[float] = []
    next_s = time.monotonic()
    until_s = next_s + FLOOD_S
    while next_s < until_s:
        sender.send(payload)
        next_s += interval_s
        while (wait_s := next_s - time.monotonic()) > 0:
            if _receive(receiver, wait_s):
                arrivals.append(time.monotonic())
    while _receive(receiver, QUIET_S):
        arrivals.append(time.monotonic())
    return (len(arrivals) - 1) * (FLOOD_PAYLOAD_BYTES + HEADER_BYTES) * 8 / (arrivals[-1] - arrivals[0])


def _receive(receiver: socket.socket, timeout_s: float) -> bytes:
    ready, _, _ = select.select([receiver], [], [], timeout_s)
    return receiver.recv(65536) if ready else b""


def _drain(receiver: socket.socket) -> None:
    while _receive(receiver, QUIET_S):
        pass
