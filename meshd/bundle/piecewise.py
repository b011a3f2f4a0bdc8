# SPDX-License-Identifier: Apache-2.0
"""The parser of bundles that come in pieces because they are never held in memory as a whole (RFC 9171 section 4).

    scan = PiecewiseScan(first_piece)    what comes before the payload is read, with all its checks
    scan.header                          the same as `scan_untrusted` gives for the whole bundle
    scan.feed(piece)                     the running CRC of the payload block
    scan.finish()                        CRC, break and exact length

The front, which is all that comes before the payload's bytes, has to fit in FRONT_SIZE_MAX_BYTES and into the first
piece. Apart from that bound the answer is the same as that of `scan_untrusted` for all pieces joined.
"""

from typing import Final

from meshd.base.limits import BUNDLE_SIZE_MAX_BYTES, FRONT_SIZE_MAX_BYTES
from meshd.bundle import cbor, crc
from meshd.bundle.blocks import PAYLOAD_NUMBER
from meshd.bundle.canonical import wrong_crc
from meshd.bundle.errors import BundleError
from meshd.bundle.header import BundleHeader
from meshd.bundle.primary import read_crc_extent
from meshd.bundle.scan import make_header, read_front

TAIL_SIZE_MAX_BYTES: Final = 16
"""What follows the payload: a CRC whose length may be encoded in 9 bytes, and two breaks."""


class PiecewiseScan:
    """One bundle on its way in.

    Args:
        first: its beginning; all of the front is in it.

    Errors:
        BundleError: the constructor, `feed` and `finish` raise nothing else; the bundle is to be refused then.
    """

    def __init__(self, first: bytes) -> None:
        front = first[:FRONT_SIZE_MAX_BYTES]
        self.header, self._crc_type, self._is_open_ended = _scan_front_untrusted(front)
        header = self.header
        self._left_bytes = header.payload_size
        self._tail = b""
        self._crc = crc.extend(self._crc_type, 0, front[header.payload_block_offset : header.payload_offset])
        smallest_bytes = header.payload_offset + header.payload_size + 1
        if smallest_bytes > BUNDLE_SIZE_MAX_BYTES:
            text = f"a bundle of {smallest_bytes} bytes or more; at most {BUNDLE_SIZE_MAX_BYTES} are taken"
            raise BundleError("oversize", text)
        self.feed(first[header.payload_offset :])

    def feed(self, piece: bytes) -> None:
        """The next bytes."""
        taken_bytes = min(self._left_bytes, len(piece))
        if taken_bytes:
            self._left_bytes -= taken_bytes
            if self._crc_type:
                self._crc = crc.extend(self._crc_type, self._crc, piece[:taken_bytes])  # all of it is no copy
        if taken_bytes < len(piece):
            self._tail += piece[taken_bytes : taken_bytes + TAIL_SIZE_MAX_BYTES + 1]
            if len(self._tail) > TAIL_SIZE_MAX_BYTES:
                raise BundleError("trailing", "too much follows the payload of the bundle")

    def finish(self) -> None:
        """Nothing comes any more: check what is at the end."""
        if self._left_bytes:
            raise BundleError("truncated", f"the last {self._left_bytes} bytes of the payload are missing")
        tail = self._tail
        crc_offset, pos = read_crc_extent(tail, 0, self._crc_type)
        if self._is_open_ended:
            pos = cbor.read_array_end(tail, pos, cbor.INDEFINITE)
        if tail[pos : pos + 1] != b"\xff":
            raise BundleError("payload", "the bundle does not end with a break behind its payload block")
        if len(tail) > pos + 1:
            raise BundleError("trailing", f"{len(tail) - pos - 1} bytes follow the end of the bundle")
        if not self._crc_type:
            return
        field_end = crc_offset + crc.FIELD_BYTES[self._crc_type]
        counted = tail[:crc_offset] + bytes(field_end - crc_offset) + tail[field_end:pos]
        if crc.extend(self._crc_type, self._crc, counted) != int.from_bytes(tail[crc_offset:field_end], "big"):
            raise wrong_crc(PAYLOAD_NUMBER, 1)


def scan_front_untrusted(front: bytes) -> BundleHeader:
    """What `PiecewiseScan` says of a bundle that begins with these bytes.

    Errors:
        BundleError: its `reason` says what is wrong.
    """
    return _scan_front_untrusted(front)[0]


def _scan_front_untrusted(data: bytes) -> tuple[BundleHeader, int, bool]:
    """Header, CRC type of the payload block, and whether that block ends with a break."""
    front = read_front(data)
    length, pos = cbor.read_array_header(data, front.payload_start)
    _, pos = cbor.read_uint(data, pos)
    number, pos = cbor.read_uint(data, pos)
    _, pos = cbor.read_uint(data, pos)
    crc_type, pos = cbor.read_uint(data, pos)
    if crc_type > crc.CRC_32C:
        raise BundleError("crc-type", f"the payload block has the unknown CRC type {crc_type}: 0, 1 and 2 are known")
    if length not in (cbor.INDEFINITE, 5 if crc_type == crc.CRC_NONE else 6):
        raise BundleError("block", f"the payload block has {length} items, which does not agree with its CRC type")
    if number != PAYLOAD_NUMBER:
        raise BundleError("block-number", f"the payload block has number {number} instead of {PAYLOAD_NUMBER}")
    payload_size, pos = cbor.read_bytes_head(data, pos)
    return make_header(data, front, pos, payload_size), crc_type, length == cbor.INDEFINITE
