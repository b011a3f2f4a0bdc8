# SPDX-License-Identifier: Apache-2.0
"""Send numbered datagrams over a plain cable: whole, cut one way, cut, restored. Tell what
arrived and what sniffers saw."""

import json
import select
import socket
import sys
import time

from netns_lab.frame_log import Direction
from netns_lab.lab import Lab
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import ScenarioContext
from netns_lab.topology import Link

DATAGRAMS = 40
QUIET_S = 0.5
"""After what is expected: anything more is wrong."""
PATIENCE_S = 10.0
PCAP = WORK_FOLDER / "a.pcap"


def run(context: ScenarioContext) -> int:
    """Print one JSON object."""
    with context.lab("bearers") as lab:
        link = lab.topology.link("cable")
        receiver, sender = _pair(lab, link)
        with receiver, sender:
            _burst(sender, receiver, 1, 1)  # fills the neighbour tables
            handle = lab.link("cable")
            result = {"whole": _step(lab, sender, receiver)}
            handle.cut(towards="b")
            result["cut"] = _step(lab, sender, receiver, expected=0)
            handle.restore()
            result["restored"] = _step(lab, sender, receiver)
            handle.cut(towards="a")
            result["cut_the_other_way"] = _step(lab, sender, receiver)
        pcap_frames = lab.sniffer("cable0", "a").write_pcap(PCAP)
        figures = {"pcap_frames": pcap_frames, "pcap_bytes": PCAP.stat().st_size, "report": lab.report()}
        sys.stdout.write(json.dumps(result | figures) + "\n")
    return 0


def _pair(lab: Lab, link: Link) -> tuple[socket.socket, socket.socket]:
    with lab.node("b").inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((link.members["b"].ip(4), 0))
    with lab.node("a").inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.connect(receiver.getsockname())
    return receiver, sender


def _step(lab: Lab, sender: socket.socket, receiver: socket.socket, expected: int = DATAGRAMS) -> dict[str, int]:
    since_s = time.monotonic()
    arrived = _burst(sender, receiver, DATAGRAMS, expected)
    left = lab.sniffer("cable0", "a").count(since_s)
    reached = lab.sniffer("cable0", "b").count(since_s, direction=Direction.TO_NODE)
    return {
        "arrived": arrived,
        "left_a": left.kinds.get("IPv4 UDP", 0),
        "reached_b": reached.kinds.get("IPv4 UDP", 0),
        "missed": left.missed + reached.missed,
    }


def _burst(sender: socket.socket, receiver: socket.socket, count: int, expected: int) -> int:
    for number in range(count):
        sender.send(number.to_bytes(4, "big"))
    arrived = 0
    while select.select([receiver], [], [], PATIENCE_S if arrived < expected else QUIET_S)[0]:
        receiver.recv(100)
        arrived += 1
    return arrived
