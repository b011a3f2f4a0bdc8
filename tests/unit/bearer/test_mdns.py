# SPDX-License-Identifier: Apache-2.0
"""Multicast DNS on a cable in a namespace of the test's own: hints arrive, and a silent node says nothing."""

import contextlib
import dataclasses
import os
import random
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from meshd.bearer.mdns import GROUP, PORT, Mdns
from meshd.bearer.mdns_records import Hint
from meshd.bundle.eid import Eid
from tests.lab.gate_netns import inside, new_namespace
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, Recorder, make_settings

pytest.importorskip("zeroconf")


@pytest.fixture
def _cable() -> Iterator[None]:
    """Two devices joined by a cable, in a namespace of our own."""
    with contextlib.ExitStack() as stack:
        space = new_namespace()
        stack.callback(os.close, space)
        stack.enter_context(inside(space))
        ip("link add here0 type veth peer name far0")
        for device, host in (("here0", "10.97.0.1"), ("far0", "10.97.0.2")):
            Path(f"/proc/sys/net/ipv4/conf/{device}/accept_local").write_text("1")  # both ends are this host
            ip(f"link set {device} up")
            ip(f"address add {host}/24 dev {device}")
        yield


class Hints:
    """What was learned."""

    def __init__(self) -> None:
        self.taken: list[Hint] = []
        self._changed = trio.Event()

    def take(self, hint: Hint) -> None:
        self.taken.append(hint)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not condition():
                self._changed = trio.Event()
                await self._changed.wait()


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def make(node: Eid, device: str) -> tuple[Mdns, Recorder]:
    settings = dataclasses.replace(make_settings("0.0.0.0:4556"), device=device)
    told = Recorder()
    return Mdns(settings, node, told.report, random.Random(1)), told


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.usefixtures("_cable")
async def test_nodes_learn_where_the_others_listen(nursery: trio.Nursery) -> None:
    hints = Hints()
    here, _ = make(ALPHA, "here0")
    far, _ = make(BRAVO, "far0")
    nursery.start_soon(here.run, hints.take)
    nursery.start_soon(far.run, hints.take)
    expected = {Hint(ALPHA, "10.97.0.1:4556"), Hint(BRAVO, "10.97.0.2:4556")}
    await hints.until(lambda: set(hints.taken) == expected)
    here.stop()
    far.stop()


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.usefixtures("_cable")
async def test_a_silent_node_hears_but_says_nothing_not_even_at_its_end(nursery: trio.Nursery) -> None:
    hints = Hints()
    here, _ = make(ALPHA, "here0")
    here.is_silent = True
    far, _ = make(BRAVO, "far0")
    with listening("far0") as sniffer:
        nursery.start_soon(here.run, hints.take)
        nursery.start_soon(far.run, lambda _hint: None)
        await hints.until(lambda: Hint(BRAVO, "10.97.0.2:4556") in hints.taken)
        here.stop()
        far.stop()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BlockingIOError):
            sniffer.recv(9000)


@contextlib.contextmanager
def listening(device: str) -> Iterator[socket.socket]:
    """What arrives at the group by this device; what leaves by it does not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        joined = struct.pack("=4s4si", socket.inet_aton(GROUP), bytes(4), socket.if_nametoindex(device))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        sock.bind((GROUP, PORT))
        yield sock
