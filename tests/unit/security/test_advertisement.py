# SPDX-License-Identifier: Apache-2.0
"""The signed envelope: only its node can have made it, and nothing in it can be moved or changed."""

import msgspec
import pytest

from meshd.bundle.eid import parse_eid
from meshd.security.advertisement import (
    BODY_MAX_BYTES,
    AdvertisementError,
    decode_envelope_untrusted,
    sign_advertisement,
    verify_advertisement,
)
from meshd.security.signing_peers import make_signing_key

NODE = parse_eid("dtn://dpop1/")
KEY = make_signing_key()
PUBLIC = KEY.public_key().public_bytes_raw()
GOOD = sign_advertisement(KEY, NODE, 5, 6, b"body")


def test_what_a_node_signed_is_its_own() -> None:
    envelope = decode_envelope_untrusted(GOOD)
    verify_advertisement(PUBLIC, NODE, envelope)
    assert (envelope.number, envelope.body) == ((5, 6), b"body")


@pytest.mark.parametrize("changes", [{"boot": 6}, {"sequence": 7}, {"body": b"bodx"}, {"signature": bytes(64)}])
def test_a_change_is_noticed(changes: dict[str, object]) -> None:
    envelope = msgspec.structs.replace(decode_envelope_untrusted(GOOD), **changes)
    with pytest.raises(AdvertisementError, match="signature is not dtn://dpop1/'s"):
        verify_advertisement(PUBLIC, NODE, envelope)


def test_it_is_nobody_elses_and_of_no_other_key() -> None:
    envelope = decode_envelope_untrusted(GOOD)
    with pytest.raises(AdvertisementError):
        verify_advertisement(PUBLIC, parse_eid("dtn://dpop2/"), envelope)
    with pytest.raises(AdvertisementError):
        verify_advertisement(make_signing_key().public_key().public_bytes_raw(), NODE, envelope)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([2, 5, 6, b"", bytes(64)], "version 2"),
        ([1, 0, 6, b"", bytes(64)], "out of range"),
        ([1, 5, 1 << 32, b"", bytes(64)], "out of range"),
        ([1, 5, 6, b"", bytes(63)], "impossible size"),
        ([1, 5, 6, bytes(BODY_MAX_BYTES + 1), bytes(64)], "impossible size"),
        ([1, 5, 6, bytes(2 * BODY_MAX_BYTES), bytes(64)], "the limit is"),
        ([1, 5, 6, "text", bytes(64)], "can't be read"),
        ([1, 5, 6, b""], "can't be read"),
        ([1, 5, 6, b"", bytes(64), 0], "can't be read"),
        ({}, "can't be read"),
    ],
)
def test_what_is_wrong_is_said(items: object, reason: str) -> None:
    with pytest.raises(AdvertisementError, match=reason):
        decode_envelope_untrusted(msgspec.msgpack.encode(items))
