# SPDX-License-Identifier: Apache-2.0
"""What idle neighbours put on the wire of a radio net, counted by a sniffer beside them in a namespace of its own."""

import contextlib
import dataclasses
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from meshd.node.events import LinkUp
from tests.lab.gate_netns import inside, new_namespace
from tests.unit.bearer.fountain_peers import Station, radio_settings
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO

GROUP = "239.77.5.1:4557"
ETHER_IP: int = 0x0800
PACKET_OUTGOING = 4
WINDOW_S = 4.0
BEACON_FRAME_BYTES = 86


@pytest.fixture
def _cable() -> Iterator[None]:
    """Two devices joined by a cable, in a namespace of our own."""
    with contextlib.ExitStack() as stack:
        space = new_namespace()
        stack.callback(os.close, space)
        stack.enter_context(inside(space))
        subprocess.run(["ip", *["link", "add", "here0", "type", "veth", "peer", "name", "far0"]], check=True)
        for device, host in (("here0", "10.97.0.1"), ("far0", "10.97.0.2")):
            Path(f"/proc/sys/net/ipv4/conf/{device}/accept_local").write_text("1")  # both ends are this host
            Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
            subprocess.run(["ip", "link", "set", device, "up"], check=True)
            subprocess.run(["ip", "address", "add", f"{host}/24", "dev", device], check=True)
        yield


def sniff(device: str) -> socket.socket:
    """Sees every frame of the device."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHER_IP))
    sock.bind((device, ETHER_IP))
    sock.setblocking(False)
    return sock


def read_sizes(sniffer: socket.socket) -> list[int]:
    """Sizes of the datagrams that came in since the last call; what the kernel says of groups is not counted."""
    sizes: list[int] = []
    while True:
        try:
            frame, (_, _, kind, _, _) = sniffer.recvfrom(65536)
        except BlockingIOError:
            return sizes
        if kind != PACKET_OUTGOING and frame[23] == socket.IPPROTO_UDP:
            sizes.append(len(frame))


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.usefixtures("_cable")
async def test_members_find_each_other_with_one_frame_each_and_then_beacons_grow_rare(nursery: trio.Nursery) -> None:
    settings = radio_settings(group=GROUP, discovery=True)
    alpha, bravo = (
        Station(node, dataclasses.replace(settings, device=device), [])
        for node, device in ((ALPHA, "here0"), (BRAVO, "far0"))
    )
    began_s = trio.current_time()
    with sniff("far0") as sniffer:
        await nursery.start(alpha.bearer.run)
        await nursery.start(bravo.bearer.run)
        for station in (alpha, bravo):
            await station.told.wait_for(LinkUp)
        await trio.sleep(WINDOW_S)
        sizes = read_sizes(sniffer)
        # Beacons that stayed a second apart would be one more than seconds have passed, however slow the machine is.
        assert 2 <= len(sizes) <= trio.current_time() - began_s
        assert max(sizes) <= BEACON_FRAME_BYTES
