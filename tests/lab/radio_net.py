# SPDX-License-Identifier: Apache-2.0
"""A radio net of real daemons in the lab: one sender, some receivers, the fountain layer with its default settings.

Loss takes air time here (the emulator loses frames behind its rate), the same in both directions. What the scenarios
of the radio table need: the net, applications that check and time what arrives, and counts of what left a device.
Store and sockets lie on the sandbox's RAM disk.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from meshd.client.client import Client
from meshd.client.errors import DaemonUnreachable
from meshd.control.errors import ControlError
from netns_lab.lab import Lab
from netns_lab.link_profile import LinkProfile, RandomLoss, TimedBursts
from netns_lab.mesh_node import FOUNTAIN_PORT, LINK_FILES, MeshNode, issue_link_keys, start_all
from netns_lab.sandbox import WORK_FOLDER
from netns_lab.scenario import PROFILES, ScenarioContext
from netns_lab.timeline import wait_until
from netns_lab.toml_table import TomlTable
from netns_lab.topology import parse_topology

MIB: Final = 1 << 20
BEARER: Final = "satcom0"
LINK: Final = "satcom"
SENDER: Final = "a"
GROUP: Final = "239.77.1.1"
GROUP_NAME: Final = "dtn://all/~all"
STREAM_GROUP: Final = "dtn://all/~stream"
"""Of the same members, for `stream publish --to all`."""
FRAME_BITS: Final = 1514 * 8
PATIENCE_S: Final = 90.0
TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class NetSettings:
    """One net, and what its links do to frames."""

    rate_bps: int = 10_000_000
    """Counted on Ethernet frames."""
    floor_bps: int = 0
    """The daemons are told this instead, and have to find the rate; 0: they are told the rate."""
    delay_s: float = 0.3
    """One way."""
    loss: float = 0.0
    burst_s: float = 0.0
    """Mean length of a burst in which everything is lost; 0: losses are independent."""
    modem_s: float = 0.6
    """What the emulated modem buffers, at its rate."""
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    receivers: int = 1
    is_multicast: bool = False
    is_blind: bool = False
    """The sender is told that nobody answers."""
    is_signed: bool = False
    """Nodes advertise what they know of the topology."""
    bearer_lines: tuple[str, ...] = ()
    """Further lines of each bearer's table."""

    def profile(self) -> LinkProfile:
        """The emulator's."""
        loss = TimedBursts(self.burst_s, self.loss) if self.burst_s else RandomLoss(self.loss)
        held_s = self.delay_s + self.modem_s
        return LinkProfile(
            "radio",
            delay_s=self.delay_s,
            loss=loss,
            loss_after_rate=True,
            duplicate=self.duplicate,
            reorder=self.reorder,
            corrupt=self.corrupt,
            rate_bps=self.rate_bps,
            limit=max(40, int(self.rate_bps * held_s / FRAME_BITS)),
        )

    def names(self) -> list[str]:
        """All nodes, the sender first."""
        return [SENDER, *(f"b{number}" for number in range(1, self.receivers + 1))]

    def capacity_bps(self) -> float:
        """The issue's measure of what a link can carry."""
        return self.rate_bps * (1 - self.loss)


class RadioNode(MeshNode):
    """A daemon whose neighbours are all the others on one bearer."""

    def __init__(self, lab: Lab, name: str, settings: NetSettings, keys: Path) -> None:
        super().__init__(lab.node(name), WORK_FOLDER / name, [], keys)
        self._config.write_text(make_text(lab, name, settings, keys))

    @property
    def socket_path(self) -> str:
        """Where its applications speak to it."""
        return str(self._folder / "control.sock")

    def cpu_s(self) -> float:
        """CPU time of the daemon so far, user and system."""
        assert self._process is not None, "started before"
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_text(lab: Lab, name: str, settings: NetSettings, keys: Path) -> str:
    """The node's meshd.toml: rate and kind of the bearer, nothing tuned."""
    folder = WORK_FOLDER / name
    where = f'fountain_group = "{GROUP}:{FOUNTAIN_PORT}"'
    if not settings.is_multicast:
        where = f'fountain_listen = "0.0.0.0:{FOUNTAIN_PORT}"'
    lines = ["[node]", f'id = "dtn://{name}/"', f'state_dir = "{folder}/state"', "clock_trusted = true"]
    lines += ["[store]", 'quota = "1 GiB"', "[control]", f'socket = "{folder}/control.sock"', "[security]"]
    lines += [f'{key} = "{keys / file}"' for key, file in LINK_FILES.items()]
    if settings.is_signed:
        lines += [f'signing_{each} = "{keys / f"signing.{each}"}"' for each in ("key", "peers")]
    lines += ["[[bearer]]", f'name = "{BEARER}"', 'kind = "satcom"', where]
    if settings.floor_bps:
        lines += ['rate = "auto"', f'rate_min = "{settings.floor_bps} bit/s"']
    else:
        lines.append(f'rate = "{settings.rate_bps} bit/s"')
    lines += settings.bearer_lines
    for other in settings.names():
        if other != name and (settings.is_multicast or SENDER in (name, other)):
            lines += ["[[neighbour]]", f'node = "dtn://{other}/"', f'bearer = "{BEARER}"', 'cl = "fountain"']
            if settings.is_blind and name == SENDER:
                # Whoever is silent can't be asked for its hardware address.
                lines += ["blind = true", f'mac = "{lab.topology.link(LINK).members[other].mac}"']
            if not settings.is_multicast:
                lines.append(f'address = "{lab.topology.link(LINK).members[other].ip(4)}:{FOUNTAIN_PORT}"')
    if settings.is_multicast:
        members = ", ".join(f'"dtn://{each}/"' for each in settings.names()[1:])
        for endpoint in (GROUP_NAME, STREAM_GROUP):
            lines += ["[[group]]", f'endpoint = "{endpoint}"', f"members = [{members}]"]
    return "\n".join([*lines, "[emcon]", 'boot_posture = "OPEN"', ""])


@dataclass(slots=True)
class Inbox:
    """The application of a receiver: notes when each message is there, checks and takes it."""

    path: str
    endpoint: str = "inbox"
    arrived: dict[bytes, float] = field(default_factory=dict)
    """Tag of the message: when."""
    wrong: int = 0
    """Messages that are not what was sent."""

    def start(self) -> None:
        """From now on, until the daemon ends."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with Client(self.path) as client, contextlib.suppress(DaemonUnreachable):
            receiver = client.recv_open(self.endpoint)
            while True:
                try:
                    message = client.recv_next(receiver, 1.0, data_max_bytes=MIB)
                except ControlError as error:
                    if error.name != "timeout":
                        raise
                    continue
                self._take(message.data or b"", time.monotonic())
                client.recv_confirm(receiver, message.message)

    def _take(self, data: bytes, now: float) -> None:
        tag, content = data[:TAG_BYTES], data[TAG_BYTES:]
        if hashlib.sha256(content).digest()[: TAG_BYTES - 4] != tag[4:]:
            self.wrong += 1
        self.arrived[tag] = now

    def wait(self, tags: Sequence[bytes], patience_s: float = PATIENCE_S) -> list[float]:
        """When each was there; infinity: it never came."""
        until_s = time.monotonic() + patience_s
        while not all(tag in self.arrived for tag in tags) and time.monotonic() < until_s:
            time.sleep(0.01)
        return [self.arrived.get(tag, float("inf")) for tag in tags]


class Contents:
    """Messages that can't be compressed and know their own digest."""

    def __init__(self) -> None:
        self._noise = os.urandom(MIB)
        self._number = 0

    def make(self, size_bytes: int) -> tuple[bytes, bytes]:
        """Tag and content."""
        self._number += 1
        number = self._number.to_bytes(4, "big")
        content = (number + self._noise)[: size_bytes - TAG_BYTES]
        tag = number + hashlib.sha256(content).digest()[: TAG_BYTES - 4]
        return tag, tag + content


class RadioNet:
    """A running net."""

    def __init__(self, lab: Lab, settings: NetSettings) -> None:
        self.lab = lab
        self.settings = settings
        names = settings.names()
        keys = issue_link_keys(WORK_FOLDER / "pki", names)
        lab.link(LINK).set_profile(settings.profile())
        self.nodes = {name: RadioNode(lab, name, settings, keys[name]) for name in names}
        endpoint = GROUP_NAME if settings.is_multicast else "inbox"
        self.inboxes = {name: Inbox(self.nodes[name].socket_path, endpoint) for name in names[1:]}
        self.contents = Contents()

    def start(self) -> None:
        """All daemons, until every link that the sender needs is up."""
        start_all(list(self.nodes.values()))
        count = self.settings.receivers
        wait_until(lambda: self.nodes[SENDER].links_up() >= count, PATIENCE_S, "a link of the sender stays down")
        for inbox in self.inboxes.values():
            inbox.start()

    def client(self) -> Client:
        """The sending application's."""
        return Client(self.nodes[SENDER].socket_path)

    def send(self, client: Client, size_bytes: int, to: str = "dtn://b1/inbox", **options: Any) -> bytes:
        """One message; its tag."""
        tag, data = self.contents.make(size_bytes)
        client.send_bytes(to, data, **options)
        return tag

    def send_file(self, client: Client, size_bytes: int, to: str = "dtn://b1/inbox") -> list[bytes]:
        """As messages of at most 1 MiB: these are what is committed one by one."""
        sizes = [min(MIB, size_bytes - offset) for offset in range(0, size_bytes, MIB)]
        return [self.send(client, size, to) for size in sizes]

    def left_bytes(self, node: str) -> int:
        """What has left this node's device so far."""
        return self.lab.sniffer(BEARER, node).count().size_bytes

    def left_frames(self, node: str, since_s: float) -> int:
        """Frames that left since then."""
        return self.lab.sniffer(BEARER, node).count(since_s).frames

    def wait_until_empty(self, client: Client) -> None:
        """Until the sender has nothing left to send."""
        wait_until(lambda: not client.bundles(limit=1)["total"], PATIENCE_S, "the sender still has bundles")


@contextlib.contextmanager
def radio_lab(context: ScenarioContext, settings: NetSettings) -> Iterator[Lab]:
    """The wires of a net; the emulator is the lab's own, since netem loses frames before its rate."""
    names = settings.names()
    members = {name: [f"10.21.0.{number}/24"] for number, name in enumerate(names, 1)}
    link = {"bearer": BEARER, "profile": "perfect", "members": members}
    table = {"nodes": names, "link": {LINK: link}}
    with Lab(parse_topology("radio", TomlTable(table, "radio"), PROFILES), backend="relay", seed=context.seed) as lab:
        try:
            yield lab
        finally:
            keep_logs(names)


def keep_logs(names: Sequence[str]) -> None:
    """Show the end of each daemon's log on request."""
    if os.environ.get("MESHD_LAB_LOGS"):
        for name in names:
            path = WORK_FOLDER / name / "log"
            if path.exists():
                os.write(2, f"--- {name}\n{path.read_text(errors='replace')[-4000:]}\n".encode())


def settings_of(values: dict[str, Any]) -> NetSettings:
    """From the scenario's argument."""
    lines = values.pop("bearer_lines", ())
    return replace(NetSettings(), bearer_lines=tuple(lines), **values)
