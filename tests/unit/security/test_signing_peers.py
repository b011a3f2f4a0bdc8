# SPDX-License-Identifier: Apache-2.0
"""The file of public signing keys and a node's own private one: there and back, and what is wrong with others."""

import pytest

from meshd.base.errors import SettingsError
from meshd.bundle.eid import parse_eid
from meshd.security.keys import KeyKind, make_private_key, private_key_to_pem
from meshd.security.link_peers import pack_link_peers
from meshd.security.signing_peers import (
    SigningFiles,
    make_signing_key,
    pack_signing_peers,
    parse_signing_peers_untrusted,
    signing_key_from_pem,
)

NODE = parse_eid("dtn://dpop1/")


def test_keys_survive_their_files() -> None:
    key = make_signing_key()
    peers = {NODE: key.public_key().public_bytes_raw(), parse_eid("ipn:2.0"): b"\1" * 32}
    assert parse_signing_peers_untrusted(pack_signing_peers(peers), "signing.peers") == peers
    again = signing_key_from_pem(private_key_to_pem(key), "signing.key")
    SigningFiles(again, peers).check(NODE)


def test_a_list_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"signing.peers is no list of signing peers"):
        parse_signing_peers_untrusted(pack_link_peers({}), "signing.peers")


def test_a_key_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"signing.key is a key of another kind"):
        signing_key_from_pem(private_key_to_pem(make_private_key(KeyKind.P384)), "signing.key")


def test_a_key_that_the_list_does_not_have_is_refused() -> None:
    with pytest.raises(SettingsError, match="does not have the public key of dtn://dpop1/"):
        SigningFiles(make_signing_key(), {NODE: bytes(32)}).check(NODE)
