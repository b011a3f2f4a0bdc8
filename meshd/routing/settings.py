# SPDX-License-Identifier: Apache-2.0
"""Settings of routing: static routes, and what a node tells of its links."""

from dataclasses import dataclass

from meshd.bundle.eid import Eid


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """The `[routing]` table."""

    advertise: bool = True
    """Whether this node signs and passes on what its links are, and heeds what others say of theirs."""


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """One `[[route]]` table: bundles for a node go by way of a neighbour."""

    destination: Eid | None
    """Node ID of the destination; None: every node without a route of its own."""
    via: Eid
    """Node ID of a neighbour."""
    bearers: tuple[str, ...]
    """In order of preference; empty: any bearer the neighbour is on."""
