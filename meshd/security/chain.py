# SPDX-License-Identifier: Apache-2.0
"""The way from a certificate up to an authority that is trusted, by intermediate authorities (RFC 5280 section 6.1).

Intermediates come from the peer, which nobody need believe: each counts only where the next one above has signed it, up
to a trusted one, and only if it may issue: basicConstraints, keyCertSign, the path length that it allows, its purpose,
its time. A critical extension that is not known here, such as name constraints, stops the way (section 4.2). The
verifier of `cryptography` is made for the web and takes no Ed25519. Whether somebody is revoked is `identity.py`'s.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshd.base.errors import RemoteProtocolError
from meshd.security.node_name import BUNDLE_SECURITY

SENT_MAX: Final = 8
"""Certificates of a peer that are looked at, its own included; each once, which bounds the work."""

MALFORMED: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""What `cryptography` raises for a certificate that can't be read."""


class ChainError(RemoteProtocolError):
    """No way leads to a trusted authority; the message says why."""


def find_way(
    certificate: x509.Certificate,
    sent: Iterable[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    now: datetime,
) -> list[x509.Certificate]:
    """The shortest way: the certificate itself, intermediates out of `sent`, one of `authorities`. Errors: ChainError.

    Shortest first, so no path length is exceeded that another way would keep.
    """
    ways = deque([[certificate]])
    unused = list(sent)
    faults: list[str] = []
    while ways:
        way = ways.popleft()
        for above in [*authorities, *unused]:
            if not is_issued_by(way[-1], above):
                continue
            fault = _find_fault(above, len(way) - 1, now)
            if fault:
                faults.append(fault)
            elif above in authorities:
                return [*way, above]
            else:
                ways.append([*way, above])
        unused = [each for each in unused if not any(each in way for way in ways)]
    raise ChainError(faults[0] if faults else "unknown CA: no trusted authority stands above the certificate")


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """By name and by signature."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (*MALFORMED, InvalidSignature):
        return False
    return True


def find_time_fault(thing: str, begin: datetime, end: datetime, now: datetime) -> str:
    """Why something is not valid now; empty when it is."""
    if now > end:
        return f"{thing} has expired on {show_time(end)}; it is {show_time(now)} here"
    if now < begin:
        return f"{thing} is not yet valid: it begins on {show_time(begin)}, it is {show_time(now)} here"
    return ""


def show_time(at: datetime | None) -> str:
    """For people, in UTC."""
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _find_fault(authority: x509.Certificate, intermediates: int, now: datetime) -> str:
    """Why it can't have issued a certificate with so many intermediates between; empty when it can."""
    thing = f"the authority with serial {authority.serial_number:x}"
    fault = find_time_fault(thing, authority.not_valid_before_utc, authority.not_valid_after_utc, now)
    if fault:
        return fault
    try:
        faults = [_find_extension_fault(each, intermediates) for each in authority.extensions]
        authority.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        faults = ["is no authority"]
    except MALFORMED:
        faults = ["has extensions that can't be read"]
    found = [each for each in faults if each]
    return f"{thing} {found[0]}" if found else ""


def _find_extension_fault(extension: x509.Extension[x509.ExtensionType], intermediates: int) -> str:
    match extension.value:
        case x509.BasicConstraints(ca=False):
            return "is no authority"
        case x509.BasicConstraints(path_length=limit):
            is_long = limit is not None and intermediates > limit
            return f"allows {limit} authorities between itself and a node, here are {intermediates}" if is_long else ""
        case x509.KeyUsage(key_cert_sign=False):
            return "may not issue certificates: its key usage lacks keyCertSign"
        case x509.ExtendedKeyUsage() as usage:
            is_fit = BUNDLE_SECURITY in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage
            return "" if is_fit else "is not for bundle security: its extended key usage is something else"
        case x509.BasicConstraints() | x509.KeyUsage() | x509.CertificatePolicies():
            return ""
        case _:
            return f"has the critical extension {extension.oid.dotted_string}" if extension.critical else ""
