# SPDX-License-Identifier: Apache-2.0
"""Which certificates of peers are good, and the reason given for each that is not."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshd.base.errors import SettingsError
from meshd.bundle.eid import Eid
from meshd.security import identity
from meshd.security.identity import IdentityError, Trust, read_certificate_untrusted, read_own_certificate, read_trust
from meshd.security.keys import KeyKind, digest_for, make_private_key
from meshd.security.node_name import read_node_names
from meshd.security.pki import to_pem
from tests.unit.security.mission_pki import DAY, NOW, YEAR, MissionPki

DPOP1 = Eid("dtn://dpop1/")


@pytest.fixture(scope="module")
def pki() -> MissionPki:
    return MissionPki()


def make_trust(pki: MissionPki, crl: bytes | None = None) -> Trust:
    return read_trust(pki.ca_pem, "ca.pem", crl, "crl.pem")


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_good_certificate_names_its_node(kind: KeyKind) -> None:
    pki = MissionPki(kind)
    said = make_trust(pki, pki.crl_pem()).check_peer_untrusted(pki.issue_der(DPOP1), NOW)
    assert said.nodes == {DPOP1}
    assert said.may_secure_bundles
    assert (said.serial, said.not_after) == (2, NOW + YEAR)


def test_an_expired_certificate_is_refused(pki: MissionPki) -> None:
    der = pki.issue_der(DPOP1, lifetime=DAY)
    trust = make_trust(pki)
    trust.check_peer_untrusted(der, NOW + DAY)
    with pytest.raises(
        IdentityError, match=r"certificate has expired on 2026-11-23 12:00:00Z; it is 2026-11-23 12:00:01Z"
    ):
        trust.check_peer_untrusted(der, NOW + DAY + timedelta(seconds=1))


def test_a_certificate_that_begins_later_is_refused(pki: MissionPki) -> None:
    der = pki.issue_der(DPOP1, begin=NOW + DAY)
    with pytest.raises(IdentityError, match="certificate is not yet valid: it begins on 2026-11-23"):
        make_trust(pki).check_peer_untrusted(der, NOW)


def test_an_expired_authority_is_refused(pki: MissionPki) -> None:
    der = pki.issue_der(DPOP1, begin=NOW + 10 * YEAR - DAY, lifetime=2 * YEAR)
    with pytest.raises(IdentityError, match="expired"):
        make_trust(pki).check_peer_untrusted(der, NOW + 10 * YEAR + DAY)


def test_an_unknown_authority_is_refused_even_if_it_has_the_same_name(pki: MissionPki) -> None:
    with pytest.raises(IdentityError, match="unknown CA"):
        make_trust(pki).check_peer_untrusted(MissionPki().issue_der(DPOP1), NOW)


def test_a_revoked_certificate_is_refused_and_a_stale_list_still_revokes(pki: MissionPki) -> None:
    revoked, good = pki.issue_der(DPOP1), pki.issue_der(DPOP1)
    trust = make_trust(pki, pki.crl_pem(pki.serial - 1))
    for now in (NOW, NOW + 2 * DAY):
        with pytest.raises(IdentityError, match=f"revoked .serial {pki.serial - 1:x}."):
            trust.check_peer_untrusted(revoked, now)
        trust.check_peer_untrusted(good, now)


def test_a_stale_list_is_warned_of(pki: MissionPki) -> None:
    trust = make_trust(pki, pki.crl_pem())
    assert trust.find_stale_lists(NOW) == []
    assert trust.is_list_complete(NOW)
    assert "CN=mission should have been replaced by 2026-11-23" in trust.find_stale_lists(NOW + 2 * DAY)[0]
    assert not trust.is_list_complete(NOW + 2 * DAY)
    assert not make_trust(pki).is_list_complete(NOW)


def sign(pki: MissionPki, *extensions: x509.ExtensionType) -> bytes:
    """A certificate with just these extensions."""
    key = make_private_key(KeyKind.ED25519)
    name = pki.authority.certificate.subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(pki.authority.key, digest_for(pki.authority.key)).public_bytes(Encoding.DER)


def other_name(value: bytes, oid: str = "1.3.6.1.5.5.7.8.11") -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.OtherName(x509.ObjectIdentifier(oid), value)])


def test_without_extended_key_usage_a_certificate_may_secure_bundles(pki: MissionPki) -> None:
    der = sign(pki, other_name(b"\x16\x0cdtn://dpop1/"))
    assert make_trust(pki).check_peer_untrusted(der, NOW).nodes == {DPOP1}


def test_another_extended_key_usage_is_refused(pki: MissionPki) -> None:
    web = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    with pytest.raises(IdentityError, match="not for bundle security"):
        make_trust(pki).check_peer_untrusted(sign(pki, other_name(b"\x16\x0cdtn://dpop1/"), web), NOW)


@pytest.mark.parametrize(
    "extension",
    [
        x509.SubjectAlternativeName([x509.DNSName("dpop1")]),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("dtn://dpop1/")]),
        other_name(b"\x16\x0cdtn://dpop1/", "1.3.6.1.5.5.7.8.9"),
        other_name(b"\x0c\x0cdtn://dpop1/"),  # UTF8String
        other_name(b"\x16\x05dtn:1"),
        other_name(b"\x16\x11dtn://dpop1/inbox"),
        other_name(b"\x16\x08dtn:none"),
        other_name(b"\x16\x04\xff\xff\xff\xff"),
    ],
)
def test_a_certificate_without_a_node_id_is_refused(pki: MissionPki, extension: x509.ExtensionType) -> None:
    with pytest.raises(IdentityError, match="names no node"):
        make_trust(pki).check_peer_untrusted(sign(pki, extension), NOW)


@pytest.mark.parametrize(
    "value", [b"", b"\x16", b"\x16\x81\x0cdtn://dpop1/", b"\x16\x84\xff\xff\xff\xffx", b"\x16\x80"]
)
def test_a_name_that_is_no_der_is_ignored(value: bytes) -> None:
    assert read_node_names(other_name(value)) == frozenset()


def test_a_long_node_id_takes_the_long_form(pki: MissionPki) -> None:
    node = Eid(f"dtn://{'x' * 300}/")
    assert make_trust(pki).check_peer_untrusted(pki.issue_der(node), NOW).nodes == {node}


def test_nothing_but_one_error_comes_of_noise(pki: MissionPki) -> None:
    der = bytearray(pki.issue_der(DPOP1))
    trust = make_trust(pki, pki.crl_pem())
    for position in range(len(der)):
        spoilt = bytes(der[:position]) + bytes((der[position] ^ 0x55,)) + bytes(der[position + 1 :])
        with pytest.raises(IdentityError):
            trust.check_peer_untrusted(spoilt, NOW)
    with pytest.raises(IdentityError, match="can't be read"):
        read_certificate_untrusted(b"")
    with pytest.raises(IdentityError, match="the limit is"):
        read_certificate_untrusted(bytes(identity.CERTIFICATE_MAX_BYTES + 1))


def test_trust_must_make_sense(pki: MissionPki) -> None:
    other = MissionPki(name="other")
    with pytest.raises(SettingsError, match=r"crl.pem is not signed by any authority in ca.pem"):
        make_trust(pki, other.crl_pem())
    with pytest.raises(SettingsError, match=r"crl.pem has no revocation list"):
        make_trust(pki, b"")
    with pytest.raises(SettingsError, match=r"ca.pem has no readable certificate"):
        read_trust(b"nothing", "ca.pem", None, "")
    with pytest.raises(SettingsError, match="no authority's"):
        read_trust(to_pem(pki.issue(DPOP1)[0]), "ca.pem", None, "")
    both = read_trust(pki.ca_pem + other.ca_pem, "ca.pem", pki.crl_pem() + other.crl_pem(), "crl.pem")
    assert both.is_list_complete(NOW)
    assert both.check_peer_untrusted(other.issue_der(DPOP1), NOW).nodes == {DPOP1}


def test_our_own_certificate(pki: MissionPki) -> None:
    assert read_own_certificate(to_pem(pki.issue(DPOP1)[0]), "node.pem").nodes == {DPOP1}
    with pytest.raises(SettingsError, match=r"node.pem has no readable certificate"):
        read_own_certificate(b"nothing", "node.pem")
