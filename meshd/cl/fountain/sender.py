# SPDX-License-Identifier: Apache-2.0
"""The sending half of a bearer: which symbol leaves next, and what becomes of each bundle.

Higher precedence first, datagram by datagram; inside a precedence the destinations take turns; of one destination the
oldest object that may send goes first, so that repair goes before news. A new object is opened when none may send.
When nothing at all may be sent, the objects under way get a more careful share of repair: air time is free then.

Links that are dead are passed over; what is under way for them stays as it is, to be gone on with. Blind receivers get
whole passes by the clock instead of by their needs.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from meshd.bundle.precedence import Precedence
from meshd.cl.fountain.events import FailureReason, OutgoingRow
from meshd.cl.fountain.fountain_code import FountainCode, fit_symbol, make_repairs
from meshd.cl.fountain.frames import GROUP_MAX, MEMBERS_MAX, OBJECT_ID_BYTES, Group
from meshd.cl.fountain.lane import Lane, Waiting
from meshd.cl.fountain.object_format import (
    BUNDLE_HEAD_BYTES,
    PIECE_HEAD_BYTES,
    TRANSFER_ID_BYTES,
    Piece,
    head_bytes,
    pack_bundles,
    pack_piece,
)
from meshd.cl.fountain.outgoing_bundles import Bundle, Bundles
from meshd.cl.fountain.outgoing_object import BundleKey, OutgoingObject, Receiver
from meshd.cl.fountain.settings import FountainSettings

OPEN_MAX: Final = 512
"""Objects under way to one destination, and"""
OPEN_MAX_BYTES: Final = 24 * 1024 * 1024
"""their bytes: some seconds of the bearer's rate, and what silent nodes have not acknowledged."""
URGENT_MORE_BYTES: Final = 8 * 1024 * 1024
"""Urgent ones may take more. With a largest bundle beyond each limit that is what a receiver has room for."""
PIECES_MAX: Final = 256
"""Objects that one bundle is cut into: its receiver has to hold them all."""
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
        loss_to: Callable[[int], float | None],
    ) -> None:
        """`loss_to` a node: its measured loss; None while it is dead."""
        self._settings = settings
        # On a multicast bearer even a full object waits a moment for further receivers.
        self._full_bytes = float("inf") if settings.is_multicast else settings.symbol_bytes
        self._code = code
        self._rng = rng
        self._work = work
        self._loss_to = loss_to
        self._lanes: list[deque[Lane]] = [deque() for _ in Precedence]
        self._lane_of: dict[tuple[int, int], Lane] = {}
        self.bundles = Bundles()
        self._objects: dict[bytes, OutgoingObject] = {}
        self._open: Counter[int] = Counter()
        self._open_bytes: Counter[int] = Counter()
        self._numbers = 0
        self._groups = 0
        self._last: OutgoingObject | None = None
        self._sweep_at = float("inf")
        self._is_idle_served = False
        self.blind: set[int] = set()
        """Receivers that are silent now."""
        self.mute: set[int] = set()
        """Those of them that never answer."""
        self.source_sent = 0
        self.symbols_sent = 0

    # Bundles.

    def submit(self, row: OutgoingRow, node: int, now: float) -> None:
        """Send this bundle to this node, or go on with it."""
        if self.bundles.recall(row.bundle, node):
            return
        scope = self._scope(node)
        shared, own = (scope, row.bundle, -1), (scope, row.bundle, node)
        bundle = self.bundles.get(own) or self.bundles.get(shared)
        self._is_idle_served = False
        self._sweep_at = min(self._sweep_at, now + SWEEP_S)
        if bundle is not None and node in bundle.left:
            bundle.orphans.discard(node)
        elif bundle is None or not all(self._may_join(item) for item in bundle.objects):
            self._begin(shared if bundle is None else own, row, node, now)
        else:
            self._join(bundle, node, now)

    def _join(self, bundle: Bundle, node: int, now: float) -> None:
        """A further receiver of a bundle that waits or is under way."""
        self.bundles.join(bundle, node)
        self._groups = self._groups % GROUP_MAX + 1
        for item in bundle.objects:
            item.set_group(Group(self._groups, tuple(bundle.left)[:MEMBERS_MAX]))
            self._add_receiver(item, node, now)

    def _may_join(self, item: OutgoingObject) -> bool:
        """False when an object is done, or has other bundles too: who comes later gets one of its own."""
        return item.object_id in self._objects and len(item.bundles) == 1

    def _begin(self, key: BundleKey, row: OutgoingRow, node: int, now: float) -> None:
        waiting = Waiting(key, row.chunks, sum(map(len, row.chunks)), row.expires_at, now, node)
        lane = self._lane(row.precedence, key[0])
        self.bundles.add(key, Bundle(row.bundle, lane, waiting))
        lane.add(waiting)

    def _scope(self, node: int) -> int:
        """On a multicast bearer all destinations are one."""
        return -1 if self._settings.is_multicast else node

    def _lane(self, precedence: int, scope: int) -> Lane:
        lane = self._lane_of.get((precedence, scope))
        if lane is None:
            lane = self._lane_of[precedence, scope] = Lane(precedence, scope)
            self._lanes[precedence].append(lane)
        return lane

    def waiting_bytes(self, node: int) -> int:
        """Bytes for this node that were not begun; what waits for others only does not count, so that all receivers of
        a multicast bearer are asked for the same bundles at the same time, and share the objects that carry them.
        """
        return self.bundles.waiting_bytes[node]

    def count_open(self, node: int) -> int:
        """Objects under way to this node."""
        return sum(node in item.receivers for item in self._objects.values())

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
        item = self._next_object(now)
        if item is None and not self._is_idle_served:
            self._is_idle_served = True
            for each in self._objects.values():
                self._grant(each, is_idle=True)
            item = self._next_object(now)
        if item is None:
            return None
        self._last = item
        self.symbols_sent += 1
        esi, data = item.take_symbol(counter)
        self.source_sent += esi < item.source_symbols
        return item, esi, data

    def _next_object(self, now: float) -> OutgoingObject | None:
        for lanes in reversed(self._lanes):
            for _ in range(len(lanes)):
                lane = lanes[0]
                lanes.rotate(-1)
                item = self._next_of(lane, now)
                if item is not None:
                    return item
        return None

    def _next_of(self, lane: Lane, now: float) -> OutgoingObject | None:
        while True:
            item = lane.next_ready()
            if item is None:
                if self._opens_at(lane) > now:
                    return None
                self._open_next(lane, now)
            elif item.is_symbol_there:
                return item
            else:
                self._encode(item)

    def _is_alive(self, lane: Lane) -> bool:
        """False when none of the nodes that the lane's first bundle is for can be sent to."""
        return any(node in self.blind or self._loss_to(node) is not None for node in lane.first_nodes)

    def _may_open(self, lane: Lane) -> bool:
        is_urgent = lane.precedence >= Precedence.FLASH
        most_bytes = OPEN_MAX_BYTES + URGENT_MORE_BYTES * is_urgent
        is_full = self._open[lane.scope] >= OPEN_MAX * (1 + is_urgent) or self._open_bytes[lane.scope] >= most_bytes
        return not is_full and self._is_alive(lane)

    def get_timer(self, *, is_frozen: bool) -> float:
        """When something is to be done; while frozen, besides sending."""
        if is_frozen:
            return self._sweep_at
        return min([self._sweep_at, *(self._opens_at(lane) for lane in self._lane_of.values())])

    def _opens_at(self, lane: Lane) -> float:
        at = lane.opens_at(self._full_bytes)
        return float("inf") if at is None or not self._may_open(lane) else at

    def _grant(self, item: OutgoingObject, *, is_idle: bool = False) -> None:
        item.set_quota(self._loss_to, is_idle=is_idle)
        if item.may_send:
            self._lane_of[item.precedence, item.scope].make_ready(item)

    # Opening.

    def _open_next(self, lane: Lane, now: float) -> None:
        room_bytes = self._settings.object_bytes
        taken = lane.take_bundles(self._settings.company_bytes)
        nodes = taken[0].nodes
        self._is_idle_served = False
        if head_bytes(len(nodes)) + BUNDLE_HEAD_BYTES + taken[0].size_bytes > room_bytes:
            self._open_pieces(lane, taken[0], now)
            return
        data = pack_bundles(lane.precedence, nodes, [each.chunks for each in taken])
        self._open_object(lane, data, taken, now)

    def _open_pieces(self, lane: Lane, waiting: Waiting, now: float) -> None:
        """Cut a large bundle into objects of like size."""
        bundle = b"".join(waiting.chunks)
        room_bytes = self._settings.object_bytes - head_bytes(len(waiting.nodes)) - PIECE_HEAD_BYTES
        room_bytes = max(room_bytes, -(-len(bundle) // PIECES_MAX))
        count = -(-len(bundle) // room_bytes)
        step = -(-len(bundle) // count)
        transfer_id = self._rng.randbytes(TRANSFER_ID_BYTES)
        for offset in range(0, len(bundle), step):
            piece = Piece(transfer_id, len(bundle), offset, bundle[offset : offset + step])
            self._open_object(lane, pack_piece(lane.precedence, waiting.nodes, piece), [waiting], now)

    def _open_object(self, lane: Lane, data: bytes, taken: Sequence[Waiting], now: float) -> None:
        symbol_bytes = fit_symbol(len(data), self._settings.symbol_bytes)
        self._numbers += 1
        expires_at = max(each.expires_at for each in taken)
        keys = [each.key for each in taken]
        object_id = self._rng.randbytes(OBJECT_ID_BYTES)
        item = OutgoingObject(
            self._numbers, object_id, data, symbol_bytes, lane.precedence, lane.scope, keys, expires_at
        )
        self._objects[object_id] = item
        self._open[lane.scope] += 1
        self._open_bytes[lane.scope] += len(data)
        for key in keys:
            self.bundles.open(key, item)
        for node in taken[0].nodes:
            self._add_receiver(item, node, now)
        losses = [self._loss_to(node) or 0.0 for node in taken[0].nodes]
        if item.source_symbols > 1 and max(losses) > LOSS_FREE and len(data) >= THREAD_BYTES:
            self._encode(item)

    def _add_receiver(self, item: OutgoingObject, node: int, now: float) -> None:
        receiver = item.add_receiver(node, is_blind=node in self.blind)
        if receiver.is_blind:
            receiver.begin_blind(self._settings.blind_overhead, self._settings.emcon_rtc)
        self._sweep_at = min(self._sweep_at, now + SWEEP_S)
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
            self._lane_of[item.precedence, item.scope].make_ready(item)

    # What receivers say.

    def take_report(self, node: int, echo: int, needs: Mapping[bytes, int]) -> None:
        """What this node needed when the datagram with the counter `echo` had arrived.

        An object that it does not mention, though all that was sent of it had its chance to arrive, is either unknown
        to it or long complete: one more symbol finds that out.
        """
        self._is_idle_served = False
        for item in self._objects.values():
            receiver = item.receivers.get(node)
            if receiver is None or not item.sent:
                continue
            need = needs.get(item.object_id)
            if need is None:
                if item.last_counter > echo:
                    continue
                need = 1
            receiver.need, receiver.counter = min(need, item.source_symbols), echo
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
        if item.receivers or self._objects.pop(item.object_id, None) is None:
            self._grant(item)
            return
        item.quota = 0
        self._open[item.scope] -= 1
        self._open_bytes[item.scope] -= len(item.data)

    # Links that come and go.

    def node_died(self, node: int) -> None:
        """Nothing more for this node for now. The owner is told that all failed; what is under way is kept."""
        self.bundles.orphan(node)
        self._grant_all()

    def node_revived(self) -> None:
        """A dead node is heard again."""
        self._grant_all()

    def set_blind(self, node: int, *, is_blind: bool) -> None:
        """A node falls silent, or is heard again."""
        (self.blind.add if is_blind else self.blind.discard)(node)
        for item in self._objects.values():
            receiver = item.receivers.get(node)
            if receiver is not None and receiver.is_blind is not is_blind:
                receiver.is_blind = is_blind
                if is_blind:
                    receiver.begin_blind(self._settings.blind_overhead, self._settings.emcon_rtc)
        self._grant_all()

    def _grant_all(self) -> None:
        self._is_idle_served = False
        for item in list(self._objects.values()):
            self._grant(item)

    # Time.

    def handle_timer(self, now: float) -> None:
        """Give up what expired, and begin further passes of what goes blind."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S if self.bundles else float("inf")
        for key, nodes in self.bundles.find_expired(now):
            for node in nodes:
                self._give_up(key, node, FailureReason.EXPIRED)
        for item in list(self._objects.values()):
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
