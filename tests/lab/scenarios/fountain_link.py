# SPDX-License-Identifier: Apache-2.0
"""Two daemons over the fountain layer on a lossy radio link: a file, FLASH during bulk, and a receiver in silence.

Arguments: bytes of the file, loss in percent, delay in ms, rate in kbit/s, number of FLASH messages. Prints one JSON
object with what was measured.
"""

import contextlib
import json
import sys
import threading
import time
from pathlib import Path

from meshd.client.client import Client
from meshd.client.errors import DaemonUnreachable
from meshd.control.errors import ControlError
from netns_lab.lab import Lab
from netns_lab.link_profile import LinkProfile, RandomLoss
from netns_lab.mesh_node import BearerUse, MeshNode, issue_link_keys
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import ScenarioContext
from netns_lab.timeline import wait_until

MESSAGE_BYTES = 1 << 20
FLASH_BYTES = 1024
FLASH_EVERY_S = 0.25
BLIND_BYTES = 20_000
PATIENCE_S = 60.0


class Inbox(threading.Thread):
    """The application at b; notes when each message is there, and takes it."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = str(path)
        self.arrived: dict[str, float] = {}

    def run(self) -> None:
        with Client(self._path) as client, contextlib.suppress(DaemonUnreachable):
            receiver = client.recv_open("inbox")
            while True:
                try:
                    message = client.recv_next(receiver, 1.0)
                except ControlError as error:
                    if error.name != "timeout":
                        raise
                    continue
                self.arrived[message.message] = time.monotonic()
                client.recv_confirm(receiver, message.message)

    def wait(self, message: str) -> float:
        """When it was there; infinity: it never came."""
        until_s = time.monotonic() + PATIENCE_S
        while message not in self.arrived and time.monotonic() < until_s:
            time.sleep(0.005)
        return self.arrived.get(message, float("inf"))


def run(context: ScenarioContext) -> int:
    """Print one JSON object."""
    size_bytes, loss_pct, delay_ms, rate_kbps, flashes = map(int, context.arguments)
    with context.lab("bearers") as lab:
        profile = LinkProfile(
            "radio",
            delay_s=delay_ms / 1000,
            rate_bps=rate_kbps * 1000,
            loss=RandomLoss(loss_pct / 100),
            limit=max(250, rate_kbps * delay_ms // 4000),
        )
        lab.link("satcom").set_profile(profile)
        result = measure(lab, f"{rate_kbps} kbit/s", size_bytes, flashes)
    capacity_bps = rate_kbps * 1000 * (1 - loss_pct / 100)
    result["goodput_ratio"] = size_bytes * 8 / (result["file_s"] - delay_ms / 1000) / capacity_bps
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def measure(lab: Lab, rate: str, size_bytes: int, flashes: int) -> dict[str, float]:
    """All figures."""
    keys = issue_link_keys(WORK_FOLDER / "pki", ["a", "b"])
    members = lab.topology.link("satcom").members
    nodes = {}
    for name, other in (("a", "b"), ("b", "a")):
        use = BearerUse("satcom0", "satcom", rate, other, members[other].ip(4), is_fountain=True)
        nodes[name] = MeshNode(lab.node(name), WORK_FOLDER / name, [use], keys[name])
        nodes[name].start()
    wait_until(lambda: all(node.links_up() for node in nodes.values()), PATIENCE_S, "a link stays down")
    inbox = Inbox(WORK_FOLDER / "b" / "control.sock")
    inbox.start()
    with Client(str(WORK_FOLDER / "a" / "control.sock")) as client:
        return (
            carry_file(lab, client, inbox, size_bytes)
            | overtake(client, inbox, size_bytes, flashes)
            | keep_silent(lab, nodes["b"], client, inbox)
        )


def carry_file(lab: Lab, client: Client, inbox: Inbox, size_bytes: int) -> dict[str, float]:
    """Seconds from the call to the last byte committed, and bytes that left for each byte of it."""
    since_s = time.monotonic()
    took_s = max(map(inbox.wait, send_bulk(client, size_bytes))) - since_s
    wire = lab.sniffer("satcom0", "a").count(since_s)
    return {"file_s": took_s, "wire_per_payload": wire.size_bytes / size_bytes, "missed": wire.missed}


def send_bulk(client: Client, size_bytes: int) -> list[str]:
    """The messages that make so many bytes."""
    sizes = [min(MESSAGE_BYTES, size_bytes - offset) for offset in range(0, size_bytes, MESSAGE_BYTES)]
    return [client.send_bytes("dtn://b/inbox", bytes(size)).message for size in sizes]


def overtake(client: Client, inbox: Inbox, size_bytes: int, flashes: int) -> dict[str, float]:
    """Seconds that FLASH messages take while a file is under way."""
    bulk = send_bulk(client, 2 * size_bytes)
    times_s = []
    for _ in range(flashes):
        time.sleep(FLASH_EVERY_S)
        since_s = time.monotonic()
        sent = client.send_bytes("dtn://b/inbox", bytes(FLASH_BYTES), precedence="FLASH")
        times_s.append((sent.message, since_s))
    took_s = sorted(inbox.wait(message) - since_s for message, since_s in times_s)
    is_bulk_done = bulk[-1] in inbox.arrived
    return {"flash_median_s": took_s[len(took_s) // 2], "flash_max_s": took_s[-1], "bulk_was_done": is_bulk_done}


def keep_silent(lab: Lab, node: MeshNode, client: Client, inbox: Inbox) -> dict[str, float]:
    """A message reaches a node in silence, which answers when it is over."""
    wait_until(lambda: not client.bundles()["total"], PATIENCE_S, "the bulk does not arrive")
    node.meshctl("emcon", "set", "silent")
    since_s = time.monotonic()
    sent = client.send_bytes("dtn://b/inbox", bytes(BLIND_BYTES))
    took_s = inbox.wait(sent.message) - since_s
    frames = lab.sniffer("satcom0", "b").count(since_s)
    node.meshctl("emcon", "set", "unrestricted")
    wait_until(lambda: not client.bundles()["total"], PATIENCE_S, "nothing is acknowledged after the silence")
    return {"blind_s": took_s, "frames_in_silence": frames.frames, "missed_in_silence": frames.missed}
