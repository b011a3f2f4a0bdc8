# SPDX-License-Identifier: Apache-2.0
"""The stream of MTCP: bundles one after the other, each a CBOR byte string of definite length.

draft-ietf-dtn-mtcpcl-01 with RFC 8949 section 3. A head may be longer than it has to be, as RFC 8949 allows; an
indefinite length is refused, as is everything that is no byte string. An empty byte string carries no bundle: it is
passed over. What is in a bundle is left to others.
"""

import struct
from typing import Final

from meshd.base.errors import RemoteProtocolError

_BYTE_STRING: Final = 2
_INFO_BITS: Final = 0x1F
_DIRECT_MAX: Final = 23
_INFO_1: Final = 24
_INFO_8: Final = 27
_ONE: Final = struct.Struct(">BB")
_TWO: Final = struct.Struct(">BH")
_FOUR: Final = struct.Struct(">BI")


class MtcpError(RemoteProtocolError):
    """What the peer sent is no MTCP: there is no way to find the next bundle."""


def encode_head(size_bytes: int) -> bytes:
    """The head of a byte string, as short as it can be. `size_bytes` is below 2^32."""
    major = _BYTE_STRING << 5
    if size_bytes <= _DIRECT_MAX:
        return bytes((major | size_bytes,))
    if size_bytes < 1 << 8:
        return _ONE.pack(major | _INFO_1, size_bytes)
    if size_bytes < 1 << 16:
        return _TWO.pack(major | _INFO_1 + 1, size_bytes)
    return _FOUR.pack(major | _INFO_1 + 2, size_bytes)


class Deframer:
    """Cuts the stream into bundles. Holds no more than the bundle that is arriving."""

    def __init__(self, bundle_max_bytes: int) -> None:
        self._bundle_max_bytes = bundle_max_bytes
        self._head = b""
        self._missing_bytes = 0
        self._body = bytearray()
        self._fault: MtcpError | None = None

    @property
    def is_between(self) -> bool:
        """True when no bundle is under way."""
        return not self._head and not self._missing_bytes

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """The bundles that these bytes complete, in order. The bytes may be cut anywhere.

        Bundles before a fault are not lost by it: they are returned, and the next call raises.

        Errors:
            MtcpError: the stream can't be read on.
        """
        if self._fault is not None:
            raise self._fault
        found: list[bytes] = []
        try:
            self._cut(data, found)
        except MtcpError as fault:
            self._fault = fault
            if not found:
                raise
        return found

    def _cut(self, data: bytes, found: list[bytes]) -> None:
        pos = 0
        while pos < len(data):
            if not self._missing_bytes:
                pos = self._take_head(data, pos)
                continue
            piece = data[pos : pos + self._missing_bytes]
            pos += len(piece)
            self._missing_bytes -= len(piece)
            if not self._body and not self._missing_bytes:
                found.append(piece)
                continue
            self._body += piece
            if not self._missing_bytes:
                found.append(bytes(self._body))
                self._body = bytearray()

    def _take_head(self, data: bytes, pos: int) -> int:
        """Read a head, which may have begun earlier; the position behind what was used."""
        first = self._head[0] if self._head else data[pos]
        size_bytes = _head_size(first)
        wanted = size_bytes - len(self._head)
        self._head += data[pos : pos + wanted]
        if len(self._head) == size_bytes:
            self._missing_bytes = self._check_length(_read_length(self._head))
            self._head = b""
        return pos + min(wanted, len(data) - pos)

    def _check_length(self, length: int) -> int:
        if length > self._bundle_max_bytes:
            raise MtcpError(f"the peer sends a bundle of {length} bytes; {self._bundle_max_bytes} are the most")
        return length


def _head_size(first: int) -> int:
    """Bytes of the head that begins with this byte."""
    info = first & _INFO_BITS
    if first >> 5 != _BYTE_STRING:
        raise MtcpError(f"the peer sent {first:#04x} where a CBOR byte string should begin")
    if info > _INFO_8:
        raise MtcpError(f"the peer sent a CBOR byte string without a definite length ({first:#04x})")
    return 1 if info <= _DIRECT_MAX else 1 + (1 << info - _INFO_1)


def _read_length(head: bytes) -> int:
    return int.from_bytes(head[1:]) if len(head) > 1 else head[0] & _INFO_BITS
