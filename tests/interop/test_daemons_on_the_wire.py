# SPDX-License-Identifier: Apache-2.0
"""Two running daemons, everything between them caught from the loopback device: tshark finds no fault in it.

The device is that of a network namespace of their own, where nobody else says anything.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.cl.tcpclv4.messages import MessageType
from tests.interop.daemon_process import daemon
from tests.interop.loopback_capture import LoopbackCapture
from tests.interop.tshark import Dissection
from tests.lab.gate_netns import own_namespace

pytestmark = [pytest.mark.root, pytest.mark.programs("tshark", "ip")]


@pytest.fixture
def _space() -> Iterator[None]:
    """Whatever is begun meanwhile belongs to a new network namespace."""
    with own_namespace():
        yield


@pytest.mark.usefixtures("_space")
@pytest.mark.parametrize(("precedence", "size_bytes"), [("ROUTINE", 64), ("FLASH", 200_000)])
def test_a_message_on_its_way(precedence: str, size_bytes: int, tmp_path: Path) -> None:
    """One bundle, no report about it: tshark 4.0 crashes on some captures that hold both."""
    waits = '[[neighbour]]\nnode = "dtn://alpha/"\nbearer = "lo"\n'
    with daemon(tmp_path / "bravo", "dtn://bravo/", 'listen = "127.0.0.1:0"', waits) as bravo:
        address = bravo.address()
        with LoopbackCapture(int(address.rpartition(":")[2])) as capture:
            dials = f'[[neighbour]]\nnode = "dtn://bravo/"\nbearer = "lo"\naddress = "{address}"\n'
            with daemon(tmp_path / "alpha", "dtn://alpha/", "", dials) as alpha, alpha.client() as client:
                submission = client.send_open("dtn://bravo/inbox", precedence=precedence, report=False)
                client.send_data(submission, bytes(size_bytes))
                client.wait_message(client.send_close(submission).message, "forwarded", 30.0)
    found = Dissection(capture.write(tmp_path / "wire.pcap"))
    assert found.alarms == []
    types = [MessageType(number) for number in found.numbers("tcpcl.v4.mhdr.type")]
    assert types[:2] == [MessageType.SESS_INIT, MessageType.SESS_INIT]
    assert set(types) >= {MessageType.XFER_SEGMENT, MessageType.XFER_ACK, MessageType.SESS_TERM}
    assert found.values("bpv7.crc_status") == ["1", "1"]
    assert found.values("bpv7.primary.dst_uri") == ["dtn://bravo/inbox"]
    assert ("193" in found.values("bpv7.canonical.type_code")) is (precedence == "FLASH")
