# SPDX-License-Identifier: Apache-2.0
"""The states of a TCPCLv4 session and which messages each takes (RFC 9174 section 3.3 and 5.1.2)."""

import enum
from typing import Final

from meshd.cl.tcpclv4.events import EndReason
from meshd.cl.tcpclv4.messages import (
    MessageType,
    RejectReason,
    SessionFault,
    TermReason,
    pack_reject,
    pack_session_term,
)
from meshd.cl.tcpclv4.settings import Role


class State(enum.Enum):
    """Section 3.3, figures 4 to 9."""

    CONTACT = "contact"
    """Waiting for the peer's contact header."""
    SECURING = "TLS handshake"
    """Both want TLS (section 4.4.3): the owner shakes hands once our contact header is written, then says `secure`."""
    NEGOTIATION = "negotiation"
    """Waiting for the peer's SESS_INIT."""
    ESTABLISHED = "established"
    ENDING = "ending"
    """A SESS_TERM was sent: transfers under way are finished, none begins."""
    ENDED = "ended"


_IN_SESSION: Final = frozenset(int(kind) for kind in MessageType if kind is not MessageType.SESS_INIT)

TAKES: Final[dict[State, frozenset[int]]] = {
    State.CONTACT: frozenset(),
    State.SECURING: frozenset(),
    State.NEGOTIATION: frozenset({MessageType.SESS_INIT, MessageType.SESS_TERM, MessageType.MSG_REJECT}),
    State.ESTABLISHED: _IN_SESSION,
    State.ENDING: _IN_SESSION,
    State.ENDED: frozenset(),
}
"""Messages that each state takes; any other is answered by MSG_REJECT and ends the session."""

_END_OF_TERM: Final = {
    TermReason.IDLE_TIMEOUT: EndReason.IDLE,
    TermReason.VERSION_MISMATCH: EndReason.VERSION_MISMATCH,
    TermReason.CONTACT_FAILURE: EndReason.CONTACT_FAILURE,
}
"""What a SESS_TERM's reason code means to the owner; all others are TERMINATED."""

_TERM_NAMES: Final = {int(reason): reason.name.lower().replace("_", " ") for reason in TermReason}

_MESSAGE_TYPES: Final = frozenset(int(kind) for kind in MessageType)


def make_untimely(kind: int, state: State) -> SessionFault:
    """The fault of a message that `state` does not take (section 5.1.2)."""
    if kind not in _MESSAGE_TYPES:
        text = f"the peer sent the unknown message type {kind:#04x}"
        return SessionFault(text, None, pack_reject(RejectReason.TYPE_UNKNOWN, kind))
    text = f"the peer sent {MessageType(kind).name} in state {state.value}"
    return SessionFault(text, TermReason.CONTACT_FAILURE, pack_reject(RejectReason.UNEXPECTED, kind))


def describe_term(code: int) -> tuple[EndReason, str]:
    """What a SESS_TERM with this reason code, known or not, means and is called."""
    if code not in _TERM_NAMES:
        return EndReason.TERMINATED, "unknown"
    return _END_OF_TERM.get(TermReason(code), EndReason.TERMINATED), _TERM_NAMES[code]


def name_end(fault: SessionFault) -> EndReason:
    """The end reason of a fault."""
    if fault.is_insecure:
        return EndReason.TLS_FAILURE
    if fault.is_unwanted:
        return EndReason.UNWANTED_PEER
    if fault.term in (TermReason.VERSION_MISMATCH, TermReason.CONTACT_FAILURE) and not fault.reject:
        return _END_OF_TERM[fault.term]
    return EndReason.PROTOCOL_ERROR


def may_speak(state: State, role: Role) -> bool:
    """False while no SESS_TERM can be sent: before our contact header, and between it and TLS."""
    return state is not State.SECURING and (state is not State.CONTACT or role is Role.ACTIVE)


def pack_complaint(fault: SessionFault, state: State, role: Role, contact_header: bytes) -> list[bytes]:
    """What a peer is told of its fault before the connection is closed (sections 4.3, 5.1.2, 6.1)."""
    words = []
    if fault.term is TermReason.VERSION_MISMATCH and role is Role.PASSIVE:
        words.append(contact_header)  # section 4.3: before the SESS_TERM
    if fault.reject:
        words.append(fault.reject)
    is_silent_close = state is State.CONTACT and role is Role.ACTIVE
    if fault.term is not None and not is_silent_close:
        words.append(pack_session_term(fault.term, is_reply=False))
    return words
