# SPDX-License-Identifier: Apache-2.0
"""One bearer with all its convergence layers behind one face, the one that the engine and the daemon see.

A neighbour has one CL on a bearer: its configuration says which, and what the node wants of a link goes there. What
the layers say goes to the node as it is, except while a reload is changing a neighbour's CL: the link goes down then,
and only the new layer's word counts for its state and its credit; the old one's sessions end beside it.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import trio

from meshd.bearer.link import Figure
from meshd.bearer.mtcp import MtcpAdapter
from meshd.bearer.mtcp_sessions import MtcpTransfer
from meshd.bearer.tcp import TcpBearer
from meshd.bearer.tls import TlsIdentity
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.link.identity import LinkId
from meshd.link.settings import ConvergenceLayer, NeighbourSettings
from meshd.node.events import Event, LinkDown, LinkUp, LinkWritable

Dispatch = Callable[[Event], None]


class Bearer:
    """One bearer."""

    def __init__(
        self,
        name: str,
        neighbours: Sequence[NeighbourSettings],
        dispatch: Dispatch,
        make_tcp: Callable[[Dispatch], TcpBearer],
        make_mtcp: Callable[[Dispatch], MtcpAdapter],
    ) -> None:
        """The makers get the function by which their layer speaks to the node."""
        self._name = name
        self._dispatch = dispatch
        self._links_up: set[tuple[ConvergenceLayer, LinkId]] = set()
        self._layer_of: dict[Eid, ConvergenceLayer] = {}
        self._tcp = make_tcp(partial(self._take_event, ConvergenceLayer.TCPCLV4))
        self._mtcp = make_mtcp(partial(self._take_event, ConvergenceLayer.MTCP))
        self._note_layers(neighbours)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `shutdown` or cancellation. Started when the first attempts to listen are over."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._tcp.run)
            await nursery.start(self._mtcp.run)
            task_status.started()

    async def shutdown(self) -> None:
        """End every session, as far as the silence allows, and stop."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tcp.shutdown)
            nursery.start_soon(self._mtcp.shutdown)

    def configure(self, neighbours: Sequence[NeighbourSettings]) -> None:
        """These are the neighbours from now on."""
        self._note_layers(neighbours)
        self._tcp.configure(neighbours)
        self._mtcp.configure(neighbours)

    def set_identity(self, tls: TlsIdentity) -> None:
        """Who this node is and whom it trusts, for new sessions."""
        self._tcp.set_identity(tls)

    def _note_layers(self, neighbours: Sequence[NeighbourSettings]) -> None:
        # A link that is ending keeps its layer: what the node still hands over comes back from there.
        for neighbour in neighbours:
            if neighbour.bearer != self._name:
                continue
            link, before = LinkId(self._name, neighbour.node), self._layer_of.get(neighbour.node, neighbour.cl)
            self._layer_of[neighbour.node] = neighbour.cl
            if before is not neighbour.cl and (before, link) in self._links_up:
                self._dispatch(LinkDown(link, "its convergence layer was changed"))

    # BearerPort

    def accept_transfers(self, link: LinkId, transfers: Sequence[object]) -> None:
        """These are durable. Each goes to the layer that it came by, whatever the neighbour's CL is by now."""
        by_mtcp = [each for each in transfers if isinstance(each, MtcpTransfer)]
        if by_mtcp:
            self._mtcp.accept_transfers(link, by_mtcp)
        if len(by_mtcp) < len(transfers):
            rest = [each for each in transfers if not isinstance(each, MtcpTransfer)] if by_mtcp else transfers
            self._tcp.accept_transfers(link, rest)

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """Refuse one."""
        if isinstance(transfer, MtcpTransfer):
            self._mtcp.refuse_transfer(link, transfer, retriable, completed, text)
        else:
            self._tcp.refuse_transfer(link, transfer, retriable, completed, text)

    def send_bundles(self, link: LinkId, rows: Iterable[tuple[BundleId, Sequence[bytes | memoryview]]]) -> None:
        """Send these in order; each comes back as acknowledged or failed."""
        self._layer(link).send_bundles(link, rows)

    def send_urgent(self, link: LinkId, rows: Sequence[tuple[BundleId, Sequence[bytes | memoryview]]]) -> None:
        """The same for what must not wait long behind a transfer that is under way; MTCP knows no second way."""
        layer = self._layer(link)
        if isinstance(layer, TcpBearer):
            layer.send_urgent(link, rows)
        else:
            layer.send_bundles(link, rows)

    # What the daemon wants.

    def freeze(self) -> None:
        """Silence."""
        self._tcp.freeze()
        self._mtcp.freeze()

    def thaw(self) -> None:
        """The silence is over."""
        self._tcp.thaw()
        self._mtcp.thaw()

    def snapshot(self) -> list[dict[str, Figure]]:
        """One row of figures for each link, of the layer that its neighbour speaks now."""
        by_mtcp = {node.uri for node, layer in self._layer_of.items() if layer is ConvergenceLayer.MTCP}
        return [
            *(row for row in self._tcp.snapshot() if row["neighbour"] not in by_mtcp),
            *(row for row in self._mtcp.snapshot() if row["neighbour"] in by_mtcp),
        ]

    def _layer(self, link: LinkId) -> TcpBearer | MtcpAdapter:
        is_mtcp = self._layer_of.get(link.neighbour) is ConvergenceLayer.MTCP
        return self._mtcp if is_mtcp else self._tcp

    def _take_event(self, layer: ConvergenceLayer, event: Event) -> None:
        """Pass on what a layer says."""
        match event:
            case LinkUp(link):
                self._links_up.add((layer, link))
            case LinkDown(link, _):
                self._links_up.discard((layer, link))
            case LinkWritable(link, _):
                pass
            case _:
                self._dispatch(event)
                return
        if self._layer_of[link.neighbour] is layer:
            self._dispatch(event)
