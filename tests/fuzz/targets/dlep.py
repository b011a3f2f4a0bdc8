# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a modem's bytes in a DLEP session; however they are cut, the same events and answers come out."""

from ipaddress import ip_address, ip_network

from meshd.link.dlep.destinations import DESTINATIONS_MAX
from meshd.link.dlep.items import AddressChange, Metrics, Status
from meshd.link.dlep.messages import Message, MessageType, pack_message
from meshd.link.dlep.session import DlepEvent, RouterSession, SessionEnded
from tests.fuzz.streams import cut

_MAC = bytes.fromhex("020000000001")


def check(data: bytes) -> None:
    """One input: a byte of chance, then the stream after the modem's greeting."""
    stream = _greeting() + data[1:]
    whole = _run([stream])
    assert whole == _run(cut(stream, data[0] if data else 0)), "what comes of a stream depends on how it was cut"
    events, _ = whole
    assert sum(isinstance(event, SessionEnded) for event in events) == 1


def _run(pieces: list[bytes]) -> tuple[list[DlepEvent], bytes]:
    session = RouterSession(5.0, 0.0)
    events: list[DlepEvent] = []
    answers = b""
    for piece in [*pieces, b""]:
        session.receive_data(piece, 0.0)
        answers += session.data_to_send()
        while (event := session.next_event()) is not None:
            events.append(event)
        assert len(session.destinations) <= DESTINATIONS_MAX
    return events, answers


def _greeting() -> bytes:
    metrics = Metrics(10_000, 10_000, 10_000, 10_000, 100, 100, 100, 100, 1500)
    return pack_message(
        Message(
            MessageType.SESSION_INIT_RESPONSE,
            status=Status.SUCCESS,
            peer_type="modem",
            heartbeat_ms=1000,
            metrics=metrics,
        )
    )


def seeds() -> dict[str, bytes]:
    """Destinations that come, change and go, and the ends of a session."""
    up = Message(
        MessageType.DESTINATION_UP,
        mac=_MAC,
        changes=(AddressChange(ip_address("10.0.0.2")), AddressChange(ip_network("2001:db8::/64"))),
        metrics=Metrics(transmit_bps=5_000),
    )
    changed = Message(
        MessageType.DESTINATION_UPDATE,
        mac=_MAC,
        changes=(AddressChange(ip_address("10.0.0.2"), is_added=False),),
        metrics=Metrics(quality_transmit_pct=50),
    )
    down = Message(MessageType.DESTINATION_DOWN, mac=_MAC)
    session = Message(MessageType.SESSION_UPDATE, metrics=Metrics(latency_us=7))
    end = Message(MessageType.SESSION_TERMINATION, status=Status.SHUTTING_DOWN, status_text="bye")
    streams = {
        "up": [up],
        "life": [up, changed, down],
        "session": [up, session],
        "twice": [up, up],
        "unknown": [changed],
        "heartbeat": [Message(MessageType.HEARTBEAT)],
        "end": [up, end],
    }
    return {name: b"\x03" + b"".join(map(pack_message, messages)) for name, messages in streams.items()}


def dictionary() -> list[bytes]:
    """Heads of messages and data items."""
    heads = [kind.to_bytes(2) for kind in MessageType]
    items = ["00070006020000000001", "000f00080000000000000001", "001300013c", "0001000100", "0008000501"]
    return [*heads, *map(bytes.fromhex, items)]
