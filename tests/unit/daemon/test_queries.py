# SPDX-License-Identifier: Apache-2.0
"""`bundles.*` and `message.wait` on a real agent and a store in memory."""

from collections.abc import Awaitable
from typing import Any

import pytest
import trio
import trio.testing

from meshd.bundle.record import bundle_id_text, bundle_ref, parse_bundle_id_text
from meshd.control.errors import ControlError
from meshd.daemon import queries
from meshd.node import events as ev
from tests.unit.daemon.node_bench import NodeBench
from tests.unit.node.playbook import HOME_INBOX, INBOX, SAT

FAR = HOME_INBOX.uri


async def refused(call: Awaitable[Any]) -> ControlError:
    """The error that a call ends with."""
    with pytest.raises(ControlError) as error:
        await call
    return error.value


def submit(bench: NodeBench, *data: bytes, number: int = 1, destination: Any = HOME_INBOX, commit: bool = True) -> str:
    """A message of these parts; the ID of its first bundle."""
    before = {entry.record.id for entry in bench.agent.entries()}
    for index, each in enumerate(data):
        is_last = index + 1 == len(data)
        bench.dispatch(ev.MessageSubmitted(number, INBOX, destination, 4, 60_000, True, each, is_last))
    if commit:
        bench.commit()
    return bundle_id_text(next(entry.record.id for entry in bench.agent.entries() if entry.record.id not in before))


def ref(text: str) -> str:
    """The short reference of an ID."""
    return bundle_ref(parse_bundle_id_text(text))


def listing(**changes: Any) -> dict[str, Any]:
    """Parameters of `bundles.list`."""
    return {"limit": 1000, "destination": None, "state": None} | changes


def wait(message: str, state: str = "delivered", timeout_s: float | None = None) -> dict[str, Any]:
    """Parameters of `message.wait`."""
    return {"message": message, "state": state, "timeout_s": timeout_s}


def forward(bench: NodeBench) -> None:
    """Everything leaves for home."""
    bench.dispatch(ev.LinkUp(SAT))
    bench.dispatch(ev.LinkWritable(SAT, 10**9))
    bench.dispatch(ev.TransfersAcknowledged(SAT, [bundle for bundle, _ in bench.bearers["sat0"].sent]))
    bench.commit()


async def test_list() -> None:
    bench = NodeBench()
    away = submit(bench, b"away")
    here = submit(bench, b"here", number=2, destination=INBOX)
    answer = await bench.queries.list_bundles(listing())
    assert [row["id"] for row in answer["bundles"]] == [away, here]
    row = answer["bundles"][0]
    assert (row["ref"], row["message_ref"], row["part"]) == (ref(away), ref(away), None)
    assert (row["precedence"], row["state"], row["destination"]) == ("FLASH", "waiting", FAR)
    assert row["expiry_ms"] - row["received_ms"] == 60_000
    for changes, found in (
        ({"limit": 1}, [away]),
        ({"limit": 0}, []),
        ({"destination": FAR}, [away]),
        ({"destination": "dtn://dpop1/"}, [here]),
        ({"state": "for_delivery"}, [here]),
        ({"state": "queued"}, []),
    ):
        answer = await bench.queries.list_bundles(listing(**changes))
        assert [row["id"] for row in answer["bundles"]] == found, changes
        assert answer["total"] == (2 if "limit" in changes else len(found))
    error = await refused(bench.queries.list_bundles(listing(state="lost")))
    assert (error.name, "waiting" in str(error)) == ("bad_params", True)


async def test_list_of_many_lets_others_run() -> None:
    bench = NodeBench()
    for number in range(600):
        submit(bench, b"x", number=number, commit=False)
    bench.commit()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.queries.list_bundles, listing())
        await trio.testing.wait_all_tasks_blocked()
    answer = await bench.queries.list_bundles(listing())
    assert answer["total"] == 600


async def test_show_a_bundle() -> None:
    bench = NodeBench()
    text = submit(bench, b"hello")
    row = await bench.queries.show({"bundle": text})
    assert (row["id"], row["flags"], row["lifetime_ms"]) == (text, ["REPORT_DELIVERY"], 60_000)
    assert (row["previous_node"], row["next_hops"], row["attempts"]) == (None, [], 0)
    assert "down or silent" in row["waiting_for"]
    assert [item["what"] for item in row["history"]] == ["message queued"]
    bench.dispatch(ev.LinkUp(SAT))
    row = await bench.queries.show({"bundle": ref(text)[:8]})
    assert (row["state"], row["next_hops"], row["waiting_for"]) == ("queued", ["sat0>dtn://home/"], None)


async def test_show_a_part() -> None:
    bench = NodeBench()
    part = bytes(1024 * 1024)
    text = submit(bench, part, b"end")
    rows = (await bench.queries.list_bundles(listing()))["bundles"]
    assert [row["part"] for row in rows] == [{"index": 0, "last": False}, {"index": 1, "last": True}]
    assert {row["message_ref"] for row in rows} == {ref(text)}


async def test_show_a_message_that_has_left() -> None:
    bench = NodeBench()
    text = submit(bench, b"hello")
    forward(bench)
    for name in (text, ref(text)):
        row = await bench.queries.show({"bundle": name})
        assert (row["id"], row["state"], row["destination"], row["size_bytes"]) == (text, "forwarded", FAR, 5)
    answer = await bench.queries.explain({"bundle": text})
    assert (answer["state"], "safe with a next hop" in answer["summary"]) == ("forwarded", True)
    assert any("bundle.forwarded" in item["what"] for item in answer["history"])


async def explained(bench: NodeBench, text: str) -> str:
    """Summary of `bundles.explain`."""
    return str((await bench.queries.explain({"bundle": text}))["summary"])


async def test_explain_every_state_of_a_bundle() -> None:
    bench = NodeBench()
    text = submit(bench, b"hello", commit=False)
    assert "being written" in await explained(bench, text)
    bench.commit()
    assert "kept until something changes" in await explained(bench, text)
    bench.dispatch(ev.LinkUp(SAT))
    assert "out-queue of sat0>dtn://home/" in await explained(bench, text)
    bench.dispatch(ev.LinkWritable(SAT, 100_000))
    assert "not acknowledged" in await explained(bench, text)
    bench.dispatch(ev.MessageSubmitted(5, INBOX, HOME_INBOX, 1, 60_000, True, bytes(1 << 20), is_last=False))
    bench.commit()
    held = next(entry for entry in bench.agent.entries() if entry.record.held)
    assert "has not finished" in await explained(bench, bundle_id_text(held.record.id))
    here = submit(bench, b"here", number=2, destination=INBOX)
    assert "waits for an application" in await explained(bench, here)
    bench.dispatch(ev.TransfersFailed(SAT, [parse_bundle_id_text(text)], ev.RefusalReason(False, True, False, "full")))
    answer = await bench.queries.explain({"bundle": text})
    assert "was returned 1 time(s)" in answer["steps"]
    assert answer["steps"][0].startswith("was made here with precedence FLASH")


async def test_explain_every_state_of_a_message() -> None:
    bench = NodeBench()
    expired = submit(bench, b"late")
    bench.now += 61
    bench.dispatch(ev.TimerFired())
    assert "lifetime ended" in await explained(bench, expired)
    gone = submit(bench, b"gone", number=2)
    await bench.queries.cancel({"bundle": gone}, "uid 0")
    assert "given up: cancelled by uid 0" in await explained(bench, gone)
    here = submit(bench, b"here", number=3, destination=INBOX)
    bench.dispatch(ev.ReceiverAttached(1, INBOX))
    bench.dispatch(ev.DeliveryConfirmed(1, parse_bundle_id_text(here)))
    assert "application has confirmed" in await explained(bench, here)


async def test_cancel() -> None:
    bench = NodeBench()
    text = submit(bench, bytes(1024 * 1024), b"end")
    other = submit(bench, b"other", number=2)
    assert await bench.queries.cancel({"bundle": ref(text)}, "uid 0") == {"cancelled": 2}
    assert [bundle_id_text(entry.record.id) for entry in bench.agent.entries()] == [other]
    error = await refused(bench.queries.cancel({"bundle": text}, "uid 0"))
    assert (error.name, "refused" in str(error)) == ("not_found", True)


@pytest.mark.parametrize(
    ("name", "error_name"),
    [
        ("abc", "bad_params"),
        ("xyzxyz", "bad_params"),
        ("no@id", "bad_params"),
        ("0000", "not_found"),
        ("dtn://dpop1/inbox@1.1", "not_found"),
    ],
)
async def test_names_that_lead_nowhere(name: str, error_name: str) -> None:
    bench = NodeBench()
    assert (await refused(bench.queries.show({"bundle": name}))).name == error_name
    assert (await refused(bench.queries.wait(wait(name)))).name == error_name


async def test_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "REF_DIGITS_MIN", 1)
    bench = NodeBench()
    texts = [submit(bench, b"x", number=number) for number in range(17)]
    digits = [ref(text)[0] for text in texts]
    digit = next(digit for digit in digits if digits.count(digit) > 1)
    for call in (bench.queries.show({"bundle": digit}), bench.queries.wait(wait(digit))):
        assert (await refused(call)).name == "ambiguous"
    assert (await bench.queries.show({"bundle": ref(texts[0])}))["id"] == texts[0]


async def test_wait_until_forwarded() -> None:
    bench = NodeBench()
    text = submit(bench, b"hello")
    answers: list[Any] = []

    async def waits() -> None:
        answers.append(await bench.queries.wait(wait(text, "forwarded")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        forward(bench)
    assert answers == [{"message": text, "ref": ref(text), "state": "forwarded", "reason": None}]


async def test_wait_for_delivery_ends_with_the_message() -> None:
    bench = NodeBench()
    text = submit(bench, b"hello")
    answers: list[Any] = []

    async def waits() -> None:
        answers.append(await bench.queries.wait(wait(text)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.testing.wait_all_tasks_blocked()
        bench.now += 61
        bench.dispatch(ev.TimerFired())
        bench.commit()
    assert (answers[0]["state"], answers[0]["reason"]) == ("expired", "lifetime expired")


async def test_wait_gives_up(autojump_clock: trio.testing.MockClock) -> None:
    bench = NodeBench()
    text = submit(bench, b"hello")
    error = await refused(bench.queries.wait(wait(ref(text), "delivered", 30)))
    assert (error.name, trio.current_time()) == ("timeout", 30)
    assert "is queued after 30 s" in str(error)
