# SPDX-License-Identifier: Apache-2.0
"""Settings of the node's own identity and of whom it trusts: the `[tls]` and `[security]` tables."""

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The files that TLS needs, all PEM; `meshctl pki issue` makes them."""

    certificate: PurePath
    """Of this node, with whatever else the peer needs below its trust anchor."""
    key: PurePath
    """The certificate's private key: mode 0600 or stricter."""
    ca: PurePath
    """Certificates of the authorities whose nodes are trusted."""
    crl: PurePath | None
    """What they have revoked; None: nothing is known to be revoked."""


@dataclass(frozen=True, slots=True)
class LinkSecuritySettings:
    """The files that sealed datagrams need; `meshctl pki issue` makes them."""

    link_key: PurePath
    """The mission's key for each epoch: mode 0600 or stricter."""
    link_peers: PurePath
    """Every member's public key."""
    link_x25519: PurePath
    """This node's private key: mode 0600 or stricter."""


@dataclass(frozen=True, slots=True)
class SigningSettings:
    """The files that signatures need; `meshctl pki issue` makes them."""

    key: PurePath
    """This node's private Ed25519 key: mode 0600 or stricter."""
    peers: PurePath
    """Every member's public key."""
