# SPDX-License-Identifier: Apache-2.0
"""Who is a member of a mission's radio links: the file of every node's public X25519 key, and a node's own private one.

The keys make the pairwise ones that acknowledgements are tagged with (`pairwise.py`). `link.peers` is text of a line
for each node, equal at all nodes; `link.x25519` is PKCS #8 in PEM. Making a key takes chance from the kernel, as
`keys.py` says. That a private file is mode 0600 is checked by whoever reads it.
"""

import re
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid, check_node_id, parse_eid
from meshd.bundle.errors import EidError

PUBLIC_KEY_BYTES: Final = 32
MEMBERS_MAX: Final = 1024
LINK_PEERS_FILE_MAX_BYTES: Final = 256 * 1024
LINK_PRIVATE_FILE_MAX_BYTES: Final = 4096

_HEADER: Final = "meshd-link-peers 1"
_LINE: Final = re.compile(r"(\S+) ([0-9a-f]{64})")


def pack_link_peers(peers: Mapping[Eid, bytes]) -> bytes:
    """The file's content: public key by node ID."""
    assert len(peers) <= MEMBERS_MAX
    assert all(len(key) == PUBLIC_KEY_BYTES for key in peers.values())
    lines = [_HEADER, *sorted(f"{node.uri} {key.hex()}" for node, key in peers.items())]
    return ("\n".join(lines) + "\n").encode()


def parse_link_peers_untrusted(data: bytes, name: str) -> dict[Eid, bytes]:
    """Public key by node ID. Errors: SettingsError; `name` is what the file is called in it."""
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name} is no list of link peers: it is not ASCII text") from error
    if len(data) > LINK_PEERS_FILE_MAX_BYTES or not lines or lines[0] != _HEADER:
        raise SettingsError(f"{name} is no list of link peers: its first line is not {_HEADER!r}")
    if len(lines) - 1 > MEMBERS_MAX:
        raise SettingsError(f"{name} has {len(lines) - 1} nodes: at most {MEMBERS_MAX} are possible")
    peers: dict[Eid, bytes] = {}
    for number, line in enumerate(lines[1:], 2):
        match = _LINE.fullmatch(line)
        node = _node_untrusted(match[1], f"{name}:{number}") if match else None
        if match is None or node is None or node in peers:
            raise SettingsError(f"{name}:{number}: write a node ID and 64 hexadecimal digits, each node once")
        peers[node] = bytes.fromhex(match[2])
    return peers


def _node_untrusted(text: str, where: str) -> Eid:
    try:
        return check_node_id(parse_eid(text))
    except EidError as error:
        raise SettingsError(f"{where}: {error}") from error


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
