# SPDX-License-Identifier: Apache-2.0
"""How many copies of a bundle, over which of its possible ways.

Its source, and nobody else, makes copies: else there would be more of them with each node that a bundle passes. In the
normal case it sends a second one where it arrives with a probability below 0.80 and the second adds 0.05 or more. That
is the probability that any of its ways carries it: whoever has the bundle notices that a contact does not come about,
and takes the next way. Second copies against the first way alone took room on full links from bundles that had no copy
yet: in the congested simulation they lost more bundles than they saved. A small bundle takes little room: it gets its
second copy where the first way alone is not sure enough, and arrives by whichever is quicker.

A critical bundle (SABR, CCSDS 734.3-B-1 section 3.2.8.3; here FLASH and OVERRIDE up to 64 KiB) goes over every
plausible way; larger ones would take from others of their precedence what they add to their own chance. A neighbour
that is the destination gets the only copy: whether it has arrived is known at once.
"""

import math
from collections.abc import Collection, Sequence
from typing import Final

from meshd.bundle.eid import Eid
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleRecord
from meshd.routing.way import Way

SURE_ENOUGH: Final = 0.80
ADDED_MIN: Final = 0.05
COPIES_MAX: Final = 2
SERVED_CONFIDENCE: Final = 0.5
"""Of a copy that is out on a way which can't be seen from here any more."""
CRITICAL_COPIES_MAX: Final = 4
CRITICAL_PRECEDENCE: Final = Precedence.FLASH
SMALL_BYTES: Final = 64 * 1024


def is_critical(record: BundleRecord) -> bool:
    """Whether it goes over every plausible way."""
    return record.precedence >= CRITICAL_PRECEDENCE and is_small(record)


def is_small(record: BundleRecord) -> bool:
    """Whether a copy of it takes little from others."""
    return record.size_bytes <= SMALL_BYTES


def may_need_copies(record: BundleRecord, best: Way) -> bool:
    """Whether it is worth looking at further ways."""
    if best.is_now and best.neighbour == record.destination.node:
        return False
    return record.previous_node is None and (is_critical(record) or best.confidence < SURE_ENOUGH)


def choose_ways(record: BundleRecord, ways: Sequence[Way], served: Collection[Eid] = ()) -> list[Way]:
    """Those of the ways, the best of which is the first, that get a copy, besides neighbours that have one."""
    if record.previous_node is not None:
        return [] if served else list(ways[:1])
    if not is_small(record) and math.prod(1.0 - way.confidence for way in ways) <= 1.0 - SURE_ENOUGH + 1e-9:
        return [] if served else list(ways[:1])
    chosen: list[Way] = []
    known = {way.neighbour: way.confidence for way in ways}
    missed = math.prod(1.0 - known.get(each, SERVED_CONFIDENCE) for each in served)
    critical = is_critical(record)
    left = (CRITICAL_COPIES_MAX if critical else COPIES_MAX) - len(served)
    for way in ways:
        if left <= 0 or (not critical and missed <= 1.0 - SURE_ENOUGH + 1e-9):
            break
        if way.neighbour in served:
            continue
        added = way.confidence if critical else missed * way.confidence
        if added >= ADDED_MIN or not (chosen or served):
            chosen.append(way)
            missed *= 1.0 - way.confidence
            left -= 1
    return chosen
