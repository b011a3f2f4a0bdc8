# SPDX-License-Identifier: Apache-2.0
"""Encounters: when each link was up in the past, and the contacts that this lets one expect.

Two patterns are looked for. The day: in which hours a link tends to be up, and for how long of the hour. The interval:
how long after an encounter the next one begins. The day is believed once it has been seen on `DAYS_MIN` days, until
then the interval. A prediction is a contact of kind PREDICTED whose confidence is the share of days on which it came
true, or how regular the intervals are. Times are DTN time in seconds, so that the history outlives a restart; hours
are those of UTC.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from meshd.bundle.eid import Eid, parse_eid
from meshd.link.identity import LinkId
from meshd.routing.contact import Contact, ContactKind

HOUR_S: Final = 3600
DAY_HOURS: Final = 24
DAY_S: Final = HOUR_S * DAY_HOURS
LINKS_MAX: Final = 64
"""Links with a history; the one that was up longest ago goes first."""
DAY_KEPT: Final = 0.8
"""Weight of a day against the day after it: a week ago counts a fifth."""
DAYS_MIN: Final = 1.5
"""Weighted days of observation before the pattern of the day is believed: that of two whole days is 1.8."""
CONFIDENCE_MIN: Final = 0.1
CONFIDENCE_MAX: Final = 0.9
"""No history is as good as a plan."""
ENCOUNTERS_MIN: Final = 3
"""Before intervals are believed."""
ENCOUNTER_GAP_S: Final = 60.0
"""A link that is back so soon has not been away."""
REPETITIONS: Final = 3
"""Intervals that are looked ahead; each is less certain than the one before it."""
WEIGHT: Final = 0.25
"""Of the newest interval and length."""


class _Hour(msgspec.Struct, array_like=True):
    """An hour of the day: the weight of days on which the link was up in it, and the weighted seconds."""

    day: int = 0
    """Of the last change: days since the epoch of DTN time."""
    days: float = 0.0
    up_s: float = 0.0


class _History(msgspec.Struct, array_like=True):
    """What is kept of one link."""

    rate_bps: int
    owd_s: float
    radiates: bool
    since_s: float
    """Begin of the first encounter."""
    begin_s: float
    """Of the last encounter."""
    end_s: float
    """Of the last encounter; as far as it has been counted when it goes on."""
    is_up: bool = False
    encounters: int = 1
    length_s: float = 0.0
    interval_s: float = 0.0
    """From the end of one encounter to the begin of the next."""
    deviation_s: float = 0.0
    hours: list[_Hour] = msgspec.field(default_factory=lambda: [_Hour() for _ in range(DAY_HOURS)])


class _Note(msgspec.Struct, array_like=True):
    """One link in the store."""

    bearer: str
    neighbour: str
    history: _History


class Encounters:
    """The history of all links of one node."""

    def __init__(self, own_node: Eid) -> None:
        self._own_node = own_node
        self._histories: dict[LinkId, _History] = {}

    def __len__(self) -> int:
        return len(self._histories)

    def began(self, link: LinkId, rate_bps: int, owd_s: float, now_s: float, *, radiates: bool = False) -> None:
        """The link has come up."""
        history = self._histories.pop(link, None)
        if history is None:
            if len(self._histories) >= LINKS_MAX:
                del self._histories[next(iter(self._histories))]
            history = _History(rate_bps, owd_s, radiates, now_s, now_s, now_s)
        elif now_s - history.end_s >= ENCOUNTER_GAP_S:
            _next_encounter(history, now_s)
        self._histories[link] = history
        history.rate_bps, history.owd_s, history.radiates = rate_bps, owd_s, radiates
        history.is_up, history.end_s = True, now_s

    def ended(self, link: LinkId, now_s: float) -> None:
        """The link has gone down."""
        history = self._histories.get(link)
        if history is not None and history.is_up:
            _count(history, now_s)
            history.is_up = False

    def predicted(self, now_s: float, horizon_s: float = DAY_S) -> list[Contact]:
        """The contacts to expect on links that are down now, by link and by start."""
        contacts: list[Contact] = []
        for link, history in self._histories.items():
            if not history.is_up:
                spans = _by_day if _observed_days(history, now_s) >= DAYS_MIN else _by_interval
                contacts += (self._contact(link, history, *span) for span in spans(history, now_s, now_s + horizon_s))
        return contacts

    def encode(self, now_s: float) -> bytes:
        """For the store; an encounter that goes on is counted until now."""
        for history in self._histories.values():
            if history.is_up:
                _count(history, now_s)
        return msgspec.msgpack.encode(
            [_Note(link.bearer, link.neighbour.uri, history) for link, history in self._histories.items()]
        )

    def restore(self, data: bytes) -> None:
        """What `encode` gave before a restart, after which all links are down.

        Errors:
            msgspec.MsgspecError, EidError: it is something else.
        """
        for note in msgspec.msgpack.decode(data, type=list[_Note])[-LINKS_MAX:]:
            if len(note.history.hours) != DAY_HOURS:
                continue
            note.history.is_up = False
            self._histories[LinkId(note.bearer, parse_eid(note.neighbour))] = note.history

    def _contact(
        self, link: LinkId, history: _History, start_s: float, end_s: float, share: float, confidence: float
    ) -> Contact:
        """`share`: of the time for which the link will be up; it carries that much less."""
        return Contact(
            self._own_node,
            link.neighbour,
            link.bearer,
            start_s,
            end_s,
            max(1, round(history.rate_bps * share)),
            history.owd_s,
            confidence=confidence,
            radiates=history.radiates,
            kind=ContactKind.PREDICTED,
        )


_Span = tuple[float, float, float, float]
"""Begin, end, share of the time in which the link will be up, confidence."""


def _next_encounter(history: _History, now_s: float) -> None:
    """Learn from the one that is over and from the gap after it."""
    first = history.encounters == 1
    interval_s, length_s = now_s - history.end_s, history.end_s - history.begin_s
    error_s = abs(interval_s - history.interval_s)
    history.deviation_s += 0.0 if first else WEIGHT * (error_s - history.deviation_s)
    history.interval_s += (1.0 if first else WEIGHT) * (interval_s - history.interval_s)
    history.length_s += (1.0 if first else WEIGHT) * (length_s - history.length_s)
    history.encounters += 1
    history.begin_s = now_s


def _count(history: _History, now_s: float) -> None:
    """Note in which hours it was up since it was last counted; of a very long time only the last day."""
    at = max(history.end_s, now_s - DAY_S)
    while at < now_s:
        number = int(at // HOUR_S)
        end = min(now_s, (number + 1) * HOUR_S)
        hour = history.hours[number % DAY_HOURS]
        day = number // DAY_HOURS
        if day > hour.day or not hour.days:
            fade = DAY_KEPT ** (day - hour.day) if hour.days else 0.0
            hour.days, hour.up_s, hour.day = hour.days * fade + 1, hour.up_s * fade, day
        hour.up_s += end - at
        at = end
    history.end_s = max(history.end_s, now_s)


def _observed_days(history: _History, now_s: float) -> float:
    """The weighted days since it was first up."""
    days = max(0, int((now_s - history.since_s) // DAY_S))
    return (1 - DAY_KEPT**days) / (1 - DAY_KEPT)


def _by_day(history: _History, now_s: float, until_s: float) -> Iterator[_Span]:
    """For each hour to come what it was like on the days before."""
    observed = _observed_days(history, now_s)
    number = int(now_s // HOUR_S)
    while number * HOUR_S < until_s:
        hour = history.hours[number % DAY_HOURS]
        days = hour.days * DAY_KEPT ** max(0, number // DAY_HOURS - 1 - hour.day)
        confidence = min(CONFIDENCE_MAX, days / observed)
        if confidence >= CONFIDENCE_MIN:
            share = min(1.0, hour.up_s / hour.days / HOUR_S)
            yield max(now_s, number * HOUR_S), min(until_s, (number + 1) * HOUR_S), share, confidence
        number += 1


def _by_interval(history: _History, now_s: float, until_s: float) -> Iterator[_Span]:
    """The next few encounters, if they follow each other at regular intervals; late ones are expected at once."""
    if history.encounters < ENCOUNTERS_MIN or history.interval_s <= 0 or history.length_s <= 0:
        return
    regularity = CONFIDENCE_MAX * history.interval_s / (history.interval_s + 2 * history.deviation_s)
    confidence = regularity
    start_s = max(now_s, history.end_s + history.interval_s)
    for _ in range(REPETITIONS):
        if start_s >= until_s or confidence < CONFIDENCE_MIN:
            return
        yield start_s, start_s + history.length_s, 1.0, confidence
        start_s += history.length_s + history.interval_s
        confidence *= regularity
