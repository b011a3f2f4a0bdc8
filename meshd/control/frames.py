# SPDX-License-Identifier: Apache-2.0
"""Frames of the control protocol: a 4-byte big-endian length, then one message as a msgpack array.

    request       [0, id, method, params]
    response      [1, id or nil, error or nil, result]
    notification  [2, method, params]

A frame's length is judged from its first four bytes: whoever announces 1 GiB is refused before any of it is held.
msgpack is taken strictly: no extension types and no timestamps, text in UTF-8, map keys of text or bytes, lengths
bounded. A response without an ID speaks about the session itself (a bad frame has no ID to answer to).

What the methods mean and who may say what when is left to `methods` and the two session machines.
"""

import struct
from typing import Any, Final, NamedTuple

import msgpack

from meshd.base.limits import CONTROL_FRAME_MAX_BYTES
from meshd.control.errors import FrameError

LENGTH_SIZE_BYTES: Final = 4
ARRAY_ITEMS_MAX: Final = 10_000
"""An array above this is refused: msgpack makes room for what a header announces before it reads the items."""
MAP_ITEMS_MAX: Final = 10_000
REQUEST_ID_MAX: Final = (1 << 63) - 1

_LENGTH: Final = struct.Struct(">I")
_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2


class Request(NamedTuple):
    """The client asks for `method`; the response will carry the same ID."""

    id: int
    method: str
    params: dict[str, Any]


class Response(NamedTuple):
    """The answer to a request: `error` as a map, or None and `result`. ID None: about the session itself."""

    id: int | None
    error: dict[str, Any] | None
    result: Any


class Notification(NamedTuple):
    """The daemon tells something that nobody asked for just now."""

    method: str
    params: dict[str, Any]


Message = Request | Response | Notification


class FrameReader:
    """Cuts a byte stream into the payloads of frames. Holds at most one frame and what arrived behind it."""

    def __init__(self, size_max_bytes: int = CONTROL_FRAME_MAX_BYTES) -> None:
        """Refuse frames whose payload is above `size_max_bytes`."""
        self._size_max_bytes = size_max_bytes
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Take bytes as they came from the stream."""
        self._buffer += data

    def next_payload(self) -> bytes | None:
        """Return the next whole payload, None when more bytes are needed. Raises FrameError on a bad length."""
        if len(self._buffer) < LENGTH_SIZE_BYTES:
            return None
        (size_bytes,) = _LENGTH.unpack_from(self._buffer)
        if not 0 < size_bytes <= self._size_max_bytes:
            raise FrameError(
                f"a frame of {size_bytes} bytes is refused: the limit is 1 to {self._size_max_bytes} bytes; "
                "does the other side speak meshd's control protocol?"
            )
        end = LENGTH_SIZE_BYTES + size_bytes
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            payload = bytes(view[LENGTH_SIZE_BYTES:end])
        del self._buffer[:end]
        return payload


def encode_frame(message: Message) -> bytes:
    """Put a message into a frame. Raises FrameError when it is above the limit or holds what msgpack can't carry."""
    try:
        payload: bytes = msgpack.packb(_to_array(message), use_bin_type=True)
    except (ValueError, OverflowError) as error:
        raise FrameError(f"a value can't be sent over the control socket: {error}") from error
    if len(payload) > CONTROL_FRAME_MAX_BYTES:
        raise FrameError(f"a frame of {len(payload)} bytes is above the limit of {CONTROL_FRAME_MAX_BYTES}")
    return _LENGTH.pack(len(payload)) + payload


def _to_array(message: Message) -> list[Any]:
    if isinstance(message, Request):
        return [_REQUEST, message.id, message.method, message.params]
    if isinstance(message, Response):
        return [_RESPONSE, message.id, message.error, message.result]
    return [_NOTIFICATION, message.method, message.params]


def decode_message_untrusted(payload: bytes) -> Message:
    """Read the payload of a frame. Whatever the bytes are: a message, or FrameError."""
    try:
        value = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            ext_hook=_refuse_extension,
            max_ext_len=0,
            max_array_len=ARRAY_ITEMS_MAX,
            max_map_len=MAP_ITEMS_MAX,
        )
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the frame is not msgpack as this protocol uses it: {_reason(error)}") from error
    match value:
        case [int(kind), int(message_id), str(method), dict(params)] if kind == _REQUEST:
            return Request(_checked_id(message_id), method, _checked_map(params))
        case [int(kind), None, dict(fault), None] if kind == _RESPONSE:
            return Response(None, _checked_map(fault), None)
        case [int(kind), int(message_id), None, result] if kind == _RESPONSE:
            return Response(_checked_id(message_id), None, result)
        case [int(kind), int(message_id), dict(fault), None] if kind == _RESPONSE:
            return Response(_checked_id(message_id), _checked_map(fault), None)
        case [int(kind), str(method), dict(params)] if kind == _NOTIFICATION:
            return Notification(method, _checked_map(params))
    raise FrameError("the frame is neither a request, nor a response, nor a notification")


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _checked_id(value: int) -> int:
    if isinstance(value, bool) or not 0 <= value <= REQUEST_ID_MAX:
        raise FrameError(f"a request ID has to be an integer from 0 to {REQUEST_ID_MAX}, not {value!r}")
    return value


def _checked_map(value: dict[Any, Any]) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise FrameError("the keys of a map have to be text")
    return value
