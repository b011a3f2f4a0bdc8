# SPDX-License-Identifier: Apache-2.0
"""Measures of silence between real daemons on a radio net: broken by order; what leaves first after it; what stops
whoever sent meanwhile.
"""

import math
import time
from typing import Final

from meshd.client.client import Client
from meshd.emcon.schedule_text import render_instant
from netns_lab.errors import LabError
from netns_lab.timeline import wait_until
from tests.lab.radio_net import BEARER, MIB, PATIENCE_S, SENDER, Inbox, RadioNet

WINDOW_S: Final = 1.0
QUOTA_BYTES: Final = 30_000
WHOLE_BYTES: Final = 200_000
SETTLE_S: Final = 0.5

FAR: Final = "dtn://far/"
BEYOND: Final = {"bearer": "hf0", "start": "+0 s", "rate": "1 Mbit/s", "radiates": True, "new_nodes": True}
"""From the receiver on: by another radio of it, at all times."""

Figures = dict[str, float]


def measure_breach(
    net: RadioNet, client: Client, window_s: float = WINDOW_S, quota_bytes: int = QUOTA_BYTES
) -> Figures:
    """The sender is silent. A window for a small urgent message, then one whose quota a large one exceeds, then one for
    a single message beside another; what left the device by the sniffer, and what the daemon says of it.
    """
    node, inbox = net.nodes[SENDER], net.inboxes["b1"]
    opened_s = time.monotonic()
    inbox.wait([net.send(client, 1000)])
    net.wait_until_empty(client)
    figures: Figures = {"frames_open": net.left_frames(SENDER, opened_s)}
    node.meshctl("emcon", "set", "silent")
    silent_s = time.monotonic()
    routine = net.send(client, 1000)
    flash = net.send(client, 1000, precedence="FLASH")
    time.sleep(SETTLE_S)  # long enough for both to leave if they could
    figures["frames_silent"] = net.left_frames(SENDER, silent_s)
    begun_s = time.monotonic()
    small = client.break_silence([BEARER], for_s=window_s, quota_bytes=100_000, reason="the lab")
    figures["flash_arrived"] = flash in inbox.arrived
    figures["routine_arrived"] = routine in inbox.arrived
    figures["frames_by_the_kernel"] = small["frames"]
    figures["frames_by_the_sniffer"] = net.left_frames(SENDER, begun_s)
    large = net.send(client, WHOLE_BYTES, precedence="FLASH")
    begun_s = time.monotonic()
    bounded = client.break_silence([BEARER], for_s=window_s, quota_bytes=quota_bytes, reason="the lab")
    over_s = time.monotonic()
    count = net.lab.sniffer(BEARER, SENDER).count(begun_s)
    figures["quota_bytes"], figures["bytes_by_the_kernel"] = quota_bytes, bounded["bytes"]
    figures["bytes_by_the_sniffer"] = count.size_bytes
    figures["late_s"] = (count.last_s or over_s) - over_s
    others = {row["id"] for row in client.bundles()["bundles"]}
    single = net.send(client, 2000, precedence="FLASH")
    (wanted,) = {row["id"] for row in client.bundles()["bundles"]} - others
    node.meshctl("emcon", "break", "--bearer", BEARER, "--bundle", wanted, "--reason", "the lab")
    inbox.wait([single], SETTLE_S)
    figures["single_arrived"] = single in inbox.arrived
    figures["others_arrived"] = large in inbox.arrived or routine in inbox.arrived
    after_s = time.monotonic()
    time.sleep(SETTLE_S)
    figures["frames_afterwards"] = net.left_frames(SENDER, after_s)
    rows = client.verify_emcon()["bearers"]
    figures["is_verified"] = all(row["good"] for row in rows)
    figures["frames_by_verify"] = rows[0]["let_out_frames"]
    figures["frames_in_all"] = net.left_frames(SENDER, silent_s)
    figures["on_record"] = len([row for row in node.meshctl("audit", "show") if row.get("action") == "emcon.breaking"])
    node.meshctl("emcon", "set", "unrestricted")
    inbox.wait([routine, large])
    net.wait_until_empty(client)
    return figures


def measure_leaving(net: RadioNet, client: Client, count: int = 20) -> Figures:
    """A receiver is silent, gets messages, and has some of its own: what leaves when it may speak again, and when."""
    node = net.nodes["b1"]
    back = Inbox(net.nodes[SENDER].socket_path)
    back.start()
    node.meshctl("emcon", "set", "silent")
    silent_s = time.monotonic()
    tags = [net.send(client, 2000, precedence="FLASH" if number % 4 == 3 else "ROUTINE") for number in range(count)]
    net.inboxes["b1"].wait(tags)
    own: dict[str, bytes] = {}
    with Client(node.socket_path) as there:
        for precedence in ("DEFERRED", "ROUTINE", "FLASH", "PRIORITY", "IMMEDIATE"):
            own[precedence] = net.send(there, 20_000, f"dtn://{SENDER}/inbox", precedence=precedence)
    figures: Figures = {"frames_silent": net.left_frames("b1", silent_s)}
    held: list[float] = []
    with Client(node.socket_path) as listener:
        listener.subscribe(["bearer.held_off"])
        opened_s = time.monotonic()
        node.meshctl("emcon", "set", "unrestricted")
        event = listener.next_event(PATIENCE_S)
        if event is None:
            raise LabError("the daemon does not say how long it holds off")
        held.append(float(event.fields["held_s"]))
    net.wait_until_empty(client)
    stopped_s = time.monotonic()
    order = ["FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE", "DEFERRED"]
    times_s = back.wait([own[each] for each in order])
    first = net.lab.sniffer(BEARER, "b1").count(opened_s)
    return figures | {
        "frames_early": net.lab.sniffer(BEARER, "b1").count(silent_s, opened_s + held[0]).frames,
        "frames_open": first.frames,
        "held_s": held[0],
        "is_in_order": times_s == sorted(times_s),
        "acknowledged_s": stopped_s - opened_s,
        "complete": sum(tag in net.inboxes["b1"].arrived for tag in tags),
    }


def measure_deferred(
    net: RadioNet, client: Client, count: int = 2, size_mib: float = 1, rounds: int = 1, *, is_told: bool = False
) -> Figures:
    """Objects to a node that is silent for a while, several times: how many frames it takes, afterwards, to stop the
    sender. What is not acknowledged has a limit, so that there are several silences for many objects.

    `is_told`: the sender is told of the silence; otherwise it finds out.
    """
    found = [_one_silence(net, client, count, int(size_mib * MIB), is_told=is_told) for _ in range(rounds)]
    return {
        "complete_pct": sum(each["complete"] for each in found) * 100 / (count * rounds),
        "complete_afterwards": sum(each["complete_afterwards"] for each in found),
        "frames_back": sum(each["frames_back"] for each in found),
        "wire_per_payload": sum(each["sent_bytes"] for each in found) / (rounds * count * size_mib * MIB),
        "stopped_s": max(each["stopped_s"] for each in found),
        "frames_that_stopped": max(each["frames_that_stopped"] for each in found),
        "sent_afterwards_bytes": max(each["sent_afterwards_bytes"] for each in found),
        "wrong": net.inboxes["b1"].wrong,
    }


def _one_silence(net: RadioNet, client: Client, count: int, size_bytes: int, *, is_told: bool) -> Figures:
    node, inbox = net.nodes["b1"], net.inboxes["b1"]
    if is_told:
        net.nodes[SENDER].meshctl("peers", "set-silent", "dtn://b1/")
    node.meshctl("emcon", "set", "silent")
    since_s, before = time.monotonic(), net.left_bytes(SENDER)
    tags = [net.send(client, size_bytes) for _ in range(count)]
    inbox.wait(tags)
    complete, frames_back = sum(tag in inbox.arrived for tag in tags), net.left_frames("b1", since_s)
    sent_bytes = net.left_bytes(SENDER) - before
    node.meshctl("emcon", "set", "unrestricted")
    opened_s = time.monotonic()
    net.wait_until_empty(client)
    return {
        "complete": complete,
        "complete_afterwards": sum(tag in inbox.arrived for tag in tags),
        "frames_back": frames_back,
        "sent_bytes": sent_bytes,
        "sent_afterwards_bytes": net.left_bytes(SENDER) - before - sent_bytes,
        "stopped_s": time.monotonic() - opened_s,
        "frames_that_stopped": net.left_frames("b1", opened_s),
    }


def measure_planned(net: RadioNet, client: Client, ahead_s: int = 3, silent_s: int = 3) -> Figures:
    """A receiver will be silent for a while by its schedule: what its neighbour knows of that from the signed
    advertisement, what it does with a message then, and what left the silent node meanwhile.
    """
    node, inbox, receiver = net.nodes["b1"], net.inboxes["b1"], "dtn://b1/"
    begins_s = math.ceil(time.time()) + ahead_s
    row = f"silent from {render_instant(begins_s * 1000)} for {silent_s}s"
    node.meshctl("emcon", "schedule", row, "--otherwise", "unrestricted", "--margin", "1s")
    ordered_s = time.monotonic()
    wait_until(lambda: receiver in _planned(client), PATIENCE_S, "the plan does not come")
    told_s = time.monotonic() - ordered_s
    (known,) = client.emcon_plan(receiver)["plans"]
    with Client(node.socket_path) as there:
        (own,) = there.emcon_plan(receiver)["plans"]
    figures: Figures = {"told_s": told_s, "is_the_same_plan": known["windows"][-1] == own["windows"][-1]}
    client.add_contact({**BEYOND, "from": receiver, "to": FAR})
    wait_until(lambda: _state(client) == "silent", PATIENCE_S, "the neighbour does not count as silent")
    route = client.routes({"to": FAR})["routes"][0]
    figures["is_sent_to_at_once"] = route["hops"][0]["wait_s"] < 1
    figures["arrival_after_window_ms"] = route["arrival_ms"] - known["windows"][-1]["begins_ms"]
    silent_since_s = time.monotonic()
    tag = net.send(client, 20_000)
    inbox.wait([tag])
    figures["arrived_blind"] = tag in inbox.arrived
    figures["frames_back"] = net.left_frames("b1", silent_since_s)
    figures["is_kept"] = client.bundles(limit=1)["total"] > 0
    figures["is_still_silent"] = _state(client) == "silent"
    net.wait_until_empty(client)
    figures["after_the_silence_s"] = time.time() - begins_s - silent_s
    figures["frames_open"] = net.left_frames("b1", silent_since_s)
    return figures


def _planned(client: Client) -> set[str]:
    return {row["node"] for row in client.emcon_plan()["plans"]}


def _state(client: Client) -> str:
    """Of the one neighbour."""
    (peer,) = client.peers()
    return str(peer["state"])
