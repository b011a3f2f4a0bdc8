# SPDX-License-Identifier: Apache-2.0
"""Which bearers hear of which change of a device, and bearers that work again when their device is back."""

import contextlib
import dataclasses
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.daemon.device_watch import DeviceWatch
from meshd.link.settings import BearerSettings
from meshd.linux.device_monitor import DeviceState
from meshd.node.events import LinkUp, LinkWritable
from tests.lab.gate_netns import inside, new_namespace
from tests.unit.bearer.fountain_peers import Station, fountain_neighbour, radio_settings
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, Recorder, make_bearer, make_settings

UP = DeviceState(4, is_up=True, mtu_bytes=1500, addresses=("10.0.0.1",))


class Heard:
    """A bearer that counts."""

    def __init__(self) -> None:
        self.count = 0

    def device_changed(self) -> None:
        self.count += 1


def make(*devices: str) -> tuple[DeviceWatch, dict[str, Heard], list[tuple[str, Mapping[str, Any]]]]:
    settings = [dataclasses.replace(make_settings(), name=f"b-{device}", device=device) for device in devices]
    bearers = {each.name: Heard() for each in settings}
    told: list[tuple[str, Mapping[str, Any]]] = []
    return DeviceWatch(settings, bearers, lambda kind, fields: told.append((kind, fields))), bearers, told


def test_only_the_bearer_of_the_device_hears_of_it() -> None:
    watch, bearers, told = make("rad0", "lan0")
    watch.take({"rad0": UP, "lan0": UP})
    assert not told
    watch.take({"rad0": dataclasses.replace(UP, mtu_bytes=1280), "lan0": UP})
    watch.take({"rad0": dataclasses.replace(UP, mtu_bytes=1280), "lan0": UP})
    watch.take({"lan0": UP})
    assert (bearers["b-rad0"].count, bearers["b-lan0"].count) == (2, 0)
    assert [dict(fields) for _, fields in told] == [
        {"bearer": "b-rad0", "device": "rad0", "state": "up", "mtu_bytes": 1280, "addresses": "10.0.0.1"},
        {"bearer": "b-rad0", "device": "rad0", "state": "absent"},
    ]


@pytest.fixture
def _space() -> Iterator[None]:
    """Two devices joined by a cable, in a namespace of our own."""
    with contextlib.ExitStack() as stack:
        space = new_namespace()
        stack.callback(os.close, space)
        stack.enter_context(inside(space))
        lay_cable()
        yield


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def lay_cable() -> None:
    ip("link add here0 type veth peer name far0")
    for device, host in (("here0", "10.97.0.1"), ("far0", "10.97.0.2")):
        Path(f"/proc/sys/net/ipv4/conf/{device}/accept_local").write_text("1")  # both ends are this host
        ip(f"link set {device} up")
        ip(f"address add {host}/24 dev {device}")


def on(device: str, settings: BearerSettings) -> BearerSettings:
    return dataclasses.replace(settings, device=device)


def watch(told: Recorder, settings: BearerSettings, bearer: Any) -> DeviceWatch:
    return DeviceWatch([settings], {settings.name: bearer}, lambda kind, fields: told.report(kind, dict(fields)))


async def started_times(station: Station, count: int) -> None:
    await station.told.until(lambda: [kind for kind, _ in station.told.reports].count("bearer.started") == count)


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.usefixtures("_space")
async def test_groups_are_joined_again_when_the_device_is_made_anew_and_the_mtu_is_kept(nursery: trio.Nursery) -> None:
    group = "239.77.4.1:4557"
    stations = [
        Station(node, on(device, radio_settings(group=group)), [fountain_neighbour(other, None)])
        for node, other, device in ((ALPHA, BRAVO, "here0"), (BRAVO, ALPHA, "far0"))
    ]
    for station, device in zip(stations, ("here0", "far0"), strict=True):
        await nursery.start(station.bearer.run)
        nursery.start_soon(watch(station.told, on(device, radio_settings()), station.bearer).run)
    for station in stations:
        await station.told.wait_for(LinkWritable)
    ip("link delete here0")
    await stations[0].told.wait_for_report("bearer.device")
    lay_cable()
    started = trio.current_time()
    for station in stations:
        await started_times(station, 2)
    assert trio.current_time() - started < 1.0
    ip("link set here0 mtu 1280")
    await started_times(stations[0], 3)
    assert stations[0].bearer._used_mtu_bytes == 1280


@pytest.mark.root
@pytest.mark.programs("ip")
@pytest.mark.usefixtures("_space")
async def test_listeners_and_dialers_are_there_at_once_when_the_device_gets_its_address(nursery: trio.Nursery) -> None:
    ip("address flush dev far0")
    ip("address flush dev here0")
    tolds = (Recorder(), Recorder())
    here, far = on("here0", make_settings("10.97.0.1:4556")), on("far0", make_settings(None))
    listening = make_bearer(tolds[0], ALPHA, {BRAVO: None}, here)
    dialling = make_bearer(tolds[1], BRAVO, {ALPHA: "10.97.0.1:4556"}, far)
    for told, settings, bearer in ((tolds[0], here, listening), (tolds[1], far, dialling)):
        await nursery.start(bearer.run)
        nursery.start_soon(watch(told, settings, bearer).run)
    await tolds[0].wait_for_report("bearer.problem")
    await tolds[1].wait_for_report("bearer.problem")
    ip("address add 10.97.0.1/24 dev here0")
    ip("address add 10.97.0.2/24 dev far0")
    await tolds[1].wait_for(LinkUp)
