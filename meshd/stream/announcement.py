# SPDX-License-Identifier: Apache-2.0
"""What a publisher says of a stream as a whole, so that others know its name, its latency and how far it is.

Announcements come in any order and may be lost: the highest number of spans counts, and an end is an end. The ID of the
stream is made of source, name and begin, so that an announcement can't give a stream another name. msgpack, an array:

    [1, stream, name, source, began_ms, latency_ms, label, receivers, spans, first_span, has_ended]
"""

from typing import Annotated, Final, Literal

import msgspec

from meshd.base.errors import RemoteProtocolError
from meshd.bundle.eid import check_node_id, parse_eid
from meshd.bundle.errors import EidError
from meshd.stream.piece import SEQUENCE_MAX, Sequence, StreamId, stream_id

ANNOUNCEMENT_MAX_BYTES: Final = 16_384
NAME_CHARACTERS_MAX: Final = 64
LABEL_CHARACTERS_MAX: Final = 128
RECEIVERS_MAX: Final = 16
_EID_CHARACTERS_MAX: Final = 512
_LATENCY_MAX_MS: Final = 60_000
_TIME_MAX_MS: Final = 1 << 48

_Eid = Annotated[str, msgspec.Meta(min_length=1, max_length=_EID_CHARACTERS_MAX)]


class AnnouncementError(RemoteProtocolError):
    """These bytes announce no stream."""


class Announcement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fields in the order of the array."""

    version: Literal[1]
    stream: StreamId
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
    source: _Eid
    """Node ID of the publisher."""
    began_ms: Annotated[int, msgspec.Meta(ge=0, le=_TIME_MAX_MS)]
    latency_ms: Annotated[int, msgspec.Meta(ge=0, le=_LATENCY_MAX_MS)]
    """Of playout."""
    label: Annotated[str, msgspec.Meta(max_length=LABEL_CHARACTERS_MAX)]
    """Marking for people."""
    receivers: Annotated[list[_Eid], msgspec.Meta(max_length=RECEIVERS_MAX)]
    """Endpoints that it goes to."""
    spans: Sequence
    """So many manifests have been sent."""
    first_span: Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
    """The publisher no longer has those before."""
    has_ended: bool
    """There will be no more spans."""


_DECODER: Final = msgspec.msgpack.Decoder(Announcement)
_ENCODER: Final = msgspec.msgpack.Encoder()


def check_name(name: str) -> str | None:
    """What is wrong with the name of a stream; None: nothing."""
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable() or name != name.strip():
        return f"a stream's name has 1 to {NAME_CHARACTERS_MAX} printable characters and no space around them"
    return None


def encode_announcement(announcement: Announcement) -> bytes:
    """The payload of its bundle."""
    return _ENCODER.encode(announcement)


def decode_announcement_untrusted(data: bytes) -> Announcement:
    """The announcement in the payload of a bundle. Errors: AnnouncementError."""
    if len(data) > ANNOUNCEMENT_MAX_BYTES:
        raise AnnouncementError(f"an announcement has {len(data)} bytes: at most {ANNOUNCEMENT_MAX_BYTES} are possible")
    try:
        found = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AnnouncementError(f"an announcement of a stream can't be read: {error}") from error
    problem = check_name(found.name)
    if problem or not found.label.isprintable():
        raise AnnouncementError(f"an announcement of a stream has a wrong name or label: {problem or 'not printable'}")
    if found.stream != stream_id(found.source, found.name, found.began_ms):
        raise AnnouncementError("an announcement of a stream has an ID that is not that of its source, name and begin")
    try:
        check_node_id(parse_eid(found.source))
        for receiver in found.receivers:
            parse_eid(receiver)
    except EidError as error:
        raise AnnouncementError(f"an announcement of a stream names a wrong endpoint: {error}") from error
    if found.first_span > found.spans:
        raise AnnouncementError("an announcement of a stream begins after its end")
    return found


def later(old: Announcement | None, new: Announcement) -> Announcement:
    """What is known of a stream after both."""
    if old is None:
        return new
    return msgspec.structs.replace(
        new,
        spans=max(old.spans, new.spans),
        first_span=max(old.first_span, new.first_span),
        has_ended=old.has_ended or new.has_ended,
    )
