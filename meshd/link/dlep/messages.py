# SPDX-License-Identifier: Apache-2.0
"""Messages of the Dynamic Link Exchange Protocol (RFC 8175 section 12): bytes to values and back.

Which data items a message must have, may have and may have several times is one table. Extensions are never negotiated,
hence an unknown data item is always an error.
"""

import enum
import struct
from typing import Final

import msgspec

from meshd.link.dlep.items import (
    ITEM_HEAD,
    METRIC_OF,
    AddressChange,
    DlepError,
    Item,
    Metrics,
    Status,
    read_change,
    read_extensions,
    read_flagged_text,
    read_heartbeat,
    read_mac,
    read_metric,
    write_change,
    write_item,
    write_metric,
)

MESSAGE_HEAD: Final = struct.Struct("!HH")


class MessageType(enum.IntEnum):
    """Section 15.3."""

    SESSION_INIT = 1
    SESSION_INIT_RESPONSE = 2
    SESSION_UPDATE = 3
    SESSION_UPDATE_RESPONSE = 4
    SESSION_TERMINATION = 5
    SESSION_TERMINATION_RESPONSE = 6
    DESTINATION_UP = 7
    DESTINATION_UP_RESPONSE = 8
    DESTINATION_ANNOUNCE = 9
    DESTINATION_ANNOUNCE_RESPONSE = 10
    DESTINATION_DOWN = 11
    DESTINATION_DOWN_RESPONSE = 12
    DESTINATION_UPDATE = 13
    LINK_CHARACTERISTICS_REQUEST = 14
    LINK_CHARACTERISTICS_RESPONSE = 15
    HEARTBEAT = 16


class Message(msgspec.Struct, frozen=True):
    """One message with its data items."""

    type: MessageType
    status: int | None = None
    """Of `Status`, or one that we don't know."""
    status_text: str = ""
    peer_type: str | None = None
    is_secured: bool = False
    """The medium has access control (flag of the peer type)."""
    heartbeat_ms: int | None = None
    extensions: tuple[int, ...] = ()
    mac: bytes | None = None
    changes: tuple[AddressChange, ...] = ()
    metrics: Metrics = Metrics()


class _Rule(msgspec.Struct, frozen=True):
    required: frozenset[Item] = frozenset()
    once: frozenset[Item] = frozenset()
    several: frozenset[Item] = frozenset()


_METRICS: Final = frozenset(METRIC_OF)
_BASIC_METRICS: Final = frozenset(item for item in METRIC_OF if item <= Item.LATENCY)
_ADDRESSES: Final = frozenset({Item.IPV4_ADDRESS, Item.IPV6_ADDRESS})
_NETWORK: Final = _ADDRESSES | {Item.IPV4_SUBNET, Item.IPV6_SUBNET}
_MAC: Final = frozenset({Item.MAC_ADDRESS})
_STATUS: Final = frozenset({Item.STATUS})
_HELLO: Final = frozenset({Item.HEARTBEAT_INTERVAL, Item.PEER_TYPE})
_EXTENSIONS: Final = frozenset({Item.EXTENSIONS_SUPPORTED})
_RULES: Final = {
    MessageType.SESSION_INIT: _Rule(_HELLO, _EXTENSIONS, _NETWORK),
    MessageType.SESSION_INIT_RESPONSE: _Rule(_HELLO | _STATUS | _BASIC_METRICS, _EXTENSIONS | _METRICS, _NETWORK),
    MessageType.SESSION_UPDATE: _Rule(once=_METRICS, several=_NETWORK),
    MessageType.SESSION_UPDATE_RESPONSE: _Rule(_STATUS),
    MessageType.SESSION_TERMINATION: _Rule(_STATUS),
    MessageType.SESSION_TERMINATION_RESPONSE: _Rule(),
    MessageType.DESTINATION_UP: _Rule(_MAC, _METRICS, _NETWORK),
    MessageType.DESTINATION_UP_RESPONSE: _Rule(_MAC | _STATUS),
    MessageType.DESTINATION_ANNOUNCE: _Rule(_MAC, several=_ADDRESSES),
    MessageType.DESTINATION_ANNOUNCE_RESPONSE: _Rule(_MAC | _STATUS, _METRICS, _NETWORK),
    MessageType.DESTINATION_DOWN: _Rule(_MAC),
    MessageType.DESTINATION_DOWN_RESPONSE: _Rule(_MAC | _STATUS),
    MessageType.DESTINATION_UPDATE: _Rule(_MAC, _METRICS, _NETWORK),
    MessageType.LINK_CHARACTERISTICS_REQUEST: _Rule(
        _MAC, frozenset({Item.RATE_RECEIVE, Item.RATE_TRANSMIT, Item.LATENCY})
    ),
    MessageType.LINK_CHARACTERISTICS_RESPONSE: _Rule(_MAC | _STATUS, _METRICS),
    MessageType.HEARTBEAT: _Rule(),
}


def parse_message_untrusted(number: int, body: bytes) -> Message:
    """A message from its type and its data items, in any order.

    Errors:
        DlepError: an unknown message (status 128), or one whose items are unknown, invalid, missing or twice (130).
    """
    try:
        kind = MessageType(number)
    except ValueError:
        raise DlepError(Status.UNKNOWN_MESSAGE, f"the modem sent a message of unknown type {number}") from None
    return _assemble(kind, _split(kind, body))


def _split(kind: MessageType, body: bytes) -> list[tuple[Item, bytes]]:
    rule = _RULES[kind]
    found: list[tuple[Item, bytes]] = []
    seen: set[Item | tuple[Item, bytes]] = set()
    at = 0
    while at < len(body):
        if len(body) - at < ITEM_HEAD.size:
            raise _invalid(kind, "a data item is cut off")
        number, size = ITEM_HEAD.unpack_from(body, at)
        at += ITEM_HEAD.size
        value = body[at : at + size]
        at += size
        if len(value) < size:
            raise _invalid(kind, "a data item is longer than its message")
        try:
            item = Item(number)
        except ValueError:
            raise _invalid(kind, f"data item {number} is unknown") from None
        if item not in rule.required | rule.once | rule.several:
            raise _invalid(kind, f"data item {item.name} does not belong there")
        key = (item, value) if item in rule.several else item
        if key in seen:
            raise _invalid(kind, f"data item {item.name} is there twice")
        seen.add(key)
        found.append((item, value))
    missing = rule.required - {item for item, _ in found}
    if missing:
        raise _invalid(kind, f"data item {min(missing).name} is missing")
    return found


def _assemble(kind: MessageType, items: list[tuple[Item, bytes]]) -> Message:
    fields: dict[str, object] = {}
    metrics: dict[str, int] = {}
    changes: list[AddressChange] = []
    for item, value in items:
        match item:
            case Item.STATUS:
                fields["status"], fields["status_text"] = read_flagged_text(item, value)
            case Item.PEER_TYPE:
                flags, fields["peer_type"] = read_flagged_text(item, value)
                fields["is_secured"] = bool(flags & 1)
            case Item.HEARTBEAT_INTERVAL:
                fields["heartbeat_ms"] = read_heartbeat(value)
            case Item.EXTENSIONS_SUPPORTED:
                fields["extensions"] = read_extensions(value)
            case Item.MAC_ADDRESS:
                fields["mac"] = read_mac(value)
            case Item.IPV4_ADDRESS | Item.IPV6_ADDRESS | Item.IPV4_SUBNET | Item.IPV6_SUBNET:
                changes.append(read_change(item, value))
            case _:
                metrics[METRIC_OF[item]] = read_metric(item, value)
    message = Message(kind, changes=tuple(changes), metrics=Metrics(**metrics))
    return msgspec.structs.replace(message, **fields) if fields else message


def pack_message(message: Message) -> bytes:
    """Its bytes: head and data items."""
    items: list[bytes] = []
    if message.status is not None:
        items.append(write_item(Item.STATUS, bytes([message.status]) + message.status_text.encode()))
    if message.peer_type is not None:
        items.append(write_item(Item.PEER_TYPE, bytes([message.is_secured]) + message.peer_type.encode()))
    if message.heartbeat_ms is not None:
        items.append(write_item(Item.HEARTBEAT_INTERVAL, message.heartbeat_ms.to_bytes(4)))
    if message.extensions:
        listed = struct.pack(f"!{len(message.extensions)}H", *message.extensions)
        items.append(write_item(Item.EXTENSIONS_SUPPORTED, listed))
    if message.mac is not None:
        items.append(write_item(Item.MAC_ADDRESS, message.mac))
    items += map(write_change, message.changes)
    for item, field in METRIC_OF.items():
        number = getattr(message.metrics, field)
        if number is not None:
            items.append(write_metric(item, number))
    body = b"".join(items)
    return MESSAGE_HEAD.pack(message.type, len(body)) + body


def _invalid(kind: MessageType, text: str) -> DlepError:
    return DlepError(Status.INVALID_DATA, f"the modem's message {kind.name} is invalid: {text}")
