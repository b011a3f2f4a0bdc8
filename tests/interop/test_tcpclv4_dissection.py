# SPDX-License-Identifier: Apache-2.0
"""tshark dissects every message of TCPCLv4 and every kind of bundle that meshd sends: no complaint, every CRC good."""

from pathlib import Path

import pytest

from meshd.bundle.admin_record import Assertion, ReportReason, StatusReport, encode_status_report
from meshd.bundle.blocks import BundleFlag, CanonicalBlock, CrcType
from meshd.bundle.codec import decode_untrusted
from meshd.bundle.eid import NULL_EID, parse_eid
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.precedence import Precedence
from meshd.bundle.record import BundleId
from meshd.bundle.scan import scan_untrusted
from meshd.cl.tcpclv4.messages import MessageType, RefuseReason, TermReason
from tests.fuzz.seeds import folder_files, read_hex
from tests.interop.recorded_pair import RecordedPair
from tests.interop.tshark import Dissection
from tests.unit.bundle.bundle_samples import DPOP2, EXTENSIONS, PART, SOURCE, TIME_MS, bundle_of, own_bundle
from tests.unit.cl.tcpclv4_pair import feed

pytestmark = pytest.mark.programs("tshark")

# One about a fragment is left to pyD3TN: tshark 4.0 does not read its last two numbers.
REPORTS = {
    "delivered": StatusReport(BundleId(SOURCE, TIME_MS, 7), delivered=Assertion(True)),
    "deleted_at": StatusReport(
        BundleId(SOURCE, TIME_MS, 7), deleted=Assertion(True, TIME_MS + 9), reason=ReportReason.LIFETIME_EXPIRED
    ),
}


def forwarded(data: bytes) -> bytes:
    return b"".join(forwarded_copy(data, scan_untrusted(data), own_node=DPOP2, residence_ms=9, is_own=False))


def fragment(*extensions: CanonicalBlock) -> bytes:
    flags = int(BundleFlag.IS_FRAGMENT)
    return bundle_of(*extensions, flags=flags, fragment_offset=1 << 20, total_adu_bytes=1 << 24)


BUNDLES = {
    "plain": own_bundle(),
    "crc16": own_bundle(crc_type=CrcType.CRC16),
    "no_crc": own_bundle(crc_type=CrcType.NONE),
    "all_blocks": own_bundle(precedence=Precedence.FLASH, age_ms=5, part=PART),
    "forwarded": forwarded(own_bundle(precedence=Precedence.DEFERRED, age_ms=5)),
    "forwarded_crcs": forwarded(bundle_of(*EXTENSIONS)),
    "no_clock": own_bundle(time_ms=0, age_ms=1 << 40),
    "anonymous": own_bundle(source=NULL_EID, report_to=NULL_EID),
    "empty": own_bundle(payload=b""),
    "large": own_bundle(payload=bytes(range(256)) * 40),
    "ipn": own_bundle(source=parse_eid("ipn:5.1"), destination=parse_eid("ipn:7.2"), report_to=NULL_EID),
    "group": own_bundle(destination=parse_eid("dtn://alpha-team/~all")),
    "fragment": fragment(),
    **{
        f"report_{name}": own_bundle(flags=BundleFlag.IS_ADMIN_RECORD, payload=encode_status_report(report))
        for name, report in REPORTS.items()
    },
}


def dissect(pair: RecordedPair, tmp_path: Path) -> Dissection:
    return Dissection(pair.save(tmp_path / "session.pcap"))


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_is_dissected_without_complaint(name: str, tmp_path: Path) -> None:
    data = BUNDLES[name]
    header = scan_untrusted(data)
    pair = RecordedPair()
    pair.send(data)
    assert pair.received == [data]
    found = dissect(pair, tmp_path)
    assert found.alarms == []
    assert set(found.values("bpv7.crc_status")) == ({"1"} if header.primary_crc_type else set())
    assert found.values("bpv7.primary.dst_uri") == [header.destination.uri]
    assert found.values("bpv7.primary.src_uri") == [header.source.uri]
    assert found.numbers("bpv7.create_ts.seqno")[0] == header.id.sequence
    assert found.numbers("bpv7.canonical.type_code") == [block.type for block in decode_untrusted(data).blocks]


@pytest.mark.parametrize("name", ["minimal", "anonymous", "status_report"])
def test_a_vector_is_dissected_without_complaint(name: str, tmp_path: Path) -> None:
    (path,) = (path for path in folder_files("bundles") if path.stem == name)
    pair = RecordedPair()
    pair.send(read_hex(path))
    assert dissect(pair, tmp_path).alarms == []


@pytest.mark.parametrize("name", ["crc32c_wrong_primary", "crc16_wrong_primary", "crc32c_wrong_payload"])
def test_the_oracle_sees_a_wrong_crc(name: str, tmp_path: Path) -> None:
    """What would otherwise be shown by silence alone."""
    (path,) = (path for path in folder_files("malformed") if path.stem == name)
    pair = RecordedPair()
    pair.send(read_hex(path))
    found = dissect(pair, tmp_path)
    assert "0" in found.values("bpv7.crc_status")
    assert found.alarms


def types(found: Dissection) -> list[MessageType]:
    return [MessageType(number) for number in found.numbers("tcpcl.v4.mhdr.type")]


def test_transfers_in_both_directions(tmp_path: Path) -> None:
    pair = RecordedPair()
    pair.send(own_bundle(payload=bytes(2500)))
    pair.send(own_bundle(sequence=8), by_active=False)
    pair.active.terminate(TermReason.UNKNOWN, "done", 0.0)
    pair.exchange()
    found = dissect(pair, tmp_path)
    assert found.alarms == []
    assert types(found)[:2] == [MessageType.SESS_INIT, MessageType.SESS_INIT]
    assert types(found)[-2:] == [MessageType.SESS_TERM, MessageType.SESS_TERM]
    # A frame in which a transfer ends shows no types of messages but its own, and its segments once more.
    assert types(found).count(MessageType.XFER_ACK) == 4
    assert types(found).count(MessageType.XFER_SEGMENT) >= 4
    assert found.values("tcpcl.v4.sess_init.nodeid_data") == ["dtn://alpha/", "dtn://bravo/"]
    assert len(found.values("tcpcl.v4.xferext.transfer_length.total_len")) == 1


@pytest.mark.parametrize("reason", RefuseReason)
def test_every_refusal(reason: RefuseReason, tmp_path: Path) -> None:
    pair = RecordedPair()
    pair.refusing = reason
    pair.send(own_bundle(payload=bytes(1500)))
    found = dissect(pair, tmp_path)
    assert types(found)[-1] is MessageType.XFER_REFUSE
    assert found.numbers("tcpcl.v4.xfer_refuse.reason") == [reason]
    # A note: tshark does not count a refusal as the answer to the last segment.
    assert found.alarms == ["XFER_SEGMENT has no related XFER_ACK"]


@pytest.mark.parametrize("reason", TermReason)
def test_every_end_of_a_session(reason: TermReason, tmp_path: Path) -> None:
    pair = RecordedPair()
    pair.passive.terminate(reason, "by order", 0.0)
    pair.exchange()
    found = dissect(pair, tmp_path)
    assert found.alarms == []
    assert found.numbers("tcpcl.v4.ses_term.reason") == [reason, reason]
    assert found.values("tcpcl.v4.sess_term.flags.reply") == ["0", "1"]


def test_keepalive(tmp_path: Path) -> None:
    pair = RecordedPair()
    timer = pair.active.get_timer()
    assert timer is not None
    pair.active.handle_timer(timer)
    pair.exchange()
    found = dissect(pair, tmp_path)
    assert found.alarms == []
    assert types(found)[-1] is MessageType.KEEPALIVE


def test_message_reject(tmp_path: Path) -> None:
    """An acknowledgement of nothing, which is not on record, is rejected."""
    pair = RecordedPair()
    feed(pair.passive, bytes((MessageType.XFER_ACK, 1)) + bytes(16))
    pair.exchange()
    found = dissect(pair, tmp_path)
    assert found.alarms == []
    assert types(found)[-1] is MessageType.MSG_REJECT
    assert found.numbers("tcpcl.v4.msg_reject.head") == [MessageType.XFER_ACK]
