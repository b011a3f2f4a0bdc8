# SPDX-License-Identifier: Apache-2.0
"""Work grows no faster than the input: hostile families of inputs at one size and at twice that size.

Work is counted, not timed: lines of meshd's own code that run. What C code does with a slice is not seen here; the
targets count that (`counted_bytes`).
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from meshd.base.errors import MeshdError
from meshd.bundle import cbor, scan
from meshd.bundle.admin_record import decode_admin_record_untrusted
from meshd.bundle.dump import dump_untrusted
from meshd.cl.fountain.frame_codec import pack_frames, parse_frames_untrusted
from meshd.cl.fountain.frames import Ack, AckRow, Ping
from meshd.cl.mtcp.receiver import ReceivingSession
from meshd.cl.tcpclv4.messages import KEEPALIVE
from meshd.control.aap2_messages import ConnectionConfig, Keepalive, encode_message
from meshd.control.frames import Request, encode_frame
from tests.fuzz.seeds import segment
from tests.fuzz.targets import aap2_session, control_session
from tests.unit.bundle.bundle_samples import bundle_of, extension
from tests.unit.cl.tcpclv4_pair import make_established

ACKED = AckRow(bytes(8), bytes(8))
SLACK = 1.1
"""Over exactly twice the lines for twice the input."""


def lines_run(call: Callable[[bytes], object], data: bytes) -> int:
    """How many lines of meshd's code one call runs, whatever it raises."""
    count = 0

    def trace_lines(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace_lines

    def trace_calls(frame: FrameType, _event: str, _arg: object) -> Any:
        return trace_lines if "/meshd/" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace_calls)
    try:
        call(data)
    except MeshdError:
        pass
    finally:
        sys.settrace(before)
    return count


def scan_cold(data: bytes) -> None:
    scan._flows.clear()
    scan.scan_untrusted(data)


def blocks(n: int) -> bytes:
    return bundle_of(*(extension(222, b"\x85" * 50, number) for number in range(2, n + 2)))


def large_blocks(n: int) -> bytes:
    return bundle_of(*(extension(222, b"\x85\x07" * 10 * n, number) for number in range(2, 12)))


def eids(n: int) -> bytes:
    return b"\x9f\x88\x07\x00\x00" + b"\x82\x01\x79" + (8 * n).to_bytes(2, "big") + b"//a/" + b"x" * (8 * n - 4)


def deep_record(n: int) -> bytes:
    return b"\x82\x01\x84\x98" + bytes((4 + n,)) + b"\x81\xf5" * 4 + (b"\x81" * 20 + b"\x00") * n


def nested(n: int) -> bytes:
    return b"\x82\x01\x84\x98\x05" + b"\x81\xf5" * 4 + b"\x81" * n


def feed_tcpclv4(data: bytes) -> None:
    make_established().receive_data(data, 0.0)


def feed_mtcp(data: bytes) -> None:
    ReceivingSession(0.0).receive_data(data, 0.0)


FAMILIES: dict[str, tuple[Callable[[bytes], object], Callable[[int], bytes], int]] = {
    "scan, many blocks": (scan_cold, blocks, 14),
    "scan, large blocks": (scan_cold, large_blocks, 100),
    "scan, long EIDs": (scan_cold, eids, 50),
    "scan, arrays": (scan_cold, lambda n: b"\x9f" * n, 1000),
    "scan, claimed lengths": (scan_cold, lambda n: b"\x9f\x9b" + b"\xff" * 8 * n, 1000),
    "dump, many blocks": (dump_untrusted, blocks, 14),
    "record, many assertions": (decode_admin_record_untrusted, deep_record, 10),
    "record, one deep assertion": (decode_admin_record_untrusted, nested, 100),
    "tcpclv4, keepalives": (feed_tcpclv4, lambda n: KEEPALIVE * n, 2000),
    "tcpclv4, small transfers": (
        feed_tcpclv4,
        lambda n: b"".join(segment(3, number, b"x") for number in range(n)),
        500,
    ),
    "tcpclv4, small segments": (feed_tcpclv4, lambda n: segment(2, 1, b"") + segment(0, 1, b"x") * n, 500),
    "mtcp, nothing": (feed_mtcp, lambda n: b"\x40" * n, 2000),
    "mtcp, small bundles": (feed_mtcp, lambda n: b"\x41x" * n, 1000),
    "fountain, small frames": (parse_frames_untrusted, lambda n: pack_frames([Ping(1)] * n), 60),
    "fountain, acknowledgements": (parse_frames_untrusted, lambda n: pack_frames([Ack(1, (ACKED,) * n)]), 100),
    "control, requests": (
        control_session.check,
        lambda n: b"\0" + encode_frame(Request(0, "hello", {"version": 1, "client": "x"})) * n,
        50,
    ),
    "aap2, keepalives": (
        aap2_session.check,
        lambda n: b"\0" + encode_message(ConnectionConfig(endpoint_id="dtn://a/x")) + encode_message(Keepalive()) * n,
        200,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_twice_the_input_is_at_most_twice_the_work(family: str) -> None:
    call, make, n = FAMILIES[family]
    once, twice = make(n), make(2 * n)
    assert len(twice) <= 2 * len(once)
    work = lines_run(call, once)
    assert work > 0
    assert lines_run(call, twice) <= SLACK * 2 * work


def test_the_count_sees_a_quadratic_parser() -> None:
    """This test could fail."""

    def quadratic(data: bytes) -> None:
        for start in range(len(data)):
            for pos in range(start, len(data)):
                cbor.read_uint(data, pos)

    assert lines_run(quadratic, bytes(40)) > SLACK * 2 * lines_run(quadratic, bytes(20))
