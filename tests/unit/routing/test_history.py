# SPDX-License-Identifier: Apache-2.0
"""What a node remembers of its links: both tables fed together, and one note of them."""

import pytest

from meshd.bundle.eid import Eid
from meshd.link.identity import LinkId
from meshd.routing.history import History

A, B, C = (Eid(f"dtn://{name}/") for name in "abc")
LINK = LinkId("los0", B)
NOW = 800_000_000.0
HOUR_S = 3600.0


def met(times: int) -> History:
    """Met every two hours for ten minutes."""
    history = History(A)
    for number in range(times):
        begin_s = NOW + number * 2 * HOUR_S
        history.link_up(LINK, 64_000, 0.1, begin_s, radiates=True)
        history.link_down(LINK, begin_s + 600)
    return history


def test_an_encounter_makes_it_likely_and_three_let_expect_the_next() -> None:
    history, now_s = met(4), NOW + 6 * HOUR_S + 700
    assert history.predictabilities.of(B, now_s) > 0.5
    (first, *_) = history.encounters.predicted(now_s)
    assert (first.receiver, first.bearer, first.start_s, first.radiates) == (B, "los0", NOW + 8 * HOUR_S, True)
    assert History(A).encounters.predicted(now_s) == []


def test_it_outlives_a_restart() -> None:
    before, now_s = met(4), NOW + 6 * HOUR_S + 700
    after = History(A)
    assert after.restore(before.note(now_s))
    assert after.encounters.predicted(now_s) == before.encounters.predicted(now_s) != []
    assert after.table(now_s) == before.table(now_s) != {}


@pytest.mark.parametrize("note", [b"", b"\xff", b"\x93\x02\xc4\x00\xc4\x00", b"\x93\x01\xc4\x01\x01\xc4\x01\x90"])
def test_what_is_no_history_leaves_it_as_it_was(note: bytes) -> None:
    history = met(4)
    told = history.table(NOW + 7 * HOUR_S)
    assert not history.restore(note)
    assert history.table(NOW + 7 * HOUR_S) == told


def test_whom_a_node_is_with_is_likeliest_when_it_tells() -> None:
    history = History(A)
    history.link_up(LINK, 64_000, 0.1, NOW, radiates=False)
    history.predictabilities.learn(C, {}, NOW)
    after_days = NOW + 72 * HOUR_S
    assert history.table(after_days) == {B: 0.5}
    assert history.table(after_days + HOUR_S)[B] > 0.7
    history.link_down(LINK, after_days + HOUR_S)
    assert history.table(after_days + 100 * HOUR_S) == {}, "what was is forgotten"


def test_nothing_is_left_of_what_is_forgotten() -> None:
    history = met(4)
    history.forget()
    assert history.table(NOW) == {}
    assert not history.encounters
