# SPDX-License-Identifier: Apache-2.0
"""What the device monitor reads out of the kernel's answers, and what it tells of devices in a namespace of its own."""

import contextlib
import struct
import subprocess
from collections.abc import Iterator, Mapping

import pytest
import trio

from meshd.linux.device_monitor import DeviceMonitor, DeviceState, read_states
from meshd.linux.netlink import Message, attribute, text
from tests.lab.gate_netns import own_namespace


def link(name: str, index: int, flags: int, mtu_bytes: int = 1500) -> Message:
    body = struct.pack("=BBHiII", 0, 0, 1, index, flags, 0) + text(3, name) + attribute(4, struct.pack("=I", mtu_bytes))
    return Message(16, 0, 0, 0, body)


def address(index: int, packed: bytes, flags: int = 0) -> Message:
    family = 2 if len(packed) == 4 else 10
    parts = attribute(1, packed) + attribute(8, struct.pack("=I", flags))
    return Message(20, 0, 0, 0, struct.pack("=BBBBI", family, 24, flags & 0xFF, 0, index) + parts)


def test_state_mtu_and_addresses_are_read() -> None:
    links = [link("rad0", 4, 0x10001), link("rad1", 5, 0x1, 1400), link("lan0", 6, 0x10001)]
    found = [address(4, bytes((10, 0, 0, 1))), address(5, bytes((10, 0, 0, 2))), address(4, bytes(15) + b"\1")]
    assert read_states(links, found, {"rad0", "rad1"}) == {
        "rad0": DeviceState(4, is_up=True, mtu_bytes=1500, addresses=("10.0.0.1", "::1")),
        "rad1": DeviceState(5, is_up=False, mtu_bytes=1400, addresses=("10.0.0.2",)),
    }


def test_a_tentative_address_does_not_count_yet() -> None:
    states = read_states([link("rad0", 4, 0x10001)], [address(4, bytes(15) + b"\1", 0x40)], {"rad0"})
    assert states["rad0"].addresses == ()


def test_short_answers_are_passed_over() -> None:
    assert read_states([Message(16, 0, 0, 0, b"")], [Message(20, 0, 0, 0, b"")], {"rad0"}) == {}


@pytest.fixture
def _space() -> Iterator[None]:
    """We are in a namespace of our own."""
    with own_namespace():
        yield


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


class Watcher:
    """Takes what a monitor tells."""

    def __init__(self) -> None:
        self.states: Mapping[str, DeviceState] = {}
        self._told = trio.Event()

    def take(self, states: Mapping[str, DeviceState]) -> None:
        self.states = states
        self._told.set()

    async def tell(self) -> Mapping[str, DeviceState]:
        """What is told next."""
        with trio.fail_after(30):
            await self._told.wait()
        self._told = trio.Event()
        return self.states


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.usefixtures("_space")
async def test_a_device_comes_changes_and_goes(nursery: trio.Nursery) -> None:
    watcher = Watcher()
    with contextlib.closing(DeviceMonitor({"rad0"})) as monitor:
        nursery.start_soon(monitor.run, watcher.take)
        assert await watcher.tell() == {}
        ip("link add rad0 type veth peer name far0")
        first = (await watcher.tell())["rad0"]
        assert not first.is_up
        ip("link set far0 up")
        ip("link set rad0 addrgenmode none up")
        while not watcher.states["rad0"].is_up:
            await watcher.tell()
        ip("address add 10.97.0.1/24 dev rad0")
        while watcher.states["rad0"].addresses != ("10.97.0.1",):
            await watcher.tell()
        ip("link set rad0 mtu 1280")
        while watcher.states["rad0"].mtu_bytes != 1280:
            await watcher.tell()
        ip("link delete rad0")
        while watcher.states:
            await watcher.tell()
        ip("link add rad0 type veth peer name far0")
        while "rad0" not in watcher.states:
            await watcher.tell()
        assert watcher.states["rad0"].index != first.index
        nursery.cancel_scope.cancel()
