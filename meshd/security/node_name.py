# SPDX-License-Identifier: Apache-2.0
"""The node ID in a certificate: subjectAltName otherName of form BundleEID (RFC 9174 section 4.4.2.1).

Its value is a DER IA5String with the URI. Written and read here, byte by byte; what surrounds it is X.509 and belongs
to the `cryptography` package.
"""

from collections.abc import Iterable
from typing import Final

from cryptography import x509

from meshd.base.limits import EID_SIZE_MAX_BYTES
from meshd.bundle.eid import Eid, parse_eid
from meshd.bundle.errors import EidError

BUNDLE_EID: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.11")
"""id-on-bundleEID."""
BUNDLE_SECURITY: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.35")
"""id-kp-bundleSecurity, an extended key usage."""

_IA5_STRING: Final = 0x16
_LONG_FORM: Final = 0x80


def make_node_name(node: Eid) -> x509.OtherName:
    """The subjectAltName entry of a node ID."""
    text = node.uri.encode("ascii")
    return x509.OtherName(BUNDLE_EID, bytes((_IA5_STRING,)) + _pack_length(len(text)) + text)


def read_node_names(names: Iterable[x509.GeneralName]) -> frozenset[Eid]:
    """The node IDs among a certificate's names; what is no node ID is ignored (section 4.4.1). Never raises."""
    found = set()
    for name in names:
        if isinstance(name, x509.OtherName) and name.type_id == BUNDLE_EID:
            node = _read_node_untrusted(name.value)
            if node is not None:
                found.add(node)
    return frozenset(found)


def _read_node_untrusted(value: bytes) -> Eid | None:
    text = _pull_ia5_untrusted(value)
    if text is None:
        return None
    try:
        eid = parse_eid(text.decode("ascii"))
    except (UnicodeDecodeError, EidError):
        return None
    return eid if eid.is_node else None


def _pack_length(length: int) -> bytes:
    """DER: one byte up to 127, else the count of bytes and the bytes."""
    if length < _LONG_FORM:
        return bytes((length,))
    raw = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((_LONG_FORM | len(raw),)) + raw


def _pull_ia5_untrusted(value: bytes) -> bytes | None:
    """The text of exactly one DER IA5String of a length that a node ID may have; None for anything else."""
    if len(value) > EID_SIZE_MAX_BYTES + 4 or len(value) < 2 or value[0] != _IA5_STRING:
        return None
    head = 2 + (value[1] & 0x7F if value[1] & _LONG_FORM else 0)
    text = value[head:]
    return text if value[1:head] == _pack_length(len(text)) else None
