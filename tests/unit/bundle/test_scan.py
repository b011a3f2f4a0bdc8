# SPDX-License-Identifier: Apache-2.0
"""The parser of received bundles: what it says of sound ones; unsound ones give one error with the right reason."""

import hashlib
from collections.abc import Callable

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.base.limits import INLINE_SIZE_MAX_BYTES
from meshd.bundle import cbor, crc, scan
from meshd.bundle.blocks import BLOCKS_MAX, BlockFlag, BlockType, Bundle, BundleFlag, CanonicalBlock, CrcType
from meshd.bundle.codec import encode
from meshd.bundle.eid import NULL_EID, parse_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.extension import encode_hop_count
from meshd.bundle.record import BundleId
from meshd.bundle.scan import scan_untrusted
from tests.unit.bundle.bundle_samples import (
    DESTINATION,
    DPOP1,
    DPOP2,
    EXTENSIONS,
    FULL,
    PART,
    PAYLOAD,
    SOURCE,
    TIME_MS,
    bundle_of,
    extension,
    own_bundle,
    payload_block,
    primary,
)


def reason_of(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        scan_untrusted(data)
    assert str(caught.value)
    return caught.value.reason


def test_everything_in_a_full_bundle_is_found() -> None:
    header = scan_untrusted(FULL)
    assert header.id == BundleId(SOURCE, TIME_MS, 7)
    assert header.source == SOURCE
    assert header.destination == DESTINATION
    assert header.report_to == DPOP1
    assert header.lifetime_ms == 86_400_000
    assert header.primary_crc_type == CrcType.CRC32C
    assert header.age_ms == 70_000
    assert (header.hop_limit, header.hop_count) == (32, 3)
    assert header.previous_node == DPOP2
    assert header.precedence == 4
    assert header.part == PART
    assert not header.must_delete
    assert not header.must_report
    assert not header.is_fragment
    assert not header.is_admin_record
    assert FULL[header.payload_offset : header.payload_offset + header.payload_size] == PAYLOAD


def test_a_bare_bundle_has_the_defaults() -> None:
    header = scan_untrusted(bundle_of())
    assert header.age_ms is None
    assert (header.hop_limit, header.hop_count) == (0, 0)
    assert header.previous_node is None
    assert header.precedence == 1
    assert header.part is None
    assert header.extensions_offset == header.payload_block_offset


def test_a_remembered_look_equals_the_first() -> None:
    """The tables are a short cut only: the same answer before, during and after them."""
    bundles = [own_bundle(precedence=precedence, sequence=precedence) for precedence in range(6)] + [FULL]
    first = [scan_untrusted(data) for data in bundles]
    assert [scan_untrusted(data) for data in bundles] == first
    scan._flows.clear()
    assert [scan_untrusted(data) for data in bundles] == first


def test_the_tables_are_bounded(set_limit: Callable[[str, int], None]) -> None:
    set_limit("meshd.bundle.scan.REMEMBERED_MAX", 3)
    for number in range(10):
        flags = BundleFlag.MUST_NOT_FRAGMENT | number << 30
        scan_untrusted(own_bundle(flags=flags, hop_limit=number + 1))
        assert len(scan._flows) <= 3 or number == 0


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536, 700_000])
@pytest.mark.parametrize("crc_type", list(CrcType))
def test_every_size_of_payload_and_crc_type(size: int, crc_type: int) -> None:
    payload = bytes(range(251)) * (size // 251 + 1)
    data = own_bundle(payload=payload[:size], crc_type=crc_type)
    header = scan_untrusted(data)
    assert header.payload_size == size
    assert data[header.payload_offset : header.payload_offset + size] == payload[:size]


@pytest.mark.parametrize("sequence", [0, 23, 24, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, cbor.UINT_MAX])
@pytest.mark.parametrize("time_ms", [1, 23, 1 << 32, TIME_MS, cbor.UINT_MAX])
@pytest.mark.parametrize("lifetime_ms", [0, 255, 1 << 16, (1 << 32) - 1, 1 << 32])
def test_every_size_of_number(sequence: int, time_ms: int, lifetime_ms: int) -> None:
    header = scan_untrusted(own_bundle(sequence=sequence, time_ms=time_ms, lifetime_ms=lifetime_ms))
    assert (header.id.time_ms, header.id.sequence, header.lifetime_ms) == (time_ms, sequence, lifetime_ms)


def test_a_fragment_is_known_by_its_extent() -> None:
    data = bundle_of(flags=BundleFlag.IS_FRAGMENT, fragment_offset=100, total_adu_bytes=112)
    header = scan_untrusted(data)
    assert header.is_fragment
    assert header.id == BundleId(SOURCE, TIME_MS, 7, 100, len(PAYLOAD))
    assert header.total_adu_bytes == 112
    assert reason_of(bundle_of(flags=BundleFlag.IS_FRAGMENT, fragment_offset=101, total_adu_bytes=112)) == "fragment"


def test_an_anonymous_bundle_is_known_by_its_primary_block() -> None:
    data = own_bundle(source=NULL_EID)
    header = scan_untrusted(data)
    assert header.id.digest == hashlib.sha256(data[: header.extensions_offset]).digest()[:16]
    assert header.id != scan_untrusted(own_bundle(source=NULL_EID, lifetime_ms=5)).id
    assert reason_of(own_bundle(source=NULL_EID, flags=0)) == "flags"
    reports = BundleFlag.MUST_NOT_FRAGMENT | BundleFlag.REPORT_DELIVERY
    assert reason_of(own_bundle(source=NULL_EID, flags=reports)) == "flags"


def test_an_administrative_record_asks_for_no_reports() -> None:
    assert scan_untrusted(own_bundle(flags=BundleFlag.IS_ADMIN_RECORD)).is_admin_record
    assert reason_of(own_bundle(flags=BundleFlag.IS_ADMIN_RECORD | BundleFlag.REPORT_RECEPTION)) == "flags"


def test_unknown_flags_are_ignored_and_kept() -> None:
    assert scan_untrusted(own_bundle(flags=1 << 63 | 8)).flags == 1 << 63 | 8


def test_without_a_creation_time_the_age_is_needed() -> None:
    assert scan_untrusted(own_bundle(time_ms=0, age_ms=0)).age_ms == 0
    assert reason_of(own_bundle(time_ms=0)) == "age"


@pytest.mark.parametrize("length", range(len(FULL)))
def test_every_truncation_is_refused(length: int) -> None:
    reason_of(FULL[:length])


@pytest.mark.parametrize("sample", [own_bundle(crc_type=crc_type) for crc_type in CrcType])
def test_every_truncation_of_an_own_bundle_is_refused(sample: bytes) -> None:
    for length in range(len(sample)):
        reason_of(sample[:length])


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_of_a_covered_bundle_is_refused(bit: int) -> None:
    scan_untrusted(FULL)
    for offset in range(len(FULL)):
        flipped = bytearray(FULL)
        flipped[offset] ^= 1 << bit
        reason_of(bytes(flipped))


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_changes_an_own_bundle_in_its_uncovered_blocks_only(bit: int) -> None:
    data = own_bundle(precedence=4, part=PART, age_ms=9, payload=bytes(300))
    header = scan_untrusted(data)
    for offset in range(len(data)):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << bit
        try:
            changed = scan_untrusted(bytes(flipped))
        except BundleError:
            continue
        assert header.extensions_offset <= offset < header.payload_block_offset
        assert changed.id == header.id


@pytest.mark.parametrize("number", [0, 1, 3])
def test_block_numbers_are_unique(number: int) -> None:
    blocks = (extension(200, b"", number), extension(BlockType.HOP_COUNT, encode_hop_count(1, 0), 3))
    assert reason_of(bundle_of(*blocks)) == "block-number"


def test_the_payload_has_number_1() -> None:
    assert reason_of(encode(Bundle(primary(), (payload_block(number=2),)))) == "block-number"


def test_the_payload_is_there_once_and_last() -> None:
    assert reason_of(encode(Bundle(primary(), ()))) == "payload"
    assert reason_of(encode(Bundle(primary(), EXTENSIONS))) == "payload"
    assert reason_of(encode(Bundle(primary(), (payload_block(), EXTENSIONS[0])))) == "payload"
    assert reason_of(encode(Bundle(primary(), (payload_block(), payload_block())))) == "payload"


def test_nothing_may_follow() -> None:
    assert reason_of(FULL + b"\x00") == "trailing"
    assert reason_of(own_bundle() + b"\xff") == "trailing"
    assert reason_of(own_bundle() + own_bundle()) == "trailing"


@pytest.mark.parametrize("block", EXTENSIONS, ids=lambda block: BlockType(block.type).name)
def test_a_known_block_comes_once(block: CanonicalBlock) -> None:
    again = CanonicalBlock(block.type, 30, block.data)
    reasons = {6: "previous-node", 7: "age", 10: "hop-count", 193: "precedence", 202: "part"}
    assert reason_of(bundle_of(block, again)) == reasons[block.type]


@pytest.mark.parametrize("block", EXTENSIONS, ids=lambda block: BlockType(block.type).name)
def test_a_known_block_holds_just_what_it_should(block: CanonicalBlock) -> None:
    reasons = {6: "previous-node", 7: "age", 10: "hop-count", 193: "precedence", 202: "part"}
    for data in (b"", block.data + b"\x00", block.data[:-1], b"\xff", b"\x60", b"\x80", b"\x9b" + b"\xff" * 8):
        assert reason_of(bundle_of(extension(block.type, data))) == reasons[block.type]


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (BlockType.HOP_COUNT, [0, 0], "hop-count"),
        (BlockType.HOP_COUNT, [256, 0], "hop-count"),
        (BlockType.HOP_COUNT, [1, 0, 0], "hop-count"),
        (BlockType.PREVIOUS_NODE, [1, 0], "previous-node"),
        (BlockType.PREVIOUS_NODE, [1, "//dpop2/inbox"], "previous-node"),
        (BlockType.BUNDLE_AGE, -1, "age"),
        (BlockType.QUALITY_OF_SERVICE, [0, 3, 0, 0], "precedence"),
        (BlockType.PART, [1, 2, 3, 4, 5], "part"),
        (BlockType.PART, [1, 2, 3, 4], "part"),
    ],
)
def test_impossible_content(kind: int, data: object, reason: str) -> None:
    assert reason_of(bundle_of(extension(kind, cbor2.dumps(data)))) == reason


def test_a_number_as_large_as_can_be_is_no_error() -> None:
    header = scan_untrusted(bundle_of(extension(BlockType.BUNDLE_AGE, cbor.encode_uint(cbor.UINT_MAX))))
    assert header.age_ms == cbor.UINT_MAX


def test_what_unknown_blocks_ask_for_is_noted() -> None:
    delete = BlockFlag.DELETE_BUNDLE_IF_UNPROCESSABLE
    report = BlockFlag.REPORT_IF_UNPROCESSABLE
    assert scan_untrusted(bundle_of(extension(222, b"x", flags=delete))).must_delete
    assert scan_untrusted(bundle_of(extension(222, b"x", flags=report))).must_report
    known = scan_untrusted(bundle_of(extension(BlockType.BUNDLE_AGE, b"\x05", flags=delete | report)))
    assert not known.must_delete
    assert not known.must_report


def test_the_number_of_blocks_is_bounded() -> None:
    blocks = [extension(222, b"", number) for number in range(2, BLOCKS_MAX + 2)]
    scan_untrusted(bundle_of(*blocks[:-1]))
    assert reason_of(bundle_of(*blocks)) == "block-count"


def test_oversize_is_refused_unread() -> None:
    assert reason_of(bytes(INLINE_SIZE_MAX_BYTES + 1)) == "oversize"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x06\x00", "version"),  # RFC 5050
        (b"\x88\x07", "cbor"),
        (b"\x9f", "truncated"),
        (b"\x9f\xff", "cbor"),
        (b"\x9f\x89\x06", "version"),
        (b"\x9f\x89\x08", "version"),
        (b"\x9f\x88\x07\x00\x02", "primary"),
        (b"\x9f\x89\x07\x00\x00", "primary"),
        (b"\x9f\x89\x07\x01\x02", "primary"),
        (b"\x9f\x8b\x07\x00\x02", "primary"),
        (b"\x9f\x89\x07\x00\x03", "crc-type"),
        (b"\x9f\x89\x07\x00\x02\x82\x03\x00", "eid"),
        (b"\x9f" * 100_000, "cbor"),
        (b"\x9f\x9b" + b"\xff" * 8, "truncated"),
        (b"\x9f\x9b" + b"\xff" * 8 + b"\x07\x00\x00", "primary"),
        (b"\x9f" + b"\x81" * 100_000, "cbor"),
    ],
)
def test_what_never_was_a_bundle(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def test_a_payload_claiming_more_than_there_is() -> None:
    front = own_bundle(payload=b"")[: scan_untrusted(own_bundle(payload=b"")).payload_block_offset]
    for head in ("5bffffffffffffffff", "5affffffff", "59ffff", "58ff", "5f"):
        data = front + bytes.fromhex("8601010002" + head)
        assert reason_of(data) in ("truncated", "cbor")
        assert reason_of(data + bytes(100) + b"\xff") in ("truncated", "cbor")


@pytest.mark.parametrize("crc_type", [CrcType.CRC16, CrcType.CRC32C])
def test_wrong_crcs_are_told(crc_type: int) -> None:
    data = bytearray(own_bundle(crc_type=crc_type, payload=bytes(200)))
    data[-2] ^= 1
    assert reason_of(bytes(data)) == "crc"
    data = bytearray(own_bundle(crc_type=crc_type, payload=bytes(200)))
    data[scan_untrusted(bytes(data)).extensions_offset - 1] ^= 1
    assert reason_of(bytes(data)) == "crc"


def test_a_crc_of_the_wrong_size_or_type() -> None:
    head = bytes.fromhex("9f8907000182010082010082010082010200")
    assert reason_of(head.replace(b"\x07\x00", b"\x07\x04") + b"\x44\0\0\0\0") == "crc"
    block = extension(222, b"data", crc_type=0)
    data = bundle_of(block).replace(b"\x85\x18\xde\x02\x00\x00", b"\x85\x18\xde\x02\x00\x03")
    assert reason_of(data) == "crc-type"
    assert reason_of(bundle_of(block).replace(b"\x85\x18\xde", b"\x86\x18\xde")) == "block"
    assert reason_of(bundle_of(block).replace(b"\x85\x18\xde", b"\x87\x18\xde")) == "block"


def test_longer_numbers_than_needed_are_accepted() -> None:
    """RFC 9171 section 4.1 asks senders for the shortest form; a receiver that insists loses other people's data."""
    eids = b"\x82\x18\x01\x00" * 3
    front = b"\x89\x18\x07\x19\x00\x04\x18\x00" + eids + b"\x82\x1a\x00\x00\x00\x05\x18\x06\x1b" + bytes(7) + b"\x09"
    data = b"\x9f\x98\x08" + front[1:] + b"\x98\x05\x18\x01\x18\x01\x18\x00\x18\x00\x58\x03abc\xff"
    header = scan_untrusted(data)
    assert (header.id.time_ms, header.id.sequence, header.lifetime_ms, header.payload_size) == (5, 6, 9, 3)


def test_blocks_may_be_indefinite_arrays() -> None:
    """RFC 9171 section 4.3.1 counts the break into the CRC."""
    front = b"\x9f" + own_bundle()[2:]
    front = front[: scan_untrusted(own_bundle()).extensions_offset - 6]
    block = front + b"\x44\0\0\0\0\xff"
    first = front + b"\x44" + crc.crc32c(block).to_bytes(4, "big") + b"\xff"
    last = b"\x9f\x01\x01\x00\x02\x43abc"
    last += b"\x44" + crc.crc32c(last + b"\x44\0\0\0\0\xff").to_bytes(4, "big") + b"\xff"
    assert scan_untrusted(b"\x9f" + first + last + b"\xff").payload_size == 3
    assert reason_of(b"\x9f" + first + last[:-1] + b"\x00\xff") == "cbor"


def test_a_payload_head_within_an_extension_block_misleads_nobody() -> None:
    trap = extension(222, b"\x86\x01\x01\x00\x02\x59\x00\x01", 4)
    data = bundle_of(trap, EXTENSIONS[2], source=DPOP1)
    for _ in range(3):
        assert scan_untrusted(data).hop_limit == 32


AGE = extension(BlockType.BUNDLE_AGE, b"\x05", 8)


@pytest.mark.parametrize(
    ("blocks", "age_ms"),
    [
        ([extension(BlockType.BUNDLE_AGE, cbor.encode_uint(age_ms), 2)], age_ms)
        for age_ms in (0, 23, 24, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, cbor.UINT_MAX)
    ]
    + [
        ([AGE, extension(222, b"x", 9)], 5),  # not last
        ([AGE, extension(222, b"\x85\x07", 9)], 5),
        ([AGE, extension(222, b"\x85\x07\x09\x00\x00\x41\x06", 9)], 5),  # an age block within another
        ([extension(222, b"\x85\x07\x09\x00\x00\x41\x06", 9)], None),
        ([extension(BlockType.BUNDLE_AGE, b"\x18\x05", 8)], 5),  # in more bytes than needed
        ([extension(BlockType.BUNDLE_AGE, b"\x07", 0x85)], 7),
        ([extension(BlockType.BUNDLE_AGE, b"\x07", 8, flags=0x8507)], 7),
    ],
)
def test_an_age_block_is_found_wherever_it_stands(blocks: list[CanonicalBlock], age_ms: int | None) -> None:
    data = bundle_of(EXTENSIONS[2], *blocks)
    scan._flows.clear()
    scan_untrusted(bundle_of(EXTENSIONS[2]))
    for _ in range(3):
        assert scan_untrusted(data).age_ms == age_ms
        assert scan_untrusted(data).hop_limit == 32


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_trailing_age_block_may_not_take_a_number_again(number: int) -> None:
    scan_untrusted(bundle_of(EXTENSIONS[2]))
    data = bundle_of(EXTENSIONS[2], extension(BlockType.BUNDLE_AGE, b"\x05", number))
    assert reason_of(data) == "block-number"


def test_a_second_age_block_is_seen_behind_remembered_blocks() -> None:
    scan_untrusted(bundle_of(AGE))
    assert reason_of(bundle_of(AGE, extension(BlockType.BUNDLE_AGE, b"\x05", 9))) == "age"
    scan_untrusted(bundle_of(EXTENSIONS[2], AGE))
    assert reason_of(bundle_of(EXTENSIONS[2], AGE, extension(BlockType.BUNDLE_AGE, b"\x05", 9))) == "age"


def test_remembered_blocks_and_an_age_block_are_not_too_many() -> None:
    blocks = [extension(222, b"", number) for number in range(2, BLOCKS_MAX + 1)]
    scan_untrusted(bundle_of(*blocks))
    assert reason_of(bundle_of(*blocks, extension(BlockType.BUNDLE_AGE, b"\x05", 99))) == "block-count"


def test_a_timestamp_head_within_an_eid_misleads_nobody() -> None:
    node = parse_eid(f"ipn:{0xDEAD}.{0xBEEF}.0")
    two_elements = bytes.fromhex("8202821b0000deadb000beef00")
    assert b"\x82\x1b\x00\x00" in two_elements
    raw = own_bundle(destination=node, crc_type=CrcType.NONE).replace(node.cbor, two_elements)
    for _ in range(3):
        assert scan_untrusted(raw).destination == parse_eid(f"ipn:{0xDEAD}.{0xB000BEEF}.0")


@given(st.binary(max_size=120))
def test_noise_gives_a_header_or_the_one_error(noise: bytes) -> None:
    for data in (noise, b"\x9f\x89\x07" + noise, own_bundle()[:60] + noise):
        try:
            header = scan_untrusted(data)
        except BundleError:
            continue
        assert header.payload_offset + header.payload_size < len(data)


@given(st.lists(st.tuples(st.integers(0, len(FULL) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutations_give_a_header_or_the_one_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(own_bundle(precedence=5, age_ms=1000, part=PART))
    for offset, value in changes:
        data[offset % len(data)] = value
    try:
        header = scan_untrusted(bytes(data))
    except BundleError:
        return
    assert 0 <= header.payload_offset <= header.payload_offset + header.payload_size < len(data)


POOL = (
    *EXTENSIONS,
    AGE,
    extension(BlockType.BUNDLE_AGE, cbor.encode_uint(90_000), 10),
    extension(BlockType.HOP_COUNT, encode_hop_count(9, 1), 11),
    extension(222, b"\x85\x07", 12),
    extension(222, b"\x85\x07\x08\x00\x00\x41\x05", 13, flags=4),
    extension(222, b"\x86\x01\x01\x00\x02\x43", 14, flags=2),
    extension(222, b"", 8),
)


def answer(data: bytes) -> object:
    try:
        return scan_untrusted(data)
    except BundleError as error:
        return error.reason, str(error)


@given(
    st.lists(st.lists(st.sampled_from(POOL), max_size=4), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=2),
)
def test_what_is_remembered_never_changes_an_answer(
    runs: list[list[CanonicalBlock]], changes: list[tuple[int, int]]
) -> None:
    bundles = [bundle_of(*blocks) for blocks in runs]
    for data in list(bundles):
        changed = bytearray(data)
        for offset, value in changes:
            changed[offset % len(data)] = value
        bundles.append(bytes(changed))
    remembered = [answer(data) for data in [*bundles, *bundles]][len(bundles) :]
    fresh = []
    for data in bundles:
        scan._flows.clear()
        fresh.append(answer(data))
    assert remembered == fresh
