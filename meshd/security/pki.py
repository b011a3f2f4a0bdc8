# SPDX-License-Identifier: Apache-2.0
"""Makes the certificates of a mission: its authority, its nodes, and the list of what is revoked (RFC 5280).

A node's certificate follows the profile of RFC 9174 section 4.4.2: the node ID as BundleEID subjectAltName, key usage
digitalSignature, extended key usage bundleSecurity together with clientAuth and serverAuth, since OpenSSL rejects the
first alone. Pure functions: time and serial numbers are arguments; files are `ctl/`'s.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshd.bundle.eid import Eid
from meshd.security.keys import PrivateKey, PublicKey, digest_for
from meshd.security.node_name import BUNDLE_SECURITY, make_node_name

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""Certificates begin a little before now: the clocks of a mission are never quite together."""
NAME_MAX: Final = 64
"""X.520's limit for a common name."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The mission's authority: who holds this can make nodes."""

    certificate: x509.Certificate
    key: PrivateKey


class Revocation(NamedTuple):
    """One certificate that is no longer good."""

    serial: int
    since: datetime


def make_authority(name: str, key: PrivateKey, serial: int, now: datetime, lifetime: timedelta) -> Authority:
    """A self-signed authority that issues nodes only: no authority below it."""
    subject = _make_name(name)
    builder = (
        _make_builder(subject, subject, key.public_key(), serial, now, now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_make_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(builder.sign(key, digest_for(key)), key)


def issue_certificate(
    authority: Authority, node: Eid, key: PublicKey, serial: int, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """A node's certificate, ending no later than the authority's own."""
    end = min(now + lifetime, authority.certificate.not_valid_after_utc)
    purposes = [BUNDLE_SECURITY, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    issuer = authority.certificate.subject
    builder = (
        _make_builder(_make_name(node.uri), issuer, key, serial, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_make_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([make_node_name(node)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_make_authority_id(authority), critical=False)
    )
    return builder.sign(authority.key, digest_for(authority.key))


def make_crl(
    authority: Authority, revocations: Iterable[Revocation], number: int, now: datetime, lifetime: timedelta
) -> x509.CertificateRevocationList:
    """The list of revoked certificates; `number` only grows."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - CLOCK_TOLERANCE)
        .next_update(now + lifetime)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_make_authority_id(authority), critical=False)
    )
    for serial, since in revocations:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(authority.key, digest_for(authority.key))


def to_pem(thing: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """PEM text."""
    return thing.public_bytes(Encoding.PEM)


def _make_name(text: str) -> x509.Name:
    """Only for people: nothing is decided by it."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:NAME_MAX])])


def _make_builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, serial: int, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(end)
    )


def _make_authority_id(authority: Authority) -> x509.AuthorityKeyIdentifier:
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _make_key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
