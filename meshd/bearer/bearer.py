# SPDX-License-Identifier: Apache-2.0
"""One bearer with all its convergence layers behind one face, the one that the engine and the daemon see.

A neighbour has one CL on a bearer: its configuration says which, and what the node wants of a link goes there. What
the layers say goes to the node as it is, except while a reload is changing a neighbour's CL: the link goes down then,
and only the new layer's word counts for its state and its credit; the old one's sessions end beside it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import trio

from meshd.bearer.connection import Row, accept, refuse, release
from meshd.bearer.fountain import FountainBearer
from meshd.bearer.link import Figure
from meshd.bearer.mdns_records import Hint
from meshd.bearer.modem_word import MakeModem
from meshd.bearer.mtcp import MtcpAdapter
from meshd.bearer.tcp import TcpBearer
from meshd.bearer.tls import TlsIdentity
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.link.identity import LinkId
from meshd.link.settings import ConvergenceLayer, NeighbourSettings, Posture
from meshd.node.events import Event, LinkDown, LinkUp, LinkWritable
from meshd.security.link_files import LinkFiles

Dispatch = Callable[[Event], None]


class AnyLayer(Protocol):
    """A convergence layer on this bearer, as `Layer` and `FountainBearer` are."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None: ...
    async def shutdown(self) -> None: ...
    def configure(self, neighbours: Sequence[NeighbourSettings]) -> None: ...
    def send_bundles(self, link: LinkId, rows: Sequence[Row]) -> None: ...
    def send_urgent(self, link: LinkId, rows: Sequence[Row]) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def device_changed(self) -> None: ...
    def snapshot(self) -> list[dict[str, Figure]]: ...


class Bearer:
    """One bearer."""

    def __init__(
        self,
        name: str,
        neighbours: Sequence[NeighbourSettings],
        dispatch: Dispatch,
        make_tcp: Callable[[Dispatch], TcpBearer],
        make_mtcp: Callable[[Dispatch], MtcpAdapter],
        make_fountain: Callable[[Dispatch], FountainBearer],
        make_modem: MakeModem | None = None,
    ) -> None:
        """The makers get the function by which their layer speaks to the node. `make_modem`: where one speaks DLEP."""
        self._name = name
        self._dispatch = dispatch
        self._links_up: set[tuple[ConvergenceLayer, LinkId]] = set()
        self._layer_of: dict[Eid, ConvergenceLayer] = {}
        self._tcp = make_tcp(partial(self._take_event, ConvergenceLayer.TCPCLV4))
        self._fountain = make_fountain(partial(self._take_event, ConvergenceLayer.FOUNTAIN))
        self._layers: dict[ConvergenceLayer, AnyLayer] = {
            ConvergenceLayer.TCPCLV4: self._tcp,
            ConvergenceLayer.MTCP: make_mtcp(partial(self._take_event, ConvergenceLayer.MTCP)),
            ConvergenceLayer.FOUNTAIN: self._fountain,
        }
        self._configured = neighbours
        self._mdns = self._tcp.make_mdns()
        self._hints = self._tcp.make_hints()
        self._modem, self._word = None, None
        if make_modem is not None:
            self._modem, self._word = make_modem(dispatch, self._fountain.set_pace, self.device_changed)
            self._word.configure(neighbours)
        self._note_layers(neighbours)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `shutdown` or cancellation. Started when the first attempts to listen are over."""
        async with trio.open_nursery() as nursery:
            for layer in self._layers.values():
                await nursery.start(layer.run)
            if self._mdns is not None:
                nursery.start_soon(self._mdns.run, self._take_hint)
            if self._modem is not None:
                nursery.start_soon(self._modem.run)
            task_status.started()

    async def shutdown(self) -> None:
        """End every session, as far as the silence allows, and stop."""
        if self._mdns is not None:
            self._mdns.stop()
        async with trio.open_nursery() as nursery:
            for layer in self._layers.values():
                nursery.start_soon(layer.shutdown)

    def configure(self, neighbours: Sequence[NeighbourSettings]) -> None:
        """These are the neighbours from now on."""
        self._configured = neighbours
        self._arrange()

    def _arrange(self) -> None:
        neighbours = self._hints.merge(self._configured)
        self._note_layers(neighbours)
        for layer in self._layers.values():
            layer.configure(neighbours)
        if self._word is not None:
            self._word.configure(neighbours)

    def _take_hint(self, hint: Hint) -> None:
        """Somebody says that a node listens there."""
        if self._hints.take(hint, trio.current_time()):
            self._arrange()

    def set_identity(self, tls: TlsIdentity) -> None:
        """Who this node is and whom it trusts, for new sessions."""
        self._tcp.set_identity(tls)

    def set_link_files(self, files: LinkFiles) -> None:
        """This node's keys for sealed datagrams."""
        self._fountain.set_files(files)

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
        """These are durable. Each is told to the connection that it came by, whatever the neighbour's CL is by now."""
        del link
        accept(transfers)

    def release_transfer(self, link: LinkId, transfer: object, size_bytes: int) -> None:
        """So much of this one, which comes in pieces, is written."""
        del link
        release(transfer, size_bytes)

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """Refuse one; the text stays here, no layer has room for it."""
        del link, text
        refuse(transfer, retriable=retriable, completed=completed)

    def send_bundles(self, link: LinkId, rows: Sequence[Row]) -> None:
        """Send these in order; each comes back as acknowledged or failed."""
        self._layer(link).send_bundles(link, rows)

    def send_urgent(self, link: LinkId, rows: Sequence[Row]) -> None:
        """The same for what must not wait long behind a transfer that is under way; MTCP knows no second way."""
        self._layer(link).send_urgent(link, rows)

    # What the daemon wants.

    def announce_silence(self, for_s: int) -> None:
        """Tell neighbours that we fall silent, where the layer has a word for it: only the fountain's has."""
        self._fountain.announce_silence(for_s)

    @property
    def is_announcing(self) -> bool:
        """That has not left to all yet."""
        return self._fountain.is_announcing

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        """A neighbour is silent on order for so long (0: not said); None: it is not."""
        self._fountain.set_silent(node, for_s)

    def freeze(self) -> None:
        """Silence."""
        if self._mdns is not None:
            self._mdns.is_silent = True
        for layer in self._layers.values():
            layer.freeze()

    def break_silence(self, precedence_min: int, bundle: BundleId | None, mark: int) -> None:
        """Until `freeze` or `thaw` only such bundles, or this one, leave: by the fountain layer, which keeps to it.

        Errors: BearerError: they can't.
        """
        self._fountain.break_silence(precedence_min, bundle, mark)

    def take_posture(self, posture: Posture) -> None:
        """Silence, or none; where the gate counts what leaves, each datagram leaves by itself."""
        self._fountain.count(is_counted=posture is Posture.RESTRICTED)
        if posture.may_send:
            self.thaw()
        else:
            self.freeze()

    def thaw(self) -> None:
        """The silence is over."""
        if self._mdns is not None:
            self._mdns.is_silent = False
        for layer in self._layers.values():
            layer.thaw()

    def device_changed(self) -> None:
        """Its device came back, or is another one, or has other addresses or another MTU."""
        for layer in self._layers.values():
            layer.device_changed()

    def snapshot(self) -> list[dict[str, Figure]]:
        """One row of figures for each link, of the layer that its neighbour speaks now."""
        layer_of = {node.uri: layer for node, layer in self._layer_of.items()}
        return [
            row
            for name, layer in self._layers.items()
            for row in layer.snapshot()
            if layer_of.get(str(row["neighbour"]), ConvergenceLayer.TCPCLV4) is name
        ]

    def _layer(self, link: LinkId) -> AnyLayer:
        return self._layers[self._layer_of.get(link.neighbour, ConvergenceLayer.TCPCLV4)]

    def _take_event(self, layer: ConvergenceLayer, event: Event) -> None:
        """Pass on what a layer says."""
        match event:
            case LinkUp(link):
                self._links_up.add((layer, link))
                self._layer_of.setdefault(link.neighbour, layer)  # it was found by it
            case LinkDown(link, _):
                self._links_up.discard((layer, link))
            case LinkWritable(link, _):
                pass
            case _:
                self._dispatch(event)
                return
        if self._layer_of[link.neighbour] is layer:
            self._dispatch(event)
            if self._word is not None and isinstance(event, LinkUp):
                self._word.repeat(link.neighbour)
