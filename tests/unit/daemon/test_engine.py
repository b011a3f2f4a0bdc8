# SPDX-License-Identifier: Apache-2.0
"""The engine: commands to ports, results back as events, one event at a time."""

import pytest

from meshd.base.errors import StoreError
from meshd.bundle.codec import build
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, PayloadRef
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.stored_chunk import StoredChunk
from meshd.link.identity import LinkId
from meshd.node import commands as cmd
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


def test_own_bundle_leaves_before_it_is_handed_to_a_store_that_is_prepared() -> None:
    bench = NodeBench()
    bench.store.prepares = True
    up(bench)
    bench.store.queue.clear()
    destination = parse_eid("dtn://home/inbox")
    bench.dispatch(ev.MessageSubmitted(1, INBOX, destination, 1, 1000, True, b"hello", is_last=True))
    assert len(bench.bearers["sat0"].sent) == len(bench.store.queue) == 1
    bench.commit()
    assert len(bench.bearers["sat0"].sent) == 1


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


def test_what_waits_for_the_store_is_told_when_it_is_durable() -> None:
    bench = NodeBench()
    up(bench)
    bench.dispatch(ev.MessageSubmitted(1, INBOX, parse_eid("dtn://home/inbox"), 1, 1000, True, b"hello", is_last=True))
    bench.commit()
    ((sent, _),) = bench.bearers["sat0"].sent
    bench.dispatch(ev.TransfersAcknowledged(LinkId("sat0", parse_eid("dtn://home/")), [sent]))
    assert "message.forwarded" not in [kind for kind, _ in bench.reports]
    bench.commit()
    assert [kind for kind, _ in bench.reports].count("message.forwarded") == 1


def in_pieces(bench: NodeBench, data: bytes) -> None:
    """One transfer on the terrestrial link that comes piece by piece."""
    bench.dispatch(ev.TransferBegun(LAN, "t", len(data)))
    bench.dispatch(ev.TransferPiece(LAN, "t", data[:200]))
    bench.dispatch(ev.TransferPiece(LAN, "t", data[200:]))
    bench.dispatch(ev.TransferEnded(LAN, "t", is_whole=True))


def test_pieces_go_to_the_store_and_give_their_room_back_when_written() -> None:
    bench = NodeBench()
    data = bundle(1, bytes(1000))
    in_pieces(bench, data)
    begin, *writes, finish = bench.store.streamed
    assert isinstance(begin, cmd.BeginStream)
    assert isinstance(finish, cmd.FinishStream)
    assert b"".join(each.data for each in writes if isinstance(each, cmd.WritePiece)) == data
    lan = bench.bearers["lan0"]
    assert lan.released == []
    bench.engine.streamed([(command, None) for command in bench.store.streamed])
    assert lan.released == [("t", 200), ("t", len(data) - 200)]
    assert lan.accepted == []
    row = ev.StoredRow(finish.record.id, PayloadRef(9, 4, len(data)))
    bench.engine.stored([(cmd.WriteStore([finish.record]), [row])])
    assert lan.accepted == ["t"]


def test_a_piece_that_can_t_be_written_refuses_the_transfer() -> None:
    bench = NodeBench()
    in_pieces(bench, bundle(1, bytes(1000)))
    begin, write, _, finish = bench.store.streamed
    assert isinstance(finish, cmd.FinishStream)
    bench.engine.streamed([(begin, None), (write, StoreError("disk full"))])
    assert bench.bearers["lan0"].refused == []  # all of it was there already: the answer to its end counts
    bench.engine.streamed([(finish, StoreError("disk full"))])
    ((transfer, retriable, completed, text),) = bench.bearers["lan0"].refused
    assert (transfer, retriable, completed) == ("t", True, False)
    assert "disk full" in text


def test_a_stream_that_can_t_begin_refuses_the_transfer() -> None:
    bench = NodeBench()
    bench.dispatch(ev.TransferBegun(LAN, "t", 1200))
    bench.dispatch(ev.TransferPiece(LAN, "t", bundle(1, bytes(1000))[:200]))
    bench.engine.streamed([(bench.store.streamed[0], StoreError("disk full"))])
    assert [refusal[0] for refusal in bench.bearers["lan0"].refused] == ["t"]


def test_a_large_bundle_leaves_the_store_in_pieces() -> None:
    bench = NodeBench()
    bench.engine._inline_max_bytes = 1000
    receive(bench, bundle(1, bytes(range(256)) * 200))
    bench.commit()
    up(bench)
    ((sent, chunks),) = bench.bearers["sat0"].rows
    front, bulk = chunks
    assert isinstance(front, bytes)
    assert isinstance(bulk, StoredChunk)
    first, rest = bulk.split(1000)
    second, rest = rest.split(1_000_000)
    assert len(rest) == 0
    header = scan_untrusted(front + first + second)
    assert (header.id, header.hop_count) == (sent, 1)
    bench.store.data.clear()
    with pytest.raises(StoreError):
        bulk.split(1)


def test_a_large_bundle_whose_front_is_unreadable_is_dropped() -> None:
    bench = NodeBench()
    bench.engine._inline_max_bytes = 1000
    receive(bench, bundle(1, bytes(5000)))
    bench.commit()
    bench.store.data.clear()
    up(bench)
    assert bench.agent.entries() == []
