# SPDX-License-Identifier: Apache-2.0
"""Tags by which a node acknowledges or refuses an object, such that no third member can do it for it.

Why: every member has the link key, hence could seal a datagram in another's name. A tag is an HMAC-SHA-256 under a key
that X25519 (RFC 7748) makes of the private key of one of the two nodes and the public key of the other; whoever has
neither private key can't make it, nor learn it from other tags. The tag covers what it says (taken or refused), the
object's ID, its digest and the node that says it: it can't be used for another object, be turned round, or be sent
back to its maker as the maker's own. A replay says again what was true, since an object ID is drawn once from 64 bits
of chance. The digest shows that the object was decoded. Only 8 bytes travel: a guess is right once in 2^64, and each
costs its maker an authenticated datagram.

The key is bound to the epoch as well, so that a captured link key and a later captured private key are both needed.
"""

import enum
import hmac
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.security.datagram_keys import derive_key
from meshd.security.link_keys import LinkKeys

TAG_BYTES: Final = 8


class Verdict(enum.IntEnum):
    """What a tag says about an object."""

    TAKEN = 1
    """Decoded, checked, and durable."""
    REFUSED = 2
    """Not wanted, now or ever."""


class PairwiseKeys:
    """The keys that one node shares with each other one, by epoch; derived when first used."""

    def __init__(self, own: Eid, private_key: X25519PrivateKey, peers: Mapping[Eid, bytes], keys: LinkKeys) -> None:
        """`peers` has the public key of every member. Errors: SettingsError: a key there can't be right."""
        self._own = own
        if peers.get(own) != private_key.public_key().public_bytes_raw():
            raise SettingsError(f"link.peers does not have the public key of {own.uri}'s link.x25519: copy both anew")
        self._secrets = {node: _exchange(private_key, node, key) for node, key in peers.items() if node != own}
        self._link_keys = keys
        self._keys: dict[tuple[Eid, int], bytes] = {}

    def roll(self, keys: LinkKeys) -> None:
        """Use these link keys from now on."""
        self._link_keys = keys
        self._keys.clear()

    def make_tag(self, peer: Eid, epoch: int, verdict: Verdict, object_id: bytes, digest: bytes) -> bytes:
        """What tells `peer`, who sent an object, what this node has to say; under the epoch that seals the datagram."""
        return self._tag(self._key(peer, epoch), self._own, verdict, object_id, digest)

    def is_tag_good(self, tag: bytes, peer: Eid, epoch: int, verdict: Verdict, object_id: bytes, digest: bytes) -> bool:
        """True when it was `peer` who said this to us; False also for a peer or an epoch that has no key."""
        if peer not in self._secrets or epoch not in self._link_keys.keys:
            return False
        return hmac.compare_digest(tag, self._tag(self._key(peer, epoch), peer, verdict, object_id, digest))

    def _tag(self, key: bytes, sayer: Eid, verdict: Verdict, object_id: bytes, digest: bytes) -> bytes:
        said = bytes((verdict, len(object_id), len(digest))) + object_id + digest + sayer.uri.encode()
        return hmac.digest(key, said, "sha256")[:TAG_BYTES]

    def _key(self, peer: Eid, epoch: int) -> bytes:
        key = self._keys.get((peer, epoch))
        if key is None:
            names = sorted((self._own.uri, peer.uri))
            salt = self._link_keys.keys[epoch]
            key = derive_key(self._secrets[peer], "meshd fountain tag", str(epoch), *names, salt=salt)
            self._keys[peer, epoch] = key
        return key


def _exchange(private_key: X25519PrivateKey, node: Eid, public_key: bytes) -> bytes:
    try:
        return private_key.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise SettingsError(f"the public key of {node.uri} in link.peers is none: issue that node anew") from error
