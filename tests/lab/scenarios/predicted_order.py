# SPDX-License-Identifier: Apache-2.0
"""Links of six kinds: is the order of their scores, for small and large bundles, that of the measured times?

Arguments: `short` or `full`. Prints one JSON object; fails when fewer than 95 % of the pairs agree, or when the link
that is predicted best takes more than 10 % longer than the best one, over all sizes.
"""

import contextlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from meshd.client.client import Client
from meshd.client.errors import DaemonUnreachable
from meshd.control.errors import ControlError
from meshd.link.metric import LinkMetric
from netns_lab.lab import Lab
from netns_lab.link_profile import LinkProfile, RandomLoss
from netns_lab.mesh_node import BearerUse, MeshNode, issue_link_keys, start_all
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import ScenarioContext
from netns_lab.timeline import wait_until

TOPOLOGY = Path(__file__).parent / "star.toml"
AGREEMENT_MIN = 0.95
REGRET_MAX = 0.1
PATIENCE_S = 120.0
WARM_UP_BYTES = 64 * 1024
WARM_UPS = 3
SAMPLED_S = 1.5
"""A link's score takes in what has been measured once a second."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One link of the star."""

    rate_kbps: int
    delay_ms: int
    loss_pct: float = 0.0
    is_radio: bool = False


KINDS: Mapping[str, Kind] = {
    "n1": Kind(20_000, 5),
    "n2": Kind(4_000, 60),
    "n3": Kind(8_000, 120),
    "n4": Kind(500, 10, 5, is_radio=True),
    "n5": Kind(2_000, 300, 1, is_radio=True),
    "n6": Kind(10_000, 300, 10, is_radio=True),
}
SHORT = ("n1", "n2", "n4", "n5")
SIZES = {"short": (1024, 16 * 1024, 128 * 1024), "full": (1024, 16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024)}
REPEATS = {"short": 3, "full": 5}


class Sink(threading.Thread):
    """The application at one neighbour."""

    def __init__(self, node: str) -> None:
        super().__init__(daemon=True)
        self.node = node
        self._path = str(WORK_FOLDER / node / "control.sock")
        self._came = threading.Condition()
        self._arrived: dict[str, float] = {}

    def run(self) -> None:
        with Client(self._path) as client, contextlib.suppress(DaemonUnreachable):
            receiver = client.recv_open("inbox")
            while True:
                try:
                    message = client.recv_next(receiver, 60.0)
                except ControlError as error:
                    if error.name != "timeout":
                        raise
                    continue
                with self._came:
                    self._arrived[message.message] = time.monotonic()
                    self._came.notify()
                client.recv_confirm(receiver, message.message)

    def wait(self, message: str) -> float:
        """When it was there."""
        with self._came:
            if not self._came.wait_for(lambda: message in self._arrived, PATIENCE_S):
                raise TimeoutError(f"{message} does not arrive")
            return self._arrived[message]


def run(context: ScenarioContext) -> int:
    """Print one JSON object."""
    (form,) = context.arguments
    nodes = SHORT if form == "short" else tuple(KINDS)
    with context.lab(str(TOPOLOGY)) as lab:
        start_nodes(lab, nodes)
        sinks = {node: Sink(node) for node in nodes}
        for sink in sinks.values():
            sink.start()
        with Client(str(WORK_FOLDER / "hub" / "control.sock")) as client:
            with ThreadPoolExecutor(len(nodes)) as pool:
                list(pool.map(warm_up, sinks.values()))
            time.sleep(SAMPLED_S)  # nothing tells of a sample
            predicted, measured = compare(client, sinks, SIZES[form], REPEATS[form])
    result = judge(predicted, measured)
    sys.stdout.write(json.dumps(result) + "\n")
    return int(result["agreement"] < AGREEMENT_MIN or result["regret"] > REGRET_MAX)


def start_nodes(lab: Lab, nodes: tuple[str, ...]) -> None:
    """The hub and its neighbours, all links up."""
    keys = issue_link_keys(WORK_FOLDER / "pki", ["hub", *nodes])
    uses = []
    started = []
    for node in nodes:
        kind, link = KINDS[node], lab.topology.link(f"l{node[1:]}")
        loss = RandomLoss(kind.loss_pct / 100) if kind.loss_pct else None
        rate_bps = kind.rate_kbps * 1000
        limit = max(250, kind.rate_kbps * kind.delay_ms // 4000)
        lab.link(link.name).set_profile(
            LinkProfile(node, "", kind.delay_ms / 1000, 0, loss, rate_bps=rate_bps, limit=limit)
        )
        name = "satcom" if kind.is_radio else "terrestrial"
        rate = f"{kind.rate_kbps} kbit/s"
        address, hub = link.members[node].ip(4), link.members["hub"].ip(4)
        uses.append(BearerUse(link.bearer, name, rate, node, address, is_fountain=kind.is_radio))
        own = BearerUse(link.bearer, name, rate, "hub", hub if kind.is_radio else None, is_fountain=kind.is_radio)
        started.append(MeshNode(lab.node(node), WORK_FOLDER / node, [own], keys[node]))
    started.append(MeshNode(lab.node("hub"), WORK_FOLDER / "hub", uses, keys["hub"]))
    start_all(started)
    wait_until(lambda: started[-1].links_up() == len(nodes), PATIENCE_S, "a link stays down")


def transfer_s(client: Client, sink: Sink, node: str, size_bytes: int) -> float:
    """From the call until the application at the other end has it."""
    since_s = time.monotonic()
    return sink.wait(client.send_bytes(f"dtn://{node}/inbox", bytes(size_bytes)).message) - since_s


def warm_up(sink: Sink) -> None:
    """Until the link's score rests on some transfers."""
    with Client(str(WORK_FOLDER / "hub" / "control.sock")) as client:
        for _ in range(WARM_UPS):
            transfer_s(client, sink, sink.node, WARM_UP_BYTES)


Times = dict[int, dict[str, float]]


def compare(client: Client, sinks: Mapping[str, Sink], sizes: tuple[int, ...], repeats: int) -> tuple[Times, Times]:
    """Expected and measured seconds, by size and neighbour. A prediction is made before its transfers."""
    predicted: Times = {}
    measured: Times = {}
    for size_bytes in sizes:
        predicted[size_bytes] = {
            node: metric.expected_s(size_bytes, 0.0) for node, metric in read_metrics(client).items()
        }
        measured[size_bytes] = {
            node: statistics.median(transfer_s(client, sink, node, size_bytes) for _ in range(repeats))
            for node, sink in sinks.items()
        }
    return predicted, measured


def read_metrics(client: Client) -> dict[str, LinkMetric]:
    """What the hub knows of its links."""
    found = {}
    for row in client.links():
        score, node = row["score"], str(row["neighbour"]).removeprefix("dtn://").rstrip("/")
        found[node] = LinkMetric(float(score["rate_bps"]), score["owd_s"], loss=score["loss_out"])
    return found


def judge(predicted: Times, measured: Times) -> dict[str, Any]:
    """Share of size x link pairs in the right order, and what following the predictions costs."""
    right = total = 0
    wrong = []
    for size_bytes, times in measured.items():
        for one, other in combinations(times, 2):
            total += 1
            expected = predicted[size_bytes]
            if (expected[one] < expected[other]) is (times[one] < times[other]):
                right += 1
            else:
                wrong.append([size_bytes, one, other])
    chosen_s = sum(times[min(times, key=predicted[size].__getitem__)] for size, times in measured.items())
    best_s = sum(min(times.values()) for times in measured.values())
    return {
        "agreement": right / total,
        "pairs": total,
        "regret": chosen_s / best_s - 1,
        "wrong": wrong,
        "predicted": predicted,
        "measured": measured,
    }
