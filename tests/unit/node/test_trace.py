# SPDX-License-Identifier: Apache-2.0
"""The trace service: who reports what to whom, how often at most, and what gets no report."""

import pytest

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.eid import parse_eid
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.trace_report import TraceReport, decode_trace_report_untrusted
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.trace import REPORTS_BURST, REPORTS_PER_S, is_trace, trace_endpoint
from meshd.routing.settings import RouteSettings
from tests.unit.node.playbook import DPOP2, HOME, LAN, NODE, SAT, STRANGER, Playbook

ASKER = parse_eid("dtn://dpop2/trace-0011")
HOME_TRACE = parse_eid("dtn://home/trace")
OWN_TRACE = parse_eid("dtn://dpop1/trace")


def reports(play: Playbook) -> list[tuple[str, TraceReport]]:
    """What the last event made it report: to whom, and what."""
    puts = [put for each in play.commands if isinstance(each, cmd.WriteStore) for put in each.puts]
    found = []
    for put in puts:
        if put.id.source == OWN_TRACE:
            data = play.data[play.name_of(put.id)]
            header = scan_untrusted(data)
            payload = data[header.payload_offset : header.payload_offset + header.payload_size]
            found.append((put.destination.uri, decode_trace_report_untrusted(payload)))
    return found


def test_each_node_on_the_way_reports_once() -> None:
    play = Playbook()
    play.up(LAN, SAT)
    play.bundle("a", HOME_TRACE, source=ASKER, age_ms=450)
    created_ms = play.now_ms
    play.later(0.9)
    play.handle(play.received(LAN, "a"))
    subject = play.id("a")
    report = TraceReport(created_ms, subject.sequence, DPOP2.uri, "lan0", created_ms + 900, 450, is_last=False)
    assert reports(play) == [(ASKER.uri, report)]
    assert play.handle(play.stored("a", "own0")) == ["accept lan0>dpop2 a", "send sat0>home a", "send lan0>dpop2 own0"]
    play.handle(play.received(LAN, "a"))
    assert reports(play) == []


def test_its_destination_reports_and_keeps_nothing() -> None:
    play = Playbook()
    play.up(LAN)
    play.bundle("a", OWN_TRACE, source=ASKER, age_ms=0)
    lines = play.handle(play.received(LAN, "a"))
    assert lines[-1] == "accept lan0>dpop2 a"
    assert [said.is_last for _, said in reports(play)] == [True]
    assert play.state("a") is None
    play.handle(play.received(LAN, "a"))
    assert reports(play) == []


def test_from_here_to_here() -> None:
    play = Playbook()
    play.handle(ev.ReceiverAttached(1, parse_eid("dtn://dpop1/trace-1")))
    play.handle(
        ev.MessageSubmitted(1, parse_eid("dtn://dpop1/trace-1"), OWN_TRACE, 1, 10_000, False, b"x", is_last=True)
    )
    play.handle(play.stored("own0"))
    ((to, said),) = reports(play)
    assert (to, said.previous_node, said.bearer, said.is_last) == ("dtn://dpop1/trace-1", "", "", True)


@pytest.mark.parametrize(
    ("source", "flags"),
    [
        (STRANGER, 0),
        (parse_eid("dtn://dpop2/trace"), 0),
        (parse_eid("dtn:none"), BundleFlag.MUST_NOT_FRAGMENT),
        (DPOP2, BundleFlag.IS_ADMIN_RECORD),
    ],
)
def test_who_gets_no_report(source: object, flags: int) -> None:
    play = Playbook()
    play.up(LAN, SAT)
    play.bundle("a", HOME_TRACE, source=source, flags=flags)
    play.handle(play.received(LAN, "a"))
    assert reports(play) == []


def test_how_often_is_bounded() -> None:
    play = Playbook(known_max=10_000)
    play.up(LAN, SAT)
    names = [f"a{number}" for number in range(2 * REPORTS_BURST)]
    for name in names:
        play.bundle(name, HOME_TRACE, source=ASKER)
    play.handle(play.received(LAN, *names))
    assert len(reports(play)) == REPORTS_BURST
    play.later(1.0)
    more = [f"b{number}" for number in range(REPORTS_BURST)]
    for name in more:
        play.bundle(name, HOME_TRACE, source=ASKER)
    play.handle(play.received(LAN, *more))
    assert len(reports(play)) == REPORTS_PER_S


def test_names() -> None:
    assert trace_endpoint(NODE) == OWN_TRACE
    assert trace_endpoint(parse_eid("ipn:3.0")) == parse_eid("ipn:3.8")
    assert is_trace(parse_eid("ipn:3.8"))
    assert not is_trace(parse_eid("ipn:3.7"))
    assert not is_trace(ASKER)


def test_two_nodes_on_the_way_tell_all_of_a_hop() -> None:
    """The age that the next node reports holds what the bundle waited here."""
    play = Playbook(routes=(RouteSettings(HOME, DPOP2, ()),))
    play.bundle("a", HOME_TRACE, source=ASKER, age_ms=100)
    play.up(LAN)
    play.handle(play.received(LAN, "a"))
    ((_, said),) = reports(play)
    assert said.age_ms == 100
