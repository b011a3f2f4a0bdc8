# SPDX-License-Identifier: Apache-2.0
"""From a bearer's configuration to the settings of its fountain machine."""

from collections.abc import Iterable
from typing import Final

from meshd.bearer.sockets import Address, parse_address
from meshd.bundle.eid import Eid
from meshd.cl.fountain.settings import FountainSettings, PeerSettings
from meshd.link.settings import BearerSettings, Direction, NeighbourSettings
from meshd.security.node_index import node_index

MARKS_AHEAD_MIN: Final = 64
MARKS_AHEAD_AUTO: Final = 256
"""Where the rate is found: three savings a second at 10 Mbit/s, and half a minute of datagrams at 64 kbit/s."""
MTU_MIN_BYTES: Final = 576
"""A device that says that it takes less is not believed (RFC 791)."""
FOUND_MAX: Final = 64
"""Neighbours of a bearer that are not configured."""


def make_fountain_settings(
    bearer: BearerSettings, node: Eid, direction: Direction, mtu_bytes: int, pace_bps: int
) -> FountainSettings:
    """`direction` is the bearer's, or RX where this node may not send; MTU and rate may be less than the bearer's."""
    radio = bearer.radio
    where = radio.group or radio.listen or ""
    return FountainSettings(
        node=node,
        index=node_index(node, bearer.name),
        rate_bps=bearer.rate_bps if radio.rate_max_bps is not None else pace_bps,
        owd_s=radio.delay_ms / 1000,
        mtu_bytes=mtu_bytes,
        ip_version=6 if where.startswith("[") else 4,
        direction=direction,
        modem_buffer_bytes=radio.modem_buffer_bytes,
        is_multicast=radio.group is not None,
        blind_overhead=radio.blind_overhead_pct / 100,
        emcon_rtc=radio.emcon_rtc,
        emcon_rti_s=float(radio.emcon_rti_s),
        ack_budget_bytes=radio.ack_budget_bytes,
        rate_max_bps=radio.rate_max_bps,
        found_max=FOUND_MAX if radio.discovery else 0,
    )


def split_by_index(bearer: str, named: Iterable[Eid], others: Iterable[Eid]) -> tuple[list[Eid], list[Eid]]:
    """Of the others, those that can be told by their index from all, and those that can't."""
    by_index: dict[int, list[Eid]] = {node_index(node, bearer): [] for node in named}
    taken = set(by_index)
    for node in others:
        by_index.setdefault(node_index(node, bearer), []).append(node)
    unique = [nodes[0] for index, nodes in by_index.items() if len(nodes) == 1 and index not in taken]
    return unique, [node for nodes in by_index.values() for node in nodes if node not in unique]


def make_peers(bearer: str, neighbours: Iterable[NeighbourSettings]) -> list[PeerSettings]:
    """One for each neighbour."""
    return [PeerSettings(each.node, node_index(each.node, bearer), is_blind=each.blind) for each in neighbours]


def make_places(neighbours: Iterable[NeighbourSettings]) -> dict[Eid, Address]:
    """Where each neighbour listens, of those that have an address."""
    return {each.node: parse_address(each.address)[1] for each in neighbours if each.address is not None}


def count_marks_ahead(settings: FountainSettings) -> int:
    """Datagrams of about a second: so far ahead replay marks are saved."""
    if settings.rate_max_bps is not None:
        return MARKS_AHEAD_AUTO
    return max(settings.rate_bps // 8 // settings.mtu_bytes, MARKS_AHEAD_MIN)
