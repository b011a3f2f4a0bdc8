# SPDX-License-Identifier: Apache-2.0
"""Delivery: parts become messages, messages are offered one at a time to receivers that come and go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, Part, PayloadRef
from meshd.node import events as ev
from meshd.node.delivery import Delivery, Offer
from tests.unit.node.playbook import HOME, INBOX, LAN, SAT, Playbook

SOURCE = parse_eid("dtn://home/inbox")
OTHER = parse_eid("dtn://dpop1/other")


def whole(sequence: int) -> BundleRecord:
    """A message of one bundle."""
    return _record(sequence, None)


def part(sequence: int, index: int, *, last: bool = False, first: int = 0) -> BundleRecord:
    """A part of the message whose part 0 has sequence number `first`."""
    return _record(sequence, Part(1, first, index, index * 10, last))


def _record(sequence: int, of: Part | None) -> BundleRecord:
    payload = PayloadRef(0, 0, 10)
    return BundleRecord(BundleId(SOURCE, 1, sequence), INBOX, 1, 100, 0, 10, 0, False, HOME, of, False, payload)


def shown(offer: Offer | None) -> tuple[int, list[int]] | None:
    """(receiver, sequence numbers of the parts) of an offer."""
    return None if offer is None else (offer.receiver, [bundle.sequence for bundle in offer.message.part_ids()])


def test_a_message_waits_for_a_receiver_and_a_receiver_for_a_message() -> None:
    delivery = Delivery()
    assert delivery.add(whole(1)) is None
    assert shown(delivery.attach(7, INBOX)) == (7, [1])
    assert delivery.attach(8, INBOX) is None
    assert shown(delivery.add(whole(2))) == (8, [2])


def test_one_message_at_a_time() -> None:
    delivery = Delivery()
    delivery.attach(7, INBOX)
    assert shown(delivery.add(whole(1))) == (7, [1])
    assert delivery.add(whole(2)) is None
    assert delivery.confirm(7, whole(1).id) is not None
    assert shown(delivery.next_for(7)) == (7, [2])


def test_only_the_endpoint_asked_for() -> None:
    delivery = Delivery()
    delivery.attach(7, OTHER)
    assert delivery.add(whole(1)) is None
    assert delivery.next_for(9) is None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_parts_in_any_order(order: tuple[int, ...]) -> None:
    delivery = Delivery()
    delivery.attach(7, INBOX)
    offers = [shown(delivery.add(part(index, index, last=index == 2))) for index in order]
    assert offers == [None, None, (7, [0, 1, 2])]


def test_unconfirmed_is_offered_to_the_next_one_first() -> None:
    delivery = Delivery()
    delivery.attach(7, INBOX)
    delivery.add(whole(1))
    delivery.add(whole(2))
    assert delivery.detach(7) is None
    assert shown(delivery.attach(8, INBOX)) == (8, [1])


def test_detach_offers_to_a_receiver_that_waits() -> None:
    delivery = Delivery()
    delivery.attach(7, INBOX)
    delivery.add(whole(1))
    delivery.attach(8, INBOX)
    delivery.attach(9, INBOX)
    assert delivery.detach(9) is None
    assert shown(delivery.detach(7)) == (8, [1])
    assert delivery.detach(7) is None


def test_detach_of_an_idle_one() -> None:
    delivery = Delivery()
    delivery.attach(7, INBOX)
    assert delivery.detach(7) is None
    assert delivery.add(whole(1)) is None


def test_confirming_what_was_not_offered_does_nothing() -> None:
    delivery = Delivery()
    delivery.add(whole(1))
    delivery.attach(7, INBOX)
    assert delivery.confirm(7, whole(2).id) is None
    assert delivery.confirm(8, whole(1).id) is None
    assert delivery.confirm(7, whole(1).id) is not None
    assert delivery.confirm(7, whole(1).id) is None


def test_a_part_that_expires_takes_the_offer_back() -> None:
    delivery = Delivery()
    delivery.attach(7, INBOX)
    delivery.add(part(0, 0))
    assert shown(delivery.add(part(1, 1, last=True))) == (7, [0, 1])
    delivery.add(whole(5))
    assert shown(delivery.remove(part(0, 0))) == (7, [5])
    assert delivery.remove(part(1, 1, last=True)) is None
    assert delivery.remove(part(1, 1, last=True)) is None


def test_a_ready_message_that_expires_is_not_offered() -> None:
    delivery = Delivery()
    delivery.add(whole(1))
    delivery.add(whole(2))
    delivery.remove(whole(1))
    assert shown(delivery.attach(7, INBOX)) == (7, [2])


@pytest.mark.parametrize(
    ("here", "more", "has_place"),
    [
        ([], part(0, 0, last=True), True),
        ([part(0, 0)], part(1, 1), True),
        ([part(0, 0)], part(9, 0), False),
        ([part(0, 0)], part(9, 0, last=True), False),
        ([part(0, 0), part(3, 3)], part(9, 2, last=True), False),
        ([part(0, 0), part(3, 3)], part(9, 4, last=True), True),
        ([part(2, 2, last=True)], part(9, 3), False),
        ([part(2, 2, last=True)], part(9, 1), True),
        ([part(2, 2, last=True)], part(9, 1, last=True), False),
        ([part(2, 2, last=True)], part(9, 3, last=True), False),
        ([part(0, 0, last=True)], whole(0), False),
        ([whole(0)], part(9, 0, last=True), False),
        ([whole(0)], part(9, 1), False),
    ],
)
def test_a_contradicting_part_has_no_place(here: list[BundleRecord], more: BundleRecord, has_place: bool) -> None:
    delivery = Delivery()
    for record in here:
        assert delivery.has_place_for(record)
        delivery.add(record)
    assert delivery.has_place_for(more) is has_place


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
def test_an_offered_message_is_whole_whatever_parts_claim(claims: list[tuple[int, bool]]) -> None:
    delivery = Delivery()
    delivery.attach(7, INBOX)
    offers = []
    for sequence, (index, is_last) in enumerate(claims):
        record = part(sequence, index, last=is_last)
        if delivery.has_place_for(record) and (offer := delivery.add(record)) is not None:
            offers.append(offer)
    assert len(offers) <= 1
    for offer in offers:
        assert sorted(offer.message.parts) == list(range(len(offer.message.parts)))
        assert offer.message.last_index == len(offer.message.parts) - 1


# The same through the agent


def test_second_bundle_for_the_same_part_of_an_offered_message_is_deleted() -> None:
    play = Playbook()
    play.handle(ev.ReceiverAttached(1, INBOX))
    play.handle(ev.ReceiverAttached(2, INBOX))
    play.bundle("a", INBOX, part=Part(5, 5, 0, 0, True))
    play.bundle("b", INBOX, part=Part(5, 5, 0, 0, True))
    assert play.take_in("a") == ["accept lan0>dpop2 a", "deliver 1 a"]
    play.handle(play.received(LAN, "b"))
    play.expect(play.stored("b"), "store delete b", "accept lan0>dpop2 b")
    assert play.kinds == ["bundle.deleted"]
    play.name("message", BundleId(play.id("a").source, 5, 5))
    play.expect(play.confirmed(1, "message"), "store delete a")


def test_expiry_while_offered_goes_on_with_the_next() -> None:
    play = Playbook()
    play.bundle("short", INBOX, lifetime_ms=1000)
    play.bundle("long", INBOX)
    play.take_in("short", "long", link=SAT)
    play.expect(ev.ReceiverAttached(1, INBOX), "deliver 1 short")
    play.fire("store delete short", "deliver 1 long")
    assert "bundle.deleted" in play.kinds
    play.expect(play.confirmed(1, "short"))
    play.expect(play.confirmed(1, "long"), "store delete long")
    assert play.kinds == ["message.delivered"]
