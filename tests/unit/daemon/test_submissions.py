# SPDX-License-Identifier: Apache-2.0
"""`send.*` on a real agent and a store in memory."""

from collections.abc import Awaitable
from typing import Any

import pytest
import trio
import trio.testing

from meshd.base.limits import PART_SIZE_BYTES
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId
from meshd.control.errors import ControlError
from meshd.daemon import submissions
from meshd.daemon.submissions import PARTS_WAITING_MAX, local_endpoint
from meshd.node.events import TimerFired
from tests.unit.daemon.node_bench import LIFETIME_MS, NodeBench, Session, open_params

FAR = "dtn://home/inbox"


async def refused(call: Awaitable[Any]) -> ControlError:
    """The error that a call ends with."""
    with pytest.raises(ControlError) as error:
        await call
    return error.value


async def test_a_small_message() -> None:
    bench, session = NodeBench(), Session()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run_store)
        answer = await bench.send(session, b"hello", FAR)
        nursery.cancel_scope.cancel()
    (entry,) = bench.agent.entries()
    assert (answer["parts"], answer["size_bytes"], answer["state"]) == (1, 5, "queued")
    assert answer["message"].startswith("dtn://dpop1/inbox@")
    assert entry.record.part is None
    assert entry.record.expiry_ms - entry.record.received_ms == LIFETIME_MS
    assert bench.submissions._submissions == {}


@pytest.mark.parametrize(
    ("size_bytes", "parts"),
    [(0, 1), (PART_SIZE_BYTES, 1), (PART_SIZE_BYTES + 1, 2), (2 * PART_SIZE_BYTES, 2), (2 * PART_SIZE_BYTES + 5, 3)],
)
async def test_cut_into_parts(size_bytes: int, parts: int) -> None:
    bench, session = NodeBench(), Session()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run_store)
        answer = await bench.send(session, bytes(size_bytes), FAR)
        nursery.cancel_scope.cancel()
    assert (answer["parts"], answer["size_bytes"], len(bench.agent.entries())) == (parts, size_bytes, parts)


async def test_nothing_is_promised_before_it_is_durable(autojump_clock: trio.testing.MockClock) -> None:
    bench, session = NodeBench(), Session()
    with trio.move_on_after(100) as scope:
        await bench.send(session, b"hello", FAR)
    assert scope.cancelled_caught


async def test_back_pressure() -> None:
    bench, session = NodeBench(), Session()
    opened = await bench.submissions.open(session, open_params(FAR))
    piece = opened | {"data": bytes(PART_SIZE_BYTES)}
    for _ in range(PARTS_WAITING_MAX + 1):
        await bench.submissions.data(session, piece)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.submissions.data, session, piece)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1, "the sixth piece waits for the disk"
        bench.commit()
    assert len(bench.agent.entries()) == PARTS_WAITING_MAX + 1


async def test_store_failure_refuses_data_and_close() -> None:
    bench, session = NodeBench(), Session()
    bench.store.fails = "disk full"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run_store)
        error = await refused(bench.send(session, b"hello", FAR))
        nursery.cancel_scope.cancel()
    assert (error.name, "disk full" in str(error)) == ("store_full", True)
    opened = await bench.submissions.open(session, open_params(FAR))
    await bench.submissions.data(session, opened | {"data": bytes(PART_SIZE_BYTES)})
    await bench.submissions.data(session, opened | {"data": b"x"})
    bench.commit()
    assert (await refused(bench.submissions.data(session, opened | {"data": b"y"}))).name == "store_full"
    assert (await refused(bench.submissions.close(session, opened))).name == "not_found"
    assert bench.agent.entries() == []


async def test_refusal_found_at_close() -> None:
    bench, session = NodeBench(), Session()
    opened = await bench.submissions.open(session, open_params(FAR))
    await bench.submissions.data(session, opened | {"data": bytes(PART_SIZE_BYTES + 1)})
    bench.store.fails = "disk full"
    bench.commit()
    assert (await refused(bench.submissions.close(session, opened))).name == "store_full"


async def test_a_message_that_expires_before_it_is_durable_is_answered() -> None:
    bench, session = NodeBench(), Session()
    errors: list[ControlError] = []

    async def send() -> None:
        errors.append(await refused(bench.send(session, b"hello", FAR, lifetime_ms=1)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        (entry,) = bench.agent.entries()
        bench.now += 1
        bench.dispatch(TimerFired())
    assert [error.name for error in errors] == ["failed"]
    assert entry.record.expiry_ms - entry.record.received_ms == 1


async def test_abort_and_the_end_of_a_session_forget_the_parts() -> None:
    bench, session, other = NodeBench(), Session(), Session(2)
    opened = await bench.submissions.open(session, open_params(FAR))
    mine = await bench.submissions.open(other, open_params(FAR))
    for who, which in ((session, opened), (other, mine)):
        await bench.submissions.data(who, which | {"data": bytes(PART_SIZE_BYTES)})
        await bench.submissions.data(who, which | {"data": b"x"})
    assert len(bench.agent.entries()) == 2
    await bench.submissions.abort(session, opened)
    assert len(bench.agent.entries()) == 1
    bench.submissions.session_closed(other)
    assert bench.agent.entries() == []
    bench.commit()
    assert (await refused(bench.submissions.close(session, opened))).name == "not_found"


async def test_a_session_sees_its_own_submissions_only() -> None:
    bench, session = NodeBench(), Session()
    opened = await bench.submissions.open(session, open_params(FAR))
    assert (await refused(bench.submissions.data(Session(2), opened | {"data": b""}))).name == "not_found"


async def test_answers_for_what_is_gone_are_ignored() -> None:
    bench = NodeBench()
    bench.part_accepted(99)
    bench.submission_refused(99, "failed", "x")
    bench.submission_accepted(99, BundleId(parse_eid(FAR), 1, 1))
    assert bench.submissions._submissions == {}


async def test_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "SUBMISSIONS_MAX", 1)
    bench, session = NodeBench(), Session()
    await bench.submissions.open(session, open_params(FAR))
    assert (await refused(bench.submissions.open(session, open_params(FAR)))).name == "failed"


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (open_params("nonsense"), "destination"),
        (open_params(FAR, lifetime_ms=0), "lifetime_ms"),
        (open_params(FAR, endpoint="dtn://home/inbox"), "is not on this node"),
        (open_params(FAR, endpoint="dtn://dpop1/"), "administrative"),
        (open_params(FAR, endpoint="a b"), "endpoint 'a b'"),
    ],
)
async def test_bad_parameters(params: dict[str, Any], text: str) -> None:
    bench = NodeBench()
    error = await refused(bench.submissions.open(Session(), params))
    assert (error.name, text in str(error)) == ("bad_params", True)
    assert bench.submissions._submissions == {}


async def test_the_agent_has_the_last_word_on_destinations() -> None:
    bench = NodeBench()
    for destination in ("dtn:none", "dtn://home/"):
        assert (await refused(bench.send(Session(), b"x", destination))).name == "bad_params"


@pytest.mark.parametrize(
    ("node", "name", "uri"),
    [
        ("dtn://dpop1/", "inbox", "dtn://dpop1/inbox"),
        ("dtn://dpop1/", "dtn://dpop1/a/b", "dtn://dpop1/a/b"),
        ("ipn:3.0", "8", "ipn:3.8"),
        ("ipn:3.0", "ipn:3.9", "ipn:3.9"),
    ],
)
def test_short_names_of_endpoints(node: str, name: str, uri: str) -> None:
    assert local_endpoint(parse_eid(node), name).uri == uri


async def test_a_message_in_one_request() -> None:
    """`send.message` promises what `send.close` does."""
    bench, session = NodeBench(), Session()
    answers: list[Any] = []

    async def send() -> None:
        params = open_params("dtn://dpop1/inbox")
        del params["size_bytes"]
        answers.append(await bench.submissions.send(session, params | {"data": b"hello"}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [], "it is not durable"
        bench.commit()
    (answer,) = answers
    assert (answer["parts"], answer["size_bytes"], answer["state"]) == (1, 5, "queued")
    bench.store.fails = "the disk is full"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run_store)
        with pytest.raises(ControlError, match="the disk is full"):
            await bench.submissions.send(session, open_params("dtn://dpop1/inbox") | {"data": b"hello"})
        nursery.cancel_scope.cancel()
