# SPDX-License-Identifier: Apache-2.0
"""A contact: a span of time in which one node can send to another (SABR, CCSDS 734.3-B-1 section 2.3).

One directed contact is one row, whatever told of it: a plan, a live link, a prediction or another node's advertisement.
Times are DTN time (RFC 9171 section 4.2.6) in seconds. Who keeps contacts: contact_plan.py; who searches them:
contact_graph.py and search.py.
"""

import enum

import msgspec

from meshd.bundle.eid import Eid


class ContactKind(enum.Enum):
    """What a contact is known from."""

    SCHEDULED = "scheduled"
    """A plan says so."""
    LIVE = "live"
    """The link is up now."""
    PREDICTED = "predicted"
    """History says so."""
    SUSPECTED = "suspected"
    """Announced or planned, and contradicted by what is seen."""


class Contact(msgspec.Struct, frozen=True, gc=False):
    """One directed contact."""

    sender: Eid
    """Node ID of the end that sends."""
    receiver: Eid
    """Node ID of the end that receives."""
    bearer: str
    """The sender's bearer; empty when it is not known."""
    start_s: float
    end_s: float
    """Infinite when no end is known."""
    rate_bps: int
    owd_s: float
    """One-way delay: what a bit needs from end to end."""
    loss: float = 0.0
    """Share of what is sent that does not arrive, 0 to below 1."""
    confidence: float = 1.0
    """Probability that the contact takes place, above 0 to 1."""
    radiates: bool = False
    """The sender emits where it can be located."""
    kind: ContactKind = ContactKind.SCHEDULED
