# SPDX-License-Identifier: Apache-2.0
"""The keys of sealed datagrams: derived from the link key of an epoch, for each sender and bearer (DESIGN section 5).

A sender's key is HKDF-SHA-256 (RFC 5869) of the link key, bound to node ID and bearer: equal nonces of two senders, or
of one sender on two bearers, are nonces of different keys. The header's mask is made as RFC 9001 section 5.4.3 makes
QUIC's: the first block of the sealed part, encrypted with AES-256 under a key of bearer and epoch.
"""

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshd.bundle.eid import Eid
from meshd.security.node_index import pack_names

KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 16


def derive_key(secret: bytes, *names: str, salt: bytes | None = None) -> bytes:
    """A key of 256 bits; the names say what for, the first of them is a label."""
    return HKDF(SHA256(), KEY_BYTES, salt, pack_names(*names)).derive(secret)


def derive_datagram_key(link_key: bytes, node: Eid, bearer: str) -> AESGCM:
    """What seals the datagrams of a node on a bearer."""
    return AESGCM(derive_key(link_key, "meshd fountain datagram", node.uri, bearer))


def derive_header_mask(link_key: bytes, bearer: str) -> Callable[[bytes, bytes], bytes]:
    """A function that masks a header, or takes the mask off, given the first 16 bytes of the sealed part."""
    key = _derive_header_key(link_key, bearer)
    # Counter mode with the sample as the counter is XOR with the cipher's block of the sample; the context can be kept.
    context = Cipher(algorithms.AES(key), modes.CTR(bytes(_BLOCK_BYTES))).encryptor()

    def mask(sample: bytes, header: bytes) -> bytes:
        context.reset_nonce(sample)
        return context.update(header)

    return mask


def derive_mask_blocks(link_key: bytes, bearer: str) -> Callable[[bytes], bytes]:
    """A function that makes the masks of many headers in one call: of samples in a row, 16 bytes for each of them.

    A two-hundredth of the time that they take one by one. A header is shorter than its mask.
    """
    # This is the header protection of QUIC with AES (RFC 9001 section 5.4.3), and it is defined with ECB: each block is
    # the cipher as a pseudorandom function of a sample, as one block of counter mode is of a counter. What makes ECB
    # unfit for text does no harm here: no text goes in, only 16 bytes of ciphertext under an authenticated mode, which
    # repeat by chance alone; what comes out never leaves but as XOR over a header; and the key does nothing else.
    # No other mode makes many independent blocks in one call: counter mode needs a call a sample (see above).
    context = Cipher(algorithms.AES(_derive_header_key(link_key, bearer)), modes.ECB()).encryptor()  # noqa: S305
    return context.update


def _derive_header_key(link_key: bytes, bearer: str) -> bytes:
    return derive_key(link_key, "meshd fountain header", bearer)
