# SPDX-License-Identifier: Apache-2.0
"""Links that give up their last session when nothing is carried, and dial again. Needs root for SO_MARK."""

import socket
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from meshd.bearer.connection import accept as confirm
from meshd.bearer.tcp import TcpBearer
from meshd.cl.tcpclv4 import events as cl
from meshd.cl.tcpclv4.messages import RefuseReason, TermReason, pack_refuse
from meshd.cl.tcpclv4.session import Session
from meshd.cl.tcpclv4.settings import Role, SessionSettings
from meshd.link.settings import NeighbourSettings
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

IDLE_S = 60
TO_ALPHA = make_link(ALPHA)


@pytest.fixture
async def listener() -> AsyncIterator[tuple[socket.socket, str]]:
    sock, address = make_plain_listener()
    with sock:
        yield sock, address


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialler's pause after a session is not what is tested."""
    monkeypatch.setattr("meshd.bearer.backoff.BACKOFF_MIN_S", 0.0)


async def accept(listener: socket.socket, mru_bytes: int = 1 << 20) -> Peer:
    """Alpha, dialled by the bearer, established."""
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(listener)
    sock, _ = listener.accept()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    settings = SessionSettings(ALPHA, None, 0, transfer_mru_bytes=mru_bytes)
    peer = Peer(stream, Session(settings, Role.PASSIVE, trio.current_time()))
    await peer.establish()
    await peer.flush()
    return peer


async def pass_by(clock: trio.testing.MockClock, seconds: float) -> None:
    """Time passes in small steps, and everybody acts in each of them."""
    for _ in range(4):
        await trio.testing.wait_all_tasks_blocked(0.001)
        clock.jump(seconds / 4)
    await trio.testing.wait_all_tasks_blocked(0.001)


async def start(nursery: trio.Nursery, recorder: Recorder, address: str | None, listen: str | None = None) -> TcpBearer:
    bearer = make_bearer(recorder, BRAVO, {ALPHA: address}, make_settings(listen, keepalive_s=0, link_idle_s=IDLE_S))
    await nursery.start(bearer.run)
    return bearer


async def make_dormant(
    nursery: trio.Nursery, recorder: Recorder, listener: tuple[socket.socket, str], clock: trio.testing.MockClock
) -> TcpBearer:
    """Bravo, whose session with alpha has ended because nothing was carried."""
    bearer = await start(nursery, recorder, listener[1])
    peer = await accept(listener[0])
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        await pass_by(clock, IDLE_S)
        await peer.read_all()
        assert "the peer ended the session: idle timeout" in str(peer.events[-1])
        await recorder.wait_for_report("session.ended")
    await trio.testing.wait_all_tasks_blocked(0.001)
    clock.jump(1)  # the last words to a peer that is gone
    await trio.testing.wait_all_tasks_blocked(0.001)
    assert bearer.snapshot()[0]["state"] == "dormant"
    return bearer


def count(recorder: Recorder, kind: type[TransfersAcknowledged | TransfersFailed]) -> list[object]:
    return [bundle for event in recorder.all(kind) for bundle in event.ids]


def nobody_dialled(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return True
    return False


async def test_an_idle_link_is_dormant_and_the_next_bundle_dials(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await make_dormant(nursery, recorder, listener, mock_clock)
    assert (bearer.snapshot()[0]["sessions"], recorder.all(LinkDown)) == (0, [])
    assert recorder.all(LinkWritable)[-1].credit_bytes > 0
    reason = str((await recorder.wait_for_report("session.ended"))["reason"])
    assert reason == "idle: it carried nothing for 60 s, and the neighbour can be dialled again"
    assert nobody_dialled(listener[0])
    bearer.send_bundles(TO_ALPHA, [(make_id(1), [b"o", b"ne"])])
    bearer.send_urgent(TO_ALPHA, [(make_id(2), [b"two"])])
    peer = await accept(listener[0])
    async with peer.stream:
        await peer.until(lambda: len(peer.received) == 2)
        peer.session.acknowledge([0, 1])
        await peer.flush()
        await recorder.until(lambda: count(recorder, TransfersAcknowledged) == [make_id(1), make_id(2)])
        assert [row.data for row in peer.received] == [b"one", b"two"]
        assert (bearer.snapshot()[0]["state"], bearer.snapshot()[0]["sessions"]) == ("up", 1)
    assert len(recorder.all(LinkUp)) == 1


async def test_off_by_default_the_last_session_stays(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = make_bearer(recorder, BRAVO, {ALPHA: listener[1]}, make_settings(None, keepalive_s=0))
    await nursery.start(bearer.run)
    peer = await accept(listener[0])
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        await pass_by(mock_clock, 86400)
        assert bearer.snapshot()[0]["sessions"] == 1


async def test_what_carries_something_is_not_idle(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await start(nursery, recorder, listener[1])
    peer = await accept(listener[0])
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        for number in range(4):
            await pass_by(mock_clock, 0.75 * IDLE_S)
            await peer.send([b"in"])
            await recorder.wait_for(BundlesReceived, number + 1)  # and none is ever answered
        await pass_by(mock_clock, 4 * IDLE_S)
        assert bearer.snapshot()[0]["sessions"] == 1


async def test_a_neighbour_without_an_address_keeps_its_session(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await start(nursery, recorder, None, "127.0.0.1:0")
    peer = await (await Peer.dial(bearer.bound_address, ALPHA)).establish()
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        await pass_by(mock_clock, 4 * IDLE_S)
        assert bearer.snapshot()[0]["sessions"] == 1


@pytest.mark.parametrize("can_dial", [True, False])
async def test_the_other_side_is_dormant_too_if_it_can_dial(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], can_dial: bool
) -> None:
    recorder = Recorder()
    bearer = await start(nursery, recorder, None, "127.0.0.1:0")
    peer = await (await Peer.dial(bearer.bound_address, ALPHA)).establish()
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        if can_dial:
            bearer.configure([NeighbourSettings(ALPHA, "lan0", listener[1])])
        peer.session.terminate(TermReason.IDLE_TIMEOUT, "", trio.current_time())
        await peer.read_all()
        await recorder.wait_for_report("session.ended")
    assert bearer.snapshot()[0]["state"] == ("dormant" if can_dial else "down")
    assert len(recorder.all(LinkDown)) == (0 if can_dial else 1)
    again = await (await Peer.dial(bearer.bound_address, ALPHA)).establish()
    async with again.stream:
        await recorder.until(lambda: sum(name == "session.established" for name, _ in recorder.reports) == 2)
        assert bearer.snapshot()[0]["state"] == "up"
        assert len(recorder.all(LinkUp)) == (1 if can_dial else 2)


async def test_two_nodes_fall_asleep_and_either_wakes_the_other(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    at_alpha, at_bravo = Recorder(), Recorder()
    settings = make_settings(keepalive_s=15, link_idle_s=IDLE_S)
    alpha = make_bearer(at_alpha, ALPHA, {BRAVO: None}, settings)
    bravo = make_bearer(at_bravo, BRAVO, {ALPHA: None}, settings)
    await nursery.start(alpha.run)
    await nursery.start(bravo.run)
    alpha.configure([NeighbourSettings(BRAVO, "lan0", bravo.bound_address)])
    bravo.configure([NeighbourSettings(ALPHA, "lan0", alpha.bound_address)])
    await at_alpha.wait_for(LinkUp)
    await at_bravo.wait_for(LinkUp)

    async def until(condition: Callable[[], bool]) -> None:
        with trio.fail_after(100 * IDLE_S):
            while not condition():
                await trio.testing.wait_all_tasks_blocked(0.001)
                mock_clock.jump(5)

    def states() -> list[object]:
        return [alpha.snapshot()[0]["state"], bravo.snapshot()[0]["state"]]

    for bearer, link, recorder in ((alpha, make_link(BRAVO), at_bravo), (bravo, make_link(ALPHA), at_alpha)):
        await until(lambda: states() == ["dormant", "dormant"])
        bearer.send_bundles(link, [(make_id(1), [b"wake up"])])
        await until(lambda recorder=recorder: len(recorder.all(BundlesReceived)) == 1)  # type: ignore[misc]
        confirm([row.transfer for row in recorder.all(BundlesReceived)[0].rows])
    await until(lambda: states() == ["dormant", "dormant"])
    assert at_alpha.all(LinkDown) == at_bravo.all(LinkDown) == []


async def test_a_neighbour_that_is_gone_takes_the_link_down_with_what_was_held(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await make_dormant(nursery, recorder, listener, mock_clock)
    listener[0].close()
    bearer.send_bundles(TO_ALPHA, [(make_id(1), [b"one"]), (make_id(2), [b"two"])])
    (down,) = await recorder.wait_for(LinkDown)
    assert "nobody listens there" in down.reason
    (failed,) = recorder.all(TransfersFailed)
    assert (list(failed.ids), failed.reason.session_ended) == ([make_id(1), make_id(2)], True)
    kinds = [type(event) for event in recorder.events if not isinstance(event, LinkUp)]
    assert kinds[-3:] == [LinkWritable, TransfersFailed, LinkDown]
    assert recorder.all(LinkWritable)[-1].credit_bytes == 0
    assert bearer.snapshot()[0]["state"] == "down"


async def test_a_neighbour_that_accepts_and_says_nothing_takes_it_down_and_is_dialled_again(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await make_dormant(nursery, recorder, listener, mock_clock)
    bearer.send_bundles(TO_ALPHA, [(make_id(1), [b"one"])])
    with trio.fail_after(PATIENCE_S):
        await trio.lowlevel.wait_readable(listener[0])
    mute, _ = listener[0].accept()
    with mute:
        await trio.testing.wait_all_tasks_blocked(0.001)
        mock_clock.jump(30)
        await trio.testing.wait_all_tasks_blocked(0.001)
    mock_clock.jump(1)
    await recorder.wait_for(LinkDown)
    assert count(recorder, TransfersFailed) == [make_id(1)]
    await (await accept(listener[0])).stream.aclose()
    await recorder.wait_for(LinkUp, 2)


async def test_a_session_that_times_out_or_is_cut_is_no_reason_to_sleep(
    nursery: trio.Nursery, listener: tuple[socket.socket, str]
) -> None:
    recorder = Recorder()
    await start(nursery, recorder, listener[1])
    await (await accept(listener[0])).stream.aclose()
    await recorder.wait_for(LinkDown)
    peer = await accept(listener[0])
    async with peer.stream:
        await recorder.wait_for(LinkUp, 2)
        peer.session.terminate(TermReason.RESOURCE_EXHAUSTION, "", trio.current_time())
        await peer.read_all()
        await recorder.wait_for(LinkDown, 2)


async def test_silence_dials_nothing_and_its_end_does(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await make_dormant(nursery, recorder, listener, mock_clock)
    bearer.freeze()
    bearer.send_bundles(TO_ALPHA, [(make_id(1), [b"later"])])
    await pass_by(mock_clock, 10 * IDLE_S)
    assert nobody_dialled(listener[0])
    assert (bearer.snapshot()[0]["state"], recorder.all(LinkDown)) == ("dormant", [])
    bearer.thaw()
    peer = await accept(listener[0])
    async with peer.stream:
        await peer.until(lambda: len(peer.received) == 1)
    assert len(recorder.all(LinkUp)) == 1


async def test_silence_that_stops_the_dialling_does_not_take_the_link_down(
    nursery: trio.Nursery,
    listener: tuple[socket.socket, str],
    mock_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder()
    bearer = await make_dormant(nursery, recorder, listener, mock_clock)
    dialled = trio.Event()

    async def dial(*_: object) -> None:
        dialled.set()
        await trio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr("meshd.bearer.dialer.dial", dial)
        bearer.send_bundles(TO_ALPHA, [(make_id(1), [b"one"])])
        await dialled.wait()
        bearer.freeze()
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert (bearer.snapshot()[0]["state"], recorder.all(LinkDown)) == ("dormant", [])
    bearer.thaw()
    peer = await accept(listener[0])
    async with peer.stream:
        await peer.until(lambda: len(peer.received) == 1)


async def test_a_peer_that_misses_us_under_silence_is_dialled_after_it(
    nursery: trio.Nursery, listener: tuple[socket.socket, str]
) -> None:
    recorder = Recorder()
    bearer = await start(nursery, recorder, listener[1])
    peer = await accept(listener[0])
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        bearer.freeze()
        peer.session.terminate(TermReason.IDLE_TIMEOUT, "", trio.current_time())
        await peer.flush()
        await recorder.wait_for(LinkDown)
    bearer.thaw()
    await (await accept(listener[0])).stream.aclose()


async def test_a_bundle_that_meets_the_end_of_the_session_is_held(
    nursery: trio.Nursery, listener: tuple[socket.socket, str]
) -> None:
    """The peer refuses it, since it has just said goodbye; the node, told so, hands it over again."""
    recorder = Recorder()
    bearer = await start(nursery, recorder, listener[1])
    peer = await accept(listener[0])

    def hand_over_again(event: Event) -> None:
        if isinstance(event, TransfersFailed) and len(count(recorder, TransfersFailed)) == 1:
            bearer.send_bundles(TO_ALPHA, [(bundle, [b"again"]) for bundle in event.ids])

    recorder.on_event = hand_over_again
    async with peer.stream:
        await recorder.wait_for(LinkUp)
        bearer.send_bundles(TO_ALPHA, [(make_id(1), [b"once"])])
        await peer.until(lambda: len(peer.received) == 1)
        peer.session.terminate(TermReason.IDLE_TIMEOUT, "", trio.current_time())
        await peer.flush()
        await peer.stream.send_all(pack_refuse(RefuseReason.SESSION_TERMINATING, 0))
        await recorder.wait_for(TransfersFailed)
    second = await accept(listener[0])
    async with second.stream:
        await second.until(lambda: len(second.received) == 1)
        assert second.received[0].data == b"again"
    assert len(recorder.all(LinkUp)) == 1


async def test_a_session_that_the_neighbour_dialled_takes_what_is_held(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = make_bearer(recorder, BRAVO, {ALPHA: listener[1]}, make_settings(keepalive_s=0, link_idle_s=IDLE_S))
    await nursery.start(bearer.run)
    first = await accept(listener[0])
    async with first.stream:
        await recorder.wait_for(LinkUp)
        await pass_by(mock_clock, IDLE_S)
        bearer.send_bundles(TO_ALPHA, [(make_id(1), [b"held"])])  # its end is not confirmed yet
        assert count(recorder, TransfersFailed) == []
        other = await (await Peer.dial(bearer.bound_address, ALPHA)).establish()
        async with other.stream:
            await other.until(lambda: len(other.received) == 1)
            assert other.received[0].data == b"held"


@pytest.mark.parametrize("address", [None, "unwanted"])
async def test_a_neighbour_that_can_not_be_dialled_any_more_is_down(
    nursery: trio.Nursery,
    listener: tuple[socket.socket, str],
    mock_clock: trio.testing.MockClock,
    address: str | None,
) -> None:
    recorder = Recorder()
    bearer = await make_dormant(nursery, recorder, listener, mock_clock)
    bearer.configure([NeighbourSettings(ALPHA, "lan0", None)] if address is None else [])
    assert recorder.all(LinkDown) == []  # never inside of the call
    (down,) = await recorder.wait_for(LinkDown)
    assert down.reason.startswith("it has no address" if address is None else "no tcpclv4 neighbour")


async def test_a_peer_that_takes_other_sizes_now_is_announced(
    nursery: trio.Nursery, listener: tuple[socket.socket, str], mock_clock: trio.testing.MockClock
) -> None:
    recorder = Recorder()
    bearer = await make_dormant(nursery, recorder, listener, mock_clock)
    bearer.send_bundles(TO_ALPHA, [(make_id(1), [bytes(2000)]), (make_id(2), [b"x"])])
    peer = await accept(listener[0], mru_bytes=1024)
    async with peer.stream:
        assert [event.transfer_mtu_bytes for event in await recorder.wait_for(LinkUp, 2)] == [1 << 20, 1024]
        (failed,) = await recorder.wait_for(TransfersFailed)
        assert list(failed.ids) == [make_id(1)]
        assert failed.reason.text == "not sent, since the neighbour takes no more than 1024 bytes"
        assert not failed.reason.retriable
        assert not any(isinstance(event, cl.SessionEnded) for event in peer.events)
