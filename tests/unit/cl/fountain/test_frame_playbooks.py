# SPDX-License-Identifier: Apache-2.0
"""A playbook for each frame: it is heard, and these events come up and these frames leave."""

import random
from collections.abc import Callable, Sequence

import pytest

from meshd.cl.fountain.events import (
    Event,
    FailureReason,
    OutgoingRow,
    PeerDown,
    PeerUp,
    TransfersAcknowledged,
    TransfersFailed,
    TransfersReceived,
)
from meshd.cl.fountain.fountain_code import RaptorQ
from meshd.cl.fountain.frame_codec import pack_frames, parse_frames_untrusted
from meshd.cl.fountain.frames import (
    Ack,
    AckRow,
    Beacon,
    Frame,
    Group,
    Heard,
    Need,
    Ping,
    Pong,
    Refuse,
    Report,
    Silent,
    Symbol,
)
from meshd.cl.fountain.machine import Machine
from meshd.cl.fountain.settings import FountainSettings, PeerSettings
from meshd.security.pairwise import Verdict
from tests.sim.fountain_world import FakeOpener, FakeSeal, FakeTags
from tests.unit.cl.fountain.sealed_pair import HERE, THERE, THIRD

BEACON = Beacon(1, 0, 5, 1 << 20)


class Stage:
    """One machine, whose only neighbour is played."""

    def __init__(self) -> None:
        self.now = 100.0
        settings = FountainSettings(HERE, 0, 10_000_000, 0.3)
        peers = [PeerSettings(THERE, 1)]
        self.seal = FakeSeal(HERE, 0)
        self.machine = Machine(
            settings, peers, self.seal, FakeOpener({1: THERE}), FakeTags(HERE), RaptorQ(), random.Random(1), self.now
        )
        self.theirs = FakeSeal(THERE, 1)
        self.hear([BEACON, Heard(1, True, (0,))])
        self.events()
        self.leaving(1.0)

    def hear(self, frames: Sequence[Frame]) -> None:
        """They say this, in one datagram."""
        self.machine.receive_datagrams([self.theirs.seal(pack_frames(frames))], self.now)

    def events(self) -> list[Event]:
        """What came up."""
        found = []
        while (event := self.machine.next_event()) is not None:
            found.append(event)
        return found

    def leaving(self, for_s: float = 0.0) -> list[Frame]:
        """What leaves now, or in the time that comes."""
        frames: list[Frame] = []
        until = self.now + for_s
        while True:
            if self.machine.get_timer() <= self.now:
                self.machine.handle_timer(self.now)
            for datagram in self.machine.datagrams_to_send(self.now):
                frames += parse_frames_untrusted(datagram.data[12:-16])
            at = self.machine.get_timer()
            if at > until:
                self.now = until
                return frames
            self.now = max(at, self.now)

    def send(self, size_bytes: int) -> list[Symbol]:
        """We begin to send a bundle: its symbols."""
        self.machine.send_bundles(THERE, [OutgoingRow("bundle", (bytes(size_bytes),), 1, self.now + 60)], self.now)
        return [each for each in self.leaving(0.02) if isinstance(each, Symbol)]

    def tag(self, verdict: Verdict, object_id: bytes) -> bytes:
        """As they make it."""
        digest = self.machine._sender._objects[object_id].digest
        return FakeTags(THERE).make_tag(HERE, 1, verdict, object_id, digest)

    def report(self) -> Report:
        """That all has arrived."""
        last = self.seal.next_counter - 1
        return Report(0, 1, last, 0, last, 0, 0)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def symbols_of_theirs(size_bytes: int, to: int = 0) -> list[Symbol]:
    """What another machine would send, as node 1 of a multicast bearer."""
    others = {0: HERE, 7: THIRD}
    settings = FountainSettings(THERE, 1, 10_000_000, 0.3, is_multicast=True)
    machine = Machine(
        settings,
        [PeerSettings(node, index) for index, node in others.items()],
        FakeSeal(THERE, 1),
        FakeOpener(others),
        FakeTags(THERE),
        RaptorQ(),
        random.Random(2),
        0.0,
    )
    greeting = FakeSeal(others[to], to).seal(pack_frames([BEACON, Heard(1, True, (1,))]))
    machine.receive_datagrams([greeting], 0.0)
    machine.send_bundles(others[to], [OutgoingRow("theirs", (bytes(size_bytes),), 1, 60.0)], 0.0)
    found: list[Symbol] = []
    for step in range(100):
        for datagram in machine.datagrams_to_send(step * 0.002):
            frames = parse_frames_untrusted(datagram.data[12:-16])
            found += [each for each in frames if isinstance(each, Symbol)]
    return found


def test_symbol_the_last_one_needed_hands_the_bundle_over_and_then_is_acknowledged(stage: Stage) -> None:
    symbol = symbols_of_theirs(500)[0]
    stage.hear([symbol])
    (event,) = stage.events()
    assert isinstance(event, TransfersReceived)
    assert event.rows[0].data == bytes(500)
    assert not any(isinstance(each, Ack) for each in stage.leaving(0.05))  # it is not on the disk yet
    stage.machine.accept(THERE, [event.rows[0].transfer], stage.now)
    ack = next(each for each in stage.leaving(0.2) if isinstance(each, Ack))
    assert (ack.node, ack.rows[0].object_id) == (1, symbol.object_id)


def test_symbol_too_few_are_answered_with_what_is_needed(stage: Stage) -> None:
    first, *others = symbols_of_theirs(5000)
    assert len(others) >= 3
    stage.hear([first])
    said = stage.leaving(0.2)
    assert stage.events() == []
    need = next(each for each in said if isinstance(each, Need))
    assert (need.node, need.object_id) == (1, first.object_id)
    assert 3 <= need.count <= 4
    assert any(isinstance(each, Report) and each.node == 1 for each in said)


def test_ack_ends_it(stage: Stage) -> None:
    (symbol, *_) = stage.send(500)
    stage.hear([Ack(0, (AckRow(symbol.object_id, stage.tag(Verdict.TAKEN, symbol.object_id)),))])
    assert stage.events() == [TransfersAcknowledged(THERE, ["bundle"])]
    assert not any(isinstance(each, Symbol) for each in stage.leaving(5.0))


def test_refuse_fails_it(stage: Stage) -> None:
    (symbol, *_) = stage.send(500)
    stage.hear([Refuse(0, symbol.object_id, 0, stage.tag(Verdict.REFUSED, symbol.object_id))])
    assert stage.events() == [TransfersFailed(THERE, ["bundle"], FailureReason.REFUSED)]
    assert not any(isinstance(each, Symbol) for each in stage.leaving(5.0))


def test_need_is_answered_with_new_symbols(stage: Stage) -> None:
    sent = stage.send(5000)
    stage.hear([stage.report(), Need(0, sent[0].object_id, 2)])
    again = [each for each in stage.leaving(0.05) if isinstance(each, Symbol)]
    assert len(again) >= 2
    assert not {each.esi for each in again} & {each.esi for each in sent}


def test_report_says_the_round_trip_and_the_loss(stage: Stage) -> None:
    stage.send(20_000)
    meter = stage.machine.peer(THERE).meter
    stage.now += 0.25
    stage.hear([stage.report()])
    assert (meter.lost, meter.sent > 10) == (0, True)
    assert 0.25 <= meter.rtt_s < 0.3


def test_ping_is_answered_with_its_token(stage: Stage) -> None:
    stage.hear([Ping(77)])
    pong, report = stage.leaving(0.1)[:2]
    assert isinstance(pong, Pong)
    assert (pong.node, pong.token) == (1, 77)
    assert isinstance(report, Report)


def silent(stage: Stage) -> None:
    stage.hear([Silent(is_silent=True, for_s=600)])


def a_stranger_to_us(stage: Stage) -> None:
    for _ in range(3):
        stage.now += 1.0
        stage.hear([BEACON, Heard(1, True, (7,))])


@pytest.mark.parametrize(
    ("act", "events"),
    [
        (silent, [PeerUp(THERE, is_blind=True, silent_s=600)]),
        (a_stranger_to_us, [PeerDown(THERE, FailureReason.ONE_WAY)]),
    ],
    ids=["SILENT: it is sent to blind", "HEARD that lacks us thrice: it is one-way"],
)
def test_what_a_frame_says_of_its_node(stage: Stage, act: Callable[[Stage], None], events: list[Event]) -> None:
    act(stage)
    assert stage.events() == events


@pytest.mark.parametrize("frame", [BEACON, Pong(0, 5, 10), Group(3, (1,)), Heard(1, True, (0,))])
def test_what_calls_for_nothing_is_answered_with_nothing(stage: Stage, frame: Frame) -> None:
    stage.hear([frame])
    assert stage.events() == []
    assert stage.leaving(0.1) == []


def test_beacon_of_a_node_that_has_started_anew_is_answered(stage: Stage) -> None:
    stage.theirs = FakeSeal(THERE, 1, boot=2)
    stage.hear([BEACON])
    assert [type(each) for each in stage.leaving(0.5)][:2] == [Beacon, Heard]


@pytest.mark.parametrize(("members", "is_ours"), [((0, 7), True), ((7,), False)])
def test_group_says_who_besides_those_that_it_names_an_object_is_for(
    stage: Stage, members: tuple[int, ...], is_ours: bool
) -> None:
    symbol = symbols_of_theirs(500, to=7)[0]
    stage.hear([Group(3, members), Symbol(symbol.object_id, symbol.object_bytes, symbol.esi, 3, symbol.data)])
    assert [type(each) for each in stage.events()] == [TransfersReceived] * is_ours
