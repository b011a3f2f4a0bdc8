# SPDX-License-Identifier: Apache-2.0
"""`recv.*` on a real agent and a store in memory."""

import random
from collections.abc import Awaitable
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

from meshd.base.limits import PART_SIZE_BYTES
from meshd.bundle.codec import build
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.record import Part, PayloadRef, bundle_id_text
from meshd.bundle.scan import scan_untrusted
from meshd.control.errors import ControlError
from meshd.daemon import receivers
from meshd.node import events as ev
from tests.unit.daemon.node_bench import NodeBench, Session
from tests.unit.node.playbook import INBOX, LAN, UTC_OFFSET_MS

SOURCE = parse_eid("dtn://dpop2/inbox")
NOW_MS = UTC_OFFSET_MS + 1_000_000


async def refused(call: Awaitable[Any]) -> ControlError:
    """The error that a call ends with."""
    with pytest.raises(ControlError) as error:
        await call
    return error.value


def arrive(
    bench: NodeBench,
    sequence: int,
    payload: bytes = b"hello",
    part: Part | None = None,
    destination: Eid = INBOX,
    time_ms: int = NOW_MS,
    lifetime_ms: int = 3_600_000,
) -> str:
    """A bundle comes in and is stored; its ID."""
    data = build(SOURCE, destination, SOURCE.node, 0, time_ms, sequence, lifetime_ms, payload, part=part)
    bench.dispatch(ev.BundlesReceived(LAN, [ev.ReceivedRow("t", data)]))
    bench.commit()
    return bundle_id_text(scan_untrusted(data).id)


async def opened(bench: NodeBench, session: Session, endpoint: str = "inbox") -> dict[str, Any]:
    """A receiver, as a parameter of the other calls."""
    answer = await bench.receivers.open(session, {"endpoint": endpoint})
    return {"receiver": answer["receiver"]}


async def following(bench: NodeBench, session: Session, receiver: dict[str, Any], timeout_s: float | None = 0) -> Any:
    """`recv.next`."""
    return await bench.receivers.next(session, receiver | {"timeout_s": timeout_s, "data_max_bytes": 0})


async def whole(bench: NodeBench, session: Session, receiver: dict[str, Any], message: dict[str, Any]) -> bytes:
    """All of a message, read in odd pieces."""
    data = b""
    while len(data) < message["size_bytes"]:
        piece = {"message": message["message"], "offset": len(data), "size_bytes": 300_000}
        answer = await bench.receivers.read(session, receiver | piece)
        assert answer["data"], "the daemon gives something before the end"
        data += answer["data"]
    return data


async def test_a_small_message() -> None:
    bench, session = NodeBench(), Session()
    text = arrive(bench, 1)
    receiver = await opened(bench, session)
    message = await following(bench, session, receiver)
    assert message["message"] == text
    assert (message["source"], message["destination"]) == ("dtn://dpop2/inbox", "dtn://dpop1/inbox")
    assert (message["precedence"], message["size_bytes"]) == ("ROUTINE", 5)
    assert message["expiry_ms"] - message["created_ms"] == 3_600_000
    assert await following(bench, session, receiver) == message, "the same until it is confirmed"
    assert await whole(bench, session, receiver, message) == b"hello"
    past = {"message": text, "offset": 5, "size_bytes": 10}
    assert await bench.receivers.read(session, receiver | past) == {"data": b""}
    await bench.receivers.confirm(session, receiver | {"message": text})
    assert bench.agent.entries() == []
    assert (await refused(following(bench, session, receiver))).name == "timeout"
    assert (await refused(bench.receivers.confirm(session, receiver | {"message": text}))).name == "not_found"


async def test_a_message_of_parts_is_read_as_one() -> None:
    bench, session = NodeBench(), Session()
    content = random.Random(1).randbytes(2 * PART_SIZE_BYTES + 77)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run_store)
        await bench.send(session, content)
        nursery.cancel_scope.cancel()
    receiver = await opened(bench, session)
    message = await following(bench, session, receiver)
    assert message["size_bytes"] == len(content)
    assert await whole(bench, session, receiver, message) == content
    back = {"message": message["message"], "offset": 5, "size_bytes": 4}
    assert await bench.receivers.read(session, receiver | back) == {"data": content[5:9]}


async def test_next_waits_for_a_message() -> None:
    bench, session = NodeBench(), Session()
    receiver = await opened(bench, session)
    got: list[Any] = []

    async def wait() -> None:
        got.append(await following(bench, session, receiver, None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert got == []
        text = arrive(bench, 1)
    assert [message["message"] for message in got] == [text]


async def test_closing_ends_a_next_that_waits() -> None:
    bench, session = NodeBench(), Session()
    receiver = await opened(bench, session)
    errors: list[ControlError] = []

    async def wait() -> None:
        errors.append(await refused(following(bench, session, receiver, None)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await bench.receivers.close(session, receiver)
    assert [error.name for error in errors] == ["not_found"]


async def test_next_gives_up_in_time(autojump_clock: trio.testing.MockClock) -> None:
    bench, session = NodeBench(), Session()
    receiver = await opened(bench, session)
    error = await refused(following(bench, session, receiver, 7.5))
    assert (error.name, "7.5 s" in str(error), trio.current_time()) == ("timeout", True, 7.5)


@pytest.mark.parametrize("how", ["close", "session"])
async def test_unconfirmed_goes_to_the_next_receiver(how: str) -> None:
    bench, first, second = NodeBench(), Session(), Session(2)
    text = arrive(bench, 1)
    receiver = await opened(bench, first)
    other = await opened(bench, second)
    await following(bench, first, receiver)
    if how == "close":
        await bench.receivers.close(first, receiver)
    else:
        bench.receivers.session_closed(first)
    assert (await following(bench, second, other))["message"] == text
    assert (await refused(following(bench, first, receiver))).name == "not_found"


async def test_others_can_not_use_a_receiver() -> None:
    bench, session = NodeBench(), Session()
    receiver = await opened(bench, session)
    assert (await refused(following(bench, Session(2), receiver))).name == "not_found"


async def test_reading_another_message_than_the_one_offered() -> None:
    bench, session = NodeBench(), Session()
    receiver = await opened(bench, session)
    piece = receiver | {"message": "dtn://dpop2/inbox@1.1", "offset": 0, "size_bytes": 1}
    assert (await refused(bench.receivers.read(session, piece))).name == "not_found"


async def test_expired_while_offered() -> None:
    bench, session = NodeBench(), Session()
    text = arrive(bench, 1, lifetime_ms=1000)
    receiver = await opened(bench, session)
    message = await following(bench, session, receiver)
    bench.now += 2
    bench.dispatch(ev.TimerFired())
    assert (await refused(bench.receivers.confirm(session, receiver | {"message": text}))).name == "not_found"
    assert (await refused(following(bench, session, receiver))).name == "timeout"
    after = arrive(bench, 2)
    assert (await following(bench, session, receiver))["message"] == after != message["message"]


async def test_damaged_message_makes_room_for_the_next() -> None:
    bench, session = NodeBench(), Session()
    arrive(bench, 1)
    good = arrive(bench, 2)
    del bench.store.data[1, 1]
    receiver = await opened(bench, session)
    assert (await following(bench, session, receiver))["message"] == good
    assert [entry.record.id.sequence for entry in bench.agent.entries()] == [2]


async def test_what_comes_while_a_receiver_waits_is_not_read_back() -> None:
    """It is in memory still."""
    bench, session = NodeBench(), Session()
    reads: list[int] = []

    def read(ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        reads.append(size_bytes)
        return bench.store.read_piece(ref, offset, size_bytes)

    bench.receivers._served._read_piece = read
    receiver = await opened(bench, session)
    message = arrive(bench, 1, b"fresh")
    offer = await following(bench, session, receiver)
    assert offer["message"] == message
    assert await whole(bench, session, receiver, offer) == b"fresh"
    assert reads == []


async def test_damaged_first_part_is_found_when_it_is_read() -> None:
    bench, session = NodeBench(), Session()
    arrive(bench, 1, b"12345", Part(NOW_MS, 1, 0, 0, False))
    arrive(bench, 2, b"67", Part(NOW_MS, 1, 1, 5, True))
    del bench.store.data[1, 1]
    receiver = await opened(bench, session)
    message = await following(bench, session, receiver)
    piece = receiver | {"message": message["message"], "offset": 0, "size_bytes": 7}
    assert (await refused(bench.receivers.read(session, piece))).name == "failed"
    assert (await refused(following(bench, session, receiver))).name == "timeout"


async def test_message_cut_wrongly_by_its_source_does_not_stay_in_the_way() -> None:
    bench, session = NodeBench(), Session()
    arrive(bench, 1, b"12345", Part(NOW_MS, 1, 0, 0, False))
    arrive(bench, 2, b"67", Part(NOW_MS, 1, 1, 9, True))
    good = arrive(bench, 3)
    receiver = await opened(bench, session)
    message = await following(bench, session, receiver)
    assert message["size_bytes"] == 11
    piece = receiver | {"message": message["message"], "offset": 0, "size_bytes": 11}
    error = await refused(bench.receivers.read(session, piece))
    assert (error.name, "part 0" in str(error)) == ("failed", True)
    assert (await following(bench, session, receiver))["message"] == good


@pytest.mark.parametrize("time_ms", [(1 << 64) - 1, 1 << 63, 1])
async def test_any_creation_time_can_be_told(time_ms: int) -> None:
    bench, session = NodeBench(), Session()
    arrive(bench, 1, time_ms=time_ms, lifetime_ms=(1 << 64) - 1)
    receiver = await opened(bench, session)
    if time_ms > 1:
        message = await following(bench, session, receiver)
        assert message["created_ms"] is None
        assert msgpack.packb(message)
    else:
        assert (await refused(following(bench, session, receiver))).name == "timeout"


async def test_endpoints() -> None:
    bench, session = NodeBench(), Session()
    arrive(bench, 1, destination=parse_eid("dtn://dpop1/other"))
    inbox = await opened(bench, session)
    other = await opened(bench, session, "dtn://dpop1/other")
    assert (await refused(following(bench, session, inbox))).name == "timeout"
    assert (await following(bench, session, other))["destination"] == "dtn://dpop1/other"
    assert (await refused(opened(bench, session, "dtn://home/inbox"))).name == "bad_params"


async def test_too_many_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "RECEIVERS_MAX", 1)
    bench, session = NodeBench(), Session()
    await opened(bench, session)
    assert (await refused(opened(bench, session))).name == "failed"


async def test_an_offer_to_a_receiver_that_is_gone_is_ignored() -> None:
    bench = NodeBench()
    bench.dispatch(ev.ReceiverAttached(99, INBOX))
    arrive(bench, 1)
    assert len(bench.agent.entries()) == 1


async def test_small_content_comes_along() -> None:
    """With the offer that is there, and with the one that is waited for; not above what was asked for."""
    bench, session = NodeBench(), Session()
    receiver = await opened(bench, session)
    wish = receiver | {"timeout_s": None, "data_max_bytes": 5}
    got: list[Any] = []

    async def wait() -> None:
        got.append(await bench.receivers.next(session, wish))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        text = arrive(bench, 1)
    assert [(message["message"], message["data"]) for message in got] == [(text, b"hello")]
    assert (await bench.receivers.next(session, wish))["data"] == b"hello"
    assert "data" not in await bench.receivers.next(session, wish | {"data_max_bytes": 4})


async def test_a_large_message_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "INLINE_SIZE_MAX_BYTES", 1000)
    monkeypatch.setattr(receivers, "FRONT_SIZE_MAX_BYTES", 500)
    bench, session = NodeBench(), Session()
    payload = bytes(range(256)) * 100
    arrive(bench, 1, payload)
    reads: list[int] = []
    read_piece = bench.store.read_piece

    def read(ref: PayloadRef, offset: int, size_bytes: int) -> bytes:
        reads.append(size_bytes)
        return read_piece(ref, offset, size_bytes)

    bench.receivers._served._read_piece = read
    receiver = await opened(bench, session)
    message = await following(bench, session, receiver)
    assert message["size_bytes"] == len(payload)
    got = b""
    while len(got) < len(payload):
        wish = {"message": message["message"], "offset": len(got), "size_bytes": 700}
        got += (await bench.receivers.read(session, receiver | wish))["data"]
    assert got == payload
    assert max(reads) == 700
    bench.store.data.clear()
    wish = {"message": message["message"], "offset": 0, "size_bytes": 700}
    assert (await refused(bench.receivers.read(session, receiver | wish))).name == "failed"
    assert bench.agent.entries() == []
