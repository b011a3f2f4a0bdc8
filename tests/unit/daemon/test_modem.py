# SPDX-License-Identifier: Apache-2.0
"""A real daemon and a simulated modem that speaks DLEP: what the modem says is what operators see of the link."""

import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from tests.unit.daemon.daemon_process import DaemonProcess, free_ports

TIMEOUT_S = 30.0
MAC = "02:00:00:00:00:01"


class SimulatedModem:
    """The simulator as a process, obeying line by line."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.modem_simulator", "127.0.0.1", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._orders: IO[str] = self._process.stdin or sys.stdout
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"

    def order(self, **request: object) -> None:
        """Have it say something."""
        self._orders.write(json.dumps(request) + "\n")
        self._orders.flush()

    def end(self) -> None:
        """Its connection is closed with it."""
        self._process.kill()
        self._process.communicate()


def wait_for(client: Any, kind: str) -> dict[str, Any]:
    """Fields of the next event."""
    while True:
        event = client.next_event(TIMEOUT_S)
        assert event is not None, f"{kind} did not happen"
        if event.kind == kind:
            fields: dict[str, Any] = event.fields
            return fields


def test_what_the_modem_says_is_the_link_s_rate(tmp_path: Path) -> None:
    port, neighbour, modem_port = free_ports(3)
    daemon = DaemonProcess(tmp_path / "alpha", "alpha", port, {"bravo": neighbour})
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("mark = 0\n", f'mark = 0\ndlep = "127.0.0.1:{modem_port}"\n', 1))
    modem = SimulatedModem(modem_port)
    try:
        daemon.start()
        daemon.wait_ready()
        with daemon.client() as client, daemon.client() as asking:
            client.subscribe(["modem"], replay=10)
            assert wait_for(client, "modem.up")["modem"] == "simulated modem"
            modem.order(up=MAC, address="127.0.0.1", transmit_bps=64_000, quality_transmit_pct=40)
            assert wait_for(client, "modem.destination_up")["neighbour"] == "dtn://bravo/"
            (link,) = asking.links()
            assert link["score"]["rate_bps"] == 64_000
            assert link["score"]["confidence"] == 0.4
            modem.order(down=MAC)
            assert wait_for(client, "modem.destination_down")["mac"] == MAC
            modem.end()
            assert "closed the connection" in wait_for(client, "modem.down")["reason"]
    finally:
        modem.end()
        daemon.end()
