# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: `decode_trace_report_untrusted`; what it takes is written again and read as the same."""

from meshd.bundle.errors import BundleError
from meshd.bundle.trace_report import TraceReport, decode_trace_report_untrusted, encode_trace_report


def seeds() -> dict[str, bytes]:
    """On the way, and at its end."""
    passing = TraceReport(820_000_000_000, 7, "dtn://dpop1/", "los0", 820_000_000_900, 450, is_last=False)
    return {
        "passing": encode_trace_report(passing),
        "last": encode_trace_report(TraceReport(0, 0, "", "", 0, 0, is_last=True)),
    }


def check(data: bytes) -> None:
    """One input."""
    try:
        report = decode_trace_report_untrusted(data)
    except BundleError:
        return
    assert decode_trace_report_untrusted(encode_trace_report(report)) == report


def dictionary() -> list[bytes]:
    """Heads."""
    return [b"\x88\x01", b"\x1b", b"\x60", b"\x00", b"\x01"]
