# SPDX-License-Identifier: Apache-2.0
"""Private keys: what is written can be read, and what can't be read says why."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from meshd.base.errors import SettingsError
from meshd.security.keys import KeyKind, make_private_key, private_key_from_pem, private_key_to_pem, public_key_to_pem


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
