# SPDX-License-Identifier: Apache-2.0
"""Binary Spray-and-Wait with three copies, for bundles to a node to which no way is known.

The node where the bundle was made gives copies to the neighbours likeliest to meet its destination (prophet.py) and
keeps the last one; who has a single copy waits for the destination, or until a route is known. Of three copies, and of
the two that are left, half is one (rounded down): a neighbour always gets a single copy, so that nothing about copies
has to travel with the bundle.
"""

from collections.abc import Iterable
from typing import Final

from meshd.bundle.eid import Eid
from meshd.routing.prophet import Predictabilities

COPIES: Final = 3
SPRAY_AFTER_S: Final = 60.0
"""A bundle waits so long for a way before it is sprayed: links that are back soon, and news of them, come first."""
SPRAY_MAX_BYTES: Final = 256 * 1024
"""A larger bundle takes too much of everybody's time for a guess."""


def copies_of(*, is_made_here: bool) -> int:
    """How many copies a bundle begins with."""
    return COPIES if is_made_here else 1


def copies_to_give(copies: int) -> int:
    """Half of them; the last one is kept."""
    return copies // 2


def relays(
    destination: Eid, copies: int, neighbours: Iterable[Eid], predictabilities: Predictabilities, now_s: float
) -> list[Eid]:
    """The neighbours that get a copy now, likeliest first; the destination itself gets it alone.

    Args:
        destination: node ID.
        copies: those left here, this node's own included.
        neighbours: whom the bundle may be sent to at this moment and who has not had it.
        predictabilities: what this node knows.
        now_s: DTN time.
    """
    candidates = sorted(
        set(neighbours),
        key=lambda each: (-predictabilities.of_neighbour(each, destination, now_s), each.uri),
    )
    if destination in candidates:
        return [destination]
    chosen: list[Eid] = []
    while candidates and (given := copies_to_give(copies)):
        chosen.append(candidates.pop(0))
        copies -= given
    return chosen
