# SPDX-License-Identifier: Apache-2.0
"""Contacts that history lets one expect: the pattern of the day, the interval, and a restart."""

import random

import msgspec
import pytest

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.routing import encounters
from meshd.routing.contact import Contact, ContactKind
from meshd.routing.encounters import CONFIDENCE_MAX, DAY_S, HOUR_S, Encounters

A, B = Eid("dtn://a/"), Eid("dtn://b/")
LINK = LinkId("los0", B)
DAY_0 = 9_000 * DAY_S


def _meet(history: Encounters, start_s: float, length_s: float, link: LinkId = LINK) -> None:
    history.began(link, 64_000, 0.01, start_s, radiates=True)
    history.ended(link, start_s + length_s)


def _daily(days: int, *, skip: frozenset[int] = frozenset()) -> Encounters:
    """Half an hour at 08:00 and an hour at 17:00."""
    history = Encounters(A)
    for day in range(days):
        if day not in skip:
            _meet(history, DAY_0 + day * DAY_S + 8 * HOUR_S, 1800)
            _meet(history, DAY_0 + day * DAY_S + 17 * HOUR_S, 3600)
    return history


def test_what_happened_each_day_is_expected_tomorrow() -> None:
    now = DAY_0 + 5 * DAY_S
    morning, evening = _daily(5).predicted(now)
    assert morning == Contact(
        A,
        B,
        "los0",
        now + 8 * HOUR_S,
        now + 9 * HOUR_S,
        32_000,
        0.01,
        confidence=CONFIDENCE_MAX,
        radiates=True,
        kind=ContactKind.PREDICTED,
    ), "half of the hour counts as half of the rate"
    assert (evening.start_s, evening.rate_bps) == (now + 17 * HOUR_S, 64_000)


def test_days_on_which_it_failed_lower_the_confidence() -> None:
    now = DAY_0 + 6 * DAY_S
    often = _daily(6, skip=frozenset({4})).predicted(now)
    seldom = _daily(6, skip=frozenset({2, 3, 4, 5})).predicted(now)
    assert seldom[0].confidence < 0.5 < often[0].confidence < CONFIDENCE_MAX
    assert _daily(3).predicted(DAY_0 + 40 * DAY_S) == [], "what has not been for weeks is not expected"


def test_an_encounter_over_midnight_counts_in_both_hours() -> None:
    history = Encounters(A)
    for day in range(4):
        _meet(history, DAY_0 + day * DAY_S + 23.5 * HOUR_S, HOUR_S)
    now = DAY_0 + 4 * DAY_S + 12 * HOUR_S
    assert [(contact.start_s, contact.rate_bps) for contact in history.predicted(now)] == [
        (now + 11 * HOUR_S, 32_000),
        (now + 12 * HOUR_S, 32_000),
    ]


def test_regular_intervals_are_expected_before_a_day_is_known() -> None:
    history = Encounters(A)
    for number in range(4):
        _meet(history, DAY_0 + number * 3000, 600)
    end_s = DAY_0 + 3 * 3000 + 600
    contacts = history.predicted(end_s)
    assert [contact.start_s for contact in contacts] == [end_s + 2400, end_s + 5400, end_s + 8400]
    assert {contact.end_s - contact.start_s for contact in contacts} == {600.0}
    assert [contact.confidence for contact in contacts] == pytest.approx([0.9, 0.81, 0.729])
    assert history.predicted(end_s + 5000)[0].start_s == end_s + 5000, "who is late is expected at once"


def test_irregular_intervals_are_worth_less_and_two_encounters_nothing() -> None:
    rng = random.Random(1)
    history, at = Encounters(A), float(DAY_0)
    for number in range(8):
        _meet(history, at, 300)
        if number < 2:
            assert history.predicted(at + 300) == []
        at += 300 + rng.expovariate(1 / 3000)
    assert all(contact.confidence < 0.6 for contact in history.predicted(at))


def test_a_link_that_flaps_is_one_encounter() -> None:
    history = Encounters(A)
    for number in range(50):
        _meet(history, DAY_0 + number * 20, 10)
    assert history.predicted(DAY_0 + 1000) == []


def test_a_link_that_is_up_is_not_predicted() -> None:
    history = _daily(5)
    history.began(LINK, 64_000, 0.01, DAY_0 + 5 * DAY_S)
    assert history.predicted(DAY_0 + 5 * DAY_S) == []


def test_it_is_the_same_after_a_restart_in_the_middle_of_an_encounter() -> None:
    now = DAY_0 + 5 * DAY_S
    history = _daily(5)
    history.began(LINK, 64_000, 0.01, now + 100)
    again = Encounters(A)
    again.restore(history.encode(now + 200))
    history.ended(LINK, now + 200)
    assert again.predicted(now + 300) == history.predicted(now + 300) != []
    with pytest.raises(msgspec.MsgspecError):
        again.restore(b"\x01")


def test_histories_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encounters, "LINKS_MAX", 4)
    history = Encounters(A)
    for number in range(9):
        _meet(history, DAY_0 + number, 1, LinkId("los0", Eid(f"dtn://n{number}/")))
    assert len(history) == 4
    assert len(history.encode(DAY_0)) < 4 * 1000
