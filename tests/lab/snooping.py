# SPDX-License-Identifier: Apache-2.0
"""A silent host behind a switch that snoops IGMP: which multicast it still gets.

Whoever does not answer the querier is forgotten by the switch after a while: a group that was joined by IGMP alone is
lost to a silent host. A static entry in the switch, or a group of link-local scope (224.0.0.0/24, which is never
pruned, RFC 4541 section 2.1.2), stays. The switch is a Linux bridge in a namespace of its own, and the sniffer with it.
"""

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshd.linux.emission_gate import KernelGate
from tests.lab.gate_netns import ETH_P_ALL, PACKET_IGNORE_OUTGOING, SOL_PACKET, inside, new_namespace

GROUPS: Final = {"static": "239.77.1.1", "link_local": "224.0.0.200", "joined": "239.77.1.2"}
PORT: Final = 9010
SOURCE_IP, HOST_IP = "10.97.0.1", "10.97.0.2"
SEND_EVERY_S: Final = 0.05
QUICK: Final = "mcast_membership_interval 200 mcast_query_interval 50 mcast_query_response_interval 20"
"""Hundredths of a second: the switch forgets within 2 s. Its usual times: 260, 125 and 10 s."""
FIRST_QUERY: Final = "mcast_startup_query_interval 20 mcast_query_response_interval 20"
TIMEOUT_S: Final = 10.0
QUIET_S: Final = 0.3
SNOOPS_AFTER_S: Final = 0.6
EDGE_S: Final = {True: 1.0, False: 2.0}
"""Window of measurement before the silence and at its end; is_quick: seconds."""


class SnoopedHost:
    """Source, switch and the host."""

    def __init__(self, is_quick: bool) -> None:
        self._stack = contextlib.ExitStack()
        self.source, self.switch, self.host = (self._namespace() for _ in range(3))
        self._cable("pa", self.source, SOURCE_IP)
        self._cable("pb", self.host, HOST_IP)
        run(self.switch, f"ip link add br0 type bridge mcast_snooping 1 {FIRST_QUERY}")
        if is_quick:
            run(self.switch, f"ip link set br0 type bridge {QUICK}")
        run(self.switch, "ip link set br0 type bridge mcast_querier 1")  # last: it begins with what is set
        for port in ("pa", "pb"):
            run(self.switch, f"ip link set {port} master br0")
        run(self.switch, "ip link set br0 up")
        run(self.switch, f"bridge mdb add dev br0 port pb grp {GROUPS['static']} permanent")
        self._sniffer = self._open(self.switch, socket.AF_PACKET, socket.SOCK_RAW)
        self._sniffer.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._sniffer.bind(("pb", ETH_P_ALL))
        self._sender = self._open(self.source, socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(SOURCE_IP))
        self._listeners = {name: self._join(group) for name, group in GROUPS.items()}

    def close(self) -> None:
        """Nothing is left."""
        self._stack.close()

    def left(self) -> int:
        """Frames that the host sent since the last call, as the switch saw them."""
        return drain(self._sniffer)

    def stream(self, for_s: float) -> dict[str, float]:
        """Percent of the datagrams to each group that the host got."""
        for listener in self._listeners.values():
            drain(listener)
        sent, until_s = 0, time.monotonic() + for_s
        heard = dict.fromkeys(GROUPS, 0)
        while time.monotonic() < until_s:
            for group in GROUPS.values():
                self._sender.sendto(b"numbers", (group, PORT))
            sent += 1
            time.sleep(SEND_EVERY_S)  # the pace of the stream
            for name, listener in self._listeners.items():
                heard[name] += drain(listener)
        select.select([], [], [], QUIET_S)
        for name, listener in self._listeners.items():
            heard[name] += drain(listener)
        return {name: count * 100 / sent for name, count in heard.items()}

    def _namespace(self) -> int:
        made = new_namespace()
        self._stack.callback(os.close, made)
        run(made, "ip link set lo up")
        return made

    def _cable(self, port: str, end: int, address: str) -> None:
        with inside(self.switch):
            command = f"ip link add {port} type veth peer name eth0 netns /proc/self/fd/{end}"
            subprocess.run(command.split(), check=True, pass_fds=[end], timeout=TIMEOUT_S)
        run(self.switch, f"ip link set {port} up")
        run(end, f"ip address add {address}/24 dev eth0")
        run(end, "ip link set eth0 up")

    def _open(self, namespace: int, family: int, kind: int) -> socket.socket:
        with inside(namespace):
            made = socket.socket(family, kind)
        self._stack.callback(made.close)
        made.setblocking(False)
        return made

    def _join(self, group: str) -> socket.socket:
        made = self._open(self.host, socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((group, PORT))
        membership = socket.inet_aton(group) + socket.inet_aton(HOST_IP)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        return made


def run(namespace: int, command: str) -> None:
    """A program in a namespace."""
    with inside(namespace):
        subprocess.run(command.split(), check=True, capture_output=True, timeout=TIMEOUT_S)


def drain(source: socket.socket) -> int:
    """How many wait there."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            source.recv(65536)
            count += 1
    return count


@contextlib.contextmanager
def snooped_host(is_quick: bool) -> Iterator[SnoopedHost]:
    """Until the block is left."""
    made = SnoopedHost(is_quick)
    try:
        yield made
    finally:
        made.close()


def measure_snooping(for_s: float, is_quick: bool, shaping_dir: Path) -> dict[str, float]:
    """Multicast before the silence and at the end of it, and the frames that left in it."""
    with snooped_host(is_quick) as net:
        time.sleep(SNOOPS_AFTER_S)  # what the switch floods until then is no sign; it does not say when it begins
        edge_s = EDGE_S[is_quick]
        before = net.stream(edge_s)
        opened = net.left()
        with inside(net.host):
            gate = KernelGate(shaping_dir)
        try:
            gate.close(["eth0"])
            net.left()
            whole = net.stream(for_s - edge_s)
            after = net.stream(edge_s)
            silent = net.left()
        finally:
            gate.release()
    figures: dict[str, float] = {"frames_open": opened, "frames_silent": silent}
    figures |= {f"{name}_open_pct": value for name, value in before.items()}
    figures |= {f"{name}_pct": whole[name] for name in ("static", "link_local")}
    return figures | {f"{name}_at_the_end_pct": value for name, value in after.items()} | {"for_s": for_s}
