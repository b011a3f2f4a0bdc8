# SPDX-License-Identifier: Apache-2.0
"""The TCP bearer on the loopback device: links, transfers, credit, silence, bad peers. Needs root for SO_MARK."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import trio

from meshd.base.errors import LocalProtocolError
from meshd.bearer import sockets
from meshd.bearer.connection import accept, refuse
from meshd.bearer.link import WINDOW_MAX_BYTES
from meshd.bearer.sessions import SESSIONS_PER_LINK_MAX
from meshd.bearer.tcp import PENDING_MAX, TcpBearer
from meshd.bundle.eid import Eid
from meshd.bundle.record import BundleId
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.incoming import UNANSWERED_MAX_BYTES
from meshd.cl.tcpclv4.messages import RefuseReason
from meshd.cl.tcpclv4.outgoing import IN_FLIGHT_MAX
from meshd.link.settings import BearerSettings, NeighbourSettings
from meshd.node.events import (
    BundlesReceived,
    Event,
    LinkDown,
    LinkUp,
    LinkWritable,
    TransfersAcknowledged,
    TransfersFailed,
)
from tests.unit.bearer.tcp_peers import (
    ALPHA,
    BRAVO,
    CHARLIE,
    PATIENCE_S,
    Peer,
    Recorder,
    make_bearer,
    make_id,
    make_link,
    make_plain_listener,
    make_settings,
)

pytestmark = pytest.mark.root


Dial = Callable[[str | None, Eid], Awaitable[Peer]]


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Makes peers of the test's own; their sockets are closed at its end."""
    peers: list[Peer] = []

    async def dial_one(address: str | None, node: Eid) -> Peer:
        peers.append(await Peer.dial(address, node))
        return peers[-1]

    yield dial_one
    for peer in peers:
        await trio.aclose_forcefully(peer.stream)


async def start(nursery: trio.Nursery, bearer: TcpBearer) -> TcpBearer:
    await nursery.start(bearer.run)
    return bearer


async def test_two_bearers_carry_bundles_both_ways(nursery: trio.Nursery) -> None:
    at_bravo, at_alpha = Recorder(), Recorder()
    bravo = await start(nursery, make_bearer(at_bravo, BRAVO, {ALPHA: None}))
    alpha = await start(nursery, make_bearer(at_alpha, ALPHA, {BRAVO: bravo.bound_address}, make_settings(None)))
    assert (await at_alpha.wait_for(LinkUp))[0].link == make_link(BRAVO)
    assert (await at_bravo.wait_for(LinkUp))[0].link == make_link(ALPHA)
    bodies = [b"small", b"x" * 1_500_000, b""]
    alpha.send_bundles(make_link(BRAVO), [(make_id(n), [body]) for n, body in enumerate(bodies)])
    bravo.send_bundles(make_link(ALPHA), [(make_id(9), [b"ba", b"ck"])])

    def rows(recorder: Recorder) -> list[tuple[object, bytes]]:
        return [(row.transfer, row.data) for event in recorder.all(BundlesReceived) for row in event.rows]

    await at_bravo.until(lambda: len(rows(at_bravo)) == 3)
    await at_alpha.until(lambda: len(rows(at_alpha)) == 1)
    assert [data for _, data in rows(at_bravo)] == bodies
    assert rows(at_alpha)[0][1] == b"back"
    assert at_alpha.all(TransfersAcknowledged) == []  # nothing is durable yet
    accept([transfer for transfer, _ in rows(at_bravo)])
    acknowledged = await at_alpha.wait_for(TransfersAcknowledged)
    assert [i for event in acknowledged for i in event.ids] == [make_id(0), make_id(1), make_id(2)]
    (figures,) = alpha.snapshot()
    assert (figures["state"], figures["sent_bundles"], figures["received_bundles"]) == ("up", 3, 1)
    assert figures["in_flight_bundles"] == 0


async def test_shutdown_says_goodbye_and_the_neighbour_sees_the_link_go_down(nursery: trio.Nursery) -> None:
    at_bravo, at_alpha = Recorder(), Recorder()
    bravo = await start(nursery, make_bearer(at_bravo, BRAVO, {ALPHA: None}))
    alpha = await start(nursery, make_bearer(at_alpha, ALPHA, {BRAVO: bravo.bound_address}, make_settings(None)))
    await at_alpha.wait_for(LinkUp)
    await at_bravo.wait_for(LinkUp)
    with trio.fail_after(PATIENCE_S):
        await alpha.shutdown()
    (down,) = await at_bravo.wait_for(LinkDown)
    assert down.reason == "terminated: the peer ended the session: unknown"
    assert bravo.snapshot()[0]["state"] == "down"
    await bravo.shutdown()


async def test_refusals_come_back_with_their_meaning(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    await recorder.wait_for(LinkUp)
    bearer.send_bundles(make_link(ALPHA), [(make_id(n), [b"x"]) for n in range(3)])
    await peer.until(lambda: len(peer.received) == 3)
    peer.session.refuse(0, RefuseReason.COMPLETED)
    peer.session.refuse(1, RefuseReason.NO_RESOURCES)
    peer.session.refuse(2, RefuseReason.NOT_ACCEPTABLE)
    await peer.flush()
    failed = await recorder.wait_for(TransfersFailed, 3)
    outcomes = [(event.ids[0], event.reason.completed, event.reason.retriable) for event in failed]
    assert outcomes == [(make_id(0), True, False), (make_id(1), False, True), (make_id(2), False, False)]
    assert not any(event.reason.session_ended for event in failed)


async def test_our_refusals_reach_the_peer(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    await peer.send([b"a", b"b", b"c"])
    await recorder.until(lambda: sum(len(event.rows) for event in recorder.all(BundlesReceived)) == 3)
    transfers = [row.transfer for event in recorder.all(BundlesReceived) for row in event.rows]
    refuse(transfers[0], retriable=True, completed=False)
    refuse(transfers[1], retriable=False, completed=True)
    refuse(transfers[2], retriable=False, completed=False)
    await peer.until(lambda: len([event for event in peer.events if isinstance(event, cl.TransferRefused)]) == 3)
    reasons = [event.reason for event in peer.events if isinstance(event, cl.TransferRefused)]
    assert reasons == [RefuseReason.NO_RESOURCES, RefuseReason.COMPLETED, RefuseReason.NOT_ACCEPTABLE]


async def test_ended_session_fails_what_was_in_flight_before_the_link_goes_down(
    nursery: trio.Nursery, dial: Dial
) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    await recorder.wait_for(LinkUp)
    bearer.send_bundles(make_link(ALPHA), [(make_id(n), [b"x"]) for n in range(3)])
    await peer.until(lambda: len(peer.received) == 3)
    peer.session.acknowledge([1])
    await peer.flush()
    await peer.stream.aclose()
    await recorder.wait_for(LinkDown)
    (failed,) = recorder.all(TransfersFailed)
    assert list(failed.ids) == [make_id(0), make_id(2)]
    assert failed.reason.retriable
    assert failed.reason.session_ended
    kinds = [type(event) for event in recorder.events if isinstance(event, TransfersFailed | LinkDown)]
    assert kinds == [TransfersFailed, LinkDown]


async def test_sending_on_a_link_that_is_down_fails_later_not_inside_the_call(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    bearer.send_bundles(make_link(ALPHA), [(make_id(1), [b"x"])])
    assert recorder.events == []
    (failed,) = await recorder.wait_for(TransfersFailed)
    assert (list(failed.ids), failed.reason.retriable) == ([make_id(1)], True)
    with pytest.raises(LocalProtocolError, match="has no link"):
        bearer.send_bundles(make_link(CHARLIE), [])


async def test_stranger_is_turned_away_and_named(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    stranger = await dial(bearer.bound_address, CHARLIE)
    await stranger.read_all()
    fields = await recorder.wait_for_report("session.refused")
    assert "dtn://charlie/ is not welcome here" in str(fields["reason"])
    assert recorder.all(LinkUp) == []
    assert isinstance(stranger.events[-1], cl.SessionEnded)


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"dtn!\x03\x00\x00\x00", b"\xff" * 4096])
async def test_noise_ends_its_own_session_only(nursery: trio.Nursery, dial: Dial, noise: bytes) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    intruder = await dial(bearer.bound_address, CHARLIE)
    await intruder.stream.send_all(noise)
    await recorder.wait_for_report("session.refused")
    await peer.send([b"still here"])
    await recorder.wait_for(BundlesReceived)
    assert recorder.all(LinkDown) == []


class Pump:
    """Answers LinkWritable with bundles until the credit is used up, as the node does."""

    def __init__(self, bearer: TcpBearer, size_bytes: int) -> None:
        self.bearer = bearer
        self.body = bytes(size_bytes)
        self.handed_bytes = 0
        self.sequence = 0

    def on_event(self, event: Event) -> None:
        if isinstance(event, LinkWritable):
            rows: list[tuple[BundleId, list[bytes]]] = []
            credit = event.credit_bytes
            while credit > 0:
                rows.append((make_id(self.sequence), [self.body]))
                self.sequence += 1
                credit -= len(self.body)
            self.handed_bytes += len(rows) * len(self.body)
            self.bearer.send_bundles(event.link, rows)


async def test_peer_that_stops_reading_stops_only_itself(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None, CHARLIE: None}))
    pump = Pump(bearer, 100_000)
    recorder.on_event = pump.on_event
    stuck = await (await dial(bearer.bound_address, ALPHA)).establish()
    live = await (await dial(bearer.bound_address, CHARLIE)).establish()
    await live.until(lambda: len(live.received) >= 200)  # 20 MB to one neighbour while the other reads nothing
    figures = {row["neighbour"]: row for row in bearer.snapshot()}
    pending = figures[ALPHA.uri]["pending_bytes"]
    assert isinstance(pending, int)
    assert pending <= 2 * WINDOW_MAX_BYTES
    assert len(stuck.received) == 0


async def test_credit_is_announced_once_when_nobody_uses_it(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    await peer.send([b"one"])
    await peer.send([b"two"])
    await recorder.until(lambda: sum(len(event.rows) for event in recorder.all(BundlesReceived)) == 2)
    assert recorder.all(LinkWritable) == [LinkWritable(make_link(ALPHA), WINDOW_MAX_BYTES)]


async def test_silence_writes_nothing_and_keeps_the_sessions(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    await recorder.wait_for(LinkUp)
    bearer.freeze()
    bearer.freeze()
    bearer.send_bundles(make_link(ALPHA), [(make_id(1), [b"later"])])
    await peer.send([b"in"])
    (received,) = await recorder.wait_for(BundlesReceived)
    accept([row.transfer for row in received.rows])
    for _ in range(20):
        await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(0.05) as scope:
        await peer.stream.receive_some()
    assert scope.cancelled_caught
    bearer.thaw()
    await peer.until(lambda: len(peer.received) == 1)
    await peer.until(lambda: any(isinstance(event, cl.TransfersAcknowledged) for event in peer.events))
    assert recorder.all(LinkDown) == []


async def test_connection_made_during_silence_waits_for_its_end(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    bearer.freeze()
    peer = await dial(bearer.bound_address, ALPHA)
    await peer.flush()
    with trio.move_on_after(0.05) as scope:
        await peer.stream.receive_some()
    assert scope.cancelled_caught
    bearer.thaw()
    await peer.establish()


async def test_more_sessions_than_allowed_are_told_busy(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peers = [await (await dial(bearer.bound_address, ALPHA)).establish() for _ in range(SESSIONS_PER_LINK_MAX)]
    late = await dial(bearer.bound_address, ALPHA)
    await late.read_all()
    end = late.events[-1]
    assert isinstance(end, cl.SessionEnded)
    assert "busy" in end.text
    assert bearer.snapshot()[0]["sessions"] == len(peers)
    assert len(recorder.all(LinkUp)) == 1


async def test_link_stays_up_while_one_session_lives(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    first = await (await dial(bearer.bound_address, ALPHA)).establish()
    second = await (await dial(bearer.bound_address, ALPHA)).establish()
    await first.stream.aclose()
    await recorder.wait_for_report("session.ended")
    assert recorder.all(LinkDown) == []
    bearer.send_bundles(make_link(ALPHA), [(make_id(1), [b"x"])])
    await second.until(lambda: len(second.received) == 1)
    await second.stream.aclose()
    await recorder.wait_for(LinkDown)


async def test_connections_without_a_session_are_bounded(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    idlers = [await dial(bearer.bound_address, ALPHA) for _ in range(PENDING_MAX + 1)]
    fields = await recorder.wait_for_report("bearer.problem")
    assert "too many sessions" in str(fields["problem"])
    with trio.fail_after(PATIENCE_S):
        assert await idlers[-1].stream.receive_some() == b""


async def test_dialler_comes_back_after_the_session_ended(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.bearer.backoff.BACKOFF_MIN_S", 0.01)
    recorder = Recorder()
    listener, address = make_plain_listener()
    with listener:
        bearer = make_bearer(recorder, BRAVO, {ALPHA: address}, make_settings(None))
        await start(nursery, bearer)
        for _ in range(2):
            with trio.fail_after(PATIENCE_S):
                await trio.lowlevel.wait_readable(listener)
            sock, _ = listener.accept()
            sock.close()
        await recorder.wait_for_report("session.failed")


async def test_missing_device_is_reported_with_a_remedy_once(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.bearer.backoff.BACKOFF_MIN_S", 0.01)
    recorder = Recorder()
    settings = make_settings(device="nosuch0")
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: "127.0.0.1:9"}, settings))
    fields = await recorder.wait_for_report("bearer.problem")
    assert "no such network device: check `device`" in str(fields["problem"])
    assert bearer.bound_address is None

    def problems() -> int:
        return sum(kind == "bearer.problem" for kind, _ in recorder.reports)

    await recorder.until(lambda: problems() >= 2)
    await trio.sleep(0.1)  # they are tried some more times
    assert problems() == 2  # one for listening, one for dialling, however often they were tried


async def test_refused_connection_is_reported_with_a_reason(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    unused, address = make_plain_listener()
    unused.close()
    await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: address}, make_settings(None)))
    fields = await recorder.wait_for_report("bearer.problem")
    assert "nobody listens there" in str(fields["problem"])


async def test_sockets_are_bound_marked_and_prompt(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, int, int]] = []
    real = sockets.dial

    async def spy(settings: BearerSettings, address: str) -> socket.socket:
        sock = await real(settings, address)
        device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")
        mark = sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)
        seen.append((device, mark, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        return sock

    monkeypatch.setattr("meshd.bearer.dialer.dial", spy)
    recorder, at_alpha = Recorder(), Recorder()
    bravo = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    settings = make_settings(None, mark=0x6D77)
    await start(nursery, make_bearer(at_alpha, ALPHA, {BRAVO: bravo.bound_address}, settings))
    await at_alpha.wait_for(LinkUp)
    assert seen == [(b"lo", 0x6D77, 1)]


async def test_keepalive_and_idle_time_out_run_on_the_clock(
    nursery: trio.Nursery, dial: Dial, mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    await recorder.wait_for(LinkUp)
    mock_clock.jump(15)
    assert await peer.stream.receive_some() == b"\x04"
    mock_clock.jump(15)
    (down,) = await recorder.wait_for(LinkDown)
    assert down.reason == "idle timeout: nothing was heard for 30 s"


async def test_session_that_never_comes_is_given_up(
    nursery: trio.Nursery, dial: Dial, mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await dial(bearer.bound_address, ALPHA)
    await peer.stream.send_all(b"dtn!\x04\x00")
    assert await peer.stream.receive_some() == b"dtn!\x04\x00"
    mock_clock.jump(30)
    fields = await recorder.wait_for_report("session.failed")
    assert "handshake timeout" in str(fields["reason"])


async def test_neighbours_come_and_go_while_it_runs(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    alpha = await (await dial(bearer.bound_address, ALPHA)).establish()
    await recorder.wait_for(LinkUp)
    bearer.configure([NeighbourSettings(CHARLIE, "lan0", None), NeighbourSettings(ALPHA, "other0", None)])
    await alpha.read_all()
    await recorder.wait_for(LinkDown)
    await (await dial(bearer.bound_address, CHARLIE)).establish()
    stranger = await dial(bearer.bound_address, ALPHA)
    await stranger.read_all()
    assert [row["neighbour"] for row in bearer.snapshot()] == [CHARLIE.uri]


async def test_neighbour_with_a_new_address_is_dialled(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {}, make_settings(None)))
    listener, address = make_plain_listener()
    with listener:
        bearer.configure([NeighbourSettings(ALPHA, "lan0", address)])
        with trio.fail_after(PATIENCE_S):
            await trio.lowlevel.wait_readable(listener)


async def test_failing_bundles_do_not_come_back_on_the_link_that_went_down(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    await recorder.wait_for(LinkUp)
    bearer.send_bundles(make_link(ALPHA), [(make_id(1), [b"x"])])
    await peer.until(lambda: len(peer.received) == 1)
    await peer.stream.aclose()
    await recorder.wait_for(LinkDown)
    kinds = [event for event in recorder.events if isinstance(event, LinkWritable | TransfersFailed | LinkDown)]
    assert kinds[-3] == LinkWritable(make_link(ALPHA), 0)
    assert [type(event) for event in kinds[-2:]] == [TransfersFailed, LinkDown]


async def test_slow_store_stops_the_reader_and_nothing_is_lost(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await dial(bearer.bound_address, ALPHA)).establish()
    count = 2 * UNANSWERED_MAX_BYTES >> 20
    body = bytes(1 << 20)
    done = trio.Event()

    async def send_all() -> None:
        await peer.send([body] * count)
        done.set()

    def received() -> list[object]:
        return [row.transfer for event in recorder.all(BundlesReceived) for row in event.rows]

    nursery.start_soon(send_all)
    await recorder.until(lambda: len(received()) == count // 2)  # the limit is reached: nothing is read any more
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(received()) == count // 2
    assert not done.is_set()
    accept(received())
    await recorder.until(lambda: len(received()) == count)


async def test_transfers_of_two_sessions_are_acknowledged_together(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peers = [await (await dial(bearer.bound_address, ALPHA)).establish() for _ in range(2)]
    sent = [await peer.send([b"first", b"second"]) for peer in peers]

    def received() -> list[object]:
        return [row.transfer for event in recorder.all(BundlesReceived) for row in event.rows]

    await recorder.until(lambda: len(received()) == 4)
    accept([])
    accept(received())
    for peer, ids in zip(peers, sent, strict=True):
        await peer.until(partial(is_acknowledged, peer, ids))


def is_acknowledged(peer: Peer, ids: list[int]) -> bool:
    answered = [event.transfer_ids for event in peer.events if isinstance(event, cl.TransfersAcknowledged)]
    return [each for some in answered for each in some] == ids


async def test_what_a_session_has_no_room_for_comes_back(nursery: trio.Nursery, dial: Dial) -> None:
    recorder = Recorder()
    bearer = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    await (await dial(bearer.bound_address, ALPHA)).establish()
    await recorder.wait_for(LinkUp)
    bearer.send_bundles(make_link(ALPHA), [(make_id(n), [b""]) for n in range(IN_FLIGHT_MAX + 2)])
    (failed,) = await recorder.wait_for(TransfersFailed)
    assert list(failed.ids) == [make_id(IN_FLIGHT_MAX), make_id(IN_FLIGHT_MAX + 1)]
    assert "too many" in failed.reason.text
