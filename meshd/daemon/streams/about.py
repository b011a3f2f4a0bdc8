# SPDX-License-Identifier: Apache-2.0
"""What a node keeps of a stream beside its pieces: the announcement, and, of its own, how it is published."""

from typing import Final

import msgspec

from meshd.base.errors import StoreError
from meshd.stream.announcement import (
    ANNOUNCEMENT_MAX_BYTES,
    Announcement,
    AnnouncementError,
    decode_announcement_untrusted,
    encode_announcement,
)

ABOUT_FILE: Final = "about"
ABOUT_MAX_BYTES: Final = ANNOUNCEMENT_MAX_BYTES + 4096


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """How a stream of this node is published."""

    input: str
    """As the operator wrote it; empty: a client feeds it."""
    precedence: int
    tiers_max: int
    """The last tier that is sent live."""
    window_ms: int
    """So much of it is archived."""
    is_wanted: bool = True
    """It was not stopped: after a restart of the node a stream of the same name is begun."""


class About(msgspec.Struct, array_like=True):
    """The content of the file, but for the announcement, which has a form of its own."""

    announcement: Announcement
    terms: Terms | None
    """None: of another node."""


_DECODER: Final = msgspec.msgpack.Decoder(tuple[bytes, Terms | None])


def encode_about(about: About) -> bytes:
    """The content of the file."""
    return msgspec.msgpack.encode((encode_announcement(about.announcement), about.terms))


def decode_about(data: bytes) -> About:
    """Errors: StoreError: it is damaged."""
    try:
        announcement, terms = _DECODER.decode(data)
        return About(decode_announcement_untrusted(announcement), terms)
    except (msgspec.DecodeError, AnnouncementError) as error:
        raise StoreError(f"the description of an archived stream can't be read: {error}") from error
