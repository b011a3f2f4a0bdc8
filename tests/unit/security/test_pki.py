# SPDX-License-Identifier: Apache-2.0
"""What a mission's certificates look like: the profile of RFC 9174 section 4.4.2."""

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshd.bundle.eid import Eid
from meshd.security.node_name import BUNDLE_EID, BUNDLE_SECURITY
from tests.unit.security.mission_pki import NOW, YEAR, MissionPki


def test_a_nodes_certificate_follows_the_profile() -> None:
    pki = MissionPki()
    certificate, _ = pki.issue(Eid("dtn://dpop1/"))
    extensions = certificate.extensions
    (name,) = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert isinstance(name, x509.OtherName)
    assert (name.type_id.dotted_string, name.value) == ("1.3.6.1.5.5.7.8.11", b"\x16\x0cdtn://dpop1/")
    assert name.type_id == BUNDLE_EID
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [BUNDLE_SECURITY, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    assert BUNDLE_SECURITY.dotted_string == "1.3.6.1.5.5.7.3.35"
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.version is x509.Version.v3


def test_an_authority_issues_nodes_only() -> None:
    extensions = MissionPki().authority.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


def test_no_certificate_outlives_its_authority() -> None:
    pki = MissionPki()
    certificate, _ = pki.issue(Eid("dtn://dpop1/"), lifetime=99 * YEAR)
    assert certificate.not_valid_after_utc == NOW + 10 * YEAR


def test_a_list_names_what_is_revoked_and_is_signed() -> None:
    pki = MissionPki()
    crl = x509.load_pem_x509_crl(pki.crl_pem(7, 9))
    assert {each.serial_number for each in crl} == {7, 9}
    assert crl.is_signature_valid(pki.authority.key.public_key())
    assert crl.get_revoked_certificate_by_serial_number(8) is None
