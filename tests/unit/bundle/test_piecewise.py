# SPDX-License-Identifier: Apache-2.0
"""Bundles that come in pieces get the answer that they would get whole, wherever they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.limits import BUNDLE_SIZE_MAX_BYTES
from meshd.bundle import cbor
from meshd.bundle.blocks import Bundle
from meshd.bundle.codec import build, encode
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import forwarded_copy, forwarded_front
from meshd.bundle.header import BundleHeader
from meshd.bundle.piecewise import PiecewiseScan, scan_front_untrusted
from meshd.bundle.scan import scan_untrusted
from tests.unit.bundle.bundle_samples import (
    DESTINATION,
    DPOP1,
    FULL,
    PAYLOAD,
    SOURCE,
    bundle_of,
    payload_block,
    primary,
)

SAMPLES = (
    FULL,
    bundle_of(),
    build(SOURCE, DESTINATION, SOURCE, 0, 5, 6, 7000, bytes(range(256)) * 3),
    build(SOURCE, DESTINATION, SOURCE, 0, 5, 6, 7000, b""),
)


def whole(data: bytes) -> BundleHeader | None:
    """What `scan_untrusted` says; None: unsound."""
    try:
        return scan_untrusted(data)
    except BundleError:
        return None


def piecewise(data: bytes, cuts: list[int]) -> BundleHeader | None:
    """The same in pieces; the first has the whole front, wherever that may end."""
    try:
        first = len(data) if not cuts else max(min(cuts), scan_front_untrusted(data).payload_offset)
        bounds = [first, *sorted(cut for cut in cuts if cut > first), len(data)]
        scan = PiecewiseScan(data[:first])
        for start, end in pairwise(bounds):
            scan.feed(data[start:end])
        scan.finish()
    except BundleError:
        return None
    return scan.header


def reason_of(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        PiecewiseScan(data).finish()
    return caught.value.reason


@given(st.sampled_from(SAMPLES), st.lists(st.integers(0, 2000), max_size=6))
def test_cut_anywhere_the_answer_is_that_of_the_whole(data: bytes, cuts: list[int]) -> None:
    expected = whole(data)
    assert expected is not None
    assert piecewise(data, cuts) == expected


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
    st.integers(-30, 30),
    st.lists(st.integers(0, 2000), max_size=4),
)
def test_what_is_unsound_whole_is_unsound_in_pieces(
    data: bytes, changes: list[tuple[int, int]], longer: int, cuts: list[int]
) -> None:
    changed = bytearray(data)
    for position, value in changes:
        changed[position % len(changed)] = value
    mutated = bytes(changed[:longer]) if longer < 0 else bytes(changed) + bytes(longer)
    assert piecewise(mutated, cuts) == whole(mutated)


@pytest.mark.parametrize("crc_type", [0, 1, 2])
def test_every_kind_of_crc(crc_type: int) -> None:
    data = encode(Bundle(primary(), (payload_block(crc_type=crc_type),)))
    assert piecewise(data, [len(data) - 3]) == whole(data)
    if crc_type:
        flipped = data[:-10] + bytes([data[-10] ^ 1]) + data[-9:]
        assert reason_of(flipped) == "crc"


def test_a_block_of_indefinite_length() -> None:
    data = bundle_of()
    block = scan_untrusted(data).payload_block_offset
    open_ended = data[:block] + b"\x9f\x01\x01\x00\x00" + cbor.encode_bytes(PAYLOAD) + b"\xff\xff"
    assert whole(open_ended) is not None
    assert piecewise(open_ended, [block + 20]) == whole(open_ended)


def test_what_is_wrong_is_named() -> None:
    data = SAMPLES[2]
    assert reason_of(data[:-8]) == "truncated"
    assert reason_of(data[:-1]) == "payload"
    assert reason_of(data + b"\xff") == "trailing"
    assert reason_of(data + bytes(100)) == "trailing"
    assert reason_of(data[:40]) == "truncated"


def test_a_claim_beyond_the_largest_bundle_is_refused_at_once() -> None:
    data = bundle_of()
    block = scan_untrusted(data).payload_block_offset
    claim = data[:block] + b"\x86\x01\x01\x00\x02" + cbor.encode_bytes_head(BUNDLE_SIZE_MAX_BYTES)
    assert reason_of(claim) == "oversize"


@pytest.mark.parametrize("data", SAMPLES[:3])
@pytest.mark.parametrize("is_own", [False, True])
def test_the_front_leaves_as_it_does_with_the_whole(data: bytes, is_own: bool) -> None:
    header = scan_untrusted(data)
    front = data[: header.payload_offset]
    patched = forwarded_front(front, scan_front_untrusted(front), DPOP1, 70, is_own)
    assert patched + data[header.payload_block_offset :] == b"".join(forwarded_copy(data, header, DPOP1, 70, is_own))


def test_a_payload_block_is_known_by_an_oddly_encoded_head() -> None:
    data = bundle_of()
    block = scan_untrusted(data).payload_block_offset
    for head in (b"\x98\x05\x01", b"\x85\x18\x01", b"\x85\x1a\x00\x00\x00\x01"):
        front = data[:block] + head + b"\x01\x00\x00" + cbor.encode_bytes_head(1 << 30)
        assert scan_front_untrusted(front).payload_size == 1 << 30
