# SPDX-License-Identifier: Apache-2.0
"""The file of public link keys and a node's own private one: there and back, and what is wrong with others."""

import pytest

from meshd.base.errors import SettingsError
from meshd.bundle.eid import parse_eid
from meshd.security.keys import KeyKind, make_private_key, private_key_to_pem
from meshd.security.link_peers import (
    link_private_key_from_pem,
    link_private_key_to_pem,
    make_link_private_key,
    pack_link_peers,
    parse_link_peers_untrusted,
)
from meshd.security.member_keys import MEMBER_KEYS_FILE_MAX_BYTES, MEMBERS_MAX

HEAD = b"meshd-link-peers 1\n"
KEY = b"00" * 32


def test_peers_survive_their_file() -> None:
    peers = {parse_eid(f"ipn:{number}.0"): number.to_bytes(32) for number in range(1, MEMBERS_MAX)}
    peers[parse_eid("dtn://dpop1/")] = b"\xff" * 32
    data = pack_link_peers(peers)
    assert len(data) <= MEMBER_KEYS_FILE_MAX_BYTES
    assert parse_link_peers_untrusted(data, "link.peers") == peers
    assert parse_link_peers_untrusted(pack_link_peers({}), "link.peers") == {}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "first line"),
        (b"\xff", "not ASCII"),
        (HEAD + b"dtn://a/ 00\n", "link.peers:2: write a node ID"),
        (HEAD + b"dtn://a/ " + KEY + b"\ndtn://a/ " + KEY + b"\n", "link.peers:3: write a node ID"),
        (HEAD + b"dtn://a/inbox " + KEY + b"\n", "link.peers:2: .* is no node ID"),
        (HEAD + b"dtn:none " + KEY + b"\n", "link.peers:2: "),
        (HEAD + b"x\n" * (MEMBERS_MAX + 1), "1025 nodes"),
        (HEAD + b"x" * MEMBER_KEYS_FILE_MAX_BYTES, "first line"),
    ],
)
def test_a_bad_list_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_link_peers_untrusted(data, "link.peers")


def test_a_private_key_survives_its_file() -> None:
    key = make_link_private_key()
    again = link_private_key_from_pem(link_private_key_to_pem(key), "link.x25519")
    assert again.private_bytes_raw() == key.private_bytes_raw()


def test_a_private_key_of_another_kind_or_none_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"link.x25519 is a key of another kind"):
        link_private_key_from_pem(private_key_to_pem(make_private_key(KeyKind.ED25519)), "link.x25519")
    with pytest.raises(SettingsError, match=r"link.x25519 is no usable private key"):
        link_private_key_from_pem(b"", "link.x25519")
