# SPDX-License-Identifier: Apache-2.0
"""Who may sign in a mission: the file of every node's public Ed25519 key, and a node's own private one.

`signing.peers` is a list as `member_keys.py` describes it, equal at all nodes; `signing.key` is PKCS #8 in PEM. The key
is not the certificate's: that one may be of another kind, and a relay needs the keys of nodes that it never meets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.security.keys import private_key_from_pem
from meshd.security.member_keys import pack_member_keys, parse_member_keys_untrusted

SIGNING_KEY_FILE_MAX_BYTES: Final = 4096

_KIND: Final = "signing-peers"


@dataclass(frozen=True)
class SigningFiles:
    """Keys of one node."""

    key: Ed25519PrivateKey
    peers: Mapping[Eid, bytes]
    """Every member's public key."""

    def check(self, own: Eid) -> None:
        """Errors: SettingsError: the list has another key of this node, or none."""
        if self.peers.get(own) != self.key.public_key().public_bytes_raw():
            raise SettingsError(
                f"signing.peers does not have the public key of {own.uri}'s signing.key: copy both anew"
            )


def make_signing_key() -> Ed25519PrivateKey:
    """A new key."""
    return Ed25519PrivateKey.generate()


def pack_signing_peers(peers: Mapping[Eid, bytes]) -> bytes:
    """The file's content: public key by node ID."""
    return pack_member_keys(_KIND, peers)


def parse_signing_peers_untrusted(data: bytes, name: str) -> dict[Eid, bytes]:
    """Public key by node ID. Errors: SettingsError; `name` is what the file is called in it."""
    return parse_member_keys_untrusted(_KIND, data, name)


def signing_key_from_pem(pem: bytes, name: str) -> Ed25519PrivateKey:
    """Errors: SettingsError, which never shows the key; `name` is what the file is called in it."""
    key = private_key_from_pem(pem, name)
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{name} is a key of another kind: Ed25519 is needed, as `meshctl pki issue` makes it")
    return key
