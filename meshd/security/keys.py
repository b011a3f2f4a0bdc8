# SPDX-License-Identifier: Apache-2.0
"""Private keys of nodes and authorities: Ed25519 or ECDSA on P-384, as PKCS #8 in PEM.

Making one takes chance from the kernel by way of `cryptography`: key material is the one thing that no test and no
simulation may determine. Where keys are kept, and that nobody else may read them, is the matter of who writes files.
"""

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from meshd.base.errors import SettingsError

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


class KeyKind(enum.Enum):
    """Both are about 128 bits and more; P-384 is for peers whose TLS knows no Ed25519."""

    ED25519 = "ed25519"
    P384 = "p384"


def make_private_key(kind: KeyKind) -> PrivateKey:
    """A new key."""
    match kind:
        case KeyKind.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyKind.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            assert_never(kind)


def digest_for(key: PrivateKey) -> hashes.SHA384 | None:
    """The hash that a signature by this key takes; Ed25519 has its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA384()


def private_key_to_pem(key: PrivateKey) -> bytes:
    """PKCS #8, not encrypted: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key_to_pem(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_key_from_pem(pem: bytes, name: str) -> PrivateKey:
    """Errors: SettingsError; `name` is what the key is called in it."""
    with _explained(name):
        key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise SettingsError(f"{name} is a key of another kind: use Ed25519 or ECDSA on P-384")
    return key


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"{name} is no usable private key ({reason}): name an unencrypted PEM file") from error
