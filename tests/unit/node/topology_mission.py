# SPDX-License-Identifier: Apache-2.0
"""The signing keys of a mission for tests, and what its nodes say with them."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd.bundle.eid import Eid
from meshd.link.settings import BearerKind
from meshd.routing.advertisement import Advertisement, LinkNews, encode_body
from meshd.security.advertisement import sign_advertisement
from meshd.security.signing_peers import SigningFiles, make_signing_key

BOOT = 1_700_000_000


class Mission:
    """Keys of some nodes."""

    def __init__(self, *nodes: Eid) -> None:
        self.keys: dict[Eid, Ed25519PrivateKey] = {node: make_signing_key() for node in nodes}

    @property
    def peers(self) -> dict[Eid, bytes]:
        return {node: key.public_key().public_bytes_raw() for node, key in self.keys.items()}

    def files(self, node: Eid) -> SigningFiles:
        return SigningFiles(self.keys[node], self.peers)

    def say(
        self,
        node: Eid,
        *neighbours: Eid,
        boot: int = BOOT,
        sequence: int = 1,
        issued_s: int = 0,
        valid_s: int = 3600,
        kind: BearerKind = BearerKind.TERRESTRIAL,
    ) -> bytes:
        """The payload with which `node` tells of links to these."""
        links = tuple(LinkNews(each, kind, kind is not BearerKind.TERRESTRIAL, 64_000, 0.02) for each in neighbours)
        body = encode_body(Advertisement(issued_s, valid_s, links))
        return sign_advertisement(self.keys[node], node, boot, sequence, body)
