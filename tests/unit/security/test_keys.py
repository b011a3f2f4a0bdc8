# SPDX-License-Identifier: Apache-2.0
"""Private keys and the link-key file: what is written can be read, and what can't be read says why."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from meshd.base.errors import SettingsError
from meshd.security.keys import KeyKind, make_private_key, private_key_from_pem, private_key_to_pem, public_key_to_pem
from meshd.security.link_keys import EPOCHS_MAX, LINK_KEY_FILE_MAX_BYTES, pack_link_keys, parse_link_keys_untrusted

KEYS = {1: b"\x01" * 32, 12: b"\xff" * 32}


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_key_survives_its_file(kind: KeyKind) -> None:
    key = make_private_key(kind)
    again = private_key_from_pem(private_key_to_pem(key), "node.key")
    assert public_key_to_pem(again.public_key()) == public_key_to_pem(key.public_key())
    assert b"PUBLIC" in public_key_to_pem(key.public_key())


def test_an_encrypted_or_broken_or_other_key_is_refused_by_name() -> None:
    key = make_private_key(KeyKind.ED25519)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    with pytest.raises(SettingsError, match=r"node.key is no usable private key .*unencrypted"):
        private_key_from_pem(key.private_bytes(*form, encryption), "node.key")
    with pytest.raises(SettingsError, match=r"node.key is no usable private key"):
        private_key_from_pem(b"", "node.key")
    other = x25519.X25519PrivateKey.generate().private_bytes(*form, serialization.NoEncryption())
    with pytest.raises(SettingsError, match="another kind"):
        private_key_from_pem(other, "node.key")


def test_link_keys_survive_their_file() -> None:
    assert parse_link_keys_untrusted(pack_link_keys(KEYS), "link.key") == KEYS
    most = {epoch: bytes(32) for epoch in range(1, EPOCHS_MAX + 1)}
    assert len(pack_link_keys(most)) <= LINK_KEY_FILE_MAX_BYTES
    assert parse_link_keys_untrusted(pack_link_keys(most), "link.key") == most


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "first line"),
        (b"\xff", "not ASCII"),
        (b"meshd-link-keys 2\n", "first line"),
        (b"meshd-link-keys 1\n", "has 0 keys"),
        (b"meshd-link-keys 1\nepoch 1 00\n", "link.key:2"),
        (b"meshd-link-keys 1\nepoch 0 " + b"00" * 32 + b"\n", "link.key:2"),
        (b"meshd-link-keys 1\n" + (b"epoch 1 " + b"00" * 32 + b"\n") * 2, "link.key:3"),
        (b"meshd-link-keys 1\n" + bytes(5000), "first line"),
        (b"".join([b"meshd-link-keys 1\n", *(b"epoch %d " % n + b"00" * 32 + b"\n" for n in range(1, 18))]), "17 keys"),
    ],
)
def test_a_bad_link_key_file_is_refused_without_showing_a_key(data: bytes, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        parse_link_keys_untrusted(data, "link.key")
    assert "0000" not in str(caught.value)
