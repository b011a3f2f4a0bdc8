# SPDX-License-Identifier: Apache-2.0
"""A line between two nodes that is there when its contacts are: whole bundles at their rate, each way by itself.

What sessions do in detail is sim_link.py's matter; here a day with hundreds of contacts costs little. A bundle is
acknowledged when the receiver's store has it. On a one-way link nothing can come back, and what has been sent counts
as taken. What a contact's end cuts off is lost, and so is an acknowledgement that comes too late.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.bundle.stored_chunk import StoredChunk
from meshd.cl.tcpclv4.session import Session
from meshd.daemon.engine import OutgoingRow
from meshd.link.identity import LinkId
from meshd.node import events as ev
from meshd.routing.contact import Contact
from tests.sim.virtual_time import VirtualTime

if TYPE_CHECKING:
    from tests.sim.sim_node import SimNode

WINDOW_BYTES: Final = 4096
"""What is handed over ahead: little, so that what is urgent overtakes."""


class ContactLine:
    """What two nodes are plugged into; implements `AnyWire`."""

    def __init__(self, name: str, time: VirtualTime) -> None:
        self.name = name
        self.time = time
        self.contacts: dict[Eid, Contact] = {}
        """By sender, those that are there now."""
        self.ends: dict[Eid, Callable[[], ContactBearer | None]] = {}

    def connect(self, node: Eid, end: Callable[[], "ContactBearer | None"]) -> None:
        """Plug in one node."""
        self.ends[node] = end

    def end(self, node: Eid) -> "ContactBearer | None":
        """The bearer of a node that is alive."""
        return self.ends[node]()

    def open(self, contact: Contact) -> None:
        """It begins."""
        self.contacts[contact.sender] = contact
        if (bearer := self.end(contact.sender)) is not None:
            bearer.refresh()

    def close(self, contact: Contact) -> None:
        """It ends, unless another one has followed."""
        if self.contacts.get(contact.sender) is contact:
            del self.contacts[contact.sender]
            if (bearer := self.end(contact.sender)) is not None:
                bearer.refresh()

    def node_died(self, owner: "ContactBearer") -> None:
        """What was under way from it is gone with it; what is sent to it is not acknowledged."""


class ContactBearer:
    """One node's end of a line; implements `Bearer`."""

    session: Session | None = None

    def __init__(self, node: "SimNode", line: ContactLine, neighbour: Eid) -> None:
        self._node = node
        self._line = line
        self._link = LinkId(line.name, neighbour)
        self._is_up = False
        self._waiting: deque[tuple[BundleId, bytes]] = deque()
        self._on_air: tuple[BundleId, bytes] | None = None
        self._unacknowledged: dict[BundleId, None] = {}
        self._queued_bytes = 0
        line.time.call_later(0.0, self.refresh)

    @property
    def _contact(self) -> Contact | None:
        return self._line.contacts.get(self._node.id)

    def refresh(self) -> None:
        """Say so when the line has come up or gone down."""
        if self._line.end(self._node.id) is not self or self._is_up == (self._contact is not None):
            return
        self._is_up = not self._is_up
        if self._is_up:
            self._node.dispatch(ev.LinkUp(self._link))
            self._writable()
            return
        lost = list(self._unacknowledged)
        self._waiting.clear()
        self._unacknowledged.clear()
        self._on_air, self._queued_bytes = None, 0
        self._fail(lost, "the contact is over")
        self._node.dispatch(ev.LinkDown(self._link, "the contact is over"))

    def _fail(self, bundles: list[BundleId], text: str) -> None:
        if bundles:
            self._node.dispatch(ev.TransfersFailed(self._link, bundles, ev.RefusalReason(False, True, True, text)))

    def _writable(self) -> None:
        self._node.dispatch(ev.LinkWritable(self._link, WINDOW_BYTES - self._queued_bytes))

    # BearerPort

    def send_bundles(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """One after the other."""
        if not self._is_up:
            lost = [bundle for bundle, _ in rows]
            self._line.time.call_later(0.0, partial(self._fail, lost, "no contact"))
            return
        for bundle, chunks in rows:
            data = b"".join(chunk for chunk in chunks if not isinstance(chunk, StoredChunk))
            self._waiting.append((bundle, data))
            self._unacknowledged[bundle] = None
            self._queued_bytes += len(data)
        self._send_next()

    def send_urgent(self, link: LinkId, rows: Sequence[OutgoingRow]) -> None:
        """Before what has not begun."""
        begun = len(self._waiting)
        self.send_bundles(link, rows)
        self._waiting.rotate(-begun if len(self._waiting) > begun else 0)

    def set_silent(self, node: Eid, for_s: int | None) -> None:
        """BearerPort: a silence changes nothing here."""

    def accept_transfers(self, link: LinkId, transfers: Sequence[object]) -> None:
        """The sender hears of it if there is a way back."""
        for transfer in transfers:
            self._node.oracle.accepted_transfer(self._node.id)
            self._answer(transfer, None)

    def release_transfer(self, link: LinkId, transfer: object, size_bytes: int) -> None:
        """Bundles come whole."""

    def refuse_transfer(self, link: LinkId, transfer: object, retriable: bool, completed: bool, text: str) -> None:
        """The sender hears of it if there is a way back."""
        self._answer(transfer, ev.RefusalReason(completed, retriable, False, text))

    # The air

    def _send_next(self) -> None:
        contact = self._contact
        if self._on_air is not None or not self._waiting or contact is None:
            return
        self._on_air = item = self._waiting.popleft()
        takes_s = len(item[1]) * 8 / contact.rate_bps
        self._line.time.call_later(takes_s, partial(self._sent, contact, item))

    def _sent(self, contact: Contact, item: tuple[BundleId, bytes]) -> None:
        if self._on_air is not item or self._contact is not contact:
            return
        bundle, data = item
        self._on_air = None
        self._queued_bytes -= len(data)
        self._line.time.call_later(contact.owd_s, partial(self._arrive, contact, bundle, data))
        if contact.receiver not in self._line.contacts:
            self.answered(bundle, None)
        self._send_next()
        self._writable()

    def _arrive(self, contact: Contact, bundle: BundleId, data: bytes) -> None:
        peer = self._line.end(contact.receiver)
        if peer is not None:
            peer.receive(bundle, data)

    def receive(self, bundle: BundleId, data: bytes) -> None:
        """From the other end."""
        self._node.dispatch(ev.BundlesReceived(self._link, [ev.ReceivedRow(bundle, data)]))

    def _answer(self, transfer: object, refusal: ev.RefusalReason | None) -> None:
        assert isinstance(transfer, tuple)
        contact = self._contact
        peer = self._line.end(self._link.neighbour)
        if contact is not None and peer is not None:
            bundle = BundleId(*transfer)
            self._line.time.call_later(contact.owd_s, partial(peer.answered, bundle, refusal))

    def answered(self, bundle: BundleId, refusal: ev.RefusalReason | None) -> None:
        """The neighbour has it, or does not want it."""
        if bundle not in self._unacknowledged:
            return
        del self._unacknowledged[bundle]
        if refusal is None:
            self._node.dispatch(ev.TransfersAcknowledged(self._link, [bundle]))
        else:
            self._node.dispatch(ev.TransfersFailed(self._link, [bundle], refusal))
