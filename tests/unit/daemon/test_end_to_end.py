# SPDX-License-Identifier: Apache-2.0
"""Two real daemons on loopback: a file across, kills, signals, and strangers who send rubbish."""

import hashlib
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.client.errors import ClientError
from meshd.client.replies import SentMessage
from meshd.client.transfer import save_message, send_file
from meshd.control.errors import ControlError
from tests.unit.daemon.daemon_process import DaemonProcess, make_pair

FILE_BYTES = 3 * 1024 * 1024 + 17
TIMEOUT_S = 30.0
CONTENT = random.Random(5).randbytes(FILE_BYTES)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[DaemonProcess, DaemonProcess]]:
    """Daemons alpha and bravo, running and ready."""
    daemons = make_pair(tmp_path)
    try:
        for daemon in daemons:
            daemon.start()
        for daemon in daemons:
            daemon.wait_ready()
        yield daemons
    finally:
        for daemon in daemons:
            daemon.end()


def send(daemon: DaemonProcess, tmp_path: Path, destination: str = "dtn://bravo/inbox") -> SentMessage:
    """Send the file."""
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    with daemon.client() as client, open(path, "rb") as file:
        return send_file(client, destination, file, size_bytes=FILE_BYTES)


def receive(daemon: DaemonProcess, directory: Path) -> Path:
    """Receive one message into a file."""
    directory.mkdir(exist_ok=True)
    with daemon.client() as client:
        receiver = client.recv_open()
        return save_message(client, receiver, client.recv_next(receiver, TIMEOUT_S), directory)


def nothing_more(daemon: DaemonProcess) -> None:
    """No message waits at the inbox."""
    with daemon.client() as client:
        receiver = client.recv_open()
        with pytest.raises(ControlError) as error:
            client.recv_next(receiver, 0.2)
        assert error.value.name == "timeout"
        assert client.bundles(state="for_delivery")["bundles"] == []


def wait_for(daemon: DaemonProcess, kind: str) -> dict[str, object]:
    """Fields of the next event of this kind, or of a recent one."""
    with daemon.client() as client:
        client.subscribe([kind], replay=10)
        event = client.next_event(TIMEOUT_S)
    assert event is not None, f"{kind} did not happen"
    return event.fields


def digest(data: bytes) -> str:
    """Shown instead of megabytes when they differ."""
    return hashlib.sha256(data).hexdigest()


def test_a_file_arrives_whole_and_its_sender_learns_of_it(
    pair: tuple[DaemonProcess, DaemonProcess], tmp_path: Path
) -> None:
    alpha, bravo = pair
    sent = send(alpha, tmp_path)
    assert (sent.parts, sent.size_bytes, sent.state) == (4, FILE_BYTES, "queued")
    assert digest(receive(bravo, tmp_path / "out").read_bytes()) == digest(CONTENT)
    with alpha.client() as client:
        assert client.wait_message(sent.message, "delivered", TIMEOUT_S).state == "delivered"
        assert client.bundles(destination="dtn://bravo/")["bundles"] == []
    nothing_more(bravo)


def test_receiving_daemon_killed_before_the_file_came_and_before_it_was_read(
    pair: tuple[DaemonProcess, DaemonProcess], tmp_path: Path
) -> None:
    alpha, bravo = pair
    bravo.kill()
    sent = send(alpha, tmp_path)
    bravo.start()
    bravo.wait_ready()
    with alpha.client() as client:
        assert client.wait_message(sent.message, "forwarded", TIMEOUT_S).state == "forwarded"
    bravo.kill()
    bravo.start()
    bravo.wait_ready()
    assert digest(receive(bravo, tmp_path / "out").read_bytes()) == digest(CONTENT)
    with alpha.client() as client:
        assert client.wait_message(sent.message, "delivered", TIMEOUT_S).state == "delivered"
    nothing_more(bravo)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_receiving_daemon_killed_while_an_application_reads(
    pair: tuple[DaemonProcess, DaemonProcess], tmp_path: Path
) -> None:
    alpha, bravo = pair
    send(alpha, tmp_path)
    with bravo.client() as client:
        receiver = client.recv_open()
        message = client.recv_next(receiver, TIMEOUT_S)
        assert client.recv_read(receiver, message.message, 0, 1000) == CONTENT[:1000]
        bravo.kill()
        with pytest.raises(ClientError):
            client.recv_read(receiver, message.message, 1000, 1000)
    bravo.start()
    bravo.wait_ready()
    assert digest(receive(bravo, tmp_path / "out").read_bytes()) == digest(CONTENT)
    nothing_more(bravo)


def test_sending_daemon_killed_after_it_promised(pair: tuple[DaemonProcess, DaemonProcess], tmp_path: Path) -> None:
    alpha, bravo = pair
    send(alpha, tmp_path)
    alpha.kill()
    alpha.start()
    alpha.wait_ready()
    assert digest(receive(bravo, tmp_path / "out").read_bytes()) == digest(CONTENT)
    nothing_more(bravo)


def test_sighup_with_a_bad_file_keeps_the_old_configuration(pair: tuple[DaemonProcess, DaemonProcess]) -> None:
    alpha, _ = pair
    good = alpha.config.read_text()
    with alpha.client() as client:
        client.subscribe(["config"])
        assert alpha.process is not None
        alpha.config.write_text(good + "\n[[neighbour]]\nnode = 7\n")
        alpha.process.send_signal(signal.SIGHUP)
        event = client.next_event(TIMEOUT_S)
        assert event is not None
        assert event.kind == "config.refused"
        assert "meshd.toml" in str(event.fields["reason"])
        assert [peer["node"] for peer in client.peers()] == ["dtn://bravo/"]
        with pytest.raises(ControlError, match="node"):
            client.reload()
        alpha.config.write_text(good.replace("[node]\n", '[node]\nlifetime = "3 h"\n'))
        alpha.process.send_signal(signal.SIGHUP)
        kinds = []
        while "config.reloaded" not in kinds:
            event = client.next_event(TIMEOUT_S)
            assert event is not None
            kinds.append(event.kind)
        assert event.fields["changed"] == "node.lifetime"


def test_sigterm_ends_within_five_seconds(pair: tuple[DaemonProcess, DaemonProcess], tmp_path: Path) -> None:
    alpha, bravo = pair
    wait_for(alpha, "link.up")
    for daemon in pair:
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 5
    for daemon in pair:
        assert "node.stopping" in daemon.log()
        assert not Path(daemon.socket_path).exists()
        daemon.start()
    for daemon in pair:
        daemon.wait_ready()
    send(alpha, tmp_path)
    assert digest(receive(bravo, tmp_path / "out").read_bytes()) == digest(CONTENT)


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"dtn!\x04\x00" + b"\xff" * 64, b"dtn!\x03\x00\x00\x00"])
def test_rubbish_at_the_tcp_port_leaves_other_sessions_alive(
    pair: tuple[DaemonProcess, DaemonProcess], tmp_path: Path, junk: bytes
) -> None:
    alpha, bravo = pair
    wait_for(bravo, "link.up")
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", bravo.port)) as stranger:
        stranger.settimeout(TIMEOUT_S)
        stranger.sendall(junk)
        while True:
            try:
                if not stranger.recv(4096):
                    break
            except ConnectionResetError:
                break
    send(alpha, tmp_path)
    assert digest(receive(bravo, tmp_path / "out").read_bytes()) == digest(CONTENT)
    with bravo.client() as client:
        (link,) = client.links()
    assert (link["neighbour"], link["state"]) == ("dtn://alpha/", "up")
    assert link["since_s"] > time.monotonic() - begun, "the session of before is still the same"


@pytest.mark.parametrize(
    "junk", [b"\xff" * 100, b"\x00\x00\x00\x05hello", b"\x00\x00\x00\x00", b"\x00\x00\x00\x04\x94\x00\x01\xa5"]
)
def test_rubbish_at_the_control_socket_leaves_other_sessions_alive(
    pair: tuple[DaemonProcess, DaemonProcess], junk: bytes
) -> None:
    alpha, _ = pair
    with alpha.client() as client:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(TIMEOUT_S)
            stranger.connect(alpha.socket_path)
            stranger.sendall(junk)
            while stranger.recv(4096):
                pass
        assert client.status()["node"] == "dtn://alpha/"
    assert alpha.process is not None
    assert alpha.process.poll() is None
