# SPDX-License-Identifier: Apache-2.0
"""A mission's certificates for tests, made by meshd's own functions: good ones, and every kind of bad one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshd.bundle.eid import Eid
from meshd.security.keys import KeyKind, PrivateKey, make_private_key, private_key_to_pem
from meshd.security.pki import Authority, Revocation, issue_certificate, make_authority, make_crl, to_pem
from meshd.security.settings import TlsSettings

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)


class MissionPki:
    """One authority. Serial numbers count from 1; the authority has 1."""

    def __init__(self, kind: KeyKind = KeyKind.ED25519, name: str = "mission", now: datetime = NOW) -> None:
        self.kind = kind
        self.now = now
        self.authority: Authority = make_authority(name, make_private_key(kind), 1, now, 10 * YEAR)
        self.serial = 1

    def issue(
        self, node: Eid, *, begin: datetime | None = None, lifetime: timedelta = YEAR
    ) -> tuple[x509.Certificate, PrivateKey]:
        self.serial += 1
        key = make_private_key(self.kind)
        return (
            issue_certificate(self.authority, node, key.public_key(), self.serial, begin or self.now, lifetime),
            key,
        )

    def issue_der(self, node: Eid, *, begin: datetime | None = None, lifetime: timedelta = YEAR) -> bytes:
        return self.issue(node, begin=begin, lifetime=lifetime)[0].public_bytes(Encoding.DER)

    def crl_pem(self, *serials: int, lifetime: timedelta = DAY) -> bytes:
        rows = [Revocation(serial, self.now) for serial in serials]
        return to_pem(make_crl(self.authority, rows, 1, self.now, lifetime))

    @property
    def ca_pem(self) -> bytes:
        return to_pem(self.authority.certificate)

    def write(
        self,
        folder: Path,
        node: Eid,
        *,
        begin: datetime | None = None,
        lifetime: timedelta = YEAR,
        revoked: tuple[int, ...] | None = (),
        crl_lifetime: timedelta = DAY,
        ca_pem: bytes | None = None,
    ) -> TlsSettings:
        """A node's [tls] files; `revoked` None: no list at all, `ca_pem`: whom it trusts instead."""
        folder.mkdir()
        certificate, key = self.issue(node, begin=begin, lifetime=lifetime)
        files = {
            "node.pem": to_pem(certificate),
            "node.key": private_key_to_pem(key),
            "ca.pem": ca_pem or self.ca_pem,
            "crl.pem": self.crl_pem(*revoked or (), lifetime=crl_lifetime),
        }
        for name, data in files.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o600)
        crl = None if revoked is None else folder / "crl.pem"
        return TlsSettings(folder / "node.pem", folder / "node.key", folder / "ca.pem", crl)
