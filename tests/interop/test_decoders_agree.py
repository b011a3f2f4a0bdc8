# SPDX-License-Identifier: Apache-2.0
"""Differential tests: pyD3TN and cbor2 read what meshd writes and the other way round, and all say the same.

pyD3TN does not verify CRCs (tshark does, in the test beside this one), and knows neither indefinite arrays within a
bundle nor RFC 9758's three elements; cbor2 knows nothing of bundles, but every form of CBOR.
"""

from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyd3tn import bundle7

from meshd.bundle import cbor
from meshd.bundle.blocks import BlockType, Bundle, BundleFlag, CanonicalBlock, CrcType, PrimaryBlock
from meshd.bundle.codec import decode_untrusted, encode
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.extension import encode_hop_count
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.scan import scan_untrusted
from tests.fuzz.seeds import folder_files, read_hex
from tests.unit.bundle.bundle_samples import DPOP2

SOUND = [*folder_files("bundles"), *folder_files("unusual")]

UINT = st.one_of(st.integers(0, 30), st.integers(0, cbor.UINT_MAX), st.sampled_from([255, 256, 65535, 65536, 1 << 32]))
NODES = st.text(st.characters(codec="ascii", min_codepoint=0x21, exclude_characters="/\x7f"), min_size=1, max_size=12)
DEMUXES = st.text(st.characters(codec="ascii", min_codepoint=0x21, exclude_characters="\x7f"), max_size=12)
DTN_EIDS = st.builds(lambda node, demux: f"dtn://{node}/{demux}", NODES, DEMUXES)
IPN_EIDS = st.builds(lambda node, service: f"ipn:{node}.{service}", st.integers(1, (1 << 32) - 2), UINT)
EIDS = st.one_of(DTN_EIDS, IPN_EIDS).map(parse_eid)
CRC_TYPES = st.sampled_from(list(CrcType))
KNOWN_BLOCKS = st.one_of(
    st.tuples(st.just(int(BlockType.BUNDLE_AGE)), UINT.map(cbor.encode_uint)),
    st.tuples(st.just(int(BlockType.HOP_COUNT)), st.builds(encode_hop_count, st.integers(1, 255), UINT)),
    st.tuples(st.just(int(BlockType.PREVIOUS_NODE)), EIDS.map(lambda eid: eid.node.cbor)),
)
PRIVATE_BLOCKS = st.tuples(st.integers(203, 300), st.binary(max_size=40))


@st.composite
def bundles(draw: st.DrawFn, kinds: st.SearchStrategy[tuple[int, bytes]] = KNOWN_BLOCKS) -> Bundle:
    """Any bundle that RFC 9171 allows with such extension blocks, and the forms of EID that both sides know."""
    extensions = draw(st.lists(kinds, max_size=4, unique_by=lambda block: block[0]))
    is_fragment = draw(st.booleans())
    payload = draw(st.binary(max_size=300))
    offset = draw(st.integers(0, 1 << 40))
    primary = PrimaryBlock(
        destination=draw(EIDS),
        source=draw(EIDS),
        report_to=draw(EIDS),
        time_ms=draw(st.integers(1, 1 << 47)),  # theirs is a calendar's, which ends with the year 9999
        sequence=draw(UINT),
        lifetime_ms=draw(UINT),
        flags=int(BundleFlag.IS_FRAGMENT) if is_fragment else draw(st.sampled_from([0, 4, 0x20000, 0x20004])),
        crc_type=draw(CRC_TYPES),
        fragment_offset=offset if is_fragment else None,
        total_adu_bytes=offset + len(payload) + draw(st.integers(0, 99)) if is_fragment else None,
    )
    blocks = [
        CanonicalBlock(kind, number, data, draw(st.sampled_from([0, 1])), draw(CRC_TYPES))
        for number, (kind, data) in enumerate(extensions, start=2)
    ]
    return Bundle(primary, (*blocks, CanonicalBlock(BlockType.PAYLOAD, 1, payload, 0, draw(CRC_TYPES))))


@given(bundles())
def test_pyd3tn_reads_and_writes_the_same_bundle(bundle: Bundle) -> None:
    data = encode(bundle)
    assert decode_untrusted(data) == bundle
    theirs = bundle7.Bundle.parse(data)
    assert str(theirs.primary_block.source) == bundle.primary.source.uri
    assert str(theirs.primary_block.destination) == bundle.primary.destination.uri
    assert theirs.primary_block.lifetime == bundle.primary.lifetime_ms
    assert theirs.payload_block.data == bundle.payload
    back = decode_untrusted(bytes(theirs))
    assert back.primary == bundle.primary
    # They set blocks in an order of their own.
    assert {block.number: block for block in back.blocks} == {block.number: block for block in bundle.blocks}


@given(bundles(st.one_of(KNOWN_BLOCKS, PRIVATE_BLOCKS)))
def test_cbor2_finds_the_same_items(bundle: Bundle) -> None:
    primary, *blocks = cbor2.loads(encode(bundle))
    expected = bundle.primary
    assert primary[:3] == [7, expected.flags, expected.crc_type]
    assert [eid_text(item) for item in primary[3:6]] == [
        expected.destination.uri,
        expected.source.uri,
        expected.report_to.uri,
    ]
    assert primary[6:8] == [[expected.time_ms, expected.sequence], expected.lifetime_ms]
    if expected.fragment_offset is not None:
        assert primary[8:10] == [expected.fragment_offset, expected.total_adu_bytes]
    assert [block[:5] for block in blocks] == [
        [block.type, block.number, block.flags, block.crc_type, block.data] for block in bundle.blocks
    ]


@given(bundles(st.one_of(KNOWN_BLOCKS, PRIVATE_BLOCKS)))
def test_cbor2_writes_what_we_read(bundle: Bundle) -> None:
    """Their canonical encoder makes the same bytes of the same items."""
    data = encode(bundle)
    items = cbor2.loads(data)
    assert b"\x9f" + b"".join(cbor2.dumps(item) for item in items) + b"\xff" == data


@given(bundles(), st.integers(0, 1 << 40))
def test_pyd3tn_reads_what_we_forward(bundle: Bundle, residence_ms: int) -> None:
    data = encode(bundle)
    header = scan_untrusted(data)
    pieces = forwarded_copy(data, header, own_node=DPOP2, residence_ms=residence_ms, is_own=False)
    theirs = bundle7.Bundle.parse(b"".join(pieces))
    (previous,) = (block for block in theirs.blocks if block.block_type == BlockType.PREVIOUS_NODE)
    assert previous.data == DPOP2.cbor
    assert theirs.payload_block.data == bundle.payload
    for block in (theirs.primary_block, *theirs.blocks):
        if block.crc_type != bundle7.CRCType.NONE:
            assert block.crc_provided == block.calculate_crc()


@given(st.sampled_from(SOUND), st.integers(0, 1 << 12), st.integers(1, 255))
def test_what_survives_a_changed_byte_is_read_alike(path: Path, place: int, change: int) -> None:
    """Where a bundle with a changed byte still passes our checks (no CRC covers it), cbor2 finds the same in it."""
    data = bytearray(read_hex(path))
    data[place % len(data)] ^= change
    try:
        ours = decode_untrusted(bytes(data))
    except BundleError:
        return
    assert_cbor2_agrees(bytes(data), ours)


def eid_text(item: list[Any]) -> str:
    """An EID as cbor2 shows it, as text."""
    scheme, name = item
    if scheme == 1:
        return "dtn:none" if name == 0 else f"dtn:{name}"
    return "ipn:" + ".".join(map(str, name))


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_cbor2_reads_a_vector_as_we_do(path: Path) -> None:
    assert_cbor2_agrees(read_hex(path), decode_untrusted(read_hex(path)))


def assert_cbor2_agrees(data: bytes, ours: Bundle) -> None:
    primary, *blocks = cbor2.loads(data)
    assert primary[0:3] == [7, ours.primary.flags, ours.primary.crc_type]
    assert primary[6:8] == [[ours.primary.time_ms, ours.primary.sequence], ours.primary.lifetime_ms]
    assert [tuple(block[:5]) for block in blocks] == [
        (block.type, block.number, block.flags, block.crc_type, block.data) for block in ours.blocks
    ]
    eids = [ours.primary.destination, ours.primary.source, ours.primary.report_to]
    assert [_known(item) for item in primary[3:6]] == eids


def _known(item: list[Any]) -> Eid:
    """The EID of cbor2's items, in our canonical text: two elements with an allocator are three, node 0 is nowhere."""
    scheme, name = item
    if scheme == 2 and len(name) == 2:
        return parse_eid(f"ipn:{name[0] >> 32}.{name[0] & 0xFFFFFFFF}.{name[1]}")
    return parse_eid(eid_text(item))
