# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: topology advertisements, `decode_envelope_untrusted` and `decode_body_untrusted`; what a body says is
written again and read as the same.

The first byte says which of the two the others are.
"""

from typing import Final

import msgspec

from meshd.bundle.eid import Eid
from meshd.link.settings import BearerKind
from meshd.routing.advertisement import Advertisement, LinkNews, decode_body_untrusted, encode_body
from meshd.routing.contact import Contact
from meshd.routing.silence_plan import PlanRow, SilencePlan
from meshd.security.advertisement import (
    AdvertisementError,
    Envelope,
    decode_envelope_untrusted,
)

NODE: Final = Eid("dtn://dpop1/")
HOME: Final = Eid("dtn://home/")
ISSUED_S: Final = 820_000_000


def seeds() -> dict[str, bytes]:
    """One of each."""
    links = (
        LinkNews(HOME, BearerKind.LOS, True, 64_000, 0.02, 0.05, 0.9),
        LinkNews(Eid("ipn:2.0"), BearerKind.SATCOM, False, 10**6, 0.3, 0.0, 1.0, 600.0),
    )
    planned = (Contact(NODE, HOME, "", ISSUED_S + 1.5, ISSUED_S + 60.0, 1000, 0.25),)
    likely = ((HOME, 0.9), (Eid("dtn://dpop2/"), 0.25))
    plan = SilencePlan(True, 2000, (PlanRow(False, 0, 300, 3600), PlanRow(True, ISSUED_S, 7200, 0)))
    body = encode_body(Advertisement(ISSUED_S, 3900, links, planned, likely, plan))
    envelope = msgspec.msgpack.encode(Envelope(1, 1_800_000_000, 7, body, bytes(64)))
    empty = encode_body(Advertisement(0, 0, ()))
    return {"body": b"b" + body, "empty": b"b" + empty, "envelope": b"e" + envelope}


def check(data: bytes) -> None:
    """One input."""
    try:
        if data[:1] == b"e":
            decode_envelope_untrusted(data[1:])
            return
        said = decode_body_untrusted(data[1:], NODE)
    except AdvertisementError:
        return
    assert decode_body_untrusted(encode_body(said), NODE) == said


def dictionary() -> list[bytes]:
    """Heads of arrays, and node IDs."""
    return [b"\x95", b"\x97", b"\x98", b"\x91", b"\xce", b"\xcf", b"\xa9ipn:2.0", b"dtn://", b"\xc4\x40"]
