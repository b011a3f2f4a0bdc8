# SPDX-License-Identifier: Apache-2.0
"""The signed envelope of a topology advertisement (DESIGN section 3): who says it, which one it is, and the signature.

msgpack array [1, boot number, sequence, body, signature]; the node is the source of the bundle that carries it. Signed
by Ed25519 (RFC 8032) are a label and the node, boot number, sequence and body, each with its length before it: nothing
can be moved from one to the other, and no signature made for something else will do. What a body says is the matter of
`routing/advertisement.py`; which of several envelopes counts, of `routing/topology.py`.
"""

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from meshd.base.errors import RemoteProtocolError
from meshd.bundle.eid import Eid
from meshd.security.boot_number import BOOT_NUMBER_MAX
from meshd.security.node_index import pack_names

BODY_MAX_BYTES: Final = 8 * 1024
ENVELOPE_MAX_BYTES: Final = BODY_MAX_BYTES + 128
SIGNATURE_BYTES: Final = 64
SEQUENCE_MAX: Final = (1 << 32) - 1

_VERSION: Final = 1
_LABEL: Final = "meshd topology advertisement 1"


class AdvertisementError(RemoteProtocolError):
    """An advertisement is not accepted; the message says why."""


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What travels as the payload of a bundle."""

    version: int
    boot: int
    """Number of the node's start."""
    sequence: int
    """Counts the advertisements since that start."""
    body: bytes
    signature: bytes

    @property
    def number(self) -> tuple[int, int]:
        """Of two of a node, the larger one is the newer."""
        return self.boot, self.sequence


_DECODER: Final = msgspec.msgpack.Decoder(Envelope)


def sign_advertisement(key: Ed25519PrivateKey, node: Eid, boot: int, sequence: int, body: bytes) -> bytes:
    """The envelope, encoded."""
    assert len(body) <= BODY_MAX_BYTES, "whoever makes bodies keeps to the limit"
    signature = key.sign(_signed(node, boot, sequence, body))
    return msgspec.msgpack.encode(Envelope(_VERSION, boot, sequence, body, signature))


def decode_envelope_untrusted(data: bytes) -> Envelope:
    """What it says; the signature is not checked yet. Errors: AdvertisementError."""
    if len(data) > ENVELOPE_MAX_BYTES:
        raise AdvertisementError(f"it has {len(data)} bytes, the limit is {ENVELOPE_MAX_BYTES}")
    try:
        envelope = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdvertisementError("it is no advertisement: the envelope can't be read") from error
    if envelope.version != _VERSION:
        raise AdvertisementError(f"it has version {envelope.version}, this node knows {_VERSION}")
    if not (0 < envelope.boot <= BOOT_NUMBER_MAX and 0 < envelope.sequence <= SEQUENCE_MAX):
        raise AdvertisementError("its boot number or sequence is out of range")
    if len(envelope.body) > BODY_MAX_BYTES or len(envelope.signature) != SIGNATURE_BYTES:
        raise AdvertisementError("its body or signature has an impossible size")
    return envelope


def verify_advertisement(public_key: bytes, node: Eid, envelope: Envelope) -> None:
    """Errors: AdvertisementError: this node did not sign it."""
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(envelope.signature, _signed(node, envelope.boot, envelope.sequence, envelope.body))
    except (InvalidSignature, ValueError) as error:
        raise AdvertisementError(f"its signature is not {node.uri}'s") from error


def _signed(node: Eid, boot: int, sequence: int, body: bytes) -> bytes:
    return pack_names(_LABEL, node.uri) + boot.to_bytes(4) + sequence.to_bytes(4) + len(body).to_bytes(4) + body
