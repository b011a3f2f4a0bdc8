# SPDX-License-Identifier: Apache-2.0
"""A running daemon and MTCP of pyD3TN: bundles pass both ways, and what its TCP had not taken comes again."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyd3tn.bundle7 import Bundle, create_bundle7
from pyd3tn.mtcp import MTCPConnection, MTCPSocket

from tests.interop.daemon_process import DaemonProcess, daemon
from tests.interop.line_reader import PATIENCE_S

FOREIGN = "dtn://foreign/"
"""The node ID that pyD3TN plays."""


class ForeignNode:
    """Where the daemon dials."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S)
        self.take_little(16 * 1024)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def take_little(self, size_bytes: int) -> None:
        """Of connections from now on, the kernel takes about so much before anybody reads."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)

    def accept(self) -> socket.socket:
        """The daemon's next connection."""
        sock = self._listener.accept()[0]
        sock.settimeout(PATIENCE_S)
        return sock

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


@pytest.fixture
def foreign() -> Iterator[ForeignNode]:
    node = ForeignNode()
    yield node
    node.close()


@pytest.fixture
def node(tmp_path: Path, foreign: ForeignNode) -> Iterator[DaemonProcess]:
    neighbour = f'[[neighbour]]\nnode = "{FOREIGN}"\nbearer = "lo"\naddress = "{foreign.address}"\ncl = "mtcp"\n'
    with daemon(tmp_path / "node", "dtn://alpha/", 'mtcp_listen = "127.0.0.1:0"', neighbour) as running:
        yield running


@pytest.mark.parametrize("size", [1, 100_000])
def test_its_bundles_arrive(node: DaemonProcess, size: int) -> None:
    host, _, port = node.address("mtcp_listen").rpartition(":")
    bundle = bytes(create_bundle7(f"{FOREIGN}app", "dtn://alpha/inbox", bytes(size)))
    with node.client() as client:
        receiver = client.recv_open()
        with MTCPConnection(host, int(port)) as connection:
            connection.send_bundle(bundle)
            message = client.recv_next(receiver, PATIENCE_S)
        assert (message.source, message.size_bytes) == (f"{FOREIGN}app", size)
        client.recv_confirm(receiver, message.message)


def test_our_bundles_arrive_and_count_as_forwarded(node: DaemonProcess, foreign: ForeignNode) -> None:
    with foreign.accept() as sock, node.client() as client:
        sent = client.send_bytes(f"{FOREIGN}app", b"to a foreign node")
        bundle = Bundle.parse(MTCPSocket(sock, PATIENCE_S).recv_bundle())
        assert bundle.payload_block.data == b"to a foreign node"
        assert client.wait_message(sent.message, "forwarded", PATIENCE_S).state == "forwarded"


def test_what_was_under_way_when_the_connection_broke_is_sent_again(node: DaemonProcess, foreign: ForeignNode) -> None:
    size = 900_000
    with node.client() as client:
        with foreign.accept() as sock:
            sent = [client.send_bytes(f"{FOREIGN}app", bytes((n,)) * size) for n in range(16)]
            sock.recv(1000)
            foreign.take_little(1024 * 1024)
        with foreign.accept() as sock:
            stream = MTCPSocket(sock, PATIENCE_S)
            found: set[int] = set()
            while len(found) < 16:
                payload = Bundle.parse(stream.recv_bundle()).payload_block.data
                assert payload == payload[:1] * size
                found.add(payload[0])
            states = [client.wait_message(each.message, "forwarded", PATIENCE_S).state for each in sent]
    assert states == ["forwarded"] * 16


def test_a_stranger_is_refused_with_its_reason(node: DaemonProcess) -> None:
    host, _, port = node.address("mtcp_listen").rpartition(":")
    stranger = socket.create_connection((host, int(port)), source_address=("127.0.0.7", 0))
    with stranger:
        line = node.journal.wait_for("session.refused")
    assert "127.0.0.7" in line
    assert "no neighbour with cl = 'mtcp' has this IP address" in line
