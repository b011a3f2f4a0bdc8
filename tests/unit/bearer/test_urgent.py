# SPDX-License-Identifier: Apache-2.0
"""Urgent bundles and a session that is busy: a second one is opened, used, and ended when it is idle.

RFC 9174 forbids that transfers of one session interleave. Needs root for SO_MARK.
"""

import socket
from collections.abc import AsyncIterator

import pytest
import trio

from meshd.bearer.tcp import TcpBearer
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role, SessionSettings
from meshd.node.events import LinkDown, LinkUp, TransfersAcknowledged, TransfersFailed
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
    make_settings,
)

pytestmark = pytest.mark.root

RATE_BPS = 8_000_000
BULK = bytes(12_000_000)
"""12 s at that rate, and more than the kernel's buffers hold."""


@pytest.fixture
async def listener() -> AsyncIterator[tuple[socket.socket, str]]:
    sock, address = make_plain_listener()
    with sock:
        yield sock, address


async def accept(listener: socket.socket) -> Peer:
    """Alpha, dialled by the bearer, established."""
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(listener)
    sock, _ = listener.accept()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    peer = Peer(stream, Session(SessionSettings(ALPHA, None, 0), Role.PASSIVE, trio.current_time()))
    await peer.establish()
    await peer.flush()
    return peer


async def make_busy(
    nursery: trio.Nursery, recorder: Recorder, listener: tuple[socket.socket, str]
) -> tuple[TcpBearer, Peer]:
    """Bravo, and alpha's end of a session whose transfer nobody reads."""
    settings = make_settings(None, rate_bps=RATE_BPS, keepalive_s=0)
    bearer = make_bearer(recorder, BRAVO, {ALPHA: listener[1]}, settings)
    await nursery.start(bearer.run)
    first = await accept(listener[0])
    await recorder.wait_for(LinkUp)
    bearer.send_bundles(make_link(ALPHA), [(make_id(1), [BULK])])
    await trio.testing.wait_all_tasks_blocked()
    return bearer, first


async def test_flash_goes_by_a_second_session_which_ends_when_idle(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer, first = await make_busy(nursery, recorder, listener)
    bearer.send_urgent(make_link(ALPHA), [(make_id(2), [b"fla", b"sh"])])
    bearer.send_urgent(make_link(ALPHA), [(make_id(3), [b"one more"])])
    second = await accept(listener[0])
    async with first.stream, second.stream:
        await second.until(lambda: len(second.received) == 2)
        assert [row.data for row in second.received] == [b"flash", b"one more"]
        second.session.acknowledge([0, 1])
        await second.flush()
        await recorder.until(lambda: sum(len(each.ids) for each in recorder.all(TransfersAcknowledged)) == 2)
        bearer.send_urgent(make_link(ALPHA), [(make_id(4), [b"again"])])  # the second is free: no third
        await second.until(lambda: len(second.received) == 3)
        second.session.acknowledge([2])
        await second.flush()
        await recorder.until(lambda: sum(len(each.ids) for each in recorder.all(TransfersAcknowledged)) == 3)
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(10)
        await second.read_all()
        assert "idle timeout" in str(second.events[-1])
        await recorder.wait_for_report("session.ended")
        assert recorder.all(LinkDown) == []
        await first.until(lambda: len(first.received) == 1)  # the transfer under way was not touched
        assert first.received[0].data == BULK


async def test_a_session_that_is_free_soon_enough_is_used(
    nursery: trio.Nursery, listener: tuple[socket.socket, str]
) -> None:
    recorder = Recorder()
    settings = make_settings(None, rate_bps=RATE_BPS)
    bearer = make_bearer(recorder, BRAVO, {ALPHA: listener[1]}, settings)
    await nursery.start(bearer.run)
    first = await accept(listener[0])
    async with first.stream:
        await recorder.wait_for(LinkUp)
        bearer.send_bundles(make_link(ALPHA), [(make_id(1), [bytes(500_000)])])
        bearer.send_urgent(make_link(ALPHA), [(make_id(2), [b"flash"])])
        await first.until(lambda: len(first.received) == 2)
        assert bearer.snapshot()[0]["sessions"] == 1


async def test_what_can_not_be_dialled_goes_by_the_session_that_there_is(
    nursery: trio.Nursery, listener: tuple[socket.socket, str]
) -> None:
    recorder = Recorder()
    bearer, first = await make_busy(nursery, recorder, listener)
    listener[0].close()
    bearer.send_urgent(make_link(ALPHA), [(make_id(2), [b"flash"])])
    async with first.stream:
        await first.until(lambda: len(first.received) == 2)
        assert first.received[1].data == b"flash"


async def test_without_an_address_it_takes_its_turn(nursery: trio.Nursery) -> None:
    recorder = Recorder()
    bearer = make_bearer(recorder, BRAVO, {ALPHA: None}, make_settings(rate_bps=RATE_BPS))
    await nursery.start(bearer.run)
    peer = await (await Peer.dial(bearer.bound_address, ALPHA)).establish()
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        bearer.send_bundles(make_link(ALPHA), [(make_id(1), [BULK])])
        bearer.send_urgent(make_link(ALPHA), [(make_id(2), [b"flash"])])
        await peer.until(lambda: len(peer.received) == 2)


async def test_a_second_session_that_never_comes_is_not_waited_for(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    """The kernel accepts the connection, nobody speaks."""
    recorder = Recorder()
    bearer, first = await make_busy(nursery, recorder, listener)
    bearer.send_urgent(make_link(ALPHA), [(make_id(2), [b"flash"])])
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(listener[0])
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(10)
    async with first.stream:
        await first.until(lambda: len(first.received) == 2)


async def test_what_is_held_fails_with_the_link(nursery: trio.Nursery, listener: tuple[socket.socket, str]) -> None:
    recorder = Recorder()
    bearer, first = await make_busy(nursery, recorder, listener)
    bearer.send_urgent(make_link(ALPHA), [(make_id(2), [b"flash"])])
    await first.stream.aclose()
    await recorder.wait_for(LinkDown)
    failed = [bundle for event in recorder.all(TransfersFailed) for bundle in event.ids]
    assert sorted(failed) == [make_id(1), make_id(2)]


async def test_silence_opens_nothing(nursery: trio.Nursery, listener: tuple[socket.socket, str]) -> None:
    recorder = Recorder()
    bearer, first = await make_busy(nursery, recorder, listener)
    bearer.freeze()
    bearer.send_urgent(make_link(ALPHA), [(make_id(2), [b"flash"])])
    await trio.testing.wait_all_tasks_blocked(0.02)
    with pytest.raises(BlockingIOError):
        listener[0].accept()
    await first.stream.aclose()
