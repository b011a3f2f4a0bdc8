# SPDX-License-Identifier: Apache-2.0
"""What the files that radio links are keyed with say; `meshd.settings.link_files` reads them."""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshd.bundle.eid import Eid
from meshd.security.link_keys import LinkKeys


@dataclass(frozen=True)
class LinkFiles:
    """Keys of one node."""

    keys: LinkKeys
    private_key: X25519PrivateKey
    peers: Mapping[Eid, bytes]
    """Every member's public key."""
