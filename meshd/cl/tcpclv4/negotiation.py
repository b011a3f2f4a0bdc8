# SPDX-License-Identifier: Apache-2.0
"""What two sides of a TCPCLv4 session offer each other and what comes of it (RFC 9174 sections 4.6 and 4.7)."""

from typing import Final, NamedTuple

from meshd.cl.tcpclv4.messages import SessionFault, SessionInit, TermReason
from meshd.cl.tcpclv4.settings import SessionSettings

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


def make_offer(settings: SessionSettings) -> SessionInit:
    """What this node puts into its SESS_INIT."""
    return SessionInit(settings.keepalive_s, settings.segment_mru_bytes, settings.transfer_mru_bytes, settings.node)


def agree(settings: SessionSettings, offer: SessionInit) -> Agreement:
    """Negotiate with the peer's offer. Errors: SessionFault when it can't be accepted."""
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
