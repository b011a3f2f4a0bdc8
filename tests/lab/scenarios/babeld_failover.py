# SPDX-License-Identifier: Apache-2.0
"""babeld on the lines and the radio of the failover scenario: what it emits, and how long it needs.

Arguments: seconds of idle radio to look at (0: do not); the longest failover in seconds. Prints one JSON object.
"""

import contextlib
import json
import socket
import sys
import threading
import time
from itertools import pairwise

from netns_lab.lab import Lab
from netns_lab.link_profile import LinkProfile
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import ScenarioContext
from netns_lab.timeline import wait_until

GOOD = LinkProfile("good", delay_s=0.002, rate_bps=50_000_000)
POOR = LinkProfile("poor", delay_s=0.005, rate_bps=10_000_000)
HOSTS = {"a": "10.99.0.1", "b": "10.99.0.2"}
PORT = 9
EVERY_S = 0.02
SETTLE_S = 15.0
PATIENCE_S = 60.0


class Sink(threading.Thread):
    """Takes the datagrams at b."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self._socket = sock
        self.times_s: list[float] = []

    def run(self) -> None:
        while True:
            self._socket.recv(64)
            self.times_s.append(time.monotonic())


def run(context: ScenarioContext) -> int:
    """Print one JSON object."""
    idle_s, wait_s = map(float, context.arguments)
    with context.lab("bearers") as lab:
        lab.link("cable").set_profile(GOOD)
        lab.link("lan").set_profile(POOR)
        start(lab)
        result = fail_over(lab, wait_s)
        if idle_s:
            since_s = time.monotonic()
            time.sleep(idle_s)  # the window of measurement
            counts = [lab.sniffer("los0", node).count(since_s) for node in HOSTS]
            minutes = idle_s / 60 * len(counts)
            result["babeld_idle_frames_per_min"] = sum(count.frames for count in counts) / minutes
            result["babeld_idle_bytes_per_min"] = sum(count.size_bytes for count in counts) / minutes
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def start(lab: Lab) -> None:
    """One babeld a node, with the defaults of its Debian package; the host's own address is what it announces."""
    for node, address in HOSTS.items():
        lab.node(node).run(["ip", "address", "add", f"{address}/32", "dev", "lo"])
        lab.node(node).run(["sysctl", "-q", "-w", "net.ipv6.conf.los0.router_solicitations=0"])
        state = WORK_FOLDER / f"babeld-{node}"
        rules = ["redistribute local ip 10.99.0.0/16 allow", "redistribute local deny", "interface los0 type wireless"]
        rules += [f"interface {bearer} type wired rxcost {cost}" for bearer, cost in (("cable0", 96), ("lan0", 256))]
        options = [option for rule in rules for option in ("-C", rule)]
        command = ["babeld", "-I", f"{state}.pid", "-S", f"{state}.state", *options, "los0", "cable0", "lan0"]
        with (WORK_FOLDER / f"babeld-{node}.log").open("wb") as log:
            lab.node(node).popen(command, stdout=log, stderr=log)


def fail_over(lab: Lab, wait_s: float) -> dict[str, float]:
    """Seconds without a datagram after the better line has died silently."""
    with lab.node("b").inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with lab.node("a").inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind((HOSTS["b"], PORT))
        sender.bind((HOSTS["a"], 0))
        sink = Sink(receiver)
        sink.start()
        lab.link("lan").cut()  # or it would take the first that it hears, for long
        wait_until(lambda: _probe(sender) and len(sink.times_s) > 10, PATIENCE_S, "babeld finds no route")
        lab.link("lan").restore()
        _probe_for(sender, SETTLE_S)
        wait_until(
            lambda: _probe(sender) and _uses(lab, "cable0"), PATIENCE_S, "babeld does not choose the better line"
        )
        lab.link("cable").cut()
        cut_s = time.monotonic()
        wait_until(lambda: _probe(sender) and not _uses(lab, "cable0"), wait_s, "babeld does not leave the dead line")
        _probe_for(sender, 1.0)
        times_s = list(sink.times_s)
    return {"babeld_failover_s": max(two - one for one, two in pairwise(times_s) if two > cut_s)}


def _uses(lab: Lab, bearer: str) -> bool:
    return bearer in lab.node("a").run(["ip", "route", "get", HOSTS["b"]]).stdout


def _probe(sender: socket.socket) -> bool:
    with contextlib.suppress(OSError):  # no route
        sender.sendto(b"probe", (HOSTS["b"], PORT))
    return True


def _probe_for(sender: socket.socket, for_s: float) -> None:
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        _probe(sender)
        time.sleep(EVERY_S)  # the pace of the probes
