# SPDX-License-Identifier: Apache-2.0
"""Numbers and data items of the Dynamic Link Exchange Protocol (RFC 8175 sections 11.3, 13 and 15).

A modem tells the router in front of it which destinations it reaches and how well. Only what a router without
extensions needs is here: no peer discovery, no connection points.
"""

import enum
import ipaddress
import struct
from typing import Final

import msgspec

from meshd.base.errors import RemoteProtocolError

PORT: Final = 854
"""Section 15.14."""
ITEM_HEAD: Final = struct.Struct("!HH")
TEXT_MAX_CHARS: Final = 256
"""Of a description or a status text that we keep; what is longer is cut."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


class Item(enum.IntEnum):
    """Table 1."""

    STATUS = 1
    PEER_TYPE = 4
    HEARTBEAT_INTERVAL = 5
    EXTENSIONS_SUPPORTED = 6
    MAC_ADDRESS = 7
    IPV4_ADDRESS = 8
    IPV6_ADDRESS = 9
    IPV4_SUBNET = 10
    IPV6_SUBNET = 11
    MAX_RATE_RECEIVE = 12
    MAX_RATE_TRANSMIT = 13
    RATE_RECEIVE = 14
    RATE_TRANSMIT = 15
    LATENCY = 16
    RESOURCES = 17
    QUALITY_RECEIVE = 18
    QUALITY_TRANSMIT = 19
    MTU = 20


class Status(enum.IntEnum):
    """Table 2. From 100 on the session ends."""

    SUCCESS = 0
    NOT_INTERESTED = 1
    REQUEST_DENIED = 2
    INCONSISTENT_DATA = 3
    UNKNOWN_MESSAGE = 128
    UNEXPECTED_MESSAGE = 129
    INVALID_DATA = 130
    INVALID_DESTINATION = 131
    TIMED_OUT = 132
    SHUTTING_DOWN = 255


TERMINATE_FROM: Final = 100


class DlepError(RemoteProtocolError):
    """The modem broke the protocol; `status` is what it is told (section 12.1)."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


class Metrics(msgspec.Struct, frozen=True, gc=False):
    """What a modem says of a link (sections 13.12 to 13.20); None: not said."""

    max_receive_bps: int | None = None
    max_transmit_bps: int | None = None
    receive_bps: int | None = None
    transmit_bps: int | None = None
    latency_us: int | None = None
    resources_pct: int | None = None
    quality_receive_pct: int | None = None
    quality_transmit_pct: int | None = None
    mtu_bytes: int | None = None

    def updated(self, newer: "Metrics") -> "Metrics":
        """What was said last holds, whatever it was said of (section 6)."""
        changes = {field: value for field in METRIC_FIELDS if (value := getattr(newer, field)) is not None}
        return msgspec.structs.replace(self, **changes) if changes else self


METRIC_FIELDS: Final = Metrics.__struct_fields__
METRIC_OF: Final = dict(zip((item for item in Item if item >= Item.MAX_RATE_RECEIVE), METRIC_FIELDS, strict=True))
_METRIC_BYTES: Final = {**dict.fromkeys(METRIC_OF, 8), Item.MTU: 2} | dict.fromkeys(
    (Item.RESOURCES, Item.QUALITY_RECEIVE, Item.QUALITY_TRANSMIT), 1
)
_PERCENTAGES: Final = frozenset({Item.RESOURCES, Item.QUALITY_RECEIVE, Item.QUALITY_TRANSMIT})


class AddressChange(msgspec.Struct, frozen=True):
    """An address or an attached subnet is added or withdrawn (sections 13.8 to 13.11)."""

    subject: Address | Subnet
    is_added: bool = True


def read_metric(item: Item, value: bytes) -> int:
    """A metric's number. Errors: DlepError."""
    _check_size(item, value, _METRIC_BYTES[item])
    number = int.from_bytes(value)
    if item in _PERCENTAGES and number > 100:
        raise _invalid(item, f"{number} is no percentage")
    return number


def write_metric(item: Item, number: int) -> bytes:
    """The whole data item."""
    return write_item(item, number.to_bytes(_METRIC_BYTES[item]))


def read_change(item: Item, value: bytes) -> AddressChange:
    """An address or subnet. Errors: DlepError."""
    size = 4 if item in {Item.IPV4_ADDRESS, Item.IPV4_SUBNET} else 16
    is_subnet = item in {Item.IPV4_SUBNET, Item.IPV6_SUBNET}
    _check_size(item, value, 1 + size + is_subnet)
    address = ipaddress.ip_address(value[1 : 1 + size])
    is_added = bool(value[0] & 1)
    if not is_subnet:
        return AddressChange(address, is_added)
    if value[-1] > size * 8:
        raise _invalid(item, f"a prefix of {value[-1]} bits")
    return AddressChange(ipaddress.ip_network((address, value[-1]), strict=False), is_added)


def write_change(change: AddressChange) -> bytes:
    """The whole data item."""
    subject = change.subject
    flags = bytes([change.is_added])
    if isinstance(subject, ipaddress.IPv4Address | ipaddress.IPv6Address):
        item = Item.IPV4_ADDRESS if subject.version == 4 else Item.IPV6_ADDRESS
        return write_item(item, flags + subject.packed)
    item = Item.IPV4_SUBNET if subject.version == 4 else Item.IPV6_SUBNET
    return write_item(item, flags + subject.network_address.packed + bytes([subject.prefixlen]))


def read_mac(value: bytes) -> bytes:
    """EUI-48 or EUI-64 (section 13.7). Errors: DlepError."""
    if len(value) not in {6, 8}:
        raise _invalid(Item.MAC_ADDRESS, f"{len(value)} bytes instead of 6 or 8")
    return value


def read_heartbeat(value: bytes) -> int:
    """Milliseconds (section 13.5). Errors: DlepError."""
    _check_size(Item.HEARTBEAT_INTERVAL, value, 4)
    interval_ms = int.from_bytes(value)
    if not interval_ms:
        raise _invalid(Item.HEARTBEAT_INTERVAL, "an interval of 0")
    return interval_ms


def read_flagged_text(item: Item, value: bytes) -> tuple[int, str]:
    """The first byte, and the text after it with what cannot be printed replaced. Errors: DlepError."""
    if not value:
        raise _invalid(item, "it is empty")
    text = value[1:].decode("utf-8", "replace")[:TEXT_MAX_CHARS]
    return value[0], "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def read_extensions(value: bytes) -> tuple[int, ...]:
    """Their types (section 13.6). Errors: DlepError."""
    if len(value) % 2:
        raise _invalid(Item.EXTENSIONS_SUPPORTED, "half a number at its end")
    return struct.unpack(f"!{len(value) // 2}H", value)


def write_item(item: Item, value: bytes) -> bytes:
    """Type, length and value (section 11.3)."""
    return ITEM_HEAD.pack(item, len(value)) + value


def _check_size(item: Item, value: bytes, size: int) -> None:
    if len(value) != size:
        raise _invalid(item, f"{len(value)} bytes instead of {size}")


def _invalid(item: Item, text: str) -> DlepError:
    return DlepError(Status.INVALID_DATA, f"the modem's data item {item.name} is invalid: {text}")
