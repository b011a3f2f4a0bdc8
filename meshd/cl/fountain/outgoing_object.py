# SPDX-License-Identifier: Apache-2.0
"""One object on its way: its symbols, and what each of its receivers is known to need.

The rule of all sending: a receiver said with its report that it needs n more symbols, and the report names the highest
counter that had arrived by then. Symbols that left after that counter are in flight. What has to be sent is what makes
n of those in flight and the new ones arrive (`repair.py`). So the estimate is never older than a round trip, loss of
whatever pattern corrects itself, and there is no book-keeping of single symbols.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from meshd.bundle.precedence import Precedence
from meshd.cl.fountain.fountain_code import RepairSource, count_symbols, source_symbol
from meshd.cl.fountain.frames import ESI_MAX, Group
from meshd.cl.fountain.object_format import read_digest
from meshd.cl.fountain.repair import CERTAIN, IDLE, LIKELY, SURE, symbols_to_send

REMAINDER_SHARE: Final = 64
"""What is left of an object is small below this part of it."""
REPAIR_STEP_MIN: Final = 8

LaneKey = tuple[int, int, bool]
"""Precedence, destination, and whether its bundles are live."""
BundleKey = tuple[int, Hashable, int]
"""Destination, the owner's name, and -1, or a node that needs again what others have."""


class Receiver:
    """What one receiver is known to need."""

    __slots__ = ("blind_left", "counter", "is_blind", "need", "next_pass_at", "passes_left")

    def __init__(self, need: int, counter: int, *, is_blind: bool) -> None:
        self.need = need
        self.counter = counter
        """The need was true when this had arrived."""
        self.is_blind = is_blind
        self.blind_left = 0
        """Symbols of the blind pass under way."""
        self.passes_left = 0
        self.next_pass_at = float("inf")

    def begin_blind(self, overhead: float, repeats: int) -> None:
        """The first pass, for what it is known to need, and so many more to come."""
        self.passes_left = repeats + 1
        self.next_pass(overhead)

    def next_pass(self, overhead: float) -> None:
        """One more pass, with fresh symbols."""
        self.passes_left -= 1
        self.next_pass_at = float("inf")
        self.blind_left = math.ceil(self.need * (1 + overhead))


class OutgoingObject:
    """One object and its receivers."""

    def __init__(
        self,
        number: int,
        object_id: bytes,
        data: bytes,
        symbol_bytes: int,
        precedence: int,
        scope: int,
        bundles: Sequence[BundleKey],
        expires_at: float,
        tiers: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self.number = number
        """In the order of opening."""
        self.object_id = object_id
        self.data = data
        self.digest = read_digest(data)
        self.symbol_bytes = symbol_bytes
        self.source_symbols = count_symbols(len(data), symbol_bytes)
        self.precedence = precedence
        self.scope = scope
        """The destination, as lanes name it."""
        self.bundles = bundles
        self.expires_at = expires_at
        self.tier, self.tier_last = tiers
        """The lowest and the highest of its bundles, which are live."""
        self.stops_at = float("inf") if self.tier is None else expires_at
        """From then on nothing of it is in time."""
        self.is_urgent = precedence >= Precedence.FLASH
        self.receivers: dict[int, Receiver] = {}
        """Those that have not acknowledged it."""
        self.group: Group | None = None
        """Whom it is for, once somebody joined whom its head does not name; its symbols carry the number."""
        self.group_told_at = float("-inf")
        self.quota = 0
        """Symbols that it may send before something new is known."""
        self.is_ready = False
        """In the heap of its lane."""
        self.is_encoding = False
        """A thread makes repair symbols of it."""
        self.repair_source: RepairSource | None = None
        self.repairs: Sequence[bytes] = ()
        self.sent_at = float("-inf")
        """When its last symbol left."""
        self._next_esi = 0
        self._counters: list[int] = []
        """Of the datagrams that carried its symbols."""

    @property
    def sent(self) -> int:
        """Symbols sent so far."""
        return len(self._counters)

    @property
    def last_counter(self) -> int:
        """Of the last datagram that carried a symbol of it."""
        return self._counters[-1] if self._counters else -1

    @property
    def lane_key(self) -> LaneKey:
        """Of its lane."""
        return self.precedence, self.scope, self.tier is not None

    def add_receiver(self, node: int, *, is_blind: bool) -> Receiver:
        """Someone who has nothing of it: at the beginning, or joining late."""
        receiver = Receiver(self.source_symbols, self.last_counter, is_blind=is_blind)
        self.receivers[node] = receiver
        return receiver

    def set_group(self, group: Group) -> None:
        """It is for these now, which is to be told with its symbols."""
        self.group, self.group_told_at = group, float("-inf")

    def in_flight(self, counter: int) -> int:
        """Symbols sent after this counter."""
        return len(self._counters) - bisect_right(self._counters, counter)

    def set_quota(
        self,
        loss_to: Callable[[int], float | None],
        *,
        is_idle: bool,
        live_failure: Callable[["OutgoingObject", int, int, int], float | None],
    ) -> None:
        """Work out what may be sent now; `loss_to` a node is None while it is dead. Of a live object `live_failure`
        says, of a node, its need and what is in flight, the chance of failing that may be left; None: send no more.
        """
        quota = 0
        for node, receiver in self.receivers.items():
            if receiver.is_blind:
                quota = max(quota, receiver.blind_left)
                continue
            loss = loss_to(node)
            if loss is not None and receiver.need:
                need = receiver.need
                is_live = self.tier is not None and not self.is_urgent
                in_flight = self.in_flight(receiver.counter)
                failure = live_failure(self, node, need, in_flight) if is_live else self._failure(need, is_idle=is_idle)
                if failure is not None:
                    quota = max(quota, symbols_to_send(need, loss, failure) - in_flight)
        self.quota = quota

    def _failure(self, need: int, *, is_idle: bool) -> float:
        if self.is_urgent:
            return CERTAIN
        if is_idle:
            return IDLE
        is_remainder = need < self.source_symbols and need <= self.source_symbols // REMAINDER_SHARE + 2
        return SURE if is_remainder else LIKELY

    # Symbols.

    @property
    def may_send(self) -> bool:
        """True when it has something to send, and need not wait for a thread."""
        return self.quota > 0 and (self.is_symbol_there or not self.is_encoding)

    @property
    def is_symbol_there(self) -> bool:
        """False while repair symbols have to be made first."""
        made = self.source_symbols + len(self.repairs)
        return self.source_symbols == 1 or self._next_esi < made

    def missing_repairs(self) -> int:
        """How many repair symbols there should be, so that they need not be made again soon."""
        used = self._next_esi - self.source_symbols
        return max(REPAIR_STEP_MIN, self.source_symbols // 16, self.quota + used, 2 * used)

    def take_symbol(self, counter: int) -> tuple[int, bytes]:
        """The next symbol and its ESI; it leaves with this counter."""
        esi = self._next_esi
        self._next_esi = min(esi + 1, ESI_MAX)
        self._counters.append(counter)
        self.quota -= 1
        for receiver in self.receivers.values():
            if receiver.blind_left:
                receiver.blind_left -= 1
        if self.source_symbols == 1:
            return esi, self.data
        if esi < self.source_symbols:
            return esi, source_symbol(self.data, self.symbol_bytes, esi)
        return esi, self.repairs[esi - self.source_symbols]
