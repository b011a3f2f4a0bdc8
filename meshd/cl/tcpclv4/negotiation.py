# SPDX-License-Identifier: Apache-2.0
"""What two sides of a TCPCLv4 session offer each other and what comes of it (RFC 9174 sections 4.3, 4.4.4, 4.7)."""

from typing import Final, NamedTuple

from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4.messages import (
    CAN_TLS,
    CONTACT_HEADER,
    CONTACT_HEADER_TLS,
    SessionFault,
    SessionInit,
    TermReason,
    pack_session_init,
)
from meshd.cl.tcpclv4.settings import SessionSettings
from meshd.link.settings import TlsPolicy

SEGMENT_MRU_MIN_BYTES: Final = 64
TRANSFER_MRU_MIN_BYTES: Final = 1024
"""A peer that takes less is refused: section 7.10, data dribble."""


class Agreement(NamedTuple):
    """The parameters of an established session."""

    keepalive_s: int
    """0: no keepalives."""
    segment_bytes: int
    """Largest segment that we send."""
    transfer_mtu_bytes: int
    """Largest transfer that the peer takes."""


def make_contact_header(settings: SessionSettings) -> bytes:
    """Our contact header: TLS is offered unless it is never wanted."""
    return CONTACT_HEADER if settings.tls is TlsPolicy.NEVER else CONTACT_HEADER_TLS


def agree_on_tls(settings: SessionSettings, peer_flags: int) -> bool:
    """True when TLS comes next (section 4.3). Errors: SessionFault when it is required and the peer has none."""
    if settings.tls is TlsPolicy.NEVER:
        return False
    if peer_flags & CAN_TLS:
        return True
    if settings.tls is TlsPolicy.REQUIRE:
        text = "TLS is required here, and the peer offers plain text only"
        raise SessionFault(text, TermReason.CONTACT_FAILURE, is_insecure=True)
    return False


def pack_offer(settings: SessionSettings) -> bytes:
    """This node's SESS_INIT."""
    offer = SessionInit(settings.keepalive_s, settings.segment_mru_bytes, settings.transfer_mru_bytes, settings.node)
    return pack_session_init(offer)


def agree(settings: SessionSettings, offer: SessionInit, proven: frozenset[Eid] | None) -> Agreement:
    """Negotiate with the peer's offer. Errors: SessionFault when it can't be accepted.

    `proven` are the node IDs in its certificate; None: there is no TLS.
    """
    if proven is not None and offer.node not in proven:
        claimed = offer.node.uri if offer.node else "nobody"
        named = ", ".join(sorted(node.uri for node in proven))
        text = f"wrong node ID: the peer says it is {claimed}, its certificate names {named}"
        raise SessionFault(text, TermReason.CONTACT_FAILURE, is_insecure=True)
    if settings.peers is not None and offer.node not in settings.peers:
        name = offer.node.uri if offer.node else "a node that does not say who it is"
        raise SessionFault(f"{name} is not welcome here", TermReason.CONTACT_FAILURE, is_unwanted=True)
    if offer.segment_mru_bytes < SEGMENT_MRU_MIN_BYTES or offer.transfer_mru_bytes < TRANSFER_MRU_MIN_BYTES:
        text = (
            f"the peer takes segments of {offer.segment_mru_bytes} bytes and transfers of {offer.transfer_mru_bytes},"
            f" at least {SEGMENT_MRU_MIN_BYTES} and {TRANSFER_MRU_MIN_BYTES} are needed"
        )
        raise SessionFault(text, TermReason.CONTACT_FAILURE)
    return Agreement(
        min(settings.keepalive_s, offer.keepalive_s),
        min(settings.segment_bytes, offer.segment_mru_bytes),
        offer.transfer_mru_bytes,
    )
