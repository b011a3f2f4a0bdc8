# SPDX-License-Identifier: Apache-2.0
"""The rate of a bearer that finds it (`rate = "auto"`): from its nodes' meters, by the finder, to pacer and sizes.

Sizes of datagrams and objects and the credit for bundles follow the rate that was found, in steps: they need not follow
every probe. Who sends little finds little, and yet the others hang on what it reports: reports and acknowledgements
may take a share of the floor, or of what comes in, if that is more than their share of the rate that was found.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from meshd.cl.fountain.pacing import Pacer
from meshd.cl.fountain.peer import Peer
from meshd.cl.fountain.rate_finder import RateFinder
from meshd.cl.fountain.sender import Sender
from meshd.cl.fountain.settings import FountainSettings

STEP: Final = 1.25
"""The sizes follow a rate that has changed by this factor."""
FEEDBACK_OF_FLOOR: Final = 0.25
FEEDBACK_OF_INCOMING: Final = 0.01
"""Half of what TCP takes."""
INCOMING_S: Final = 0.5
"""What comes in is counted over so long."""


class AutomaticRate:
    """Of one bearer."""

    def __init__(self, settings: FountainSettings, rate_max_bps: int, pacer: Pacer, sender: Sender) -> None:
        """`settings` have the floor for a rate."""
        self._floor = settings
        self._settings = settings
        self._pacer = pacer
        self._sender = sender
        self._finder = RateFinder(settings.rate_bps, rate_max_bps)
        self._pace_bps = float(settings.rate_bps)
        self._rests = 0
        self._incoming_bytes = 0
        self._counted_at = float("-inf")

    @property
    def rate_bps(self) -> float:
        """What was found."""
        return self._finder.found_bps

    def note_sent(self, heard_by: Iterable[Peer], counter: int, plaintext_bytes: int, now: float) -> None:
        """A datagram leaves, and is paid for."""
        for each in heard_by:
            if each.delivery is not None:
                each.delivery.note_sent(counter, now, plaintext_bytes, self._pacer.sent_bytes, self._rests)

    def note_rest(self) -> None:
        """There was nothing to send."""
        self._rests += 1

    def update(self, peers: Iterable[Peer], now: float) -> FountainSettings:
        """Set the pace and the sizes; the settings that hold for this rate."""
        peers = list(peers)
        live = [each for each in peers if each.is_reachable]
        meters = [each.delivery for each in live if each.is_expecting and each.delivery is not None]
        pace_bps = self._finder.pace_bps(meters, now, is_anybody_live=bool(live))
        if pace_bps != self._pace_bps:
            self._pace_bps = pace_bps
            self._pacer.set_rate(pace_bps, now)
        found_bps = self._finder.found_bps if live else self._floor.rate_bps
        if now >= self._counted_at + INCOMING_S:
            self._count_incoming(peers, now)
        if not self._settings.rate_bps / STEP < found_bps < self._settings.rate_bps * STEP:
            self._settings = replace(self._settings, rate_bps=int(found_bps))
            self._sender.adopt(self._settings)
        return self._settings

    def _count_incoming(self, peers: Iterable[Peer], now: float) -> None:
        before_bytes, self._incoming_bytes = self._incoming_bytes, sum(each.received_bytes for each in peers)
        incoming_bps = max(self._incoming_bytes - before_bytes, 0) * 8 / (now - self._counted_at)
        self._counted_at = now
        feedback_bps = max(incoming_bps * FEEDBACK_OF_INCOMING, self._floor.rate_bps * FEEDBACK_OF_FLOOR)
        rate_bps = self._settings.rate_bps
        share = max(self._floor.feedback_share, feedback_bps / rate_bps)
        self._settings = replace(self._settings, feedback_share=share)


def make_automatic(settings: FountainSettings, pacer: Pacer, sender: Sender) -> AutomaticRate | None:
    """None: the rate is configured."""
    return None if settings.rate_max_bps is None else AutomaticRate(settings, settings.rate_max_bps, pacer, sender)


def adopt_rate(settings: FountainSettings, rate_bps: int, pacer: Pacer, sender: Sender, now: float) -> FountainSettings:
    """Somebody knows the rate: pace and sizes for it, and the settings that hold then."""
    pacer.set_rate(rate_bps, now)
    known = replace(settings, rate_bps=rate_bps)
    sender.adopt(known)
    return known
