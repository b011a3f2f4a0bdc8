# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.admin_record import Assertion, StatusReport, encode_status_report
from meshd.bundle.blocks import BlockFlag, BundleFlag
from meshd.bundle.dump import dump_untrusted, render_text
from meshd.bundle.errors import BundleError
from meshd.bundle.record import BundleId
from meshd.bundle.scan import scan_untrusted
from tests.unit.bundle.bundle_samples import FULL, SOURCE, TIME_MS, bundle_of, extension, own_bundle


def test_a_full_bundle_field_by_field() -> None:
    dump = dump_untrusted(FULL)
    assert dump["v"] == 1
    assert dump["errors"] == []
    assert dump["primary"] == {
        "version": 7,
        "destination": "dtn://home/inbox",
        "source": "dtn://dpop1/inbox",
        "report_to": "dtn://dpop1/",
        "creation_time_ms": TIME_MS,
        "sequence": 7,
        "lifetime_ms": 86_400_000,
        "flags": [],
        "fragment_offset": None,
        "total_adu_bytes": None,
        "crc": "crc32c",
    }
    common = {"flags": ["replicate_in_fragments"]}
    assert dump["blocks"] == [
        {"type": 6, "name": "previous_node", "number": 9, "flags": [], "crc": "crc32c", "data_bytes": 11}
        | {"node": "dtn://dpop2/"},
        {"type": 7, "name": "bundle_age", "number": 2, "crc": "crc16", "data_bytes": 5, "age_ms": 70_000} | common,
        {"type": 10, "name": "hop_count", "number": 3, "crc": "crc32c", "data_bytes": 4}
        | {"hop_limit": 32, "hop_count": 3}
        | common,
        {"type": 193, "name": "quality_of_service", "number": 4, "crc": "crc16", "data_bytes": 5}
        | {"precedence": "FLASH"}
        | common,
        {"type": 202, "name": "part", "number": 5, "crc": "crc32c", "data_bytes": 18}
        | {"first_time_ms": TIME_MS, "first_sequence": 5, "index": 2, "offset_bytes": 2 << 20, "is_last": True}
        | common,
        {"type": 1, "name": "payload", "number": 1, "flags": [], "crc": "crc32c", "data_bytes": 12},
    ]


def test_flags_are_named_and_unknown_bits_numbered() -> None:
    flags = BundleFlag.MUST_NOT_FRAGMENT | BundleFlag.REPORT_DELIVERY | 1 << 30
    assert dump_untrusted(own_bundle(flags=flags))["primary"]["flags"] == [
        "must_not_fragment",
        "report_delivery",
        "bit_30",
    ]
    block = extension(222, b"x", flags=BlockFlag.DISCARD_IF_UNPROCESSABLE | 0x80)
    shown = dump_untrusted(bundle_of(block))["blocks"][0]
    assert shown["flags"] == ["discard_if_unprocessable", "bit_7"]
    assert (shown["type"], shown["name"]) == (222, None)


def test_a_fragment_shows_its_extent() -> None:
    dump = dump_untrusted(bundle_of(flags=BundleFlag.IS_FRAGMENT, fragment_offset=5, total_adu_bytes=100))
    assert (dump["primary"]["fragment_offset"], dump["primary"]["total_adu_bytes"]) == (5, 100)


def test_a_status_report_is_shown() -> None:
    report = StatusReport(BundleId(SOURCE, 5, 6), delivered=Assertion(True, 99))
    data = own_bundle(flags=BundleFlag.IS_ADMIN_RECORD, payload=encode_status_report(report))
    assert dump_untrusted(data)["blocks"][-1]["status_report"] == {
        "subject": "dtn://dpop1/inbox@5.6",
        "reason": 0,
        "reason_text": "no information",
        "asserted": ["delivered"],
        "times_ms": {"delivered": 99},
    }
    broken = dump_untrusted(own_bundle(flags=BundleFlag.IS_ADMIN_RECORD, payload=b"\xff"))
    assert "administrative record" in broken["errors"][0]


@pytest.mark.parametrize("offset", [12, -3])
def test_a_wrong_crc_is_told_and_the_rest_shown(offset: int) -> None:
    data = bytearray(FULL)
    data[offset] ^= 1
    dump = dump_untrusted(bytes(data))
    assert len(dump["errors"]) == 1
    assert "CRC" in dump["errors"][0]
    assert len(dump["blocks"]) == 6


def test_what_can_be_read_of_a_truncated_bundle_is_shown() -> None:
    header = scan_untrusted(FULL)
    dump = dump_untrusted(FULL[: header.payload_block_offset + 3])
    assert dump["primary"]["sequence"] == 7
    assert len(dump["blocks"]) == 5
    assert "ends" in dump["errors"][0]


def test_malformed_content_is_told_once() -> None:
    dump = dump_untrusted(bundle_of(extension(7, b"\x60")))
    assert len(dump["errors"]) == 1
    assert dump["blocks"][0]["data_bytes"] == 1
    assert "age_ms" not in dump["blocks"][0]


@pytest.mark.parametrize("data", [b"", b"\x06\x00", b"hello", b"\x9f" * 1000, FULL + b"\x00", own_bundle(time_ms=0)])
def test_nothing_unsound_passes_without_an_error(data: bytes) -> None:
    dump = dump_untrusted(data)
    assert dump["errors"]
    assert "error: " in render_text(dump)


@given(st.binary(max_size=100), st.integers(0, len(FULL)))
def test_any_bytes_give_a_dump_fit_for_json_and_agree_with_the_parser(noise: bytes, cut: int) -> None:
    data = FULL[:cut] + noise
    dump = dump_untrusted(data)
    try:
        scan_untrusted(data)
    except BundleError:
        assert dump["errors"]
    else:
        assert dump["errors"] == []
    assert json.loads(json.dumps(dump)) == dump
    assert render_text(dump).isascii()


def test_text_for_people() -> None:
    text = render_text(dump_untrusted(own_bundle(precedence=4)))
    assert "primary block\n" in text
    assert "  destination        dtn://home/inbox\n" in text
    assert "block 3: quality of service (type 193)\n" in text
    assert "  precedence         FLASH\n" in text
    assert "error" not in text
    report = encode_status_report(StatusReport(BundleId(SOURCE, 5, 6), delivered=Assertion(True)))
    text = render_text(dump_untrusted(own_bundle(flags=BundleFlag.IS_ADMIN_RECORD, payload=report)))
    assert "    subject            dtn://dpop1/inbox@5.6\n" in text
