# SPDX-License-Identifier: Apache-2.0
"""The supersession block (201): its bytes, what it survives, and what is refused."""

import pytest

from meshd.bundle import cbor
from meshd.bundle.codec import build
from meshd.bundle.dump import dump_untrusted
from meshd.bundle.eid import parse_eid
from meshd.bundle.errors import BundleError
from meshd.bundle.forward import forwarded_copy
from meshd.bundle.fragment import fragment
from meshd.bundle.scan import scan_untrusted
from meshd.bundle.supersession import Supersession, encode_supersession

SOURCE = parse_eid("dtn://dpop1/video")
DESTINATION = parse_eid("dtn://home/video")
RELAY = parse_eid("dtn://dpop2/")
VALUE = Supersession(b"\x01\x02\x03", 300, 2)
CONTENT = bytes.fromhex("83 43 010203 19012c 02")


def bundle() -> bytes:
    return build(SOURCE, DESTINATION, SOURCE.node, 0, 5, 6, 7000, bytes(300), supersession=VALUE, age_ms=0)


def test_its_bytes() -> None:
    assert encode_supersession(VALUE) == CONTENT
    assert bytes.fromhex("85 18c9 06 01 00") + b"\x49" + CONTENT in bundle()


def test_it_goes_on_and_into_every_fragment() -> None:
    data = bundle()
    header = scan_untrusted(data)
    assert header.supersession == VALUE
    (copy,) = forwarded_copy(data, header, RELAY, 10, is_own=False)
    assert scan_untrusted(bytes(copy)).supersession == VALUE
    fragments = fragment(data, header, 200)
    assert len(fragments) > 1
    assert {scan_untrusted(each).supersession for each in fragments} == {VALUE}


def test_each_bundle_has_its_own() -> None:
    other = Supersession(b"\x01\x02\x03", 301, 2)
    build_other = build(SOURCE, DESTINATION, SOURCE.node, 0, 5, 7, 7000, b"", supersession=other, age_ms=0)
    assert [scan_untrusted(data).supersession for data in (bundle(), build_other, bundle())] == [VALUE, other, VALUE]


def test_people_can_see_it() -> None:
    (block,) = [each for each in dump_untrusted(bundle())["blocks"] if each["type"] == 201]
    assert block["name"] == "supersession"
    assert (block["key"], block["sequence"], block["tier"]) == ("010203", 300, 2)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("82 43 010203 00", "array"),
        ("83 40 00 00", "1 to 32 bytes"),
        ("83 5821" + "00" * 33 + "00 00", "1 to 32 bytes"),
        ("83 41 00 00 03", "tier 3"),
        ("83 61 61 00 00", "supersession block is malformed"),
        ("83 41 00 00 00 00", "1 bytes follow"),
        ("83 41 00", "malformed"),
    ],
)
def test_another_content_is_refused(content: str, text: str) -> None:
    data = bytes.fromhex(content)
    broken = bundle().replace(cbor.encode_bytes(CONTENT), cbor.encode_bytes(data))
    with pytest.raises(BundleError, match=text) as refused:
        scan_untrusted(broken)
    assert refused.value.reason == "supersession"
