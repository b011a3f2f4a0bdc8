# SPDX-License-Identifier: Apache-2.0
"""Administrative records (RFC 9171 section 6.1, registry of RFC 9713): status reports tell what became of a bundle.

Records of other types are told apart by their number and not looked into. Delivery reports are how "delivered" comes to
mean it. Whether one is sent or believed is the agent's decision.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from meshd.bundle import cbor
from meshd.bundle.eid import read_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.record import BundleId

RECORD_TYPE_STATUS_REPORT: Final = 1
ADMIN_RECORD_MAX_BYTES: Final = 4096
"""A longer administrative record is refused."""

RECORD_TYPE_MAX: Final = 65535
_RECORD_TYPES: Final = (
    (0, 0, "reserved"),
    (1, 1, "status report"),
    (2, 2, "custody signal of version 6"),
    (4, 4, "aggregate custody signal of version 6"),
    (64384, 64511, "experimental use"),
    (64512, 65535, "private use"),
)
"""The registry of RFC 9713 section 4.1: first and last number, and what they are for."""

_ASSERTIONS: Final = 4


class ReportReason(IntEnum):
    """Bundle status report reason codes (RFC 9171 section 6.1.1, RFC 9172 section 11.2)."""

    NO_INFORMATION = 0
    LIFETIME_EXPIRED = 1
    FORWARDED_UNIDIRECTIONAL = 2
    TRANSMISSION_CANCELED = 3
    DEPLETED_STORAGE = 4
    DESTINATION_UNAVAILABLE = 5
    NO_KNOWN_ROUTE = 6
    NO_TIMELY_CONTACT = 7
    BLOCK_UNINTELLIGIBLE = 8
    HOP_LIMIT_EXCEEDED = 9
    TRAFFIC_PARED = 10
    BLOCK_UNSUPPORTED = 11
    MISSING_SECURITY_OPERATION = 12
    UNKNOWN_SECURITY_OPERATION = 13
    UNEXPECTED_SECURITY_OPERATION = 14
    FAILED_SECURITY_OPERATION = 15
    CONFLICTING_SECURITY_OPERATION = 16


def reason_name(reason: int) -> str:
    """A reason code in words: `lifetime expired`; an unknown one by its number."""
    try:
        return ReportReason(reason).name.lower().replace("_", " ")
    except ValueError:
        return f"reason {reason}"


def record_type_name(record_type: int) -> str:
    """What the registry says of an administrative record type: `private use (64512)`."""
    for first, last, name in _RECORD_TYPES:
        if first <= record_type <= last:
            return f"{name} ({record_type})"
    return f"unassigned ({record_type})" if record_type <= RECORD_TYPE_MAX else f"out of range ({record_type})"


@dataclass(frozen=True, slots=True)
class UnknownRecord:
    """A well-formed administrative record of a type that is not known here: to be ignored."""

    type: int


@dataclass(frozen=True, slots=True)
class Assertion:
    """One of the four things that a report may assert."""

    is_asserted: bool = False
    time_ms: int | None = None
    """When it came about, DTN time; None unless the subject bundle asked for it."""


NOT_ASSERTED: Final = Assertion()


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What the reporting node says of one bundle, the subject. An anonymous bundle has no reports: no digest here."""

    subject: BundleId
    received: Assertion = NOT_ASSERTED
    forwarded: Assertion = NOT_ASSERTED
    delivered: Assertion = NOT_ASSERTED
    deleted: Assertion = NOT_ASSERTED
    reason: int = ReportReason.NO_INFORMATION
    """A ReportReason, or a code registered since."""


def encode_status_report(report: StatusReport) -> bytes:
    """The payload of a bundle that carries this report (with flag IS_ADMIN_RECORD)."""
    subject = report.subject
    is_fragment = subject.fragment_offset >= 0
    assertions = (report.received, report.forwarded, report.delivered, report.deleted)
    pieces = [
        b"\x82",
        cbor.encode_uint(RECORD_TYPE_STATUS_REPORT),
        cbor.encode_array_head(6 if is_fragment else 4),
        cbor.encode_array_head(_ASSERTIONS),
        *map(_encode_assertion, assertions),
        cbor.encode_uint(report.reason),
        subject.source.cbor,
        b"\x82",
        cbor.encode_uint(subject.time_ms),
        cbor.encode_uint(subject.sequence),
    ]
    if is_fragment:
        pieces += map(cbor.encode_uint, (subject.fragment_offset, subject.fragment_bytes))
    return b"".join(pieces)


def _encode_assertion(assertion: Assertion) -> bytes:
    if assertion.is_asserted and assertion.time_ms is not None:
        return b"\x82\xf5" + cbor.encode_uint(assertion.time_ms)
    return b"\x81" + cbor.encode_bool(assertion.is_asserted)


def decode_admin_record_untrusted(payload: bytes) -> StatusReport | UnknownRecord:
    """Decode the payload of a bundle whose flags say IS_ADMIN_RECORD.

    Errors:
        BundleError: `admin-record` when it is malformed.
    """
    if len(payload) > ADMIN_RECORD_MAX_BYTES:
        raise BundleError(
            "admin-record", f"an administrative record of {len(payload)} bytes: {ADMIN_RECORD_MAX_BYTES} is the most"
        )
    try:
        report, end = _read_record(payload)
    except BundleError as error:
        raise BundleError("admin-record", f"the administrative record is malformed: {error}") from error
    if end != len(payload):
        raise BundleError("admin-record", f"{len(payload) - end} bytes follow the administrative record")
    return report


def _read_record(data: bytes) -> tuple[StatusReport | UnknownRecord, int]:
    length, pos = cbor.read_array_header(data, 0)
    record_type, pos = cbor.read_uint(data, pos)
    if length not in (2, cbor.INDEFINITE):
        raise BundleError("admin-record", f"it has {length} items instead of 2")
    record: StatusReport | UnknownRecord
    if record_type == RECORD_TYPE_STATUS_REPORT:
        record, pos = _read_status_report(data, pos)
    else:
        record, pos = UnknownRecord(record_type), cbor.skip_item(data, pos)
    return record, cbor.read_array_end(data, pos, length)


def _read_status_report(data: bytes, pos: int) -> tuple[StatusReport, int]:
    length, pos = cbor.read_array_header(data, pos)
    if length not in (4, 6, cbor.INDEFINITE):
        raise BundleError("admin-record", f"a status report has 4 or 6 items, not {length}")
    assertions, pos = _read_assertions(data, pos)
    reason, pos = cbor.read_uint(data, pos)
    subject, pos = _read_subject(data, pos, length)
    received, forwarded, delivered, deleted = assertions
    report = StatusReport(subject, received, forwarded, delivered, deleted, reason)
    return report, cbor.read_array_end(data, pos, length)


def _read_assertions(data: bytes, pos: int) -> tuple[list[Assertion], int]:
    """Four assertions; RFC 9171 allows more behind them, which nobody has defined yet."""
    length, pos = cbor.read_array_header(data, pos)
    if length != cbor.INDEFINITE and length < _ASSERTIONS:
        raise BundleError("admin-record", f"bundle status information has at least 4 items, not {length}")
    assertions = []
    for _ in range(_ASSERTIONS):
        assertion, pos = _read_assertion(data, pos)
        assertions.append(assertion)
    for _ in range(min(length - _ASSERTIONS, cbor.SKIP_ITEMS_MAX)):
        pos = cbor.skip_item(data, pos)
    return assertions, cbor.read_array_end(data, pos, length)


def _read_assertion(data: bytes, pos: int) -> tuple[Assertion, int]:
    length, pos = cbor.read_array_header(data, pos)
    is_asserted, pos = cbor.read_bool(data, pos)
    if length == 1:
        return Assertion(is_asserted), pos
    if length != 2:
        raise BundleError("admin-record", f"a bundle status item has 1 or 2 items, not {length}")
    time_ms, pos = cbor.read_uint(data, pos)
    return Assertion(is_asserted, time_ms if is_asserted else None), pos


def _read_subject(data: bytes, pos: int, length: int) -> tuple[BundleId, int]:
    source, pos = read_eid(data, pos)
    pair, pos = cbor.read_array_header(data, pos)
    if pair not in (2, cbor.INDEFINITE):
        raise BundleError("admin-record", f"a creation timestamp has 2 items, not {pair}")
    time_ms, pos = cbor.read_uint(data, pos)
    sequence, pos = cbor.read_uint(data, pos)
    pos = cbor.read_array_end(data, pos, pair)
    if length == 4 or (length == cbor.INDEFINITE and data[pos : pos + 1] == b"\xff"):
        return BundleId(source, time_ms, sequence), pos
    offset, pos = cbor.read_uint(data, pos)
    size_bytes, pos = cbor.read_uint(data, pos)
    return BundleId(source, time_ms, sequence, offset, size_bytes), pos
