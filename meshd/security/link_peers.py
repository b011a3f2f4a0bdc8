# SPDX-License-Identifier: Apache-2.0
"""Who is a member of a mission's radio links: the file of every node's public X25519 key, and a node's own private one.

The keys make the pairwise ones that acknowledgements are tagged with (`pairwise.py`). `link.peers` is text of a line
for each node, equal at all nodes; `link.x25519` is PKCS #8 in PEM. Making a key takes chance from the kernel, as
`keys.py` says. That a private file is mode 0600 is checked by whoever reads it.
"""

from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.security.member_keys import pack_member_keys, parse_member_keys_untrusted

LINK_PRIVATE_FILE_MAX_BYTES: Final = 4096

_KIND: Final = "link-peers"


def pack_link_peers(peers: Mapping[Eid, bytes]) -> bytes:
    """The file's content: public key by node ID."""
    return pack_member_keys(_KIND, peers)


def parse_link_peers_untrusted(data: bytes, name: str) -> dict[Eid, bytes]:
    """Public key by node ID. Errors: SettingsError; `name` is what the file is called in it."""
    return parse_member_keys_untrusted(_KIND, data, name)


def make_link_private_key() -> X25519PrivateKey:
    """A new key."""
    return X25519PrivateKey.generate()


def link_private_key_to_pem(key: X25519PrivateKey) -> bytes:
    """PKCS #8, not encrypted: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def link_private_key_from_pem(pem: bytes, name: str) -> X25519PrivateKey:
    """Errors: SettingsError, which never shows the key; `name` is what the file is called in it."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{name} is no usable private key: name the node's link.x25519") from error
    if not isinstance(key, X25519PrivateKey):
        raise SettingsError(f"{name} is a key of another kind: X25519 is needed, as `meshctl pki issue` makes it")
    return key
