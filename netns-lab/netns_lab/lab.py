# SPDX-License-Identifier: Apache-2.0
"""A running lab as scenarios and tests use it: nodes that run programs, links that can be cut, sniffers that count.

    with Lab(topology) as lab:
        server = lab.node("home").popen(["iperf3", "-s"])
        lab.link("satcom").cut()
        lab.sniffer("los0", "dpop2").count(since=started)

It must be made inside the sandbox (`netns-lab/lab run SCENARIO` does that). Leaving the block ends the nodes'
programs and the helpers and removes the namespaces; where it is not left in order, the sandbox's end does the same.
"""

import contextlib
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from netns_lab.backend import Backend, make_backend
from netns_lab.errors import LabError
from netns_lab.frame_log import Direction
from netns_lab.helper_process import HelperProcess
from netns_lab.kernel import inside
from netns_lab.link_profile import LinkProfile
from netns_lab.topology import Link, Topology
from netns_lab.wiring import unwire, wire

SENT_FIELD: Final = 9
"""Of a device's line in /proc/net/dev: frames sent."""
END_TIMEOUT_S: Final = 3.0
"""How long a node's program may take to end on SIGTERM before it is killed."""

Stream = int | IO[Any] | None


@dataclass(frozen=True, slots=True)
class Count:
    """What a sniffer saw."""

    frames: int
    size_bytes: int
    kinds: dict[str, int]
    """Frames by kind; empty for a count since the beginning."""
    missed: int
    """Frames in both directions since the beginning for which the sniffer had no room: it must be 0 to trust
    the rest.
    """
    last_s: float | None = None
    """When the last of them passed, on the clock of time.monotonic(); None: none, or a count since the beginning."""


class NodeHandle:
    """One node's namespace."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self._processes: Final[list[subprocess.Popen[Any]]] = []

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a program in this node; it keeps the PID, so signals reach the program itself."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def popen(
        self,
        arguments: Sequence[str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program; the lab ends it if it still runs at the end."""
        process = subprocess.Popen(self.command(arguments), stdin=stdin, stdout=stdout, stderr=stderr, process_group=0)
        self._processes.append(process)
        return process

    def run(
        self, arguments: Sequence[str], *, text: str = "", timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and return its output and exit code."""
        return subprocess.run(
            self.command(arguments), input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def inside(self) -> AbstractContextManager[None]:
        """Sockets made in this block belong to the node: `with node.inside(): socket.socket(...)`."""
        return inside(self.name)

    def sent_frames(self, bearer: str) -> int | None:
        """What the kernel of the node counts as sent on a device; None: it has no such device now."""
        with self.inside():
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        fields = (line.partition(":") for line in lines)
        return next((int(values.split()[SENT_FIELD]) for name, _, values in fields if name.strip() == bearer), None)

    def end_processes(self) -> None:
        """Ask every program to end, then make it."""
        for process in self._processes:
            process.terminate()
        deadline_s = time.monotonic() + END_TIMEOUT_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


class LinkHandle:
    """One link while it runs."""

    def __init__(self, link: Link, backend: Backend) -> None:
        self.settings: Final = link
        self._backend: Final = backend

    def cut(self, towards: str | None = None) -> None:
        """Lose every frame from now on, only those to one member if `towards` names it."""
        self._backend.cut(self.settings, self._member(towards))

    def restore(self, towards: str | None = None) -> None:
        """Undo `cut`."""
        self._backend.restore(self.settings, self._member(towards))

    def set_profile(self, profile: LinkProfile, towards: str | None = None) -> None:
        """Change delay, loss and rate for frames from now on."""
        self._backend.set_profile(self.settings, self._member(towards), profile)

    def _member(self, towards: str | None) -> str | None:
        if towards is not None and towards not in self.settings.members:
            raise LabError(f"link {self.settings.name!r} has no member {towards!r}")
        return towards


class SnifferHandle:
    """What passes at one node's device, seen from outside."""

    def __init__(self, process: HelperProcess, bearer: str, node: str) -> None:
        self._process: Final = process
        self._end: Final = {"bearer": bearer, "node": node}

    def count(
        self,
        since: float | None = None,
        until: float | None = None,
        direction: Direction = Direction.FROM_NODE,
    ) -> Count:
        """Frames with `since <= time < until` on the clock of time.monotonic(); without `since` all since
        the lab began.
        """
        question = {"do": "count", "since": since, "until": until, "direction": direction.value}
        answer = self._process.request(self._end | question)
        return Count(answer["frames"], answer["bytes"], answer["kinds"], answer["missed"], answer["last_s"])

    def write_pcap(self, path: Path) -> int:
        """Write the latest frames of both directions (their first 256 bytes) to a pcap file; returns how many."""
        frames: int = self._process.request(self._end | {"do": "pcap", "path": str(path)})["frames"]
        return frames


class Lab:
    """Nodes, links and sniffers of one topology."""

    def __init__(self, topology: Topology, *, backend: str = "auto", seed: int = 0) -> None:
        self.topology: Final = topology
        self._backend_name: Final = backend
        self._seed: Final = seed
        self._nodes: Final = {name: NodeHandle(name) for name in topology.nodes}
        self._exit: Final = contextlib.ExitStack()
        self._backend: Backend | None = None
        self._sniffer: HelperProcess | None = None
        self._views_before: Final[dict[tuple[str, str], tuple[int, int]]] = {}
        """What devices sent when they came up, by bearer and node: the sniffer has not seen all of it."""

    def __enter__(self) -> "Lab":
        with contextlib.ExitStack() as stack:
            stack.callback(unwire, self.topology)
            wire(self.topology)
            self._sniffer = stack.enter_context(HelperProcess("netns_lab.sniffer", {"taps": self._taps()}))
            for tap in self._taps():
                views = self._both_views(tap["bearer"], tap["node"])
                self._views_before[tap["bearer"], tap["node"]] = views[0], views[1] or 0
            self._backend = make_backend(self._backend_name, self.topology, self._seed)
            stack.callback(self._backend.close)
            for node in self._nodes.values():
                stack.callback(node.end_processes)
            self._exit.push(stack.pop_all())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def node(self, name: str) -> NodeHandle:
        """LabError when there is no such node."""
        if name not in self._nodes:
            raise LabError(f"topology {self.topology.name!r} has no node {name!r}; it has: {', '.join(self._nodes)}")
        return self._nodes[name]

    def link(self, name: str) -> LinkHandle:
        """LabError when there is no such link."""
        assert self._backend is not None, "the lab runs inside its with block only"
        return LinkHandle(self.topology.link(name), self._backend)

    def sniffer(self, bearer: str, node: str) -> SnifferHandle:
        """The sniffer at a node's device; LabError when the node has no such bearer."""
        assert self._sniffer is not None, "the lab runs inside its with block only"
        self.topology.link_of(bearer, node)
        return SnifferHandle(self._sniffer, bearer, node)

    def describe_backend(self) -> str:
        """Which back end runs, for reports."""
        assert self._backend is not None, "the lab runs inside its with block only"
        return self._backend.describe()

    def report(self) -> str:
        """Back end, links and what became of their frames, for people."""
        assert self._backend is not None, "the lab runs inside its with block only"
        lines = [f"back end: {self._backend.describe()}"]
        counters = {(row["link"], row["towards"]): row for row in self._backend.report()}
        for link in self.topology.links.values():
            for member in link.members.values():
                line = f"  {link.name} ({link.bearer}) to {member.node}: {member.profile.summary()}"
                if row := counters.get((link.name, member.node)):
                    words = (f"{key} {value}" for key, value in row.items() if key not in ("link", "towards") and value)
                    line += "\n    frames: " + (", ".join(words) or "none")
                lines += [line, f"    {self._describe_views(link.bearer, member.node)}"]
        return "\n".join(lines)

    def _both_views(self, bearer: str, node: str) -> tuple[int, int | None]:
        """Frames that left, by the sniffer outside and by the node's own device; None: the device is gone."""
        return self.sniffer(bearer, node).count().frames, self.node(node).sent_frames(bearer)

    def _describe_views(self, bearer: str, node: str) -> str:
        """Since the lab was ready; the sniffer counts exactly, so a difference is the node's word against it."""
        (seen, own), before = self._both_views(bearer, node), self._views_before[bearer, node]
        said = "is gone" if own is None else f"says {own - before[1]}"
        missed = self.sniffer(bearer, node).count().missed
        words = f"sent by {node}: sniffer outside {seen - before[0]}, its own device {said}"
        return words + (f"; the sniffer missed {missed}" if missed else "")

    def _taps(self) -> list[dict[str, str]]:
        return [
            {"bearer": link.bearer, "node": node, "namespace": link.middle, "device": node}
            for link in self.topology.links.values()
            for node in link.members
        ]
