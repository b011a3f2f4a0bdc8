# SPDX-License-Identifier: Apache-2.0
"""What arrives from one node: bounded, answered only when durable, and never by anything malformed."""

import random
from collections.abc import Callable

import pytest

from meshd.bundle.eid import parse_eid
from meshd.cl.fountain import receiver as module
from meshd.cl.fountain.fountain_code import RaptorQ, fit_symbol, source_symbol
from meshd.cl.fountain.frames import Symbol
from meshd.cl.fountain.incoming_object import State
from meshd.cl.fountain.object_format import Piece, pack_bundles, pack_piece
from meshd.cl.fountain.receiver import STALE_S, Receiver

OWN = 7


class Fixture:
    """A receiver whose work is done at once."""

    def __init__(self) -> None:
        self.numbers = 0
        self.receiver = Receiver(parse_eid("dtn://peer/"), OWN, RaptorQ(), self._work, self._take_number)

    def _work(self, work: Callable[[], object], done: Callable[[object], None]) -> None:
        done(work())

    def _take_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def give(self, object_id: bytes, data: bytes, symbols: range | None = None, now: float = 0.0) -> None:
        """Source symbols of an object."""
        size = fit_symbol(len(data), 1424)
        for esi in symbols or range(-(-len(data) // size)):
            symbol = Symbol(object_id, len(data), esi, 0, source_symbol(data, size, esi))
            self.receiver.take_symbol(symbol, now)

    def answers(self) -> list[tuple[bytes, State]]:
        """What the next report says."""
        return [(item.object_id, item.state) for item in self.receiver.take_answers(100)]


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def test_an_object_is_answered_when_its_last_bundle_is_durable(fixture: Fixture) -> None:
    fixture.give(b"object-1", pack_bundles(1, [OWN], [[b"one"], [b"two"]]))
    rows = fixture.receiver.arrived
    assert [row.data for row in rows] == [b"one", b"two"]
    assert fixture.receiver.needs(9, 0.0, 0.0) == [(b"object-1", 0)]
    fixture.receiver.accept([rows[0].transfer])
    assert fixture.answers() == []
    fixture.receiver.accept([rows[1].transfer])
    assert fixture.answers() == [(b"object-1", State.TAKEN)]
    assert fixture.receiver.needs(9, 0.0, 0.0) == []


def test_a_late_symbol_is_answered_again_but_gives_no_second_bundle(fixture: Fixture) -> None:
    data = pack_bundles(1, [OWN], [[b"one"]])
    fixture.give(b"object-1", data)
    fixture.receiver.accept([1])
    assert len(fixture.answers()) == len(fixture.answers()) == 1
    assert fixture.answers() == []
    fixture.give(b"object-1", data)
    assert fixture.answers() == [(b"object-1", State.TAKEN)]
    assert len(fixture.receiver.arrived) == 1


def test_one_refused_bundle_refuses_the_object(fixture: Fixture) -> None:
    fixture.give(b"object-1", pack_bundles(1, [OWN], [[b"one"], [b"two"]]))
    fixture.receiver.refuse(1, is_retriable=True)
    fixture.receiver.accept([2])
    assert fixture.answers() == [(b"object-1", State.REFUSED)]


def test_pieces_are_joined_and_answered_together(fixture: Fixture) -> None:
    bundle = random.Random(1).randbytes(90)
    for number, offset in enumerate((60, 0, 30)):
        piece = Piece(b"transfer", 90, offset, bundle[offset : offset + 30])
        fixture.give(b"object-%d" % number, pack_piece(1, [OWN], piece))
    assert [row.data for row in fixture.receiver.arrived] == [bundle]
    fixture.receiver.accept([1])
    assert len(fixture.answers()) == 3


def test_pieces_that_overlap_give_no_bundle(fixture: Fixture) -> None:
    fixture.give(b"object-1", pack_piece(1, [OWN], Piece(b"transfer", 90, 0, bytes(60))))
    fixture.give(b"object-2", pack_piece(1, [OWN], Piece(b"transfer", 90, 30, bytes(60))))
    assert fixture.receiver.arrived == []


def test_an_object_for_others_is_passed_over(fixture: Fixture) -> None:
    fixture.give(b"object-1", pack_bundles(1, [OWN + 1], [[b"one"]]))
    assert fixture.receiver.arrived == []
    assert fixture.answers() == []
    assert fixture.receiver.open_objects == 0


def test_a_wrong_symbol_gives_no_object(fixture: Fixture) -> None:
    data = pack_bundles(1, [OWN], [[random.Random(1).randbytes(5000)]])
    wrong = data[:2000] + bytes((data[2000] ^ 1,)) + data[2001:]
    fixture.give(b"object-1", wrong)
    assert fixture.receiver.arrived == []
    assert fixture.receiver.failures == 1


def test_symbols_of_another_size_are_passed_over(fixture: Fixture) -> None:
    receiver = fixture.receiver
    receiver.take_symbol(Symbol(b"object-1", 3000, 0, 0, bytes(1000)), 0.0)
    receiver.take_symbol(Symbol(b"object-1", 3000, 1, 0, bytes(600)), 0.0)
    receiver.take_symbol(Symbol(b"object-1", 4000, 1, 0, bytes(1000)), 0.0)
    assert receiver.needs(9, 0.0, 0.0) == [(b"object-1", 2)]
    receiver.take_symbol(Symbol(b"object-2", 3000, 1, 0, bytes(1001)), 0.0)
    receiver.take_symbol(Symbol(b"object-3", 3000, 1, 0, bytes(3008)), 0.0)
    assert receiver.open_objects == 1


def test_open_objects_are_bounded_and_stale_ones_make_room(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_MAX_BYTES", 10_000)
    for number in range(5):
        fixture.receiver.take_symbol(Symbol(b"object-%d" % number, 4000, 0, 0, bytes(1000)), float(number))
    assert fixture.receiver.open_objects == 2
    assert fixture.receiver.refused_objects == 3
    fixture.receiver.take_symbol(Symbol(b"object-9", 4000, 0, 0, bytes(1000)), STALE_S + 0.5)
    assert [object_id for object_id, _ in fixture.receiver.needs(9, 0.0, 0.0)] == [b"object-1", b"object-9"]


def test_the_same_symbol_twice_counts_once(fixture: Fixture) -> None:
    data = pack_bundles(1, [OWN], [[bytes(5000)]])
    fixture.give(b"object-1", data, range(2))
    fixture.give(b"object-1", data, range(2))
    assert fixture.receiver.needs(9, 0.0, 0.0) == [(b"object-1", 2)]
