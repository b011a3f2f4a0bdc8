# SPDX-License-Identifier: Apache-2.0
"""Status reports (RFC 9171 section 6.1): the four assertions, their reasons, and who gets none."""

from typing import Any

import pytest

from meshd.bundle.admin_record import ReportReason, StatusReport, decode_admin_record_untrusted
from meshd.bundle.blocks import BlockFlag, Bundle, BundleFlag, CanonicalBlock
from meshd.bundle.codec import decode_untrusted, encode
from meshd.bundle.eid import NULL_EID, parse_eid
from meshd.bundle.fragment import fragment
from meshd.bundle.scan import scan_untrusted
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.settings import ReportKind
from meshd.node.status_reports import OTHER_REPORTS_BURST, OTHER_REPORTS_PER_S
from tests.unit.node.playbook import HOUR_MS, INBOX, LAN, NODE, SAT, STRANGER, Playbook

ALL = frozenset(ReportKind)
FLAGS = {
    ReportKind.RECEPTION: BundleFlag.REPORT_RECEPTION,
    ReportKind.FORWARDING: BundleFlag.REPORT_FORWARDING,
    ReportKind.DELIVERY: BundleFlag.REPORT_DELIVERY,
    ReportKind.DELETION: BundleFlag.REPORT_DELETION,
}
ANY = BundleFlag.REPORT_RECEPTION | BundleFlag.REPORT_FORWARDING | BundleFlag.REPORT_DELETION


def reports(play: Playbook) -> list[tuple[str, StatusReport]]:
    """(report-to, report) of what the last event has put."""
    found = []
    for command in play.commands:
        for record in command.puts if isinstance(command, cmd.WriteStore) else ():
            assert record.payload.inline is not None
            if record.id.source == NODE:
                report = decode_admin_record_untrusted(decode_untrusted(record.payload.inline).payload)
                assert isinstance(report, StatusReport)
                found.append((record.destination.uri, report))
    return found


def with_unknown_block(play: Playbook, name: str, block_flags: BlockFlag, **changes: Any) -> None:
    """A bundle with a block of a type that nobody knows."""
    bundle = decode_untrusted(play.bundle(name, **changes))
    block = CanonicalBlock(230, 20, b"?", int(block_flags))
    data = encode(Bundle(bundle.primary, (block, *bundle.blocks)))
    play.data[name] = data
    play.name(name, scan_untrusted(data).id)


def happen(play: Playbook, kind: ReportKind, **changes: Any) -> list[tuple[str, StatusReport]]:
    """Let happen to a bundle what this kind reports, and return the reports."""
    destination = INBOX if kind is ReportKind.DELIVERY else parse_eid("dtn://home/inbox")
    play.bundle("a", destination, **({"flags": FLAGS[kind]} | changes))
    if kind is ReportKind.DELIVERY:
        play.handle(ev.ReceiverAttached(1, INBOX))
        play.take_in("a")
        play.handle(play.confirmed(1, "a"))
    elif kind is ReportKind.RECEPTION:
        play.handle(play.received(LAN, "a"))
    elif kind is ReportKind.FORWARDING:
        play.up(SAT)
        play.take_in("a")
        play.handle(play.acknowledged(SAT, "a"))
    else:
        play.take_in("a")
        play.later(HOUR_MS / 1000 + 1)
        play.handle(ev.TimerFired())
    return reports(play)


@pytest.mark.parametrize("kind", list(ReportKind))
def test_each_assertion(kind: ReportKind) -> None:
    play = Playbook(status_reports=ALL)
    ((report_to, report),) = happen(play, kind, report_to=parse_eid("dtn://home/reports"))
    assert report_to == "dtn://home/reports"
    assert report.subject == play.id("a")
    assertions = (report.received, report.forwarded, report.delivered, report.deleted)
    assert [each.is_asserted for each in assertions] == [each is kind for each in ReportKind]
    assert {each.time_ms for each in assertions} == {None}
    expected = ReportReason.LIFETIME_EXPIRED if kind is ReportKind.DELETION else ReportReason.NO_INFORMATION
    assert report.reason == expected


@pytest.mark.parametrize("kind", list(ReportKind))
def test_only_delivery_by_default(kind: ReportKind) -> None:
    assert len(happen(Playbook(), kind)) == (kind is ReportKind.DELIVERY)


@pytest.mark.parametrize("kind", list(ReportKind))
def test_none_of_it_without_the_setting(kind: ReportKind) -> None:
    assert happen(Playbook(status_reports=ALL - {kind}), kind) == []


@pytest.mark.parametrize("kind", list(ReportKind))
@pytest.mark.parametrize(
    "changes",
    [
        {"source": parse_eid("dtn://stranger/x")},
        {"report_to": STRANGER},
        {"report_to": NULL_EID},
        {"source": parse_eid("dtn://dpop1/x"), "report_to": NODE},
    ],
    ids=["a stranger's", "to a stranger", "to nobody", "our own"],
)
def test_never(kind: ReportKind, changes: dict[str, Any]) -> None:
    assert happen(Playbook(status_reports=ALL), kind, **changes) == []


def test_the_time_only_when_it_is_asked_for() -> None:
    play = Playbook(status_reports=ALL)
    flags = BundleFlag.REPORT_RECEPTION | BundleFlag.STATUS_TIME_REQUESTED
    ((_, report),) = happen(play, ReportKind.RECEPTION, flags=flags)
    assert report.received.time_ms == play.now_ms
    blind = Playbook(status_reports=ALL, clock_trusted=False)
    ((_, report),) = happen(blind, ReportKind.RECEPTION, flags=flags, age_ms=0)
    assert report.received.time_ms == 0


def test_a_fragment_is_named_as_one() -> None:
    play = Playbook(status_reports=ALL)
    play.bundle("b", flags=BundleFlag.REPORT_RECEPTION, payload=bytes(500))
    play.data["b"] = fragment(play.data["b"], scan_untrusted(play.data["b"]), 300)[1]
    play.name("b", scan_untrusted(play.data["b"]).id)
    play.handle(play.received(LAN, "b"))
    ((_, report),) = reports(play)
    assert report.subject == play.id("b")
    assert report.subject.fragment_offset > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hop_limit": 1, "lifetime_ms": 0}, ReportReason.LIFETIME_EXPIRED),
        ({"destination": NULL_EID}, ReportReason.DESTINATION_UNAVAILABLE),
    ],
)
def test_reasons_of_what_is_dropped_on_arrival(changes: dict[str, Any], reason: ReportReason) -> None:
    play = Playbook(status_reports=ALL)
    play.bundle("a", **({"flags": ANY} | changes))
    play.handle(play.received(LAN, "a"))
    assert [(report.received.is_asserted, report.deleted.is_asserted) for _, report in reports(play)] == [
        (True, False),
        (False, True),
    ]
    assert reports(play)[1][1].reason == reason


def test_reason_of_a_cancelled_bundle() -> None:
    play = Playbook(status_reports=ALL)
    play.bundle("a", flags=ANY)
    play.take_in("a")
    play.handle(ev.BundleCancelled(play.id("a"), "uid 0"))
    ((_, report),) = reports(play)
    assert report.reason == ReportReason.TRANSMISSION_CANCELED


@pytest.mark.parametrize(
    ("flags", "is_kept", "kinds"),
    [
        (BlockFlag.REPORT_IF_UNPROCESSABLE, True, ["received"]),
        (BlockFlag.DELETE_BUNDLE_IF_UNPROCESSABLE, False, ["deleted"]),
        (BlockFlag.REPORT_IF_UNPROCESSABLE | BlockFlag.DELETE_BUNDLE_IF_UNPROCESSABLE, False, ["received", "deleted"]),
        (BlockFlag.DISCARD_IF_UNPROCESSABLE, True, []),
        (BlockFlag(0), True, []),
    ],
)
def test_blocks_that_can_not_be_processed(flags: BlockFlag, is_kept: bool, kinds: list[str]) -> None:
    play = Playbook(status_reports=ALL)
    with_unknown_block(play, "a", flags, flags=BundleFlag.REPORT_DELETION)
    play.handle(play.received(LAN, "a"))
    assert (play.agent.entry(play.id("a")) is not None) == is_kept
    told = ["received" if report.received.is_asserted else "deleted" for _, report in reports(play)]
    assert told == kinds
    assert {report.reason for _, report in reports(play)} <= {ReportReason.BLOCK_UNSUPPORTED}


def test_never_about_an_administrative_record() -> None:
    play = Playbook(status_reports=ALL)
    with_unknown_block(play, "a", BlockFlag.REPORT_IF_UNPROCESSABLE, flags=BundleFlag.IS_ADMIN_RECORD)
    play.handle(play.received(LAN, "a"))
    assert reports(play) == []


def test_not_too_many() -> None:
    play = Playbook(status_reports=ALL, known_max=10_000)
    names = [f"b{number}" for number in range(OTHER_REPORTS_BURST + 5)]
    for name in names:
        play.bundle(name, flags=BundleFlag.REPORT_RECEPTION)
    play.handle(play.received(LAN, *names))
    assert len(reports(play)) == OTHER_REPORTS_BURST
    assert play.agent._reports.suppressed == 5
    play.later(3.5 / OTHER_REPORTS_PER_S)
    names = [f"c{number}" for number in range(5)]
    for name in names:
        play.bundle(name, flags=BundleFlag.REPORT_RECEPTION)
    play.handle(play.received(LAN, *names))
    assert len(reports(play)) == 3


def test_a_full_store_makes_none_but_delivery_reports() -> None:
    play = Playbook(status_reports=ALL, quota_bytes=1000)
    play.bundle("x", payload=bytes(600))
    play.take_in("x")
    play.bundle("a", flags=BundleFlag.REPORT_RECEPTION)
    play.handle(play.received(LAN, "a"))
    assert reports(play) == []
    assert play.agent._reports.suppressed == 1


def test_records_of_unknown_types_are_counted_and_ignored() -> None:
    play = Playbook()
    play.bundle("a", NODE, flags=BundleFlag.IS_ADMIN_RECORD, payload=b"\x82\x19\xfc\x00\xa0")
    play.expect(play.received(LAN, "a"), "store put a")
    assert play.kinds[0] == "report.ignored"
    assert play.reports[0].fields["type"] == "private use (64512)"
    assert play.agent._reports.unknown_records == 1
    play.expect(play.stored("a"), "store delete a", "accept lan0>dpop2 a")


def test_a_bundle_keeps_its_report_to_over_a_restart() -> None:
    play = Playbook(status_reports=ALL)
    play.bundle("a", flags=ANY, report_to=parse_eid("dtn://home/reports"), source=parse_eid("dtn://dpop2/x"))
    play.take_in("a")
    record = play.records[play.id("a")]
    assert record.report_to == parse_eid("dtn://home/reports")
    play.bundle("b")
    play.take_in("b")
    assert play.records[play.id("b")].report_to is None
