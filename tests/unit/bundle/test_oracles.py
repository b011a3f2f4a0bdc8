# SPDX-License-Identifier: Apache-2.0
"""Other people's code reads our bundles, and we read theirs: pyD3TN (which does not verify CRCs) and tshark."""

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyd3tn import bundle7

from meshd.bundle.admin_record import Assertion, StatusReport, decode_admin_record_untrusted, encode_status_report
from meshd.bundle.blocks import BundleFlag, CrcType
from meshd.bundle.eid import parse_eid
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.record import BundleId
from meshd.bundle.scan import scan_untrusted
from tests.unit.bundle.bundle_samples import DPOP2, PART, SOURCE, TIME_MS, own_bundle

EIDS = st.sampled_from(["dtn://dpop1/inbox", "dtn://home/", "ipn:5.7", "ipn:977000.3.7", "dtn:none"])
SOURCES = st.sampled_from(["dtn://dpop1/inbox", "ipn:5.7", "ipn:977000.3.7"])
UINT32 = st.integers(0, (1 << 32) - 1)
CRC_TYPES = st.sampled_from([CrcType.CRC16, CrcType.CRC32C])


@given(EIDS, SOURCES, EIDS, CRC_TYPES, UINT32, st.binary(max_size=400), st.one_of(st.none(), UINT32))
def test_pyd3tn_reads_ours(
    destination: str, source: str, report_to: str, crc_type: int, number: int, payload: bytes, age_ms: int | None
) -> None:
    data = own_bundle(
        destination=parse_eid(destination),
        source=parse_eid(source),
        report_to=parse_eid(report_to),
        crc_type=crc_type,
        sequence=number,
        lifetime_ms=number,
        payload=payload,
        age_ms=age_ms,
        hop_limit=17,
    )
    theirs = bundle7.Bundle.parse(data)
    block = theirs.primary_block
    assert [str(block.destination), str(block.source), str(block.report_to)] == [destination, source, report_to]
    assert tuple(block.creation_time) == (TIME_MS, number)
    assert block.lifetime == number
    assert block.crc_provided == block.calculate_crc()
    assert theirs.payload_block.data == payload
    assert theirs.payload_block.crc_provided == theirs.payload_block.calculate_crc()
    assert bytes(theirs) == data


@given(EIDS, SOURCES, CRC_TYPES, UINT32, st.binary(max_size=400))
def test_we_read_pyd3tns(destination: str, source: str, crc_type: int, number: int, payload: bytes) -> None:
    kind = bundle7.CRCType.CRC32 if crc_type == CrcType.CRC32C else bundle7.CRCType.CRC16
    primary = bundle7.PrimaryBlock(
        destination=destination,
        source=source,
        crc_type=kind,
        lifetime=number,
        creation_time=bundle7.CreationTimestamp(1_767_139_200, number),
    )
    blocks = [
        bundle7.PreviousNodeBlock(bundle7.EID("dtn://dpop2/"), crc_type=kind),
        bundle7.HopCountBlock(30, 5, crc_type=kind),
        bundle7.BundleAgeBlock(number, crc_type=kind),  # in seconds
    ]
    data = bytes(bundle7.Bundle(primary, bundle7.PayloadBlock(payload, crc_type=kind), blocks))
    header = scan_untrusted(data)
    assert (header.destination.uri, header.source.uri) == (destination, source)
    assert header.id.sequence == header.lifetime_ms == number
    assert header.age_ms == number * 1000
    assert (header.hop_limit, header.hop_count) == (30, 5)
    assert header.previous_node == DPOP2
    assert data[header.payload_offset : header.payload_offset + header.payload_size] == payload


def test_status_reports_of_pyd3tn() -> None:
    codes = bundle7.StatusCode
    theirs = bundle7.BundleStatusReport(
        codes.RECEIVED_BUNDLE | codes.DELIVERED_BUNDLE,
        bundle7.ReasonCode.NO_INFO,
        bundle7.EID("dtn://dpop1/inbox"),
        bundle7.CreationTimestamp(0, 7),
        5,
        6,
    )
    ours = StatusReport(BundleId(SOURCE, 0, 7, 5, 6), received=Assertion(True), delivered=Assertion(True))
    assert decode_admin_record_untrusted(theirs.data) == ours
    assert encode_status_report(ours) == theirs.data


def write_capture(path: Path, payloads: list[bytes]) -> None:
    """A capture of UDP datagrams (link type 101, raw IPv4), one for each payload."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101))
        for number, payload in enumerate(payloads):
            udp = struct.pack(">HHHH", 4556, 4556, 8 + len(payload), 0) + payload
            ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0, bytes(4), bytes(4))
            file.write(struct.pack("<IIII", number, 0, len(ip + udp), len(ip + udp)) + ip + udp)


def dissect(path: Path, data: bytes) -> list[str]:
    """What tshark finds in one bundle: destination, CRC states (1 good, 0 bad), block types, malformed or not.

    One bundle to a call: tshark 4.0 crashes on some captures that hold both a bundle and a status report about it.
    """
    write_capture(path, [data])
    fields = ("bpv7.primary.dst_uri", "bpv7.crc_status", "bpv7.canonical.type_code", "_ws.malformed")
    command = ["tshark", "-r", str(path), "-T", "fields", *(f"-e{field}" for field in fields)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return output.rstrip("\n").split("\t")


@pytest.mark.programs("tshark")
def test_tshark_finds_structure_and_crcs_right(tmp_path: Path) -> None:
    plain = own_bundle(precedence=4, age_ms=5, part=PART)
    header = scan_untrusted(plain)
    forwarded = b"".join(forwarded_copy(plain, header, own_node=DPOP2, residence_ms=9, is_own=False))
    report = encode_status_report(StatusReport(BundleId(SOURCE, TIME_MS, 7), delivered=Assertion(True)))
    broken = bytearray(own_bundle())
    broken[-2] ^= 1
    capture = tmp_path / "bundle.pcap"
    assert dissect(capture, plain) == ["dtn://home/inbox", "1,1", "10,193,202,7,1", ""]
    assert dissect(capture, forwarded) == ["dtn://home/inbox", "1,1", "6,10,193,202,7,1", ""]
    assert dissect(capture, own_bundle(crc_type=CrcType.CRC16)) == ["dtn://home/inbox", "1,1", "10,1", ""]
    assert dissect(capture, own_bundle(destination=parse_eid("ipn:5.7"), payload=bytes(1024)))[:2] == ["ipn:5.7", "1,1"]
    record = own_bundle(flags=BundleFlag.IS_ADMIN_RECORD, payload=report)
    assert dissect(capture, record) == ["dtn://home/inbox", "1,1", "10,1", ""]
    assert dissect(capture, bytes(broken))[1] == "1,0"
