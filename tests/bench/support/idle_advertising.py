# SPDX-License-Identifier: Apache-2.0
"""What advertisements add to the idle emission of a radio bearer: seven nodes that hear each other, on virtual time.

A refresh is half an hour away, too long for a lab that runs in real time; so it is counted in the core simulation, with
real agents. It is an upper bound: a copy for each neighbour, as on a bearer without a group address, each of them one
frame, and one frame that acknowledges it.
"""

from typing import Final

from tests.sim.test_topology_mesh import NAMES, NET
from tests.sim.topology_mesh import TopologyMesh

SETTLE_S: Final = 60.0
HOURS: Final = 6
FRAME_BYTES: Final = 90
"""Ethernet, IPv4, UDP, the sealed datagram and the header of the only symbol;"""
ACKNOWLEDGEMENT_BYTES: Final = 120
"""a whole frame that acknowledges it."""


def count_advertising() -> tuple[float, float]:
    """Frames and bytes in a minute, of the node that sends most."""
    mesh = TopologyMesh(NAMES, NET)
    mesh.set_all(up=True)
    mesh.time.run_until(mesh.time.now + SETTLE_S)
    before = {node.id: (node.sent_bundles, node.sent_bytes) for node in mesh.nodes.values()}
    mesh.time.run_until(mesh.time.now + HOURS * 3600)
    minutes = HOURS * 60
    counts = [
        (node.sent_bundles - before[node.id][0], node.sent_bytes - before[node.id][1]) for node in mesh.nodes.values()
    ]
    bundles, size_bytes = max(counts)
    return 2 * bundles / minutes, (size_bytes + bundles * (FRAME_BYTES + ACKNOWLEDGEMENT_BYTES)) / minutes
