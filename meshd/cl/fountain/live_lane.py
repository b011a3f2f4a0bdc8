# SPDX-License-Identifier: Apache-2.0
"""Live bundles (those with a supersession block): the lane that they wait in, and how much repair their objects get.

They have a deadline, their lifetime. What can't arrive before it is dropped, not sent; repair stops when it would come
too late. Metadata goes before key frames and these before the rest, the newest first, in objects that take little
time: what is there goes together, nobody waits for company. How sure a burst of symbols has to be follows from how many
requests for repair there is still time for: on the first ones nothing or little is spent, on the last one much. Objects
of low tiers alone, which a link has that is short, have repair ahead always, for all others lean on them.
"""

from bisect import insort
from collections.abc import Sequence
from typing import Final

from meshd.cl.fountain.lane import Lane, PeerOf, Waiting
from meshd.cl.fountain.object_format import BUNDLE_HEAD_BYTES, head_bytes
from meshd.cl.fountain.outgoing_object import OutgoingObject
from meshd.cl.fountain.path_meter import PathMeter
from meshd.cl.fountain.repair import CERTAIN, IDLE, MEAN, PLAIN, SAFE, SURE

LAST_TIER: Final = 2
COMPANY_AIR_S: Final = 0.1
"""Bundles that share an object take no longer at the bearer's rate."""
REPORT_S: Final = 0.03
"""Besides its way a report takes about so long, for it waits for others to be reported."""
CHANCE_S: Final = 0.02
"""So long before it is too late an object is looked at once more."""
LOSS_FREE: Final = 0.002
"""Below this nothing is sent ahead, while there is time for a request."""
_FAILURES: Final = ((CERTAIN, IDLE, SURE), (CERTAIN, SURE, MEAN), (SAFE, PLAIN, PLAIN))
"""By tier: the chance that a burst fails after which there is time for no request, for one, and for more."""
_TIER_RANK: Final = 1 << 48
_FIRST: Final = 1
"""A place in the order before all others."""


class LiveLane(Lane):
    """Live bundles to one destination in one precedence."""

    def __init__(self, precedence: int, scope: int, seconds_per_byte: float) -> None:
        super().__init__(precedence, scope, seconds_per_byte)
        self._ordered: list[tuple[int, int, Waiting]] = []
        """What goes next stands last: by tier, then by arrival."""
        self._arrivals = 0

    @property
    def first_nodes(self) -> Sequence[int]:
        """See Lane."""
        return self._ordered[-1][2].nodes if self._ordered else ()

    def add(self, waiting: Waiting) -> None:
        """See Lane."""
        self._insert(-(LAST_TIER if waiting.tier is None else waiting.tier), waiting)
        self.waiting_bytes += waiting.size_bytes

    def _insert(self, order: int, waiting: Waiting) -> None:
        self._arrivals += 1
        insort(self._ordered, (order, self._arrivals, waiting))

    def _take_out(self, waiting: Waiting) -> None:
        place = next(place for place, each in enumerate(self._ordered) if each[2] is waiting)
        del self._ordered[place]

    def put_first(self, waiting: Waiting) -> None:
        """See Lane."""
        self._take_out(waiting)
        self._insert(_FIRST, waiting)

    def cancel(self, waiting: Waiting) -> None:
        """See Lane."""
        self._take_out(waiting)
        self.waiting_bytes -= waiting.size_bytes

    def opens_at(self, full_bytes: float) -> float | None:
        """See Lane. Receivers of a multicast bearer that are asked for at the same time have all been named by then."""
        del full_bytes
        return float("-inf") if self._ordered else None

    def late(self, peer_of: PeerOf, now: float) -> list[Waiting]:
        """See Lane."""
        return [
            each
            for *_, each in self._ordered
            if now + each.size_bytes * self.seconds_per_byte + _least_owd_s(each.nodes, peer_of) > each.expires_at
        ]

    def take_bundles(self, room_bytes: int) -> list[Waiting]:
        """The first bundle, and those behind it for the same nodes, as far as they take little time."""
        room_bytes = min(room_bytes, int(COMPANY_AIR_S / self.seconds_per_byte))
        _, _, first = self._ordered.pop()
        taken = [first]
        room_bytes -= head_bytes(len(first.nodes)) + BUNDLE_HEAD_BYTES + first.size_bytes
        while self._ordered:
            _, _, following = self._ordered[-1]
            room_bytes -= BUNDLE_HEAD_BYTES + following.size_bytes
            if room_bytes < 0 or following.nodes != first.nodes:
                break
            taken.append(self._ordered.pop()[2])
        self.waiting_bytes -= sum([each.size_bytes for each in taken])
        return taken

    def _rank(self, item: OutgoingObject) -> int:
        """The lowest tier, and of that the newest."""
        return (item.tier or 0) * _TIER_RANK - item.number

    def next_ready(self, now: float) -> OutgoingObject | None:
        """See Lane. What would come too late does not go any more."""
        while (item := super().next_ready(now)) is not None and item.stops_at <= now:
            item.quota = 0
        return item

    def prefers_news(self, item: OutgoingObject) -> bool:
        """Whether what waits goes before an object that may send."""
        return bool(self._ordered) and item.tier is not None and -self._ordered[-1][0] < item.tier


def live_failure(
    item: OutgoingObject, need: int, in_flight: int, way: PathMeter, seconds_per_byte: float, now: float
) -> float | None:
    """The chance of failing that symbols for such a need may have, those in flight included; None: no more are sent,
    for they would come too late, or those in flight may do and there is time to hear of that.
    """
    last_at = _last_at(item, need, way, seconds_per_byte)
    if now > last_at:
        return None
    round_s = way.rtt_s + way.rtt_s / 8 + REPORT_S
    if in_flight >= need and now < item.sent_at + round_s <= last_at:
        return None
    requests = int((last_at - now) / round_s)
    if requests and way.loss < LOSS_FREE:
        return PLAIN
    return _FAILURES[LAST_TIER if item.tier_last is None else item.tier_last][min(requests, 2)]


def last_chance_at(item: OutgoingObject, need: int, way: PathMeter, seconds_per_byte: float, now: float) -> float:
    """When to look at it for the last time, though nothing was heard: a little before all would come too late."""
    at = _last_at(item, need, way, seconds_per_byte) - CHANCE_S
    return at if at > now else float("inf")


def _last_at(item: OutgoingObject, need: int, way: PathMeter, seconds_per_byte: float) -> float:
    """What leaves later comes too late."""
    return item.expires_at - need * item.symbol_bytes * seconds_per_byte - way.owd_s


def _least_owd_s(nodes: Sequence[int], peer_of: PeerOf) -> float:
    return min([peer_of(node).meter.owd_s for node in nodes], default=0.0)
