# SPDX-License-Identifier: Apache-2.0
"""Who is the peer, by its certificate: reading and checking X.509 as RFC 9174 sections 4.4.2 and 4.4.4 want it.

A certificate is good when one of the trusted authorities has issued it, itself or by intermediate ones (`chain.py`),
when it and they are neither expired nor not yet valid nor revoked, when it may be used for bundle security, and when it
names a node. TLS proves that the peer has its
key, and judges it too; here is judged once more, since TLS knows neither the time floor nor when to be lenient: a
revocation list that is out of date still revokes what it names, and locks nobody else out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from meshd.base.errors import RemoteProtocolError, SettingsError
from meshd.bundle.eid import Eid
from meshd.security.chain import (
    MALFORMED,
    SENT_MAX,
    ChainError,
    find_time_fault,
    find_way,
    is_issued_by,
    show_time,
)
from meshd.security.node_name import BUNDLE_SECURITY, read_node_names

CERTIFICATE_MAX_BYTES: Final = 64 * 1024
AUTHORITIES_MAX: Final = 32


class IdentityError(RemoteProtocolError):
    """A peer's certificate is not accepted; the message says why."""


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    """What a node's certificate says."""

    nodes: frozenset[Eid]
    """Node IDs; usually one."""
    serial: int
    not_before: datetime
    not_after: datetime
    may_secure_bundles: bool
    """Its extended key usage has bundleSecurity, or it has none at all (RFC 9174 section 4.4.5)."""


def read_certificate_untrusted(der: bytes) -> NodeCertificate:
    """What a certificate says; nothing is checked. Errors: IdentityError when it can't be read."""
    return _describe(_load_untrusted(der))


def _load_untrusted(der: bytes) -> x509.Certificate:
    if len(der) > CERTIFICATE_MAX_BYTES:
        raise IdentityError(f"the certificate has {len(der)} bytes, the limit is {CERTIFICATE_MAX_BYTES}")
    try:
        return x509.load_der_x509_certificate(der)
    except MALFORMED as error:
        raise IdentityError("the certificate can't be read") from error


def _describe(certificate: x509.Certificate) -> NodeCertificate:
    try:
        extensions = certificate.extensions
        names = [
            name
            for extension in extensions
            if isinstance(extension.value, x509.SubjectAlternativeName)
            for name in extension.value
        ]
        usages = [extension.value for extension in extensions if isinstance(extension.value, x509.ExtendedKeyUsage)]
        return NodeCertificate(
            nodes=read_node_names(names),
            serial=certificate.serial_number,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            may_secure_bundles=all(BUNDLE_SECURITY in usage for usage in usages),
        )
    except MALFORMED as error:
        raise IdentityError("the certificate's extensions can't be read") from error


class Trust:
    """The authorities that are trusted, and what they have revoked."""

    def __init__(
        self, authorities: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList]
    ) -> None:
        """See `read_trust`."""
        self._authorities = tuple(authorities)
        self._lists = tuple(lists)

    def check_peer_untrusted(self, der: bytes, now: datetime, sent: Sequence[bytes] = ()) -> NodeCertificate:
        """What the peer's certificate says, when it is good at `now`. Errors: IdentityError says why it is not.

        `sent` is all that the peer sent: intermediate authorities are looked for there.
        """
        certificate = _load_untrusted(der)
        said = _describe(certificate)
        others = [_load_untrusted(each) for each in sent[:SENT_MAX] if each != der]
        try:
            way = find_way(certificate, others, self._authorities, now)
        except ChainError as error:
            raise IdentityError(str(error)) from error
        fault = find_time_fault("the certificate", said.not_before, said.not_after, now)
        if fault:
            raise IdentityError(fault)
        self._check_revocation(way)
        if not said.may_secure_bundles:
            raise IdentityError("the certificate is not for bundle security: its extended key usage is something else")
        if not said.nodes:
            raise IdentityError("the certificate names no node: its subjectAltName has no BundleEID")
        return said

    def is_list_complete(self, now: datetime) -> bool:
        """True when all that can issue have a revocation list that is up to date: TLS itself may go by them.

        Not where there may be intermediate authorities, of whose lists nothing is known before the peer names them.
        """
        fresh = [each for each in self._lists if not _is_stale(each, now)]
        return bool(fresh) and all(
            any(each.issuer == one.subject for each in fresh) and _is_lowest(one) for one in self._authorities
        )

    def find_stale_lists(self, now: datetime) -> list[str]:
        """What to warn of: revocation lists that should have been replaced."""
        return [
            f"the revocation list of {each.issuer.rfc4514_string()} should have been replaced by"
            f" {show_time(each.next_update_utc)}; what it names stays revoked, what was revoked since is not known here"
            for each in self._lists
            if each.next_update_utc is not None and _is_stale(each, now)
        ]

    def _check_revocation(self, way: Sequence[x509.Certificate]) -> None:
        """Each of the way, by what stands above it; the trusted authority too, if that is an intermediate itself."""
        top = way[-1]
        steps = [*pairwise(way), *((top, each) for each in self._authorities if is_issued_by(top, each))]
        for certificate, issuer in steps:
            if self._is_revoked(certificate, issuer):
                thing = "the certificate" if certificate is way[0] else "an authority of the certificate"
                raise IdentityError(f"{thing} is revoked (serial {certificate.serial_number:x})")

    def _is_revoked(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        serial = certificate.serial_number
        return any(
            each.get_revoked_certificate_by_serial_number(serial) is not None and _has_signed(issuer, each)
            for each in self._lists
        )


def read_trust(ca_pem: bytes, ca_name: str, crl_pem: bytes | None, crl_name: str) -> Trust:
    """From PEM. Every list must be signed by one of the authorities. Errors: SettingsError; names are for it."""
    try:
        authorities = x509.load_pem_x509_certificates(ca_pem)
    except MALFORMED as error:
        raise SettingsError(f"{ca_name} has no readable certificate: name a PEM file with the authority's") from error
    if len(authorities) > AUTHORITIES_MAX:
        raise SettingsError(f"{ca_name} has {len(authorities)} certificates, at most {AUTHORITIES_MAX} are possible")
    for authority in authorities:
        _check_authority(authority, ca_name)
    lists = [] if crl_pem is None else _read_lists(crl_pem, crl_name)
    for each in lists:
        if not any(_has_signed(authority, each) for authority in authorities):
            raise SettingsError(
                f"{crl_name} is not signed by any authority in {ca_name}: name the list that belongs; an intermediate"
                f" authority that has a list must be in {ca_name}, too"
            )
    return Trust(authorities, lists)


def read_own_certificate(pem: bytes, name: str) -> NodeCertificate:
    """This node's own, the first of the file. Errors: SettingsError."""
    try:
        return _describe(x509.load_pem_x509_certificate(pem))
    except (*MALFORMED, IdentityError) as error:
        raise SettingsError(f"{name} has no readable certificate: name a PEM file with this node's") from error


def _read_lists(pem: bytes, name: str) -> list[x509.CertificateRevocationList]:
    """All lists of a file, one after the other."""
    end = b"-----END X509 CRL-----"
    parts = [part + end for part in pem.split(end)[:-1]]
    if not parts:
        raise SettingsError(f"{name} has no revocation list: name a PEM file with one, or leave `crl` out")
    try:
        return [x509.load_pem_x509_crl(part.lstrip()) for part in parts]
    except MALFORMED as error:
        raise SettingsError(f"{name} has no readable revocation list: name a PEM file with one") from error


def _check_authority(authority: x509.Certificate, name: str) -> None:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (*MALFORMED, x509.ExtensionNotFound) as error:
        raise SettingsError(f"{name} has a certificate that is no authority's: leave node certificates out") from error
    if not constraints.ca:
        raise SettingsError(f"{name} has a certificate that is no authority's: leave node certificates out")


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        key = authority.public_key()
        if not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            return False
        return crl.issuer == authority.subject and crl.is_signature_valid(key)
    except (*MALFORMED, InvalidSignature):
        return False


def _is_stale(crl: x509.CertificateRevocationList, now: datetime) -> bool:
    return crl.next_update_utc is not None and crl.next_update_utc < now


def _is_lowest(authority: x509.Certificate) -> bool:
    """No authority can stand below it."""
    return authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
