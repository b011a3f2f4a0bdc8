# SPDX-License-Identifier: Apache-2.0
"""Measures of silence broken by order, and of what leaves first after it, between real daemons on a radio net."""

import time
from typing import Final

from meshd.client.client import Client
from netns_lab.errors import LabError
from tests.lab.radio_net import BEARER, PATIENCE_S, SENDER, Inbox, RadioNet

WINDOW_S: Final = 1.0
QUOTA_BYTES: Final = 30_000
WHOLE_BYTES: Final = 200_000
SETTLE_S: Final = 0.5

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
