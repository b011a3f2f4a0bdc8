# SPDX-License-Identifier: Apache-2.0
import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.admin_record import (
    ADMIN_RECORD_MAX_BYTES,
    Assertion,
    ReportReason,
    StatusReport,
    UnknownRecord,
    decode_admin_record_untrusted,
    encode_status_report,
    reason_name,
    record_type_name,
)
from meshd.bundle.errors import BundleError
from meshd.bundle.record import BundleId
from tests.unit.bundle.bundle_samples import SOURCE, TIME_MS

SUBJECT = BundleId(SOURCE, TIME_MS, 7)
NO = [False]
SUBJECT_CBOR = [[1, "//dpop1/inbox"], [TIME_MS, 7]]
UINT64 = st.integers(0, (1 << 64) - 1)
ASSERTIONS = st.one_of(st.builds(Assertion, st.booleans()), st.builds(Assertion, st.just(True), UINT64))


def test_a_delivery_report_byte_by_byte() -> None:
    report = StatusReport(SUBJECT, delivered=Assertion(True))
    expected = (
        "82"  # administrative record
        "01"  # type: bundle status report
        "84"  # four items: the subject is no fragment
        "84 81f4 81f4 81f5 81f4"  # received, forwarded, delivered, deleted
        "00"  # no additional information
        "8201 6d 2f2f64706f70312f696e626f78"  # //dpop1/inbox
        "82 1b000000bf06bf4c7b 07"  # creation timestamp
    ).replace(" ", "")
    expected = expected.replace("000000bf06bf4c7b", TIME_MS.to_bytes(8, "big").hex())
    assert encode_status_report(report).hex() == expected
    assert decode_admin_record_untrusted(bytes.fromhex(expected)) == report


@given(ASSERTIONS, ASSERTIONS, ASSERTIONS, ASSERTIONS, UINT64, st.one_of(st.none(), st.tuples(UINT64, UINT64)))
def test_round_trip_agrees_with_cbor2(
    received: Assertion,
    forwarded: Assertion,
    delivered: Assertion,
    deleted: Assertion,
    reason: int,
    fragment: tuple[int, int] | None,
) -> None:
    subject = BundleId(SOURCE, TIME_MS, 7, *(fragment or (-1, -1)))
    report = StatusReport(subject, received, forwarded, delivered, deleted, reason)
    raw = encode_status_report(report)
    assert decode_admin_record_untrusted(raw) == report
    items = [
        [item.is_asserted] if item.time_ms is None else [item.is_asserted, item.time_ms]
        for item in (received, forwarded, delivered, deleted)
    ]
    assert cbor2.loads(raw) == [1, [items, reason, *SUBJECT_CBOR, *(fragment or ())]]


def test_further_assertions_are_stepped_over() -> None:
    raw = cbor2.dumps([1, [[NO, NO, [True], NO, [True, {"new": [1]}], 7], 1, *SUBJECT_CBOR]])
    report = decode_admin_record_untrusted(raw)
    assert report == StatusReport(SUBJECT, delivered=Assertion(True), reason=ReportReason.LIFETIME_EXPIRED)


@pytest.mark.parametrize(
    "record",
    [
        5,
        [],
        [1],
        [2],
        [2, [], 3],
        [2, 0xFFFF, 0],
        [1, []],
        [1, [[NO, NO, NO], 0, *SUBJECT_CBOR]],
        [1, [[NO, NO, NO, []], 0, *SUBJECT_CBOR]],
        [1, [[NO, NO, NO, [True, 1, 2]], 0, *SUBJECT_CBOR]],
        [1, [[NO, NO, NO, [1]], 0, *SUBJECT_CBOR]],
        [1, [[NO, NO, NO, NO], -1, *SUBJECT_CBOR]],
        [1, [[NO, NO, NO, NO], 0, [3, 0], [1, 2]]],
        [1, [[NO, NO, NO, NO], 0, [1, 0], [1, 2, 3]]],
        [1, [[NO, NO, NO, NO], 0, *SUBJECT_CBOR, 5]],
        [1, [[NO, NO, NO, NO], 0, *SUBJECT_CBOR, 5, "x"]],
        [1, [[NO, NO, NO, NO], 0, *SUBJECT_CBOR], 9],
    ],
)
def test_malformed_records(record: object) -> None:
    with pytest.raises(BundleError) as caught:
        decode_admin_record_untrusted(cbor2.dumps(record))
    assert caught.value.reason == "admin-record"


def test_a_record_of_another_type_is_told_by_its_number_and_not_looked_into() -> None:
    for record_type in (0, 2, 3, 64512, 65535, 1 << 64 - 1):
        raw = cbor2.dumps([record_type, {"any": list(range(5))}])
        assert decode_admin_record_untrusted(raw) == UnknownRecord(record_type)


@pytest.mark.parametrize(
    ("record_type", "name"),
    [
        (0, "reserved (0)"),
        (1, "status report (1)"),
        (4, "aggregate custody signal of version 6 (4)"),
        (15, "unassigned (15)"),
        (64384, "experimental use (64384)"),
        (64511, "experimental use (64511)"),
        (64512, "private use (64512)"),
        (65536, "out of range (65536)"),
    ],
)
def test_the_registry_of_rfc_9713(record_type: int, name: str) -> None:
    assert record_type_name(record_type) == name


def test_truncated_trailing_and_huge_records() -> None:
    raw = encode_status_report(StatusReport(SUBJECT))
    for data in [raw[:length] for length in range(len(raw))] + [raw + b"\x00", raw + bytes(ADMIN_RECORD_MAX_BYTES)]:
        with pytest.raises(BundleError) as caught:
            decode_admin_record_untrusted(data)
        assert caught.value.reason == "admin-record"
    with pytest.raises(BundleError):
        decode_admin_record_untrusted(bytes.fromhex("82018484") + b"\x9f" * 4000)
    with pytest.raises(BundleError):
        decode_admin_record_untrusted(bytes.fromhex("820184" + "9bffffffffffffffff" + "81f4" * 900))


def test_indefinite_arrays_are_accepted() -> None:
    inner = cbor2.dumps(0) + cbor2.dumps(SUBJECT_CBOR[0]) + cbor2.dumps(SUBJECT_CBOR[1])
    raw = b"\x9f\x01\x9f\x9f" + b"\x81\xf4" * 4 + b"\xff" + inner + b"\xff\xff"
    assert decode_admin_record_untrusted(raw) == StatusReport(SUBJECT)
    raw = b"\x9f\x01\x9f\x84" + b"\x81\xf4" * 4 + inner + b"\x05\x06\xff\xff"
    assert decode_admin_record_untrusted(raw) == StatusReport(BundleId(SOURCE, TIME_MS, 7, 5, 6))


@given(st.binary(max_size=80))
def test_noise_gives_a_report_or_the_one_error(noise: bytes) -> None:
    for data in (noise, b"\x82\x01\x84\x84" + noise):
        try:
            report = decode_admin_record_untrusted(data)
        except BundleError:
            continue
        assert isinstance(report, UnknownRecord) or report.subject.source.uri


def test_reasons_in_words() -> None:
    assert reason_name(ReportReason.LIFETIME_EXPIRED) == "lifetime expired"
    assert reason_name(200) == "reason 200"
