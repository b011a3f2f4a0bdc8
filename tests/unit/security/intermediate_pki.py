# SPDX-License-Identifier: Apache-2.0
"""Authorities below authorities for tests, good and bad; meshd's own functions make none."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from meshd.bundle.eid import Eid
from meshd.security.keys import KeyKind, PrivateKey, digest_for, make_private_key
from meshd.security.pki import Authority, Revocation, issue_certificate, make_crl, to_pem
from tests.unit.security.mission_pki import DAY, NOW, YEAR


class AuthorityTree:
    """Makes authorities, each below another one or by itself, and nodes below them. Serial numbers count from 1."""

    def __init__(self, now: datetime = NOW, kind: KeyKind = KeyKind.ED25519) -> None:
        self.now = now
        self.kind = kind
        self.serial = 0

    def make(
        self,
        name: str,
        above: Authority | None = None,
        *,
        path_length: int | None = None,
        is_authority: bool = True,
        may_issue: bool = True,
        begin: datetime | None = None,
        lifetime: timedelta = YEAR,
        others: tuple[tuple[x509.ExtensionType, bool], ...] = (),
        key: PrivateKey | None = None,
    ) -> Authority:
        self.serial += 1
        key = key or make_private_key(self.kind)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        begin = begin or self.now - DAY
        usage = x509.KeyUsage(
            digital_signature=not may_issue,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=may_issue,
            crl_sign=may_issue,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(above.certificate.subject if above else subject)
            .public_key(key.public_key())
            .serial_number(self.serial)
            .not_valid_before(begin)
            .not_valid_after(begin + lifetime)
            .add_extension(x509.BasicConstraints(is_authority, path_length if is_authority else None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        for extension, is_critical in others:
            builder = builder.add_extension(extension, critical=is_critical)
        signer = above.key if above else key
        return Authority(builder.sign(signer, digest_for(signer)), key)

    def issue(self, above: Authority, node: Eid) -> tuple[x509.Certificate, PrivateKey]:
        self.serial += 1
        key = make_private_key(self.kind)
        return issue_certificate(above, node, key.public_key(), self.serial, self.now, 10 * DAY), key

    def crl_pem(self, authority: Authority, *serials: int) -> bytes:
        rows = [Revocation(serial, self.now) for serial in serials]
        return to_pem(make_crl(authority, rows, 1, self.now, DAY))
