# SPDX-License-Identifier: Apache-2.0
"""The replay window: every counter once, in any order, over starts of the sender and of the receiver."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.errors import SettingsError
from meshd.bundle.eid import parse_eid
from meshd.security.replay_window import (
    COUNTER_MAX,
    NO_MARK,
    WINDOW_COUNTERS,
    Mark,
    Novelty,
    ReplayWindow,
    pack_marks,
    parse_marks_untrusted,
)

AHEAD = 100


def take_all(window: ReplayWindow, boot: int, counters: list[int]) -> list[int]:
    """Those that were new."""
    taken = []
    for counter in counters:
        if window.judge(boot, counter) is Novelty.NEW:
            window.take(boot, counter)
            taken.append(counter)
    return taken


@given(st.lists(st.one_of(st.integers(1, 50), st.integers(1, 3 * WINDOW_COUNTERS)), max_size=200))
def test_each_counter_is_taken_once_and_only_what_is_far_behind_is_missed(counters: list[int]) -> None:
    window = ReplayWindow(NO_MARK, AHEAD)
    expected, seen, highest = [], set(), 0
    for counter in counters:
        if counter not in seen and highest - counter < WINDOW_COUNTERS:
            seen.add(counter)
            expected.append(counter)
            highest = max(highest, counter)
    assert take_all(window, 1, counters) == expected


def test_the_edge_of_the_window() -> None:
    window = ReplayWindow(NO_MARK, AHEAD)
    window.take(1, WINDOW_COUNTERS + 1)
    assert window.judge(1, 2) is Novelty.NEW
    assert window.judge(1, 1) is Novelty.TOO_OLD
    assert window.judge(1, WINDOW_COUNTERS + 1) is Novelty.REPLAYED


def test_a_new_start_of_the_sender_begins_anew_and_an_earlier_one_is_over() -> None:
    window = ReplayWindow(NO_MARK, AHEAD)
    assert take_all(window, 5, [7, 8]) == [7, 8]
    assert take_all(window, 6, [1, 7, 8]) == [1, 7, 8]
    assert window.judge(5, 9) is Novelty.TOO_OLD
    assert window.spent == Mark(6, 8)


def test_judging_changes_nothing() -> None:
    window = ReplayWindow(Mark(5, 5), AHEAD)
    assert window.judge(9, 1) is Novelty.NEW
    assert window.spent == window.wanted == Mark(5, 5)


def test_what_lies_beyond_the_durable_mark_waits_for_it() -> None:
    window = ReplayWindow(NO_MARK, AHEAD)
    assert not window.take(5, 1)
    assert window.wanted == Mark(5, 1 + AHEAD)
    assert not window.is_durable(5, 1)
    window.saved(window.wanted)
    assert window.is_durable(5, 1)
    assert window.take(5, 50)
    assert window.wanted == Mark(5, 1 + AHEAD)
    assert window.take(5, 52)  # still inside, but the next mark is asked for in time
    assert window.wanted == Mark(5, 52 + AHEAD)
    assert not window.take(5, 102)
    window.saved(Mark(5, 10))  # a late word about an earlier mark
    assert window.is_durable(5, 101)


@pytest.mark.parametrize("is_saved", [True, False])
def test_after_a_kill_nothing_that_was_taken_is_taken_again(is_saved: bool) -> None:
    """Killed at any moment: what is durable covers all that was handed on."""
    disk = NO_MARK
    window = ReplayWindow(disk, AHEAD)
    handed: list[int] = []
    for counter in range(1, 300):
        if window.take(5, counter):
            handed.append(counter)
        if window.wanted != disk and (is_saved or counter < 20):
            disk = window.wanted
            window.saved(disk)
    again = ReplayWindow(disk, AHEAD)
    assert handed
    assert all(again.judge(5, counter) is not Novelty.NEW for counter in handed)
    assert again.judge(5, disk.counter + 1) is Novelty.NEW
    assert disk.counter - max(handed) <= AHEAD, "a kill costs at most so many"


def test_an_orderly_end_costs_nothing() -> None:
    window = ReplayWindow(NO_MARK, AHEAD)
    window.take(5, 17)
    assert ReplayWindow(window.spent, AHEAD).judge(5, 18) is Novelty.NEW
    assert ReplayWindow(window.spent, AHEAD).judge(5, 17) is not Novelty.NEW


def test_the_mark_does_not_pass_the_last_counter() -> None:
    window = ReplayWindow(NO_MARK, AHEAD)
    window.take(5, COUNTER_MAX)
    assert window.wanted == Mark(5, COUNTER_MAX)
    window.saved(window.wanted)
    assert window.is_durable(5, COUNTER_MAX)


def test_marks_survive_their_file() -> None:
    marks = {parse_eid("dtn://dpop1/"): Mark(1, 0), parse_eid("ipn:3.0"): Mark((1 << 32) - 1, COUNTER_MAX)}
    assert parse_marks_untrusted(pack_marks(marks), "marks") == marks
    assert parse_marks_untrusted(pack_marks({}), "marks") == {}


@pytest.mark.parametrize("cut", range(1, 50))
def test_a_file_of_marks_that_was_cut_off_is_refused(cut: int) -> None:
    data = pack_marks({parse_eid("dtn://dpop1/"): Mark(1_800_000_000, 10**6)})
    with pytest.raises(SettingsError, match="roll the link key"):
        parse_marks_untrusted(data[:-cut], "marks")


@pytest.mark.parametrize(
    "line", [b"dtn://a/ 1", b"dtn://a/ 1 281474976710656", b"dtn://a/ 4294967296 1", b"dtn://a/ -1 1", b"a 1 1", b""]
)
def test_a_damaged_mark_is_refused(line: bytes) -> None:
    with pytest.raises(SettingsError, match="marks:2"):
        parse_marks_untrusted(b"meshd-link-marks 1\n" + line + b"\nend\n", "marks")
