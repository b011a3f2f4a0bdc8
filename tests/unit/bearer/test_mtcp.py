# SPDX-License-Identifier: Apache-2.0
"""MTCP on the loopback device: who gets in, bundles both ways, carried or returned, silence, reloads."""

import dataclasses
import random
import socket
from collections.abc import Callable
from functools import partial

import pytest
import trio
from pyd3tn.mtcp import MTCPSocket

from meshd.base.errors import LocalProtocolError
from meshd.bearer import connection
from meshd.bearer.bearer import Bearer
from meshd.bearer.fountain import FountainBearer
from meshd.bearer.mtcp import INCOMING_PER_LINK_MAX, MtcpAdapter
from meshd.bearer.tcp import TcpBearer
from meshd.bundle.eid import Eid
from meshd.cl.mtcp import sender
from meshd.cl.mtcp.receiver import HELD_MAX_BYTES
from meshd.link.settings import BearerSettings, ConvergenceLayer, NeighbourSettings
from meshd.node.events import (
    BundlesReceived,
    Event,
    LinkDown,
    LinkUp,
    LinkWritable,
    TransfersAcknowledged,
    TransfersFailed,
)
from tests.unit.bearer.fountain_peers import make_fountain_part
from tests.unit.bearer.tcp_peers import (
    ALPHA,
    BRAVO,
    CHARLIE,
    PATIENCE_S,
    Recorder,
    make_id,
    make_link,
    make_plain_listener,
    make_settings,
)

NOBODY = "127.0.0.9:9"
"""An address that a neighbour sends from, and where nobody listens."""


def mtcp_settings(mtcp_listen: str | None = "127.0.0.1:0") -> BearerSettings:
    return dataclasses.replace(make_settings(None, mark=0), mtcp_listen=mtcp_listen)


def neighbour(node: Eid, address: str | None, cl: ConvergenceLayer = ConvergenceLayer.MTCP) -> NeighbourSettings:
    return NeighbourSettings(node, "lan0", address, cl=cl)


def make_adapter(recorder: Recorder, *neighbours: NeighbourSettings, listen: str | None = "127.0.0.1:0") -> MtcpAdapter:
    return MtcpAdapter(mtcp_settings(listen), neighbours, recorder.dispatch, recorder.report, random.Random(1))


async def connect(address: str | None, source: str = "127.0.0.1") -> trio.SocketStream:
    """A connection from a certain address of this host."""
    assert address is not None
    host, _, port = address.rpartition(":")
    sock = trio.socket.socket()
    await sock.bind((source, 0))
    await sock.connect((host, int(port)))
    return trio.SocketStream(sock)


async def accept(listener: socket.socket) -> socket.socket:
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(listener)
    sock = listener.accept()[0]
    sock.setblocking(True)
    sock.settimeout(PATIENCE_S)
    return sock


def received(recorder: Recorder) -> list[bytes]:
    return [row.data for event in recorder.all(BundlesReceived) for row in event.rows]


def has_more(recorder: Recorder, count: int) -> bool:
    return len(received(recorder)) > count


async def test_two_adapters_carry_bundles_one_way(nursery: trio.Nursery) -> None:
    at_alpha, at_bravo = Recorder(), Recorder()
    bravo = make_adapter(at_bravo, neighbour(ALPHA, "127.0.0.1:9"))
    await nursery.start(bravo.run)
    alpha = make_adapter(at_alpha, neighbour(BRAVO, bravo.bound_address), listen=None)
    await nursery.start(alpha.run)
    assert (await at_alpha.wait_for(LinkUp))[0].link == make_link(BRAVO)
    assert (await at_alpha.wait_for(LinkWritable))[0].credit_bytes > 0
    bodies = [b"small", bytes(1_500_000), b"x"]
    alpha.send_bundles(make_link(BRAVO), [(make_id(n), [body[:2], body[2:]]) for n, body in enumerate(bodies)])
    await at_bravo.until(lambda: len(received(at_bravo)) == 3)
    assert received(at_bravo) == bodies
    assert at_bravo.all(BundlesReceived)[0].link == make_link(ALPHA)
    await at_alpha.until(lambda: sum(len(event.ids) for event in at_alpha.all(TransfersAcknowledged)) == 3)
    (figures,) = alpha.snapshot()
    assert (figures["state"], figures["sent_bundles"], figures["in_flight_bundles"]) == ("up", 3, 0)
    assert bravo.snapshot()[0]["received_bundles"] == 3


async def test_a_foreign_node_receives_and_sends(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    listener, address = make_plain_listener()
    adapter = make_adapter(recorder, neighbour(BRAVO, address))
    await nursery.start(adapter.run)
    with listener, await accept(listener) as sock:
        await recorder.wait_for(LinkUp)
        adapter.send_bundles(make_link(BRAVO), [(make_id(1), [b"to pyD3TN"])])
        assert await trio.to_thread.run_sync(MTCPSocket(sock, PATIENCE_S).recv_bundle) == b"to pyD3TN"
        await recorder.wait_for(TransfersAcknowledged)
    assert adapter.bound_address is not None
    with socket.create_connection(("127.0.0.1", int(adapter.bound_address.rpartition(":")[2]))) as sock:
        MTCPSocket(sock).send_bundle(b"from pyD3TN" * 100)
        await recorder.until(lambda: received(recorder) == [b"from pyD3TN" * 100])


async def test_a_stranger_and_an_ambiguous_sender_are_refused(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    twins = [neighbour(BRAVO, "127.0.0.2:1"), neighbour(CHARLIE, "127.0.0.2:2")]
    adapter = make_adapter(recorder, neighbour(ALPHA, NOBODY), *twins)
    await nursery.start(adapter.run)
    for source in ("127.0.0.1", "127.0.0.2"):
        recorder.reports.clear()
        async with await connect(adapter.bound_address, source) as stream:
            await stream.send_all(b"\x41a")
            refusal = await recorder.wait_for_report("session.refused")
        assert refusal["reason"] == "no neighbour with cl = 'mtcp' has this IP address"
        assert str(refusal["address"]).startswith(source)
    assert received(recorder) == []


async def test_malformed_input_ends_that_connection_only(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    adapter = make_adapter(recorder, neighbour(ALPHA, NOBODY))
    await nursery.start(adapter.run)
    other = await connect(adapter.bound_address, "127.0.0.9")
    async with await connect(adapter.bound_address, "127.0.0.9") as stream, other:
        await stream.send_all(b"\x41a\x00")
        ended = await recorder.wait_for_report("session.ended")
        assert str(ended["reason"]).startswith("protocol error: the peer sent 0x00")
        await other.send_all(b"\x41b")
        await recorder.until(lambda: received(recorder) == [b"a", b"b"])


async def test_an_old_connection_gives_way_to_a_new_one(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    adapter = make_adapter(recorder, neighbour(ALPHA, NOBODY))
    await nursery.start(adapter.run)
    streams = []
    for number in range(INCOMING_PER_LINK_MAX + 1):
        streams.append(await connect(adapter.bound_address, "127.0.0.9"))
        await streams[-1].send_all(b"\x41" + bytes((number,)))
        await recorder.until(lambda: len(received(recorder)) == len(streams))
    with trio.fail_after(PATIENCE_S):
        assert await streams[0].receive_some() == b""
    for stream in streams:
        await trio.aclose_forcefully(stream)


async def test_what_is_not_stored_holds_up_the_sender(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    adapter = make_adapter(recorder, neighbour(ALPHA, NOBODY))
    await nursery.start(adapter.run)
    body = b"\x5a" + (1 << 20).to_bytes(4) + bytes(1 << 20)

    async def send(stream: trio.SocketStream) -> None:
        for _ in range(100):
            await stream.send_all(body)

    async with await connect(adapter.bound_address, "127.0.0.9") as stream:
        nursery.start_soon(send, stream)
        full = HELD_MAX_BYTES >> 20
        await recorder.until(lambda: len(received(recorder)) >= full)
        await trio.testing.wait_all_tasks_blocked()
        assert len(received(recorder)) <= full + 1
        answered = 0
        while answered < 100:
            await recorder.until(partial(has_more, recorder, answered))
            rows = [row.transfer for event in recorder.all(BundlesReceived) for row in event.rows]
            connection.accept(rows[answered:])
            answered = len(rows)


@pytest.mark.parametrize("is_reset", [False, True])
async def test_what_the_neighbour_did_not_acknowledge_comes_back(nursery: trio.Nursery, is_reset: bool) -> None:
    recorder = Recorder()
    listener, address = make_plain_listener()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    adapter = make_adapter(recorder, neighbour(BRAVO, address), listen=None)
    await nursery.start(adapter.run)
    sock = await accept(listener)
    await recorder.wait_for(LinkUp)
    adapter.send_bundles(make_link(BRAVO), [(make_id(1), [b"first"]), (make_id(2), [bytes(8_000_000)])])
    assert (await recorder.wait_for(TransfersAcknowledged))[0].ids == [make_id(1)]
    if is_reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    listener.close()
    (failed,) = await recorder.wait_for(TransfersFailed)
    assert failed.ids == [make_id(2)]
    assert failed.reason.session_ended
    assert (await recorder.wait_for(LinkDown))[0].link == make_link(BRAVO)
    assert adapter.snapshot()[0]["state"] == "down"


async def test_a_neighbour_that_takes_nothing_is_given_up(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "STALL_TIMEOUT_S", 0.05)
    recorder = Recorder()
    listener, address = make_plain_listener()
    adapter = make_adapter(recorder, neighbour(BRAVO, address), listen=None)
    await nursery.start(adapter.run)
    with listener, await accept(listener):
        await recorder.wait_for(LinkUp)
        adapter.send_bundles(make_link(BRAVO), [(make_id(1), [bytes(30_000_000)])])
        (failed,) = await recorder.wait_for(TransfersFailed)
    assert "acknowledged nothing" in failed.reason.text


async def test_without_a_connection_bundles_come_back_at_once(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    adapter = make_adapter(recorder, neighbour(ALPHA, NOBODY), listen=None)
    await nursery.start(adapter.run)
    adapter.send_bundles(make_link(ALPHA), [(make_id(1), [b"x"])])
    (failed,) = await recorder.wait_for(TransfersFailed)
    assert (failed.reason.retriable, failed.reason.session_ended) == (True, False)
    with pytest.raises(LocalProtocolError):
        adapter.send_bundles(make_link(CHARLIE), [(make_id(1), [b"x"])])


async def test_nothing_leaves_under_silence(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    listener, address = make_plain_listener()
    adapter = make_adapter(recorder, neighbour(BRAVO, address), listen=None)
    await nursery.start(adapter.run)
    with listener, await accept(listener) as sock:
        await recorder.wait_for(LinkUp)
        adapter.freeze()
        adapter.send_bundles(make_link(BRAVO), [(make_id(1), [b"later"])])
        await trio.testing.wait_all_tasks_blocked(0.02)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        adapter.thaw()
        sock.settimeout(PATIENCE_S)
        assert await trio.to_thread.run_sync(MTCPSocket(sock, PATIENCE_S).recv_bundle) == b"later"
        await recorder.wait_for(TransfersAcknowledged)


async def test_a_stop_lets_go_what_is_under_way(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    listener, address = make_plain_listener()
    adapter = make_adapter(recorder, neighbour(BRAVO, address), listen=None)
    await nursery.start(adapter.run)
    with listener, await accept(listener) as sock:
        await recorder.wait_for(LinkUp)
        adapter.send_bundles(make_link(BRAVO), [(make_id(1), [b"last"])])
        with trio.fail_after(PATIENCE_S):
            await adapter.shutdown()
        assert sock.recv(5) == b"\x44last"
    assert recorder.all(TransfersAcknowledged)[0].ids == [make_id(1)]


async def test_it_listens_only_while_a_neighbour_speaks_it(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    adapter = make_adapter(recorder)
    await nursery.start(adapter.run)
    heard = []
    for neighbours in ([], [neighbour(ALPHA, NOBODY)], []):
        adapter.configure(neighbours)
        await trio.testing.wait_all_tasks_blocked(0.01)
        heard.append(adapter.bound_address is not None)
    assert heard == [False, True, False]


# --- the whole bearer ---


def make_bearer(recorder: Recorder, neighbours: list[NeighbourSettings]) -> Bearer:
    settings = mtcp_settings(None)

    def make_tcp(dispatch: Callable[[Event], None]) -> TcpBearer:
        return TcpBearer(settings, neighbours, ALPHA, dispatch, recorder.report, random.Random(1))

    def make_mtcp(dispatch: Callable[[Event], None]) -> MtcpAdapter:
        return MtcpAdapter(settings, neighbours, dispatch, recorder.report, random.Random(2))

    def make_fountain(dispatch: Callable[[Event], None]) -> FountainBearer:
        return make_fountain_part(ALPHA, settings, neighbours, recorder, dispatch)

    return Bearer("lan0", neighbours, recorder.dispatch, make_tcp, make_mtcp, make_fountain)


async def test_each_neighbour_of_a_bearer_has_its_own_layer(nursery: trio.Nursery) -> None:
    at_alpha, at_bravo, at_charlie = Recorder(), Recorder(), Recorder()
    charlie = make_adapter(at_charlie, neighbour(ALPHA, "127.0.0.1:9"))
    await nursery.start(charlie.run)
    from_alpha = [neighbour(ALPHA, None, ConvergenceLayer.TCPCLV4)]
    bravo = TcpBearer(make_settings(mark=0), from_alpha, BRAVO, at_bravo.dispatch, at_bravo.report, random.Random(3))
    await nursery.start(bravo.run)
    neighbours = [
        neighbour(BRAVO, bravo.bound_address, ConvergenceLayer.TCPCLV4),
        neighbour(CHARLIE, charlie.bound_address),
    ]
    alpha = make_bearer(at_alpha, neighbours)
    await nursery.start(alpha.run)
    await at_alpha.wait_for(LinkUp, 2)
    for sequence, node in enumerate((BRAVO, CHARLIE)):
        alpha.send_bundles(make_link(node), [(make_id(sequence), [b"to " + node.uri.encode()])])
    await at_bravo.until(lambda: received(at_bravo) == [b"to dtn://bravo/"])
    await at_charlie.until(lambda: received(at_charlie) == [b"to dtn://charlie/"])
    connection.accept([row.transfer for row in at_bravo.all(BundlesReceived)[0].rows])
    await at_alpha.wait_for(TransfersAcknowledged, 2)
    assert sorted(str(row["neighbour"]) for row in alpha.snapshot()) == [BRAVO.uri, CHARLIE.uri]
    with trio.fail_after(PATIENCE_S):
        await alpha.shutdown()


async def test_a_reload_may_change_the_layer_of_a_neighbour(nursery: trio.Nursery) -> None:
    at_alpha, at_bravo = Recorder(), Recorder()
    tcp = TcpBearer(
        make_settings(mark=0),
        [neighbour(ALPHA, None, ConvergenceLayer.TCPCLV4)],
        BRAVO,
        at_bravo.dispatch,
        at_bravo.report,
        random.Random(3),
    )
    mtcp = make_adapter(at_bravo, neighbour(ALPHA, "127.0.0.1:9"))
    await nursery.start(tcp.run)
    await nursery.start(mtcp.run)
    alpha = make_bearer(at_alpha, [neighbour(BRAVO, tcp.bound_address, ConvergenceLayer.TCPCLV4)])
    await nursery.start(alpha.run)
    await at_alpha.wait_for(LinkUp)
    alpha.configure([neighbour(BRAVO, mtcp.bound_address)])
    assert at_alpha.all(LinkDown)[0].reason == "its convergence layer was changed"
    await at_alpha.wait_for(LinkUp, 2)
    alpha.send_bundles(make_link(BRAVO), [(make_id(1), [b"by MTCP"])])
    await at_bravo.until(lambda: received(at_bravo) == [b"by MTCP"])
    await at_alpha.wait_for(TransfersAcknowledged)
    await at_alpha.wait_for_report("session.ended")  # the old session, which is not the link's end any more
    assert len(at_alpha.all(LinkDown)) == 1
    assert alpha.snapshot()[0]["state"] == "up"
