# SPDX-License-Identifier: Apache-2.0
"""The virtual counterpart of `bearer/tcp.py`: the sessions of one simulated node on one virtual wire."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.messages import RefuseReason
from meshd.cl.tcpclv4.session import Session
from meshd.daemon.engine import OutgoingRow
from meshd.link.identity import LinkId
from meshd.node import events as ev
from tests.sim.sim_link import Connection, Wire

if TYPE_CHECKING:
    from tests.sim.sim_node import SimNode

WINDOW_BYTES: Final = 16 * 1024


class SimBearer:
    """Sessions in, events out."""

    def __init__(self, node: "SimNode", wire: Wire, neighbour: Eid) -> None:
        self._node = node
        self._link = LinkId(wire.name, neighbour)
        self._connection: Connection | None = None
        self._sent: dict[int, BundleId] = {}
        self._arriving: set[int] = set()
        self._is_up = False

    @property
    def session(self) -> Session | None:
        """Of the last connection."""
        return self._connection.session if self._connection else None

    def attach(self, connection: Connection) -> None:
        """A new connection is there; the wire made sure that the old one is gone."""
        self._connection = connection

    def process(self, connection: Connection) -> None:
        """Turn what the session says into events of the node."""
        node = self._node
        if not node.is_alive or connection is not self._connection:
            return
        with node.power():
            while (event := connection.session.next_event()) is not None:
                self._handle(connection, event)
            if self._is_up and connection.is_open:
                node.engine.dispatch(ev.LinkWritable(self._link, WINDOW_BYTES - connection.session.pending_bytes))

    def _handle(self, connection: Connection, event: cl.Event) -> None:
        node, link = self._node, self._link
        match event:
            case cl.SessionEstablished():
                self._is_up = True
                node.engine.dispatch(ev.LinkUp(link, event.transfer_mtu_bytes))
            case cl.TransfersReceived(rows):
                received = [ev.ReceivedRow((connection, row.transfer_id), row.data) for row in rows]
                node.engine.dispatch(ev.BundlesReceived(link, received))
            case cl.TransferBegun(transfer_id, size_bytes):
                self._arriving.add(transfer_id)
                node.engine.dispatch(ev.TransferBegun(link, (connection, transfer_id), size_bytes))
            case cl.TransferPiece(transfer_id, data):
                node.engine.dispatch(ev.TransferPiece(link, (connection, transfer_id), data))
            case cl.TransferEnded(transfer_id, is_whole):
                self._arriving.discard(transfer_id)
                node.oracle.streamed += is_whole
                node.engine.dispatch(ev.TransferEnded(link, (connection, transfer_id), is_whole))
            case cl.TransferUnreadable(transfer_id, text):
                node.engine.dispatch(ev.DataUnreadable([self._sent[transfer_id]], text))
            case cl.TransfersAcknowledged(transfer_ids):
                node.engine.dispatch(ev.TransfersAcknowledged(link, [self._sent.pop(each) for each in transfer_ids]))
            case cl.TransferRefused(transfer_id, reason):
                text = reason.name if reason is not None else "larger than its transfer MRU"
                refusal = ev.RefusalReason(
                    reason is RefuseReason.COMPLETED, reason is RefuseReason.NO_RESOURCES, False, text
                )
                node.engine.dispatch(ev.TransfersFailed(link, [self._sent.pop(transfer_id)], refusal))
            case cl.SessionEnded(_, text):
                connection.is_open = False
                if connection.peer is not None:
                    peer = connection.peer
                    connection.wire.time.call_later(0.5, lambda: peer.lose("the peer ended its session"))
                self._ended(text)

    def _ended(self, text: str) -> None:
        for transfer_id in sorted(self._arriving):
            self._node.engine.dispatch(ev.TransferEnded(self._link, (self._connection, transfer_id), is_whole=False))
        self._arriving.clear()
        lost, self._sent = list(self._sent.values()), {}
        if lost:
            reason = ev.RefusalReason(False, True, True, text)
            self._node.engine.dispatch(ev.TransfersFailed(self._link, lost, reason))
        if self._is_up:
            self._is_up = False
            self._node.engine.dispatch(ev.LinkDown(self._link, text))

    def accept_transfers(self, link: LinkId, transfers: Sequence[object]) -> None:
        """BearerPort."""
        for transfer in transfers:
            assert isinstance(transfer, tuple)
            connection, transfer_id = transfer
            self._node.oracle.accepted_transfer(self._node.id)
            assert isinstance(connection, Connection)
            if connection is self._connection and connection.is_open:
                connection.session.acknowledge([transfer_id])
        self._flush_soon()

    def release_transfer(self, link: LinkId, transfer: object, size_bytes: int) -> None:
        """BearerPort."""
        assert isinstance(transfer, tuple)
        connection, transfer_id = transfer
        assert isinstance(connection, Connection)
        if connection is self._connection and connection.is_open:
            connection.session.release(transfer_id, size_bytes)

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """BearerPort."""
        assert isinstance(transfer, tuple)
        connection, transfer_id = transfer
        assert isinstance(connection, Connection)
        if connection is self._connection and connection.is_open:
            reason = RefuseReason.NO_RESOURCES if retriable else RefuseReason.NOT_ACCEPTABLE
            connection.session.refuse(transfer_id, RefuseReason.COMPLETED if completed else reason)
        self._flush_soon()

    def send_urgent(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """BearerPort: the simulated link has one session."""
        self.send_bundles(link, rows)

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        """BearerPort: a silence changes nothing here."""

    def send_bundles(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """BearerPort."""
        connection = self._connection
        if connection is None or not connection.is_open or not connection.session.can_send:
            lost = [bundle for bundle, _ in rows]
            reason = ev.RefusalReason(False, True, True, "no session")
            self._node.time.call_later(0.0, lambda: self._node.dispatch(ev.TransfersFailed(link, lost, reason)))
            return
        for bundle, chunks in rows:
            self._sent[connection.session.send_transfer(chunks, sum(map(len, chunks)))] = bundle
        if self._node.is_prepared:
            self._node.oracle.departures += len(rows)
            connection.flush()
        else:
            self._flush_soon()

    def _flush_soon(self) -> None:
        connection = self._connection
        if connection is not None:
            self._node.time.call_later(0.0, lambda: connection.flush() if connection.is_open else None)
