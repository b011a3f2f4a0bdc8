# SPDX-License-Identifier: Apache-2.0
"""Samples of fountain links: loss held to what is proven, goodput only of a full link, nothing of an idle one."""

import random

from meshd.bearer.fountain_gauge import FIRST_SAMPLES, FountainGauge
from meshd.bearer.fountain_link import FountainLink
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId
from meshd.cl.fountain.fountain_code import RaptorQ
from meshd.cl.fountain.peer import Peer
from meshd.cl.fountain.receiver import Receiver
from meshd.cl.fountain.settings import PeerSettings
from meshd.link.metric import LinkSample
from meshd.link.settings import NeighbourSettings

BRAVO = parse_eid("dtn://bravo/")


class _Answers:
    """Nobody answers here."""

    def answer_accepted(self, node: object, transfers: object) -> None: ...
    def answer_refused(self, node: object, transfer: int, *, is_retriable: bool) -> None: ...


def _parts() -> tuple[FountainGauge, FountainLink, Peer]:
    numbers = random.Random(1)
    receiver = Receiver(BRAVO, 1, RaptorQ(), lambda work, done: None, lambda: numbers.getrandbits(32))
    peer = Peer(PeerSettings(BRAVO, 2), receiver, 0.6, is_mute=False)
    link = FountainLink("los0", NeighbourSettings(BRAVO, "los0", None), _Answers(), 0.0)
    link.come_up(is_blind=False, now=0.0)
    return FountainGauge(), link, peer


def _take(gauge: FountainGauge, link: FountainLink, peer: Peer, now: float, used: float = 0.0) -> LinkSample | None:
    return gauge.take(link, peer, used, now) if gauge.is_due(now) else None


def test_an_idle_link_is_told_of_a_few_times() -> None:
    gauge, link, peer = _parts()
    told = [_take(gauge, link, peer, float(second)) is not None for second in range(10)]
    assert told == [True] * FIRST_SAMPLES + [False] * (10 - FIRST_SAMPLES)
    link.go_down("gone", 20.0)
    link.come_up(is_blind=False, now=30.0)
    assert _take(gauge, link, peer, 30.0) is not None


def test_loss_is_that_of_the_receiver_unless_it_lies() -> None:
    gauge, link, peer = _parts()
    peer.meter.count.note_report(100, 40)
    peer.meter.count.note_proven(90)
    sample = _take(gauge, link, peer, 0.0)
    assert sample is not None
    assert (sample.packets, sample.lost, sample.rtt_s) == (100, 10, 0.6)


def test_goodput_is_that_of_a_full_link_without_its_loss() -> None:
    gauge, link, peer = _parts()
    peer.meter.loss = 0.5
    bundle = BundleId(BRAVO, 1, 1)
    assert _take(gauge, link, peer, 0.0, used=0.9) is not None
    link.sent[bundle] = 1000
    link.note_acknowledged([bundle])
    full = _take(gauge, link, peer, 1.0, used=0.9)
    assert full is not None
    assert full.goodput_bps == 16_000
    link.sent[bundle] = 1000
    link.note_acknowledged([bundle])
    spare = _take(gauge, link, peer, 2.0, used=0.1)
    assert spare is not None
    assert spare.goodput_bps is None


def test_no_more_than_one_sample_a_second() -> None:
    gauge, link, peer = _parts()
    assert _take(gauge, link, peer, 0.0) is not None
    peer.meter.count.note_report(1000, 100)
    assert _take(gauge, link, peer, 0.5) is None
    assert _take(gauge, link, peer, 1.0) is not None
