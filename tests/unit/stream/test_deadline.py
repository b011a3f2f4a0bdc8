# SPDX-License-Identifier: Apache-2.0
"""Deadlines on links."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.stream.deadline import (
    LinkTimes,
    Waiting,
    Worth,
    is_worth_repairing,
    judge,
    live_lifetime_ms,
    plan_sending,
    repair_ahead,
    supersession,
)
from meshd.stream.piece import Tier
from tests.unit.stream.test_piece import GOOD

SATCOM = LinkTimes(owd_s=0.3, repair_s=0.6, rate_bps=4e6, loss=0.05)


@pytest.mark.parametrize(
    ("remaining_s", "worth"), [(2.0, Worth.SEND), (0.95, Worth.SEND), (0.9, Worth.SEND_ONCE), (0.3, Worth.DROP)]
)
def test_what_a_piece_is_worth(remaining_s: float, worth: Worth) -> None:
    assert judge(Waiting(1, 1, 2, 10_000, 50 + remaining_s), 0, SATCOM, 50.0) is worth


def test_what_goes_before_it_takes_its_time() -> None:
    row = Waiting(1, 1, 2, 10_000, 51.0)
    assert judge(row, 0, SATCOM, 50.0) is Worth.SEND
    assert judge(row, 100_000, SATCOM, 50.0) is Worth.SEND_ONCE
    assert judge(row, 350_000, SATCOM, 50.0) is Worth.DROP


def test_a_repair_has_to_arrive_in_time() -> None:
    assert is_worth_repairing(50.31, 1200, SATCOM, 50.0)
    assert not is_worth_repairing(50.3, 1200, SATCOM, 50.0)


def test_repair_ahead_where_it_helps() -> None:
    assert repair_ahead(Worth.SEND, Tier.REST, 0.05) == 0.0
    assert repair_ahead(Worth.SEND_ONCE, Tier.REST, 0.05) == pytest.approx(0.1)
    assert repair_ahead(Worth.SEND, Tier.METADATA, 0.05) == pytest.approx(0.2)
    assert repair_ahead(Worth.SEND, Tier.KEY_FRAMES, 0.05) == pytest.approx(0.15)
    assert repair_ahead(Worth.SEND, Tier.KEY_FRAMES, 0.0) == 0.0
    assert repair_ahead(Worth.SEND_ONCE, Tier.REST, 0.9) == 0.5
    assert repair_ahead(Worth.DROP, Tier.METADATA, 0.1) == 0.0


def test_after_an_outage_the_newest_go_first_and_the_late_not_at_all() -> None:
    # Six seconds of a stream of 2 Mbit/s wait; each lives for 1.4 s.
    rows = [Waiting(n, n, tier, 12_500, n * 0.1 + 1.4) for n in range(60) for tier in (0, 2)]
    sent, dropped = plan_sending(rows, SATCOM, 6.0)
    assert {row.sequence for row in dropped} >= set(range(49))
    assert [row.tier for row, _ in sent] == sorted(row.tier for row, _ in sent)
    rest = [row.sequence for row, _ in sent if row.tier == 2]
    assert rest == sorted(rest, reverse=True)
    assert rest[0] == 59
    assert len(sent) + len(dropped) == len(rows)


@given(st.integers(0, 1 << 40), st.integers(0, 20_000), st.integers(0, 60_000))
def test_supersession_never_drops_what_may_be_in_time(ingest_ms: int, later_ms: int, latency_ms: int) -> None:
    older = supersession(msgspec.structs.replace(GOOD, ingest_ms=ingest_ms), latency_ms)
    newer = supersession(msgspec.structs.replace(GOOD, ingest_ms=ingest_ms + later_ms), latency_ms)
    lifetime_ms = live_lifetime_ms(latency_ms)
    if newer.key == older.key and newer.sequence > older.sequence:
        assert later_ms >= lifetime_ms
    # What comes two periods later, or three at most, drops it.
    drops = [
        supersession(msgspec.structs.replace(GOOD, ingest_ms=ingest_ms + n * lifetime_ms), latency_ms) for n in (1, 2)
    ]
    assert any(row.key == older.key and row.sequence > older.sequence for row in drops)
    assert (older.tier, len(older.key)) == (GOOD.tier, 9)
