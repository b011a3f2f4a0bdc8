# SPDX-License-Identifier: Apache-2.0
"""Agents that know of each other by advertisements alone: real agents, links without loss, a store that never fails.

What is simulated elsewhere (sessions, disks, crashes) is left out here, so that half a day of a mesh takes a second.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any, Final

from meshd.bundle.eid import Eid
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.record import BundleId, BundleRecord
from meshd.bundle.scan import scan_untrusted
from meshd.link.identity import LinkId
from meshd.link.settings import BearerKind, BearerSettings, NeighbourSettings
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.agent import Agent
from meshd.node.settings import NodeSettings
from meshd.routing.contact import Contact
from meshd.routing.contact_plan import ContactPlan
from meshd.routing.contact_router import ContactRouter
from meshd.security.signing_peers import SigningFiles, make_signing_key
from tests.sim.virtual_time import VirtualTime

UTC_OFFSET_MS: Final = 852_000_000_000
LINK_S: Final = 0.05
BEARER: Final = "los0"
CREDIT_BYTES: Final = 10**7


class Ear(ContactRouter):
    """The real router, and what it was told."""

    def __init__(self, node: Eid) -> None:
        super().__init__(node, ContactPlan())
        self.learned: dict[Eid, list[Contact]] = {}

    def learn(self, node: Eid, contacts: Iterable[Contact], now: float) -> None:
        """As ContactSink."""
        self.learned[node] = list(contacts)
        super().learn(node, self.learned[node], now)

    def forget(self, node: Eid) -> None:
        """As ContactSink."""
        self.learned.pop(node, None)
        super().forget(node)


class MeshNode:
    """One agent, and what became of its commands."""

    def __init__(self, mesh: "TopologyMesh", node: Eid, neighbours: Iterable[Eid], files: SigningFiles) -> None:
        self._mesh, self.id = mesh, node
        self.router = Ear(node)
        settings = NodeSettings(node, PurePath("/nowhere"), 10**9, 10**5, 10**6, 10**8, 10**9, clock_trusted=True)
        bearers = (BearerSettings(BEARER, BearerKind.LOS, BEARER, False, None, 10**6, 0, 15),)
        named = tuple(NeighbourSettings(each, BEARER, None) for each in neighbours)
        self.agent = Agent(settings, bearers, named, self.router, frozenset(), mesh.time.now)
        self.agent.advertising.configure(files, "", mesh.time.now)
        self._data: dict[BundleId, bytes] = {}
        self._timer: float | None = None
        self.sent_bundles = 0
        self.sent_bytes = 0
        self.handle(ev.ClockStepped(UTC_OFFSET_MS, 1000))
        self.handle(ev.StoreRecovered([], [], {}))

    @property
    def known(self) -> dict[Eid, set[Eid]]:
        """Who says that it can send to whom."""
        return {node: {each.receiver for each in contacts} for node, contacts in self.router.learned.items()}

    def handle(self, event: Any) -> None:
        """Decide and do."""
        for command in self.agent.handle(event, self._mesh.time.now):
            match command:
                case cmd.WriteStore(puts=puts):
                    self._store(puts)
                case cmd.SendBundles(link, rows):
                    self._send(link, rows)
                case cmd.WakeAt(at):
                    self._timer = at
                    if at is not None:
                        self._mesh.time.call_at(at, partial(self._fire, at))
                case _:
                    pass

    def _fire(self, at: float) -> None:
        if self._timer == at:
            self._timer = None
            self.handle(ev.TimerFired())

    def _store(self, puts: Sequence[BundleRecord]) -> None:
        for put in puts:
            assert put.payload.inline is not None
            self._data[put.id] = put.payload.inline
        if puts:
            rows = [ev.StoredRow(put.id, put.payload) for put in puts]
            self._mesh.time.call_later(0.0, lambda: self.handle(ev.BundlesStored(rows)))

    def _send(self, link: LinkId, rows: Sequence[cmd.SendRow]) -> None:
        other = self._mesh.nodes[link.neighbour]
        ids = [row.id for row in rows]
        received = []
        for row in rows:
            data = self._data[row.id]
            copy = b"".join(
                bytes(piece) for piece in forwarded_copy(data, scan_untrusted(data), self.id, 0, row.is_own)
            )
            self.sent_bundles += 1
            self.sent_bytes += len(copy)
            received.append(ev.ReceivedRow(row.id, copy))

        def arrive() -> None:
            if self._mesh.is_up(self.id, link.neighbour):
                other.handle(ev.BundlesReceived(LinkId(BEARER, self.id), received))
                self.handle(ev.TransfersAcknowledged(link, ids))

        self._mesh.time.call_later(LINK_S, arrive)


class TopologyMesh:
    """Nodes, and which of them hear each other."""

    def __init__(self, names: Sequence[str], edges: Iterable[tuple[int, int]]) -> None:
        self.time = VirtualTime()
        ids = [Eid(f"dtn://{name}/") for name in names]
        self._edges = {frozenset((ids[first], ids[second])): False for first, second in edges}
        keys = {node: make_signing_key() for node in ids}
        peers = {node: key.public_key().public_bytes_raw() for node, key in keys.items()}
        self.nodes: dict[Eid, MeshNode] = {}
        for node in ids:
            self.nodes[node] = MeshNode(self, node, self.neighbours(node), SigningFiles(keys[node], peers))

    def neighbours(self, node: Eid, *, up: bool = False) -> set[Eid]:
        """Whom it may hear, or hears now."""
        edges = [edge for edge, is_up in self._edges.items() if node in edge and (is_up or not up)]
        return {each for edge in edges for each in edge} - {node}

    def is_up(self, first: Eid, second: Eid) -> bool:
        """Whether they hear each other."""
        return self._edges[frozenset((first, second))]

    def set(self, first: Eid, second: Eid, *, up: bool) -> None:
        """The link comes or goes, for both."""
        self._edges[frozenset((first, second))] = up
        for one, other in ((first, second), (second, first)):
            link = LinkId(BEARER, other)
            if up:
                self.nodes[one].handle(ev.LinkUp(link))
                self.nodes[one].handle(ev.LinkWritable(link, CREDIT_BYTES))
            else:
                self.nodes[one].handle(ev.LinkDown(link, "out of sight"))

    def set_all(self, *, up: bool, but: Eid | None = None) -> None:
        """All links, those of one node left out."""
        for edge in self._edges:
            if but not in edge:
                self.set(*sorted(edge, key=str), up=up)

    def wrong(self) -> list[str]:
        """What nodes believe that is not so."""
        truth = {node: self.neighbours(node, up=True) for node in self.nodes}
        return [
            f"{node.id.uri} believes of {other.uri}: {node.known.get(other)}"
            for node in self.nodes.values()
            for other in self.nodes
            if other != node.id and node.known.get(other, set()) != truth[other]
        ]
