# SPDX-License-Identifier: Apache-2.0
"""The messages of AAP 2.0, µD3TN's application protocol: what they hold, and their codec.

Message and field numbers are those of its public definition. Before each message stands its length as a varint. What
administers routes and links (dispatch events, links) is recognised so that it can be refused; what is in it is not
read.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from meshd.control.aap2_wire import Aap2Error, encode_field, encode_varint, read_fields, read_varint

MAGIC: Final = b"\x2f"
"""The first byte that a server sends, before its Welcome."""
MESSAGE_MAX_BYTES: Final = 16 * 1024
"""A message above this is refused; a payload is not part of its message."""
ADU_FLAGS_MAX: Final = 64

M = TypeVar("M")


class AuthType(enum.IntEnum):
    """What a client asks to be allowed."""

    DEFAULT = 0
    FIB_CONTROL = 1
    BUNDLE_DISPATCH = 2
    FIB_AND_DISPATCH = 3


class AduFlag(enum.IntEnum):
    """What a payload is, or asks for."""

    NORMAL = 0
    BPDU = 1
    WITH_BDM_AUTH = 2
    STATUS_REPORT = 3


class Status(enum.IntEnum):
    """How a request ended."""

    UNSPECIFIED = 0
    SUCCESS = 1
    ACK = 2
    ERROR = 8
    TIMEOUT = 9
    INVALID_REQUEST = 10
    NOT_FOUND = 11
    UNAUTHORIZED = 12


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's first message."""

    node_id: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """The client's first message: what it wants to be."""

    is_subscriber: bool = False
    auth_type: int = AuthType.DEFAULT
    secret: str = ""
    endpoint_id: str = ""
    keepalive_seconds: int = 0


@dataclass(frozen=True, slots=True)
class BundleAdu:
    """A payload to send, or one that arrived; its bytes follow the message."""

    src_eid: str = ""
    dst_eid: str = ""
    report_to_eid: str = ""
    creation_timestamp_ms: int = 0
    sequence_number: int = 0
    payload_length: int = 0
    adu_flags: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Nothing but a sign of life."""


@dataclass(frozen=True, slots=True)
class Administrative:
    """A dispatch event or a link: for modules that administer routes, which meshd has no room for."""

    kind: str


AapMessage = Welcome | ConnectionConfig | BundleAdu | Keepalive | Administrative

_U32_MAX: Final = (1 << 32) - 1
_U64_MAX: Final = (1 << 64) - 1
_FIELDS: Final[dict[type[Any], dict[int, str]]] = {
    Welcome: {1: "node_id"},
    ConnectionConfig: {1: "is_subscriber", 2: "auth_type", 3: "secret", 4: "endpoint_id", 5: "keepalive_seconds"},
    BundleAdu: {
        1: "src_eid",
        2: "dst_eid",
        3: "creation_timestamp_ms",
        4: "sequence_number",
        5: "payload_length",
        6: "adu_flags",
        7: "report_to_eid",
    },
    Keepalive: {},
}
_NUMBER_MAX: Final = {"is_subscriber": 1, "keepalive_seconds": _U32_MAX}
_MESSAGES: Final[dict[int, type[Any]]] = {1: Welcome, 2: ConnectionConfig, 3: BundleAdu, 6: Keepalive}
_MESSAGE_NUMBERS: Final = {kind: number for number, kind in _MESSAGES.items()}
_ADMINISTRATIVE: Final = {4: "dispatch_event", 5: "link"}


def encode_message(message: Welcome | ConnectionConfig | BundleAdu | Keepalive) -> bytes:
    """An AAPMessage with its length before it."""
    return _delimit(encode_field(_MESSAGE_NUMBERS[type(message)], _encode(message)))


def encode_response(status: Status) -> bytes:
    """An AAPResponse with its length before it."""
    return _delimit(encode_field(1, int(status)) if status else b"")


def pull_delimited(data: bytes, pos: int) -> tuple[bytes, int] | None:
    """(message, position behind it); None: it is not whole yet. Errors: Aap2Error."""
    found = read_varint(data, pos)
    if found is None:
        return None
    size, start = found
    if size > MESSAGE_MAX_BYTES:
        raise Aap2Error(f"a message of {size} bytes is too large; {MESSAGE_MAX_BYTES} are the most")
    end = start + size
    return (data[start:end], end) if end <= len(data) else None


def decode_message_untrusted(data: bytes) -> AapMessage:
    """An AAPMessage without its length.

    Errors:
        Aap2Error: it is none, or an empty one.
    """
    number, content = 0, b""
    for field, value in read_fields(data):
        if field not in _MESSAGES and field not in _ADMINISTRATIVE:
            continue
        part = _expect_bytes(field, value)
        # One of several: the last one counts, and what comes in pieces is joined.
        content = content + part if field == number else part
        number = field
    if number in _ADMINISTRATIVE:
        return Administrative(_ADMINISTRATIVE[number])
    if number == 0:
        raise Aap2Error("an AAPMessage without content")
    message: AapMessage = _decode(_MESSAGES[number], content)
    return message


def decode_response_untrusted(data: bytes) -> Status:
    """The status of an AAPResponse without its length; its other fields are for modules that we do not serve.

    Errors:
        Aap2Error: it is none, or its status is unknown.
    """
    number = 0
    for field, value in read_fields(data):
        if field == 1:
            number = _expect_number(field, value, _U64_MAX)
    try:
        return Status(number)
    except ValueError:
        raise Aap2Error(f"the response status {number} is unknown") from None


def _delimit(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _encode(message: Any) -> bytes:
    """The fields that differ from their default, in the order of their numbers."""
    out = b""
    for number, name in _FIELDS[type(message)].items():
        value = getattr(message, name)
        if isinstance(value, tuple):
            out += encode_field(number, b"".join(encode_varint(each) for each in value)) if value else b""
        elif isinstance(value, str):
            out += encode_field(number, value.encode()) if value else b""
        elif value:
            out += encode_field(number, int(value))
    return out


def _decode(kind: type[M], data: bytes) -> M:
    names = _FIELDS[kind]
    empty = kind()
    values: dict[str, Any] = {}
    for number, value in read_fields(data):
        name = names.get(number)
        if name is None:
            continue
        default = getattr(empty, name)
        if isinstance(default, str):
            values[name] = _expect_text(number, value)
        elif isinstance(default, tuple):
            values[name] = (*values.get(name, ()), *_expect_numbers(number, value))
            if len(values[name]) > ADU_FLAGS_MAX:
                raise Aap2Error(f"more than {ADU_FLAGS_MAX} flags")
        else:
            found = _expect_number(number, value, _NUMBER_MAX.get(name, _U64_MAX))
            values[name] = bool(found) if isinstance(default, bool) else found
    return kind(**values)


def _expect_bytes(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Aap2Error(f"field {number} is a number where a text or message belongs")
    return value


def _expect_number(number: int, value: int | bytes, most: int) -> int:
    if not isinstance(value, int):
        raise Aap2Error(f"field {number} is no number")
    if value > most:
        raise Aap2Error(f"field {number} is {value}; {most} is the most")
    return value


def _expect_text(number: int, value: int | bytes) -> str:
    try:
        return _expect_bytes(number, value).decode()
    except UnicodeDecodeError:
        raise Aap2Error(f"field {number} is not UTF-8") from None


def _expect_numbers(number: int, value: int | bytes) -> Iterable[int]:
    """One of a list, or several of it packed."""
    if isinstance(value, int):
        return (value,)
    found: list[int] = []
    pos = 0
    while pos < len(value):
        pulled = read_varint(value, pos)
        if pulled is None:
            raise Aap2Error(f"field {number} ends within a number")
        found.append(pulled[0])
        pos = pulled[1]
    return found
