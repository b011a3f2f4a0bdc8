# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: `decode_admin_record_untrusted`; what it takes is written again and read as the same."""

from typing import Final

from meshd.bundle.admin_record import StatusReport, decode_admin_record_untrusted, encode_status_report
from meshd.bundle.errors import BundleError
from tests.fuzz.counted_bytes import CountedBytes, assert_linear
from tests.fuzz.seeds import admin_record_seeds

STEPS_PER_BYTE: Final = 8
STEPS_CONSTANT: Final = 64

seeds = admin_record_seeds


def check(data: bytes) -> None:
    """One input."""
    counted = CountedBytes(data)
    report, reason = _decode(counted)
    assert_linear(counted, STEPS_PER_BYTE, STEPS_CONSTANT)
    if report is None:
        assert reason == "admin-record"
    elif isinstance(report, StatusReport):
        assert decode_admin_record_untrusted(encode_status_report(report)) == report


def _decode(data: bytes) -> tuple[object, str]:
    try:
        return decode_admin_record_untrusted(data), ""
    except BundleError as error:
        return None, error.reason


def dictionary() -> list[bytes]:
    """Heads of records, assertions and EIDs."""
    return [bytes.fromhex(word) for word in ("820184", "820186", "84", "81f4", "81f5", "82f500", "820100", "9f", "ff")]
