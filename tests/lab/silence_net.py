# SPDX-License-Identifier: Apache-2.0
"""Two real daemons with three wires between them, of which one or two radiate: the lab of the silence table.

Node `b` is the one that has to be silent; `a` provokes it, speaks to it and listens. Sniffers stand in the middle of
each wire, in a namespace of neither. What a row needs besides: floods, numbered streams, and the daemon's upkeep.
"""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from meshd.client.client import Client
from netns_lab.backend import run_program
from netns_lab.lab import Count, Lab
from netns_lab.mesh_node import PROGRAMS, READY_TIMEOUT_S, TCPCL_PORT, MeshNode, start_all
from netns_lab.provocation import Provoker
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import CHECKOUT, PROFILES, ScenarioContext
from netns_lab.timeline import wait_until
from netns_lab.toml_table import TomlTable
from netns_lab.topology import parse_topology

KINDS: Final = {"rad0": "los", "rad1": "satcom", "lan0": "terrestrial"}
"""Bearer: kind. The first two radiate."""
GATE_HELPER: Final = CHECKOUT / "config" / "meshd-gate"
ATTACK_PER_S: Final = 24.0
STREAM_PORT: Final = 9009
GROUP: Final = "239.77.9.9"
SETTLE_S: Final = 0.3
END_TIMEOUT_S: Final = 20.0


def make_text(lab: Lab, name: str, emcon_lines: list[str]) -> str:
    """A node's meshd.toml. `b` dials on the radio links, `a` on the line."""
    folder, other = WORK_FOLDER / name, "a" if name == "b" else "b"
    lines = ["[node]", f'id = "dtn://{name}/"', f'state_dir = "{folder}/state"', "clock_trusted = true"]
    lines += ["[store]", 'quota = "16 MiB"', "[control]", f'socket = "{folder}/control.sock"']
    for bearer, kind in KINDS.items():
        lines += ["[[bearer]]", f'name = "{bearer}"', f'kind = "{kind}"', 'rate = "50 Mbit/s"']
        lines.append(f'listen = "[::]:{TCPCL_PORT}"')
    for bearer in KINDS:
        lines += ["[[neighbour]]", f'node = "dtn://{other}/"', f'bearer = "{bearer}"']
        if (bearer == "lan0") == (name == "a"):
            lines.append(f'address = "{lab.topology.link(bearer).members[other].ip(4)}:{TCPCL_PORT}"')
    lines += ["[emcon]", *emcon_lines, "[emcon.profile.one-silent]", 'rad0 = "RX_ONLY"', 'others = "OPEN"', ""]
    return "\n".join(lines)


class SilentNode(MeshNode):
    """A daemon that is also stopped in order, reloaded, upgraded."""

    def __init__(self, lab: Lab, name: str, *emcon_lines: str) -> None:
        super().__init__(lab.node(name), WORK_FOLDER / name, [])
        self._lab = lab
        self.configure(*emcon_lines)

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self._folder / "state"

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self._config

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The daemon that runs."""
        assert self._process is not None, "started before"
        return self._process

    def configure(self, *emcon_lines: str) -> None:
        """Write meshd.toml with these lines below [emcon]."""
        self._config.write_text(make_text(self._lab, self.name, list(emcon_lines)))

    def client(self) -> Client:
        """An application's connection."""
        return Client(str(self._folder / "control.sock"))

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self.process.terminate()
        self.process.wait(END_TIMEOUT_S)

    def start_copy(self) -> None:
        """Start the program from another copy of it, as after an upgrade."""
        folder = WORK_FOLDER / "upgrade"
        shutil.copytree(CHECKOUT / "meshd", folder / "meshd", dirs_exist_ok=True)
        words = ["env", f"PYTHONPATH={folder}", "PYTHONSAFEPATH=1", str(PROGRAMS / "python")]
        with self._log().open("ab") as log:
            command = [*words, "-m", "meshd.daemon.main", "--config", str(self._config)]
            self._process = self._node.popen(command, stdout=log, stderr=log)
        wait_until(self._is_settled, READY_TIMEOUT_S, f"the other copy does not answer; its log: {self._log()}")

    def order_as(self, uid: int, profile: str) -> int:
        """The exit code of `meshctl emcon set` for another user, whom the socket's file lets through."""
        socket_path = self._folder / "control.sock"
        socket_path.chmod(0o666)
        words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *self._meshctl([])]
        return self._node.run([*words, "emcon", "set", profile]).returncode

    def run(self, command: str) -> str:
        """A program in its namespace."""
        done = self._node.run(command.split())
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@dataclass(slots=True)
class Attack:
    """Provoking frames on one wire, about 20 a second, until it is left: as many as make 1 000 answers in a minute."""

    provoker: Provoker
    per_s: float = ATTACK_PER_S
    sent: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Attack":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        assert self._thread is not None, "entered before"
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._over.wait(max(0.0, next_s - time.monotonic())):
            next_s += 1 / self.per_s
            self.provoker.provoke_once()
            self.sent += 1


class Flood:
    """Datagrams from one node over a bearer at a steady rate, until it is left; numbered."""

    def __init__(
        self, net: "SilenceNet", bearer: str, per_s: float, size_bytes: int = 64, node: str = "b", to: str | None = None
    ) -> None:
        """`to`: a group; without it the other node."""
        members = net.lab.topology.link(bearer).members
        other = next(name for name in members if name != node)
        self._to = (to or members[other].ip(4), STREAM_PORT)
        self._gap_s, self._size_bytes = 1 / per_s, size_bytes
        with net.lab.node(node).inside():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own = socket.inet_aton(members[node].ip(4))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0
        """That the kernel took."""

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._over.is_set():
            with contextlib.suppress(OSError):  # ENOBUFS is what a sender sees behind the gate
                self._socket.sendto(self.sent.to_bytes(8, "big") + bytes(self._size_bytes - 8), self._to)
                self.sent += 1
            next_s += self._gap_s
            time.sleep(max(0.0, next_s - time.monotonic()))  # the pace of the stream


class Listener:
    """A socket in a node that takes numbered datagrams."""

    def __init__(self, net: "SilenceNet", node: str, bearer: str, group: str | None = None) -> None:
        own = net.lab.topology.link(bearer).members[node].ip(4)
        with net.lab.node(node).inside():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind((group or own, STREAM_PORT))
        if group:
            membership = socket.inet_aton(group) + socket.inet_aton(own)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)

    def take(self, quiet_s: float = SETTLE_S) -> set[bytes]:
        """All that has come, until nothing more does."""
        found = set()
        while select.select([self._socket], [], [], quiet_s)[0]:
            found.add(self._socket.recv(65536))
        return found

    def close(self) -> None:
        """Give it back."""
        self._socket.close()


class SilenceNet:
    """The running lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.a = SilentNode(lab, "a", 'boot_posture = "OPEN"')
        self.b = SilentNode(lab, "b", 'boot_posture = "OPEN"')

    def start(self) -> None:
        """Both daemons, until all links are up. Node b's kernel answers as often as it is asked."""
        self.b.run("sysctl -q net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_msgs_per_sec=1000000")
        start_all([self.a, self.b])
        wait_until(lambda: self.b.links_up() == len(KINDS), END_TIMEOUT_S, "a link stays down")

    def order(self, profile: str) -> float:
        """At b; returns when the caller had the answer."""
        with self.b.client() as client:
            client.set_emcon(profile)
            return time.monotonic()

    def left(self, since_s: float, until_s: float | None = None, bearer: str = "rad0") -> Count:
        """What left b, by the sniffer."""
        count = self.lab.sniffer(bearer, "b").count(since_s, until_s)
        assert count.missed == 0, "the sniffer had no room: its counts are worth nothing"
        return count

    @contextlib.contextmanager
    def attack(self, bearer: str = "rad0") -> Iterator[Attack]:
        """From a, on one wire."""
        provoker = Provoker(self.lab, bearer, "a", "b", TCPCL_PORT)
        try:
            with Attack(provoker) as attack:
                yield attack
        finally:
            provoker.close()

    def replug(self, bearer: str = "rad0") -> None:
        """The device goes and comes again under its name, as a radio that is pulled and plugged in; the far end of
        the wire, where the sniffer is, stays."""
        member = self.lab.topology.link(bearer).members["b"]
        run_program(["ip", "netns", "add", "drawer"])
        self.b.run(f"ip link set {bearer} netns drawer")
        run_program(["ip", "-n", "drawer", "link", "set", bearer, "netns", "b"])
        run_program(["ip", "netns", "del", "drawer"])
        for address in member.addresses:
            self.b.run(f"ip address add {address} dev {bearer}" + (" nodad" if address.version == 6 else ""))
        self.b.run(f"ip link set {bearer} up")


@contextlib.contextmanager
def silence_lab(context: ScenarioContext) -> Iterator[SilenceNet]:
    """Nodes and wires, no daemon yet."""
    links: dict[str, Any] = {}
    for number, bearer in enumerate(KINDS, 41):
        members = {
            name: [f"10.{number}.0.{host}/24", f"fd6d:{number}::{host}/64"] for host, name in ((1, "a"), (2, "b"))
        }
        links[bearer] = {"bearer": bearer, "profile": "perfect", "pin_neighbours": True, "members": members}
    table = {"nodes": ["a", "b"], "link": links}
    with Lab(parse_topology("silence", TomlTable(table, "silence"), PROFILES), backend="relay", seed=1) as lab:
        net = SilenceNet(lab)
        try:
            yield net
        finally:
            if os.environ.get("MESHD_LAB_LOGS"):
                sys.stderr.write(f"--- a\n{net.a.log_end()}\n--- b\n{net.b.log_end()}\n")
