# SPDX-License-Identifier: Apache-2.0
"""What a publisher says of a stream, and what a bundle of a stream holds."""

import msgspec
import pytest

from meshd.bundle.eid import Eid
from meshd.stream.announcement import (
    Announcement,
    AnnouncementError,
    check_name,
    decode_announcement_untrusted,
    encode_announcement,
    later,
)
from meshd.stream.endpoints import fill_endpoint, is_stream_group, live_endpoint
from meshd.stream.gap_fill import FillRequest, PieceRange, encode_request
from meshd.stream.manifest import encode_manifest
from meshd.stream.payload import PayloadError, decode_payload_untrusted
from meshd.stream.piece import encode_piece, stream_id
from tests.unit.stream.stream_samples import STREAM_ID, manifests_of, sample_pieces

SOURCE = "dtn://dpop1/"


def announcement() -> Announcement:
    stream = stream_id(SOURCE, "uav1", 5)
    return Announcement(1, stream, "uav1", SOURCE, 5, 1000, "", ["dtn://home/stream"], 3, 0, False)


def changed_in(**changed: object) -> Announcement:
    return msgspec.structs.replace(announcement(), **changed)


def test_it_survives_the_way() -> None:
    assert decode_announcement_untrusted(encode_announcement(announcement())) == announcement()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"name": "uav2"}, "ID"),
        ({"source": "dtn://other/"}, "ID"),
        ({"began_ms": 6}, "ID"),
        ({"label": "a\x1b[2J"}, "label"),
        ({"first_span": 4}, "begins after"),
        ({"receivers": ["nonsense"]}, "endpoint"),
        ({"latency_ms": 60_001}, "can't be read"),
        ({"receivers": ["dtn://a/stream"] * 17}, "can't be read"),
    ],
)
def test_what_contradicts_itself_is_refused(changed: dict[str, object], why: str) -> None:
    with pytest.raises(AnnouncementError, match=why):
        decode_announcement_untrusted(encode_announcement(changed_in(**changed)))


@pytest.mark.parametrize("name", ["", " uav", "a" * 65, "a\nb"])
def test_a_name_is_printable_and_short(name: str) -> None:
    assert check_name(name) is not None
    bad = changed_in(stream=stream_id(SOURCE, name, 5), name=name)
    with pytest.raises(AnnouncementError):
        decode_announcement_untrusted(encode_announcement(bad))


def test_an_older_announcement_takes_nothing_back() -> None:
    newer = changed_in(spans=7, first_span=2, has_ended=True)
    assert later(newer, announcement()) == later(announcement(), newer) == newer
    assert later(None, newer) == newer


def test_a_bundle_tells_what_it_holds() -> None:
    _, pieces = sample_pieces(seconds=6)
    manifest = manifests_of(pieces)[0]
    request = FillRequest(1, STREAM_ID, [PieceRange(1, 2, 7)], [])
    for payload, data in (
        (pieces[0], encode_piece(pieces[0])),
        (manifest, encode_manifest(manifest)),
        (request, encode_request(request)),
        (announcement(), encode_announcement(announcement())),
    ):
        assert decode_payload_untrusted(data) == payload


@pytest.mark.parametrize("data", [b"", b"\x90", b"hello", b"\x9e\x01", b"\x9b\x01", b"\x94\x02"])
def test_what_is_of_no_stream_is_refused(data: bytes) -> None:
    with pytest.raises(PayloadError):
        decode_payload_untrusted(data)


def test_where_bundles_of_streams_go() -> None:
    assert live_endpoint(Eid("dtn://home/")) == Eid("dtn://home/stream")
    assert fill_endpoint(Eid("dtn://home/")) == Eid("dtn://home/stream-fill")
    assert live_endpoint(Eid("ipn:5.0")) == Eid("ipn:5.71")
    assert fill_endpoint(Eid("ipn:5.0")) == Eid("ipn:5.72")
    assert is_stream_group(Eid("dtn://convoy/~stream"))
    assert not is_stream_group(Eid("dtn://convoy/~orders"))
