# SPDX-License-Identifier: Apache-2.0
"""Fragmentation and reassembly (RFC 9171 sections 5.8 and 5.9): every rule, and there and back again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.blocks import BlockFlag, Bundle, BundleFlag, CanonicalBlock, CrcType, PrimaryBlock
from meshd.bundle.codec import build, decode_untrusted, encode
from meshd.bundle.eid import parse_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.fragment import ADU_SIZE_MAX_BYTES, FRAGMENTS_MAX, Extent, choose_cover, fragment, reassemble
from meshd.bundle.scan import scan_untrusted

SOURCE, DESTINATION = parse_eid("dtn://dpop1/inbox"), parse_eid("ipn:9.1")
PAYLOAD = random.Random(5).randbytes(2000)
ONCE, EVERYWHERE = (
    CanonicalBlock(199, 7, b"once"),
    CanonicalBlock(198, 9, b"everywhere", BlockFlag.REPLICATE_IN_FRAGMENTS),
)


def bundle(payload: bytes = PAYLOAD, flags: int = 0, crc_type: int = CrcType.CRC32C) -> bytes:
    """A bundle with one block of each kind."""
    primary = PrimaryBlock(DESTINATION, SOURCE, SOURCE, 5, 6, 7000, flags, crc_type)
    last = CanonicalBlock(1, 1, payload, BlockFlag.REPORT_IF_UNPROCESSABLE, crc_type)
    return encode(Bundle(primary, (ONCE, EVERYWHERE, last)))


def cut(data: bytes, size_max_bytes: int) -> list[bytes]:
    """Fragments of a bundle."""
    return fragment(data, scan_untrusted(data), size_max_bytes)


@pytest.mark.parametrize("crc_type", list(CrcType))
def test_fragments_are_the_bundle_in_pieces(crc_type: CrcType) -> None:
    data = bundle(crc_type=crc_type)
    whole = decode_untrusted(data)
    pieces = cut(data, 300)
    offset = 0
    for piece in pieces:
        assert len(piece) <= 300
        decoded = decode_untrusted(piece)  # checks the CRCs
        primary = decoded.primary
        assert primary.flags == whole.primary.flags | BundleFlag.IS_FRAGMENT
        assert (primary.fragment_offset, primary.total_adu_bytes) == (offset, len(PAYLOAD))
        assert (primary.crc_type, decoded.blocks[-1].crc_type) == (crc_type, crc_type)
        assert decoded.blocks[-1].flags == whole.blocks[-1].flags
        assert decoded.blocks[:-1] == ((EVERYWHERE,) if offset else (ONCE, EVERYWHERE))
        assert scan_untrusted(piece).id[:3] == scan_untrusted(data).id[:3]
        offset += len(decoded.payload)
    assert b"".join(decode_untrusted(piece).payload for piece in pieces) == PAYLOAD
    assert len(pieces) > 5
    assert reassemble(pieces) == data


def test_small_enough_stays_as_it_is() -> None:
    data = bundle()
    assert cut(data, len(data)) == [data]
    assert len(cut(data, len(data) - 1)) == 2


def test_must_not_be_fragmented() -> None:
    data = bundle(flags=BundleFlag.MUST_NOT_FRAGMENT)
    with pytest.raises(BundleError, match="must not be fragmented"):
        cut(data, 300)


@pytest.mark.parametrize(("payload", "size_max_bytes"), [(PAYLOAD, 50), (b"", 50)])
def test_what_can_not_be_cut(payload: bytes, size_max_bytes: int) -> None:
    with pytest.raises(BundleError) as caught:
        cut(bundle(payload), size_max_bytes)
    assert caught.value.reason == "fragment"


def test_fragments_of_fragments_are_fragments_of_the_whole() -> None:
    data = bundle()
    pieces = [smaller for piece in cut(data, 700) for smaller in cut(piece, 250)]
    offsets = [scan_untrusted(piece).id.fragment_offset for piece in pieces]
    assert offsets == sorted(set(offsets))
    assert {scan_untrusted(piece).total_adu_bytes for piece in pieces} == {len(PAYLOAD)}
    assert all(len(piece) <= 250 for piece in pieces)
    assert reassemble(pieces) == data


@given(st.lists(st.integers(200, 1500), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_overlaps_duplicates_and_any_order(sizes: list[int], rng: random.Random) -> None:
    data = bundle()
    pieces = [piece for size in sizes for piece in cut(data, size)] * 2
    rng.shuffle(pieces)
    assert reassemble(pieces) == data


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=12))
def test_a_cover_is_found_exactly_when_there_is_one(spans: list[tuple[int, int]]) -> None:
    total = 30
    extents = [Extent(start, min(start + size, total)) for start, size in spans]
    covered = set().union(*(range(*extent) for extent in extents))
    chosen = choose_cover(extents, total)
    assert (chosen is not None) == (len(covered) == total)
    if chosen is not None:
        assert set().union(*(range(*extents[index]) for index in chosen)) == set(range(total))
        starts = [extents[index].start for index in chosen]
        assert starts == sorted(starts)


def test_overlapping_bytes_that_differ_are_those_of_the_first() -> None:
    data, other = bundle(), bundle(bytes(len(PAYLOAD)))
    pieces = [cut(data, 1200)[0], *cut(other, 300)]
    whole = decode_untrusted(reassemble(pieces)).payload
    kept = len(decode_untrusted(pieces[0]).payload)
    assert whole[:kept] == PAYLOAD[:kept]
    assert whole[kept:] == bytes(len(PAYLOAD) - kept)


def test_reassembly_refuses_what_does_not_fit() -> None:
    pieces = cut(bundle(), 300)
    other = cut(bundle(PAYLOAD + b"more"), 300)
    for wrong in ([], pieces[1:], pieces[:-1], [*pieces[:3], *pieces[4:]], [*pieces, other[-1]], [bundle()]):
        with pytest.raises(BundleError) as caught:
            reassemble(wrong)
        assert caught.value.reason == "fragment"


def test_an_adu_above_the_limit_is_not_reassembled() -> None:
    piece = decode_untrusted(cut(bundle(), 300)[0])
    primary = PrimaryBlock(
        DESTINATION, SOURCE, SOURCE, 5, 6, 7000, BundleFlag.IS_FRAGMENT, 2, 0, ADU_SIZE_MAX_BYTES + 1
    )
    with pytest.raises(BundleError, match="reassembled"):
        reassemble([encode(Bundle(primary, piece.blocks))])


def test_the_number_of_fragments_is_bounded() -> None:
    data = build(SOURCE, DESTINATION, SOURCE, 0, 5, 6, 7000, bytes(FRAGMENTS_MAX * 120))
    with pytest.raises(BundleError, match="can't be cut"):
        cut(data, 180)
