# SPDX-License-Identifier: Apache-2.0
"""The unmodified tools of ud3tn-utils against running daemons: aap2-send, aap2-receive, aap2-ping."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.daemon_process import DaemonProcess, daemon
from tests.interop.line_reader import PATIENCE_S, LineReader

TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, DaemonProcess]]:
    """Alpha, which dials, and bravo, which listens."""
    folder = tmp_path_factory.mktemp("aap2")
    waits = '[[neighbour]]\nnode = "dtn://alpha/"\nbearer = "lo"\n'
    with daemon(folder / "bravo", "dtn://bravo/", 'listen = "127.0.0.1:0"', waits) as bravo:
        dials = f'[[neighbour]]\nnode = "dtn://bravo/"\nbearer = "lo"\naddress = "{bravo.address()}"\n'
        with daemon(folder / "alpha", "dtn://alpha/", "", dials) as alpha:
            yield alpha, bravo


def run(tool: str, node: DaemonProcess, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [str(TOOLS / tool), "--socket", str(node.aap2), "-v", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=PATIENCE_S)


class Tool:
    """A tool that runs beside the test; its log is on the standard error."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        self.process = process
        self.log = LineReader(process.stderr)

    def end(self) -> int:
        """Wait for its own end."""
        return self.process.wait(PATIENCE_S)


@contextmanager
def running(tool: str, node: DaemonProcess, *arguments: str) -> Iterator[Tool]:
    process = subprocess.Popen(
        [str(TOOLS / tool), "--socket", str(node.aap2), "-vv", *arguments], stderr=subprocess.PIPE
    )
    started = Tool(process)
    try:
        yield started
    finally:
        process.kill()
        process.wait()
        started.log.close()


Nodes = tuple[DaemonProcess, DaemonProcess]


@pytest.mark.parametrize("payload", [b"hello", bytes(range(256)) * 400], ids=["small", "100 kB"])
def test_what_one_sends_the_other_receives(nodes: Nodes, tmp_path: Path, payload: bytes) -> None:
    alpha, bravo = nodes
    output = tmp_path / "received"
    with running(
        "aap2-receive", bravo, "-a", "sink", "-c", "1", "-o", str(output), "--verify-source", "dtn://alpha/source"
    ) as receiver:
        receiver.log.wait_for("Waiting for bundles")
        sent = run("aap2-send", alpha, "-a", "source", "dtn://bravo/sink", data=payload)
        assert sent.returncode == 0, sent.stderr
        assert receiver.end() == 0, receiver.log.text()
    assert output.read_bytes() == payload


def test_a_message_waits_for_its_receiver(nodes: Nodes) -> None:
    alpha, bravo = nodes
    assert run("aap2-send", alpha, "dtn://bravo/later", "patience").returncode == 0
    received = run("aap2-receive", bravo, "-a", "later", "-c", "1", "--verify-pl", "patience")
    assert (received.returncode, received.stdout) == (0, b"patience"), received.stderr


def test_what_the_tool_reads_in_part_only_is_not_forgotten(nodes: Nodes) -> None:
    """aap2-receive reads a payload once, which is too little for a large one, and says that it was a success."""
    alpha, bravo = nodes
    payload = bytes(8_000_000)
    assert run("aap2-send", alpha, "dtn://bravo/large", data=payload).returncode == 0
    received = run("aap2-receive", bravo, "-a", "large", "-c", "1")
    assert len(received.stdout) < len(payload)
    with bravo.client() as client:
        message = client.recv_next(client.recv_open("large"), PATIENCE_S)
    assert message.size_bytes == len(payload)


def test_a_ping_comes_back_from_the_echo_endpoint(nodes: Nodes) -> None:
    alpha, _ = nodes
    pinged = run("aap2-ping", alpha, "-c", "3", "-i", "0.05", "-t", "20", "dtn://bravo/echo")
    assert b"received 3 of 3 sent" in pinged.stderr, pinged.stderr
    assert pinged.returncode == 0


def test_keepalives_are_answered(nodes: Nodes) -> None:
    _, bravo = nodes
    with running("aap2-receive", bravo, "-a", "alive", "-k", "1") as receiver:
        receiver.log.wait_for("Received keepalive message, acknowledging")
        assert receiver.process.poll() is None


def test_an_endpoint_has_one_subscriber(nodes: Nodes) -> None:
    _, bravo = nodes
    with running("aap2-receive", bravo, "-a", "taken", "--secret", "s") as receiver:
        receiver.log.wait_for("Waiting for bundles")
        second = run("aap2-receive", bravo, "-a", "taken", "--secret", "s")
        thief = run("aap2-send", bravo, "-a", "taken", "--secret", "t", "dtn://alpha/x", "stolen")
    assert b"AAP2OperationFailed" in second.stderr
    assert b"status: 12" in thief.stderr  # unauthorised


def test_administrative_calls_are_refused(nodes: Nodes) -> None:
    alpha, _ = nodes
    spoofed = run("aap2-send", alpha, "--source", "dtn://charlie/x", "dtn://bravo/sink", "spoofed")
    assert spoofed.returncode != 0
    assert b"status: 12" in spoofed.stderr
    linked = run("aap2-configure-link", alpha, "dtn://charlie/", "mtcp:127.0.0.1:9")
    assert linked.returncode != 0
    assert b"status: 12" in linked.stderr


def test_a_bad_destination_is_refused(nodes: Nodes) -> None:
    alpha, _ = nodes
    sent = run("aap2-send", alpha, "dtn://bravo", "x")
    assert sent.returncode == 1, sent.stderr
    assert b"RESPONSE_STATUS_INVALID_REQUEST" in sent.stderr
