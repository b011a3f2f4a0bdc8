# SPDX-License-Identifier: Apache-2.0
"""One node sends a multicast datagram on a radio net of three. Tell who heard it, and send large
segments over the same net."""

import json
import select
import socket
import struct
import sys

from netns_lab.scenario import ScenarioContext, find_profile

GROUP = "224.0.0.251"
PORT = 5000
LARGE_BYTES = 200_000


def run(context: ScenarioContext) -> int:
    """Print one JSON object."""
    with context.lab("radio-net") as lab:
        lab.link("los").set_profile(find_profile("perfect"))
        members = lab.topology.link("los").members
        listeners: dict[str, socket.socket] = {}
        for node in ("dpop2", "dpop3"):
            with lab.node(node).inside():
                listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listener.bind((GROUP, PORT))
            membership = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(members[node].ip(4)))
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            listeners[node] = listener
        with lab.node("dpop1").inside():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(members["dpop1"].ip(4)))
        sender.sendto(b"to all", (GROUP, PORT))
        heard = [node for node, listener in listeners.items() if select.select([listener], [], [], 2.0)[0]]

        with lab.node("dpop2").inside():
            server = socket.create_server((members["dpop2"].ip(4), 0))
        with lab.node("dpop1").inside():
            client = socket.create_connection(server.getsockname(), timeout=5)
        accepted, _ = server.accept()
        client.sendall(bytes(LARGE_BYTES))
        client.close()
        received = 0
        while data := accepted.recv(65536):
            received += len(data)
        for handle in (*listeners.values(), sender, server, accepted):
            handle.close()
        sys.stdout.write(json.dumps({"heard": heard, "received": received}) + "\n")
    return 0
