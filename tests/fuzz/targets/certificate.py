# SPDX-License-Identifier: Apache-2.0
"""Fuzz target: a peer's certificate as it comes out of a TLS handshake, in DER."""

from meshd.security.identity import IdentityError, read_certificate_untrusted


def check(data: bytes) -> None:
    """One input."""
    try:
        said = read_certificate_untrusted(data)
    except IdentityError:
        return
    assert all(node.is_node for node in said.nodes)
    assert said.not_before.tzinfo is not None


def seeds() -> dict[str, bytes]:
    """None: the certificates in the corpus were made once, since making them is slow and never gives the same twice."""
    return {}


def dictionary() -> list[bytes]:
    """Tags, and the object IDs of bundleEID and of the extensions."""
    words = ("2b0601050507080b", "551d11", "551d25", "300d", "a010", "160c", "0603", "0481", "3082", "170d")
    return [bytes.fromhex(word) for word in words] + [b"dtn://a/", b"ipn:1.0"]
