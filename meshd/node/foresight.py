# SPDX-License-Identifier: Apache-2.0
"""The node's part in what history lets expect: it notes when links come and go, and tells the router and other nodes.

What is remembered is the router's (routing/history.py). Here it is fed with this node's links and with what others
advertise, kept over a restart as a note in the store, and what follows from it is handed out: predicted contacts to the
router, the next of them and the predictabilities to whoever gets this node's advertisements. Nothing here has a timer
of its own; an advertisement holds a few of each, so that what is guessed costs no more air than what is known.

A step of the clock moves the past to other hours: then it is forgotten, and so it is after a restart without a clock.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.link.link_table import Link
from meshd.node.forwarding import Forwarding
from meshd.node.state import NodeState
from meshd.routing.contact import Contact
from meshd.routing.history import History, HistoryUser

NOTE: Final = "history"
NOTE_MAX_BYTES: Final = 60 * 1024
SAVE_S: Final = 600.0
"""How often it is written, at most: a power failure costs so much of it."""
PREDICT_S: Final = 900.0
"""As time goes by, other contacts are expected."""
STEP_MAX_S: Final = 60.0
TOLD_CONTACTS_MAX: Final = 8
TOLD_LIKELY_MAX: Final = 16


class Foresight:
    """Owns which links were up at the last look, and when the note was written."""

    def __init__(self, state: NodeState, forwarding: Forwarding, now: float) -> None:
        self._state = state
        self._forwarding = forwarding
        self._up: dict[LinkId, Link] = {}
        self._expected: tuple[Contact, ...] = ()
        self._offset_ms: int | None = None
        self._save_at = now + SAVE_S
        self._predict_at = now
        self._is_news = False

    def recover(self, notes: dict[str, bytes], now: float) -> None:
        """What is remembered from before the restart."""
        user, note = self._user, notes.get(NOTE)
        if user is None or note is None or not self._state.has_clock:
            return
        self._offset_ms = self._state.utc_offset_ms
        if not user.history.restore(note):
            self._state.report("history.damaged", size_bytes=len(note))
        self._predict_at = now

    def look(self, now: float) -> None:
        """Links may have come or gone, and time has gone by."""
        user = self._user
        if user is None:
            return
        self._heed_clock(user)
        dtn_s = self._dtn_s(now)
        is_changed = self._note_links(user.history, dtn_s)
        if is_changed or now >= self._predict_at:
            self._predict_at = now + PREDICT_S
            expected = tuple(user.history.encounters.predicted(dtn_s))
            if expected != self._expected:
                self._expected = expected
                user.predict(expected)
        if now >= self._save_at and self._is_news and self._state.has_clock:
            self._save(user.history, now, dtn_s)

    def hear(self, node: Eid, likely: Sequence[tuple[Eid, float]], now: float) -> None:
        """Whom another node is likely to meet, as it says."""
        user = self._user
        if user is not None and likely:
            user.hear(node, dict(likely), self._dtn_s(now))
            self._is_news = True

    def contacts(self) -> list[Contact]:
        """The next contacts to expect, for others; hours in a row are one."""
        merged: list[Contact] = []
        for each in sorted(self._expected, key=lambda contact: (contact.receiver.uri, contact.bearer, contact.start_s)):
            last = merged[-1] if merged else None
            if last is not None and _continues(last, each):
                confidence, rate_bps = min(last.confidence, each.confidence), min(last.rate_bps, each.rate_bps)
                merged[-1] = structs.replace(last, end_s=each.end_s, confidence=confidence, rate_bps=rate_bps)
            else:
                merged.append(each)
        return sorted(merged, key=lambda contact: contact.start_s)[:TOLD_CONTACTS_MAX]

    def likely(self, now: float) -> list[tuple[Eid, float]]:
        """Whom this node is likely to meet, likeliest first."""
        user = self._user
        if user is None:
            return []
        table = user.history.table(self._dtn_s(now))
        return sorted(table.items(), key=lambda item: (-item[1], item[0].uri))[:TOLD_LIKELY_MAX]

    @property
    def _user(self) -> HistoryUser | None:
        router = self._forwarding.router
        return router if isinstance(router, HistoryUser) else None

    def _dtn_s(self, now: float) -> float:
        return self._state.dtn_ms(now) / 1000

    def _heed_clock(self, user: HistoryUser) -> None:
        offset_ms = self._state.utc_offset_ms
        if self._offset_ms is not None and abs(offset_ms - self._offset_ms) > STEP_MAX_S * 1000:
            user.history.forget()
            self._up.clear()
        self._offset_ms = offset_ms

    def _note_links(self, history: History, dtn_s: float) -> bool:
        """True when one has come or gone."""
        up = {link.id: link for link in self._state.links.links() if link.is_up}
        gone, come = self._up.keys() - up.keys(), up.keys() - self._up.keys()
        for link_id in sorted(gone, key=str):
            history.link_down(link_id, dtn_s)
        for link_id in sorted(come, key=str):
            link = up[link_id]
            rate_bps = max(1, round(link.metric.rate_bps))
            history.link_up(link_id, rate_bps, link.metric.owd_s, dtn_s, radiates=link.bearer.radiating)
        self._up = up
        self._is_news = self._is_news or bool(up or gone)
        return bool(gone or come)

    def _save(self, history: History, now: float, dtn_s: float) -> None:
        self._save_at, self._is_news = now + SAVE_S, False
        note = history.note(dtn_s)
        if len(note) <= NOTE_MAX_BYTES:
            self._state.keep_note(NOTE, note)


def _continues(last: Contact, each: Contact) -> bool:
    is_same = (last.receiver, last.bearer) == (each.receiver, each.bearer)
    return is_same and each.start_s <= last.end_s + 1.0
