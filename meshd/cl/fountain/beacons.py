# SPDX-License-Identifier: Apache-2.0
"""When a node says that it is there, and what it says with that (DESIGN section 6).

BEACON with HEARD, 1, 2, 4 ... 60 s apart; at once when a node comes up, starts anew or does not hear us, yet no more
often than a token bucket allows, whatever a member that means ill makes us think. On a multicast bearer one datagram
is for all; where each node is told alone, the last pause grows with their number. Idle, that is one frame a minute of
86 bytes with one neighbour and 148 with HEARD_MAX, over IPv4 and Ethernet.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Final

from meshd.base.token_bucket import TokenBucket
from meshd.bundle.precedence import Precedence
from meshd.cl.fountain.frames import HEARD_MAX, OBJECT_MAX_BYTES, VERSION, Beacon, Frame, Heard, Silent
from meshd.cl.fountain.peer import Peer

BEACON_FIRST_S: Final = 1.0
BEACON_LAST_S: Final = 60.0
"""From one BEACON to the next, where it is the same for all;"""
BEACON_EACH_S: Final = 30.0
"""and where each node is told alone, no less than this for each of them: two frames a minute."""
PAUSE_MAX_S: Final = 3600.0
JITTER: Final = 0.1
"""Pauses are longer or shorter by up to so much: nodes that began together do not stay together."""
ANSWERS_MAX: Final = 8
ANSWERS_PER_S: Final = 0.1
"""Beacons out of turn: so many at once, and so many a second after that."""
ANSWER_AIR_BYTES: Final = 200
"""Nodes that answer the same beacon each choose one of as many turns as there are nodes, each of so much air."""

_BEACON: Final = Beacon(VERSION, 0, int(Precedence.OVERRIDE), OBJECT_MAX_BYTES)


class Beacons:
    """Of one machine."""

    def __init__(
        self, peers: Mapping[int, Peer], rng: random.Random, now: float, rate_bps: int, *, is_multicast: bool
    ) -> None:
        """`peers` is the machine's table, as it changes."""
        self._peers = peers
        self._rng = rng
        self._is_multicast = is_multicast
        self._turn_s = ANSWER_AIR_BYTES * 8 / rate_bps
        self._answers = TokenBucket(ANSWERS_PER_S, ANSWERS_MAX, now)
        self._pause_s = BEACON_FIRST_S / 2
        self._announcement: Silent | None = None
        self._said: Silent | None = None
        self._left: list[Peer | None] = []
        """Whom it was not told yet; None: all at once."""
        self._named = 0
        self.at = now
        """When the next one is due."""

    @property
    def is_announcing(self) -> bool:
        """Something that was to be told out of turn has not left to all yet."""
        return self._announcement is not None or (self._said is not None and bool(self._left))

    def announce(self, frame: Silent) -> None:
        """Tell all, with the next datagram."""
        self._announcement = frame

    def answer(self, now: float) -> None:
        """A node has to hear of us: at once, if that was not so often of late."""
        if not self._answers.take(now):
            return
        others = sum(peer.is_heard(now) for peer in self._peers.values()) - 1 if self._is_multicast else 0
        self.at = min(self.at, now + self._rng.uniform(0, max(others, 0) * self._turn_s))
        self._pause_s = max(self._pause_s, BEACON_LAST_S / 2)

    def next(self, now: float) -> tuple[Sequence[Frame], Peer | None] | None:
        """What is to be said now, and to whom; None: nothing."""
        if self._announcement is not None:
            self._said, self._announcement = self._announcement, None
            self._left = self._all()
        elif self.at <= now:
            self._said = None
            self._left = self._all()
            self._pause_s = min(2 * self._pause_s, self._last_s)
            self.at = now + self._pause_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
        while self._left:
            peer = self._left.pop()
            if peer is None or peer.settings.index in self._peers:
                return [_BEACON, self._heard(peer, now)] if self._said is None else [self._said], peer
        return None

    @property
    def _last_s(self) -> float:
        each_s = 0.0 if self._is_multicast else BEACON_EACH_S * len(self._peers)
        return min(max(BEACON_LAST_S, each_s), PAUSE_MAX_S)

    def _all(self) -> list[Peer | None]:
        return [None] if self._is_multicast else list(self._peers.values())

    def _heard(self, to: Peer | None, now: float) -> Heard:
        """One node is told of itself, all of all; those that have no room come with a later beacon."""
        among = self._peers.values() if to is None else (to,)
        nodes = sorted(peer.settings.index for peer in among if peer.is_heard(now))
        is_whole = len(nodes) <= HEARD_MAX
        if not is_whole:
            first = self._named % len(nodes)
            self._named = first + HEARD_MAX
            nodes = (nodes[first:] + nodes[:first])[:HEARD_MAX]
        next_s = min(2 * self._pause_s, self._last_s) * (1 + JITTER)
        return Heard(math.ceil(next_s), is_whole, tuple(nodes))
