# SPDX-License-Identifier: Apache-2.0
import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bundle.eid import NULL_EID, Eid, check_node_id, decode_eid_untrusted, parse_eid
from meshd.bundle.errors import BundleError, EidError

UINT32 = st.integers(0, (1 << 32) - 1)
NODE_NUMBERS = st.integers(1, (1 << 32) - 2)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("dtn:none", "820100"),
        ("dtn://a/", "8201" + "64" + b"//a/".hex()),
        ("dtn://dpop1/inbox", "8201" + "6d" + b"//dpop1/inbox".hex()),
        ("ipn:1.1", "8202820101"),
        ("ipn:977000.1.1", "8202831a000ee8680101"),
        ("ipn:0.0", "8202820000"),
    ],
)
def test_text_and_encoding_of_the_rfc_agree(text: str, encoding: str) -> None:
    eid = parse_eid(text)
    assert eid.cbor.hex() == encoding
    assert decode_eid_untrusted(bytes.fromhex(encoding)) == eid
    assert str(eid) == text


@pytest.mark.parametrize(
    "encoding",
    [
        "8202821b000ee8680000000101",  # RFC 9758 appendix B.2, two elements
        "8202831a000ee8680101",  # three
    ],
)
def test_both_encodings_of_an_ipn_eid_are_one_eid(encoding: str) -> None:
    assert decode_eid_untrusted(bytes.fromhex(encoding)) == parse_eid("ipn:977000.1.1")


def test_the_default_allocator_may_be_spelt_out() -> None:
    assert decode_eid_untrusted(bytes.fromhex("820283000101")) == parse_eid("ipn:1.1")
    assert parse_eid("ipn:0.1.1") == parse_eid("ipn:1.1")


@pytest.mark.parametrize("encoding", ["820100", "8202820000", "820283000000", "8202820005"])
def test_null_endpoints(encoding: str) -> None:
    eid = decode_eid_untrusted(bytes.fromhex(encoding))
    assert eid.is_null
    assert eid.node == eid
    assert not eid.is_node
    assert eid.demux == ""


def test_parts_of_an_eid() -> None:
    inbox = parse_eid("dtn://dpop1/inbox/deep")
    assert inbox.node == parse_eid("dtn://dpop1/")
    assert inbox.demux == "inbox/deep"
    assert inbox.is_singleton
    assert not inbox.is_node
    assert inbox.node.is_node
    assert not parse_eid("dtn://meshd/~topology").is_singleton
    service = parse_eid("ipn:5.3.7")
    assert service.node == parse_eid("ipn:5.3.0")
    assert service.demux == "7"
    assert service.is_singleton
    assert service.node.is_node


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("dpop1", "no endpoint ID"),
        ("dtn://dpop1", "lacks the slash"),
        ("dtn:dpop1", "names no node"),
        ("dtn:///inbox", "names no node"),
        ("dtn://", "lacks the slash"),
        ("dtn://dp op/", "visible ASCII"),
        ("dtn://dpöp/", "visible ASCII"),
        ("dtn://a/\n", "visible ASCII"),
        ("http://a/", "unknown scheme"),
        ("ipn:1", "plain numbers"),
        ("ipn:01.1", "plain numbers"),
        ("ipn:-1.1", "plain numbers"),
        ("ipn:4294967296.1", "out of range"),
        ("ipn:1.18446744073709551616", "out of range"),
        ("ipn:!.1", "local node"),
        ("ipn:4294967295.1", "local node"),
        ("dtn://" + "a" * 2000 + "/", "at most"),
    ],
)
def test_a_wrong_text_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(EidError, match=complaint):
        parse_eid(text)


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("", "truncated"),
        ("82", "truncated"),
        ("8201", "truncated"),
        ("820165", "truncated"),
        ("82010000", "eid"),  # one byte too many
        ("820101", "eid"),  # dtn:1
        ("8201646e6f6e65", "eid"),  # "none" as a text
        ("820161ff", "cbor"),  # not UTF-8
        ("82017b7fffffffffffffff", "cbor"),  # a text of 2^63 bytes
        ("820300", "eid"),  # unknown scheme
        ("830100", "eid"),
        ("8202810a", "eid"),
        ("82028401010101", "eid"),
        ("82029f0101ff", "eid"),  # RFC 9758 asks for 2 or 3 elements
        ("8202821affffffff01", "eid"),  # the local node
        ("820283" + "1b0000000100000000" + "0101", "eid"),  # allocator above 32 bits
        ("8201" + "65" + b"//a b".hex(), "eid"),
        ("a10100", "cbor"),
        ("01", "cbor"),
        ("822000", "cbor"),
    ],
)
def test_a_wrong_encoding_gives_one_error(encoding: str, reason: str) -> None:
    with pytest.raises(BundleError) as caught:
        decode_eid_untrusted(bytes.fromhex(encoding))
    assert caught.value.reason == reason


def test_long_numbers_and_indefinite_arrays_are_accepted() -> None:
    assert decode_eid_untrusted(bytes.fromhex("9f1801" + "78042f2f612f" + "ff")) == parse_eid("dtn://a/")


def test_node_ids_are_checked() -> None:
    assert check_node_id(parse_eid("ipn:7.0")) == Eid("ipn:7.0")
    for text in ("dtn://a/x", "ipn:7.1", "dtn:none", "dtn://a/~g"):
        with pytest.raises(EidError, match="no node ID"):
            check_node_id(parse_eid(text))


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="/"), min_size=1, max_size=40))
def test_dtn_round_trip_agrees_with_cbor2(name: str) -> None:
    eid = parse_eid(f"dtn://{name}/inbox")
    assert cbor2.loads(eid.cbor) == [1, f"//{name}/inbox"]
    assert decode_eid_untrusted(cbor2.dumps([1, f"//{name}/inbox"])) == eid


@given(UINT32, NODE_NUMBERS, st.integers(0, (1 << 64) - 1))
def test_ipn_round_trip_agrees_with_cbor2(allocator: int, node: int, service: int) -> None:
    eid = parse_eid(f"ipn:{allocator}.{node}.{service}")
    assert cbor2.loads(eid.cbor) == [2, [allocator, node, service] if allocator else [node, service]]
    assert decode_eid_untrusted(cbor2.dumps([2, [allocator << 32 | node, service]])) == eid
    assert decode_eid_untrusted(eid.cbor) == eid


@given(st.binary(max_size=40))
def test_noise_gives_an_eid_or_the_one_error(noise: bytes) -> None:
    try:
        eid = decode_eid_untrusted(noise)
    except BundleError:
        return
    assert parse_eid(eid.uri) == eid


def test_null_eid_is_dtn_none() -> None:
    assert parse_eid("dtn:none") is NULL_EID
