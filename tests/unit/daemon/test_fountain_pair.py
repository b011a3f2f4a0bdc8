# SPDX-License-Identifier: Apache-2.0
"""Two real daemons over the fountain layer on the loopback device, with keys of meshd's own PKI.

A message passes and its delivery is confirmed; `meshctl links` tells what was measured; a key is rolled while they run;
a daemon whose boot number and clock are lost says so and sends nothing; bad key files stop the start.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from meshd.ctl.main import run
from tests.bench.support.harness import Daemon
from tests.unit.bearer.fountain_peers import free_ports

PATIENCE_S = 30.0
CONFIG = """
[node]
id = "dtn://{name}/"
state_dir = "{folder}/state"
clock_trusted = {clock}
[control]
socket = "{folder}/control.sock"
[security]
link_key = "{keys}/link.key"
link_peers = "{keys}/link.peers"
link_x25519 = "{keys}/link.x25519"
[[bearer]]
name = "sat0"
kind = "satcom"
device = "lo"
radiating = false
mark = 0
rate = "20 Mbit/s"
delay = "2 ms"
fountain_listen = "{listen}"
[[neighbour]]
node = "dtn://{other}/"
bearer = "sat0"
cl = "fountain"
address = "{address}"
[emcon]
boot_posture = "OPEN"
gate = false
"""


class Mission:
    """Folders, addresses and keys of two nodes."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.pki("init")
        for name in ("alpha", "bravo"):
            self.pki("issue", name)
        here, there = free_ports(2)
        self.listen = {"alpha": here, "bravo": there}

    def pki(self, *words: str) -> None:
        assert run(["pki", words[0], "--dir", str(self.base / "pki"), *words[1:]]) == 0

    def keys(self, name: str) -> Path:
        return self.base / "pki" / "nodes" / name

    def config(self, name: str, *, is_clock_trusted: bool = True) -> str:
        other = "bravo" if name == "alpha" else "alpha"
        return CONFIG.format(
            name=name,
            folder=self.base / name,
            clock=str(is_clock_trusted).lower(),
            keys=self.keys(name),
            listen=self.listen[name],
            other=other,
            address=self.listen[other],
        )

    def meshctl(self, name: str, *words: str) -> list[Any]:
        """What `meshctl --json` says, object by object."""
        socket = str(self.base / name / "control.sock")
        command = [sys.executable, "-m", "meshd.ctl.main", "--json", "--socket", socket, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def carry(self, data: bytes, to: str = "bravo") -> None:
        """One message from the other node, to its confirmed delivery."""
        letter, out = self.base / "letter", self.base / f"out{len(list(self.base.iterdir()))}"
        letter.write_bytes(data)
        out.mkdir()
        self.meshctl("alpha" if to == "bravo" else "bravo", "send", to, str(letter))
        self.meshctl(to, "recv", "--out", str(out), "--timeout", "20s")
        (path,) = out.iterdir()
        assert path.read_bytes() == data

    def event(self, name: str, kind: str) -> dict[str, Any]:
        """The first event of a kind."""
        for line in self.meshctl(name, "events", "--kind", kind, "--replay", "1000"):
            return dict(line)
        raise AssertionError(f"{name} told nothing of {kind}")


@pytest.fixture
def mission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Mission:
    made = Mission(tmp_path)
    capsys.readouterr()
    return made


@contextmanager
def both(mission: Mission) -> Iterator[None]:
    base = mission.base
    with Daemon(base / "alpha", mission.config("alpha")), Daemon(base / "bravo", mission.config("bravo")):
        yield


def test_messages_pass_both_ways_over_a_restart_and_a_key_roll(mission: Mission) -> None:
    with both(mission):
        mission.carry(b"by radio" * 1000)
        mission.carry(b"and back", to="alpha")
        (link,) = mission.meshctl("alpha", "links")[0]["links"]
        assert (link["state"], link["tls"]) == ("up", "sealed datagrams, AES-256-GCM")
        assert link["fountain"]["peer"] == "up"
        assert link["fountain"]["loss_out"] < 0.1
        for step in ("add", "use", "drop"):
            mission.pki("roll", step)
            for name in ("alpha", "bravo"):
                mission.meshctl(name, "reload")
            mission.carry(b"under the next key")
    first = (mission.base / "alpha" / "state" / "link.boot").read_text()
    with both(mission):
        mission.carry(b"after a restart")
    assert (mission.base / "alpha" / "state" / "link.boot").read_text() > first
    assert "dtn://alpha/" in (mission.base / "bravo" / "state" / "sat0.link-marks").read_text()


def test_a_node_without_boot_number_and_clock_says_so_and_only_listens(mission: Mission) -> None:
    with Daemon(mission.base / "alpha", mission.config("alpha", is_clock_trusted=False)):
        event = mission.event("alpha", "link.alarm")
        assert "nothing can be sent" in str(event)
        assert not (mission.base / "alpha" / "state" / "link.boot").exists()


def test_a_key_that_others_may_read_stops_the_start(mission: Mission) -> None:
    (mission.keys("alpha") / "link.key").chmod(0o640)
    path = mission.base / "meshd.toml"
    path.write_text(mission.config("alpha"))
    for option, code in (("--config", 2), ("--check-config", 0)):
        done = subprocess.run(
            [sys.executable, "-m", "meshd.daemon.main", option, str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == code
        assert "has mode 0640: others may read this secret" in done.stderr + done.stdout
