# SPDX-License-Identifier: Apache-2.0
"""What a live piece supersedes."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.supersession import CLOCK_MARGIN_MS, time_of_use_ms
from meshd.stream.deadline import live_lifetime_ms, period_ms, supersession
from tests.unit.stream.test_piece import GOOD


@given(st.integers(0, 1 << 40), st.integers(0, 20_000), st.integers(0, 60_000))
def test_supersession_never_drops_what_may_be_in_time(ingest_ms: int, later_ms: int, latency_ms: int) -> None:
    older = supersession(msgspec.structs.replace(GOOD, ingest_ms=ingest_ms), latency_ms)
    newer = supersession(msgspec.structs.replace(GOOD, ingest_ms=ingest_ms + later_ms), latency_ms)
    lifetime_ms = period_ms(latency_ms)
    if newer.key == older.key and newer.sequence > older.sequence:
        assert later_ms >= lifetime_ms
    # What comes two periods later, or three at most, drops it.
    drops = [
        supersession(msgspec.structs.replace(GOOD, ingest_ms=ingest_ms + n * lifetime_ms), latency_ms) for n in (1, 2)
    ]
    assert any(row.key == older.key and row.sequence > older.sequence for row in drops)
    assert (older.tier, len(older.key)) == (GOOD.tier, 9)


@given(st.integers(0, 60_000), st.integers(0, 60_000))
def test_a_live_bundle_is_of_use_until_its_cut_is_due_and_lives_no_longer_than_a_period(
    latency_ms: int, duration_ms: int
) -> None:
    lifetime_ms = live_lifetime_ms(msgspec.structs.replace(GOOD, duration_ms=duration_ms), latency_ms)
    assert 0 < lifetime_ms <= period_ms(latency_ms)
    live = supersession(GOOD, latency_ms)
    if latency_ms > duration_ms + CLOCK_MARGIN_MS:
        assert time_of_use_ms(lifetime_ms, live) == latency_ms - duration_ms
    assert time_of_use_ms(lifetime_ms, live) > 0
    assert time_of_use_ms(lifetime_ms, None) == lifetime_ms
