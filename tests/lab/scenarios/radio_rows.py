# SPDX-License-Identifier: Apache-2.0
"""Measures of the fountain layer between real daemons over an emulated radio net.

Arguments: the measure's name, the net (JSON of NetSettings), its own values (JSON). Prints one JSON object. `several`
as the name: one measure after the other in the same net, each with its values.
"""

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from meshd.client.client import Client
from netns_lab.lab import Lab
from netns_lab.mesh_node import FOUNTAIN_PORT
from netns_lab.scenario import CHECKOUT, ScenarioContext
from tests.lab.radio_net import LINK, MIB, PATIENCE_S, SENDER, NetSettings, RadioNet, radio_lab, settings_of
from tests.lab.silence_measures import measure_breach, measure_deferred, measure_leaving, measure_planned

FLASH_BYTES: Final = 1024
FLASH_EVERY_S: Final = 0.3
POLL_S: Final = 0.02
WINDOW: Final = 16
BLAST_BYTES: Final = 1472
"""A whole frame with its headers."""
SLOW_START_S: Final = 8.0
"""What TCP gets to find the rate before it is measured."""
QUIET_S: Final = 4.0
COMPLETE_QUIET_S: Final = 1.0
WHOLE_FRAMES_BYTES: Final = 20_000
TCP_PORT: Final = 5001

Figures = dict[str, float]


def carry(net: RadioNet, client: Client, size_mib: float) -> Figures:
    """A file: seconds from the call to the last byte committed, goodput from the first object to the last, wire."""
    settings, size_bytes = net.settings, int(size_mib * MIB)
    before, since_s = net.left_bytes(SENDER), time.monotonic()
    tags = net.send_file(client, size_bytes)
    times_s = sorted(net.inboxes["b1"].wait(tags, PATIENCE_S + size_bytes * 16 / settings.capacity_bps()))
    net.wait_until_empty(client)
    figures = {
        "file_s": times_s[-1] - since_s,
        "wire_per_payload": (net.left_bytes(SENDER) - before) / size_bytes,
        "wrong": net.inboxes["b1"].wrong,
    }
    if len(tags) > 1:
        later_bytes = size_bytes * (len(tags) - 1) / len(tags)
        figures["goodput_ratio"] = later_bytes * 8 / (times_s[-1] - times_s[0]) / settings.capacity_bps()
    return figures


def measure_file(net: RadioNet, client: Client, size_mib: float = 20) -> Figures:
    """The file alone."""
    return carry(net, client, size_mib)


def measure_found(net: RadioNet, client: Client, size_mib: float = 48) -> Figures:
    """The file by a bearer that has to find its rate: with what it found."""
    figures = carry(net, client, size_mib)
    return figures | {"found_ratio": client.links()[0]["fountain"]["rate_bps"] / net.settings.rate_bps}


def measure_flash(
    net: RadioNet, client: Client, count: int = 100, bulk_mib: float = 48, every_s: float = FLASH_EVERY_S
) -> Figures:
    """Urgent messages while the bulk runs."""
    inbox = net.inboxes["b1"]
    bulk = net.send_file(client, int(bulk_mib * MIB))
    # The bulk has to stand in all queues before there is anything to overtake.
    time.sleep(2 * net.settings.delay_s + 1.0)
    began: dict[bytes, float] = {}
    while len(began) < count and bulk[-1] not in inbox.arrived:
        since_s = time.monotonic()
        began[net.send(client, FLASH_BYTES, precedence="FLASH")] = since_s
        time.sleep(max(0.0, since_s + every_s - time.monotonic()))  # the pace
    is_under_way = bulk[-1] not in inbox.arrived
    took_s = sorted(at - since for at, since in zip(inbox.wait(list(began)), began.values(), strict=True))
    return {
        "flash_count": len(took_s),
        "flash_p50_s": took_s[len(took_s) // 2],
        "flash_p95_s": took_s[min(len(took_s) - 1, len(took_s) * 95 // 100)],
        "flash_max_s": took_s[-1],
        "bulk_ran_on": is_under_way,
    }


def measure_all(net: RadioNet, client: Client, file_mib: float = 20, flashes: int = 100) -> Figures:
    """The file, then urgent messages."""
    figures = carry(net, client, file_mib)
    bulk_mib = (flashes * FLASH_EVERY_S + 4) * net.settings.capacity_bps() / 8 / MIB
    return figures | measure_flash(net, client, flashes, bulk_mib)


def measure_small(net: RadioNet, client: Client, count: int = 10_000) -> Figures:
    """Bundles of 1 KiB, counted at the sender as they are acknowledged: the receiver has them on its disk then."""
    size_bytes = 1024
    requests: list[int] = []
    with Client(net.nodes[SENDER].socket_path) as watch:
        samples: list[tuple[float, int]] = []

        def sample() -> None:
            samples.append((time.monotonic(), int(watch.links()[0]["sent_bundles"])))

        for _ in range(count):
            params = {"destination": "dtn://b1/small", "precedence": "ROUTINE", "lifetime_ms": None, "report": False}
            data = net.contents.make(size_bytes)[1]
            requests.append(client.start("send.message", params | {"endpoint": "inbox", "data": data}))
            if len(requests) >= WINDOW:
                client.finish(requests.pop(0))
            if not samples or time.monotonic() - samples[-1][0] > POLL_S:
                sample()
        for request in requests:
            client.finish(request)
        sample()
        until_s = time.monotonic() + PATIENCE_S
        while samples[-1][1] < count and time.monotonic() < until_s:
            time.sleep(POLL_S)
            sample()
    first = next(each for each in samples if each[1])
    last = next(each for each in samples if each[1] == samples[-1][1])
    ratio = (last[1] - first[1]) * size_bytes * 8 / (last[0] - first[0]) / net.settings.capacity_bps()
    return {"small_ratio": ratio, "missing": count - samples[-1][1], "small_s": last[0] - first[0]}


def measure_multicast(net: RadioNet, client: Client, size_mib: float = 10) -> Figures:
    """One file for all receivers: what the sender emits for each of its bytes."""
    size_bytes = int(size_mib * MIB)
    before, since_s = net.left_bytes(SENDER), time.monotonic()
    tags = net.send_file(client, size_bytes, "dtn://all/~all")
    times_s = [max(inbox.wait(tags)) for inbox in net.inboxes.values()]
    net.wait_until_empty(client)
    return {
        "multicast_bytes_ratio": (net.left_bytes(SENDER) - before) / size_bytes,
        "receivers_complete": sum(at < float("inf") for at in times_s),
        "file_s": max(times_s) - since_s,
        "wrong": sum(inbox.wrong for inbox in net.inboxes.values()),
    }


def measure_blind(net: RadioNet, client: Client, count: int = 100, size_mib: float = 1) -> Figures:
    """Objects to a silent node, one pass each: how many are complete, and what the silent node emitted."""
    net.nodes["b1"].meshctl("emcon", "set", "silent")
    since_s = time.monotonic()
    wait_for_rest(net, [], 0.0)
    before = net.left_bytes(SENDER)
    tags = [net.send(client, int(size_mib * MIB)) for _ in range(count)]
    wait_for_rest(net, tags, count * size_mib)
    inbox = net.inboxes["b1"]
    complete = sum(tag in inbox.arrived for tag in tags)
    frames = net.left_frames("b1", since_s)
    sent = net.left_bytes(SENDER) - before
    net.nodes["b1"].meshctl("emcon", "set", "unrestricted")
    return {
        "blind_complete_pct": complete * 100 / count,
        "frames_back": frames,
        "wire_per_payload": sent / (count * size_mib * MIB),
        "wrong": inbox.wrong,
    }


def wait_for_rest(net: RadioNet, tags: Sequence[bytes], payload_mib: float) -> None:
    """Until the sender has said nothing, and nothing has arrived, for a while; a shorter one when all is there."""
    until_s = time.monotonic() + PATIENCE_S + payload_mib * MIB * 16 / net.settings.rate_bps
    inbox = net.inboxes["b1"]
    before, arrived, changed_s, quiet_s = -1, 0, time.monotonic(), QUIET_S
    while time.monotonic() < min(until_s, changed_s + quiet_s + net.settings.delay_s):
        left = net.left_bytes(SENDER)
        if left - before > WHOLE_FRAMES_BYTES or len(inbox.arrived) > arrived:
            before, arrived, changed_s = left, len(inbox.arrived), time.monotonic()
        quiet_s = COMPLETE_QUIET_S if inbox.arrived.keys() >= set(tags) else QUIET_S
        time.sleep(0.25)  # from one look to the next


def measure_outage(
    net: RadioNet, client: Client, size_mib: float = 20, cut_s: float = 30, after_s: float = 6
) -> Figures:
    """A cut in both directions in the middle: when data come again after it, and what was sent twice."""
    size_bytes = int(size_mib * MIB)
    before = net.left_bytes(SENDER)
    tags = net.send_file(client, size_bytes)
    time.sleep(after_s)  # into the middle of the file
    link = net.lab.link(LINK)
    link.cut()
    time.sleep(cut_s)  # the outage
    in_outage = net.left_bytes(SENDER)
    time.sleep(0.5)  # the window of measurement
    idle_bytes = net.left_bytes(SENDER) - in_outage
    link.restore()
    since_s = time.monotonic()
    floor = net.left_bytes(SENDER)
    while net.left_bytes(SENDER) - floor < WHOLE_FRAMES_BYTES and time.monotonic() < since_s + PATIENCE_S:
        time.sleep(POLL_S)
    resumed_s = time.monotonic() - since_s
    times_s = net.inboxes["b1"].wait(tags)
    net.wait_until_empty(client)
    return {
        "resumed_s": resumed_s,
        "bytes_in_half_second_of_outage": idle_bytes,
        "file_s_without_outage": max(times_s) - since_s + after_s,
        "wire_per_payload": (net.left_bytes(SENDER) - before) / size_bytes,
        "wrong": net.inboxes["b1"].wrong,
    }


def measure_bad_input(
    net: RadioNet, client: Client, kinds: Sequence[str], per_s: int, for_s: float, size_mib: float = 8
) -> Figures:
    """Bad datagrams on the receiver's wire while a file arrives: what is left of the goodput without them."""
    quiet = carry(net, client, size_mib)
    with start_forger(net, kinds, per_s, for_s) as forger:
        assert forger.stdout is not None
        # It may have to overhear genuine datagrams first.
        overheard = net.send_file(client, MIB // 4)
        forger.stdout.readline()
        net.inboxes["b1"].wait(overheard)
        dropped, cpu_s, since_s = dropped_datagrams(net), net.nodes["b1"].cpu_s(), time.monotonic()
        loud = carry(net, client, size_mib)
        is_over = forger.poll() is not None
        dropped, cpu_s = dropped_datagrams(net) - dropped, net.nodes["b1"].cpu_s() - cpu_s
        took_s = time.monotonic() - since_s
        done = json.loads(forger.stdout.readline())
    return {
        "kept": quiet["file_s"] / loud["file_s"],
        "bad_per_s": done["sent"] / done["took_s"],
        "bad_ended_early": is_over,
        "dropped_per_s": dropped / took_s,
        "receiver_cpu": cpu_s / took_s,
        "file_s": loud["file_s"],
        "quiet_file_s": quiet["file_s"],
        "wrong": net.inboxes["b1"].wrong,
    }


@contextlib.contextmanager
def start_forger(net: RadioNet, kinds: Sequence[str], per_s: int, for_s: float) -> Iterator[subprocess.Popen[str]]:
    """forger.py at the receiver's wire."""
    link = net.lab.topology.link(LINK)
    source, victim = link.members[SENDER], link.members["b1"]
    order = {
        "kinds": kinds,
        "source_device": SENDER,
        "victim_device": "b1",
        "source": [source.mac, source.ip(4)],
        "victim": [victim.mac, victim.ip(4)],
        "port": FOUNTAIN_PORT,
        "per_s": per_s,
        "for_s": for_s,
    }
    command = ["ip", "netns", "exec", link.middle, sys.executable, "-m", "tests.lab.forger", json.dumps(order)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as forger:
        try:
            yield forger
        finally:
            forger.kill()


def dropped_datagrams(net: RadioNet) -> int:
    """For which the receiver's socket had no room."""
    lines = net.lab.node("b1").run(["cat", "/proc/net/snmp"]).stdout.splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    return int(values[names.index("RcvbufErrors")])


MEASURES: Final[dict[str, Callable[..., Figures]]] = {
    "file": measure_file,
    "found": measure_found,
    "flash": measure_flash,
    "all": measure_all,
    "small": measure_small,
    "multicast": measure_multicast,
    "blind": measure_blind,
    "deferred": measure_deferred,
    "outage": measure_outage,
    "bad": measure_bad_input,
    "breach": measure_breach,
    "leaving": measure_leaving,
    "planned": measure_planned,
}


# References: no daemon.


def blast(lab: Lab, settings: NetSettings, for_s: float = 5.0) -> Figures:
    """Raw UDP at 1.2 times the rate: what the emulator lets through, in frames of 1514 bytes."""
    members = lab.topology.link(LINK).members
    lab.link(LINK).set_profile(settings.profile())
    with lab.node("b1").inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    receiver.bind((members["b1"].ip(4), 0))
    with lab.node(SENDER).inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname())
    interval_s = (BLAST_BYTES + 42) * 8 / (settings.rate_bps * 1.2)
    arrivals: list[float] = []
    next_s = time.monotonic()
    until_s = next_s + for_s
    while next_s < until_s:
        sender.send(bytes(BLAST_BYTES))
        next_s += interval_s
        while (wait_s := next_s - time.monotonic()) > 0:
            if select.select([receiver], [], [], wait_s)[0]:
                receiver.recv(65536)
                arrivals.append(time.monotonic())
    while select.select([receiver], [], [], settings.delay_s + 1.0)[0]:
        receiver.recv(65536)
        arrivals.append(time.monotonic())
    bits = (len(arrivals) - 1) * (BLAST_BYTES + 42) * 8
    return {"blast_ratio": bits / (arrivals[-1] - arrivals[0]) / settings.capacity_bps()}


def copy_by_tcp(lab: Lab, settings: NetSettings, congestion: str, size_mib: float, limit_s: float) -> Figures:
    """A plain socket copy: payload bits per second behind the slow start, as a share of the capacity."""
    members = lab.topology.link(LINK).members
    lab.link(LINK).set_profile(settings.profile())
    with lab.node("b1").inside():
        listener = socket.create_server((members["b1"].ip(4), TCP_PORT))
    with lab.node(SENDER).inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
    sender.settimeout(PATIENCE_S)
    sender.connect(listener.getsockname())
    receiver, _ = listener.accept()
    sender.setblocking(False)
    left, block = int(size_mib * MIB), bytes(65536)
    begun_s = time.monotonic()
    samples: list[tuple[float, int]] = []
    got = 0
    while time.monotonic() < begun_s + limit_s and got < int(size_mib * MIB):
        readable, writable, _ = select.select([receiver], [sender] if left else [], [], 0.1)
        if writable:
            left -= sender.send(block[:left])
        if readable:
            got += len(receiver.recv(1 << 18))
            samples.append((time.monotonic(), got))
    for handle in (sender, receiver, listener):
        handle.close()
    steady = [each for each in samples if each[0] > begun_s + min(SLOW_START_S, limit_s / 3)] or samples
    # By the end of the time: who stalls has to answer for the silence, too.
    end_s = samples[-1][0] if got >= int(size_mib * MIB) else time.monotonic()
    rate_bps = (steady[-1][1] - steady[0][1]) * 8 / (end_s - steady[0][0])
    figures = {"goodput_ratio": rate_bps / settings.capacity_bps()}
    if got >= int(size_mib * MIB):
        figures["file_s"] = samples[-1][0] - begun_s
    return figures


REFERENCES: Final[dict[str, Callable[..., Figures]]] = {"blast": blast, "tcp": copy_by_tcp}


def run(context: ScenarioContext) -> int:
    """Print one JSON object."""
    name, net_values, values = context.arguments[0], json.loads(context.arguments[1]), json.loads(context.arguments[2])
    settings = settings_of(net_values)
    result: Figures | dict[str, Figures]
    with radio_lab(context, settings) as lab:
        if name in REFERENCES:
            result = REFERENCES[name](lab, settings, **values)
        else:
            net = RadioNet(lab, settings)
            net.start()
            with net.client() as client:
                if name == "several":
                    result = {each: MEASURES[each](net, client, **own) for each, own in values.items()}
                else:
                    result = MEASURES[name](net, client, **values)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0
