# SPDX-License-Identifier: Apache-2.0
"""Two real daemons whose link gives up its session when it is idle: what people see, and messages both ways."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.client.client import Client
from tests.unit.daemon.daemon_process import DaemonProcess, make_pair

TIMEOUT_S = 30.0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[DaemonProcess, DaemonProcess]]:
    """Daemons alpha and bravo with `link_idle`, running and ready."""
    daemons = make_pair(tmp_path)
    try:
        for daemon in daemons:
            text = daemon.config.read_text()
            daemon.config.write_text(text.replace("mark = 0\n", 'mark = 0\nlink_idle = "1 s"\n'))
            daemon.start()
        for daemon in daemons:
            daemon.wait_ready()
        yield daemons
    finally:
        for daemon in daemons:
            daemon.end()


def wait_until_dormant(watcher: Client, daemon: DaemonProcess) -> None:
    """Each end of a session may be the last one."""
    with daemon.client() as client:
        while client.links()[0]["state"] != "dormant":
            event = watcher.next_event(TIMEOUT_S)
            assert event is not None, "the link does not fall asleep"


def test_messages_wake_a_link_that_sleeps(pair: tuple[DaemonProcess, DaemonProcess]) -> None:
    watchers = [daemon.client() for daemon in pair]
    for watcher in watchers:
        watcher.subscribe(["session"], replay=10)
    for sender, receiver in (pair, pair[::-1]):
        for watcher, daemon in zip(watchers, pair, strict=True):
            wait_until_dormant(watcher, daemon)
        with sender.client() as client, receiver.client() as other:
            assert client.peers()[0]["bearers"][0]["state"] == "dormant"
            assert (client.peers()[0]["state"], client.status()["links"]) == ("up", {"up": 1, "total": 1})
            inbox = other.recv_open()
            sent = client.send_bytes(f"dtn://{receiver.name}/inbox", b"wake up")
            message = other.recv_next(inbox, TIMEOUT_S)
            assert message.size_bytes == 7
            other.recv_confirm(inbox, message.message)
            client.wait_message(sent.message, "delivered", TIMEOUT_S)  # nothing is under way any more
    for watcher, daemon in zip(watchers, pair, strict=True):
        watcher.close()
        assert "link.down" not in daemon.log()
