# SPDX-License-Identifier: Apache-2.0
"""The router's side of DLEP, driven by hand: what a modem may do, and what ends the session (RFC 8175 section 7)."""

import ipaddress
from typing import Final

import msgspec
import pytest

from meshd.base.errors import LocalProtocolError
from meshd.link.dlep.destinations import DESTINATIONS_MAX, Destination
from meshd.link.dlep.items import AddressChange, Metrics, Status
from meshd.link.dlep.messages import Message, MessageType, pack_message, parse_message_untrusted
from meshd.link.dlep.session import (
    INIT_TIMEOUT_S,
    DestinationChanged,
    DestinationGone,
    DlepEvent,
    MetricsChanged,
    RouterSession,
    SessionEnded,
    SessionUp,
    State,
)

METRICS: Final = Metrics(10_000_000, 10_000_000, 2_000_000, 1_000_000, 300_000)
WITH_QUALITY: Final = Metrics(10_000_000, 10_000_000, 2_000_000, 1_000_000, 300_000, quality_transmit_pct=100)
MAC: Final = bytes.fromhex("020000000001")
ADDRESS: Final = ipaddress.ip_address("10.1.0.2")
HEARTBEAT_S: Final = 5.0
GREETING: Final = Message(
    MessageType.SESSION_INIT_RESPONSE,
    status=Status.SUCCESS,
    peer_type="Radio 7",
    is_secured=True,
    heartbeat_ms=2_000,
    metrics=METRICS,
)


def sent(session: RouterSession) -> list[Message]:
    """What the modem gets, read back by our own parser."""
    data, found = session.data_to_send(), []
    while data:
        number, size = int.from_bytes(data[:2]), int.from_bytes(data[2:4])
        found.append(parse_message_untrusted(number, data[4 : 4 + size]))
        data = data[4 + size :]
    return found


def events(session: RouterSession) -> list[DlepEvent]:
    found = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


def opened(greeting: Message = GREETING) -> RouterSession:
    session = RouterSession(HEARTBEAT_S, 0.0)
    sent(session)
    session.receive_data(pack_message(greeting), 1.0)
    events(session)
    return session


def up(mac: bytes = MAC, metrics: Metrics | None = None) -> bytes:
    """Destination Up."""
    return pack_message(
        Message(MessageType.DESTINATION_UP, mac=mac, changes=(AddressChange(ADDRESS),), metrics=metrics or Metrics())
    )


def ended(session: RouterSession) -> tuple[int | None, str]:
    """The status that the modem was told, and the reason that we were."""
    (*_, last) = sent(session)
    assert last.type is MessageType.SESSION_TERMINATION
    assert session.state is State.TERMINATING
    (*_, event) = events(session)
    assert isinstance(event, SessionEnded)
    return last.status, event.reason


def test_the_router_speaks_first() -> None:
    session = RouterSession(HEARTBEAT_S, 0.0)
    hello = Message(MessageType.SESSION_INIT, peer_type="meshd", heartbeat_ms=5000)
    assert sent(session) == [hello]
    session.receive_data(pack_message(GREETING), 1.0)
    assert events(session) == [SessionUp("Radio 7", is_secured=True, metrics=METRICS)]
    assert session.state is State.IN_SESSION
    assert sent(session) == []


def test_any_cut_of_the_stream_gives_the_same() -> None:
    whole = pack_message(GREETING) + up()
    session = RouterSession(HEARTBEAT_S, 0.0)
    for index in range(len(whole)):
        session.receive_data(whole[index : index + 1], 1.0)
    assert [type(event) for event in events(session)] == [SessionUp, DestinationChanged]


def test_a_destination_comes_changes_and_goes() -> None:
    session = opened()
    session.receive_data(up(metrics=Metrics(latency_us=20_000)), 2.0)
    first = Destination(MAC, frozenset({ADDRESS}), METRICS.updated(Metrics(latency_us=20_000)))
    assert events(session) == [DestinationChanged(first)]
    assert sent(session) == [Message(MessageType.DESTINATION_UP_RESPONSE, mac=MAC, status=Status.SUCCESS)]

    slower = Metrics(transmit_bps=64_000)
    session.receive_data(pack_message(Message(MessageType.DESTINATION_UPDATE, mac=MAC, metrics=slower)), 3.0)
    second = Destination(MAC, frozenset({ADDRESS}), first.metrics.updated(slower))
    assert events(session) == [DestinationChanged(second)]
    session.receive_data(pack_message(Message(MessageType.DESTINATION_UPDATE, mac=MAC, metrics=slower)), 3.0)
    assert events(session) == []

    session.receive_data(pack_message(Message(MessageType.DESTINATION_DOWN, mac=MAC)), 4.0)
    assert events(session) == [DestinationGone(second)]
    assert sent(session) == [Message(MessageType.DESTINATION_DOWN_RESPONSE, mac=MAC, status=Status.SUCCESS)]


def test_what_is_said_of_all_holds_for_each() -> None:
    session = opened()
    session.receive_data(up(metrics=Metrics(transmit_bps=500_000)), 2.0)
    sent(session)
    events(session)
    news = Metrics(transmit_bps=250_000)
    session.receive_data(pack_message(Message(MessageType.SESSION_UPDATE, metrics=news)), 3.0)
    assert events(session) == [
        MetricsChanged(METRICS.updated(news)),
        DestinationChanged(Destination(MAC, frozenset({ADDRESS}), METRICS.updated(news))),
    ]
    assert sent(session) == [Message(MessageType.SESSION_UPDATE_RESPONSE, status=Status.SUCCESS)]


def test_a_withdrawn_address_is_forgotten_and_nonsense_is_survived() -> None:
    session = opened()
    session.receive_data(up(), 2.0)
    withdrawn = Message(MessageType.DESTINATION_UPDATE, mac=MAC, changes=(AddressChange(ADDRESS, is_added=False),))
    session.receive_data(pack_message(withdrawn), 3.0)
    session.receive_data(pack_message(withdrawn), 3.0)
    *_, last = events(session)
    assert last == DestinationChanged(Destination(MAC, frozenset(), METRICS))
    assert session.state is State.IN_SESSION


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (bytes.fromhex("00630000"), Status.UNKNOWN_MESSAGE, "unknown type 99"),
        (pack_message(GREETING), Status.UNEXPECTED_MESSAGE, "SESSION_INIT_RESPONSE, which was not expected"),
        (up() + up(), Status.UNEXPECTED_MESSAGE, "02:00:00:00:00:01 was up already"),
        (
            pack_message(Message(MessageType.DESTINATION_UPDATE, mac=MAC)),
            Status.INVALID_DESTINATION,
            "02:00:00:00:00:01 is not up",
        ),
        (
            pack_message(Message(MessageType.DESTINATION_DOWN, mac=MAC)),
            Status.INVALID_DESTINATION,
            "02:00:00:00:00:01 is not up",
        ),
        (up(metrics=Metrics(mtu_bytes=1500)), Status.INVALID_DATA, "had not announced that it would tell mtu_bytes"),
        (bytes.fromhex("00100004 00630000"), Status.INVALID_DATA, "data item 99 is unknown"),
        (
            pack_message(Message(MessageType.SESSION_UPDATE_RESPONSE, status=132, status_text="late")),
            Status.TIMED_OUT,
            "status 132: late",
        ),
    ],
)
def test_what_breaks_the_protocol_ends_the_session(data: bytes, status: Status, reason: str) -> None:
    session = opened()
    session.receive_data(data, 2.0)
    told, why = ended(session)
    assert told == status
    assert reason in why
    session.receive_data(up(b"abcdef"), 2.0)
    assert events(session) == []
    session.receive_data(pack_message(Message(MessageType.SESSION_TERMINATION_RESPONSE)), 2.0)
    assert session.is_closed


def test_the_modem_may_end_it() -> None:
    session = opened()
    bye = Message(MessageType.SESSION_TERMINATION, status=Status.SHUTTING_DOWN, status_text="power")
    session.receive_data(pack_message(bye), 2.0)
    assert sent(session) == [Message(MessageType.SESSION_TERMINATION_RESPONSE)]
    assert events(session) == [SessionEnded("the modem ended the session: status 255, power")]
    assert session.is_closed
    assert session.get_timer() is None


def test_a_refused_session_is_told() -> None:
    session = RouterSession(HEARTBEAT_S, 0.0)
    refused = Message(
        MessageType.SESSION_INIT_RESPONSE,
        status=Status.REQUEST_DENIED,
        status_text="busy",
        peer_type="R",
        heartbeat_ms=1000,
        metrics=METRICS,
    )
    session.receive_data(pack_message(refused), 1.0)
    assert ended(session)[1] == "the modem refused the session: busy"


def test_heartbeats_are_sent_and_missed() -> None:
    session = opened()
    assert session.get_timer() == HEARTBEAT_S
    session.receive_data(pack_message(Message(MessageType.HEARTBEAT)), 4.0)
    session.handle_timer(5.0)
    assert sent(session) == [Message(MessageType.HEARTBEAT)]
    assert session.get_timer() == 8.0  # two of the modem's intervals of 2 s after its last message
    session.handle_timer(8.0)
    assert ended(session) == (Status.TIMED_OUT, "2 heartbeats of the modem are missing")
    session.handle_timer(8.0 + 4 * HEARTBEAT_S)
    assert session.is_closed


def test_a_modem_that_says_nothing_is_given_up() -> None:
    session = RouterSession(HEARTBEAT_S, 0.0)
    session.handle_timer(INIT_TIMEOUT_S)
    assert events(session) == [SessionEnded("the modem did not answer within 10 s")]
    assert session.is_closed


def test_a_closed_connection_ends_it() -> None:
    session = opened()
    session.receive_data(up(), 1.5)
    events(session)
    session.receive_data(b"", 2.0)
    assert events(session) == [SessionEnded("the modem closed the connection")]
    assert len(session.destinations) == 0


def test_our_own_end_is_told() -> None:
    session = opened()
    session.close(2.0)
    assert ended(session) == (Status.SHUTTING_DOWN, "the router is shutting down")


def test_we_decline_what_is_too_much() -> None:
    session = opened()
    for index in range(DESTINATIONS_MAX + 1):
        session.receive_data(up(index.to_bytes(6)), 2.0)
    *_, last = sent(session)
    assert last.status == Status.NOT_INTERESTED
    assert len(session.destinations) == DESTINATIONS_MAX
    declined = DESTINATIONS_MAX.to_bytes(6)
    session.receive_data(pack_message(Message(MessageType.DESTINATION_DOWN, mac=declined)), 2.0)
    assert session.state is State.IN_SESSION


def test_quality_that_was_announced_is_taken() -> None:
    session = opened(msgspec.structs.replace(GREETING, metrics=WITH_QUALITY))
    session.receive_data(up(metrics=Metrics(quality_transmit_pct=40)), 2.0)
    (event,) = events(session)
    assert isinstance(event, DestinationChanged)
    assert event.destination.metrics.quality_transmit_pct == 40


def test_heartbeats_have_a_least_interval() -> None:
    with pytest.raises(LocalProtocolError, match="too often"):
        RouterSession(0.5, 0.0)
