# SPDX-License-Identifier: Apache-2.0
"""TCP connections that are looked at: what is told of them, and when their peer is called dead."""

import pytest
import trio

from meshd.bearer.line_watch import FIRST_SAMPLES, Gauge, is_silent
from meshd.bearer.tcp import TcpBearer
from meshd.bearer.tcp_info import TcpInfo
from meshd.link.metric import LinkSample
from meshd.node.events import LinkDown, LinkMeasured, LinkUp
from tests.unit.bearer.tcp_peers import ALPHA, BRAVO, Recorder, make_bearer, make_settings

IDLE = TcpInfo(retransmits=0, flags=1, unacked=0, last_heard_ms=5000, acked_bytes=100, min_rtt_us=20_000, busy_us=10)
DEAD = IDLE._replace(retransmits=2, unacked=3, last_heard_ms=1100)


def test_three_answers_have_to_be_missing() -> None:
    assert is_silent(DEAD, 60.0)
    assert not is_silent(IDLE, 60.0)
    assert not is_silent(DEAD._replace(retransmits=1), 60.0)
    assert not is_silent(DEAD._replace(unacked=0), 60.0)
    assert not is_silent(DEAD._replace(last_heard_ms=900), 60.0)


def test_a_distant_peer_gets_its_round_trips() -> None:
    assert not is_silent(DEAD._replace(min_rtt_us=600_000), 60.0)
    assert is_silent(DEAD._replace(min_rtt_us=600_000, last_heard_ms=2500), 60.0)


def test_after_a_silence_of_ours_the_peer_gets_time_to_answer() -> None:
    assert not is_silent(DEAD._replace(last_heard_ms=100_000), 0.5)


def test_goodput_is_acknowledged_bytes_over_busy_time() -> None:
    gauge = Gauge()
    gauge.take(IDLE, 0.0)
    later = IDLE._replace(acked_bytes=100 + 125_000, busy_us=500_010, flags=0)
    assert gauge.take(later, 0.5) is None
    assert gauge.take(later, 1.0) == LinkSample(2_000_000, is_full=True, rtt_s=0.02)


def test_little_traffic_says_nothing_of_the_rate() -> None:
    gauge = Gauge()
    gauge.take(IDLE, 0.0)
    assert gauge.take(IDLE._replace(acked_bytes=1100, busy_us=50_000), 1.0) == LinkSample(None, False, rtt_s=0.02)


def test_an_idle_connection_is_told_of_a_few_times_and_when_its_round_trip_changes() -> None:
    gauge = Gauge()
    told = [gauge.take(IDLE, float(second)) is not None for second in range(20)]
    assert told == [True] * FIRST_SAMPLES + [False] * (20 - FIRST_SAMPLES)
    assert gauge.take(IDLE._replace(min_rtt_us=21_000), 20.0) is None
    assert gauge.take(IDLE._replace(min_rtt_us=30_000), 21.0) == LinkSample(None, False, rtt_s=0.03)


async def _pair(nursery: trio.Nursery, **changes: object) -> tuple[Recorder, TcpBearer]:
    """A bearer that has dialled another one, which calls nobody dead."""
    recorder, at_alpha = Recorder(), Recorder()
    alpha = make_bearer(at_alpha, ALPHA, {BRAVO: None}, make_settings(radiating=True))
    await nursery.start(alpha.run)
    bravo = make_bearer(recorder, BRAVO, {ALPHA: alpha.bound_address}, make_settings(None, **changes))
    await nursery.start(bravo.run)
    await recorder.wait_for(LinkUp)
    return recorder, bravo


async def test_the_node_hears_how_well_a_link_carries(nursery: trio.Nursery) -> None:
    recorder, _ = await _pair(nursery)
    measured = await recorder.wait_for(LinkMeasured)
    assert measured[0].link.neighbour == ALPHA
    assert measured[0].sample.rtt_s is not None
    nursery.cancel_scope.cancel()


async def test_a_silent_peer_is_given_up_and_dialled_again(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, _ = await _pair(nursery)
    monkeypatch.setattr("meshd.bearer.line_watch.read_tcp_info", lambda sock: DEAD)
    monkeypatch.setattr("meshd.bearer.line_watch.SILENT_S", 0.0)
    monkeypatch.setattr("meshd.bearer.line_watch.SILENT_RTTS", 0)
    down = await recorder.wait_for(LinkDown)
    assert "does not answer any more" in down[0].reason
    monkeypatch.undo()
    await recorder.wait_for(LinkUp, 2)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("case", ["radiating", "frozen"])
async def test_who_may_be_silent_is_not_given_up(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    looks = trio.Event()
    count = 0

    def look(sock: object) -> TcpInfo:
        nonlocal count
        count += 1
        if count == 3:
            looks.set()
        return DEAD

    recorder, bearer = await _pair(nursery, radiating=case == "radiating")
    if case == "frozen":
        bearer.freeze()
    monkeypatch.setattr("meshd.bearer.line_watch.read_tcp_info", look)
    monkeypatch.setattr("meshd.bearer.line_watch.LOOK_BUSY_S", 0.01)
    with trio.fail_after(30):
        await looks.wait()
    assert recorder.all(LinkDown) == []
    nursery.cancel_scope.cancel()
