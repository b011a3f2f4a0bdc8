# SPDX-License-Identifier: Apache-2.0
"""Two daemons with two terrestrial lines and a radio between them: the better line dies silently, and returns.

Arguments: seconds of idle radio to look at after it has come to rest (0: do not). Prints one JSON object.
"""

import contextlib
import json
import sys
import threading
import time
from itertools import pairwise

from meshd.client.client import Client
from meshd.client.errors import DaemonUnreachable
from meshd.control.errors import ControlError
from netns_lab.lab import Lab
from netns_lab.link_profile import LinkProfile
from netns_lab.mesh_node import BearerUse, MeshNode, issue_link_keys, start_all
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import ScenarioContext
from netns_lab.timeline import wait_until

GOOD = LinkProfile("good", delay_s=0.002, rate_bps=50_000_000)
POOR = LinkProfile("poor", delay_s=0.005, rate_bps=10_000_000)
MESSAGE_BYTES = 1024
EVERY_S = 0.02
USED_MIN = 50
"""A line that so many messages have left on is in use."""
UNDER_WAY_S = 0.3
"""What arrives later than this after the cut has come on another line."""
AFTER_S = 1.0
"""Window of measurement: traffic goes on for so long after a line has taken over, in which gaps would be seen."""
REST_S = 66.0
"""Beacons come to rest within a minute."""
PATIENCE_S = 30.0


class Sink(threading.Thread):
    """The application at b: notes when each message is there."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.arrived: dict[str, float] = {}
        self.last_s = 0.0
        self.twice = 0

    def run(self) -> None:
        with Client(str(WORK_FOLDER / "b" / "control.sock")) as client, contextlib.suppress(DaemonUnreachable):
            receiver = client.recv_open("inbox")
            while True:
                try:
                    message = client.recv_next(receiver, 1.0)
                except ControlError as error:
                    if error.name != "timeout":
                        raise
                    continue
                self.twice += message.message in self.arrived
                self.last_s = time.monotonic()
                self.arrived.setdefault(message.message, self.last_s)
                client.recv_confirm(receiver, message.message)


class Source(threading.Thread):
    """The application at a: one message each EVERY_S."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.sent: list[str] = []
        self._ends = threading.Event()

    def run(self) -> None:
        with Client(str(WORK_FOLDER / "a" / "control.sock")) as client:
            while not self._ends.wait(EVERY_S):
                self.sent.append(client.send_bytes("dtn://b/inbox", bytes(MESSAGE_BYTES)).message)

    def end(self) -> list[str]:
        """All that was sent."""
        self._ends.set()
        self.join()
        return self.sent


def run(context: ScenarioContext) -> int:
    """Print one JSON object."""
    idle_s = float(context.arguments[0]) if context.arguments else 0.0
    with context.lab("bearers") as lab:
        lab.link("cable").set_profile(GOOD)
        lab.link("lan").set_profile(POOR)
        start_nodes(lab)
        begun_s = time.monotonic()
        result = measure(lab)
        if idle_s:
            result |= count_idle(lab, begun_s, idle_s)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def start_nodes(lab: Lab) -> None:
    """Both daemons with all links up."""
    keys = issue_link_keys(WORK_FOLDER / "pki", ["a", "b"])
    nodes = []
    for name, other in (("a", "b"), ("b", "a")):
        los = lab.topology.link("los").members[other].ip(4)
        uses = [BearerUse("los0", "los", "500 kbit/s", other, los, is_fountain=True)]
        for bearer, link, rate in (("cable0", "cable", "50 Mbit/s"), ("lan0", "lan", "10 Mbit/s")):
            dial = lab.topology.link(link).members[other].ip(4) if name == "a" else None
            uses.append(BearerUse(bearer, "terrestrial", rate, other, dial))
        # The kernel would look for routers on the radio net for minutes, which is no daemon's doing.
        lab.node(name).run(["sysctl", "-q", "-w", "net.ipv6.conf.los0.router_solicitations=0"])
        nodes.append(MeshNode(lab.node(name), WORK_FOLDER / name, uses, keys[name]))
    start_all(nodes)
    wait_until(lambda: all(node.links_up() == 3 for node in nodes), PATIENCE_S, "a link stays down")


def measure(lab: Lab) -> dict[str, float]:
    """Failover under traffic, failback, failover of an idle line."""
    sink = Sink()
    sink.start()
    with Client(str(WORK_FOLDER / "a" / "control.sock")) as client:
        source = Source()
        source.start()
        wait_until(lambda: sent_by(client, "cable0") >= USED_MIN, PATIENCE_S, "the better line is not used")
        before = sent_by(client, "cable0")
        lab.link("cable").cut()
        cut_s = time.monotonic()
        wait_until(lambda: sink.last_s > cut_s + UNDER_WAY_S, PATIENCE_S, "nothing arrives on the other lines")
        time.sleep(AFTER_S)
        lab.link("cable").restore()
        restored_s = time.monotonic()
        wait_until(lambda: is_up(client, "cable0"), PATIENCE_S, "the line is not found again")
        during = sent_by(client, "cable0")
        returned_s = time.monotonic() - restored_s
        wait_until(lambda: sent_by(client, "cable0") >= during + USED_MIN, PATIENCE_S, "the line is not used again")
        time.sleep(AFTER_S)
        after = sent_by(client, "cable0")
        sent = source.end()
        wait_until(lambda: all(each in sink.arrived for each in sent), PATIENCE_S, "messages are lost")
        times_s = sorted(sink.arrived.values())
        gaps = [(one, two - one) for one, two in pairwise(times_s)]
        lab.link("cable").cut()
        idle_cut_s = time.monotonic()
        wait_until(lambda: not is_up(client, "cable0"), PATIENCE_S, "the idle line is not found dead")
        idle_s = time.monotonic() - idle_cut_s
    return {
        "messages": len(sent),
        "lost": sum(each not in sink.arrived for each in sent),
        "twice": sink.twice,
        "used_better": before,
        "used_after_failback": after - during,
        "failover_s": max(gap for one, gap in gaps if cut_s - 1 < one < restored_s),
        "found_again_s": returned_s,
        "failback_gap_s": max(gap for one, gap in gaps if one >= restored_s),
        "failover_idle_s": idle_s,
    }


def is_up(client: Client, bearer: str) -> bool:
    """Whether a's link on this bearer is up."""
    return any(row["bearer"] == bearer and row["state"] == "up" for row in client.links())


def sent_by(client: Client, bearer: str) -> int:
    """Bundles that a has sent on this bearer."""
    return sum(int(row["sent_bundles"]) for row in client.links() if row["bearer"] == bearer)


def count_idle(lab: Lab, begun_s: float, idle_s: float) -> dict[str, float]:
    """Frames and bytes that a node sends on the radio bearer in a minute when there is nothing to do."""
    time.sleep(max(begun_s + REST_S - time.monotonic(), 0))  # nothing tells of rest; it is what is looked for
    since_s = time.monotonic()
    time.sleep(idle_s)  # the window of measurement
    counts = [lab.sniffer("los0", node).count(since_s) for node in ("a", "b")]
    minutes = idle_s / 60 * len(counts)
    return {
        "idle_frames_per_min": sum(count.frames for count in counts) / minutes,
        "idle_bytes_per_min": sum(count.size_bytes for count in counts) / minutes,
        "idle_missed": sum(count.missed for count in counts),
    }
