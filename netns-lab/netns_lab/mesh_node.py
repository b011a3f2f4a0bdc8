# SPDX-License-Identifier: Apache-2.0
"""A real meshd in a node of the lab, and meshctl for it: each a program of the checkout's virtual environment.

The scenario gives bearers and neighbours; configuration, state and control socket lie in the node's folder on the
sandbox's tmpfs.
"""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from netns_lab.errors import LabError
from netns_lab.lab import NodeHandle
from netns_lab.scenario import CHECKOUT
from netns_lab.timeline import wait_until

PROGRAMS: Final = CHECKOUT / ".venv" / "bin"
TCPCL_PORT: Final = 4556
FOUNTAIN_PORT: Final = 4557
LINK_FILES: Final = {"link_key": "link.key", "link_peers": "link.peers", "link_x25519": "link.x25519"}
READY_TIMEOUT_S: Final = 20.0
MESHCTL_TIMEOUT_S: Final = 60.0
LOG_LINES_SHOWN: Final = 15


@dataclass(frozen=True, slots=True)
class BearerUse:
    """One bearer of a node and the neighbour on it."""

    bearer: str
    kind: str
    """As meshd.toml(5) has it: terrestrial, satcom or los."""
    rate: str
    neighbour: str
    dial: str | None
    """IP address to dial; None: the neighbour dials."""
    is_fountain: bool = False
    """By the fountain layer instead of TCPCLv4; needs an address and keys."""


def issue_link_keys(folder: Path, nodes: Sequence[str]) -> dict[str, Path]:
    """A mission's keys, and the folder of each node with its own."""
    for action in (["init"], *(["issue", node] for node in nodes)):
        command = [str(PROGRAMS / "meshctl"), "pki", action[0], "--dir", str(folder), *action[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"meshctl pki {' '.join(action)}: {done.stderr.strip()}")
    return {node: folder / "nodes" / node for node in nodes}


def make_configuration(node: str, folder: Path, bearers: Sequence[BearerUse], keys: Path | None = None) -> str:
    """The node's meshd.toml."""
    lines = [
        "[node]",
        f'id = "dtn://{node}/"',
        f'state_dir = "{folder / "state"}"',
        "clock_trusted = true",
        "[store]",
        'quota = "1 GiB"',
        "[control]",
        f'socket = "{folder / "control.sock"}"',
    ]
    if keys is not None:
        lines += ["[security]", *(f'{name} = "{keys / file}"' for name, file in LINK_FILES.items())]
    for use in bearers:
        lines += ["[[bearer]]", f'name = "{use.bearer}"', f'kind = "{use.kind}"', f'rate = "{use.rate}"']
        listen = f'fountain_listen = "0.0.0.0:{FOUNTAIN_PORT}"' if use.is_fountain else f'listen = "[::]:{TCPCL_PORT}"'
        lines += [listen]
    for use in bearers:
        lines += ["[[neighbour]]", f'node = "dtn://{use.neighbour}/"', f'bearer = "{use.bearer}"']
        if use.is_fountain:
            lines.append('cl = "fountain"')
        if use.dial:
            lines.append(f'address = "{use.dial}:{FOUNTAIN_PORT if use.is_fountain else TCPCL_PORT}"')
    lines += ["[emcon]", 'boot_posture = "OPEN"', ""]
    return "\n".join(lines)


def start_all(nodes: Sequence["MeshNode"]) -> None:
    """Start several daemons at once, and wait until all answer."""
    for node in nodes:
        node.launch()
    for node in nodes:
        node.wait_ready()


class MeshNode:
    """One daemon: start it, kill it, order it about."""

    def __init__(self, node: NodeHandle, folder: Path, bearers: Sequence[BearerUse], keys: Path | None = None) -> None:
        """`keys`: the node's folder of `issue_link_keys`."""
        self.name: Final = node.name
        self._node: Final = node
        self._folder: Final = folder
        self._process: subprocess.Popen[bytes] | None = None
        if missing := [name for name in ("meshd", "meshctl") if not (PROGRAMS / name).exists()]:
            raise LabError(f"{', '.join(missing)} isn't in {PROGRAMS}; make it with `make setup`")
        (folder / "state").mkdir(parents=True)
        self._config: Final = folder / "meshd.toml"
        self._config.write_text(make_configuration(node.name, folder, bearers, keys))

    def start(self) -> None:
        """Start the daemon and wait until it answers. LabError with the end of its log when it doesn't."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the daemon."""
        with self._log().open("ab") as log:
            command = [str(PROGRAMS / "meshd"), "--config", str(self._config)]
            self._process = self._node.popen(command, stdout=log, stderr=log)

    def wait_ready(self) -> None:
        """Until the daemon answers. LabError with the end of its log when it doesn't."""
        assert self._process is not None, "launched before"
        wait_until(self._is_settled, READY_TIMEOUT_S, f"meshd of {self.name} doesn't answer; its log: {self._log()}")
        if self._process.poll() is not None:
            raise LabError(
                f"meshd of {self.name} ended with {self._process.returncode}; its log says:\n{self.log_end()}"
            )

    def kill(self) -> None:
        """SIGKILL: no goodbye, no clean-up."""
        assert self._process is not None, "started before"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def meshctl(self, *arguments: str, text: str = "") -> list[dict[str, Any]]:
        """Run meshctl; its JSON lines. LabError with its own words when it fails."""
        done = self._node.run(self._meshctl(arguments), text=text, timeout_s=MESHCTL_TIMEOUT_S)
        if done.returncode:
            raise LabError(
                f"meshctl {' '.join(arguments)} on {self.name}: exit {done.returncode}: {done.stderr.strip()}"
            )
        return read_json_lines(done.stdout)

    def start_meshctl(self, *arguments: str, stdout: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a meshctl that runs beside the scenario; its chatter goes to the daemon's log."""
        with self._log().open("ab") as log:
            return self._node.popen(self._meshctl(arguments), stdout=stdout, stderr=log)

    def log_end(self) -> str:
        """The last lines that the daemon wrote."""
        lines = self._log().read_text(errors="replace").splitlines() if self._log().exists() else []
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    def links_up(self) -> int:
        """How many of its links are up."""
        up: int = self.meshctl("status")[0]["links"]["up"]
        return up

    def _is_settled(self) -> bool:
        """True when it answers, or never will."""
        assert self._process is not None, "started before"
        if self._process.poll() is not None:
            return True
        return self._node.run(self._meshctl(["status"])).returncode == os.EX_OK

    def _meshctl(self, arguments: Sequence[str]) -> list[str]:
        return [str(PROGRAMS / "meshctl"), "--socket", str(self._folder / "control.sock"), "--json", *arguments]

    def _log(self) -> Path:
        return self._folder / "log"


def read_json_lines(text: str) -> list[dict[str, Any]]:
    """Objects of complete lines; a line still being written is left out."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n") and line.startswith("{")]
