# SPDX-License-Identifier: Apache-2.0
"""A radio bearer's socket behind the emission gate on the running kernel: many datagrams with one call do not
leave, as single ones do not, and are counted as what they are on the wire."""

import contextlib
import dataclasses
from pathlib import Path

import pytest

from meshd.bearer.datagram_socket import DatagramSocket
from meshd.emcon.gate import GateLimits
from meshd.linux.emission_gate import KernelGate
from tests.lab.gate_netns import FAR_IP, NODE_IP, Wire, inside
from tests.unit.bearer.fountain_peers import radio_settings

pytestmark = [pytest.mark.root, pytest.mark.lab]

RUN = [bytes(1400)] * 3


@pytest.mark.parametrize("count", [1, 3])
def test_no_datagram_leaves_a_closed_gate(count: int, tmp_path: Path) -> None:
    settings = dataclasses.replace(radio_settings(listen=f"{NODE_IP}:0"), device="rad0")
    with contextlib.closing(Wire()) as wire, contextlib.ExitStack() as stack:
        with inside(wire.node):
            gate = KernelGate(tmp_path / "shaping")
            stack.callback(gate.release)
            sock = stack.enter_context(contextlib.closing(DatagramSocket(settings)))
        for closings in range(2):
            gate.open("rad0", 60.0)
            assert sock.send(RUN[:count], (FAR_IP, 4557)) == (0, "")
            assert sum(map(len, wire.heard())) > 1400 * count, f"closed {closings} times before"
            gate.close(["rad0"])
            wire.heard()
            assert sock.send(RUN[:count], (FAR_IP, 4557)) == (0, ""), "the kernel does not say so"
            assert wire.heard() == []


def test_the_quota_counts_every_header_of_what_leaves_together(tmp_path: Path) -> None:
    settings = dataclasses.replace(radio_settings(listen=f"{NODE_IP}:0"), device="rad0")
    with contextlib.closing(Wire()) as wire, contextlib.ExitStack() as stack:
        with inside(wire.node):
            gate = KernelGate(tmp_path / "shaping")
            stack.callback(gate.release)
            sock = stack.enter_context(contextlib.closing(DatagramSocket(settings)))
        sock.is_counted = True
        gate.restrict("rad0", GateLimits((settings.mark,), 10 * len(RUN[0]), None, 1564), 60.0)
        wire.heard()
        sock.send(RUN, (FAR_IP, 4557))
        heard = wire.heard()
        assert len(heard) == len(RUN)
        assert gate.counters()["rad0"].quota_used_bytes == sum(map(len, heard))
        sock.send(RUN * 5, (FAR_IP, 4557))
        assert sum(map(len, heard + wire.heard())) <= 10 * len(RUN[0])
