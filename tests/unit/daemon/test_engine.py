# SPDX-License-Identifier: Apache-2.0
"""The engine: commands to ports, results back as events, one event at a time."""

import pytest

from meshd.base.errors import StoreError
from meshd.bundle.codec import build
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId
from meshd.bundle.scan import scan_untrusted
from meshd.node import events as ev
from tests.unit.daemon.node_bench import NodeBench
from tests.unit.node.playbook import HOME, INBOX, LAN, SAT, UTC_OFFSET_MS

SOURCE = parse_eid("dtn://dpop2/inbox")


def bundle(sequence: int, payload: bytes = b"mission data", age_ms: int | None = None, **changes: int) -> bytes:
    """A bundle from dpop2 to home."""
    time_ms = changes.get("time_ms", UTC_OFFSET_MS + 1_000_000)
    return build(SOURCE, HOME, SOURCE.node, 0, time_ms, sequence, 3_600_000, payload, age_ms=age_ms)


def receive(bench: NodeBench, *data: bytes) -> None:
    """Transfers on the terrestrial link."""
    bench.dispatch(ev.BundlesReceived(LAN, [ev.ReceivedRow(f"t{number}", each) for number, each in enumerate(data)]))


def up(bench: NodeBench) -> None:
    """The link home can take much."""
    bench.dispatch(ev.LinkUp(SAT))
    bench.dispatch(ev.LinkWritable(SAT, 10**7))


def test_from_transfer_to_acknowledgement_and_on() -> None:
    bench = NodeBench()
    up(bench)
    receive(bench, bundle(1))
    assert bench.bearers["lan0"].accepted == []
    bench.commit()
    assert bench.bearers["lan0"].accepted == ["t0"]
    ((sent, data),) = bench.bearers["sat0"].sent
    header = scan_untrusted(data)
    assert (header.id, sent) == (scan_untrusted(bundle(1)).id, header.id)
    assert header.previous_node == parse_eid("dtn://dpop1/")
    assert header.hop_count == 1
    bench.dispatch(ev.TransfersAcknowledged(SAT, [sent]))
    assert bench.agent.entries() == []


def test_age_grows_by_the_time_spent_here() -> None:
    bench = NodeBench()
    receive(bench, bundle(1, age_ms=500, time_ms=0))
    bench.commit()
    bench.now += 7
    up(bench)
    ((_, data),) = bench.bearers["sat0"].sent
    assert scan_untrusted(data).age_ms == 7500


def test_read_back_from_the_store_after_waiting() -> None:
    bench = NodeBench()
    receive(bench, bundle(1, b"x" * 50_000))
    bench.commit()
    up(bench)
    ((_, data),) = bench.bearers["sat0"].sent
    assert data.count(b"x" * 50_000) == 1


def test_own_bundle_carries_no_previous_node() -> None:
    bench = NodeBench()
    up(bench)
    destination = parse_eid("dtn://home/inbox")
    bench.dispatch(ev.MessageSubmitted(1, INBOX, destination, 1, 1000, True, b"hello", is_last=True))
    bench.commit()
    ((_, data),) = bench.bearers["sat0"].sent
    assert scan_untrusted(data).previous_node is None


def test_unreadable_is_reported_and_the_others_go() -> None:
    bench = NodeBench()
    receive(bench, bundle(1), bundle(2))
    bench.commit()
    del bench.store.data[1, 1]
    up(bench)
    assert [sent.sequence for sent, _ in bench.bearers["sat0"].sent] == [2]
    reasons = [fields["reason"] for kind, fields in bench.reports if kind == "bundle.deleted"]
    assert reasons == ["nothing is at 1:1"]


def test_nothing_readable_sends_nothing() -> None:
    bench = NodeBench()
    receive(bench, bundle(1))
    bench.commit()
    bench.store.data.clear()
    up(bench)
    assert bench.bearers["sat0"].sent == []
    assert bench.agent.entries() == []


def test_refusals_reach_the_bearer() -> None:
    bench = NodeBench()
    receive(bench, b"junk", bundle(1))
    bench.store.fails = "disk full"
    bench.commit()
    transfers = [
        (transfer, retriable, completed) for transfer, retriable, completed, _ in bench.bearers["lan0"].refused
    ]
    assert transfers == [("t0", False, False), ("t1", True, False)]


def test_results_keep_their_order_when_some_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = NodeBench()
    order: list[str] = []
    handle = bench.agent.handle

    def watch(event: ev.Event, now: float) -> object:
        order.append(type(event).__name__)
        return handle(event, now)

    monkeypatch.setattr(bench.agent, "handle", watch)
    receive(bench, bundle(1))
    receive(bench, bundle(2))
    receive(bench, bundle(3))
    order.clear()
    (first, one), (second, _), (third, three) = bench.store.commit()
    bench.engine.stored([(first, one), (second, StoreError("no")), (third, three)])
    assert order == ["BundlesStored", "StoringFailed", "BundlesStored"]
    bench.engine.stored([])
    assert len(order) == 3


def test_an_event_from_within_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = NodeBench()
    running: list[str] = []

    def answer_at_once(link: object, transfers: object) -> None:
        running.append("begin")
        bench.dispatch(ev.LinkDown(LAN, "cut"))
        running.append("end")

    handle = bench.agent.handle

    def watch(event: ev.Event, now: float) -> object:
        running.append(type(event).__name__)
        return handle(event, now)

    monkeypatch.setattr(bench.agent, "handle", watch)
    monkeypatch.setattr(bench.bearers["lan0"], "accept_transfers", answer_at_once)
    receive(bench, bundle(1))
    bench.commit()
    assert running == ["BundlesReceived", "BundlesStored", "begin", "end", "LinkDown"]


def test_timer_wishes_and_reports_reach_the_shell() -> None:
    bench = NodeBench()
    receive(bench, bundle(1))
    assert bench.timers[-1] is not None
    assert bench.timers[-1] > bench.now
    assert [kind for kind, _ in bench.reports] == ["bundle.received"]


def test_unknown_ids_do_no_harm() -> None:
    bench = NodeBench()
    strange = BundleId(SOURCE, 1, 1)
    bench.dispatch(ev.TransfersAcknowledged(SAT, [strange]))
    bench.dispatch(ev.DataUnreadable([strange], "gone"))
    assert bench.agent.entries() == []
