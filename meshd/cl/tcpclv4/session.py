# SPDX-License-Identifier: Apache-2.0
"""A TCPCLv4 session as a protocol machine: bytes in, events out, no I/O (RFC 9174 sections 3.3, 4 to 6).

    session = Session(settings, Role.ACTIVE, now)
    session.receive_data(data, now)          bytes of the peer, cut anywhere
    session.next_event()                     what they meant, or None
    session.send_transfer(chunks, size)      hand over a bundle
    session.acknowledge(ids)                 these are durable
    session.data_to_send(now)                buffers to write now, in order
    session.get_timer(), handle_timer(now)   next deadline

A peer's mistake never raises: it ends this session with a `SessionEnded` that says why. What the owner still gets from
`data_to_send` after that is to be written, then the connection is closed. The states are those of section 3.3; which
messages a state takes is the table in `states.py`. The beginning is `handshake.py`, the two directions of transfers are
`incoming.py` and `outgoing.py`.
In state SECURING the owner puts TLS between (section 4.4), then calls `secure` or `fail_securing`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from meshd.base.errors import LocalProtocolError, StoreError
from meshd.bundle.eid import Eid
from meshd.bundle.stored_chunk import Chunks
from meshd.cl.tcpclv4 import messages
from meshd.cl.tcpclv4.deadlines import Deadlines
from meshd.cl.tcpclv4.event_queue import EventQueue
from meshd.cl.tcpclv4.events import EndReason, Event, SessionEnded, SessionEstablished, TransferUnreadable
from meshd.cl.tcpclv4.handshake import Handshake
from meshd.cl.tcpclv4.incoming import Incoming
from meshd.cl.tcpclv4.messages import MessageType, RefuseReason, RejectReason, SessionFault, SessionInit, TermReason
from meshd.cl.tcpclv4.outgoing import IN_FLIGHT_MAX, Outgoing
from meshd.cl.tcpclv4.settings import Role, SessionSettings
from meshd.cl.tcpclv4.states import TAKES, State, describe_term, make_untimely, may_speak, name_end

OUTPUT_BATCH_BYTES: Final = 512 * 1024
"""About so much is produced by one `data_to_send`; a single large segment may exceed it."""
ANSWERS_MAX: Final = 262144
"""Control messages (18 bytes at most) that wait to be written; above it nothing more should be read from the peer."""
REJECTS_MAX: Final = 16
"""MSG_REJECTs from the peer, after which the session ends."""


class Session:
    """One side of one TCPCLv4 session."""

    def __init__(self, settings: SessionSettings, role: Role, now: float) -> None:
        self._settings = settings
        self._role = role
        self._answers: list[bytes] = []
        self._incoming = Incoming(settings, self._answers)
        self._outgoing = Outgoing(self._answers)
        self._events = EventQueue()
        self._tail = b""
        self._rejects = 0
        self._deadlines = Deadlines(now + settings.handshake_timeout_s)
        self._has_received_term = False
        self._end_reason, self._end_text = EndReason.TERMINATED, ""
        self.state = State.CONTACT
        self._handshake = Handshake(settings, role, self._answers)

    # What the owner asks.

    @property
    def is_ended(self) -> bool:
        """True when nothing more comes; `data_to_send` may still have last words."""
        return self.state is State.ENDED

    @property
    def room(self) -> int:
        """So many transfers may be handed over now."""
        return IN_FLIGHT_MAX - self._outgoing.in_flight if self.state is State.ESTABLISHED else 0

    @property
    def can_send(self) -> bool:
        """True while transfers may be handed over."""
        return self.state is State.ESTABLISHED

    @property
    def can_receive(self) -> bool:
        """False while so much waits to be answered or written that the owner should read no more, and before TLS."""
        return len(self._answers) < ANSWERS_MAX and not self._incoming.is_full and self.state is not State.SECURING

    @property
    def receive_max_bytes(self) -> int | None:
        """Read at most so much: what follows the contact header may belong to TLS, and large transfers are best read
        in pieces of their own. None: any amount.
        """
        if self.state is State.CONTACT:
            return messages.CONTACT_BYTES - len(self._tail)
        return self._incoming.wanted_bytes

    @property
    def has_work(self) -> bool:
        """True when there is an answer to be written or an event to be told, or the owner has to act on the state."""
        return bool(self._answers or self._events) or self.state is not State.ESTABLISHED

    @property
    def pending_bytes(self) -> int:
        """Bytes of transfers that `data_to_send` has not handed out yet."""
        return self._outgoing.pending_bytes

    @property
    def in_flight(self) -> int:
        """Transfers handed over and neither acknowledged nor refused."""
        return self._outgoing.in_flight

    @property
    def is_idle(self) -> bool:
        """True when no transfer is under way in either direction, and none waits for its answer."""
        return self._incoming.is_idle and self._outgoing.is_idle

    @property
    def is_retiring(self) -> bool:
        """True when one side has asked for its end because it carries nothing."""
        return self._end_reason is EndReason.IDLE

    def next_event(self) -> Event | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    # Bytes from the peer.

    def receive_data(self, data: bytes | memoryview, now: float) -> None:
        """Take bytes that the peer sent, cut anywhere. Their meaning comes by `next_event`."""
        if self.state is State.ENDED:
            return
        self._deadlines.heard(now)
        if not isinstance(data, bytes):
            data = bytes(data)
        if self._tail:
            data = self._tail + data
        try:
            self._tail = data[self._consume(data, now) :]
        except SessionFault as fault:
            self._collect()
            self._end_by_fault(fault)
        self._collect()

    def connection_lost(self, text: str) -> None:
        """The connection is closed or broken: nothing comes any more, nothing can be sent."""
        self._answers.clear()
        if self.state is State.ENDING and self._has_received_term and self.is_idle:
            self._end(self._end_reason, self._end_text, is_peer_fault=False)
        else:
            self._end(EndReason.CONNECTION_LOST, text, is_peer_fault=False)

    def _consume(self, data: bytes, now: float) -> int:
        """Take message after message; the position of the first one that is not whole."""
        pos, end = 0, len(data)
        incoming, outgoing = self._incoming, self._outgoing
        if self.state is State.CONTACT:
            if not messages.pull_contact_header_untrusted(data):
                return 0
            pos = self._take_contact(data)
        while pos < end and self.state is not State.ENDED:
            if incoming.remaining_bytes:
                pos = incoming.take_payload(data, pos)
                continue
            kind = data[pos]
            if kind not in TAKES[self.state]:
                raise make_untimely(kind, self.state)
            if kind == MessageType.XFER_SEGMENT:
                after = incoming.take_segments(data, pos)
            elif kind == MessageType.XFER_ACK:
                after = outgoing.take_acks(data, pos)
            else:
                after = self._take_message(kind, data, pos, now)
            if after == pos:
                break
            pos = after
        return pos

    def _take_message(self, kind: int, data: bytes, pos: int, now: float) -> int:
        """Take one message of the rarer kinds; the position after it, `pos` when it is not whole."""
        if kind == MessageType.KEEPALIVE:
            return pos + 1
        if kind == MessageType.SESS_TERM:
            term = messages.pull_session_term(data, pos)
            if term is None:
                return pos
            self._take_term(term[0], now)
            return term[1]
        if kind == MessageType.XFER_REFUSE:
            refusal = messages.pull_refuse(data, pos)
            if refusal is None:
                return pos
            self._outgoing.take_refusal(refusal[0], refusal[1])
            return refusal[2]
        if kind == MessageType.MSG_REJECT:
            reject = messages.pull_reject(data, pos)
            return pos if reject is None else self._take_reject(*reject)
        offer = messages.pull_session_init_untrusted(data, pos)
        if offer is None:
            return pos
        self._take_session_init(offer[0], now)
        return offer[1]

    # Contact and negotiation.

    def _take_contact(self, data: bytes) -> int:
        """Errors: SessionFault, which is one of the negotiation."""
        self.state = State.NEGOTIATION
        self.state = self._handshake.take_contact(data)
        return messages.CONTACT_BYTES

    def secure(self, proven: frozenset[Eid]) -> None:
        """TLS stands, and the peer's certificate, which is good, names these nodes."""
        if self.state is not State.SECURING:
            raise LocalProtocolError(f"no TLS is awaited in state {self.state.value}")
        self.state = self._handshake.secure(proven)

    def fail_securing(self, text: str, *, is_tellable: bool) -> None:
        """The handshake failed, or, with the connection as good as TLS made it, the certificate is not accepted."""
        if is_tellable and self.state is State.SECURING:
            self._answers.append(messages.pack_session_term(TermReason.CONTACT_FAILURE, is_reply=False))
        self._end(EndReason.TLS_FAILURE, text, is_peer_fault=True)

    def _take_session_init(self, offer: SessionInit, now: float) -> None:
        """Errors: SessionFault."""
        agreement = self._handshake.take_offer(offer)
        self.state = State.ESTABLISHED
        self._deadlines.establish(agreement.keepalive_s, now)
        self._outgoing.open(agreement.segment_bytes, agreement.transfer_mtu_bytes)
        self._events.append(SessionEstablished(offer.node, *agreement))

    # Transfers.

    def send_transfer(self, chunks: Chunks, size_bytes: int) -> int:
        """Hand over a bundle as chunks of `size_bytes` in all, which must not change until it is answered.

        Returns:
            The transfer ID that a later TransfersAcknowledged or TransferRefused names.

        Errors:
            LocalProtocolError: not established (`can_send`), or too many in flight.
        """
        return self.send_transfers([chunks], [size_bytes])[0]

    def send_transfers(self, transfers: Sequence[Chunks], sizes_bytes: Sequence[int]) -> range:
        """The same for many, no more than `room`."""
        if self.state is not State.ESTABLISHED:
            raise LocalProtocolError(f"no transfer can begin in state {self.state.value}")
        return self._outgoing.add(transfers, sizes_bytes)

    def acknowledge(self, transfer_ids: Iterable[int]) -> None:
        """Acknowledge the last segments of these: their bundles are durable."""
        self._incoming.acknowledge(transfer_ids)
        self._collect()

    def refuse(self, transfer_id: int, reason: RefuseReason) -> None:
        """Refuse a transfer that arrived (section 5.2.4); told to the peer when all earlier ones have their answer."""
        self._incoming.refuse(transfer_id, reason)
        self._collect()

    def release(self, transfer_id: int, size_bytes: int) -> None:
        """So much of the pieces of a large transfer is written: as much more may come."""
        self._incoming.release(transfer_id, size_bytes)

    def _collect(self) -> None:
        """Turn what the two halves gathered into events, and end a session that has nothing left to do."""
        self._events.gather(self._incoming, self._outgoing)
        if self.state is State.ENDING:
            self._end_if_done()

    # Bytes to the peer.

    def data_to_send(self, now: float) -> list[bytes | memoryview]:
        """Buffers to write, in this order; empty: nothing now. The session counts them as sent."""
        out: list[bytes | memoryview] = []
        if self._deadlines.is_frozen:
            return out
        self._incoming.release_refusals()
        if self._answers:
            out.append(b"".join(self._answers))
            self._answers.clear()
        if self.state in (State.ESTABLISHED, State.ENDING):
            try:
                self._outgoing.produce(out, OUTPUT_BATCH_BYTES)
            except StoreError as error:
                self._end_unreadable(out, str(error))
        if self._outgoing.refused or self.state is State.ENDING:
            self._collect()
        if out:
            self._deadlines.sent(now)
        return out

    # Time.

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: not at all."""
        return self._deadlines.next()

    def handle_timer(self, now: float) -> None:
        """Act on the deadlines that have passed."""
        deadlines = self._deadlines
        if deadlines.is_end_due(now):
            self._end_by_patience()
        elif deadlines.is_idle_due(now) and self.can_receive and not deadlines.has_slept(now):
            text = f"nothing was heard for {deadlines.idle_s} s"
            self._end_now(EndReason.IDLE_TIMEOUT, TermReason.IDLE_TIMEOUT, text)
        elif deadlines.is_idle_due(now):
            deadlines.heard(now)  # it is us who do not read, or did not
        elif deadlines.is_keepalive_due(now):
            deadlines.sent(now)
            if not self._answers and not self._outgoing.pending_bytes:
                self._answers.append(messages.KEEPALIVE)

    def _end_by_patience(self) -> None:
        if self.state is State.ENDING:
            text = f"{self._end_text}; transfers under way did not finish in {self._settings.ending_timeout_s:g} s"
            self._end(EndReason.TERMINATED, text, is_peer_fault=False)
            return
        text = f"no session within {self._settings.handshake_timeout_s:g} s, the peer stopped at its {self.state.value}"
        if self.state is State.CONTACT:
            self._answers.clear()
            self._end(EndReason.HANDSHAKE_TIMEOUT, text, is_peer_fault=False)
        else:
            self._end_now(EndReason.HANDSHAKE_TIMEOUT, TermReason.IDLE_TIMEOUT, text)

    def freeze(self, now: float) -> None:
        """Silence is ordered: `data_to_send` gives nothing and no timer ends the session; receiving goes on."""
        self._deadlines.freeze(now)

    def thaw(self, now: float) -> None:
        """The silence is over: deadlines begin anew, what was kept back may go."""
        self._deadlines.thaw(now)

    # The end.

    def terminate(self, reason: TermReason, text: str, now: float) -> None:
        """Ask for a clean end (section 6.1): transfers under way are finished, queued ones never begin."""
        if self.state in (State.ENDING, State.ENDED):
            return
        self._end_reason, _ = describe_term(reason)
        if self.state is not State.ESTABLISHED:
            self._end_now(self._end_reason, reason, text)
            return
        self._enter_ending(messages.pack_session_term(reason, is_reply=False), text, now)
        self._end_if_done()

    def _enter_ending(self, message: bytes, text: str, now: float) -> None:
        self._answers.append(message)
        self.state = State.ENDING
        self._end_text = text
        self._deadlines.end_at = now + self._settings.ending_timeout_s
        self._incoming.is_ending = True
        self._outgoing.close()

    def _take_term(self, reason: int, now: float) -> None:
        """SESS_TERM has come: answer the first one, finish, end (section 6.1)."""
        end_reason, name = describe_term(reason)
        text = f"the peer ended the session: {name}"
        self._has_received_term = True
        if self.state is State.NEGOTIATION:
            self._answers.append(messages.pack_session_term(reason, is_reply=True))
            self._end(end_reason, text, is_peer_fault=False)
        elif self.state is State.ESTABLISHED:
            self._end_reason = end_reason
            self._enter_ending(messages.pack_session_term(reason, is_reply=True), text, now)

    def _end_if_done(self) -> None:
        if self._has_received_term and self.is_idle:
            self._end(self._end_reason, self._end_text, is_peer_fault=False)

    def _take_reject(self, reason: int, message_type: int, after: int) -> int:
        """The peer could not make sense of a message of ours (section 5.1.2). Errors: SessionFault."""
        self._rejects += 1
        if reason == RejectReason.TYPE_UNKNOWN or self.state is State.NEGOTIATION or self._rejects > REJECTS_MAX:
            text = f"the peer rejected our message of type {message_type:#04x} with reason {reason}"
            raise SessionFault(text, TermReason.UNKNOWN)
        return after

    def _end_by_fault(self, fault: SessionFault) -> None:
        """Tell the peer what it did, as far as the protocol allows, and end."""
        self._tail = b""
        self._handshake.complain(fault, self.state)
        self._end(name_end(fault), str(fault), is_peer_fault=True)

    def _end_unreadable(self, out: list[bytes | memoryview], text: str) -> None:
        """The transfer under way can't go on: there is no other way to break it off (section 6.1)."""
        self._collect()
        self._events.append(TransferUnreadable(self._outgoing.cut_id, text))
        self._end_now(EndReason.UNREADABLE, TermReason.RESOURCE_EXHAUSTION, text)
        out.extend(self._answers)
        self._answers.clear()

    def _end_now(self, reason: EndReason, term: TermReason, text: str) -> None:
        """End without waiting for anything (section 6.1, unclean termination)."""
        if may_speak(self.state, self._role):
            self._answers.append(messages.pack_session_term(term, is_reply=False))
        self._end(reason, text, is_peer_fault=False)

    def _end(self, reason: EndReason, text: str, *, is_peer_fault: bool) -> None:
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        self._deadlines.stop()
        self._events.append(SessionEnded(reason, text, is_peer_fault))
