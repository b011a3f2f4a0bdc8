# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: recovery of the store from a damaged segment: everything that can be read, or StoreError.

Damage with the right checksums does not come from a disk, but it shows what lies behind them: an input whose first
byte is odd is taken for the body of a group and gets a head that fits.
"""

import random
from typing import Final

import msgspec

from meshd.base.errors import StoreError
from meshd.bundle.crc import crc32c
from meshd.bundle.eid import parse_eid
from meshd.bundle.record import BundleId, BundleRecord, Part, PayloadRef
from meshd.store.contents import Contents
from meshd.store.file_names import segment_name
from meshd.store.group_body import NO_MARKS, Marks, encode_body
from meshd.store.record_format import encode_head, encode_segment_header, pack_crc
from meshd.store.recovery import Recovery
from tests.sim.fake_disk import FakeDisk

NUMBER: Final = 1


def check(data: bytes) -> None:
    """One input: a byte of choice, then a segment or a group's body."""
    segment = _with_right_crcs(data[1:]) if data[:1] and data[0] & 1 else data[1:]
    disk = FakeDisk(random.Random(0))
    name = segment_name(NUMBER)
    disk.create(name)
    disk.append(name, [segment])
    disk.datasync(name)
    try:
        recovered = Recovery(disk, Contents()).run(0)
    except StoreError:
        return
    assert len(recovered.records) + len(recovered.known) <= len(segment)
    assert recovered.torn_bytes <= len(segment)
    assert len(recovered.damage) <= len(segment) + 2


def _with_right_crcs(body: bytes) -> bytes:
    header = encode_segment_header(NUMBER, {})
    payload = b"bundle"
    bundle = payload + pack_crc(crc32c(payload))
    return header + encode_head(NUMBER, len(header), body, len(bundle), 0) + body + bundle


def seeds() -> dict[str, bytes]:
    """A segment that is whole, one that is cut, and bodies of all tables."""
    source, destination = parse_eid("dtn://a/x"), parse_eid("dtn://b/x")
    key = BundleId(source, 10**12, 3)
    ref = PayloadRef(-1, 0, 6, b"bundle")
    put = BundleRecord(key, destination, 1, 10**12, 10**11, 6, 0, False, parse_eid("dtn://c/"), None, False, ref)
    part = msgspec.structs.replace(put, part=Part(1, 2, 3, 4, True))
    large = msgspec.structs.replace(put, size_bytes=1 << 33, payload=PayloadRef(9, 40, 1 << 33))
    mark = Marks([key], [1], [10**13])
    bodies = {
        "put": encode_body([put], NO_MARKS, NO_MARKS, {}),
        "all": encode_body([put], mark, mark, {"clock": b"\x82\x01\x05"}),
        "part": encode_body([part], NO_MARKS, NO_MARKS, {}),
        "large": encode_body([put, large], NO_MARKS, NO_MARKS, {}),
    }
    bodies["bad_eid"] = bodies["put"].replace(b"dtn://b/x", b"nowhere!!")
    segments = {"segment": _with_right_crcs(bodies["all"]), "torn": _with_right_crcs(bodies["put"])[:-3]}
    return {name: b"\x01" + body for name, body in bodies.items()} | {
        name: b"\x00" + segment for name, segment in segments.items()
    }


def dictionary() -> list[bytes]:
    """Magics and rows."""
    return [b"meshdlog\x02\0\0\0", b"mGr\xd7", b"\x95\x90\xc0\xc0\xc0\x80", b"\x91\xff", b"\xa8dtn://a/", b"\xff"]
