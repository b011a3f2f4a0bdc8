# SPDX-License-Identifier: Apache-2.0
"""Permanent neighbour entries in a namespace of the test's own: made, learned, let go."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from meshd.linux.neighbour_table import NeighbourTable
from meshd.linux.netlink import NetlinkError
from tests.lab.gate_netns import inside, new_namespace

MAC = "02:00:00:00:00:02"
HOSTS = ["10.97.0.2", "fd97::2"]


@pytest.fixture
def device() -> Iterator[str]:
    """A device with hardware addresses, and we are where it is."""
    with contextlib.ExitStack() as stack:
        space = new_namespace()
        stack.callback(os.close, space)
        stack.enter_context(inside(space))
        for command in (
            "link add rad0 type veth peer name far0",
            "address add 10.97.0.1/24 dev rad0",
            "address add fd97::1/64 dev rad0 nodad",
            "link set rad0 up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        yield "rad0"


def entry(host: str) -> str:
    return subprocess.run(
        ["ip", "neigh", "show", host, "dev", "rad0"], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.parametrize("host", HOSTS)
def test_a_configured_address_is_permanent_until_released(device: str, host: str) -> None:
    table = NeighbourTable()
    assert table.pin(device, host, MAC)
    assert entry(host).endswith(f"lladdr {MAC} PERMANENT")
    table.release(device, host)
    assert entry(host).endswith(f"lladdr {MAC} STALE")


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.parametrize("host", HOSTS)
def test_what_the_kernel_knows_is_kept(device: str, host: str) -> None:
    table = NeighbourTable()
    assert not table.pin(device, host, None)
    subprocess.run(["ip", "neigh", "add", host, "lladdr", MAC, "dev", device, "nud", "stale"], check=True)
    assert table.pin(device, host, None)
    assert entry(host).endswith(f"lladdr {MAC} PERMANENT")


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(NetlinkError, match="looking for nowhere0"):
        NeighbourTable().pin("nowhere0", "10.0.0.1", MAC)


def test_a_loopback_device_knows_no_hardware_addresses() -> None:
    assert not NeighbourTable().pin("lo", "127.0.0.1", None)


@pytest.mark.root
@pytest.mark.programs("ip")
def test_everything_that_is_known_becomes_permanent(device: str) -> None:
    for host, state in (*((host, "stale") for host in HOSTS), ("10.97.0.3", "permanent"), ("10.97.0.4", "failed")):
        words = ["ip", "neigh", "add", host, "dev", device, "nud", state]
        subprocess.run(words if state == "failed" else [*words, "lladdr", MAC], check=True)
    assert sorted(NeighbourTable().pin_known(device)) == HOSTS
    assert all(entry(host).endswith("PERMANENT") for host in HOSTS)
