# SPDX-License-Identifier: Apache-2.0
"""Settings of the node itself: identity, state and limits of the store."""

import enum
from dataclasses import dataclass
from pathlib import PurePath

from meshd.bundle.eid import Eid


class ReportKind(enum.Enum):
    """The four status reports (RFC 9171 section 6.1.1)."""

    RECEPTION = "reception"
    FORWARDING = "forwarding"
    DELIVERY = "delivery"
    DELETION = "deletion"


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """One `[[group]]` table: an endpoint with several members."""

    endpoint: Eid
    """Such as `dtn://convoy/~orders`."""
    members: frozenset[Eid]
    """Node IDs."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """The `[node]` and `[store]` tables."""

    id: Eid
    """Node ID, such as `dtn://dpop1/` or `ipn:1.0`."""
    state_dir: PurePath
    """Everything that survives a restart lies below it."""
    quota_bytes: int
    """Encoded bundles in the store; above it, bundles are refused before they are acknowledged."""
    bundles_max: int
    """The same as a count: the index is in memory."""
    known_max: int
    """IDs in the duplicate memory; full means refuse."""
    lifetime_ms: int
    """Of messages sent without a lifetime of their own."""
    lifetime_max_ms: int
    """Longer lifetimes of bundles passing through are capped here (RFC 9171 section 4.3.1, lifetime override)."""
    clock_trusted: bool
    """False: the host has no clock worth the name; creation times are 0 and bundles carry their age."""
    status_reports: frozenset[ReportKind] = frozenset((ReportKind.DELIVERY,))
    """Requests for these are honoured among mission nodes; no others, and never towards strangers."""
    groups: tuple[GroupSettings, ...] = ()
