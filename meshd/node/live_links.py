# SPDX-License-Identifier: Apache-2.0
"""Live bundles (those with a supersession block) on each link: what is late or too much for it is not sent.

A bundle that can't arrive before its lifetime ends would only hold up the next one, and whole tiers are left out of a
link that is too short for all of them (`meshd/link/thinning.py`), measured by what leaves while some had to be dropped
or waited for long. Both are looked at when the link takes a bundle from its queue; and a link that keeps the order in
which it was handed bundles is handed few at a time. Other bundles pass untouched, and those of a higher precedence
before.
"""

from typing import Final

from meshd.bundle.record import BundleRecord
from meshd.link.identity import LinkId
from meshd.link.thinning import Level, LinkThinning
from meshd.node.state import NodeState

WINDOW_S: Final = 0.5
"""Over which a link's live goodput is measured."""
LONG_WAIT: Final = 0.5
"""A link is full when bundles wait for this share of their lifetime;"""
LONG_WAIT_MAX_S: Final = 0.5
"""or this long, if that is less."""
AHEAD_S: Final = 0.25
"""So much more than what is on its way anyhow is handed to a link that sends in the order in which it was told to;"""
AHEAD_MIN_BYTES: Final = 32 * 1024
"""and no less than this."""
LATE: Final = "it would arrive too late"
THINNED: Final = "the link is too slow for its tier"


class _LiveLink:
    """One link that live bundles go over."""

    def __init__(self, now: float) -> None:
        self.thinning = LinkThinning()
        self.began = self.asked_at = now
        self.sent_bytes = 0
        self.is_full = False


class LiveLinks:
    """Of all links."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._links: dict[LinkId, _LiveLink] = {}

    def why_not(self, link_id: LinkId, record: BundleRecord, tier: int, now: float) -> str:
        """Asked when the link takes a live bundle: why it is not sent there; empty: it is."""
        live = self._links.get(link_id)
        if live is None:
            live = self._links[link_id] = _LiveLink(now)
        live.asked_at = now
        self._measure(link_id, live, now)
        live.thinning.rates.count(tier, record.size_bytes, now)
        if not live.thinning.admits(tier):
            return THINNED
        left_s = self._state.monotonic(record.expiry_ms) - now
        waited_s = (self._state.dtn_ms(now) - record.received_ms) / 1000
        if self._seconds(link_id, record) > left_s:
            live.is_full = True
            return LATE
        live.is_full = live.is_full or waited_s > min(LONG_WAIT * (left_s + waited_s), LONG_WAIT_MAX_S)
        live.sent_bytes += record.size_bytes
        return ""

    def is_full(self, link_id: LinkId, in_flight_bytes: int) -> bool:
        """Asked before: whether it waits here, since it would wait in the link, where newer ones can't overtake it."""
        links = self._state.links
        metric = links.metric(link_id) if links.keeps_order(link_id) else None
        if metric is None:
            return False
        return in_flight_bytes > max(metric.rate_bps / 8 * (2 * metric.owd_s + AHEAD_S), AHEAD_MIN_BYTES)

    def note_unsent(self, link_id: LinkId, record: BundleRecord, tier: int) -> None:
        """It was given up while it waited for the link."""
        live = self._links.get(link_id)
        if live is not None:
            live.is_full = True
            live.thinning.rates.count(tier, record.size_bytes, live.asked_at)

    def note_late(self, link_id: LinkId, record: BundleRecord) -> None:
        """The link had taken it, but has found that it would arrive too late."""
        live = self._links.get(link_id)
        if live is not None:
            live.is_full = True
            live.sent_bytes -= record.size_bytes

    def level(self, link_id: LinkId) -> Level | None:
        """What is given to a link; None: no live bundle has gone there."""
        live = self._links.get(link_id)
        return None if live is None else live.thinning.level

    def forget(self, link_id: LinkId) -> None:
        """The link is down: what it carries when it returns is another matter."""
        self._links.pop(link_id, None)

    def _seconds(self, link_id: LinkId, record: BundleRecord) -> float:
        metric = self._state.links.metric(link_id)
        if metric is None:
            return 0.0
        # What is not known for sure is no reason to give a bundle up.
        owd_s = max(metric.owd_s - 2 * metric.owd_sigma_s, 0.0) if metric.is_owd_measured else 0.0
        return record.size_bytes * 8 / metric.rate_bps + owd_s

    def _measure(self, link_id: LinkId, live: _LiveLink, now: float) -> None:
        passed_s = now - live.began
        if passed_s < WINDOW_S:
            return
        before = live.thinning.level
        level = live.thinning.measure(max(live.sent_bytes, 0) * 8 / passed_s, live.is_full, now)
        live.began, live.sent_bytes, live.is_full = now, 0, False
        if level is not before:
            self._state.report("stream.thinned", link=str(link_id), level=level.name.lower())
