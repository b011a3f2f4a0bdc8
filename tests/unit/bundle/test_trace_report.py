# SPDX-License-Identifier: Apache-2.0
"""What a node tells of a traced bundle: there and back, and what is none."""

import pytest

from meshd.bundle.errors import BundleError
from meshd.bundle.trace_report import (
    REPORT_MAX_BYTES,
    TraceReport,
    decode_trace_report_untrusted,
    encode_trace_report,
)

REPORT = TraceReport(820_000_000_000, 7, "dtn://dpop1/", "los0", 820_000_000_900, 450, is_last=True)


def test_there_and_back() -> None:
    assert decode_trace_report_untrusted(encode_trace_report(REPORT)) == REPORT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ping",
        encode_trace_report(REPORT) + b"\0",
        encode_trace_report(REPORT)[:-1] + b"\x02",
        encode_trace_report(REPORT)[:-1],
        encode_trace_report(REPORT).replace(b"\x88\x01", b"\x88\x02", 1),
        b"\x87" + encode_trace_report(REPORT)[1:-1],
        bytes(REPORT_MAX_BYTES + 1),
    ],
)
def test_others_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        decode_trace_report_untrusted(data)
