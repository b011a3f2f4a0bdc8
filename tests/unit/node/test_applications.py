# SPDX-License-Identifier: Apache-2.0
"""Applications: submissions part by part, what a crash or a failure leaves of them, confirmations, delivery reports."""

from collections.abc import Callable
from typing import Any

import pytest

from meshd.base.limits import MESSAGE_SIZE_MAX_BYTES
from meshd.bundle.admin_record import Assertion, ReportReason, StatusReport, decode_admin_record_untrusted
from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import NULL_EID, Eid, parse_eid
from meshd.bundle.record import BundleRecord, Part
from meshd.bundle.scan import scan_untrusted
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.origination import HOP_LIMIT
from meshd.node.status_reports import REPORT_LIFETIME_MIN_MS
from tests.unit.node.playbook import DPOP2, HOME, HOUR_MS, INBOX, LAN, PART_BYTES, SAT, STRANGER, Playbook

FULL = bytes(PART_BYTES)


def refused(play: Playbook) -> str:
    """Text of the one refused submission of the last event."""
    (command,) = [command for command in play.commands if isinstance(command, cmd.SubmissionRefused)]
    return command.text


def put(play: Playbook) -> BundleRecord:
    """The one bundle that the last event put into the store."""
    (group,) = [command for command in play.commands if isinstance(command, cmd.WriteStore)]
    (record,) = group.puts
    return record


# Submission


def test_one_bundle_is_queued_when_it_is_durable() -> None:
    play = Playbook()
    play.up(SAT)
    play.expect(play.submitted(7), "store put own0; note own0=queued creation")
    play.expect(play.stored("own0"), "accepted 7 own0", "send sat0>home own0")
    assert play.kinds == ["message.queued"]
    play.expect(play.submitted(8), "store put own1; note own1=queued")


def test_the_bundle_of_a_message() -> None:
    play = Playbook()
    play.handle(play.submitted(precedence=4))
    record = put(play)
    header = scan_untrusted(record.payload.inline or b"")
    assert (header.id, header.destination, header.precedence) == (record.id, record.destination, 4)
    assert (record.id.source, record.id.time_ms) == (INBOX, play.now_ms)
    assert (header.hop_limit, header.age_ms, header.lifetime_ms) == (HOP_LIMIT, 0, HOUR_MS)
    assert header.flags == record.flags == BundleFlag.REPORT_DELIVERY
    assert (record.previous_node, record.part, record.held, record.by_age) == (None, None, False, False)
    assert record.expiry_ms == play.now_ms + HOUR_MS


def test_without_a_clock_the_creation_time_is_unknown() -> None:
    play = Playbook(clock_trusted=False)
    play.handle(play.submitted(report=False))
    record = put(play)
    assert (record.id.time_ms, record.by_age, record.flags) == (0, True, 0)


def test_parts_are_held_until_the_last_one_is_durable() -> None:
    play = Playbook()
    play.up(SAT)
    play.expect(play.submitted(data=FULL, last=False), "store hold own0; note creation")
    play.expect(play.stored("own0"), "part 1")
    assert play.state("own0") == "held"
    play.expect(play.submitted(data=FULL, last=False), "store hold own1")
    play.expect(play.submitted(data=b"end"), "store put own2; release own0 own1; note own0=queued")
    play.expect(play.stored("own1"), "part 1")
    play.expect(play.stored("own2"), "accepted 1 own0", "send sat0>home own0 own1 own2")
    parts = [play.records[play.id(f"own{number}")].part for number in range(3)]
    first = play.id("own0")
    assert parts == [Part(first.time_ms, first.sequence, index, index * PART_BYTES, index == 2) for index in range(3)]
    message = play.message("own0")
    assert (message.parts, message.size_bytes) == (3, 2 * PART_BYTES + 3)
    flags = [play.records[play.id(f"own{number}")].flags for number in range(3)]
    assert flags == [0, 0, BundleFlag.REPORT_DELIVERY]


def test_two_submissions_at_once() -> None:
    play = Playbook()
    play.handle(play.submitted(1, FULL, last=False))
    play.handle(play.submitted(2, FULL, last=False))
    play.expect(play.submitted(2, b""), "store put own2; release own1; note own1=queued")
    play.expect(play.stored("own0", "own1", "own2"), "part 1", "part 2", "accepted 2 own1")


def test_an_empty_message_is_one() -> None:
    play = Playbook()
    assert play.submit(data=b"") == "own0"
    assert play.message("own0").size_bytes == 0


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"destination": NULL_EID}, "bad_params", "nobody would get"),
        ({"destination": HOME}, "bad_params", "such as dtn://home/inbox"),
        ({"data": b"short", "last": False}, "bad_params", "10 bytes"),
        ({"data": bytes(2_000_000)}, "store_full", "the store is full"),
    ],
)
def test_refused_at_once(changes: dict[str, Any], code: str, text: str) -> None:
    play = Playbook()
    play.expect(play.submitted(**changes), f"refused 1 {code}")
    assert text in refused(play)
    play.expect(ev.SubmissionAborted(1))


def test_full_duplicate_memory_refuses() -> None:
    play = Playbook(known_max=1)
    play.submit()
    play.expect(play.submitted(2), "refused 2 store_full")


def test_too_large(set_limit: Callable[[str, int], None]) -> None:
    assert MESSAGE_SIZE_MAX_BYTES > 2 * PART_BYTES
    set_limit("meshd.node.applications.MESSAGE_SIZE_MAX_BYTES", 2 * PART_BYTES)
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.submitted(data=FULL, last=False))
    play.expect(play.submitted(data=b"x"), "store delete own0 own1", "refused 1 too_large")


def test_a_refusal_forgets_the_parts_before() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.stored("own0"))
    play.expect(play.submitted(data=b"odd", last=False), "store delete own0", "refused 1 bad_params")
    assert play.agent.entries() == []


def test_abort_forgets_everything() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.stored("own0"))
    play.handle(play.submitted(data=FULL, last=False))
    play.expect(ev.SubmissionAborted(1), "store delete own0 own1")
    play.expect(play.stored("own1"))
    play.expect(ev.SubmissionAborted(1))


def test_abort_after_the_last_part_is_too_late() -> None:
    play = Playbook()
    play.handle(play.submitted())
    play.expect(ev.SubmissionAborted(1))
    play.expect(play.stored("own0"), "accepted 1 own0")


def test_store_failure_of_a_part_refuses_the_message() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.stored("own0"))
    play.handle(play.submitted(data=FULL, last=False))
    play.expect(play.not_stored("own1"), "store delete own0", "refused 1 store_full")
    assert "disk full" in refused(play)
    assert play.agent.entries() == []


def test_store_failure_of_the_last_part_takes_the_message_back() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.stored("own0"))
    play.handle(play.submitted(data=b"end"))
    play.expect(play.not_stored("own1"), "store delete own0; note own0=forgotten", "refused 1 store_full")
    assert list(play.agent.messages.all()) == []


def test_store_failure_of_an_early_part_after_the_last_one_was_handed_over() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.submitted(data=b"end"))
    play.expect(play.not_stored("own0"), "store delete own1; note own0=forgotten", "refused 1 store_full")
    play.expect(play.stored("own1"))
    play.expect(play.not_stored("own1"))


def test_expired_before_it_was_stored_is_refused() -> None:
    play = Playbook()
    play.handle(play.submitted(lifetime_ms=1))
    play.fire("store delete own0; note own0=forgotten", "refused 1 failed")
    assert "lifetime expired" in refused(play)
    play.expect(play.stored("own0"))


def test_a_held_part_that_is_cancelled_ends_the_submission() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.stored("own0"))
    play.handle(play.submitted(data=FULL, last=False))
    play.expect(ev.BundleCancelled(play.id("own0"), "uid 0"), "store delete own0 own1", "refused 1 failed")
    assert "cancelled by uid 0" in refused(play)
    assert play.agent.entries() == []


def test_a_held_part_that_can_not_be_read_ends_the_submission() -> None:
    play = Playbook()
    play.handle(play.submitted(data=FULL, last=False))
    play.handle(play.stored("own0"))
    play.expect(ev.DataUnreadable([play.id("own0")], "damaged"), "store delete own0", "refused 1 failed")


# Delivery


def test_a_message_to_this_node_is_offered_here() -> None:
    play = Playbook()
    play.handle(ev.ReceiverAttached(1, INBOX))
    play.handle(play.submitted(destination=INBOX))
    play.expect(play.stored("own0"), "accepted 1 own0", "deliver 1 own0")
    play.expect(play.confirmed(1, "own0"), "store delete own0; note own0=delivered")
    assert play.kinds == ["message.delivered"]


def test_what_an_offer_tells() -> None:
    play = Playbook()
    play.bundle("p0", INBOX, part=Part(77, 3, 0, 0, False), precedence=4, lifetime_ms=2 * HOUR_MS)
    play.bundle("p1", INBOX, part=Part(77, 3, 1, 2, True), precedence=4)
    play.take_in("p1", "p0")
    play.handle(ev.ReceiverAttached(1, INBOX))
    (offer,) = [command for command in play.commands if isinstance(command, cmd.DeliverMessage)]
    assert (offer.message.time_ms, offer.message.sequence, offer.created_ms) == (77, 3, 77)
    assert (offer.source, offer.destination, offer.precedence) == (play.id("p0").source, INBOX, 4)
    assert offer.expiry_ms == play.now_ms + HOUR_MS
    assert [part.offset_bytes for part in offer.parts] == [0, 2]
    assert [part.payload.segment for part in offer.parts] == [3, 3]


def test_detached_receiver_leaves_the_message_to_the_next() -> None:
    play = Playbook()
    play.bundle("a", INBOX)
    play.take_in("a")
    play.expect(ev.ReceiverAttached(1, INBOX), "deliver 1 a")
    play.expect(ev.ReceiverDetached(1))
    play.expect(play.confirmed(1, "a"))
    play.expect(ev.ReceiverAttached(2, INBOX), "deliver 2 a")
    play.expect(play.confirmed(2, "a"), "store delete a")


# Delivery reports


def deliver_with_report(play: Playbook, **changes: Any) -> list[str]:
    """Receive and confirm a message that asks for a report."""
    play.handle(ev.ReceiverAttached(1, INBOX))
    play.bundle("a", INBOX, **({"flags": BundleFlag.REPORT_DELIVERY} | changes))
    play.take_in("a", link=LAN)
    return play.handle(play.confirmed(1, "a"))


def test_a_mission_node_gets_its_report_with_the_deletion() -> None:
    play = Playbook()
    play.up(LAN)
    assert deliver_with_report(play, precedence=3) == ["store put own0; delete a; note creation"]
    record = put(play)
    assert (record.destination, record.precedence, record.flags) == (DPOP2, 3, BundleFlag.IS_ADMIN_RECORD)
    assert record.expiry_ms == play.now_ms + REPORT_LIFETIME_MIN_MS
    data = record.payload.inline or b""
    header = scan_untrusted(data)
    report = decode_admin_record_untrusted(data[header.payload_offset : header.payload_offset + header.payload_size])
    assert isinstance(report, StatusReport)
    assert (report.subject, report.delivered.is_asserted) == (play.id("a"), True)
    play.expect(play.stored("own0"), "send lan0>dpop2 own0")
    play.expect(play.acknowledged(LAN, "own0"), "store delete own0")


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": 0},
        {"source": parse_eid("dtn://stranger/inbox")},
        {"source": NULL_EID, "flags": BundleFlag.REPORT_DELIVERY | BundleFlag.MUST_NOT_FRAGMENT},
        {"source": INBOX},
    ],
    ids=["not asked for", "a stranger", "nobody", "ourselves"],
)
def test_no_report(changes: dict[str, Any]) -> None:
    play = Playbook()
    if changes.get("source") is NULL_EID:
        changes = {"flags": BundleFlag.MUST_NOT_FRAGMENT, "source": NULL_EID}
    assert deliver_with_report(play, **changes) == ["store delete a"]


def test_mission_nodes_can_change() -> None:
    play = Playbook()
    router = play.agent.forwarding.router
    play.agent.reconfigure(play.settings, (), router, frozenset((STRANGER,)), play.now)
    assert deliver_with_report(play) == ["store delete a"]
    assert deliver_with_report(play, source=parse_eid("dtn://stranger/x")) == ["store delete a"]
    stranger = {"source": parse_eid("dtn://stranger/x"), "report_to": STRANGER}
    assert deliver_with_report(play, **stranger)[0].startswith("store put own0; delete a")


def test_a_report_that_can_not_be_stored_is_lost_alone() -> None:
    play = Playbook()
    deliver_with_report(play)
    play.expect(play.not_stored("own0"))
    assert play.agent.entries() == []


def forwarded(play: Playbook) -> str:
    """A message of ours that has left."""
    play.up(SAT)
    name = play.submit()
    play.handle(play.acknowledged(SAT, name))
    assert play.message(name).state.value == "forwarded"
    return name


def test_a_report_moves_the_message_in_the_group_that_takes_it_in() -> None:
    play = Playbook()
    name = forwarded(play)
    play.report_of("r", name)
    play.expect(play.received(SAT, "r"), "store put r; note own0=delivered")
    assert "message.delivered" in play.kinds
    play.expect(play.stored("r"), "store delete r", "accept sat0>home r")
    assert play.message(name).is_final


@pytest.mark.parametrize("source", [DPOP2, STRANGER])
def test_a_report_of_anybody_but_the_destination_is_ignored(source: Eid) -> None:
    play = Playbook()
    name = forwarded(play)
    play.report_of("r", name, source)
    play.expect(play.received(SAT, "r"), "store put r")
    assert "report.unknown" in play.kinds
    assert play.message(name).state.value == "forwarded"


def test_a_report_about_something_else_or_nothing_is_ignored() -> None:
    play = Playbook()
    name = forwarded(play)
    play.bundle("foreign")
    play.report_of("r", "foreign")
    play.expect(play.received(SAT, "r"), "store put r")
    assert "report.unknown" in play.kinds
    play.report_of("r2", name, received=Assertion(is_asserted=True))
    play.expect(play.received(SAT, "r2"), "store put r2")
    assert play.message(name).state.value == "forwarded"


@pytest.mark.parametrize(
    ("reason", "state"),
    [(ReportReason.LIFETIME_EXPIRED, "expired"), (ReportReason.DEPLETED_STORAGE, "refused")],
)
def test_a_report_of_deletion(reason: ReportReason, state: str) -> None:
    play = Playbook()
    name = forwarded(play)
    play.report_of("r", name, deleted=Assertion(is_asserted=True), reason=reason)
    play.expect(play.received(SAT, "r"), f"store put r; note own0={state}")
    assert play.message(name).reason == "reported by dtn://home/"
    play.report_of("r2", name)
    play.expect(play.received(SAT, "r2"), "store put r2; note own0=delivered")
    play.report_of("r3", name, deleted=Assertion(is_asserted=True), reason=reason)
    play.expect(play.received(SAT, "r3"), "store put r3")


def test_malformed_administrative_record() -> None:
    play = Playbook()
    play.bundle("r", parse_eid("dtn://dpop1/"), source=HOME, flags=BundleFlag.IS_ADMIN_RECORD, payload=b"\xff")
    play.expect(play.received(SAT, "r"), "store put r")
    assert "report.malformed" in play.kinds
    play.expect(play.stored("r"), "store delete r", "accept sat0>home r")


def test_administrative_record_for_another_node_is_none_of_ours() -> None:
    play = Playbook()
    name = forwarded(play)
    play.report_of("r", name)
    play.bundle("passing", HOME, source=DPOP2, flags=BundleFlag.IS_ADMIN_RECORD, payload=b"\xff")
    play.expect(play.received(LAN, "passing"), "store put passing")
    assert play.kinds == ["bundle.received"]


def test_several_messages_are_one_group_of_the_store() -> None:
    play = Playbook()
    play.up(SAT)
    first, second = play.submitted(1), play.submitted(2)
    play.expect(ev.MessagesSubmitted([first, second]), "store put own0 own1; note own0=queued own1=queued creation")
    lines = play.handle(play.stored("own0", "own1"))
    assert lines[-1] == "send sat0>home own0 own1"
