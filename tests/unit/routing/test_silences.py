# SPDX-License-Identifier: Apache-2.0
"""Silences heard of and planned, and what they leave of contacts."""

import math

import pytest

from meshd.bundle.eid import Eid
from meshd.routing.contact import Contact, ContactKind
from meshd.routing.silences import SPANS_MAX, Silences, Span

A, B = Eid("dtn://a/"), Eid("dtn://b/")


def contact(start_s: float, end_s: float, *, radiates: bool = True) -> Contact:
    return Contact(A, B, "los0", start_s, end_s, 1000, 0.1, radiates=radiates, kind=ContactKind.LIVE)


def spans(contacts: list[Contact]) -> list[Span]:
    return [(each.start_s, each.end_s) for each in contacts]


@pytest.mark.parametrize(
    ("silent", "left"),
    [
        ([], [(10, 50)]),
        ([(0, 10), (50, 60)], [(10, 50)]),
        ([(20, 30)], [(10, 20), (30, 50)]),
        ([(20, 30), (25, 35), (40, math.inf)], [(10, 20), (35, 40)]),
        ([(5, 15), (45, 60)], [(15, 45)]),
        ([(0, 100)], []),
        ([(30, 20)], [(10, 50)]),
    ],
)
def test_what_a_plan_leaves(silent: list[Span], left: list[Span]) -> None:
    silences = Silences()
    silences.plan(A, silent)
    assert spans(silences.left_of(contact(10, 50))) == left
    assert spans(silences.left_of(contact(10, 50, radiates=False))) == [(10, 50)]


def test_what_is_left_after_a_silence_is_planned_and_not_live() -> None:
    silences = Silences()
    silences.plan(A, [(20, 30)])
    assert [each.kind for each in silences.left_of(contact(10, 50))] == [ContactKind.LIVE, ContactKind.SCHEDULED]


def test_a_word_and_a_plan_both_count() -> None:
    silences = Silences()
    silences.begin(A, 20)
    silences.plan(A, [(30, 40)])
    assert spans(silences.left_of(contact(10, 50))) == [(20, 30), (40, 50)]
    assert [silences.is_silent(A, at) for at in (0, 19, 20, 29, 30, 40)] == [True, True, False, False, True, False]
    assert (silences.end_s(A, 5), silences.next_begin_s(A, 5), silences.next_begin_s(A, 30)) == (20, 30, math.inf)
    assert silences.end(A)
    assert not silences.end(A)
    assert (silences.end_s(A, 35), silences.end_s(A, 5)) == (40, math.inf)
    silences.begin(A, None)
    assert silences.left_of(contact(10, 50)) == []


def test_a_plan_is_news_once() -> None:
    silences = Silences()
    assert not silences.plan(A, [])
    assert silences.plan(A, [(1, 2)])
    assert not silences.plan(A, [(1, 2), (5, 5)])
    assert silences.plan(A, [])
    assert silences.plan(A, [(2.0 * each, 2.0 * each + 1) for each in range(SPANS_MAX + 10)])
    assert silences.next_begin_s(A, 2.0 * SPANS_MAX - 2) == math.inf, "the farthest ones are left out"
