# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle import cbor, forward
from meshd.bundle.blocks import BlockFlag, BlockType, CanonicalBlock, CrcType
from meshd.bundle.codec import decode_untrusted
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.extension import encode_hop_count
from meshd.bundle.forward import JOIN_MAX_BYTES, forwarded_copy, hop_limit_exceeded
from meshd.bundle.header import BundleHeader
from meshd.bundle.scan import scan_untrusted
from tests.unit.bundle.bundle_samples import DPOP1, DPOP2, EXTENSIONS, FULL, bundle_of, extension, own_bundle

HOME = parse_eid("dtn://home/")


def passed_on(data: bytes, own_node: Eid = HOME, residence_ms: int = 0, is_own: bool = False) -> bytes:
    header = scan_untrusted(data)
    return b"".join(forwarded_copy(data, header, own_node=own_node, residence_ms=residence_ms, is_own=is_own))


def blocks_by_type(data: bytes) -> dict[int, CanonicalBlock]:
    return {block.type: block for block in decode_untrusted(data).blocks}


def test_a_full_bundle_changes_in_three_blocks() -> None:
    data = passed_on(FULL, residence_ms=1234)
    before, after = scan_untrusted(FULL), scan_untrusted(data)
    assert after.previous_node == HOME
    assert (after.hop_limit, after.hop_count) == (32, 4)
    assert after.age_ms == 71_234
    old, new = blocks_by_type(FULL), blocks_by_type(data)
    changed = {kind for kind in old if old[kind] != new[kind]}
    assert changed == {BlockType.PREVIOUS_NODE, BlockType.HOP_COUNT, BlockType.BUNDLE_AGE}
    assert all(
        (old[kind].number, old[kind].flags, old[kind].crc_type)
        == (new[kind].number, new[kind].flags, new[kind].crc_type)
        for kind in old
    )
    assert data[: after.extensions_offset] == FULL[: before.extensions_offset]
    assert data[after.payload_block_offset :] == FULL[before.payload_block_offset :]


def test_a_missing_previous_node_is_added_under_a_free_number() -> None:
    data = passed_on(own_bundle(precedence=4, age_ms=3))
    assert scan_untrusted(data).previous_node == HOME
    assert blocks_by_type(data)[BlockType.PREVIOUS_NODE].number == 4
    assert blocks_by_type(passed_on(bundle_of()))[BlockType.PREVIOUS_NODE].number == 2


def test_an_own_bundle_names_no_previous_node() -> None:
    data = passed_on(own_bundle(age_ms=5), residence_ms=10, is_own=True)
    header = scan_untrusted(data)
    assert header.previous_node is None
    assert (header.hop_count, header.age_ms) == (1, 15)


def test_forwarding_over_many_nodes() -> None:
    data = own_bundle(precedence=5, age_ms=0)
    for hop in range(1, 12):
        data = passed_on(data, parse_eid(f"dtn://hop{hop}/"), residence_ms=100)
        header = scan_untrusted(data)
        assert (header.hop_count, header.age_ms) == (hop, hop * 100)
        assert header.previous_node == parse_eid(f"dtn://hop{hop}/")


def test_a_remembered_run_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = passed_on(own_bundle(precedence=3))
    expected = passed_on(data, DPOP1)
    assert passed_on(data, DPOP1) == expected
    assert passed_on(data, DPOP2) != expected
    monkeypatch.setattr(forward, "REMEMBERED_SIZE_MAX_BYTES", 0)
    assert passed_on(data, DPOP1) == expected


@pytest.mark.parametrize("crc_type", list(CrcType))
def test_crcs_of_patched_blocks_are_renewed(crc_type: int) -> None:
    blocks = [
        extension(BlockType.PREVIOUS_NODE, DPOP2.cbor, 2, crc_type=crc_type),
        extension(BlockType.HOP_COUNT, encode_hop_count(200, 23), 3, crc_type=crc_type),
        extension(BlockType.BUNDLE_AGE, cbor.encode_uint(255), 4, crc_type=crc_type),
    ]
    header = scan_untrusted(passed_on(bundle_of(*blocks), residence_ms=1))
    assert (header.hop_count, header.age_ms, header.previous_node) == (24, 256, HOME)


def test_numbers_stop_at_their_largest_value() -> None:
    blocks = [
        extension(BlockType.HOP_COUNT, encode_hop_count(1, cbor.UINT_MAX), 3),
        extension(BlockType.BUNDLE_AGE, cbor.encode_uint(cbor.UINT_MAX), 4),
    ]
    header = scan_untrusted(passed_on(bundle_of(*blocks), residence_ms=1))
    assert (header.hop_count, header.age_ms) == (cbor.UINT_MAX, cbor.UINT_MAX)


def test_unknown_blocks_are_kept_unless_they_ask_to_be_discarded() -> None:
    kept = extension(222, b"keep" * 100, 5, BlockFlag.REPORT_IF_UNPROCESSABLE, CrcType.CRC16)
    dropped = extension(223, b"drop", 6, BlockFlag.DISCARD_IF_UNPROCESSABLE, CrcType.CRC32C)
    large = extension(224, b"drop" * 100, 7, BlockFlag.DISCARD_IF_UNPROCESSABLE)
    known = extension(BlockType.HOP_COUNT, encode_hop_count(5, 0), 8, BlockFlag.DISCARD_IF_UNPROCESSABLE)
    blocks = blocks_by_type(passed_on(bundle_of(kept, dropped, large, known)))
    assert set(blocks) == {BlockType.PREVIOUS_NODE, 222, BlockType.HOP_COUNT, BlockType.PAYLOAD}
    assert blocks[222] == kept


AGE = extension(BlockType.BUNDLE_AGE, b"\x05", 2)


@pytest.mark.parametrize(
    "blocks",
    [
        [AGE],
        [EXTENSIONS[0], AGE],
        [AGE, extension(222, b"\x85\x07", 9)],
        [AGE, extension(222, b"\x85\x07\x07\x00\x00\x41\x05", 9)],  # what looks like the age block is in another
        [AGE, extension(222, b"\x85\x07\x07\x00\x00\x41\x06", 9)],
        [extension(BlockType.BUNDLE_AGE, b"\x18\x05", 2)],  # in more bytes than needed
        [extension(BlockType.BUNDLE_AGE, b"\x05", 200)],
        [extension(BlockType.BUNDLE_AGE, b"\x05", 2, flags=200)],
        [extension(BlockType.BUNDLE_AGE, b"\x05", 2, crc_type=CrcType.CRC16)],
    ],
)
@pytest.mark.parametrize("is_own", [False, True])
def test_an_age_block_grows_older_wherever_it_stands(blocks: list[CanonicalBlock], is_own: bool) -> None:
    data = bundle_of(*blocks)
    for residence_ms in (0, 18, 19, 300, 1 << 33):
        after = passed_on(data, residence_ms=residence_ms, is_own=is_own)
        assert scan_untrusted(after).age_ms == 5 + residence_ms
        old, new = blocks_by_type(data), blocks_by_type(after)
        assert old.get(222) == new.get(222)
        assert old[BlockType.BUNDLE_AGE].number == new[BlockType.BUNDLE_AGE].number


def test_a_large_payload_is_not_copied() -> None:
    data = own_bundle(payload=bytes(JOIN_MAX_BYTES))
    header = scan_untrusted(data)
    front, rest = forwarded_copy(data, header, own_node=HOME, residence_ms=0, is_own=False)
    assert isinstance(rest, memoryview)
    assert rest.obj is data
    assert scan_untrusted(bytes(front) + bytes(rest)).previous_node == HOME


@pytest.mark.parametrize(("limit", "count", "exceeded"), [(1, 0, False), (1, 1, True), (32, 31, False), (32, 40, True)])
def test_hop_limit(limit: int, count: int, exceeded: bool) -> None:
    header: BundleHeader = scan_untrusted(bundle_of(extension(BlockType.HOP_COUNT, encode_hop_count(limit, count))))
    assert hop_limit_exceeded(header.flow) is exceeded
    assert not hop_limit_exceeded(scan_untrusted(bundle_of()).flow)


@given(st.permutations(EXTENSIONS), st.integers(0, 1 << 40), st.booleans())
def test_any_order_of_blocks_stays_a_sound_bundle(
    blocks: list[CanonicalBlock], residence_ms: int, is_own: bool
) -> None:
    data = bundle_of(*blocks)
    after = scan_untrusted(passed_on(data, residence_ms=residence_ms, is_own=is_own))
    assert after.age_ms == 70_000 + residence_ms
    assert after.id == scan_untrusted(data).id
    assert after.part == scan_untrusted(data).part
