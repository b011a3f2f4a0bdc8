# SPDX-License-Identifier: Apache-2.0
"""What is in a bundle of a stream: told from the number of items that its array has (docs/STREAM.md)."""

from collections.abc import Callable
from typing import Final

from meshd.base.errors import RemoteProtocolError
from meshd.stream.announcement import Announcement, AnnouncementError, decode_announcement_untrusted
from meshd.stream.gap_fill import FillRequest, RequestError, decode_request_untrusted
from meshd.stream.manifest import Manifest, ManifestError, decode_manifest_untrusted
from meshd.stream.piece import Piece, PieceError, decode_piece_untrusted

Payload = Piece | Manifest | FillRequest | Announcement

_DECODERS: Final[dict[int, Callable[[bytes], Payload]]] = {
    0x94: decode_request_untrusted,
    0x9A: decode_manifest_untrusted,
    0x9B: decode_announcement_untrusted,
    0x9E: decode_piece_untrusted,
}
"""By the head of an array of so many items."""


class PayloadError(RemoteProtocolError):
    """This is not of a stream."""


def decode_payload_untrusted(data: bytes) -> Payload:
    """What a bundle of a stream holds. Errors: PayloadError."""
    decode = _DECODERS.get(data[0]) if data else None
    if decode is None:
        raise PayloadError(f"{len(data)} bytes that are no piece, manifest, request or announcement of a stream")
    try:
        return decode(data)
    except (PieceError, ManifestError, RequestError, AnnouncementError) as error:
        raise PayloadError(str(error)) from error
