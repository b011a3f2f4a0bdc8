# SPDX-License-Identifier: Apache-2.0
"""The sending half of a bearer: which symbol leaves next, and what becomes of each bundle.

Higher precedence first, datagram by datagram; inside a precedence the destinations take turns; of one destination the
oldest object that may send goes first, so that repair goes before news. A new object is opened when none may send.
When nothing at all may be sent, the objects under way get a more careful share of repair: air time is free then.

Links that are dead are passed over; what is under way for them stays as it is, to be gone on with. Blind receivers get
whole passes by the clock instead of by their needs.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from meshd.bundle.precedence import Precedence
from meshd.cl.fountain.breach import Breach
from meshd.cl.fountain.events import FailureReason, OutgoingRow
from meshd.cl.fountain.fountain_code import FountainCode, fit_symbol, make_repairs
from meshd.cl.fountain.frames import GROUP_MAX, MEMBERS_MAX, OBJECT_ID_BYTES, Group
from meshd.cl.fountain.lane import Lane, PeerOf, Waiting
from meshd.cl.fountain.live_lane import LiveLane, last_chance_at, live_failure
from meshd.cl.fountain.object_format import (
    BUNDLE_HEAD_BYTES,
    PIECE_HEAD_BYTES,
    TRANSFER_ID_BYTES,
    cut_pieces,
    head_bytes,
    pack_bundles,
    pack_piece,
)
from meshd.cl.fountain.outgoing_bundles import Bundle, Bundles
from meshd.cl.fountain.outgoing_object import BundleKey, LaneKey, OutgoingObject, Receiver
from meshd.cl.fountain.settings import FountainSettings
from meshd.cl.fountain.under_way import UnderWay

GROUP_S: Final = 0.5
"""How often a group is explained while its symbols leave."""
SWEEP_S: Final = 0.5
"""How often expiry and blind passes are looked after."""
THREAD_BYTES: Final = 64 * 1024
"""An object from this size on is encoded in a thread."""
LOSS_FREE: Final = 0.002
"""Below this repair symbols are made only when they are asked for."""

Work = Callable[[Callable[[], object], Callable[[object], None]], None]
"""Has something worked out in a thread, and the result brought to the second function."""


class Sender:
    """All that one bearer sends."""

    def __init__(
        self,
        settings: FountainSettings,
        code: FountainCode,
        rng: random.Random,
        work: Work,
        peer_of: PeerOf,
    ) -> None:
        self._lane_of: dict[LaneKey, Lane] = {}
        self.adopt(settings)
        self._code = code
        self._rng = rng
        self._work = work
        self._peer_of = peer_of
        self._now = 0.0
        """When this was last called with the time."""
        self._lanes: list[deque[Lane]] = [deque() for _ in range(2 * len(Precedence))]
        """By precedence, those of live bundles above the others."""
        self.bundles = Bundles()
        self._under_way = UnderWay()
        self._objects = self._under_way.objects
        self._numbers = self._groups = 0
        self._last: OutgoingObject | None = None
        self._sweep_at = float("inf")
        self._is_idle_served = False
        self.blind: set[int] = set()
        """Receivers that are silent now."""
        self._breach: Breach | None = None
        self.mute: set[int] = set()
        """Those of them that never answer."""
        self.source_sent = self.symbols_sent = 0

    def adopt(self, settings: FountainSettings) -> None:
        """Another rate: objects that are opened from now on are cut for it."""
        self._settings = settings
        self._seconds_per_byte = 8 / settings.rate_bps
        for lane in self._lane_of.values():
            lane.seconds_per_byte = self._seconds_per_byte
        # On a multicast bearer even a full object waits a moment for further receivers.
        self._full_bytes = float("inf") if settings.is_multicast else settings.symbol_bytes

    # Bundles.

    def submit(self, row: OutgoingRow, node: int, now: float) -> None:
        """Send this bundle to this node, or go on with it."""
        if self.bundles.recall(row.bundle, node):
            return
        self._now = now
        scope = -1 if self._settings.is_multicast else node  # there all destinations are one
        shared, own = (scope, row.bundle, -1), (scope, row.bundle, node)
        bundle = self.bundles.get(own) or self.bundles.get(shared)
        self._is_idle_served = False
        self._sweep_at = min(self._sweep_at, now + SWEEP_S)
        if bundle is not None and node in bundle.left:
            bundle.orphans.discard(node)
        elif bundle is None or not all(self._may_join(item) for item in bundle.objects):
            self._begin(shared if bundle is None else own, row, node, now)
        else:
            self._join(bundle, node)

    def _join(self, bundle: Bundle, node: int) -> None:
        """A further receiver of a bundle that waits or is under way."""
        self.bundles.join(bundle, node)
        self._groups = self._groups % GROUP_MAX + 1
        for item in bundle.objects:
            item.set_group(Group(self._groups, tuple(bundle.left)[:MEMBERS_MAX]))
            self._add_receiver(item, node)

    def _may_join(self, item: OutgoingObject) -> bool:
        """False when an object is done, or has other bundles too: who comes later gets one of its own."""
        return item.object_id in self._objects and len(item.bundles) == 1

    def _begin(self, key: BundleKey, row: OutgoingRow, node: int, now: float) -> None:
        waiting = Waiting(key, row.chunks, sum(map(len, row.chunks)), row.expires_at, now, node, row.tier)
        lane = self._lane((row.precedence, key[0], row.tier is not None))
        self.bundles.add(key, Bundle(row.bundle, lane, waiting))
        lane.add(waiting)

    def _lane(self, key: LaneKey) -> Lane:
        lane = self._lane_of.get(key)
        if lane is None:
            precedence, scope, is_live = key
            lane = (LiveLane if is_live else Lane)(precedence, scope, self._seconds_per_byte)
            self._lane_of[key] = lane
            self._lanes[2 * precedence + is_live].append(lane)
        return lane

    def waiting_bytes(self, node: int) -> int:
        """Bytes for this node that were not begun; what waits for others only does not count, so that all receivers of
        a multicast bearer are asked for the same bundles at the same time, and share the objects that carry them.
        """
        return self.bundles.waiting_bytes[node]

    def count_open(self, node: int) -> int:
        """Objects under way to this node."""
        return self._under_way.count_to(node)

    def has_open(self, node: int) -> bool:
        """True when something under way waits for this node's answer."""
        return any(node in item.receivers and item.sent for item in self._objects.values())

    # What leaves next.

    def group_to_tell(self, now: float) -> Group | None:
        """What explains the group of the object whose symbol left last, when it is time to tell it (again)."""
        item = self._last
        if item is None or item.group is None or not item.receivers or item.group_told_at + GROUP_S > now:
            return None
        item.group_told_at = now
        return item.group

    def next_symbol(self, counter: int, now: float) -> tuple[OutgoingObject, int, bytes] | None:
        """The symbol that leaves now with this counter; None: nothing may."""
        self._now = now
        item = self._next_object(now)
        if item is None and not self._is_idle_served:
            self.grant_all(is_idle=True)
            item = self._next_object(now)
        if item is None:
            return None
        self._last, item.sent_at = item, now
        self.symbols_sent += 1
        esi, data = item.take_symbol(counter)
        self.source_sent += esi < item.source_symbols
        return item, esi, data

    def begin_breach(self, breach: Breach | None) -> None:
        """Nothing but this leaves from now on; None: everything may."""
        self._breach, self._last = breach, None
        self._is_idle_served = False

    def _next_object(self, now: float) -> OutgoingObject | None:
        if self._breach is not None and self._breach.bundle is not None:
            return self._breach.next_object(self.bundles, lambda lane: self._open_next(lane, now, 0), self._encode)
        for lanes in reversed(self._lanes if self._breach is None else self._lanes[2 * self._breach.precedence_min :]):
            for _ in range(len(lanes)):
                lane = lanes[0]
                lanes.rotate(-1)
                item = self._next_of(lane, now)
                if item is not None:
                    return item
        return None

    def _next_of(self, lane: Lane, now: float) -> OutgoingObject | None:
        for waiting in lane.late(self._peer_of, now):
            for node in waiting.nodes:
                self._give_up(waiting.key, node, FailureReason.LATE)
        while True:
            item = lane.next_ready(now)
            if (item is None or lane.prefers_news(item)) and self._opens_at(lane) <= now:
                self._open_next(lane, now, self._settings.company_bytes)
            elif item is None:
                return None
            elif item.is_symbol_there:
                return item
            else:
                self._encode(item)

    def _is_alive(self, lane: Lane) -> bool:
        """False when none of the nodes that the lane's first bundle is for can be sent to."""
        return any(node in self.blind or self._loss_to(node) is not None for node in lane.first_nodes)

    def get_timer(self, *, is_frozen: bool) -> float:
        """When something is to be done; while frozen, besides sending."""
        if is_frozen:
            return self._sweep_at
        return min([self._sweep_at, *(self._opens_at(lane) for lane in self._lane_of.values())])

    def _opens_at(self, lane: Lane) -> float:
        at = lane.opens_at(self._full_bytes)
        if at is None or not self._under_way.has_room(lane.scope, lane.precedence) or not self._is_alive(lane):
            return float("inf")
        return at

    def _grant(self, item: OutgoingObject, *, is_idle: bool = False) -> None:
        item.set_quota(self._loss_to, is_idle=is_idle, live_failure=self._live_failure)
        if item.may_send:
            self._lane_of[item.lane_key].make_ready(item)

    def _live_failure(self, item: OutgoingObject, node: int, need: int, in_flight: int) -> float | None:
        way = self._peer_of(node).meter
        self._sweep_at = min(self._sweep_at, last_chance_at(item, need, way, self._seconds_per_byte, self._now))
        return live_failure(item, need, in_flight, way, self._seconds_per_byte, self._now)

    def _loss_to(self, node: int) -> float | None:
        return self._peer_of(node).loss

    # Opening.

    def _open_next(self, lane: Lane, now: float, company_bytes: int) -> None:
        room_bytes = self._settings.object_bytes
        taken = lane.take_bundles(company_bytes)
        nodes = taken[0].nodes
        self._is_idle_served = False
        if head_bytes(len(nodes)) + BUNDLE_HEAD_BYTES + taken[0].size_bytes > room_bytes:
            self._open_pieces(lane, taken[0], now)
            return
        self._open_object(lane, pack_bundles(lane.precedence, nodes, [each.chunks for each in taken]), taken, now)

    def _open_pieces(self, lane: Lane, waiting: Waiting, now: float) -> None:
        """Cut a large bundle into objects of like size."""
        room_bytes = self._settings.object_bytes - head_bytes(len(waiting.nodes)) - PIECE_HEAD_BYTES
        for piece in cut_pieces(b"".join(waiting.chunks), room_bytes, self._rng.randbytes(TRANSFER_ID_BYTES)):
            self._open_object(lane, pack_piece(lane.precedence, waiting.nodes, piece), [waiting], now)

    def _open_object(self, lane: Lane, data: bytes, taken: Sequence[Waiting], now: float) -> None:
        symbol_bytes = fit_symbol(len(data), self._settings.symbol_bytes)
        self._numbers += 1
        expires_at = max(each.expires_at for each in taken)
        keys = [each.key for each in taken]
        object_id, tiers = self._rng.randbytes(OBJECT_ID_BYTES), (taken[0].tier, taken[-1].tier)
        item = OutgoingObject(
            self._numbers, object_id, data, symbol_bytes, lane.precedence, lane.scope, keys, expires_at, tiers
        )
        self._under_way.add(item)
        for key in keys:
            self.bundles.open(key, item)
        for node in taken[0].nodes:
            self._add_receiver(item, node)
        losses = [self._loss_to(node) or 0.0 for node in taken[0].nodes]
        if item.source_symbols > 1 and max(losses) > LOSS_FREE and len(data) >= THREAD_BYTES:
            self._encode(item)

    def _add_receiver(self, item: OutgoingObject, node: int) -> None:
        receiver = item.add_receiver(node, is_blind=node in self.blind)
        if receiver.is_blind:
            receiver.begin_blind(self._settings.blind_overhead, self._settings.emcon_rtc)
        self._grant(item)

    # Repair symbols.

    def _encode(self, item: OutgoingObject) -> None:
        count = item.missing_repairs()
        work = partial(make_repairs, self._code, item.repair_source, item.data, item.symbol_bytes, count)
        item.is_encoding = True
        if len(item.data) < THREAD_BYTES:
            self._encoded(item, work())
        else:
            self._work(work, partial(self._encoded, item))

    def _encoded(self, item: OutgoingObject, result: object) -> None:
        assert isinstance(result, tuple)
        item.repair_source, item.repairs = result
        item.is_encoding = False
        if item.may_send and item.object_id in self._objects:
            self._lane_of[item.lane_key].make_ready(item)

    # What receivers say.

    def take_report(self, node: int, echo: int, needs: Mapping[bytes, int], now: float) -> None:
        """What this node needed when the datagram with the counter `echo` had arrived.

        An object that it does not mention, though all that was sent of it had its chance to arrive, is either unknown
        to it or long complete: one more symbol finds that out.
        """
        self._now = now
        self._is_idle_served = False
        for item in self._objects.values():
            receiver = item.receivers.get(node)
            if receiver is None or not item.sent:
                continue
            if item.object_id not in needs and item.last_counter > echo:
                continue
            receiver.need, receiver.counter = min(needs.get(item.object_id, 1), item.source_symbols), echo
            self._grant(item)

    def get_digest(self, node: int, object_id: bytes) -> bytes | None:
        """Of an object that this node has not acknowledged."""
        item = self._objects.get(object_id)
        return item.digest if item is not None and node in item.receivers and item.sent else None

    def take_ack(self, node: int, object_id: bytes) -> int:
        """The node has this object on its disk; its tag was checked. So many symbols at least have arrived."""
        item = self._objects[object_id]
        self._remove_receiver(item, node)
        self.bundles.finish_part(item.bundles, node, is_acknowledged=True)
        return min(item.source_symbols, item.sent)

    def take_refusal(self, node: int, object_id: bytes, reason: FailureReason) -> None:
        """The node does not take this object; the tag was checked."""
        for key in self._objects[object_id].bundles:
            self._give_up(key, node, reason)

    def _give_up(self, key: BundleKey, node: int, reason: FailureReason) -> None:
        for item in self.bundles.give_up(key, node, reason):
            self._remove_receiver(item, node)

    def _remove_receiver(self, item: OutgoingObject, node: int) -> None:
        item.receivers.pop(node, None)
        if item.receivers or not self._under_way.remove(item):
            self._grant(item)
        else:
            item.quota = 0

    # Links that come and go.

    def node_died(self, node: int) -> None:
        """Nothing more for this node for now. The owner is told that all failed; what is under way is kept."""
        self.bundles.orphan(node)
        self.grant_all()

    def set_blind(self, node: int, *, is_blind: bool) -> None:
        """A node falls silent, or is heard again."""
        (self.blind.add if is_blind else self.blind.discard)(node)
        for item in self._objects.values():
            receiver = item.receivers.get(node)
            if receiver is not None and receiver.is_blind is not is_blind:
                receiver.is_blind = is_blind
                if is_blind:
                    receiver.begin_blind(self._settings.blind_overhead, self._settings.emcon_rtc)
        self.grant_all()

    def grant_all(self, *, is_idle: bool = False) -> None:
        """The link is idle, or a dead node is heard again, or silent: look anew at what may be sent."""
        self._is_idle_served = is_idle
        for item in list(self._objects.values()):
            self._grant(item, is_idle=is_idle)

    # Time.

    def handle_timer(self, now: float) -> None:
        """Give up what expired, and begin further passes of what goes blind."""
        if now < self._sweep_at:
            return
        self._now = now
        self._sweep_at = now + SWEEP_S if self.bundles else float("inf")
        for key, nodes in self.bundles.find_expired(now):
            for node in nodes:
                self._give_up(key, node, FailureReason.EXPIRED)
        for item in list(self._objects.values()):
            if item.tier is not None:
                self._grant(item)
            for node, receiver in list(item.receivers.items()):
                if receiver.is_blind and receiver.blind_left == 0:
                    self._pass_on(item, node, receiver, now)

    def _pass_on(self, item: OutgoingObject, node: int, receiver: Receiver, now: float) -> None:
        """A blind pass is over: the next one in due time, or, for a node that never answers, the end."""
        if receiver.passes_left and receiver.next_pass_at == float("inf"):
            receiver.next_pass_at = now + self._settings.emcon_rti_s
        elif receiver.passes_left and receiver.next_pass_at <= now:
            receiver.next_pass(self._settings.blind_overhead)
            self._grant(item)
        elif not receiver.passes_left and node in self.mute:
            self._remove_receiver(item, node)
            self.bundles.finish_part(item.bundles, node, is_acknowledged=False)
