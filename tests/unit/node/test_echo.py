# SPDX-License-Identifier: Apache-2.0
"""The echo service: what it answers, with what, and what it never answers."""

from typing import Any

import pytest

from meshd.bundle.blocks import BundleFlag
from meshd.bundle.codec import decode_untrusted
from meshd.bundle.eid import NULL_EID, parse_eid
from meshd.bundle.record import BundleRecord, Part
from meshd.node import commands as cmd
from meshd.node import events as ev
from meshd.node.echo import echo_endpoint, is_echo
from tests.unit.node.playbook import DPOP2, HOUR_MS, LAN, NODE, SAT, Playbook

ECHO = parse_eid("dtn://dpop1/echo")


def answer(play: Playbook) -> BundleRecord:
    """The bundle that the last event has put."""
    (write,) = [command for command in play.commands if isinstance(command, cmd.WriteStore)]
    (record,) = write.puts
    return record


def payload(record: BundleRecord) -> bytes:
    """What it carries."""
    assert record.payload.inline is not None
    return decode_untrusted(record.payload.inline).payload


def test_the_answer_is_durable_before_the_request_is_acknowledged() -> None:
    play = Playbook()
    play.up(LAN)
    play.bundle("ping", ECHO, payload=b"hello", precedence=4, lifetime_ms=60_000)
    play.expect(play.received(LAN, "ping"), "store put own0; delete ping; note creation")
    record = answer(play)
    assert (record.id.source, record.destination) == (ECHO, parse_eid("dtn://dpop2/inbox"))
    assert (payload(record), record.precedence, record.flags) == (b"hello", 4, 0)
    assert record.expiry_ms == play.now_ms + 60_000
    play.expect(play.stored("own0"), "accept lan0>dpop2 ping", "send lan0>dpop2 own0")


def test_the_answer_lives_as_long_as_the_request_would_have() -> None:
    play = Playbook()
    play.bundle("ping", ECHO, time_ms=play.now_ms - 40_000, lifetime_ms=60_000)
    play.handle(play.received(LAN, "ping"))
    assert answer(play).expiry_ms == play.now_ms + 20_000


@pytest.mark.parametrize(
    "changes",
    [
        {"source": parse_eid("dtn://dpop2/echo")},
        {"source": parse_eid("ipn:5.7")},
        {"source": NULL_EID, "flags": BundleFlag.MUST_NOT_FRAGMENT},
        {"flags": BundleFlag.IS_ADMIN_RECORD},
        {"part": Part(1, 1, 0, 0, is_last=True)},
    ],
    ids=["an echo", "an ipn echo", "nobody", "admin record", "part"],
)
def test_no_answer(changes: dict[str, Any]) -> None:
    play = Playbook()
    play.bundle("ping", ECHO, **changes)
    play.expect(play.received(LAN, "ping"), "accept lan0>dpop2 ping")
    assert play.kinds == ["bundle.dropped"]
    assert play.agent.entries() == []


def test_a_request_that_comes_twice_is_answered_once() -> None:
    play = Playbook()
    play.bundle("ping", ECHO)
    play.handle(play.received(LAN, "ping"))
    play.expect(play.received(LAN, "ping"))
    play.expect(play.stored("own0"), "accept lan0>dpop2 ping ping")
    play.expect(play.received(LAN, "ping"), "accept lan0>dpop2 ping")


def test_a_request_whose_answer_could_not_be_stored_may_come_again() -> None:
    play = Playbook()
    play.bundle("ping", ECHO)
    play.handle(play.received(LAN, "ping"))
    play.expect(play.not_stored("own0"), "refuse lan0>dpop2 ping retriable")
    play.expect(play.received(LAN, "ping"), "store put own1; delete ping")


def test_a_full_store_refuses_requests_as_it_refuses_what_goes_onward() -> None:
    play = Playbook(quota_bytes=1000)
    play.bundle("ping", ECHO, payload=bytes(850))
    play.expect(play.received(LAN, "ping"), "refuse lan0>dpop2 ping retriable")


def test_to_oneself() -> None:
    play = Playbook()
    play.handle(ev.ReceiverAttached(1, parse_eid("dtn://dpop1/inbox")))
    play.expect(play.submitted(destination=ECHO, report=False), "store put own0; note own0=queued creation")
    play.expect(play.stored("own0"), "store put own1; delete own0", "accepted 1 own0")
    play.expect(play.stored("own1"), "deliver 1 own1")


def test_a_request_of_our_own_that_is_not_in_memory_any_more_is_dropped() -> None:
    play = Playbook()
    play.handle(play.submitted(destination=ECHO))
    play.agent._state.table.inline_bytes = 1 << 40
    play.expect(play.stored("own0"), "store delete own0; note own0=refused", "accepted 1 own0")


def test_names() -> None:
    assert echo_endpoint(NODE) == ECHO
    assert echo_endpoint(parse_eid("ipn:5.0")) == parse_eid("ipn:5.7")
    uris = ("dtn://a/echo", "ipn:1.7", "dtn://a/7", "ipn:1.70", "dtn://a/")
    assert [uri for uri in uris if is_echo(parse_eid(uri))] == ["dtn://a/echo", "ipn:1.7"]


def test_an_echo_request_to_another_node_passes() -> None:
    play = Playbook()
    play.up(SAT)
    play.bundle("ping", parse_eid("dtn://home/echo"), source=DPOP2, lifetime_ms=HOUR_MS)
    assert play.take_in("ping") == ["accept lan0>dpop2 ping", "send sat0>home ping"]
