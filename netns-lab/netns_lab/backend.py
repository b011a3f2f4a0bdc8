# SPDX-License-Identifier: Apache-2.0
"""What makes a link slow and lossy: the seam between the lab and its two back ends, netem and the user-space relay."""

import subprocess
from typing import Final, Protocol

from netns_lab.errors import LabError
from netns_lab.helper_process import HelperProcess
from netns_lab.link_profile import LinkProfile, profile_to_table
from netns_lab.netem_arguments import netem_arguments
from netns_lab.topology import Link, Topology

BRIDGE: Final = "bridge"
"""Name of the bridge in each middle namespace (netem only)."""


class Backend(Protocol):
    """Acts on the links of one lab. `towards` is a member's name, or None for all members."""

    def describe(self) -> str:
        """Which one runs, and how, for the report."""

    def cut(self, link: Link, towards: str | None) -> None:
        """Lose everything from now on."""

    def restore(self, link: Link, towards: str | None) -> None:
        """Undo `cut`."""

    def set_profile(self, link: Link, towards: str | None, profile: LinkProfile) -> None:
        """Change what happens to frames from now on."""

    def report(self) -> list[dict[str, object]]:
        """Counters per link and receiving member."""

    def close(self) -> None:
        """Stop carrying frames."""


class RelayBackend:
    """The relay process on AF_PACKET sockets: needs nothing of the kernel but veth."""

    def __init__(self, topology: Topology, seed: int) -> None:
        links = [
            {
                "name": link.name,
                "ports": [
                    {
                        "node": member.node,
                        "namespace": link.middle,
                        "device": member.node,
                        "profile_name": member.profile.name,
                        "profile": profile_to_table(member.profile),
                        "seed": f"{seed}/{link.name}/{member.node}",
                    }
                    for member in link.members.values()
                ],
            }
            for link in topology.links.values()
        ]
        self._process: Final = HelperProcess("netns_lab.relay", {"links": links})
        self._scheduler: Final[str] = self._process.started["scheduler"]
        self._seed: Final = seed

    def describe(self) -> str:
        """As the protocol says."""
        return f"user-space relay on AF_PACKET, {self._scheduler}, seed {self._seed}"

    def cut(self, link: Link, towards: str | None) -> None:
        """As the protocol says."""
        self._process.request({"do": "cut", "link": link.name, "towards": towards})

    def restore(self, link: Link, towards: str | None) -> None:
        """As the protocol says."""
        self._process.request({"do": "restore", "link": link.name, "towards": towards})

    def set_profile(self, link: Link, towards: str | None, profile: LinkProfile) -> None:
        """As the protocol says."""
        change = {"profile_name": profile.name, "profile": profile_to_table(profile)}
        self._process.request({"do": "profile", "link": link.name, "towards": towards} | change)

    def report(self) -> list[dict[str, object]]:
        """As the protocol says."""
        ports: list[dict[str, object]] = self._process.request({"do": "report"})["ports"]
        return ports

    def close(self) -> None:
        """As the protocol says."""
        self._process.close()


class NetemBackend:
    """The kernel's netem on the egress of each middle end, behind a bridge that learns nothing; never in a
    node's namespace.
    """

    def __init__(self, topology: Topology) -> None:
        self._profiles: Final[dict[tuple[str, str], LinkProfile]] = {}
        for link in topology.links.values():
            self._bridge(link)
            for member in link.members.values():
                self._profiles[link.name, member.node] = member.profile
                self._tc(link, "add", member.node, is_cut=False)

    def describe(self) -> str:
        """As the protocol says."""
        return "netem of the kernel, unseeded"

    def cut(self, link: Link, towards: str | None) -> None:
        """As the protocol says."""
        for node in _receivers(link, towards):
            self._tc(link, "change", node, is_cut=True)

    def restore(self, link: Link, towards: str | None) -> None:
        """As the protocol says."""
        for node in _receivers(link, towards):
            self._tc(link, "replace", node, is_cut=False)

    def set_profile(self, link: Link, towards: str | None, profile: LinkProfile) -> None:
        """As the protocol says."""
        for node in _receivers(link, towards):
            self._profiles[link.name, node] = profile
            self._tc(link, "replace", node, is_cut=False)

    def report(self) -> list[dict[str, object]]:
        """netem counts in the kernel; `tc -s qdisc` in the middle namespace shows it."""
        return []

    def close(self) -> None:
        """The qdiscs go with their namespaces."""

    def _bridge(self, link: Link) -> None:
        lines = [f"link add name {BRIDGE} type bridge stp_state 0 mcast_snooping 0", f"link set dev {BRIDGE} up"]
        for node in link.members:
            lines.append(f"link set dev {node} master {BRIDGE}")
            lines.append(f"link set dev {node} type bridge_slave learning off flood on mcast_flood on bcast_flood on")
        run_program(["ip", "-n", link.middle, "-batch", "-"], "\n".join(lines) + "\n")

    def _tc(self, link: Link, verb: str, node: str, is_cut: bool) -> None:
        profile = self._profiles[link.name, node]
        command = ["tc", "-n", link.middle, "qdisc", verb, "dev", node, "root", "netem"]
        run_program(command + netem_arguments(profile, is_cut))


def _receivers(link: Link, towards: str | None) -> list[str]:
    return list(link.members) if towards is None else [towards]


def run_program(command: list[str], text: str = "") -> None:
    """Run a program of the system to its end; LabError with its own words when it fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabError(f"program {command[0]!r} is missing; install iproute2") from None
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def netem_problem() -> str | None:
    """Why netem can't be used in this sandbox, in tc's words; None when it can."""
    try:
        run_program(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1us"])
    except LabError as error:
        return str(error)
    run_program(["tc", "qdisc", "del", "dev", "lo", "root"])
    return None


def make_backend(name: str, topology: Topology, seed: int) -> Backend:
    """`netem`, `relay` or `auto`: netem where tc accepts it, else the relay."""
    match name:
        case "netem":
            if problem := netem_problem():
                raise LabError(f"back end netem can't run here: {problem}; use relay")
            return NetemBackend(topology)
        case "relay":
            return RelayBackend(topology, seed)
        case "auto":
            return RelayBackend(topology, seed) if netem_problem() else NetemBackend(topology)
        case _:
            raise LabError(f"unknown back end {name!r}; known: auto, netem, relay")
