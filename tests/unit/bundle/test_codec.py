# SPDX-License-Identifier: Apache-2.0
import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle import cbor
from meshd.bundle.blocks import BlockType, Bundle, BundleFlag, CanonicalBlock, CrcType, PrimaryBlock
from meshd.bundle.codec import HOP_LIMIT_DEFAULT, decode_untrusted, encode
from meshd.bundle.eid import NULL_EID, parse_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.precedence import Precedence
from meshd.bundle.scan import scan_untrusted
from tests.unit.bundle.bundle_samples import FULL, PART, PAYLOAD, SOURCE, TIME_MS, own_bundle, payload_block, primary

UINT64 = st.integers(0, cbor.UINT_MAX)
CRC_TYPES = st.sampled_from(CrcType)
EIDS = st.sampled_from([SOURCE, parse_eid("dtn://home/"), parse_eid("ipn:5.3.7"), parse_eid("ipn:1.0")])
FLAGS = st.integers(0, (1 << 24) - 1).map(lambda bits: bits << 21 | BundleFlag.REPORT_DELIVERY)


@st.composite
def primaries(draw: st.DrawFn) -> PrimaryBlock:
    is_fragment = draw(st.booleans())
    return PrimaryBlock(
        destination=draw(st.one_of(EIDS, st.just(NULL_EID))),
        source=draw(EIDS),
        report_to=draw(st.one_of(EIDS, st.just(NULL_EID))),
        time_ms=draw(st.integers(1, cbor.UINT_MAX)),
        sequence=draw(UINT64),
        lifetime_ms=draw(UINT64),
        flags=draw(FLAGS) | (BundleFlag.IS_FRAGMENT if is_fragment else 0),
        crc_type=draw(CRC_TYPES),
        fragment_offset=draw(st.integers(0, 1 << 40)) if is_fragment else None,
        total_adu_bytes=draw(st.integers(1 << 41, cbor.UINT_MAX)) if is_fragment else None,
    )


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    numbers = draw(st.lists(st.integers(2, cbor.UINT_MAX), unique=True, max_size=5))
    blocks = [
        CanonicalBlock(draw(st.integers(11, 192)), number, draw(st.binary(max_size=300)), draw(UINT64), draw(CRC_TYPES))
        for number in numbers
    ]
    payload = payload_block(draw(st.binary(max_size=700)), flags=draw(UINT64), crc_type=draw(CRC_TYPES))
    return Bundle(draw(primaries()), (*blocks, payload))


@given(bundles())
def test_what_is_encoded_is_decoded(bundle: Bundle) -> None:
    assert decode_untrusted(encode(bundle)) == bundle


@given(bundles())
def test_cbor2_sees_the_structure_of_the_rfc(bundle: Bundle) -> None:
    first, *others = cbor2.loads(encode(bundle))
    block = bundle.primary
    fragment = [] if block.fragment_offset is None else [block.fragment_offset, block.total_adu_bytes]
    assert first[:3] == [7, block.flags, block.crc_type]
    assert first[6 : 8 + len(fragment)] == [[block.time_ms, block.sequence], block.lifetime_ms, *fragment]
    assert [other[:5] for other in others] == [
        [item.type, item.number, item.flags, item.crc_type, item.data] for item in bundle.blocks
    ]
    assert all(len(other) == (6 if other[3] else 5) for other in others)


def test_a_decoded_bundle_encodes_to_the_same_bytes() -> None:
    assert encode(decode_untrusted(FULL)) == FULL
    assert decode_untrusted(FULL).payload == PAYLOAD


def test_decoding_takes_nothing_that_the_scan_refuses() -> None:
    with pytest.raises(BundleError):
        decode_untrusted(FULL[:-1])


@pytest.mark.parametrize("crc_type", list(CrcType))
@pytest.mark.parametrize("precedence", list(Precedence))
@pytest.mark.parametrize("part", [None, PART])
@pytest.mark.parametrize("age_ms", [None, 0, 100_000])
def test_built_bundles_say_what_was_asked(crc_type: int, precedence: int, part: object, age_ms: int | None) -> None:
    data = own_bundle(crc_type=crc_type, precedence=precedence, part=part, age_ms=age_ms, hop_limit=9)
    header = scan_untrusted(data)
    assert (header.precedence, header.part, header.age_ms, header.hop_limit) == (precedence, part, age_ms, 9)
    bundle = decode_untrusted(data)
    assert bundle.primary == primary(crc_type=crc_type, flags=BundleFlag.MUST_NOT_FRAGMENT)
    assert bundle.blocks[-1] == payload_block(crc_type=crc_type)
    assert encode(bundle) == data


def test_routine_and_no_hop_limit_need_no_blocks() -> None:
    assert [block.type for block in decode_untrusted(own_bundle(hop_limit=0)).blocks] == [BlockType.PAYLOAD]
    assert scan_untrusted(own_bundle()).hop_limit == HOP_LIMIT_DEFAULT
    assert scan_untrusted(own_bundle()).id.time_ms == TIME_MS
