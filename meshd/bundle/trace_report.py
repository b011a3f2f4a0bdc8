# SPDX-License-Identifier: Apache-2.0
"""What a node tells of a bundle to a trace endpoint that has reached it: payload of an ordinary bundle to the sender.

CBOR array [1, creation time in ms, sequence, previous node, bearer, received in ms, age in ms, is last]: the first
three say which bundle of the sender's; the bearer is the one it came by, as the node that tells calls it; times are DTN
time by that node's clock; the age is the bundle age block's as it came, which counts what it has waited at all nodes
before and none of its time on links; the last is 1 at its destination.
"""

from dataclasses import dataclass
from typing import Final

from meshd.base.limits import EID_SIZE_MAX_BYTES
from meshd.bundle import cbor
from meshd.bundle.errors import BundleError

TRACE_NAME: Final = "trace"
TRACE_SERVICE: Final = "8"
REPORT_MAX_BYTES: Final = 2048
BEARER_MAX_BYTES: Final = 256

_VERSION: Final = 1
_ITEMS: Final = 8


@dataclass(frozen=True, slots=True)
class TraceReport:
    """One node's word on one bundle."""

    created_ms: int
    sequence: int
    previous_node: str
    """Empty at the node that made it."""
    bearer: str
    received_ms: int
    age_ms: int
    is_last: bool


def encode_trace_report(report: TraceReport) -> bytes:
    """Its bytes."""
    return b"".join(
        (
            cbor.encode_array_head(_ITEMS),
            cbor.encode_uint(_VERSION),
            cbor.encode_uint(report.created_ms),
            cbor.encode_uint(report.sequence),
            cbor.encode_text(report.previous_node),
            cbor.encode_text(report.bearer),
            cbor.encode_uint(report.received_ms),
            cbor.encode_uint(report.age_ms),
            cbor.encode_uint(int(report.is_last)),
        )
    )


def decode_trace_report_untrusted(data: bytes) -> TraceReport:
    """Errors: BundleError `trace-report` or what is wrong with its CBOR."""
    if len(data) > REPORT_MAX_BYTES:
        raise BundleError("trace-report", f"a trace report has at most {REPORT_MAX_BYTES} bytes, not {len(data)}")
    length, pos = cbor.read_array_header(data, 0)
    version, pos = cbor.read_uint(data, pos)
    if length != _ITEMS or version != _VERSION:
        raise BundleError("trace-report", "this is no trace report of a kind that is known here")
    created_ms, pos = cbor.read_uint(data, pos)
    sequence, pos = cbor.read_uint(data, pos)
    previous_node, pos = cbor.read_text(data, pos, EID_SIZE_MAX_BYTES)
    bearer, pos = cbor.read_text(data, pos, BEARER_MAX_BYTES)
    received_ms, pos = cbor.read_uint(data, pos)
    age_ms, pos = cbor.read_uint(data, pos)
    is_last, pos = cbor.read_uint(data, pos)
    if is_last > 1 or pos != len(data):
        raise BundleError("trace-report", "a trace report ends with 0 or 1")
    return TraceReport(created_ms, sequence, previous_node, bearer, received_ms, age_ms, bool(is_last))
