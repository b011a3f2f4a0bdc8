# SPDX-License-Identifier: Apache-2.0
"""Several sessions of one neighbour: both sides dialled at once, and refusals by a side that is ending.

Needs root for SO_MARK.
"""

import socket
from collections.abc import AsyncIterator

import pytest
import trio

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bearer.tcp import TcpBearer
from meshd.bundle.eid import Eid
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.messages import RefuseReason, TermReason, pack_refuse
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role, SessionSettings
from meshd.link.settings import NeighbourSettings
from meshd.node.events import BundlesReceived, LinkDown, LinkUp, TransfersAcknowledged, TransfersFailed
from tests.unit.bearer.tcp_peers import (
    ALPHA,
    BRAVO,
    PATIENCE_S,
    Peer,
    Recorder,
    make_bearer,
    make_id,
    make_link,
    make_plain_listener,
)

pytestmark = pytest.mark.root


async def accept(listener: socket.socket, node: Eid, *, transfer_mru_bytes: int = INLINE_SIZE_MAX_BYTES) -> Peer:
    """A peer of the test's own, dialled by the bearer, with its session."""
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(listener)
    sock, _ = listener.accept()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    settings = SessionSettings(node, None, 15, transfer_mru_bytes=transfer_mru_bytes)
    peer = Peer(stream, Session(settings, Role.PASSIVE, trio.current_time()))
    await peer.establish()
    await peer.flush()
    return peer


@pytest.fixture
async def listener() -> AsyncIterator[tuple[socket.socket, str]]:
    sock, address = make_plain_listener()
    with sock:
        yield sock, address


async def start(nursery: trio.Nursery, bearer: TcpBearer) -> TcpBearer:
    await nursery.start(bearer.run)
    return bearer


async def test_the_node_is_told_how_much_the_peer_takes(
    nursery: trio.Nursery, listener: tuple[socket.socket, str]
) -> None:
    recorder = Recorder()
    await start(nursery, make_bearer(recorder, ALPHA, {BRAVO: listener[1]}))
    peer = await accept(listener[0], BRAVO, transfer_mru_bytes=64_000)
    async with peer.stream:
        assert await recorder.wait_for(LinkUp) == [LinkUp(make_link(BRAVO), 64_000)]


async def test_both_dial_and_the_session_of_the_lower_node_id_stays(nursery: trio.Nursery) -> None:
    at_alpha, at_bravo = Recorder(), Recorder()
    alpha = await start(nursery, make_bearer(at_alpha, ALPHA, {BRAVO: None}))
    bravo = await start(nursery, make_bearer(at_bravo, BRAVO, {ALPHA: None}))
    alpha.configure([NeighbourSettings(BRAVO, "lan0", bravo.bound_address)])
    bravo.configure([NeighbourSettings(ALPHA, "lan0", alpha.bound_address)])

    def roles(bearer: TcpBearer, neighbour: Eid) -> list[str]:
        return [each.role.value for each in bearer._links[neighbour].sessions]

    await at_alpha.until(lambda: roles(alpha, BRAVO) == ["active"])
    await at_bravo.until(lambda: roles(bravo, ALPHA) == ["passive"])
    alpha.send_bundles(make_link(BRAVO), [(make_id(1), [b"there"])])
    bravo.send_bundles(make_link(ALPHA), [(make_id(2), [b"back"])])
    await at_alpha.wait_for(BundlesReceived)
    await at_bravo.wait_for(BundlesReceived)


async def test_the_higher_node_id_gives_way_when_it_has_nothing_under_way(
    nursery: trio.Nursery, listener: tuple[socket.socket, str]
) -> None:
    recorder = Recorder()
    bravo = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: listener[1]}))
    dialled = await accept(listener[0], ALPHA)
    await recorder.wait_for(LinkUp)
    bravo.send_bundles(make_link(ALPHA), [(make_id(1), [b"under way"])])
    await dialled.until(lambda: len(dialled.received) == 1)
    other = await (await Peer.dial(bravo.bound_address, ALPHA)).establish()
    async with dialled.stream, other.stream:
        await recorder.until(lambda: len(bravo._links[ALPHA].sessions) == 2)
        bravo.send_bundles(make_link(ALPHA), [(make_id(2), [b"by the other"])])
        await other.until(lambda: len(other.received) == 1)
        assert not any(isinstance(event, cl.SessionEnded) for event in dialled.events)
        dialled.session.acknowledge([0])
        await dialled.flush()
        await dialled.read_all()
        end = dialled.events[-1]
        assert isinstance(end, cl.SessionEnded)
        assert end.text == "the peer ended the session: busy"
        (acknowledged,) = await recorder.wait_for(TransfersAcknowledged)
        assert list(acknowledged.ids) == [make_id(1)]
        assert recorder.all(LinkDown) == []
        assert recorder.all(TransfersFailed) == []


async def test_the_lower_node_id_leaves_it_to_the_other(
    nursery: trio.Nursery, listener: tuple[socket.socket, str]
) -> None:
    recorder = Recorder()
    alpha = await start(nursery, make_bearer(recorder, ALPHA, {BRAVO: listener[1]}))
    dialled = await accept(listener[0], BRAVO)
    other = await (await Peer.dial(alpha.bound_address, BRAVO)).establish()
    async with dialled.stream, other.stream:
        await recorder.until(lambda: len(alpha._links[BRAVO].sessions) == 2)
        other.session.terminate(TermReason.BUSY, "", trio.current_time())
        await other.read_all()
        await recorder.wait_for_report("session.ended")
        alpha.send_bundles(make_link(BRAVO), [(make_id(1), [b"x"])])
        await dialled.until(lambda: len(dialled.received) == 1)


@pytest.mark.parametrize(
    ("reason", "completed", "retriable", "session_ended"),
    [
        (RefuseReason.UNKNOWN, False, True, False),
        (RefuseReason.COMPLETED, True, False, False),
        (RefuseReason.NO_RESOURCES, False, True, False),
        (RefuseReason.RETRANSMIT, False, True, False),
        (RefuseReason.NOT_ACCEPTABLE, False, False, False),
        (RefuseReason.EXTENSION_FAILURE, False, False, False),
        (RefuseReason.SESSION_TERMINATING, False, True, True),
    ],
)
async def test_every_refusal_has_its_effect(
    nursery: trio.Nursery, reason: RefuseReason, completed: bool, retriable: bool, session_ended: bool
) -> None:
    recorder = Recorder()
    bravo = await start(nursery, make_bearer(recorder, BRAVO, {ALPHA: None}))
    peer = await (await Peer.dial(bravo.bound_address, ALPHA)).establish()
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        bravo.send_bundles(make_link(ALPHA), [(make_id(1), [b"x"])])
        await peer.until(lambda: len(peer.received) == 1)
        await peer.stream.send_all(pack_refuse(reason, 0))
        (failed,) = await recorder.wait_for(TransfersFailed)
    found = failed.reason
    assert (found.completed, found.retriable, found.session_ended) == (completed, retriable, session_ended)
