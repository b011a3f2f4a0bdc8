# SPDX-License-Identifier: Apache-2.0
"""The contact router: earliest delivery, queues, bookings, confidence, copies, static routes as a last resort."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleRecord
from meshd.routing.contact import Contact, ContactKind
from meshd.routing.contact_router import REMEMBERED_S
from meshd.routing.decision import Contraindicated, Forward
from meshd.routing.known_contacts import GRACE_S
from meshd.routing.settings import RouteSettings
from meshd.routing.spray_and_wait import SPRAY_AFTER_S, SPRAY_MAX_BYTES
from tests.unit.routing.router_world import OFFSET_S, View, bundle, contact, goes, link, node, router, waits

T = OFFSET_S
"""DTN time at monotonic time 0."""


def test_a_link_to_the_destination_is_the_way() -> None:
    decision = router().choose_next_hops(bundle("d"), View("los0>d", "los0>b"), 0)
    assert goes(decision) == "los0>d"
    assert decision == Forward((link("los0>d"),))


def test_over_a_neighbour_that_meets_it_in_time_and_waits_where_it_must() -> None:
    known = router(contact("b", "d", T + 100, T + 200))
    assert goes(known.choose_next_hops(bundle("d"), View("los0>b"), 0)) == "los0>b"
    known = router(contact("a", "b", T + 50, T + 60), contact("b", "d", T + 100, T + 200))
    decision = known.choose_next_hops(bundle("d"), View(), 0)
    assert waits(decision) == 50
    assert "waits for a contact with dtn://b/ on los0 in 50 s" in str(decision)
    view = View("los0>b")
    forward = known.choose_next_hops(bundle("d"), view, 50)
    assert isinstance(forward, Forward)
    assert (goes(forward), forward.until, forward.volumes_bytes) == ("los0>b", 60, {link("los0>b"): 10_000})


def test_better_wait_for_a_quick_contact_than_take_a_slow_way_now() -> None:
    known = router(contact("a", "d", T + 10, T + 90), contact("b", "d", T + 500, T + 600))
    assert waits(known.choose_next_hops(bundle("d"), View("los0>b"), 0)) == 10


def test_a_planned_contact_that_does_not_come_is_late_and_then_suspected() -> None:
    known, view = router(contact("a", "d", T + 10, T + 900), contact("b", "d", T + 500, T + 600)), View("los0>b")
    assert waits(known.choose_next_hops(bundle("d"), view, 10)) == 10 + GRACE_S
    assert goes(known.choose_next_hops(bundle("d"), view, 10 + GRACE_S)) == "los0>b"


def test_never_back_and_never_through_whoever_brought_it() -> None:
    known = router(contact("b", "d", T, T + 100), contact("c", "b", T, T + 100))
    decision = known.choose_next_hops(bundle("d", back="b"), View("los0>b", "los0>c"), 0)
    assert isinstance(decision, Contraindicated)
    assert decision.leads_back
    assert goes(known.choose_next_hops(bundle("d", back="c"), View("los0>b", "los0>c"), 0)) == "los0>b"


def test_the_surest_level_that_is_in_time_wins() -> None:
    known = router(
        contact("b", "d", T, T + 1000, confidence=0.6),
        contact("c", "d", T + 500, T + 1000, confidence=0.96),
    )
    view = View("los0>b", "los0>c")
    assert goes(known.choose_next_hops(bundle("d", back="x"), view, 0)) == "los0>c"
    hasty = bundle("d", back="x", expiry_ms=int((T + 60) * 1000))
    assert goes(known.choose_next_hops(hasty, view, 0)) == "los0>b"


def test_a_full_queue_makes_the_second_link_better() -> None:
    view = View()
    view.bring_up("lan0>d", 80_000)
    view.bring_up("los0>d", 40_000)
    known = router()
    assert goes(known.choose_next_hops(bundle("d"), view, 0)) == "lan0>d"
    view.queue("lan0>d", 900)
    assert goes(known.choose_next_hops(bundle("d"), view, 1)) == "lan0>d"
    view.queue("lan0>d", 5000)
    assert goes(known.choose_next_hops(bundle("d"), view, 2)) == "los0>d"
    assert goes(known.choose_next_hops(bundle("d", precedence=3), view, 2)) == "lan0>d", "it overtakes what is queued"


def test_a_full_queue_makes_another_neighbour_better() -> None:
    known = router(contact("b", "d", T, T + 1000, rate_bps=800_000), contact("c", "d", T, T + 1000, rate_bps=400_000))
    view = View("los0>b", "los0>c")
    assert goes(known.choose_next_hops(bundle("d", back="x"), view, 0)) == "los0>b"
    view.queue("los0>b", 3000)
    assert goes(known.choose_next_hops(bundle("d", back="x"), view, 0)) == "los0>c"


def test_no_more_is_promised_of_a_contact_than_it_carries() -> None:
    known = router(contact("a", "d", T + 10, T + 13), contact("a", "d", T + 100, T + 200))
    wakes = [waits(known.choose_next_hops(bundle("d", sequence=each), View(), 0)) for each in range(4)]
    assert wakes == [10, 10, 10, 100]
    known.release(bundle("d", sequence=0).id)
    assert waits(known.choose_next_hops(bundle("d", sequence=9), View(), 0)) == 10


def test_whoever_is_more_urgent_takes_the_place_of_others() -> None:
    known = router(contact("a", "d", T + 10, T + 12), contact("a", "d", T + 100, T + 200))
    for each in range(2):
        assert waits(known.choose_next_hops(bundle("d", sequence=each), View(), 0)) == 10
    urgent = bundle("d", sequence=5, precedence=Precedence.IMMEDIATE)
    assert waits(known.choose_next_hops(urgent, View(), 0)) == 10
    assert list(known.take_displaced()) == [bundle("d", sequence=1).id]
    assert not known.take_displaced()
    assert waits(known.choose_next_hops(bundle("d", sequence=1), View(), 0)) == 100


def test_what_no_contact_takes_whole_begins_in_pieces() -> None:
    known = router(contact("a", "d", T, T + 10), contact("a", "d", T + 50, T + 60))
    decision = known.choose_next_hops(bundle("d", size_bytes=15_000), View("los0>d"), 0)
    assert isinstance(decision, Forward)
    assert decision.volumes_bytes == {link("los0>d"): 10_000}


def test_what_would_come_too_late_is_no_way() -> None:
    known = router(contact("a", "d", T + 100, T + 200))
    decision = known.choose_next_hops(bundle("d", expiry_ms=int((T + 50) * 1000)), View(), 0)
    assert isinstance(decision, Contraindicated)
    assert decision.reason == "no way to dtn://d/ takes it in time"
    assert not decision.is_for_all


def test_static_routes_where_no_contact_leads() -> None:
    known = router(routes=(RouteSettings(node("d"), node("b"), ()),))
    assert goes(known.choose_next_hops(bundle("d"), View("los0>b"), 0)) == "los0>b"
    decision = known.choose_next_hops(bundle("e"), View("los0>b"), 0)
    assert isinstance(decision, Contraindicated)
    assert decision.is_for_all
    known.configure(())
    assert isinstance(known.choose_next_hops(bundle("d"), View("los0>b"), 0), Contraindicated)


def test_other_nodes_contacts_are_learned_and_forgotten() -> None:
    known, view = router(), View("los0>b")
    known.learn(node("b"), [contact("b", "d", T, math.inf), contact("x", "d", T, math.inf)], 0)
    assert goes(known.choose_next_hops(bundle("d"), view, 0)) == "los0>b"
    assert known.graph.contacts(node("x")) == [], "a node speaks for itself only"
    known.forget(node("b"))
    assert isinstance(known.choose_next_hops(bundle("d"), view, 0), Contraindicated)


def test_a_silent_node_receives_and_does_not_send_what_can_be_located() -> None:
    known, view = router(contact("b", "d", T, T + 1000, radiates=True)), View("los0>b")
    known.silence(node("b"), None)
    assert isinstance(known.choose_next_hops(bundle("d"), view, 0), Contraindicated)
    assert goes(known.choose_next_hops(bundle("b"), view, 0)) == "los0>b"
    known.silence(node("b"), T + 300)
    assert goes(known.choose_next_hops(bundle("d"), view, 0)) == "los0>b", "it waits there"
    (way,) = known.ways(bundle("d"), view, 0)[0]
    assert way.arrival_s == T + 301
    known.end_silence(node("b"))
    (way,) = known.ways(bundle("d"), view, 0)[0]
    assert way.arrival_s == T + 2


def test_a_node_with_a_plan_of_silence_is_a_relay_before_and_after_it_and_receives_meanwhile() -> None:
    known, view = router(contact("b", "d", T, T + 1000, radiates=True)), View("los0>b")
    known.plan_silence(node("b"), [(T + 100, T + 300)])
    assert goes(known.choose_next_hops(bundle("d"), view, 0)) == "los0>b"
    (way,) = known.ways(bundle("d"), view, 150)[0]
    assert way.arrival_s == T + 301, "the end of its silence begins a contact"
    assert goes(known.choose_next_hops(bundle("b"), view, 150)) == "los0>b"
    known.plan_silence(node("b"), [(T + 100, math.inf)])
    assert isinstance(known.choose_next_hops(bundle("d"), view, 150), Contraindicated)
    known.plan_silence(node("b"), [])
    assert goes(known.choose_next_hops(bundle("d"), view, 150)) == "los0>b"


def test_the_own_plan_of_silence_ends_contacts_and_begins_others() -> None:
    known, view = router(), View("los0>d")
    view.radiating = {"los0"}
    known.plan_silence(node("a"), [(T + 10, T + 300)])
    forward = known.choose_next_hops(bundle("d"), view, 0)
    assert isinstance(forward, Forward)
    assert (forward.until, forward.volumes_bytes) == (10, {link("los0>d"): 10_000})
    assert waits(known.choose_next_hops(bundle("d", 20_000), view, 0)) == 300
    view.closed = {"los0"}
    view.version += 1
    known.plan.add([contact("a", "d", T, T + 1000, radiates=True)])
    assert waits(known.choose_next_hops(bundle("d"), view, 20)) == 300


def test_nothing_is_planned_over_a_bearer_that_may_not_emit() -> None:
    known, view = router(contact("a", "d", T + 10, T + 20), contact("a", "d", T + 50, T + 60, bearer="lan0")), View()
    view.closed = {"los0"}
    assert waits(known.choose_next_hops(bundle("d"), view, 0)) == 50


def test_predictions_count_by_their_confidence() -> None:
    known, view = router(contact("b", "d", T + 300, T + 400)), View("los0>b")
    known.predict([contact("a", "d", T + 10, T + 50, confidence=0.6)])
    assert goes(known.choose_next_hops(bundle("d", back="x"), view, 0)) == "los0>b"
    hasty = bundle("d", back="x", expiry_ms=int((T + 60) * 1000))
    assert waits(known.choose_next_hops(hasty, view, 0)) == 10


def test_a_way_with_more_that_may_fail_has_to_be_much_earlier() -> None:
    """Over b it is there by 20 in half of all cases, over c by 1000 in seven of ten; else it lives on for nothing."""
    known = router(
        contact("b", "e", T, T + 20, confidence=0.7),
        contact("e", "d", T + 10, T + 20, confidence=0.7),
        contact("c", "d", T + 999, T + 1100, confidence=0.7),
    )
    view = View("los0>b", "los0>c")
    assert goes(known.choose_next_hops(bundle("d", back="x", expiry_ms=int((T + 10_000) * 1000)), view, 0)) == "los0>c"
    assert goes(known.choose_next_hops(bundle("d", back="x", expiry_ms=int((T + 1500) * 1000)), view, 0)) == "los0>b"


def test_among_links_that_are_sure_the_earliest_is_taken_however_long_a_bundle_lives() -> None:
    known = router(contact("b", "d", T, T + 1000, confidence=0.96), contact("c", "d", T + 20, T + 1000))
    month = bundle("d", back="x", expiry_ms=int((T + 30 * 86_400) * 1000))
    assert goes(known.choose_next_hops(month, View("los0>b", "los0>c"), 0)) == "los0>b"


def test_a_second_copy_where_one_way_is_not_sure_enough_and_only_from_the_source() -> None:
    known = router(*(contact(each, "d", T, T + 900, confidence=0.5) for each in "bc"))
    view = View("los0>b", "los0>c", "los0>e")
    decision = known.choose_next_hops(bundle("d"), view, 0)
    assert isinstance(decision, Forward)
    assert decision.needs_copies
    copying = known.choose_copies(bundle("d"), view, 0, frozenset())
    assert (copying.links, copying.later) == ((link("los0>b"), link("los0>c")), None)
    assert known.choose_copies(bundle("d"), view, 0, frozenset((node("b"), node("c")))).links == ()
    relayed = known.choose_next_hops(bundle("d", back="x"), view, 0)
    assert isinstance(relayed, Forward)
    assert not relayed.needs_copies


def test_one_more_copy_can_go_later() -> None:
    known = router(
        contact("b", "d", T, T + 900, confidence=0.5),
        contact("a", "c", T + 100, T + 200),
        contact("c", "d", T, T + 900, confidence=0.5),
    )
    copying = known.choose_copies(bundle("d"), View("los0>b"), 0, frozenset())
    assert (copying.links, copying.later) == ((link("los0>b"),), 100)


@pytest.mark.parametrize(("size_bytes", "copies"), [(1000, True), (70_000, False)])
def test_a_large_one_is_not_copied_where_another_way_is_open_should_the_first_one_fail(
    size_bytes: int, copies: bool
) -> None:
    known = router(*(contact(each, "d", T, T + 900, confidence=0.7) for each in "bc"))
    decision = known.choose_next_hops(bundle("d", size_bytes), View("los0>b", "los0>c"), 0)
    assert isinstance(decision, Forward)
    assert decision.needs_copies is copies


@pytest.mark.parametrize(("size_bytes", "ways"), [(1000, 3), (70_000, 1)])
def test_a_small_critical_bundle_goes_every_plausible_way(size_bytes: int, ways: int) -> None:
    known, view = router(*(contact(each, "d", T, T + 900, rate_bps=8_000_000) for each in "bce")), View()
    for each in "bce":
        view.bring_up(f"los0>{each}", 8_000_000)
    flash = bundle("d", size_bytes, precedence=Precedence.FLASH)
    decision = known.choose_next_hops(flash, view, 0)
    assert isinstance(decision, Forward)
    assert decision.needs_copies == (ways > 1)
    if ways > 1:
        assert len(known.choose_copies(flash, view, 0, frozenset()).links) == ways
    view.bring_up("los0>d", 8_000_000)
    decision = known.choose_next_hops(flash, view, 0)
    assert isinstance(decision, Forward)
    assert not decision.needs_copies, "its destination says at once whether it has it"


def test_decisions_are_remembered_until_something_changes() -> None:
    known, view = router(), View("los0>d")
    first = known.choose_next_hops(bundle("d"), view, 0)
    assert known.choose_next_hops(bundle("d", sequence=2), view, 500) is first
    view.bring_up("lan0>d", 80_000)
    assert goes(known.choose_next_hops(bundle("d"), view, 500)) == "lan0>d"
    view.take_down("lan0>d")
    view.take_down("los0>d")
    assert isinstance(known.choose_next_hops(bundle("d"), view, 500), Contraindicated)
    known.plan.add([contact("a", "d", T + 600, T + 700)])
    assert waits(known.choose_next_hops(bundle("d"), view, 500)) == 600


# Where no way is known


def unknown(**changes: Any) -> BundleRecord:
    """To a node of which nothing is known, made here so long ago that it is sprayed."""
    received_ms = int((T - SPRAY_AFTER_S) * 1000)
    return structs.replace(bundle("z"), received_ms=received_ms, **changes)


def sprayed(decision: Forward | Contraindicated) -> bool:
    """Whether neighbours may take copies."""
    return isinstance(decision, Contraindicated) and decision.may_spray


def test_where_no_way_is_known_the_likeliest_neighbours_get_copies_and_the_last_one_stays() -> None:
    known, view = router(), View("los0>b", "los0>c", "los0>d")
    known.hear(node("c"), {node("z"): 0.9}, T)
    known.hear(node("d"), {node("z"): 0.8}, T)
    assert sprayed(known.choose_next_hops(unknown(), view, 0))
    copying = known.choose_copies(unknown(), view, 0, frozenset())
    assert (copying.links, copying.is_kept) == ((link("los0>c"), link("los0>d")), True)
    again = known.choose_copies(unknown(), view, 0, frozenset((node("c"), node("d"))), is_kept=True)
    assert (again.links, again.is_kept) == ((), True)


def test_the_last_copy_goes_when_there_is_a_way_unless_who_is_next_has_one() -> None:
    known, view = router(), View("los0>b", "los0>c")
    served = frozenset((node("b"),))
    known.learn(node("c"), [contact("c", "z", T, T + 900)], 0)
    copying = known.choose_copies(unknown(), view, 0, served, is_kept=True)
    assert (copying.links, copying.is_kept) == ((link("los0>c"),), False)
    known.learn(node("c"), [], 0)
    known.learn(node("b"), [contact("b", "z", T, T + 900)], 0)
    copying = known.choose_copies(unknown(), view, 0, served, is_kept=True)
    assert (copying.links, copying.later, copying.is_kept) == ((), None, False)
    known.forget(node("b"))
    known.plan.add([contact("a", "z", T + 50, T + 60)])
    copying = known.choose_copies(unknown(), view, 0, served, is_kept=True)
    assert (copying.links, copying.later, copying.is_kept) == ((), 50, True), "it waits for its contact"


@pytest.mark.parametrize(
    "changes",
    [
        {"previous_node": node("x")},
        {"size_bytes": SPRAY_MAX_BYTES + 1},
        {"received_ms": int(T * 1000)},
    ],
)
def test_no_copies_of_what_others_brought_nor_of_large_nor_at_once(changes: dict[str, Any]) -> None:
    known, view = router(), View("los0>b")
    record = structs.replace(unknown(), **changes)
    assert not sprayed(known.choose_next_hops(record, view, 0))
    assert known.choose_copies(record, view, 0, frozenset()).links == ()


def test_a_new_bundle_is_asked_about_when_it_may_be_sprayed() -> None:
    record = structs.replace(unknown(), received_ms=int(T * 1000))
    known, view = router(), View("los0>b")
    assert waits(known.choose_next_hops(record, view, 0)) == SPRAY_AFTER_S
    assert sprayed(known.choose_next_hops(record, view, SPRAY_AFTER_S))
    assert waits(known.choose_next_hops(record, View(), 0)) is None, "there is nobody to give it to"


def test_no_copy_to_a_silent_node_nor_where_a_route_is_configured() -> None:
    known, view = router(), View("los0>b")
    known.silence(node("b"), None)
    assert not sprayed(known.choose_next_hops(unknown(), view, 0))
    known.end_silence(node("b"))
    assert sprayed(known.choose_next_hops(unknown(), view, 0))
    known = router(routes=(RouteSettings(None, node("e"), ()),))
    assert not sprayed(known.choose_next_hops(unknown(), view, 0))


def test_a_guess_that_is_not_sure_enough_is_no_way() -> None:
    known, view = router(), View("los0>b")
    guess = contact("a", "z", T + 500, T + 600, confidence=0.5, kind=ContactKind.PREDICTED)
    known.predict([guess])
    assert sprayed(known.choose_next_hops(unknown(), view, 0))
    assert known.choose_copies(unknown(), view, 0, frozenset()).links == (link("los0>b"),)
    kept = known.choose_copies(unknown(), view, 0, frozenset((node("b"),)), is_kept=True)
    assert (kept.links, kept.later, kept.is_kept) == ((), 500, True), "the last copy waits for it"
    known.predict([structs.replace(guess, confidence=0.85)])
    assert not sprayed(known.choose_next_hops(unknown(), view, 0))


def test_a_static_route_that_is_open_is_better_than_a_guess() -> None:
    known = router(routes=(RouteSettings(node("d"), node("b"), ()),))
    known.predict([contact("a", "d", T + 10, T + 50, confidence=0.6, kind=ContactKind.PREDICTED)])
    assert goes(known.choose_next_hops(bundle("d"), View("los0>b"), 0)) == "los0>b"
    assert waits(known.choose_next_hops(bundle("d"), View(), 0)) == 10


# Properties: routers that know the same plan

NAMES = "abcd"
pairs = st.sampled_from([(one, other) for one in NAMES for other in NAMES if one != other])
spans = st.tuples(st.integers(0, 60), st.integers(5, 40))


@st.composite
def plans(draw: st.DrawFn) -> list[Contact]:
    """Contacts of four nodes within a hundred seconds, no two of one link at a time."""
    found: dict[tuple[str, str], float] = {}
    contacts: list[Contact] = []
    for (one, other), (wait_s, length_s) in draw(st.lists(st.tuples(pairs, spans), min_size=1, max_size=12)):
        start_s = found.get((one, other), T) + wait_s + 1
        found[one, other] = start_s + length_s
        contacts.append(contact(one, other, start_s, start_s + length_s, radiates=draw(st.booleans())))
    return contacts


def carry(contacts: list[Contact]) -> tuple[list[str], float]:
    """What becomes of a bundle from a to d when all contacts take place: who had it, and when it was there."""
    routers = {name: router(*contacts, own=name) for name in NAMES}
    here, back, now, had = "a", None, 0.0, ["a"]
    while here != "d":
        view = View()
        for each in contacts:
            if each.sender == node(here) and each.start_s <= T + now < each.end_s:
                view.bring_up(f"los0>{each.receiver.uri[6:-1]}")
        decision = routers[here].choose_next_hops(bundle("d", back=back), view, now)
        if isinstance(decision, Forward):
            now += 1.0
            here, back = decision.links[0].neighbour.uri[6:-1], here
            had.append(here)
            assert len(had) <= len(NAMES), f"a loop: {had}"
        elif decision.wake_at is None or now > 1000:
            return had, math.inf
        else:
            assert decision.wake_at > now, "time goes on"
            now = decision.wake_at
    return had, now


@settings(max_examples=60, deadline=None)
@given(plans())
def test_no_loops_and_what_is_promised_is_kept(contacts: list[Contact]) -> None:
    source = router(*contacts)
    levels = source.ways(bundle("d"), View(), 0)
    had, arrived = carry(contacts)
    assert len(set(had)) == len(had)
    if levels[0]:
        assert arrived <= levels[0][0].arrival_s - T + 1e-6


@settings(max_examples=60, deadline=None)
@given(plans(), st.lists(st.sampled_from([1.0, 0.96, 0.7, 0.4]), min_size=12, max_size=12))
def test_no_loops_where_contacts_are_not_sure(contacts: list[Contact], confidences: list[float]) -> None:
    unsure = [structs.replace(each, confidence=share) for each, share in zip(contacts, confidences, strict=False)]
    had, _ = carry(unsure)
    assert len(set(had)) == len(had)


@settings(max_examples=40, deadline=None)
@given(plans(), st.integers(0, 100))
def test_who_comes_later_is_never_there_earlier(contacts: list[Contact], later_s: int) -> None:
    known = router(*contacts)
    now, then = (known.ways(bundle("d"), View(), 0, T + at) for at in (0, later_s))
    if then[0]:
        assert now[0]
        assert now[0][0].arrival_s <= then[0][0].arrival_s


@settings(max_examples=60, deadline=None)
@given(plans(), st.sampled_from("bc"))
def test_never_out_of_a_silent_node(contacts: list[Contact], silent: str) -> None:
    known = router(*contacts)
    known.silence(node(silent), None)
    for level in known.ways(bundle("d"), View(), 0):
        for way in level:
            assert not any(hop.sender == node(silent) and hop.radiates for hop in way.hops)


@settings(max_examples=60, deadline=None)
@given(plans(), st.sampled_from("abc"), st.lists(st.tuples(st.integers(0, 100), st.integers(1, 50)), max_size=4))
def test_nothing_is_sent_in_a_planned_silence(
    contacts: list[Contact], silent: str, silences: list[tuple[int, int]]
) -> None:
    known = router(*contacts)
    spans = [(T + begin_s, T + begin_s + length_s) for begin_s, length_s in silences]
    known.plan_silence(node(silent), spans)
    for level in known.ways(bundle("d"), View(), 0):
        for way in level:
            for leg in way.legs:
                if leg.contact.sender == node(silent) and leg.contact.radiates:
                    assert not any(leg.begin_s < end_s and leg.sent_s > begin_s for begin_s, end_s in spans)


@settings(max_examples=60, deadline=None)
@given(plans(), st.sets(st.sampled_from(["los0>b", "los0>c", "los0>d"])), st.booleans())
def test_never_over_a_bearer_that_may_not_emit(contacts: list[Contact], up: set[str], is_closed: bool) -> None:
    known, view = router(*contacts), View(*sorted(up))
    view.closed = {"los0"} if is_closed else set()
    now = 0.0
    for _ in range(5):
        decision = known.choose_next_hops(bundle("d"), view, now)
        if isinstance(decision, Forward):
            assert set(decision.links) <= set(view.links())
        elif is_closed:
            assert decision.wake_at is None
        now += REMEMBERED_S
